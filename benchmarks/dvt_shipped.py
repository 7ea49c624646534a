"""The shipped cascade: DVT at the paper's grids 7 -> 10 -> 14, on hard `shapes`.  python benchmarks/dvt_shipped.py [seed ...]

As for the shipped SuperViT, crowds are learned after single objects: a plain net at 7x7 patches first learns while the difficulty
dial rises; all three stages start from its weights and are then trained together (an hour a seed on one core). Beside it the
14x14 net alone, from the same start. Finished parts are kept under runs/ and read again, an interrupted one goes on. Thresholds
for BUDGETS mean costs are found on validation pictures and told on test pictures; weights are rounded to 16 bits before that.
Writes data/results/dvt_shipped_exits.csv, ..._budgets.csv and ..._claims.csv; seed 0 is the checkpoint that is shipped,
data/checkpoints/dvt_shapes.safetensors.
"""
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import supervit_shipped as long
import torch
from dvt_small import saving
from finish import finish
from timm.layers import resample_abs_pos_embed
from torch import nn

import vitlab
from vitlab import budget
from vitlab.measure import exits, write
from vitlab.measure.records import DATA

RUNS = Path("runs/dvt_shipped")
STEPS, BUDGETS, KEPT = 1200, 40, 10                         # KEPT: the points of the explorer's slider


def warm(seed: int) -> torch.nn.Module:
    """The plain net at 7x7 patches that the stages start from."""
    torch.manual_seed(seed)
    net = vitlab.create("dense", "micro_patch4", num_classes=10, grid=7)
    for stage, (dial, steps) in enumerate(long.WARM):
        finish(net, long.pictures(dial, seed), replace(long.RECIPE, steps=steps, seed=seed), RUNS / str(seed) / f"warm{stage}")
    return net


def train(seed: int) -> vitlab.DVT:
    start = warm(seed)
    net = vitlab.create("dvt", "micro_patch4", num_classes=10)
    for stage, side in zip(net.stages, net.grids, strict=True):
        begin(stage.vit, start.vit, side)
    finish(net, long.pictures(long.DIAL, seed), replace(long.RECIPE, steps=STEPS, seed=seed), RUNS / str(seed) / "cascade")
    return net


def single(seed: int) -> torch.nn.Module:
    """The largest net by itself: 14x14 patches, as many steps from the same start."""
    net, start = vitlab.create("dense", "micro_patch4", num_classes=10), warm(seed)
    begin(net.vit, start.vit, 14)
    finish(net, long.pictures(long.DIAL, seed), replace(long.RECIPE, steps=STEPS, seed=seed), RUNS / str(seed) / "single")
    return net


@torch.no_grad()
def begin(vit: nn.Module, warm: nn.Module, side: int) -> None:
    """Start a stage from another net's weights: positions resampled, widened layers in the columns that were there."""
    own, given = vit.state_dict(), warm.state_dict()
    given["pos_embed"] = resample_abs_pos_embed(given["pos_embed"], [side, side], num_prefix_tokens=1)
    for name, weight in given.items():
        own[name][tuple(slice(n) for n in weight.shape)] = weight


def study(seed: int) -> tuple[vitlab.DVT, pd.DataFrame, pd.DataFrame]:
    """One seed: the cascade, a row per exit, a row per budget."""
    net, plain = train(seed).half().float(), single(seed)   # what is measured is what is shipped: 16 bits a weight
    val, test = (vitlab.data.shapes(split, difficulty=long.TEST_DIAL, seed=seed) for split in ("val", "test"))
    known, there = exits(net, val), exits(net, test)
    top1, cost = 100 * vitlab.answers(plain, test).correct.mean(), vitlab.gmacs(plain, test.images([0]))[0]
    alone = [{"seed": seed, "exit": f"exit {k + 1}", "grid": side, "top1": 100 * right.mean(), "gmacs": spent}
             for k, (side, right, spent) in enumerate(zip(net.grids, there.correct, there.cost, strict=True))]
    alone.append({"seed": seed, "exit": "single net", "grid": 14, "top1": top1, "gmacs": cost})
    rows = []
    for plan in budget.curve(known, np.geomspace(known.cost[0], known.cost[-1], BUDGETS)):
        told = budget.simulate(there, plan.thresholds)
        rows.append({"seed": seed, "thresholds": str(plan.thresholds), "top1": told.top1, "gmacs": told.gmacs,
                     **{f"exit{k + 1}": share for k, share in enumerate(told.shares)}})
    return net, pd.DataFrame(alone), pd.DataFrame(rows)


def claims(alone: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    """What leaving early saves: the cost of the single net, and of the last exit, over the least mean cost near its accuracy."""
    found = []
    for seed, bought in told.groupby("seed"):
        for exit, name, parts in (("single net", "the single net", (0.0, 0.5, 1.0)), ("exit 3", "the last exit", (0.5, 1.0))):
            there = alone[(alone.seed == seed) & (alone.exit == exit)].iloc[0]
            for part in parts:
                found.append({"seed": seed, "claim": f"cost of {name} / cost within {part:g} points of it",
                              "value": saving(there.gmacs, there.top1 - part, bought)})
    return pd.DataFrame(found)


def ship(net: vitlab.DVT, alone: pd.DataFrame) -> None:
    """The explorer's net, with thresholds for KEPT budgets found on validation pictures."""
    known = exits(net, vitlab.data.shapes("val", difficulty=long.TEST_DIAL, seed=0))
    plans = budget.curve(known, np.geomspace(known.cost[0], known.cost[-1], KEPT + 2)[1:-1])
    net.set_thresholds([plan.thresholds for plan in plans])
    vitlab.save(deepcopy(net).half(), DATA / "checkpoints" / "dvt_shapes.safetensors", difficulty=long.TEST_DIAL,
                trained_difficulty=long.DIAL, steps=STEPS, warm=long.WARM, recipe=vars(long.RECIPE),
                pictures=long.PICTURES, seed=0, top1={row.exit: round(row.top1, 2) for row in alone.itertuples()},
                made_by="python benchmarks/dvt_shipped.py")


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    results = []
    for seed in map(int, seeds or ("0", "1", "2")):
        net, *tables = study(seed)
        results.append(tables)
        if seed == 0:
            ship(net, tables[0])
    alone, told = (pd.concat(part, ignore_index=True) for part in zip(*results, strict=True))
    saved = claims(alone, told)
    for name, table in (("exits", alone), ("budgets", told), ("claims", saved)):
        write(table, DATA / "results" / f"dvt_shipped_{name}.csv")
    print(alone.groupby("exit")[["top1", "gmacs"]].agg(["mean", "std"]).round(3).to_string())
    print(saved.groupby("claim", sort=False).value.agg(["mean", "std", "min"]).round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
