"""kill -9 inside a write, and at any other moment: the same call then goes on, to the same weights bit for bit.

    python tests/faults/kills.py [60]        so many of each kind
"""
import io
import os
import random
import signal
import sys
import tempfile
from pathlib import Path

from forks import asked, forked, report, train, undisturbed, wrong

MOMENTS = ("before a draft", "in a draft", "before the rename", "after the rename")


def dying(folder: Path, at: int, moment: str) -> None:
    """The run, in a process that dies at one moment of its n-th write."""
    count, replace, opened = [0], os.replace, Path.open

    class Half(io.FileIO):
        def write(self, data):
            if count[0] == at and moment == "in a draft":
                super().write(bytes(data)[:len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return super().write(data)

    def open_draft(path, mode="r", *more, **words):
        if mode == "wb":
            count[0] += 1
            if count[0] == at and moment == "before a draft":
                os.kill(os.getpid(), signal.SIGKILL)
            return Half(path, "wb")
        return opened(path, mode, *more, **words)

    def rename(old, new):
        if count[0] == at and moment == "before the rename":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(old, new)
        if count[0] == at and moment == "after the rename":
            os.kill(os.getpid(), signal.SIGKILL)

    Path.open, os.replace = open_draft, rename
    train(folder)


def trial(truth: dict, first, *inputs, kill_after=None) -> str:
    """One run that is killed, perhaps some times, and then left alone: what is wrong with its end."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        killed = forked(first, folder, *inputs, kill_after=kill_after)
        if killed.error:
            return f"{inputs or ''} before it was killed: {killed.error}"
        if killed.signal and kill_after is not None and random.random() < 0.5:
            forked(train, folder, kill_after=random.random() * kill_after)
        end = forked(train, folder)
        return f"{inputs or ''} {end.error}" if end.error or end.signal else wrong(folder, truth)


def main() -> int:
    count = asked(60)
    truth, seconds = undisturbed()
    writes = [(1 + n // len(MOMENTS) % 18, MOMENTS[n % len(MOMENTS)]) for n in range(count)]
    bad = report("killed inside a write", [trial(truth, dying, *when) for when in writes])
    moments = [random.uniform(0, 1.2 * seconds) for _ in range(count)]
    return bad + report("killed at random", [trial(truth, train, kill_after=when) for when in moments])


if __name__ == "__main__":
    sys.exit(main() > 0)
