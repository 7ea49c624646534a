"""Is SViT faster? DeiT-S with gates against timm's own DeiT-S.  python benchmarks/svit_speed.py [device] [precision]

Random weights; the gates' last layers are set so that images differ in how many of their tokens take part, and they are
calibrated on the pictures raced with, so their mean cost at k = 0.7 is the headline's, 3.0 GFLOPs. All take turns in one
process. `masked` is the official evaluation, which draws decisions and computes everything. Then the supplement's Fig. 1: the
same race at batch sizes from 1 to 128 (on a GPU to 1,024, and eight times the batch elsewhere). Writes
svit_speed_<device>_<precision>.csv and svit_batch_<device>_<precision>.csv, both in data/results.
"""
import sys

import pandas as pd
import torch
from outsiders import Official, Timm
from outsiders import pictures as how_many

import vitlab
from vitlab.measure import race, write
from vitlab.measure.records import DATA
from vitlab.methods.svit import Point, calibrate

KEEPS, BATCH, ROUNDS = (0.5, 0.7, 0.9), 32, 9
BATCHES = {1: 31, 2: 21, 4: 15, 8: 11, 16: 7, 32: 5, 64: 5, 128: 3}        # rounds of each
SPREAD = 60                                                 # times the gates' last weights: odds of both signs


def nets(pictures, device: str) -> tuple[vitlab.Dense, vitlab.SViT]:
    """The dense net, and one with gates that are calibrated on these pictures."""
    torch.manual_seed(0)
    dense = vitlab.create("dense", "deit_small", num_classes=10).to(device).eval()
    net = vitlab.create("svit", "deit_small", num_classes=10).to(device).eval()
    for gate in net.gates:
        gate.fc2.weight.data.mul_(SPREAD)
    calibrate(net, pictures, KEEPS, batch=8)
    return dense, net


def at_once(dense, net, images, precision: str) -> pd.DataFrame:
    """One batch, all ways."""
    entries = {"timm": (Timm(dense.vit), None), "dense": (dense, None)}
    cost = dict.fromkeys(entries, vitlab.gmacs(dense, images[:1])[0])
    least, most = {}, {}
    for keep in KEEPS:
        for name, point in ((f"keep {keep}, each its own", Point(keep)), (f"keep {keep}, all alike", Point(keep, fixed=True))):
            entries[name], cost[name] = (net, point), vitlab.gmacs(net, images, point).mean()
            trace = vitlab.Trace()
            with torch.inference_mode():
                net(images, point, trace)
            tokens = sum(part.attended.sum(1) + part.extra for part in trace.layers) / len(trace.layers)
            least[name], most[name] = tokens.min().item(), tokens.max().item()
    entries["masked"] = (Official(net), None)
    table = race(entries, images, precision=precision, rounds=ROUNDS)
    table = table.assign(gmacs=table.name.map(cost), tokens_least=table.name.map(least), tokens_most=table.name.map(most))
    table["gmacs_ratio"] = cost["timm"] / table.gmacs
    return table.assign(fulfilled=table.speed_up / table.gmacs_ratio)


def by_batch(dense, net, images, batches: dict[int, int], precision: str) -> pd.DataFrame:
    """The headline against timm's net, batch by batch."""
    rows = []
    for batch, rounds in batches.items():
        some = images[:batch]
        found = race({"timm": (Timm(dense.vit), None), "svit": (net, None)}, some, precision=precision, rounds=rounds)
        cost = {"timm": vitlab.gmacs(dense, some[:1])[0], "svit": vitlab.gmacs(net, some).mean()}
        rows.append(found.assign(gmacs=found.name.map(cost), gmacs_ratio=cost["timm"] / found.name.map(cost)))
    return pd.concat(rows, ignore_index=True)


def main(device: str = "cpu", precision: str = "fp32") -> None:
    batch = how_many(BATCH, device, precision)
    batches = {how_many(n, device) if n > 1 else 1: rounds for n, rounds in BATCHES.items()}
    pictures = vitlab.data.shapes("test", n=max(batch, *batches), size=224)
    images = pictures.images(slice(None)).to(device)
    dense, net = nets(pictures.take(slice(batch)), device)
    table = at_once(dense, net, images[:batch], precision)
    write(table, DATA / "results" / f"svit_speed_{device}_{precision}.csv", device)
    shown = ["name", "images_per_s", "speed_up", "gmacs_ratio", "fulfilled", "tokens_least", "tokens_most"]
    print(table[shown].round(3).to_string())
    study = by_batch(dense, net, images, batches, precision)
    write(study, DATA / "results" / f"svit_batch_{device}_{precision}.csv", device)
    print(study[["name", "batch", "images_per_s", "speed_up", "gmacs_ratio", "spread"]].round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
