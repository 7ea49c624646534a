"""All methods beside the dense nets: one backbone, the same pictures, equally many training passes.

    python benchmarks/side_by_side.py shapes [0,1,2] [jobs]                         trains what is not trained yet, and judges it
    python benchmarks/side_by_side.py cifar10 [0] [jobs] [folder or hub name] [passes]       the same on real pictures
    python benchmarks/side_by_side.py cifar10 train SEED NET [folder or hub name] [passes]   one net of it, no judging
    python benchmarks/side_by_side.py speed [shapes|cifar10]                        times seed 0's nets; wants a quiet machine

A pass is one batch through one of a method's nets, forwards and backwards: a dense step has one, a step of ReViT or DVT as many
as there are lengths or exits, a SuperViT step four. SPViT and SViT spend half of theirs on the dense net from which they start;
what SPViT's teacher says is not counted, nor is ReViT's assigner. Every method has the recipe and knobs of its own study.
Thresholds and factors are found on pictures of their own; all are judged on test pictures of which no choice has seen one.
jobs: processes at once. Finished runs are kept under runs/side_by_side, and may be brought there from another machine. Writes
data/results/side_by_side_<set>_points.csv (accuracy and cost of every point), ..._hard.csv (do methods spend more on the same
pictures?) and ..._kept.csv (do they keep the same patches?); cifar10.py makes nets to be shipped. speed writes ..._speed.csv.
"""
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import revit_small
import spvit_small
import supervit_small
import torch
from finish import finish

import vitlab
from vitlab import budget, lengths
from vitlab.measure import agreement, exits, latency_race, race, write
from vitlab.measure.answers import at_points
from vitlab.measure.records import DATA, DIGITS
from vitlab.methods import spvit, supervit, svit

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KEEPS = (0.5, 0.6, 0.7)                                     # of SViT's tokens
PLANS, TRACED, BATCH = 8, 200, 32                           # thresholds of a cascade, pictures traced, timed
PRUNED, START, STRETCHES = ("spvit", "svit"), "start", 2


@dataclass(frozen=True)
class Study:
    """On what, with which net, for how long."""

    name: str
    backbone: str
    size: int
    grids: tuple[int, ...]                                  # of dense nets, DVT and ReViT, the largest first
    passes: int
    recipe: vitlab.Recipe
    lr_backbone: float                                      # of SPViT and SViT
    source: str = ""
    supervit: dict = field(default_factory=dict)            # knobs
    ladder: tuple = ()                                      # points of "supervit + exits"
    shares: tuple[float, ...] = (0.5, 0.65, 0.8)            # of SPViT's cost

    @cached_property
    def pictures(self) -> dict:
        """CIFAR-10's, by split: a tenth of the training pictures, the same for everybody, is held out."""
        whole = vitlab.data.load(self.source, image_size=self.size, augment=vitlab.data.PaddedCrop())
        train, held = whole.split(0.1)
        return {"train": train, "held out": held, "test": vitlab.data.load(self.source, "test", image_size=self.size)}

    def data(self, part: str, seed: int):
        if self.name != "shapes":
            return self.pictures[part]
        return {"train": lambda: vitlab.data.shapes("train", seed=seed),
                "held out": lambda: vitlab.data.shapes("train", n=2000, seed=seed + 200),
                "test": lambda: vitlab.data.shapes("test", n=4000, seed=seed)}[part]()

    @property
    def joint(self) -> dict[str, tuple[int, dict]]:
        """Passes of a step and knobs of the methods that are trained from nothing."""
        return {"supervit": (4, self.supervit), "dvt": (len(self.grids), {"grids": self.grids[::-1]}),
                "revit": (len(self.grids), {"lengths": self.grids}), "adaptive_depth": (1, {})}

    @property
    def names(self) -> list[str]:
        """What is trained, SPViT's and SViT's start first."""
        return [START, *self.joint, *(f"dense {grid}x{grid}" for grid in self.grids), *PRUNED]


STUDIES = {
    "shapes": Study("shapes", "micro_patch8", 56, (7, 5, 4), 2600, supervit_small.RECIPE, 2e-4,
                    supervit={"drop_blocks": (1, 2, 3)}, ladder=((4, 0.5), (5, 0.7), (7, 1.0)),
                    shares=(0.65, 0.75, 0.85)),             # the stem alone is half of such a net
    "cifar10": Study("cifar10", "micro_patch4", 32, (8, 6, 4), 4530, replace(
        supervit_small.RECIPE, batch=256, label_smoothing=0.1, workers=int(DEVICE == "cuda")), 5e-4, source="cifar10",
        ladder=((5, 0.5), (6, 0.7), (8, 1.0))),
}


def train(study: Study, seed: int, name: str, stretch: int, net: torch.nn.Module, teacher=None) -> None:
    told = {} if teacher is None else {"teacher": teacher}
    finish(net, study.data("train", seed), recipe_of(study, seed, name, stretch), folder(study, seed, name, stretch), **told)


