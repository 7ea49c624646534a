"""What a short run shows: DVT on the small net and the easy `shapes`.  python benchmarks/dvt_small.py [seed ...]

For every seed (of initialisation, order and pictures): the cascade 4 -> 5 -> 7 with both kinds of reuse, with one and with none
(Table 6); the plain ViT at 7x7; and adaptive depth (Table 10), all for as many steps. Beside them the SuperViT of
supervit_small.py with early exits, each of whose steps runs four sub-nets. The first seed is trained once more for twice as long.
Thresholds are found on the validation pictures, and what they lead to is told on the test pictures.
Finished runs are kept under runs/ and read again, an interrupted one goes on. Once all seeds asked for are done it writes
data/results/dvt_small_exits.csv, dvt_small_budgets.csv and dvt_small_claims.csv.
"""
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import supervit_small
import torch
from finish import finish

import vitlab
from vitlab import budget
from vitlab.measure import exits, write
from vitlab.measure.records import DATA
from vitlab.methods.supervit import Point

RUNS = Path("runs/dvt_small")
STEPS, LONG = supervit_small.STEPS, 2 * supervit_small.STEPS
REUSE = {"both": (True, True), "features": (True, False), "relations": (False, True), "none": (False, False)}
BUDGETS = 25                                                # mean costs between a cascade's first and last exit


def train(seed: int, name: str, method: str, steps: int = STEPS, **knobs) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = vitlab.create(method, "micro_patch8", num_classes=10, **knobs)
    folder = RUNS / str(seed) / (name if steps == STEPS else f"{name} {steps}")
    finish(net, vitlab.data.shapes("train", seed=seed), replace(supervit_small.RECIPE, seed=seed, steps=steps), folder)
    return net


def cascades(seed: int, steps: int) -> dict[str, torch.nn.Module]:
    """Everything that exits early, by name."""
    found = {f"dvt, {name}": train(seed, name, "dvt", steps, features=f, relations=r)
             for name, (f, r) in REUSE.items() if steps == STEPS or name in ("both", "none")}
    found["adaptive depth"] = train(seed, "depth", "adaptive_depth", steps)
    if steps == STEPS:
        whole = supervit_small.train(seed, "super", steps)
        found["supervit"] = vitlab.EarlyExit(whole, (Point(4, 0.5), Point(5, 0.7), Point(7, 1.0)))
    return found


def saving(gmacs: float, top1: float, bought: pd.DataFrame) -> float:
    """A cost over the least mean cost, among the budgets bought, that is this accurate; nan where none is."""
    return gmacs / bought[bought.top1 >= top1].gmacs.min()


def study(seed: int, steps: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One seed: a row per cascade and exit, a row per cascade, criterion and budget, a row per claim."""
    val, test = (vitlab.data.shapes(split, seed=seed) for split in ("val", "test"))
    plain, common = train(seed, "plain", "dense", steps), {"steps": steps, "seed": seed}
    single = {"top1": 100 * vitlab.answers(plain, test).correct.mean(), "gmacs": vitlab.gmacs(plain, test.images([0]))[0]}
    rows = [{**common, "cascade": "plain ViT", "exit": 1, **single}]
    bought, claims = [], {"top1 of the plain ViT at 7x7": single["top1"]}
    for name, net in cascades(seed, steps).items():
        there = exits(net, test)
        rows += [{**common, "cascade": name, "exit": k + 1, "top1": 100 * right.mean(), "gmacs": cost}
                 for k, (right, cost) in enumerate(zip(there.correct, there.cost))]
        for criterion in ("confidence", "entropy", "random") if name == "dvt, both" else ("confidence",):
            bought += [{**common, "cascade": name, "criterion": criterion, **row}
                       for row in budgets(exits(net, val, criterion=criterion), exits(net, test, criterion=criterion))]
        curve = pd.DataFrame([row for row in bought if row["cascade"] == name and row["criterion"] == "confidence"])
        last = 100 * there.correct[-1].mean()
        claims[f"cost of the plain ViT / cost at its accuracy, {name}"] = saving(single["gmacs"], single["top1"], curve)
        claims[f"cost of the last exit / cost within half a point of it, {name}"] = saving(there.cost[-1], last - 0.5, curve)
    return pd.DataFrame(rows), pd.DataFrame(bought), pd.DataFrame(
        [{**common, "claim": name, "value": value} for name, value in claims.items()])


def budgets(val: budget.Exits, test: budget.Exits) -> list[dict]:
    """For every budget: thresholds from one set of pictures, what they lead to on the other."""
    rows = []
    for limit in np.linspace(val.cost[0], val.cost[-1], BUDGETS):
        for solver in ("exhaustive", "geometric"):
            told = budget.simulate(test, budget.solve(val, limit, solver).thresholds)
            shares = {f"exit{k + 1}": share for k, share in enumerate(told.shares)}
            rows.append({"solver": solver, "budget": limit, "top1": told.top1, "gmacs": told.gmacs, **shares})
    return rows


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    chosen = [int(seed) for seed in seeds or ("0", "1", "2")]
    asked = [(seed, STEPS) for seed in chosen] + [(chosen[0], LONG)]
    rows, bought, claims = (pd.concat(part, ignore_index=True) for part in zip(*(study(*each) for each in asked), strict=True))
    for name, table in (("exits", rows), ("budgets", bought), ("claims", claims)):
        write(table, DATA / "results" / f"dvt_small_{name}.csv")
    print(rows.groupby(["steps", "cascade", "exit"])[["top1", "gmacs"]].agg(["mean", "std"]).round(3).to_string())
    print(claims.groupby(["steps", "claim"]).value.agg(["mean", "std", "min"]).round(2).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
