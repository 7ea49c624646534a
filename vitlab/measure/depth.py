"""Along the depth: what a method would answer after every block, for one image (the logit lens, on class tokens)."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from math import nan
from operator import attrgetter
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.cascade import CRITERIA
from vitlab.evaluation import checked, in_evaluation
from vitlab.measure.inside import hooked, one_image
from vitlab.measure.speed import check_stop
from vitlab.trace import Trace


@in_evaluation
@torch.inference_mode()
def depth(method: nn.Module, image: Tensor, point: Any = None, *, stop: Callable[[], bool] | None = None) -> pd.DataFrame | None:
    """A row per block that the image went through and class: stage, layer (from 1), class, logit, probability, score, threshold.

    What is read after a block is what the net would answer if no block after it added anything: its last norm and head on the
    class token as it is there. A net that reads its patches too reads those that are left at the end. Of a cascade each stage has
    rows, read by its own classifier (of AdaptiveDepth the one that comes next), so the last row of a stage is what its exit said.
    score is how sure that is by the cascade's criterion, and threshold, in that last row, what an image needs to leave there (NaN
    elsewhere, and at the last exit). `inner` stands beside stage where a stage is a cascade itself.
    image [3, S, S] or [1, 3, S, S], normalised. As many passes as blocks; `stop()` is asked between them, and once it says True
    the answer is None. Raises ValueError for more than one image.
    """
    check_stop(stop)
    image = one_image(method, image, "depth")
    trace, rows = Trace(), []
    method(image, point, trace)
    ends = {part.stage: part for part in trace.layers}                     # the last block before each exit
    sure = CRITERIA[getattr(method, "criterion", "confidence")]
    for stages, parts in groupby(trace.layers, attrgetter("stages")):
        parts = list(parts)
        path = partial(method, point=point) if trace.exit is None else method.through(stages)
        with silent_after(method, None) as passed:
            path(image)
        for number, part in enumerate(parts):
            if stop is not None and stop():
                return None
            with silent_after(method, passed.blocks - len(parts) + number + 1):
                logits = path(image)
            needs = threshold(method, point, part.stage) if part is ends[part.stage] else nan
            rows.append(pd.DataFrame({
                **part.place, "class": range(logits.shape[1]), "logit": logits[0].float().cpu(),
                "probability": logits[0].float().softmax(-1).cpu(), "score": float(sure(logits, image, part.stage)),
                "threshold": needs}))
    return pd.concat(rows, ignore_index=True)


class Passed:
    """How many blocks have run."""

    def __init__(self) -> None:
        self.blocks = 0


@contextmanager
def silent_after(method: nn.Module, count: int | None) -> Iterator[Passed]:
    """Of the blocks that run, whichever they are, only the first `count` add anything to the tokens (None: all)."""
    passed = Passed()

    def begin(part: nn.Module, given: tuple, update: Tensor) -> Tensor | None:
        passed.blocks += 1
        return end(part, given, update)

    def end(part: nn.Module, given: tuple, update: Tensor) -> Tensor | None:
        return torch.zeros_like(update) if count is not None and passed.blocks > count else None

    with hooked(method, lambda block: (block.drop_path1.register_forward_hook(begin),
                                       block.drop_path2.register_forward_hook(end))):
        yield passed


def threshold(method: nn.Module, point: Any, stage: int) -> float:
    """What an image needs to leave at this exit, counted from 0; NaN at the last one, and where no threshold decides."""
    point = checked(method, point)
    needs = getattr(point, "thresholds", getattr(point, "threshold", ()))
    if isinstance(needs, tuple):
        return float(needs[stage]) if stage < len(needs) else nan
    return float(needs) if needs is not None and stage < len(method.stages) - 1 else nan
