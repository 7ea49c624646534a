"""What SViT's parts are worth on a small net and hard `shapes`.  python benchmarks/svit_small.py [seed ...]

From the shipped dense net (which never left a token out) every variant is fine-tuned with equal steps to equal shares of tokens,
k = 0.5: tokens that come back, tokens that do not (`inherit`; where only the class token is read, `discard` is the same net),
shares met by every image (`fixed rate`), and gates that know nothing. For the last third of the steps gates decide as they will
at test time; `drawn to the end` goes on drawing, as the paper does. Seeds are of gates, order and pictures. Each is calibrated on
pictures of its own and judged on test pictures that no choice has seen: what it costs, what it gets right, and the same net under
even odds ("argmax") and under the official evaluation (drawn, all tokens computed). Finished runs are kept under runs/ and read
again, an interrupted one goes on.
Writes data/results/svit_small_points.csv, svit_small_claims.csv and svit_small_fate.csv once all seeds asked for are done.
"""
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from finish import finish

import vitlab
from vitlab.evaluation import beside
from vitlab.measure import by_region, fate, write
from vitlab.measure.records import DATA
from vitlab.methods.svit import Point, calibrate
from vitlab.methods.svit.gates import drawn

RUNS = Path("runs/svit_small")
KEEP = 0.5
DIAL, TEST_DIAL, PICTURES, HELD_OUT, TESTED = 0.6, 1.0, 10_000, 8_000, 2_000
RECIPE = vitlab.Recipe(steps=150, batch=32, lr=5e-3, lr_backbone=2e-4, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05,
                       clip=1.0)
STRETCHES, SECOND_LR = (100, 50), 1e-3                      # steps before and after decisions settle; of the gates
VARIANTS = {"return": {}, "inherit": {"pruned": "inherit"}, "fixed rate": {"rate": "image"}, "random": {"gate": "random"},
            "drawn to the end": {}}


def dense() -> vitlab.Dense:
    """The plain net that all start from."""
    return vitlab.load(DATA / "checkpoints" / "dense_shapes.safetensors")


def pictures(seed: int):
    return vitlab.data.shapes("train", difficulty=DIAL, n=PICTURES, seed=seed, augment=True)


def held_out(seed: int):
    """To calibrate with: of the difficulty that the net is tested on, and of no use to training.

    So many, because pictures differ: see `off_worst_gate_se`, what 2,000 of them leave open."""
    return vitlab.data.shapes("train", difficulty=TEST_DIAL, n=HELD_OUT, seed=seed + 200)


def train(seed: int, name: str, stretches: tuple[int, ...] = STRETCHES, out: str | None = None) -> vitlab.SViT:
    """One variant, fine-tuned in two stretches and calibrated."""
    torch.manual_seed(seed)
    net = vitlab.create("svit", "micro_patch4", num_classes=10, keep=KEEP, **VARIANTS[name])
    net.init_from(dense().vit)
    folder = RUNS / str(seed) / (out or name.replace(" ", "_"))
    for stretch, steps in enumerate(stretches):
        recipe = replace(RECIPE, steps=steps, seed=seed + 50 * stretch, lr=SECOND_LR if stretch else RECIPE.lr)
        if stretch and name not in ("random", "drawn to the end"):
            net.settle()
        finish(net, pictures(seed), recipe, folder.with_name(folder.name + "_2" * stretch))
    if net.gate != "random":                                # random gates take the same number of every picture
        calibrate(net, held_out(seed), [KEEP])
    return net.eval()


def row(seed: int, name: str, net, test) -> dict:
    """One variant on the test pictures."""
    torch.manual_seed(seed)
    own, even = vitlab.answers(net, test), vitlab.answers(net, test, Point(fixed=True))
    noise, shares = official(net, test)
    found = {"seed": seed, "variant": name, "gmacs": own.gmacs.mean(), "gmacs_sd": own.gmacs.std(),
             "top1": 100 * own.correct.mean(), "top1_fixed": 100 * even.correct.mean(), "top1_drawn": 100 * noise}
    if net.gate != "random":
        thresholds, asked = net.thresholds.rows, torch.tensor(net.shares(KEEP))
        met = took_part(net, test)[0]
        off, error = met.mean(0) / asked - 1, met.std(0) / len(met) ** 0.5 / asked
        worst = int(off.abs().argmax())
        found |= {"off_target": float(met.mean() / asked.mean() - 1), "off_worst_gate": float(off[worst]),
                  "off_worst_gate_se": float(error[worst]), "off_in_se": float((off / error).abs().max())}
        net.set_thresholds([(KEEP, *[0.0] * len(net.at))])  # even odds
        sure = vitlab.answers(net, test)
        found |= {"top1_argmax": 100 * sure.correct.mean(), "gmacs_argmax": sure.gmacs.mean()}
        net.set_thresholds(thresholds)
    return found | {f"drawn_{gate + 1}": share for gate, share in enumerate(shares)}


