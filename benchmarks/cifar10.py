"""One small net per method on real pictures, CIFAR-10's.  python benchmarks/cifar10.py [hub name | parquet folder] [net ...]

micro_patch4 at 32 pixels, 8x8 patches. The dense nets and adaptive depth are side_by_side.py's after its passes of 256, read
from runs/side_by_side or trained there: two minutes each on a GPU, hours on one thread. As most of the papers do from DeiT, every
method is then fine-tuned from the dense net (a stage of DVT from the dense net of its grid), 3 to 12 minutes each on a free
thread. Thresholds, factors and the assigner are found on training pictures held out; all are judged on the test pictures, with
the weights rounded to 16 bits as they are shipped. Finished runs are kept under runs/ and read again, an interrupted one goes on.
Writes data/checkpoints/<net>_cifar10.safetensors and data/results/cifar10_<net>_points.csv, each net as soon as it is there.
"""
import sys
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import dvt_shipped
import pandas as pd
import side_by_side as side
import torch
from finish import finish

import vitlab
from vitlab.backbones import resample_positions
from vitlab.checkpoint import commit
from vitlab.measure import write
from vitlab.measure.answers import at_points
from vitlab.measure.records import DATA, DIGITS, facts

RUNS, SEED = Path("runs/cifar10"), 0
READY = {"dense": "dense 8x8", "adaptive_depth": "adaptive_depth"}      # what side_by_side.py trains to its end
RECIPE = vitlab.Recipe(steps=1, batch=64, lr=5e-4, betas=(0.9, 0.99), clip=1.0, label_smoothing=0.1, seed=SEED)
SECOND_LR = 2e-3                                                        # of selectors and gates once decisions are settled
PRUNING = replace(RECIPE, lr=1e-2, lr_backbone=2e-4)                    # of selectors and gates, of the net they are in
STEPS = {"supervit": (2000,), "dvt": (500,), "revit": (700,), "spvit": (2000, 1000), "svit": (1000, 500)}
SHARES, KEEPS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)     # the costs, the k that are calibrated


def begun(study: side.Study, name: str) -> torch.nn.Module:
    """A method that says at its largest point what the dense nets say, before its fine-tuning."""
    dense = side.finished(study, SEED, READY["dense"])
    knobs = {"dvt": {"grids": study.grids[::-1], "zero_relations": True}, "revit": {"lengths": study.grids},
             "spvit": {"budget": study.shares[0] * side.dense_cost(study, dense), "lambda_ratio": 20.0},
             "svit": {"keep": side.KEEPS[0]}}
    net = side.made(study, SEED, name, **knobs.get(name, {}))
    if name == "supervit":
        net.vit.load_state_dict(dense.vit.state_dict())
        for length, table in net.pos.items():
            table.data.copy_(resample_positions(dense.vit, int(length)))
    elif name == "dvt":
        for stage, grid in zip(net.stages, net.grids, strict=True):
            for block in stage.vit.blocks:
                block.mlp.fc1.weight.data.zero_()                       # what reads the stage before starts silent
            dvt_shipped.begin(stage.vit, side.finished(study, SEED, f"dense {grid}x{grid}").vit, grid)
    else:
        net.init_from(dense.vit)
    return net


def trained(study: side.Study, name: str) -> tuple[torch.nn.Module, dict]:
    """A net, and what its training took."""
    if name in READY:
        net = side.finished(study, SEED, READY[name])
        return net, {"passes": study.passes, "batch": study.recipe.batch, "seconds": net.facts["metrics"]["seconds"],
                     **side.origin(net.facts)}
    net, seconds, taught = begun(study, name), 0.0, {}
    if name == "spvit":
        taught["teacher"] = side.finished(study, SEED, READY["dense"])
    for stretch, steps in enumerate(STEPS[name]):
        recipe = replace(PRUNING if name in side.PRUNED else RECIPE, steps=steps, **({"lr": SECOND_LR} if stretch else {}))
        if stretch:
            net.settle()
        seconds += finish(net, study.data("train", SEED), recipe, RUNS / f"{name}-{stretch}", **taught).seconds.iloc[-1]
    each = study.joint.get(name, (1,))[0]
    return net, {"passes": sum(STEPS[name]) * each, "batch": RECIPE.batch, "seconds": seconds,
                 "trained_on": facts()["hardware"], "trained_commit": commit(DIGITS)}


def recipe_of(study: side.Study, name: str) -> dict:
    """As the file tells it; steps of a stretch after the other."""
    if name in READY:
        return asdict(replace(study.recipe, steps=study.passes))
    return asdict(PRUNING if name in side.PRUNED else RECIPE) | {"steps": STEPS[name]}


def ship(study: side.Study, name: str) -> None:
    """One net, its file and its table."""
    net, told = trained(study, name)
    net = deepcopy(net).half().float().eval()                           # what is judged is what is shipped
    side.settled(net, study.data("held out", SEED), SEED, RUNS / "assigner", SHARES, KEEPS)
    rows = [{"method": name, "backbone": study.backbone, "point": str(point), **asdict(point), "top1": 100 * table.correct.mean(),
             "gmacs": table.gmacs.mean(), "gmacs_sd": table.gmacs.std(), "n": len(table), "data": "cifar10", "seed": SEED, **told}
            for point, table in zip(net.points, at_points(net, study.data("test", SEED), net.points))]
    table = pd.DataFrame(rows)
    print(table[["method", "point", "top1", "gmacs"]].round(4).to_string(index=False), told, flush=True)
    vitlab.save(deepcopy(net).half(), DATA / "checkpoints" / f"{name}_cifar10.safetensors", seed=SEED, data="cifar10", **told,
                recipe=recipe_of(study, name), top1={row.point: round(row.top1, 2) for row in table.itertuples()},
                made_by=f"python benchmarks/cifar10.py uoft-cs/cifar10 {name}")
    write(table, DATA / "results" / f"cifar10_{name}_points.csv")


def main(source: str = "uoft-cs/cifar10", *names: str) -> None:
    torch.set_num_threads(1)
    study = replace(side.STUDIES["cifar10"], source=source)
    for name in names or (*READY, *STEPS):
        ship(study, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
