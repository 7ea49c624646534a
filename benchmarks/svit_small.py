"""What SViT's parts are worth on a small net and hard `shapes`.  python benchmarks/svit_small.py [seed ...]

From the shipped dense net (which never left a token out) every variant is fine-tuned with equal steps to equal shares of tokens,
k = 0.5: tokens that come back, tokens that do not (`inherit`, `discard`), shares met by every image (`fixed rate`), gates of one
layer, and gates that know nothing. Seeds are of gates, order and pictures. Each is calibrated on pictures of its own and judged
on test pictures that no choice has seen: what it costs, what it gets right, and the same net under even odds ("argmax") and under
the official evaluation (drawn, all tokens computed). Finished runs are kept under runs/ and read again, an interrupted one goes
on. Writes data/results/svit_small_points.csv, svit_small_claims.csv and svit_small_fate.csv once all seeds asked for are done.
"""
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from finish import finish

import vitlab
from vitlab.evaluation import beside
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.svit import Point, calibrate

RUNS = Path("runs/svit_small")
KEEP = 0.5
DIAL, TEST_DIAL, PICTURES, HELD_OUT, TESTED = 0.6, 1.0, 10_000, 400, 2_000
RECIPE = vitlab.Recipe(steps=150, batch=32, lr=5e-3, lr_backbone=2e-4, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05,
                       clip=1.0)
VARIANTS = {"return": {}, "inherit": {"pruned": "inherit"}, "discard": {"pruned": "discard"}, "fixed rate": {"rate": "image"},
            "one layer": {"gate": "linear"}, "random": {"gate": "random"}}


def dense() -> vitlab.Dense:
    """The plain net that all start from."""
    return vitlab.load(DATA / "checkpoints" / "dense_shapes.safetensors")


def pictures(seed: int):
    return vitlab.data.shapes("train", difficulty=DIAL, n=PICTURES, seed=seed, augment=True)


def held_out(seed: int):
    """To calibrate with: of the difficulty that the net is tested on, and of no use to training."""
    return vitlab.data.shapes("train", difficulty=TEST_DIAL, n=HELD_OUT, seed=seed + 200)


def train(seed: int, name: str, steps: int = RECIPE.steps, out: str | None = None) -> vitlab.SViT:
    """One variant, fine-tuned and calibrated."""
    torch.manual_seed(seed)
    net = vitlab.create("svit", "micro_patch4", num_classes=10, keep=KEEP, **VARIANTS[name])
    net.init_from(dense().vit)
    finish(net, pictures(seed), replace(RECIPE, steps=steps, seed=seed), RUNS / str(seed) / (out or name.replace(" ", "_")))
    if net.gate != "random":                                # random gates take the same number of every picture
        calibrate(net, held_out(seed), [KEEP])
    return net.eval()


def row(seed: int, name: str, net, test) -> dict:
    """One variant on the test pictures."""
    torch.manual_seed(seed)
    own, even = vitlab.answers(net, test), vitlab.answers(net, test, Point(fixed=True))
    drawn, shares = official(net, test)
    found = {"seed": seed, "variant": name, "gmacs": own.gmacs.mean(), "gmacs_sd": own.gmacs.std(),
             "top1": 100 * own.correct.mean(), "top1_fixed": 100 * even.correct.mean(), "top1_drawn": 100 * drawn}
    if net.gate != "random":
        thresholds = net.thresholds.rows
        found |= {"off_target": off_target(net, test)}
        net.set_thresholds([(KEEP, *[0.0] * len(net.at))])  # even odds
        sure = vitlab.answers(net, test)
        found |= {"top1_argmax": 100 * sure.correct.mean(), "gmacs_argmax": sure.gmacs.mean()}
        net.set_thresholds(thresholds)
    return found | {f"drawn_{gate + 1}": share for gate, share in enumerate(shares)}


def off_target(net, test) -> float:
    """The largest relative distance, over gates, of the share of tokens that take part from what was asked."""
    shares = usage.shares(net, test)
    return max(abs(share / asked - 1) for share, asked in zip(shares, net.shares(KEEP), strict=True))


@torch.inference_mode()
def official(net, test, batch: int = 100) -> tuple[float, list[float]]:
    """The released evaluation: decisions are drawn, all tokens computed. Share right, and the share that takes part, by gate."""
    data, right, took = test.for_net(net), 0, []
    for start in range(0, len(data), batch):
        said = net.masked(beside(net, data.images(slice(start, start + batch))))
        right += (said.logits.argmax(1) == data.labels[start:start + batch]).sum().item()
        took.append(torch.stack([part.mean(1) for part in said.drawn], 1))
    return right / len(data), torch.cat(took).mean(0).tolist()
