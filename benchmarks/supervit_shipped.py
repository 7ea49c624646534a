"""The shipped net: SuperViT at the papers' lengths, long on hard `shapes`.  python benchmarks/supervit_shipped.py [seed ...]

Learning to find shapes is slow at 14x14 patches and quick at 8x8, and crowds are learned after single objects. So each net
first learns at length 8 while the difficulty dial rises, then as a SuperViT at every length (about 20 minutes a seed on one
core). Finished stages are kept under runs/ and read again, an interrupted one goes on.
Writes data/checkpoints/supervit_shapes.safetensors (seed 0), data/results/supervit_shipped_points.csv and ..._claims.csv.
"""
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from finish import finish

import vitlab
from vitlab.measure import focus, write
from vitlab.measure.records import DATA
from vitlab.methods.supervit import Point

RUNS = Path("runs/supervit_shipped")
DIAL, TEST_DIAL, PICTURES = 0.6, 1.0, 20_000                # it is tested on larger crowds than it was trained on
KNOBS = {"num_classes": 10, "drop_blocks": (1, 3, 5)}       # early drops: later, the class token has read all it needs
RECIPE = vitlab.Recipe(steps=1200, batch=32, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05, clip=1.0)
WARM = ((0.0, 1000), (0.3, 1500), (DIAL, 2500))             # (dial, steps) at length 8
STEPS = sum(steps for _, steps in WARM) + RECIPE.steps


def train(seed: int) -> torch.nn.Module:
    """One seed of weights, order and pictures through all stages."""
    torch.manual_seed(seed)
    warm = vitlab.create("supervit", "micro_patch4", lengths=(8,), rates=(1.0,), **KNOBS)
    for stage, (dial, steps) in enumerate(WARM):
        finish(warm, pictures(dial, seed), replace(RECIPE, steps=steps, seed=seed), RUNS / str(seed) / f"warm{stage}")
    net = vitlab.create("supervit", "micro_patch4", **KNOBS)
    net.load_state_dict(vitlab.SuperViT(warm.vit, drop_blocks=KNOBS["drop_blocks"]).state_dict())   # positions resampled
    finish(net, pictures(DIAL, seed), replace(RECIPE, seed=seed), RUNS / str(seed) / "super")
    return net


def pictures(dial: float, seed: int):
    return vitlab.data.shapes("train", difficulty=dial, n=PICTURES, seed=seed, augment=True)


def measure(net: vitlab.SuperViT, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row per point, and a row per claim."""
    test = vitlab.data.shapes("test", difficulty=TEST_DIAL, seed=seed)
    table = {p: vitlab.answers(net, test, p) for p in net.points}
    points = pd.DataFrame([{"seed": seed, "length": p.length, "keep": p.keep, "top1": 100 * t.correct.mean(),
                            "gmacs": t.gmacs.mean()} for p, t in table.items()])
    looks = focus(net, test, Point(14, 0.5))
    first, last = (looks[looks.layer == n] for n in (net.drop_blocks[0], looks.layer.max()))
    easy, dear = table[Point(8, 0.5)].correct, table[Point(14, 1.0)].correct
    size, difficulty = pd.Series(test.columns["size"]), pd.Series(test.columns["difficulty"])
    alone = pd.Series(test.columns["objects"] == 1)
    values = {
        "share of images that are easy (right at 8, 0.5)": easy.mean(),
        "share of images that are hard (wrong there, right at 14, 1.0)": (~easy & dear).mean(),
        "difficulty of easy images": difficulty[easy].mean(), "difficulty of hard images": difficulty[~easy & dear].mean(),
        "object's share of the picture, easy, one object": size[alone & easy].mean(),
        "object's share of the picture, hard, one object": size[alone & ~easy & dear].mean(),
        "class attention at the first drop: on the answer's objects": first.attention.mean(),
        "patches kept at the first drop, keep 0.5: on the answer's objects": first.kept.mean(),
        "patches kept at the end, keep 0.5: on the answer's objects": last.kept.mean(),
        "chance of a patch to be the answer's": first.chance.mean(),
    }
    for kind in ("low", "random", "high"):
        net.token_type = kind
        torch.manual_seed(0)
        for keep in (0.5, 0.3, 0.2, 0.1):
            values[f"top1 at (14, {keep}), dropping {kind}"] = 100 * vitlab.answers(net, test, Point(14, keep)).correct.mean()
    net.token_type = "low"
    return points, pd.DataFrame([{"seed": seed, "claim": name, "value": value} for name, value in values.items()])


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    results = []
    for seed in map(int, seeds or ("0", "1", "2")):
        net = train(seed)
        results.append(measure(net, seed))
        if seed == 0:
            top1 = {f"{r.length}, {r.keep:g}": round(r.top1, 2) for r in results[-1][0].itertuples()}
            vitlab.save(net, DATA / "checkpoints" / "supervit_shapes.safetensors", difficulty=TEST_DIAL, trained_difficulty=DIAL,
                        steps=STEPS, warm=WARM, recipe=vars(RECIPE), pictures=PICTURES, seed=seed, top1=top1,
                        made_by="python benchmarks/supervit_shipped.py")
    points, claims = (pd.concat(part) for part in zip(*results, strict=True))
    write(points, DATA / "results" / "supervit_shipped_points.csv")
    write(claims, DATA / "results" / "supervit_shipped_claims.csv")
    print(points.groupby(["length", "keep"]).top1.agg(["mean", "std"]).round(1).to_string())
    print(claims.groupby("claim").value.agg(["mean", "std", "min"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
