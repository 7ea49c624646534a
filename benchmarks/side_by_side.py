"""All methods beside the dense nets: one backbone, the same pictures, equally many training passes.

    python benchmarks/side_by_side.py [seed ...]        trains what is not trained yet and judges it
    python benchmarks/side_by_side.py speed             then times seed 0's nets; wants a quiet machine

A pass is one batch through one of a method's nets, forwards and backwards: a dense step has one, a step of ReViT or DVT as many
as there are lengths or exits, a SuperViT step four. SPViT and SViT spend half of theirs on the dense net from which they start;
what SPViT's teacher says is not counted. Every method has the recipe and knobs of its own study. Thresholds and factors are found
on pictures of their own; all are judged on test pictures of which no choice has seen one. Finished runs are kept under
runs/side_by_side. Writes data/results/side_by_side_points.csv (accuracy and cost of every point), side_by_side_hard.csv (do
methods spend more on the same pictures?) and side_by_side_kept.csv (do they keep the same patches?); speed writes
side_by_side_speed.csv.
"""
import sys
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import spvit_small
import supervit_small
import torch
from finish import finish

import vitlab
from vitlab.measure import agreement, latency_race, race, write
from vitlab.measure.answers import at_points
from vitlab.measure.records import DATA
from vitlab.methods import spvit, supervit, svit

RUNS = Path("runs/side_by_side")
PASSES, BACKBONE, DENSE_GRIDS = 2600, "micro_patch8", (7, 5, 4)
LENGTHS = (7, 5, 4)
JOINT = {"supervit": (4, {"drop_blocks": (1, 2, 3)}), "dvt": (3, {"grids": LENGTHS[::-1]}), "revit": (3, {"lengths": LENGTHS}),
         "adaptive_depth": (1, {})}                         # passes of a step, knobs
SHARES, KEEPS = (0.5, 0.65, 0.8), (0.5, 0.6, 0.7)           # of SPViT's cost, of SViT's tokens
PICTURES, HELD_OUT, TRACED, BATCH = 4000, 2000, 200, 32     # judged on, calibrated with, traced, timed


def train(seed: int, name: str, net: torch.nn.Module, steps: int, teacher=None, **recipe) -> torch.nn.Module:
    told = {} if teacher is None else {"teacher": teacher}
    finish(net, vitlab.data.shapes("train", seed=seed), replace(supervit_small.RECIPE, seed=seed, steps=steps, **recipe),
           RUNS / str(seed) / name, **told)
    return net.eval()


def made(seed: int, method: str, **knobs) -> torch.nn.Module:
    torch.manual_seed(seed)
    return vitlab.create(method, BACKBONE, num_classes=10, **knobs)


def dense(seed: int, grid: int = DENSE_GRIDS[0], steps: int = PASSES) -> torch.nn.Module:
    return train(seed, f"dense-{grid}-{steps}", made(seed, "dense", grid=grid), steps)


