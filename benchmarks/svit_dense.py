"""What becomes of a detector when its backbone leaves tokens out, on made pictures.  python benchmarks/svit_dense.py [seed ...]

A dense detector is trained first, from nothing. Its patches are linear: what a patch knows of its neighbours it has learnt in the
blocks that gates can leave out; behind a stem of convolutions even gates that know nothing cost next to nothing. From it every
variant goes on for equal steps at a tenth of the rate, the dense one too; gates, which start from nothing, learn faster, and
decide for the last third of the steps as they will at test time. Where the detector is `frozen` gates alone learn, and gates that
know nothing learn nothing. All that leave tokens out let the same shares take part. Seeds are of weights, order and pictures.
Thresholds are found on pictures of their own; average precision, usage and speed are of test pictures that no choice has seen.
A run is kept under runs/ when it is finished and read again; an interrupted one begins again.
Writes data/results/svit_dense_points.csv, svit_dense_blocks.csv and svit_dense_speed.csv once all seeds asked for are done, and
data/checkpoints/svit_objects.safetensors.
"""
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vitlab
from vitlab.measure import by_region, fate, write
from vitlab.measure.records import DATA
from vitlab.methods.svit import Point, calibrate
from vitlab.methods.svit.detection import Detector, average_precision, load, pace, train

RUNS = Path("runs/svit_dense")
BACKBONE, SIDE = "micro_plain8", 96
PICTURES, HELD_OUT, TESTED, CHANNELS, KEEP = 2_000, 1_000, 300, 48, 0.3
DENSE = vitlab.Recipe(steps=500, batch=8, lr=2e-3, lr_backbone=1e-3, weight_decay=0.05, clip=5.0)
SPARSE, SECOND_LR = replace(DENSE, steps=80, lr=1e-2, lr_backbone=2e-4), 2e-3     # before decisions settle, and after
SHIPPED = 0, "return"                                       # seed and variant
VARIANTS = {                                                # knobs, and whether every picture keeps the same number at test time
    "dense": (None, False), "return": ({}, False), "inherit": ({"pruned": "inherit"}, False),
    "discard": ({"pruned": "discard"}, False), "fixed rate": ({"rate": "image"}, True), "random": ({"gate": "random"}, True),
    "return, frozen": ({}, False), "random, frozen": ({"gate": "random"}, True),
}


def fresh(classes: list[str], knobs: dict | None) -> Detector:
    """An untrained detector."""
    method, told = ("dense", {}) if knobs is None else ("svit", {"keep": KEEP, **knobs})
    return Detector(vitlab.create(method, BACKBONE, num_classes=10, image_size=SIDE, **told), classes, CHANNELS)


def finished(detector: Detector, data, recipe: vitlab.Recipe) -> None:
    """Train, or end the script where Ctrl-C ended the run."""
    history = train(detector, data, recipe)
    if "note" in history.attrs:
        raise SystemExit(history.attrs["note"])
    print(f"seed {recipe.seed}: {history.step.iloc[-1]:.0f} steps, {history.seconds.iloc[-1]:.0f} s", flush=True)


def made(seed: int, name: str, dense_steps: int = DENSE.steps, steps: int = SPARSE.steps) -> Detector:
    """A variant, trained and calibrated; "start" is the dense detector that all begin from."""
    path = RUNS / str(seed) / f"{name.replace(' ', '_')}.safetensors"
    if path.exists():
        return load(path)
    data = vitlab.data.objects("train", size=SIDE, n=PICTURES, seed=seed)
    torch.manual_seed(seed)
    if name == "start":
        detector = fresh(data.classes, None)
        finished(detector, data, replace(DENSE, steps=dense_steps, seed=seed))
    else:
        knobs, fixed = VARIANTS[name]
        detector = fresh(data.classes, knobs)
        detector.init_from(made(seed, "start", dense_steps, steps))
        tune(detector, data, seed, steps, name.endswith("frozen"))
        if knobs is not None and not fixed:
            calibrate(detector.net, vitlab.data.objects("val", size=SIDE, n=HELD_OUT, seed=seed), [detector.net.keep])
    detector.save(path)
    return detector.eval()