def folder(study: Study, seed: int, name: str, stretch: int = -1) -> Path:
    """Of a run; of the last one where a net has several."""
    stretch = f"-{stretch % STRETCHES}" if name in PRUNED else ""
    return Path("runs/side_by_side") / f"{study.name}-{study.passes}" / str(seed) / f"{name.replace(' ', '_')}{stretch}"


def recipe_of(study: Study, seed: int, name: str, stretch: int = -1) -> vitlab.Recipe:
    """A pruned net has the passes that its start has left, the last third of them deciding as at test time."""
    recipe = replace(study.recipe, seed=seed)
    if name not in PRUNED:
        return replace(recipe, steps=study.passes // (2 if name == START else study.joint.get(name, (1,))[0]))
    rest = study.passes - study.passes // 2
    steps, lr = ((2 * rest // 3, spvit_small.RECIPE.lr), (rest - 2 * rest // 3, spvit_small.SECOND_LR))[stretch]
    return replace(recipe, steps=steps, lr=lr, lr_backbone=study.lr_backbone)


def finished(study: Study, seed: int, name: str) -> torch.nn.Module:
    """Anybody, trained: as the folder holds it if its run has ended, else trained now.

    `fit` would hold the folder while it looks, so that two who start from one net could not do so at once; and it would refuse
    what was trained elsewhere, where other versions draw other first weights.
    """
    last, wished = folder(study, seed, name) / "last.safetensors", recipe_of(study, seed, name)
    if not (last.exists() and ended(net := vitlab.load(last), wished)):
        net_of(study, seed, name)
        net = vitlab.load(last)
    return net


def ended(net: torch.nn.Module, wished: vitlab.Recipe) -> bool:
    """Is this the last checkpoint of a run by such a recipe?"""
    free = {"workers": 0, "log_every": None}
    recipe = vitlab.Recipe(**{**net.facts["recipe"], "betas": tuple(net.facts["recipe"]["betas"])})
    return net.facts["step"] == wished.steps and replace(recipe, **free) == replace(wished, **free)


def made(study: Study, seed: int, method: str, **knobs) -> torch.nn.Module:
    torch.manual_seed(seed)
    return vitlab.create(method, study.backbone, num_classes=10, image_size=study.size, **knobs)


def net_of(study: Study, seed: int, name: str) -> None:
    """Train anybody into its folder."""
    if name in PRUNED:
        pruned(study, seed, name)
    elif name in study.joint:
        train(study, seed, name, -1, made(study, seed, name, **study.joint[name][1]))
    else:
        grid = study.grids[0] if name == START else int(name.split("x")[-1])
        train(study, seed, name, -1, made(study, seed, "dense", grid=grid))


def pruned(study: Study, seed: int, method: str) -> None:
    """SPViT or SViT: half of the passes for the dense net, half from it on."""
    start = finished(study, seed, START)
    whole = dense_cost(study, start)
    knobs = {"budget": study.shares[0] * whole, "lambda_ratio": 20.0} if method == "spvit" else {"keep": KEEPS[0]}
    net = made(study, seed, method, **knobs)
    net.init_from(start.vit)
    for stretch in range(STRETCHES):
        if stretch:
            net.settle()
        train(study, seed, method, stretch, net, start if method == "spvit" else None)


def dense_cost(study: Study, net: torch.nn.Module) -> float:
    return vitlab.gmacs(net, torch.zeros(1, 3, study.size, study.size))[0]


def settled(net: torch.nn.Module, held, seed: int, kept: Path, shares, keeps=KEEPS) -> torch.nn.Module:
    """With thresholds, factors and an assigner of pictures that it was not trained on; kept: where the assigner's run is."""
    if net.made["method"] == "spvit":
        spvit.calibrate(net, held, [share * net.work.dense for share in shares])
    elif net.made["method"] == "svit":
        svit.calibrate(net, held, list(keeps))
    elif hasattr(net, "set_thresholds"):
        known = exits(net, held)
        plans = budget.curve(known, np.geomspace(known.cost[0], known.cost[-1], PLANS + 2)[1:-1])
        net.set_thresholds([plan.thresholds for plan in plans] + [(1.0,) * (len(known.cost) - 1)])
    elif net.made["method"] == "revit":
        labelled = lengths.make_labels(held, lambda _: net)
        torch.manual_seed(seed)
        tla, _ = lengths.train_assigner(labelled, replace(revit_small.TLA, seed=seed), out=kept)
        net.attach(tla)
    return net.eval()


def nets(study: Study, seed: int) -> dict[str, torch.nn.Module]:
    """Everybody, by name, trained."""
    held, kept = study.data("held out", seed), folder(study, seed, "assigner")
    found = {name: settled(finished(study, seed, name).to(DEVICE), held, seed, kept, study.shares)
             for name in study.names if name != START}
    found["supervit + exits"] = vitlab.EarlyExit(found["supervit"], tuple(supervit.Point(*point) for point in study.ladder))
    return {name: net.to(DEVICE) for name, net in found.items()}


def judged(study: Study, seed: int) -> tuple[pd.DataFrame, ...]:
    """One seed: a row per net and point, per pair of nets whose images differ in cost, per pair and block."""
    test, everybody, rows, spent = study.data("test", seed), nets(study, seed), [], {}
    for name, net in everybody.items():
        from_where = origin(getattr(net, "facts", everybody["supervit"].facts))     # "supervit + exits" has none of its own
        for point, table in zip(net.points, at_points(net, test, net.points)):
            rows.append({"seed": seed, "method": name, "point": str(point), "top1": 100 * table.correct.mean(),
                         "gmacs": table.gmacs.mean(), "gmacs_sd": table.gmacs.std(), "n": len(table), "passes": study.passes,
                         **from_where, **asdict(point)})
            if table.gmacs.std() > spent.get(name, (1e-6 * table.gmacs.mean(), 0))[0]:
                spent[name] = table.gmacs.std(), table.gmacs            # at the point where images differ most
        print(f"seed {seed}, {name}: {max(row['top1'] for row in rows if row['method'] == name):.1f}", flush=True)
    hard = [{"seed": seed, "a": a, "b": b, "rank_correlation": spent[a][1].corr(spent[b][1], method="spearman")}
            for a, b in combinations(spent, 2)]
    if "size" in test.columns:
        size = pd.Series(test.columns["size"])
        hard += [{"seed": seed, "a": name, "b": "object size", "rank_correlation": cost.corr(size, method="spearman")}
                 for name, (_, cost) in spent.items()]
    return pd.DataFrame(rows), pd.DataFrame(hard), kept(study, everybody, test).assign(seed=seed)


def origin(facts: dict) -> dict[str, str]:
    """Where a checkpoint was trained and by which commit, -dirty where files differed from it."""
    told = facts.get("commit", "unknown")
    return {"trained_on": f"{facts.get('trained_on') or 'unknown'}, torch {facts['versions']['torch']}",
            "trained_commit": told[:DIGITS] + "-dirty" * told.endswith("-dirty")}


@torch.inference_mode()
def kept(study: Study, everybody: dict, test) -> pd.DataFrame:
    """Who keeps which patches, at the points that keep about half of them."""
    images, traces = test.sample(TRACED).images(slice(None)).to(DEVICE), {}
    for name, point in (("supervit", supervit.Point(study.grids[0], 0.7)), ("spvit", None), ("svit", None)):
        traces[name] = vitlab.Trace()
        everybody[name](images, point, traces[name])
    return agreement(traces)


def speed(name: str = "shapes") -> None:
    """Images per second in batches, milliseconds of one picture, of seed 0's nets, all in turns."""
    study = STUDIES[name]
    test, everybody = study.data("test", 0), nets(study, 0)
    entries = {f"{name}|{point}": (net, point) for name, net in everybody.items() for point in net.points}
    images = test.sample(BATCH).images(slice(None)).to(DEVICE)
    table = race(entries, images, rounds=15)
    alone = latency_race(entries, images[:1]).set_index("name")
    table = table.assign(latency_ms=table.name.map(alone.median_ms), latency_p90_ms=table.name.map(alone.p90_ms))
    table[["method", "point"]] = table.name.str.split("|", n=1, expand=True)
    write(table.drop(columns="name"), DATA / "results" / f"side_by_side_{study.name}_speed.csv", DEVICE)
    print(table[["method", "point", "images_per_s", "speed_up", "latency_ms"]].round(3).to_string(index=False))


def at_once(study: Study, seeds: list[int], jobs: int) -> None:
    """All runs in processes of their own; SPViT and SViT wait for their start."""
    with ThreadPoolExecutor(jobs) as pool:
        begun = {}

        def run(seed: int, name: str) -> None:
            if name in PRUNED:
                begun[seed, START].result()
            command = [sys.executable, __file__, study.name, "train", str(seed), name, study.source, str(study.passes)]
            subprocess.run(command, check=True)

        for name in study.names:
            for seed in seeds:
                begun[seed, name] = pool.submit(run, seed, name)
    for one in begun.values():
        one.result()


def main(name: str = "shapes", *told: str) -> None:
    torch.set_num_threads(1)
    if name == "speed":
        return speed(*told)
    study = STUDIES[name]
    if told[:1] == ("train",):
        seed, which, source, passes = [*told[1:], study.source, study.passes][:4]
        net_of(replace(study, source=source, passes=int(passes)), int(seed), which)
        return
    seeds, jobs, source, passes = [*told, *("0,1,2" if name == "shapes" else "0", "1", study.source, study.passes)[len(told):]]
    study, seeds = replace(study, source=source, passes=int(passes)), [int(seed) for seed in seeds.split(",")]
    if int(jobs) > 1:
        at_once(study, seeds, int(jobs))
    print("trained; judging", flush=True)
    parts = zip(*(judged(study, seed) for seed in seeds), strict=True)
    for name, frame in zip(("points", "hard", "kept"), (pd.concat(part, ignore_index=True) for part in parts), strict=True):
        write(frame, DATA / "results" / f"side_by_side_{study.name}_{name}.csv", DEVICE)
        print(frame.drop(columns="seed").groupby(list({"points": ["method", "point"], "hard": ["a", "b"],
              "kept": ["a", "b", "layer"]}[name]), sort=False).mean(numeric_only=True).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
