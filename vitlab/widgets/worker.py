"""Work beside the notebook: only the newest request counts, and only one computation runs at a time."""
import atexit
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vitlab.widgets.pool import give_back


class LatestWorker:
    """A thread that calls work(request, turn) for the newest request; what was asked before it is dropped.

    An exception in `work`, of any kind, goes to failed(error), unless a newer request has come in meanwhile.
    """

    def __init__(self, work: Callable[[Any, "Turn"], None], failed: Callable[[BaseException], None]):
        self.work, self.failed = work, failed
        self.changed = threading.Condition()
        self.asked, self.done, self.request, self.closed = 0, 0, None, False
        self.thread = threading.Thread(target=self.run, name="vitlab-explorer", daemon=True)
        self.thread.start()
        atexit.register(self.close, timeout=10.0)                              # torch aborts if Python ends during a pass

    def submit(self, request: Any) -> None:
        """Ask for this instead of whatever is being worked on."""
        with self.changed:
            self.asked, self.request = self.asked + 1, request
            self.changed.notify_all()

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.done < self.asked)
                if self.closed:
                    return
                turn, request = Turn(self, self.asked), self.request
            try:
                self.work(request, turn)
            except BaseException as error:                                     # a SystemExit does not end this thread
                if not turn.stale():
                    self.failed(error)
            give_back()                                                        # the notebook's own cells go on at full speed
            with self.changed:
                self.done = turn.number
                self.changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until the newest request is done; False if that takes longer than `timeout` seconds, or never comes."""
        with self.changed:
            return self.changed.wait_for(lambda: self.closed or self.done == self.asked, timeout) and not self.closed

    def close(self, timeout: float = 1.0) -> None:
        """Stop; work in progress sees a stale turn and returns."""
        atexit.unregister(self.close)
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        if self.thread is not threading.current_thread():
            self.thread.join(timeout)


@dataclass(frozen=True)
class Turn:
    """One request's right to report: lost as soon as a newer one is in."""

    worker: LatestWorker
    number: int

    def stale(self) -> bool:
        """Has a newer request come in, or is the worker closed?"""
        return self.worker.closed or self.worker.asked != self.number

    def settle(self, seconds: float) -> bool:
        """Wait until nothing newer has come in for `seconds`; True if something has."""
        with self.worker.changed:
            return self.worker.changed.wait_for(self.stale, seconds)


class Gate:
    """One computation at a time in this process, so that two panels never time each other; looks go before measurements."""

    def __init__(self):
        self.lock, self.counting, self.waiting = threading.Lock(), threading.Lock(), 0
        self.inside: tuple[str, float] | None = None                           # what is computed, and since when
        self.beside: tuple[str, float] | None = None                           # what goes on beside all that
        self.apart = threading.Lock()

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """The gate, with a word about who is inside."""
        with self.lock:
            self.inside = what, time.monotonic()
            try:
                yield
            finally:
                self.inside = None

    @contextmanager
    def look(self, what: str = "a look") -> Iterator[None]:
        """The gate for a short computation; a measurement in progress makes way."""
        with self.counting:
            self.waiting += 1
        with self.held(what):
            with self.counting:
                self.waiting -= 1
            yield

    @contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """For what takes long and cannot be stopped, as a compiler: looks go on beside it, measurements wait for its end."""
        with self.apart:
            with self.look(what):
                self.beside = what, time.monotonic()
            try:
                yield
            finally:
                self.beside = None

    def measure(self, run: Callable[[Callable[[], bool]], Any], stale: Callable[[], bool], what: str = "a measurement") -> Any:
        """run(stop) -> result, or None when stopped; begins again after every look that came between, None once stale."""
        while not stale():
            with self.held(what):
                result = None if self.beside else run(lambda: stale() or self.waiting > 0)
            if result is not None:
                return result
            while (self.waiting or self.beside) and not stale():
                time.sleep(0.005)
        return None