def tune(detector: Detector, data, seed: int, steps: int, frozen: bool) -> None:
    """Train a variant in two stretches, before and after decisions settle; frozen: its gates alone, if they can learn."""
    gates = list(getattr(detector.net, "gates", torch.nn.ModuleList()).parameters())       # none, if they know nothing
    learned = [p for p in detector.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(not frozen)
    for parameter in gates:
        parameter.requires_grad_(True)
    if gates or not frozen:
        finished(detector, data, replace(SPARSE, steps=steps, seed=seed))
        if gates:
            detector.net.settle()
        finished(detector, data, replace(SPARSE, steps=steps // 2, seed=seed + 50, lr=SECOND_LR))
    for parameter in learned:
        parameter.requires_grad_(True)


def row(seed: int, name: str, detector: Detector, point, test) -> dict:
    """One variant on the test pictures."""
    torch.manual_seed(seed)                                 # random gates draw
    scores = average_precision(detector, test, point).set_index("kind")
    told = {f"{kind}_{column}": scores.loc[kind, column] for kind in scores.index for column in ("ap", "ap50", "ap75")}
    where = by_region(detector.net, test, point)
    facts = where.join(pd.DataFrame(test.columns), on="image")
    return {"seed": seed, "variant": name, **told, "gmacs": vitlab.gmacs(detector.net, test.images(slice(100)), point).mean(),
            "used": where.used.mean(), "used_object": where.used_object.mean(), "used_background": where.used_background.mean(),
            "used_sd": where.used.std(), "used_by_objects": rank(facts.used, facts.objects),
            "used_by_size": rank(facts.used, facts["size"]), "n": len(test)}


def rank(one: pd.Series, other: pd.Series) -> float:
    """Rank correlation over pictures; NaN where all of them use the same."""
    return one.corr(other, method="spearman") if one.nunique() > 1 else float("nan")


@torch.inference_mode()
def blocks(seed: int, name: str, detector: Detector, point, test) -> pd.DataFrame:
    """Who is left out of which block, and comes back when."""
    trace = vitlab.Trace()
    torch.manual_seed(seed)
    detector.net(test.images(slice(100)), point, trace)
    return fate(trace).assign(seed=seed, variant=name)


def main(*seeds: str) -> None:
    torch.set_num_threads(1)
    rows, layers, speeds = [], [], []
    for seed in map(int, seeds or ("0", "1", "2")):
        test = vitlab.data.objects("test", size=SIDE, n=TESTED, seed=seed)
        entries = {}
        for name, (knobs, fixed) in VARIANTS.items():
            point = Point(fixed=True) if fixed else None
            entries[name] = made(seed, name), point
            rows.append(row(seed, name, *entries[name], test))
            layers.append(blocks(seed, name, *entries[name], test))
            if (seed, name) == SHIPPED:
                entries[name][0].save(DATA / "checkpoints" / "svit_objects.safetensors", seed=seed, made_by="python benchmarks/"
                                      "svit_dense.py", **{kind: round(rows[-1][kind], 2) for kind in ("box_ap", "mask_ap")})
        speeds += [pace(entries, test, runs=30).assign(seed=seed), pace(entries, test, runs=5, batch=16).assign(seed=seed)]
    table, speed = pd.DataFrame(rows), pd.concat(speeds, ignore_index=True)
    write(table, DATA / "results" / "svit_dense_points.csv")
    write(pd.concat(layers, ignore_index=True), DATA / "results" / "svit_dense_blocks.csv")
    write(speed, DATA / "results" / "svit_dense_speed.csv")
    shown = ["box_ap", "mask_ap", "gmacs", "used_object", "used_background"]
    print(table.groupby("variant", sort=False)[shown].agg(["mean", "std"]).round(3).to_string())
    print(speed.groupby(["batch", "part", "name"], sort=False).speed_up.agg(["mean", "std"]).round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
