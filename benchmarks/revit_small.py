"""What a short run shows: ReViT on the small net and the easy `shapes`.  python benchmarks/revit_small.py [seed ...]

For every seed (of initialisation, order and pictures): ReViT at lengths 7, 5 and 4 with and without self-distillation, and every
length trained alone, all for as many steps (Table 2); then labels of pictures that no net has seen, an assigner that learned them,
and its rivals, on test pictures. Seeds in MORE also share what Table 3 shares; a kernel can be shared only by plain patches, so those
rows stand on micro_plain8. Finished runs are kept under runs/ and read again, an interrupted one goes on. Once all seeds asked for
are done it writes data/results/revit_small_points.csv, revit_small_assigners.csv and revit_small_claims.csv.
"""
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import supervit_small
import torch
from finish import finish

import vitlab
from vitlab import lengths
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.revit import COST_WEIGHTS, Point

RUNS = Path("runs/revit_small")
RECIPE = supervit_small.RECIPE
LENGTHS = (7, 5, 4)
METHOD = "separate, distilled"
MAIN = {METHOD: {}, "no distillation": {"lambda_": 0.0}}
SHARED = {"shared LayerNorm": {"norm": "shared"}, "shared positions": {"positions": "interp"}, "image resized": {"patch": "resize"}}
PLAIN = {METHOD: {}, "shared kernel": {"patch": "shared_center"}, "image resized": {"patch": "resize"}}
MORE = (0,)                                                 # seeds that run SHARED and PLAIN
UNSEEN, LABELLED, JUDGED = 1000, 12_000, 8_000              # added to a seed: pictures for labels; how many; test pictures
TLA = vitlab.Recipe(steps=600, batch=64, lr=8e-3, weight_decay=0.05, clip=1.0)    # a lower rate learns nothing in that time
UNSOLVED = "smallest"                                       # no length helps, so none is paid for
DRAWS = 20                                                  # of the random assigner


def train(seed: int, name: str, backbone: str = "micro_patch8", **knobs) -> vitlab.ReViT:
    torch.manual_seed(seed)
    net = vitlab.create("revit", backbone, num_classes=10, lengths=LENGTHS, **knobs)
    folder = name if backbone == "micro_patch8" else f"{backbone} {name}"
    finish(net, vitlab.data.shapes("train", seed=seed), replace(RECIPE, seed=seed), RUNS / str(seed) / folder)
    return net.eval()


def alone(seed: int, length: int) -> torch.nn.Module:
    """One length trained by itself, for as many steps; the largest is the plain ViT of supervit_small.py."""
    if length == LENGTHS[0]:
        return vitlab.Dense(supervit_small.alone(seed, supervit_small.Point(length, 1.0), RECIPE.steps).vit)
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
    for backbone, variants in (("micro_patch8", MAIN | (SHARED if seed in MORE else {})),
                               ("micro_plain8", PLAIN if seed in MORE else {})):
        for name, knobs in variants.items():
            net = train(seed, name, backbone, **knobs)
            rows += [row(backbone, name, n, net, Point(n)) for n in LENGTHS]
    return rows


def assigners(seed: int) -> tuple[list[dict], dict[str, float]]:
    """A row per way to choose the lengths, and facts about the labels and the choice."""
    net, unseen = train(seed, METHOD), vitlab.data.shapes("train", n=LABELLED, seed=seed + UNSEEN, augment=True)
    labelled = lengths.make_labels(unseen, lambda _: net, unsolved=UNSOLVED)      # the net has seen none of them
    print(f"seed {seed}", lengths.histogram(labelled.labels, LENGTHS[::-1]).round(3).to_string(index=False), sep="\n")
    torch.manual_seed(seed)
    tla, _ = lengths.train_assigner(labelled, replace(TLA, seed=seed), out=RUNS / str(seed) / "assigner")
    test = vitlab.data.shapes("test", n=JUDGED, seed=seed)
    rows, logits = judge(net, tla, test)
    sizes = pd.Series(test.columns["size"]).groupby(lengths.learned(table_of(net, test), logits, 1.0).chosen.numpy()).mean()
    said = {f"label {n}, share": part for n, part in zip(LENGTHS[::-1], lengths.histogram(labelled.labels, LENGTHS[::-1]).share)}
    said |= {f"object's share of the picture, {n} assigned (cost weight 1)": sizes.get(k) for k, n in enumerate(LENGTHS[::-1])}
    return [{"seed": seed, **row} for row in rows], said
