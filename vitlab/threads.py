"""As many threads as pay: steps are timed with all of them and with fewer, and what is fastest now is kept.

Threads that wait for each other spin. Where another process has one of the cores, two threads can be ten times slower than one
(see `benchmarks/busy.py`), and no setting tells: it is measured, at the start, from time to time, and when steps become slow.
"""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

TRIAL = 3               # steps with each number of threads; the first, which wakes or rests threads, does not count
HOPELESS = 3.0          # times the best: one step as slow as that is trial enough
SLOW = 1.6              # times what it was when it was chosen: a reason to measure again, for as many steps in a row
IN_A_ROW = 4
HOLD, LONGEST = 20.0, 320.0     # seconds between two trials: twice as many after each that changes nothing


class Threads:
    """How many threads the steps of one run use.

    most: no more than these; with 1, or where they are `fixed`, nothing is tried.
    use: sets the number; clock: seconds; in_a_row: so many slow steps are a reason to measure again.
    """

    def __init__(self, most: int, fixed: bool = False, use: Callable[[int], None] = torch.set_num_threads,
                 clock: Callable[[], float] = perf_counter, in_a_row: int = IN_A_ROW):
        self.most, self.now, self.fixed, self.use, self.clock = most, most, fixed or most == 1, use, clock
        self.in_a_row = in_a_row
        self.hold, self.since, self.late = HOLD, 0.0, 0
        self.scores: dict[int, float] = {}              # of this trial: threads -> mean seconds of a step
        self.times: list[float] = []                    # of the number on trial
        self.trying = not self.fixed

    @contextmanager
    def step(self) -> Iterator[None]:
        """Inside, one step runs on as many threads as it should, and is timed."""
        begin = self.clock()
        yield
        if not self.fixed:
            self.told(self.clock() - begin)

    def told(self, seconds: float) -> None:
        """A step has taken so long."""
        if self.trying:
            self.times.append(seconds)
            best = min(self.scores.values(), default=float("inf"))
            if len(self.times) == TRIAL or seconds > HOPELESS * best:
                counted = self.times[1:] or self.times
                self.scores[self.now] = sum(counted) / len(counted)
                self.go_on()
            return
        self.late = self.late + 1 if seconds > SLOW * self.scores[self.now] else 0
        if self.late == self.in_a_row:
            self.hold = HOLD
        if self.late == self.in_a_row or self.clock() - self.since > self.hold:
            self.trying, self.scores, self.times, self.late = True, {}, [], 0

    def go_on(self) -> None:
        """Try half as many, or twice as many, than the best so far; where both are known, it stays."""
        best = min(self.scores, key=self.scores.get)
        near = [count for count in (best // 2, min(2 * best, self.most)) if count and count not in self.scores]
        self.times = []
        if near:
            self.change(near[0])
            return
        same = best == next(iter(self.scores))
        self.hold = min(2 * self.hold, LONGEST) if same else HOLD
        self.trying, self.since = False, self.clock()
        self.change(best)

    def change(self, count: int) -> None:
        if count != self.now:
            self.now = count
            self.use(count)


@contextmanager
def as_pays(device: torch.device, processes: int = 1, fixed: bool = False) -> Iterator[Threads]:
    """The threads of one run on this device, torch's number being the most; afterwards it is torch's again.

    They stay as many on another device than a CPU, where several processes wait for each other in every step, and where torch
    was told to be deterministic: another number rounds otherwise.
    """
    most = torch.get_num_threads()
    try:
        yield Threads(most, fixed or device.type != "cpu" or processes > 1 or torch.are_deterministic_algorithms_enabled())
    finally:
        torch.set_num_threads(most)
