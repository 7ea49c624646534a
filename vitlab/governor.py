"""The governor: the best operating point that still keeps a promise of speed, whatever else the machine does (SuperViT, 3.3).

One set of weights has many speeds, so a net under load can go on answering in time by answering more simply, without loading
another. What each point reaches on a quiet machine is measured once (`vitlab.sweep`); from then on every batch tells how much
slower the machine is now, and the point follows; and so do the threads, which collapse where they wait for each other beside
another process (see `vitlab.threads`).
"""
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.evaluation import check_net
from vitlab.measure.speed import synchronise
from vitlab.numbers import real
from vitlab.threads import Threads

RECENT = 1.0        # seconds of batches of which the slowness is taken, the batch before them included
ENOUGH = 3          # batches on as many threads as now that say how slow the machine is
MARGIN = 0.05       # by which a point must promise more than is asked, so that noise does not break the promise
UP = 0.08           # the same of a more accurate point than the one that answers, which itself needs none: they would take turns


@dataclass(frozen=True)
class Step:
    """What the governor did with one batch."""

    seconds: float          # when it was answered, since the first
    point: Any              # how
    took: float             # seconds
    images: int
    slower: float           # how many times slower than on the quiet machine, of late
    threads: int            # of torch's: as many as pay


class Governor:
    """A method that is called like one and chooses its own point.

    table: what the points reach on this device when nothing else runs, in batches like those to come, as
    `vitlab.sweep(method, data, batch=8)` returns it.
    images_per_s: what is to be reached; or milliseconds: what a batch may take. patience: seconds between two switches at least.
    Its doings are in `.steps`. Raises ValueError for a table of another method or a promise that is none.
    """

    def __init__(self, method: nn.Module, table: pd.DataFrame, *, images_per_s: float | None = None,
                 milliseconds: float | None = None, patience: float = 1.0, clock: Callable[[], float] = perf_counter):
        check_net(method)
        if (images_per_s is None) == (milliseconds is None):
            raise ValueError("give either images_per_s, a throughput to reach, or milliseconds, that a batch may take")
        self.method, self.clock = method, clock
        self.known = known(method, table)
        self.target = None if images_per_s is None else real(images_per_s, "images_per_s", 1e-9)
        self.limit = None if milliseconds is None else real(milliseconds, "milliseconds", 1e-9) / 1000
        self.patience, self.slower = real(patience, "patience"), deque()      # of late: (when, took, seconds on a quiet machine)
        fixed = next(method.parameters()).device.type != "cpu" or torch.are_deterministic_algorithms_enabled()
        self.threads = Threads(torch.get_num_threads(), fixed, lambda count: self.slower.clear(), clock, in_a_row=2)
        self.before = 1.0                               # how slow the machine was before a trial of threads began
        self.steps: list[Step] = []
        self.began = self.switched = None
        self.point: Any = None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits [B, K] of images [B, 3, S, S], at the point that is right now."""
        begin = self.clock()
        self.began = begin if self.began is None else self.began
        self.choose(begin, len(images))
        threads, most = self.threads.now, torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            logits = self.method(images, self.point)
            synchronise(logits.device)
        finally:
            torch.set_num_threads(most)
        end = self.clock()
        alone = len(images) / self.known[self.point][1]
        self.slower.append((end, end - begin, alone))
        while len(self.slower) > 1 and self.slower[1][0] < end - RECENT:
            self.slower.popleft()
        self.steps.append(Step(end - self.began, self.point, end - begin, len(images), self.now, threads))
        if not self.threads.fixed:
            self.before = self.now
            self.threads.told((end - begin) / alone)        # points differ in time, but not in how much slower they are
        return logits

    @property
    def now(self) -> float:
        """How many times slower the machine is than it was when the table was measured: the time that the last batches took over
        what they would have taken. Not a median: beside another process most are in time and some wait for their turn."""
        if self.threads.trial is not None:                                     # what another number of threads takes says little
            return self.before
        if len(self.slower) < ENOUGH and isfinite(self.threads.score):
            return self.threads.score                                          # of their trial, in which they were the fastest
        return sum(took for _, took, _ in self.slower) / sum(alone for *_, alone in self.slower) if self.slower else 1.0

    def choose(self, time: float, batch: int) -> None:
        """The most accurate point that keeps the promise at today's speed, else the fastest; not before patience is over."""
        if self.switched is not None and time - self.switched < self.patience:
            return
        best = self.best(batch)
        if best != self.point:
            self.point, self.switched = best, time

    def best(self, batch: int) -> Any:
        """Which point is right for batches of this size, as slow as the machine is now."""
        asked = (self.target if self.limit is None else batch / self.limit) * self.now
        able = [point for point, (_, speed) in self.known.items() if speed >= asked * (1 + self.margin(point))]
        return max(able, key=lambda point: self.known[point]) if able else max(self.known, key=lambda point: self.known[point][1])

    def margin(self, point: Any) -> float:
        """By how much this point must promise more than is asked."""
        if point == self.point:
            return 0.0
        return UP if self.point is not None and self.known[point] > self.known[self.point] else MARGIN

    def history(self) -> pd.DataFrame:
        """A row per batch: seconds, point, took, images, slower, threads."""
        return pd.DataFrame([vars(step) | {"point": str(step.point)} for step in self.steps])


def known(method: nn.Module, table: Any) -> dict[Any, tuple[float, float]]:
    """Points of a method -> (top1, images per second on the quiet machine); ValueError for a table that does not say so."""
    if not isinstance(table, pd.DataFrame) or not {"point", "top1", "images_per_s"} <= set(table.columns):
        raise ValueError("the table must have the columns point, top1 and images_per_s, as vitlab.sweep(method, data) returns it")
    rows = {str(row.point): (float(row.top1), float(row.images_per_s)) for row in table.itertuples()}
    found = {point: rows[str(point)] for point in method.points if str(point) in rows}
    if not found or not all(speed > 0 for _, speed in found.values()):
        raise ValueError(f"no row of the table is an operating point of this {type(method).__name__} with a speed; measure it "
                         "with vitlab.sweep(method, data)")
    return found
