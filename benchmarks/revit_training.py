"""What a training step costs by the number of token lengths (ReViT Fig. 7).  python benchmarks/revit_training.py [device]

DeiT-S with random weights, 224 pixels, BATCH images a step, updates included, one thread per process: a net per length, DVT with
as many exits, ReViT in one process (the paper's ReViT-B), ReViT spread over two (its ReViT-E, balanced). All are trained in turn
for some rounds; two processes need two cores or GPUs, and are left out where there are not two.
Writes data/results/revit_training_<device>_fp32.csv.
"""
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
import torch

import vitlab
from vitlab.cascade import stop_at
from vitlab.measure import parameters, write
from vitlab.measure.records import DATA
from vitlab.train import balanced

LENGTHS = (14, 10, 7, 4)
BATCH, STEPS, ROUNDS = 8, 2, 3
ALONE = "a net per length"


def seconds(method: torch.nn.Module, split=None) -> float:
    """Mean time of a step; the first, which also reserves memory, is not counted."""
    torch.manual_seed(0)
    noise = torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8)
    images = vitlab.data.ImageSet("noise", [str(k) for k in range(1000)], torch.arange(BATCH), noise, 224)
    log = vitlab.fit(method, images, vitlab.Recipe(steps=STEPS + 1, batch=BATCH, log_every=1), replicas=split).seconds
    return (log.iloc[-1] - log.iloc[0]) / STEPS


def spread(split) -> float:
    """`seconds` of a ReViT whose lengths are spread over processes, which are started for it."""
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "seconds"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={len(split)}",
                   __file__, json.dumps(split), str(answer)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return float(answer.read_text())


def one_of_many(split: str, answer: str) -> None:
    """What each of those processes does."""
    torch.set_num_threads(1)
    groups = json.loads(split)
    took = seconds(vitlab.create("revit", "deit_small", lengths=tuple(sorted(sum(groups, []), reverse=True))), groups)
    if os.environ["RANK"] == "0":
        Path(answer).write_text(str(took))


def entries() -> list[dict]:
    """What is trained, a dict each: its name, lengths, multiply-adds / 1e9 per picture, how to make it, processes' lengths."""
    picture, make = torch.zeros(1, 3, 224, 224), partial(partial, vitlab.create)
    whole = make("revit", "deit_small", lengths=LENGTHS)().eval()
    cost, found = {n: float(vitlab.gmacs(whole, picture, whole.Point(n))[0]) for n in LENGTHS}, []

    def add(training: str, used: tuple[int, ...], gmacs: float, made, split=((),)) -> None:
        found.append({"training": training, "lengths": used, "gmacs": gmacs, "make": made, "split": split})

    for k in range(1, len(LENGTHS) + 1):
        used = LENGTHS[:k]
        add(ALONE, used, cost[used[-1]], make("dense", "deit_small", grid=used[-1]))     # what one length more costs
        if k > 1:
            revit, dvt = make("revit", "deit_small", lengths=used), make("dvt", "deit_small", grids=used[::-1])
            cascade, split = dvt().eval(), balanced({n: cost[n] for n in used}, 2)
            add("DVT", used, float(vitlab.gmacs(cascade, picture, cascade.Point(stop_at(k - 1, k)))[0]), dvt)
            add("ReViT, one process", used, sum(cost[n] for n in used), revit)
            add("ReViT, two processes", used, max(sum(cost[n] for n in group) for group in split), revit, split)
    return found


def main(device: str = "cpu") -> None:
    torch.set_num_threads(1)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""             # also of the processes started below
    devices = torch.cuda.device_count() if device == "cuda" else os.cpu_count()
    tried = [entry for entry in entries() if len(entry["split"]) <= devices]
    times = [[] for _ in tried]
    for _ in range(ROUNDS):
        for entry, taken in zip(tried, times, strict=True):
            taken.append(seconds(entry["make"]()) if len(entry["split"]) == 1 else spread(entry["split"]))
    table = pd.DataFrame([{"training": entry["training"], "lengths": "+".join(map(str, entry["lengths"])),
                           "number": len(entry["lengths"]), "processes": len(entry["split"]), "seconds": median(taken),
                           "gmacs": entry["gmacs"], "parameters": parameters(entry["make"]())}
                          for entry, taken in zip(tried, times, strict=True)])
    alone, summed = table.training == ALONE, ["seconds", "gmacs", "parameters"]
    table.loc[alone, summed] = table.loc[alone, summed].cumsum()
    table["parameters"] = table.parameters.astype(int)
    for name in ("seconds", "gmacs"):
        table[f"{name}_ratio"] = table[name] / table.loc[alone, name].iloc[0]
    table = table.assign(batch=BATCH, precision="fp32", backbone="deit_small")
    write(table, DATA / "results" / f"revit_training_{device}_fp32.csv", device)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    one_of_many(*sys.argv[1:]) if "RANK" in os.environ else main(*sys.argv[1:])
