"""What a package is worth to a net without class token (A.6, Table 12).  python benchmarks/spvit_pooled.py

Such a net answers from the mean of its patches. The paper's conjecture: a package, which is a mean of patches too, helps it more
than a net with a class token. Here the dense net without one starts from the shipped dense net, its class token taken away, and
learns until it is about as good. From it, and with it as teacher, SPViT is fine-tuned with and without packages, by the steps,
seeds and pictures of benchmarks/spvit_small.py's study in which all draw to the end; that holds the rows of the net with a class
token. Finished runs are kept under runs/ and read again, an interrupted one goes on.
Writes data/results/spvit_pooled_points.csv once all seeds are done.
"""
from dataclasses import replace

import pandas as pd
import spvit_small as study
import torch
from finish import finish

import vitlab
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.methods.spvit import calibrate

BACKBONE = "micro_patch4_gap"
VARIANTS = {"selector": {}, "no package": {"package": "none"}}
DENSE = vitlab.Recipe(steps=600, batch=32, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.99), warmup=0.05, clip=1.0)


def dense() -> vitlab.Dense:
    """The dense net without class token, trained; one for all seeds, as that with a class token is."""
    before = vitlab.load(DATA / "checkpoints" / "dense_shapes.safetensors").vit.state_dict()
    net = vitlab.create("dense", BACKBONE, num_classes=10)
    net.vit.load_state_dict({name: before[name] for name in net.vit.state_dict()} | {"pos_embed": before["pos_embed"][:, 1:]})
    finish(net, study.pictures(0), DENSE, study.RUNS / "pooled")
    return net.eval()


def train(seed: int, name: str, teacher: vitlab.Dense) -> vitlab.SPViT:
    """One variant, fine-tuned and calibrated."""
    budget = study.SHARE * vitlab.gmacs(teacher, torch.zeros(1, 3, 56, 56))[0]
    torch.manual_seed(seed)                                 # after counting, which draws numbers the first time
    net = vitlab.create("spvit", BACKBONE, budget=budget, **study.KNOBS, **VARIANTS[name])
    net.init_from(teacher.vit)
    folder = study.RUNS / str(seed) / f"pooled_{name}".replace(" ", "_")
    finish(net, study.pictures(seed), replace(study.RECIPE, seed=seed), folder, teacher=teacher)
    calibrate(net, study.held_out(seed), [net.budget])
    return net.eval()


def main() -> None:
    torch.set_num_threads(1)
    teacher, rows = dense(), []
    for seed in study.SEEDS:
        test = study.tested(seed)
        plain = vitlab.answers(teacher, test)
        rows.append({"seed": seed, "variant": "dense", "budget": plain.gmacs.mean(), "gmacs": plain.gmacs.mean(),
                     "top1": 100 * plain.correct.mean()})
        rows += [study.row(seed, name, train(seed, name, teacher), test) for name in VARIANTS]
    table = pd.DataFrame(rows)
    write(table, DATA / "results" / "spvit_pooled_points.csv")
    shown = ["top1", "top1_fixed", "top1_drawn", "gmacs"]
    print(table.groupby("variant", sort=False)[shown].agg(["mean", "std"]).round(4).to_string())


if __name__ == "__main__":
    main()
