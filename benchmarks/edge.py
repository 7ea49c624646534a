"""Is a pruned net as fast at one picture as its FLOPs promise?  python benchmarks/edge.py [runs] [deit_tiny,deit_small]

The dense net and points with fewer tokens, random weights (speed does not depend on them), one picture at a time: PyTorch and
ONNX Runtime, float32, int8 and, where the processor multiplies bfloat16 itself, bf16, on one thread and on all cores. All of a
backbone take turns in one process. Writes data/results/edge_cpu.csv.
"""
import os
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

import vitlab
from vitlab import edge
from vitlab.measure import gmacs, write
from vitlab.measure.latency import LEAST, latency_of, paired, turns
from vitlab.measure.records import DATA
from vitlab.numbers import whole

DENSE = "dense"
BUDGETS = {"deit_tiny": (0.90, 1.00), "deit_small": (2.64, 3.86)}      # SPViT's in the paper, GFLOPs
SHOWN = (10, 9, 4, 0)       # of a SuperViT's twelve points: of a grid of 14 keep 0.7 and 0.5 at 14x14, 0.7 at 10x10, 0.5 at 8x8
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def nets(backbone: str) -> dict[str, tuple[nn.Module, Any]]:
    """Who runs, {name: (method, point)}, the dense net first; any method at any fixed point can be added here."""
    torch.manual_seed(0)
    supervit = vitlab.create("supervit", backbone).eval()
    found = {DENSE: (vitlab.create("dense", backbone).eval(), None)}
    points = [supervit.points[number] for number in SHOWN]
    for budget in BUDGETS.get(backbone, ()):
        spvit = vitlab.create("spvit", backbone, budget=budget).eval()
        found[f"spvit {budget:.2f} GFLOPs"] = (spvit, spvit.Point(fixed=True))
    return found | {f"supervit {p.length}x{p.length}, {p.keep:g}": (supervit, p) for p in points}


def files(who: dict[str, tuple[nn.Module, Any]], folder: Path) -> dict[str, dict[str, Path]]:
    """The ONNX files of each, {name: {precision: path}}."""
    found = {}
    for number, (name, (net, point)) in enumerate(who.items()):
        source = vitlab.export(net, folder / f"{number}.onnx", point)
        found[name] = {"fp32": source, "int8": edge.quantise(source, folder / f"{number}_int8.onnx")}
    return found


def entries(who: dict[str, tuple[nn.Module, Any]], paths: dict[str, dict[str, Path]], threads: int) -> dict[tuple, tuple]:
    """Entries of a race, {(name, engine, precision): entry}."""
    found = {}
    for name, (net, point) in who.items():
        for precision in ("fp32", "bf16") if edge.sixteen_bit() else ("fp32",):
            found[name, "torch", precision] = (net, point, precision)
        for precision, path in paths[name].items():
            found[name, "onnxruntime", precision] = (edge.Session(path, threads),)
    return found


def rows(backbone: str, image: Tensor, threads: int, runs: int, who: dict, paths: dict) -> pd.DataFrame:
    """A row per net, engine and precision; `speed_up` compares with the dense net of the same engine and precision."""
    torch.set_num_threads(threads)
    racing = entries(who, paths, threads)
    times = turns(racing, image, runs=runs)
    cost = {name: gmacs(net, image, point)[0] for name, (net, point) in who.items()}
    table = pd.DataFrame([{
        "backbone": backbone, "name": name, "engine": engine, **vars(latency_of(times[key], *entry)),
        "speed_up": paired(times[DENSE, engine, precision], times[key]),
        "speed_up_over_torch": paired(times[DENSE, "torch", "fp32"], times[key]), "gmacs": cost[name],
        "gmacs_ratio": cost[DENSE] / cost[name]} for key, entry in racing.items() for name, engine, precision in [key]])
    return table.assign(fulfilled=table.speed_up / table.gmacs_ratio, batch=1)


def main(runs: str = "200", backbones: str = "deit_tiny,deit_small") -> pd.DataFrame:
    whole(int(runs), "runs", LEAST)                         # before minutes are spent on files
    found = []
    for backbone in backbones.split(","):
        who = nets(backbone)
        size = who[DENSE][0].made["image_size"]
        image = vitlab.data.shapes("val", size=size, n=1).images([0])
        with TemporaryDirectory() as folder:
            paths = files(who, Path(folder))
            found += [rows(backbone, image, threads, int(runs), who, paths) for threads in sorted({1, CORES})]
    table = pd.concat(found, ignore_index=True).assign(**{name: version(name) for name in ("onnxruntime", "onnx")})
    write(table, DATA / "results" / "edge_cpu.csv")
    return table


if __name__ == "__main__":
    print(main(*sys.argv[1:]).round(3).to_string())
