"""Pictures that come at a steady rate, answered by a governor: what was reached of late, and at which point."""
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from torch import Tensor

from vitlab.governor import Governor
from vitlab.widgets.engine import GATE

SLICE = 0.2                 # seconds after which a moved target is noticed
WINDOW = 3.0                # seconds over which a throughput is told
LATE = 0.5                  # seconds for which pictures wait; what has waited longer is let go, unanswered


@dataclass(frozen=True)
class Moment:
    """How the service stands after a batch."""

    seconds: float          # since the first batch
    target: float           # images per second that come
    images_per_s: float     # answered, over the last WINDOW
    point: Any
    top1: float             # of the point, as its table says (%)
    slower: float           # how many times slower the machine is than when the table was measured
    took: float             # seconds for the batch
    threads: int
    cores: int              # kept busy by others
    switches: int           # so far


class Service:
    """Batches, round and round, answered as they come; the governor's own target is the rate, and may be moved at any time.

    wait: (seconds) waits so long for the next batch, or less and says True if none is to be answered any more. busy: how many
    cores others keep busy.
    """

    def __init__(self, governor: Governor, batches: Sequence[Tensor], wait: Callable[[float], bool], busy: Callable[[], int],
                 clock: Callable[[], float] = perf_counter):
        self.governor, self.batches, self.wait, self.busy, self.clock = governor, batches, wait, busy, clock
        self.ends: deque[tuple[float, int]] = deque()           # when batches were answered, and of how many images
        self.came: float | None = None                          # when the last batch did, had it been on time
        self.seconds = 0.0                                      # in which somebody answered
        self.count = self.switches = 0

    def answer(self) -> Moment | None:
        """Wait for the next batch and answer it; None if none is to be answered any more."""
        images, before = self.batches[self.count % len(self.batches)], self.governor.point
        if self.came is None:
            self.came = self.clock() - len(images) / self.governor.target
            self.ends.append((self.clock(), 0))
        while (left := self.came + len(images) / self.governor.target - self.clock()) > 0:
            if self.wait(min(left, SLICE)):
                return None
        with GATE.held("a batch of a governor"):
            self.governor(images)
        end, step = self.clock(), self.governor.steps[-1]
        self.count, self.switches = self.count + 1, self.switches + (before not in (None, step.point))
        self.came = max(self.came + len(images) / self.governor.target, end - LATE)
        self.seconds += end - self.ends[-1][0]
        self.ends.append((end, len(images)))
        while len(self.ends) > 2 and self.ends[1][0] < end - WINDOW:
            self.ends.popleft()
        del self.governor.steps[:-1]                            # it may go on for long
        return Moment(self.seconds, self.governor.target, self.reached(), step.point, self.governor.known[step.point][0],
                      step.slower, step.took, step.threads, self.busy(), self.switches)

    def reached(self) -> float:
        """Images per second from the oldest batch of the window to the newest."""
        (first, _), *rest = self.ends
        return sum(images for _, images in rest) / max(rest[-1][0] - first, 1e-9)

    def pause(self) -> None:
        """Nobody answers for a while; what comes then counts anew."""
        self.came = None
        self.ends.clear()
