"""A disk that is full, in the middle of a file: the run says so; once there is room the same call ends as if nothing had been.

    python tests/faults/disks.py [7]         so many limits. A limit on the size of files stands for the disk: what is over it
                                             is not written, byte for byte, as on a full one
"""
import resource
import signal
import sys
import tempfile
from pathlib import Path

from forks import asked, forked, report, train, undisturbed, wrong


def full(folder: Path, most: int) -> None:
    """The run where no file can be larger than so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    train(folder)


def trial(truth: dict, most: int) -> str:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        end = forked(full, folder, most)
        if "\n" in end.error or end.error and not end.error.startswith("OSError"):
            return f"{most} bytes: {end.error}"
        again = forked(train, folder)
        return f"{most} bytes, then room: {again.error}" if again.error else wrong(folder, truth)


def main() -> int:
    count = asked(7)
    truth, _ = undisturbed()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        forked(train, folder)
        sizes = sorted({path.stat().st_size for path in folder.iterdir()})
    limits = [0, 64, *(size - 1 for size in sizes), sizes[-1] // 2]
    return report("full disks", [trial(truth, limits[n % len(limits)]) for n in range(count)])


if __name__ == "__main__":
    sys.exit(main() > 0)