def pruned(seed: int, method: str) -> torch.nn.Module:
    """SPViT or SViT: half of the passes for the dense net, half from it on, the last third of them deciding as at test time."""
    start, held_out = dense(seed, steps=PASSES // 2), vitlab.data.shapes("train", n=HELD_OUT, seed=seed + 200)
    whole = vitlab.gmacs(start, torch.zeros(1, 3, 56, 56))[0]
    knobs = {"budget": SHARES[0] * whole, "lambda_ratio": 20.0} if method == "spvit" else {"keep": KEEPS[0]}
    net, rest = made(seed, method, **knobs), PASSES - PASSES // 2
    net.init_from(start.vit)
    for stretch, steps in enumerate((2 * rest // 3, rest - 2 * rest // 3)):
        if stretch:
            net.settle()
        train(seed, f"{method}-{stretch}", net, steps, start if method == "spvit" else None,
              lr=spvit_small.SECOND_LR if stretch else spvit_small.RECIPE.lr, lr_backbone=spvit_small.RECIPE.lr_backbone)
    if method == "spvit":
        spvit.calibrate(net, held_out, [share * whole for share in SHARES])
    else:
        svit.calibrate(net, held_out, list(KEEPS))
    return net.eval()


def nets(seed: int) -> dict[str, torch.nn.Module]:
    """Everybody, by name, trained."""
    found = {f"dense {grid}x{grid}": dense(seed, grid) for grid in DENSE_GRIDS}
    found |= {name: train(seed, name, made(seed, name, **knobs), PASSES // passes) for name, (passes, knobs) in JOINT.items()}
    found |= {name: pruned(seed, name) for name in ("spvit", "svit")}
    whole = found["supervit"]
    found["supervit + exits"] = vitlab.EarlyExit(whole, (supervit.Point(4, 0.5), supervit.Point(5, 0.7), supervit.Point(7, 1.0)))
    return found


def study(seed: int) -> tuple[pd.DataFrame, ...]:
    """One seed: a row per net and point, per pair of nets whose images differ in cost, per pair and block."""
    test, everybody, rows, spent = vitlab.data.shapes("test", n=PICTURES, seed=seed), nets(seed), [], {}
    for name, net in everybody.items():
        for point, table in zip(net.points, at_points(net, test, net.points)):
            rows.append({"seed": seed, "method": name, "point": str(point), "top1": 100 * table.correct.mean(),
                         "gmacs": table.gmacs.mean(), "gmacs_sd": table.gmacs.std(), "n": len(table), **asdict(point)})
            if table.gmacs.std() > spent.get(name, (0, 0))[0]:
                spent[name] = table.gmacs.std(), table.gmacs            # at the point where images differ most
        print(f"seed {seed}, {name}: {max(row['top1'] for row in rows if row['method'] == name):.1f}", flush=True)
    size = pd.Series(test.columns["size"])
    hard = [{"seed": seed, "a": a, "b": b, "rank_correlation": spent[a][1].corr(spent[b][1], method="spearman")}
            for a, b in combinations(spent, 2)]
    hard += [{"seed": seed, "a": name, "b": "object size", "rank_correlation": cost.corr(size, method="spearman")}
             for name, (_, cost) in spent.items()]
    return pd.DataFrame(rows), pd.DataFrame(hard), kept(everybody, test).assign(seed=seed)


@torch.inference_mode()
def kept(everybody: dict, test) -> pd.DataFrame:
    """Who keeps which patches, at the points that keep about half of them."""
    images, traces = test.sample(TRACED).images(slice(None)), {}
    for name, point in (("supervit", supervit.Point(7, 0.7)), ("spvit", None), ("svit", None)):
        traces[name] = vitlab.Trace()
        everybody[name](images, point, traces[name])
    return agreement(traces)


def speed() -> pd.DataFrame:
    """Images per second in batches, milliseconds of one picture, of seed 0's nets, all in turns."""
    test, everybody = vitlab.data.shapes("test", n=PICTURES, seed=0), nets(0)
    entries = {f"{name}|{point}": (net, point) for name, net in everybody.items() for point in net.points}
    images = test.sample(BATCH).images(slice(None))
    table = race(entries, images, rounds=15)
    alone = latency_race(entries, images[:1]).set_index("name")
    table = table.assign(latency_ms=table.name.map(alone.median_ms), latency_p90_ms=table.name.map(alone.p90_ms))
    table[["method", "point"]] = table.name.str.split("|", n=1, expand=True)
    return table.drop(columns="name")


def main(*asked: str) -> None:
    torch.set_num_threads(1)
    if asked == ("speed",):
        write(table := speed(), DATA / "results" / "side_by_side_speed.csv")
        print(table[["method", "point", "images_per_s", "speed_up", "latency_ms"]].round(3).to_string(index=False))
        return
    parts = zip(*(study(int(seed)) for seed in asked or ("0", "1", "2")), strict=True)
    for name, frame in zip(("points", "hard", "kept"), (pd.concat(part, ignore_index=True) for part in parts), strict=True):
        write(frame, DATA / "results" / f"side_by_side_{name}.csv")
        print(frame.drop(columns="seed").groupby(list({"points": ["method", "point"], "hard": ["a", "b"],
              "kept": ["a", "b", "layer"]}[name]), sort=False).mean(numeric_only=True).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
