"""Is SPViT faster? DeiT-S at the paper's budget against timm's own DeiT-S.  python benchmarks/spvit_speed.py [device] [precision]

Random weights; the selectors' last layers are set so that images keep different numbers of tokens, and they are
calibrated on the batch itself, so its mean cost is the budget. All take turns in one process. `masked` is the official
evaluation, which draws decisions and removes nothing. Writes data/results/spvit_speed_<device>_<precision>.csv.
"""
import sys

import torch
from outsiders import Official, Timm
from outsiders import pictures as how_many

import vitlab
from vitlab.measure import race, write
from vitlab.measure.records import DATA
from vitlab.methods.spvit import Point, calibrate

BUDGETS, BATCH, ROUNDS = (2.64, 3.86), 32, 9
SPREAD = 60                                                 # times the selectors' last weights: scores from near 0 to near 1


def main(device: str = "cpu", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    pictures = vitlab.data.shapes("test", n=how_many(BATCH, device, precision), size=224)
    images = pictures.images(slice(None)).to(device)
    dense = vitlab.create("dense", "deit_small", num_classes=10).to(device).eval()
    entries, cost = {"timm": (Timm(dense.vit), None), "dense": (dense, None)}, {}
    cost["timm"] = cost["dense"] = vitlab.gmacs(dense, images[:1])[0]
    kept = {}
    for budget in BUDGETS:
        net = vitlab.create("spvit", "deit_small", num_classes=10, budget=budget).to(device).eval()
        for selector in net.selectors:
            for read in selector.readers:
                read.say[-1].weight.data.mul_(SPREAD)
        calibrate(net, pictures, [net.budget], batch=8)
        trace = vitlab.Trace()
        with torch.inference_mode():
            net(images, None, trace)
        for name, point in ((f"{budget} GFLOPs, each its own", None), (f"{budget} GFLOPs, all alike", Point(fixed=True))):
            entries[name], cost[name] = (net, point), vitlab.gmacs(net, images, point).mean()
        kept[f"{budget} GFLOPs, each its own"] = trace.layers[-1].attended.sum(1).float()
        if budget == BUDGETS[0]:
            entries["masked"] = (Official(net), None)
    table = race(entries, images, precision=precision, rounds=ROUNDS)
    table["gmacs"] = table.name.map(cost)
    table["gmacs_ratio"] = cost["timm"] / table.gmacs
    table["fulfilled"] = table.speed_up / table.gmacs_ratio
    table["tokens_least"] = table.name.map({name: int(count.min()) for name, count in kept.items()})
    table["tokens_most"] = table.name.map({name: int(count.max()) for name, count in kept.items()})
    write(table, DATA / "results" / f"spvit_speed_{device}_{precision}.csv", device)
    shown = ["name", "images_per_s", "speed_up", "gmacs_ratio", "fulfilled", "tokens_least", "tokens_most"]
    print(table[shown].round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
