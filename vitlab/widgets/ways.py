"""Ways to run one operating point: in which precision, and compiled or not; which is the fastest is found by measuring.

To compile takes seconds to a minute and nobody can stop it. It is done in a thread of its own, one after the other, on a copy of
the net: looks go on meanwhile, speed is measured afterwards (see `Gate.aside`), and what was left is there for the next time.
"""
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor

from vitlab import measure
from vitlab.measure.rounds import in_turns
from vitlab.measure.speed import PRECISIONS, is_compiled, prepare
from vitlab.widgets.engine import GATE, Engine, fits_not, precisions
from vitlab.widgets.records import Ask

ROUNDS = 5                                  # of all ways, from which the fastest is chosen
TRIES = 3                                   # a look that counts costs while a net is traced spoils the trace
EVERY = 5                                   # seconds between two words about a compiler
CHATTY = logging.getLogger("torch.utils.cpp_extension")
BY_HAND = "what is forced by hand runs uncompiled: a graph would not know of it"

Tell = Callable[[str], None]
Stale = Callable[[], bool]


class Ways:
    """What has been compiled and found out about the ways of one engine's nets."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.found: dict[tuple, dict[tuple[str, bool], float]] = {}            # of a point: way -> seconds, the fastest first
        self.failed: dict[tuple | str, BaseException] = {}                     # of a model and a point, or of a device
        self.thread: threading.Thread | None = None

    def settled(self, ask: Ask) -> Ask:
        """The same, with what is known by now: the fastest way where it is looked for, and whether it can be compiled."""
        if self.looked_for(ask):
            precision, fused = next(iter(self.found.get(key(ask), {("fp32", False): 0.0})))
            return replace(ask, precision=precision, fused=fused and self.why(ask) is None)
        return replace(ask, fused=ask.compiled and self.why(ask) is None)

    def looked_for(self, ask: Ask) -> bool:
        """Is there a choice to make? What is forced by hand changes with every click."""
        return ask.auto and not ask.hand

    def why(self, ask: Ask) -> str | None:
        """Why it is not compiled although somebody wants it; None where it is, or nobody does."""
        if not ask.compiled:
            return None
        if ask.hand:
            return BY_HAND
        if ready := [each.model for each in self.raced(ask) if is_compiled(self.engine.methods[each.model])]:
            return f"timed as it is: {ready[0]} is compiled already"
        failed = [self.failed[place] for place in (ask.device, *map(place_of, self.raced(ask))) if place in self.failed]
        return f"timed uncompiled: {failed[0]}" if failed else None

    def told(self, ask: Ask) -> str:
        """The precision, and how it was chosen where it was."""
        found = self.found.get(key(ask), {}) if self.looked_for(ask) else {}
        best = next(iter(found.values()), 0.0)
        others = [f"{named(*way)} {best / seconds:.2f}×" for way, seconds in list(found.items())[1:]]
        return named(ask.precision, False) + (f" (the fastest; {', '.join(others)})" if others else "")

    def raced(self, ask: Ask) -> list[Ask]:
        """All that is timed for this: a ratio is fair where both are compiled, or none."""
        several = (replace(ask, hand=None), self.engine.dense(ask), self.engine.beside(ask))
        return list({place_of(each): each for each in several if each is not None}.values())

    def ready(self, ask: Ask, stale: Stale, tell: Tell) -> Ask | None:
        """The same once it can be timed, in the way that was chosen; None when a newer request came in.

        Whatever torch raises where memory runs out is raised here.
        """
        if self.looked_for(ask) and key(ask) not in self.found and not self.find(ask, stale, tell):
            return None
        ask = self.settled(ask)
        if ask.fused and not self.compile([(each, self.engine.pictures(each)) for each in self.raced(ask)], stale, tell):
            return None
        return self.settled(ask) if self.rested(stale, tell) else None

    def find(self, ask: Ask, stale: Stale, tell: Tell) -> bool:
        """Find out which way is the fastest; False when a newer request came in."""
        tell(f"looking for the fastest way to run {ask.title} …")
        engine, images = self.engine, self.engine.pictures(ask)
        plain = [replace(ask, precision=name, fused=False) for name in precisions(ask.device)]
        plain = [each for each in plain if each.precision == "fp32" or self.finite(each, images)]
        fused = [replace(each, fused=True) for each in plain] if ask.compiled and self.why(ask) is None else []
        if not self.compile([(each, images) for each in fused], stale, tell) or not self.rested(stale, tell):
            return False
        ways = plain + (fused if self.why(ask) is None else [])
        runs = {(each.precision, each.fused): prepare(engine.runner(each), images, each.point, each.precision) for each in ways}

        def turns(stop: Stale) -> tuple[dict, int] | None:
            most = torch.get_num_threads()
            torch.set_num_threads(engine.threads if fused else most)           # as many as compiled ones are made for
            try:
                return in_turns(runs, ROUNDS, torch.device(ask.device), stop=stop, fixed=bool(fused))
            finally:
                torch.set_num_threads(most)

        found = GATE.measure(turns, stale, f"the search for the fastest way of {ask.title}")
        if found is None:
            return False
        seconds = {way: median(times) for way, times in found[0].items()}
        self.found[key(ask)] = dict(sorted(seconds.items(), key=lambda way: way[1]))
        return True

    def finite(self, ask: Ask, images: Tensor) -> bool:
        """Are the logits numbers in this precision? A way that overflows is fast for nothing."""
        with (GATE.look(f"a pass of {ask.title}"), torch.inference_mode(),
              torch.autocast(images.device.type, PRECISIONS[ask.precision])):
            return bool(self.engine.method(ask)(images, ask.point).isfinite().all())

    def compile(self, several: Sequence[tuple[Ask, Tensor]], stale: Stale, tell: Tell) -> bool:
        """Compile each point for such pictures, or find out that it cannot be; False when a newer request came in."""
        for ask, images in several:
            if self.engine.threads is None and not self.count(ask, images, stale, tell):
                return False
            while not self.over(ask, images):
                if not self.rested(stale, tell):
                    return False
                if not self.at_work() and not self.over(ask, images):
                    self.thread = threading.Thread(target=self.work, args=(ask, images), name="vitlab-compiler")
                    self.thread.start()                                        # Python waits for it: it may not end amid it
                time.sleep(0.02)
        for place in [place for place, error in self.failed.items() if fits_not(error)]:
            raise self.failed.pop(place)                                       # with fewer pictures it may be otherwise
        return not stale()

    def over(self, ask: Ask, images: Tensor) -> bool:
        """Is it compiled for such pictures, or known that it cannot be?"""
        failed = {place_of(ask), ask.device} & self.failed.keys()
        return not self.at_work() and bool(failed or self.engine.prepared(ask, len(images)) is not None)

    def at_work(self) -> bool:
        """Does this panel's compiler run?"""
        return self.thread is not None and self.thread.is_alive()

    def count(self, ask: Ask, images: Tensor, stale: Stale, tell: Tell) -> bool:
        """Find out on how many threads compiled nets should run here: as many as are fastest for the plain one, now."""
        if not self.rested(stale, tell):
            return False
        plain, name = self.engine.method(ask), ask.precision
        speed = GATE.measure(lambda stop: measure.throughput(plain, images, ask.point, precision=name, seconds=0, runs=ROUNDS,
                                                             stop=stop), stale, f"the timing of {ask.title}")
        self.engine.threads = None if speed is None else speed.threads
        return speed is not None

    def work(self, ask: Ask, images: Tensor) -> None:
        """Compile one point, in a thread of its own: its first pass does it, another one shows that it needs no third."""
        with GATE.aside(f"compiling {ask.title} in {ask.precision} for {len(images)} picture{'s' * (len(images) > 1)}"):
            CHATTY.disabled = True                                             # a notebook would show its warning under some cell
            for left in reversed(range(TRIES)):
                try:
                    run = prepare(self.engine.runner(ask), images, ask.point, ask.precision)
                    run(), run()
                    if self.engine.prepared(ask, len(images)) is not None:
                        return
                except BaseException as error:
                    if not left or "guard" not in str(error).lower():
                        one = isinstance(error, ValueError) or fits_not(error)     # of this point; else nothing can be compiled
                        self.failed[place_of(ask) if one else ask.device] = error
                        return

    def rested(self, stale: Stale, tell: Tell) -> bool:
        """Wait until nothing is compiled any more, whoever asked for it; False when a newer request came in."""
        last = None
        while (now := GATE.beside) and not stale():
            what, since = now
            seconds = int(time.monotonic() - since) // EVERY * EVERY
            if (what, seconds) != last:
                tell(f"{what}{f', {seconds} s so far' if seconds else ''}: it takes seconds to a minute, once. All but speed "
                     "goes on meanwhile")
            last = what, seconds
            time.sleep(0.02)
        return not stale()


def key(ask: Ask) -> tuple:
    """What the fastest way depends on."""
    return ask.model, ask.point, ask.device, ask.batch, ask.compiled


def place_of(ask: Ask) -> tuple:
    """Model and point."""
    return ask.model, ask.point


def named(precision: str, fused: bool) -> str:
    """A way in words."""
    return f"{precision} compiled" if fused else precision
