"""The shipped ReViT with its assigner: the paper's lengths 14, 10, 7, on hard `shapes`.  python benchmarks/revit_shipped.py

It starts from the plain net that the shipped DVT starts from (crowds are learned after single objects), learns at all lengths,
labels pictures it has not seen, and gets an assigner that learned those labels (about a quarter of an hour on one core). Finished
parts are kept under runs/ and read again, an interrupted one goes on.
Writes data/checkpoints/revit_shapes.safetensors and data/results/revit_shipped_points.csv, ..._assigners.csv and ..._labels.csv.
"""
from dataclasses import replace
from pathlib import Path

import dvt_shipped
import pandas as pd
import supervit_shipped as long
import torch
from finish import finish

import vitlab

RUNS = Path("runs/revit_shipped")
SEED, STEPS = dvt_shipped.SEED, 800


def train() -> vitlab.ReViT:
    start, whole = dvt_shipped.warm(), vitlab.create("dense", "micro_patch4", num_classes=10)
    dvt_shipped.begin(whole.vit, start.vit, 14)
    torch.manual_seed(SEED)
    net = vitlab.create("revit", "micro_patch4", num_classes=10)
    net.init_from(whole.vit)
    finish(net, long.pictures(long.DIAL, SEED), replace(long.RECIPE, steps=STEPS, seed=SEED), RUNS / "revit")
    return net.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    net = train()
