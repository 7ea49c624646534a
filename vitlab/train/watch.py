"""Processes that train together end together: where one dies or answers no more, the others end too, with a sentence.

A collective operation waits for all, gloo's for half an hour. So each process beats beside its training, as long as it lives,
in a store that the first one keeps; one that is busy with something else, such as a checkpoint, goes on beating.
"""
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import distributed

BEAT = 2.0                                              # seconds between two beats
SILENCE = 20.0                                          # seconds without one after which a process is taken to be gone
GONE = ("connection closed by peer", "connection reset by peer", "broken pipe", "connection refused")


@contextmanager
def together(found: PartialState) -> Iterator[None]:
    """Inside, a process that is gone ends this one: RuntimeError where a collective operation tells, else the process exits."""
    if found.num_processes == 1:
        yield
        return
    watch = Watch(found.process_index, found.num_processes)
    try:
        yield
        found.wait_for_everyone()                       # who is done first goes on beating for those that still write
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(word in str(error).lower() for word in GONE):
            raise RuntimeError(sentence("another process of this training has ended")) from error
        raise
    finally:
        watch.stop()


def sentence(what: str) -> str:
    """What is said where the training cannot go on."""
    return (f"{what}, so this one ends too; start all of them again, with the same `out`, and the run goes on from the last "
            "epoch that was kept")


class Watch:
    """The heart of one process, and its ear for the others."""

    def __init__(self, own: int, count: int):
        self.own, self.others = own, [number for number in range(count) if number != own]
        self.stopped, self.store = threading.Event(), meeting(own, count)
        now = time.monotonic()
        self.heard = dict.fromkeys(self.others, now)
        for work in (self.beat, self.listen):
            threading.Thread(target=work, name=f"vitlab-{work.__name__}", daemon=True).start()

    def stop(self) -> None:
        """No more beats: for the others this process is gone unless they have ended too."""
        self.stopped.set()

    def beat(self) -> None:
        """Beat, and note whose beats are new. The first process's store may be gone, or hang with it: then nobody is heard."""
        known: dict[int, bytes] = {}
        for count in range(10 ** 9):
            try:
                self.store.set(str(self.own), str(count))
                for number in self.others:
                    told = self.store.get(str(number)) if self.store.check([str(number)]) else b""
                    if told != known.get(number):
                        known[number], self.heard[number] = told, time.monotonic()
            except RuntimeError:                        # torch's word for a store that does not answer
                pass
            if self.stopped.wait(BEAT):
                return

    def listen(self) -> None:
        """End this process where another one has been silent too long."""
        while not self.stopped.wait(BEAT / 2):
            now = time.monotonic()
            silent = [number for number, heard in self.heard.items() if now - heard > SILENCE]
            if silent:
                which = 0 if 0 in silent else silent[0]                    # nobody is heard without the first
                told = sentence(f"process {which} of this training has not answered for {SILENCE:.0f} s")
                print(told, file=sys.stderr, flush=True)
                os._exit(1)


def meeting(own: int, count: int) -> distributed.TCPStore:
    """A store that the first process keeps, and all know."""
    wait = timedelta(seconds=SILENCE)
    store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=wait) if own == 0 else None
    port, = broadcast_object_list([store.port if store else None])
    if store is None:
        host = os.environ.get("MASTER_ADDR", "localhost")
        store = distributed.TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=wait)
    return store
