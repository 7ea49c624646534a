"""What a short run shows: SuperViT on the small net and the easy `shapes`.  python benchmarks/supervit_small.py [seed ...]

For every seed (of initialisation, order and pictures): the super-net; the plain ViT, also evaluated where it was not trained;
and every sub-net trained alone (SuperViT's Table 3) with as many passes as it got inside the super-net, the extreme ones also
with as many passes as the super-net made steps. Finished runs are kept under runs/ and read again, an interrupted one goes on.
Writes data/results/supervit_small_points.csv and supervit_small_claims.csv once all seeds asked for are done.
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

RUNS = Path("runs/supervit_small")
STEPS = 1300
RECIPE = vitlab.Recipe(steps=STEPS, batch=32, lr=2e-3, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05, clip=1.0)
KNOBS = {"num_classes": 10, "drop_blocks": (1, 2, 3)}
LENGTHS, RATES = (4, 5, 6, 7), (0.5, 0.7, 1.0)
EXTREMES = (Point(4, 0.5), Point(4, 1.0), Point(7, 0.5), Point(7, 1.0))


def passes(length: int, keep: float) -> float:
    """How often the four-sub-net step runs this sub-net, per step."""
    share = 1 if keep == 1 else 1 / (len(RATES) - 1)
    return share if length == LENGTHS[-1] else share / (len(LENGTHS) - 1)


def train(seed: int, name: str, steps: int, lengths=LENGTHS, rates=RATES) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = vitlab.create("supervit", "micro_patch8", lengths=lengths, rates=rates, **KNOBS)
    recipe = replace(RECIPE, steps=steps, seed=seed)
    finish(net, vitlab.data.shapes("train", seed=seed), recipe, RUNS / str(seed) / name)
    return net


def alone(seed: int, point: Point, steps: int) -> torch.nn.Module:
    """One sub-net trained by itself."""
    return train(seed, f"{point.length}-{point.keep:g}-{steps}", steps, (point.length,), (point.keep,))


def study(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One seed: a row per training and point, and a row per claim."""
    test = vitlab.data.shapes("test", seed=seed)
    points = [Point(n, r) for n in LENGTHS for r in RATES]

    def row(training: str, net, point: Point, steps: int) -> dict:
        top1 = 100 * vitlab.answers(net, test, point).correct.mean()
        return {"seed": seed, "training": training, "length": point.length, "keep": point.keep, "top1": top1, "steps": steps}

    net = train(seed, "super", STEPS)
    rows = [row("super", net, p, STEPS) for p in points]
    plain = alone(seed, Point(7, 1.0), STEPS)
    everywhere = vitlab.SuperViT(plain.vit, LENGTHS, RATES, KNOBS["drop_blocks"])      # positions resampled to every length
    rows += [row("plain", everywhere, p, STEPS) for p in points]
    for p in points:
        steps = round(STEPS * passes(p.length, p.keep))
        rows.append(row("alone, equal passes", alone(seed, p, steps), p, steps))
    rows += [row("alone, equal steps", alone(seed, p, STEPS), p, STEPS) for p in EXTREMES]
    return pd.DataFrame(rows), pd.DataFrame(claims(net, test)).assign(seed=seed)


def claims(net: vitlab.SuperViT, test) -> list[dict]:
    """Easy and hard images, attention on the object, and which tokens to drop."""
    cheap, dear = (vitlab.answers(net, test, p) for p in (Point(4, 0.5), Point(7, 1.0)))
    size = pd.Series(test.columns["size"])
    looks = focus(net, test, Point(7, 0.5))
    first = looks[looks.layer == net.drop_blocks[0]]
    last = looks[looks.layer == looks.layer.max()]
    values = {
        "object's share of the picture, easy (right at 4, 0.5)": size[cheap.correct].mean(),
        "object's share of the picture, hard (wrong there, right at 7, 1.0)": size[~cheap.correct & dear.correct].mean(),
        "share of images that are easy": cheap.correct.mean(),
        "share of images that are hard": (~cheap.correct & dear.correct).mean(),
        "class attention at the first drop: on the object": first.attention.mean(),
        "class attention at the first drop: chance": first.chance.mean(),
        "kept patches at the end, keep 0.5: on the object": last.kept.mean(),
    }
    for kind in ("low", "random", "high"):
        net.token_type = kind
        torch.manual_seed(0)
        for keep in (0.5, 0.3):
            values[f"top1 at (7, {keep}), dropping {kind}"] = 100 * vitlab.answers(net, test, Point(7, keep)).correct.mean()
    net.token_type = "low"
    return [{"claim": name, "value": value} for name, value in values.items()]


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    points, said = zip(*(study(int(seed)) for seed in seeds or ("0", "1", "2")), strict=True)
    write(pd.concat(points), DATA / "results" / "supervit_small_points.csv")
    write(pd.concat(said), DATA / "results" / "supervit_small_claims.csv")
    print(pd.concat(points).groupby(["training", "length", "keep"]).top1.agg(["mean", "std"]).round(1).to_string())
    print(pd.concat(said).groupby("claim").value.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
