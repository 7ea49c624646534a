"""What SPViT is worth on a small net and hard `shapes`.  python benchmarks/spvit_small.py [settled | drawn]

The dense net is the plain ViT inside the shipped ReViT (its largest length; it never dropped a token). From it, and with it as
teacher, every variant is fine-tuned to one budget, 40 % of the dense cost, with equal steps; seeds are of selectors, order and
pictures. In the first study (settled) selectors decide for the last third of the steps as they will at test time, but `drawn to
the end` goes on drawing, as the paper does; they are compared with random scores and with a dense net that lost channels instead
of tokens (`structured`). In the second (drawn) all draw to the end, and it is the parts of the method that differ. Each is
calibrated on pictures of its own and judged on test pictures that no choice has seen: what it costs, what it gets right, and what
the same net does with the same number of tokens for every image, and under the official evaluation (drawn, masked). The weight of
the ratio loss is ten times the paper's: with its 2 so short a run keeps far more than was asked. Finished runs are kept under
runs/ and read again, an interrupted one goes on.
Writes data/results/spvit_small_points.csv and spvit_small_claims.csv, or spvit_drawn_points.csv, once all seeds are done.
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
from vitlab.methods.spvit import Point, calibrate
from vitlab.methods.spvit.objective import gumbel
from vitlab.methods.spvit.rivals import structured

RUNS = Path("runs/spvit_parts")
SHARE = 0.4                                                 # of the dense cost
DIAL, TEST_DIAL, PICTURES, HELD_OUT, TESTED = 0.6, 1.0, 10_000, 400, 2_000
RECIPE = vitlab.Recipe(steps=150, batch=32, lr=1e-2, lr_backbone=2e-4, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05,
                       clip=1.0)
KNOBS = {"num_classes": 10, "lambda_ratio": 20.0}
SEEDS = (0, 1, 2)
VARIANTS = {"selector": {}, "random": {"score": "random"}, "structured": {}, "drawn to the end": {}}
PARTS = {"selector": {}, "random": {"score": "random"}, "no package": {"package": "none"}, "single head": {"heads": 1}}
STRETCHES, SECOND_LR = (100, 50), 2e-3                      # steps before and after decisions settle; of the selectors


def dense() -> vitlab.Dense:
    """The plain net that all start from, as a method of its own."""
    revit = vitlab.load(DATA / "checkpoints" / "revit_shapes.safetensors")
    net = vitlab.create("dense", revit.made["backbone"], num_classes=revit.made["num_classes"])
    weights, tokens = revit.vit.state_dict(), net.vit.pos_embed.shape[1]
    net.vit.load_state_dict({name: weights[name] if name in weights else weights[own_norm(name, tokens)]
                             for name in net.vit.state_dict()})
    return net.eval()


def own_norm(name: str, tokens: int) -> str:
    """The name of a LayerNorm's tensor in a net that has one for each number of tokens."""
    layer, kind = name.rsplit(".", 1)
    return f"{layer}.of.{tokens}.{kind}"


def pictures(seed: int):
    return vitlab.data.shapes("train", difficulty=DIAL, n=PICTURES, seed=seed, augment=True)


def held_out(seed: int):
    """To calibrate with: of the difficulty that the net is tested on, and of no use to training."""
    return vitlab.data.shapes("train", difficulty=TEST_DIAL, n=HELD_OUT, seed=seed + 200)


def made(seed: int, name: str) -> vitlab.SPViT | vitlab.Dense:
    """One variant before its training."""
    teacher = dense()
    budget = SHARE * vitlab.gmacs(teacher, torch.zeros(1, 3, 56, 56))[0]
    torch.manual_seed(seed)                                 # after counting, which draws numbers the first time
    if name == "structured":
        return structured(teacher, budget)
    net = vitlab.create("spvit", "micro_patch4", budget=budget, **KNOBS, **(VARIANTS | PARTS)[name])
    net.init_from(teacher.vit)
    return net


def train(seed: int, name: str, stretches: tuple[int, ...] = STRETCHES, out: str | None = None) -> vitlab.SPViT | vitlab.Dense:
    """One variant, fine-tuned in two stretches and calibrated."""
    net, folder = made(seed, name), RUNS / str(seed) / (out or name.replace(" ", "_"))
    taught = {"teacher": dense()} if getattr(net, "uses_teacher", False) else {}
    for stretch, steps in enumerate(stretches):
        recipe = replace(RECIPE, steps=steps, seed=seed + 50 * stretch, lr=SECOND_LR if stretch else RECIPE.lr)
        if isinstance(net, vitlab.Dense):                   # it has no selectors: its one rate is the backbone's
            recipe = replace(recipe, lr=RECIPE.lr_backbone, lr_backbone=None)
        elif stretch and name not in ("random", "drawn to the end"):
            net.settle()
        finish(net, pictures(seed), recipe, folder.with_name(folder.name + "_2" * stretch), **taught)
    if getattr(net, "selectors", ()):                       # random scores keep the same number of every picture
        calibrate(net, held_out(seed), [net.budget])
    return net.eval()


