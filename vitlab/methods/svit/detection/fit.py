"""Training of detectors: `vitlab.fit`'s own step, order and schedule, on pictures with boxes and masks.

First a dense detector, then a sparse one that starts from it (`Detector.init_from`) at a tenth of the rate, as the paper does.
"""
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

from vitlab.data.detection import DetectionSet
from vitlab.methods.svit.detection.detector import Detector
from vitlab.methods.svit.detection.precision import average_precision, needed
from vitlab.recipe import Recipe
from vitlab.train import folder
from vitlab.train.batches import own_randomness
from vitlab.train.loop import ROWS, bar, ctrl_c, update
from vitlab.train.processes import processes, visiting
from vitlab.train.run import check, prepare, trained

LEFT_OUT = ("mixup", "cutmix", "label_smoothing", "ema", "precision", "workers", "same_draw")     # of a Recipe


def train(detector: Detector, data: DetectionSet, recipe: Recipe, *, val: DetectionSet | None = None,
          out: str | Path | None = None) -> pd.DataFrame:
    """Train a detector in place, on the device that accelerate finds; it comes back to its own, in evaluation mode.

    Returns a row per log interval, as `vitlab.fit` does; with `val`, the last row also has val_box_ap and val_mask_ap (see
    `precision`), at the net's own point.  out: a file written once the run is finished, see `Detector.save`.
    Ctrl-C ends the run after its step: the history so far is returned, `.attrs["note"]` says so, and nothing is written.
    Raises ValueError for data or a recipe that do not fit a detector, FloatingPointError for a loss that is not finite,
    ImportError where `val` is given without the extra `dense`.
    """
    accelerator = processes()
    if accelerator.num_processes > 1:
        raise ValueError("a detector is trained by one process; start one, and set CUDA_VISIBLE_DEVICES to choose its GPU")
    data = fitting(detector, data, recipe)
    if val is not None:
        needed()
        val = val.for_net(detector).labelled(detector.classes)
    with visiting(accelerator.device, detector), own_randomness(accelerator.device), ctrl_c(1) as asked:
        run = prepare(accelerator, detector, data, recipe, None)
        steps(run, asked)
        if run.progress.step == run.total and val is not None:
            scores = average_precision(detector, val).set_index("kind").ap
            run.progress.rows[-1] |= {f"val_{kind}_ap": score for kind, score in scores.items()}
    frame = pd.DataFrame(run.progress.rows)
    if run.progress.step < run.total:
        frame.attrs["note"] = f"stopped by Ctrl-C after step {run.progress.step} of {run.total}; nothing was written"
    elif out is not None:
        detector.save(out, recipe=asdict(recipe), data=data.name, history=run.progress.rows)
    return frame


def fitting(detector: Detector, data: DetectionSet, recipe: Recipe) -> DetectionSet:
    """The training set as the detector wants it; ValueError, in one sentence, for one that it cannot be trained on."""
    if not isinstance(data, DetectionSet):
        raise TypeError(f"a detector learns from a DetectionSet, not a {type(data).__name__}; make one with vitlab.data.objects")
    usual = Recipe(steps=1)
    if other := [name for name in LEFT_OUT if getattr(recipe, name) != getattr(usual, name)]:
        raise ValueError(f"a detector is trained without {other[0]}; leave it as it is in Recipe()")
    check(data, recipe, 1)
    return data.for_net(detector).labelled(detector.classes)


def steps(run, asked: list) -> None:
    """Step after step to the end, or to the end of the step in which Ctrl-C was pressed."""
    device, every = run.accelerator.device, run.recipe.log_every or max(1, run.total // ROWS)
    for parameter in trained(run.method):
        parameter.grad = torch.zeros_like(parameter)
    run.method.train()
    stop = False
    with bar(run) as shown:
        while run.progress.step < run.total and not stop:
            clock = perf_counter()
            images, targets = run.batches[run.progress.step]
            targets = [{name: tensor.to(device) for name, tensor in target.items()} for target in targets]
            loss, stop = update(run, lambda *pair: pair, images.to(device), targets, None, asked)
            run.progress.seconds += perf_counter() - clock
            if stop or run.progress.step == run.total or run.progress.step % every == 0:
                run.progress.rows.append(folder.row(run, folder.merged(run)))
                run.progress.open = {}
            shown.set_postfix({"loss": f"{loss:.3f}"}, refresh=False)
            shown.update()
    run.optimizer.zero_grad()


# The authors', whose rate falls in steps: of the dense detector, and of the sparse one that starts from it.
DENSE_RECIPE = Recipe(epochs=36, batch=16, lr=1e-4, weight_decay=0.05, warmup=0.005)
RECIPE = replace(DENSE_RECIPE, epochs=6, lr=1e-5, min_lr=1e-6, weight_decay=1e-6)
