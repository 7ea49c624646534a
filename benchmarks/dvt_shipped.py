"""The shipped cascade: DVT at the paper's grids 7 -> 10 -> 14, on hard `shapes`.  python benchmarks/dvt_shipped.py

As for the shipped SuperViT, crowds are learned after single objects: a plain net at 7x7 patches first learns while the difficulty
dial rises; all three stages start from its weights and are then trained together (about an hour on one core). Finished parts are
kept under runs/ and read again, an interrupted one goes on. Thresholds for ten budgets are found on validation pictures, and
the weights are stored with 16 bits.
Writes data/checkpoints/dvt_shapes.safetensors and data/results/dvt_shipped_exits.csv and ..._budgets.csv.
"""
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import supervit_shipped as long
import torch
from finish import finish
from timm.layers import resample_abs_pos_embed
from torch import nn

import vitlab
from vitlab import budget
from vitlab.measure import exits, write
from vitlab.measure.records import DATA

RUNS = Path("runs/dvt_shipped")
SEED, STEPS, BUDGETS = 0, 1200, 10


def warm() -> torch.nn.Module:
    """The plain net at 7x7 patches that the stages start from."""
    torch.manual_seed(SEED)
    net = vitlab.create("dense", "micro_patch4", num_classes=10, grid=7)
    for stage, (dial, steps) in enumerate(long.WARM):
        finish(net, long.pictures(dial, SEED), replace(long.RECIPE, steps=steps, seed=SEED), RUNS / f"warm{stage}")
    return net


def train() -> vitlab.DVT:
    start = warm()
    net = vitlab.create("dvt", "micro_patch4", num_classes=10)
    for stage, side in zip(net.stages, net.grids, strict=True):
        begin(stage.vit, start.vit, side)
    finish(net, long.pictures(long.DIAL, SEED), replace(long.RECIPE, steps=STEPS, seed=SEED), RUNS / "cascade")
    return net


def single() -> torch.nn.Module:
    """The largest net by itself: 14x14 patches, as many steps from the same start."""
    net, start = vitlab.create("dense", "micro_patch4", num_classes=10), warm()
    begin(net.vit, start.vit, 14)
    finish(net, long.pictures(long.DIAL, SEED), replace(long.RECIPE, steps=STEPS, seed=SEED), RUNS / "single")
    return net


@torch.no_grad()
def begin(vit: nn.Module, warm: nn.Module, side: int) -> None:
    """Start a stage from another net's weights: positions resampled, widened layers in the columns that were there."""
    own, given = vit.state_dict(), warm.state_dict()
    given["pos_embed"] = resample_abs_pos_embed(given["pos_embed"], [side, side], num_prefix_tokens=1)
    for name, weight in given.items():
        own[name][tuple(slice(n) for n in weight.shape)] = weight


def main() -> None:
    torch.set_num_threads(1)
    net = train().half().float()                            # what is measured is what is shipped: 16 bits a weight
    val, test = (vitlab.data.shapes(split, difficulty=long.TEST_DIAL, seed=SEED) for split in ("val", "test"))
    known, there = exits(net, val), exits(net, test)
    plans = budget.curve(known, np.geomspace(known.cost[0], known.cost[-1], BUDGETS + 2)[1:-1])
    rows = []
    net.set_thresholds([plan.thresholds for plan in plans])
    for point in net.points:
        told = budget.simulate(there, point.thresholds)
        rows.append({"thresholds": str(point.thresholds), "top1": told.top1, "gmacs": told.gmacs,
                     **{f"exit{k + 1}": share for k, share in enumerate(told.shares)}})
    alone = [{"exit": f"exit {k + 1}", "grid": side, "top1": 100 * right.mean(), "gmacs": cost}
             for k, (side, right, cost) in enumerate(zip(net.grids, there.correct, there.cost, strict=True))]
    plain = single()
    alone.append({"exit": "single net", "grid": 14, "top1": 100 * vitlab.answers(plain, test).correct.mean(),
                  "gmacs": vitlab.gmacs(plain, test.images([0]))[0]})
    write(pd.DataFrame(rows), DATA / "results" / "dvt_shipped_budgets.csv")
    write(pd.DataFrame(alone), DATA / "results" / "dvt_shipped_exits.csv")
    vitlab.save(deepcopy(net).half(), DATA / "checkpoints" / "dvt_shapes.safetensors", difficulty=long.TEST_DIAL,
                trained_difficulty=long.DIAL, steps=STEPS, warm=long.WARM, recipe=vars(long.RECIPE),
                pictures=long.PICTURES, seed=SEED, top1={str(row["exit"]): round(row["top1"], 2) for row in alone},
                made_by="python benchmarks/dvt_shipped.py")
    print(pd.DataFrame(alone).round(3).to_string(), pd.DataFrame(rows).round(3).to_string(), sep="\n")


if __name__ == "__main__":
    main()
