"""What a short run shows: ReViT on the small net and the easy `shapes`.  python benchmarks/revit_small.py [seed ...]

For every seed (of initialisation, order and pictures): ReViT at lengths 7, 5 and 4 without self-distillation, with it, with it at
the text's temperature, with the distillation token and both transfers, and every length trained alone, all for as many steps;
with and without it for half as many more, from the net without (Table 2). With shared LayerNorms, with shared positions, with one
embedding for all lengths, to which the picture is resized; on micro_plain8, because only plain patches can share one, with one
kernel for all lengths (Table 3). Then labels of pictures that no net has seen, an assigner that learned them, and its
rivals, on test pictures. Finished runs are kept under runs/ and read again, an interrupted one goes on. Once all seeds asked for
are done it writes data/results/revit_small_points.csv, revit_small_assigners.csv and revit_small_claims.csv.
"""
import sys
from dataclasses import replace
from pathlib import Path

import dvt_small
import pandas as pd
import supervit_small
import torch
from assigning import judge
from finish import finish

import vitlab
from vitlab import lengths
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.revit import PAPER, Point

RUNS = Path("runs/revit_small")
STEPS = dvt_small.LONG                                      # at 1,300 steps its short lengths have hardly begun
RECIPE = replace(supervit_small.RECIPE, steps=STEPS)
LENGTHS = (7, 5, 4)
METHOD = "separate, distilled"
VARIANTS = {                                                # backbone and name: knobs
    ("micro_patch8", METHOD): {},
    ("micro_patch8", "no distillation"): {"lambda_": 0.0},
    ("micro_patch8", "distilled, tau 5"): {"tau": 5.0},        # the text's temperature; 0.9 is Table 2's
    ("micro_patch8", "distilled, token and transfers"): PAPER,  # all that Secs. 3.2 and 4 add in words
    ("micro_patch8", "longer, distilled"): {},                 # these two go on from "no distillation" for half as long again
    ("micro_patch8", "longer, no distillation"): {"lambda_": 0.0},
    ("micro_patch8", "shared LayerNorms"): {"norm": "shared"},
    ("micro_patch8", "shared positions"): {"positions": "interp"},
    ("micro_patch8", "picture resized"): {"patch": "resize"},
    ("micro_plain8", METHOD): {},
    ("micro_plain8", "shared kernel"): {"patch": "shared_center"},
}
UNSEEN, LABELLED, JUDGED = 1000, 12_000, 6_000              # added to a seed: pictures for labels; how many; test pictures
TLA = vitlab.Recipe(steps=600, batch=64, lr=8e-3, weight_decay=0.05, clip=1.0)    # a lower rate learns nothing in that time
UNSOLVED = "smallest"                                       # no length helps, so none is paid for


def train(seed: int, name: str, backbone: str = "micro_patch8") -> vitlab.ReViT:
    torch.manual_seed(seed)
    net = vitlab.create("revit", backbone, num_classes=10, lengths=LENGTHS, **VARIANTS[backbone, name])
    recipe = replace(RECIPE, seed=seed)
    if name.startswith("longer"):
        net.load_state_dict(train(seed, "no distillation", backbone).state_dict())
        recipe = replace(recipe, steps=STEPS // 2)
    folder = name if backbone == "micro_patch8" else f"{backbone} {name}"
    finish(net, vitlab.data.shapes("train", seed=seed), recipe, RUNS / str(seed) / folder)
    return net.eval()


def alone(seed: int, length: int) -> torch.nn.Module:
    """One length trained by itself, for as many steps; the largest is the plain ViT of dvt_small.py."""
    if length == LENGTHS[0]:
        return dvt_small.train(seed, "plain", "dense", STEPS)
    torch.manual_seed(seed)
    net = vitlab.create("dense", "micro_patch8", num_classes=10, grid=length)
    finish(net, vitlab.data.shapes("train", seed=seed), replace(RECIPE, seed=seed), RUNS / str(seed) / f"alone {length}")
    return net


def points(seed: int, test) -> list[dict]:
    """A row per training and length."""
    def row(backbone: str, training: str, length: int, net, point=None) -> dict:
        top1 = 100 * vitlab.answers(net, test, point).correct.mean()
        return {"seed": seed, "backbone": backbone, "training": training, "length": length, "top1": top1}

    rows = [row("micro_patch8", "alone", n, alone(seed, n)) for n in LENGTHS]
    for backbone, name in VARIANTS:
        net = train(seed, name, backbone)
        rows += [row(backbone, name, n, net, Point(n)) for n in LENGTHS]
    return rows


def assigners(seed: int, test) -> tuple[pd.DataFrame, dict[str, float]]:
    """A row per way to choose the lengths, and facts about labels and choice."""
    net, unseen = train(seed, METHOD), vitlab.data.shapes("train", n=LABELLED, seed=seed + UNSEEN, augment=True)
    labelled = lengths.make_labels(unseen, lambda _: net, unsolved=UNSOLVED)  # the net has seen none of them
    torch.manual_seed(seed)
    tla, _ = lengths.train_assigner(labelled, replace(TLA, seed=seed), out=RUNS / str(seed) / "assigner")
    labels = lengths.histogram(labelled.labels, LENGTHS[::-1])
    return judge(net, tla, test).assign(seed=seed), {
        f"share of labels, {n}x{n}": part for n, part in zip(labels.length, labels.share, strict=True)}


def claims(rows: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """What the paper says, in numbers; above 0: it shows."""
    top1, found = rows.set_index(["backbone", "training", "length"]).top1, {}
    for backbone, name, n in top1.index:
        first = "longer, distilled" if name.startswith("longer") else METHOD
        if name != first:
            found[f"{first} - {name}, {n}x{n}, {backbone}"] = top1[backbone, first, n] - top1[backbone, name, n]
    tla, lots = (table[table.kind == kind].set_index("cost_weight") for kind in ("TLA", "random"))
    found |= {f"TLA - random, cost weight {w:g}": gain for w, gain in (tla.top1 - lots.top1).items()}
    found["oracle - TLA at cost weight 0"] = table[table.kind == "oracle"].top1.iloc[0] - tla.top1[0.0]
    short, long = (tla.loc[1.0, f"size_{n}"] for n in (LENGTHS[-1], LENGTHS[1]))
    return found | {"object's share of the picture, 4x4 assigned - 5x5 assigned, cost weight 1": short - long}


def study(seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """One seed: a row per training and length, per way to choose, per claim."""
    rows = pd.DataFrame(points(seed, vitlab.data.shapes("test", seed=seed)))
    table, facts = assigners(seed, vitlab.data.shapes("test", n=JUDGED, seed=seed))
    facts |= claims(rows, table)
    print(f"seed {seed}: {', '.join(f'{name} {value:.3f}' for name, value in facts.items() if 'labels' in name)}", flush=True)
    return rows, table, pd.DataFrame([{"seed": seed, "claim": name, "value": value} for name, value in facts.items()])


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    parts = zip(*(study(int(seed)) for seed in seeds or ("0", "1", "2")), strict=True)
    rows, table, said = (pd.concat(part, ignore_index=True) for part in parts)
    for name, frame in (("points", rows), ("assigners", table), ("claims", said)):
        write(frame, DATA / "results" / f"revit_small_{name}.csv")
    print(rows.groupby(["backbone", "training", "length"]).top1.agg(["mean", "std", "count"]).round(1).to_string())
    print(table.groupby("assigner", sort=False)[["top1", "gmacs"]].agg(["mean", "std"]).round(4).to_string())
    print(said.groupby("claim", sort=False).value.agg(["mean", "std", "min", "count"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
