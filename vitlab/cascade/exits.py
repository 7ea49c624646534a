"""Early exit: an image leaves a cascade at the first stage that is sure enough, and nothing after that stage is computed for it.

A stage is a function (images [b, 3, S, S], carry, trace) -> (logits [b, K], carry). The carry is what a stage hands on to the
next; `carry[rows]` follows the images that stay. Every cascade of vitlab runs through `run`.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import inf, log
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlab.numbers import plain, whole
from vitlab.trace import Trace, check_trace

EVEN = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)                # one threshold for all exits, until a search finds better ones
MOST = 1000                 # exits
Stage = Callable[[Tensor, Any, Trace | None], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Point:
    """One threshold per exit but the last, or one for all: leave as soon as an exit is at least this sure. 0 = always,
    1 = never. None: nobody leaves early, however many exits there are."""

    thresholds: tuple[float, ...] | float | None = None

    def __post_init__(self):
        object.__setattr__(self, "thresholds", plain(self.thresholds))


def confidence(logits: Tensor, images: Tensor, stage: int) -> Tensor:
    """The largest softmax probability, [b, K] -> [b] (DVT Sec. 3.3)."""
    return logits.float().softmax(-1).amax(-1)


def entropy(logits: Tensor, images: Tensor, stage: int) -> Tensor:
    """1 - H(p) / log K: 1 for a certain answer, 0 for a uniform one, [b, K] -> [b] (DVT Table 9)."""
    p = logits.float().softmax(-1)
    return (1 + torch.special.xlogy(p, p).sum(-1) / log(max(p.shape[-1], 2))).clamp(0, 1)


def random(logits: Tensor, images: Tensor, stage: int) -> Tensor:
    """A lot in [0, 1) that every picture draws from its own pixels, so that it draws the same in every batch (DVT Table 9).

    NaN where the answer is, as the other criteria have it.
    """
    bits = images.float().contiguous().view(torch.int32).flatten(1).long()
    salt = torch.arange(1, bits.shape[1] + 1, device=bits.device) * 2654435761 + stage
    lot = (bits * salt).sum(1).remainder(1 << 24).float() / (1 << 24)
    return lot.masked_fill(logits.isnan().any(-1), float("nan"))


CRITERIA = {"confidence": confidence, "entropy": entropy, "random": random}


def check(thresholds: Sequence[float] | float | None, exits: int) -> tuple[float, ...]:
    """Thresholds of a cascade with this many exits, a number being all of them and None 1.0.

    Raises ValueError for a wrong number of them or one outside [0, 1].
    """
    exits = whole(exits, "exits", 1, MOST)
    given = 1.0 if thresholds is None else plain(thresholds)
    found = given if isinstance(given, tuple) else (given,) * (exits - 1)
    if len(found) != exits - 1:
        raise ValueError(f"{exits} exits need {exits - 1} thresholds, one for each but the last, not {len(found)}")
    if bad := [t for t in found if not isinstance(t, Real) or isinstance(t, bool) or not 0 <= t <= 1]:
        raise ValueError(f"a threshold must be in [0, 1], not {bad[0]!r}; 0 leaves at once, 1 never")
    return found


def stop_at(stage: int, exits: int) -> tuple[float, ...]:
    """The thresholds with which every image leaves at this stage, counted from 0; ValueError for one that is not there."""
    exits = whole(exits, "exits", 1, MOST)
    stage = whole(stage, "stage", 0, exits - 1)
    return (1.0,) * stage + (0.0,) * (exits - 1 - stage)


def leaves(score: Tensor, threshold: float) -> Tensor:
    """Which images [b] leave at an exit: those with score >= threshold, so NaN is not sure; the rule of `budget` on float32.

    torch would round the threshold to float32, perhaps below a score that is smaller than it; it is rounded up here.
    """
    least = np.float32(threshold)
    return score >= float(least if float(least) >= threshold else np.nextafter(least, np.float32(inf)))


def run(stages: Sequence[Stage], images: Tensor, thresholds: Sequence[float], trace: Trace | None = None,
        criterion: str = "confidence") -> Tensor:
    """Logits [B, K]; rows that are sure leave the batch. `trace.exit` [B] is the stage that answered, counted from 0.

    Where an answer is NaN the image stays, and the last exit answers. With thresholds of 0 and 1 alone nothing depends on the
    pictures, so such a point can be exported.
    """
    rows, here, carry = torch.arange(images.shape[0], device=images.device), images, None
    logits, exits = None, torch.zeros_like(rows)
    check_trace(trace)
    for number, stage in enumerate(stages):
        record = None if trace is None else trace.part()
        answer, carry = stage(here, carry, record)
        logits = answer if logits is None else logits.index_copy(0, rows, answer)
        exits.index_fill_(0, rows, number)
        if trace is not None:
            trace.join(record, number, rows, len(images))
        last = number == len(stages) - 1
        if last or thresholds[number] <= 0:
            break
        if thresholds[number] < 1:
            stay = (~leaves(CRITERIA[criterion](answer, here, number), thresholds[number])).nonzero()[:, 0]
            if len(stay) == 0:
                break
            if len(stay) < len(here):
                rows, here, carry = rows[stay], here[stay], None if carry is None else carry[stay]
    if trace is not None:
        trace.exit = exits
    return logits


def outcomes(stages: Sequence[Stage], images: Tensor,
             criterion: str = "confidence") -> tuple[list[Tensor], Callable[[Sequence[float]], Tensor]]:
    """What `run` would answer at any thresholds, from one pass in which no image leaves: the logits [B, K] of every exit, and a
    function that says at which exit each image [B] leaves.
    """
    logits = list(run_all(stages, images))
    scores = [CRITERIA[criterion](part, images, number) for number, part in enumerate(logits[:-1])]

    def which(thresholds: Sequence[float]) -> Tensor:
        left = torch.full((images.shape[0],), len(logits) - 1, device=images.device)
        for number in reversed(range(len(scores))):
            if thresholds[number] < 1:
                sure = leaves(scores[number], thresholds[number]) | (thresholds[number] <= 0)
                left = torch.where(sure, number, left)
        return left

    return logits, which


def straight(stages: Sequence[Stage], number: int, images: Tensor) -> Tensor:
    """The logits [B, K] of one exit, counted from 0: every image goes through the stages up to it, and none further."""
    return next(islice(run_all(stages, images), number, None))


def run_all(stages: Sequence[Stage], images: Tensor) -> Iterator[Tensor]:
    """The logits [B, K] of every exit, no image leaving: what training and the search for thresholds need."""
    carry = None
    for stage in stages:
        logits, carry = stage(images, carry, None)
        yield logits