@torch.inference_mode()
def took_part(net, test, batch: int = 100) -> tuple[torch.Tensor, pd.DataFrame]:
    """The share of the tokens asked that takes part [n, gates], and what becomes of those that do not, by block."""
    data, shares, told = test.for_net(net), [], []
    asked = [net.vit.pos_embed.shape[1] - net.before(gate) for gate in net.at.values()]
    for start in range(0, len(data), batch):
        trace = vitlab.Trace()
        images = beside(net, data.images(slice(start, start + batch)))
        net(images, None, trace)
        told.append(fate(trace))
        layers = {layer: part.attended.sum(1) + part.extra for layer, part in enumerate(trace.layers)}
        took = [layers[layer] - net.before(gate) for layer, gate in net.at.items()]
        shares.append(torch.stack([count / tokens for count, tokens in zip(took, asked, strict=True)], 1))
    return torch.cat(shares), pd.concat(told).groupby("layer", as_index=False).mean()


@torch.inference_mode()
def official(net, test, batch: int = 100) -> tuple[float, list[float]]:
    """The released evaluation: decisions are drawn, all tokens computed. Share right, and the share that takes part, by gate."""
    data, right, took = test.for_net(net), 0, []
    for start in range(0, len(data), batch):
        said = net.masked(beside(net, data.images(slice(start, start + batch))), None if net.gate == "random" else noisy)
        right += (said.logits.argmax(1) == data.labels[start:start + batch]).sum().item()
        took.append(torch.stack([part.mean(1) for part in said.drawn], 1))
    return right / len(data), torch.cat(took).mean(0).tolist()


def noisy(gate: int, odds: torch.Tensor, may: torch.Tensor) -> torch.Tensor:
    """A draw, also where decisions have settled."""
    return drawn(odds)


def claims(seed: int, net, test) -> list[dict]:
    """Do tokens come back, do objects use more of the net than the ground, and hard pictures more than easy ones?"""
    where = by_region(net, test).join(pd.DataFrame(test.columns)[["difficulty", "objects"]], on="image")
    told = took_part(net, test)[1].iloc[list(net.at)].iloc[:-1]             # a token left out of the last block cannot return
    back = (told.left_out * (told.next + told.later)).sum() / told.left_out.sum()
    values = {"blocks used by a patch of the answer's objects": where.used_object.mean(),
              "blocks used by any other patch": where.used_background.mean(),
              "tokens left out that come back": back,
              "of those, in the next block": (told.left_out * told.next).sum() / (told.left_out * (told.next + told.later)).sum(),
              "rank correlation of blocks used and difficulty": where.used.corr(where.difficulty, method="spearman"),
              "rank correlation of blocks used and number of objects": where.used.corr(where.objects, method="spearman")}
    return [{"seed": seed, "claim": name, "value": value} for name, value in values.items()]


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    rows, said, fates = [], [], []
    for seed in map(int, seeds or ("0", "1", "2")):
        test = vitlab.data.shapes("test", difficulty=TEST_DIAL, n=TESTED, seed=seed + 100)
        plain = vitlab.answers(dense(), test)
        rows.append({"seed": seed, "variant": "dense", "gmacs": plain.gmacs.mean(), "top1": 100 * plain.correct.mean()})
        for name in VARIANTS:
            net = train(seed, name)
            rows.append(row(seed, name, net, test))
            if name == "return":
                said += claims(seed, net, test)
                fates.append(took_part(net, test)[1].assign(seed=seed))
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / "svit_small_points.csv")
    write(pd.DataFrame(said), DATA / "results" / "svit_small_claims.csv")
    write(pd.concat(fates), DATA / "results" / "svit_small_fate.csv")
    shown = ["top1", "top1_fixed", "top1_drawn", "top1_argmax", "gmacs", "gmacs_argmax", "off_target", "off_worst_gate"]
    print(table.groupby("variant", sort=False)[shown].agg(["mean", "std"]).round(4).to_string())
    print(pd.DataFrame(said).groupby("claim", sort=False).value.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