def row(seed: int, name: str, net, test) -> dict:
    """One variant on the test pictures."""
    torch.manual_seed(seed)
    own = vitlab.answers(net, test)
    if isinstance(net, vitlab.Dense):
        return {"seed": seed, "variant": name, "gmacs": own.gmacs.mean(), "top1": 100 * own.correct.mean()}
    even = vitlab.answers(net, test, Point(fixed=True))
    drawn, kept = official(net, test)
    return {"seed": seed, "variant": name, "budget": net.budget, "gmacs": own.gmacs.mean(), "gmacs_sd": own.gmacs.std(),
            "top1": 100 * own.correct.mean(), "top1_fixed": 100 * even.correct.mean(), "top1_drawn": 100 * drawn,
            **{f"kept_drawn_{step + 1}": share for step, share in enumerate(kept)},
            **{f"asked_{step + 1}": share for step, share in enumerate(net.keep)}}


@torch.inference_mode()
def official(net, test, batch: int = 100) -> tuple[float, list[float]]:
    """The released evaluation: decisions are drawn and masked. Share right, and the share kept by each selector."""
    data, right, kept = test.for_net(net), 0, []
    for start in range(0, len(data), batch):
        said = net.masked(data.images(slice(start, start + batch)), noisy if net.selectors else None)
        right += (said.logits.argmax(1) == data.labels[start:start + batch]).sum().item()
        kept.append(torch.stack([part.mean(1) for part in said.kept], 1))
    return right / len(data), torch.cat(kept).mean(0).tolist()


def noisy(step: int, score: torch.Tensor, alive: torch.Tensor) -> torch.Tensor:
    """A draw, also where decisions have settled."""
    return gumbel(score)


def claims(seed: int, net, test) -> list[dict]:
    """Does it keep what matters, and does it spend more on what is hard?"""
    looks, own = focus(net, test), vitlab.answers(net, test)
    difficulty, objects = pd.Series(test.columns["difficulty"]), pd.Series(test.columns["objects"])
    values = {"chance of a patch to be the answer's": looks.chance.mean(),
              "rank correlation of cost and number of objects": own.gmacs.corr(objects, method="spearman"),
              "rank correlation of cost and difficulty": own.gmacs.corr(difficulty, method="spearman")}
    for step, block in enumerate(net.after):
        kept = looks[looks.layer == block + 1].kept.mean()
        values[f"patches kept by selector {step + 1}: on the answer's objects"] = kept
    return [{"seed": seed, "claim": name, "value": value} for name, value in values.items()]


def study(nets: dict, file: str) -> None:
    """Every net {(variant, seed): net}, and the dense one, on the test pictures of its seed."""
    rows = []
    for seed in SEEDS:
        test = tested(seed)
        plain = vitlab.answers(dense(), test)
        rows.append({"seed": seed, "variant": "dense", "budget": plain.gmacs.mean(), "gmacs": plain.gmacs.mean(),
                     "top1": 100 * plain.correct.mean()})
        rows += [row(seed, name, net, test) for (name, own), net in nets.items() if own == seed]
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / file)
    shown = ["top1", "top1_fixed", "top1_drawn", "gmacs"]
    print(table.groupby("variant", sort=False)[shown].agg(["mean", "std"]).round(4).to_string())


def tested(seed: int):
    return vitlab.data.shapes("test", difficulty=TEST_DIAL, n=TESTED, seed=seed + 100)


def main(which: str = "settled") -> None:
    torch.set_num_threads(1)
    if which == "drawn":
        study({(name, seed): train(seed, name, (RECIPE.steps,), out=f"drawn_{name}".replace(" ", "_"))
               for name in PARTS for seed in SEEDS}, "spvit_drawn_points.csv")
        return
    nets = {(name, seed): train(seed, name) for name in VARIANTS for seed in SEEDS}
    study(nets, "spvit_small_points.csv")
    said = pd.DataFrame([one for seed in SEEDS for one in claims(seed, nets["selector", seed], tested(seed))])
    write(said, DATA / "results" / "spvit_small_claims.csv")
    print(said.groupby("claim", sort=False).value.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
