"""As many threads as pay: steps are timed with all of them and with fewer, and what is fastest now is kept.

Threads that wait for each other spin. Where another process has one of the cores, two threads can be ten times slower than one
(see `benchmarks/busy.py`), and no setting tells: it is measured, at the start, from time to time, and when steps become slow.
"""
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

HOPELESS = 3.0          # times the best: one step as slow as that is trial enough
CLEAR = 2.0             # times the other: one step of each is enough; else two of each decide
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
        self.score = float("inf")                       # seconds of a step when this number was chosen
        self.trial: Generator[int, float, tuple[int, float]] | None = None
        if not self.fixed:
            self.begin()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Inside, one step runs on as many threads as it should, and is timed."""
        begin = self.clock()
        yield
        if not self.fixed:
            self.told(self.clock() - begin)

    def told(self, seconds: float) -> None:
        """A step has taken so long."""
        if self.trial:
            try:
                self.change(self.trial.send(seconds))
            except StopIteration as ended:
                self.keep(*ended.value)
            return
        self.late = self.late + 1 if seconds > SLOW * self.score else 0
        if self.late == self.in_a_row:
            self.hold = HOLD
        if self.late == self.in_a_row or self.clock() - self.since > self.hold:
            self.begin()

    def begin(self) -> None:
        """From the next step on it is found out which number is fastest now."""
        self.before, self.trial, self.late = self.now, trial(max(self.now // 2, 1), self.most), 0
        self.change(next(self.trial))

    def keep(self, best: int, score: float) -> None:
        """So many threads from now on, whose step took so long."""
        self.hold = min(2 * self.hold, LONGEST) if best == self.before else HOLD
        self.trial, self.since, self.score = None, self.clock(), score
        self.change(best)

    def change(self, count: int) -> None:
        if count != self.now:
            self.now = count
            self.use(count)


def trial(first: int, most: int) -> Generator[int, float, tuple[int, float]]:
    """Yields how many threads the next step runs on, is sent its seconds, and returns the fastest number and its seconds.

    Twice as many, or half as many, than the best so far are tried, until both are known. Another process on the same core can
    make a step of too many threads take seconds, so few come first, and of too many there are as few steps as will do.
    """
    best, known = first, {first: (yield from woken(first))}
    while near := [count for count in (min(2 * best, most), best // 2) if count and count not in known]:
        other = near[0]
        known[other] = yield from woken(other, known[best])
        if 1 / CLEAR < known[other] / known[best] < CLEAR:
            known[other] = (known[other] + (yield other)) / 2
            known[best] = (known[best] + (yield from woken(best, known[other]))) / 2
        best = min(known, key=known.get)
    return best, known[best]


def woken(count: int, best: float = float("inf")) -> Generator[int, float, float]:
    """The seconds of a step on so many threads: of the second, as the first wakes or rests them, unless that one is hopeless."""
    first = yield count
    return first if first > HOPELESS * best else (yield count)


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
