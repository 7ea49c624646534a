"""OpenMP's threads, given back by a Python thread that does not compute for now.

Every Python thread that computes gets threads of its own from OpenMP, which stay. GNU's, which PyTorch brings along on Linux,
counts them all: once there are more than cores, they sleep between two steps instead of spinning, and a net of many small steps
becomes half as fast. The notebook's thread and a panel's are two that would do this to each other.
"""
from collections.abc import Callable
from ctypes import CDLL
from functools import cache
from pathlib import Path

SOFT = 1                    # omp_pause_soft: what is set stays, and threads come back when they are needed


@cache
def runtimes() -> tuple[Callable[[int], int], ...]:
    """`omp_pause_resource_all` of every GNU OpenMP in this process; none on other systems, whose threads are not counted."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return ()
    files = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "libgomp" in line}
    found = [CDLL(file) for file in sorted(files) if Path(file).exists()]
    return tuple(library.omp_pause_resource_all for library in found if hasattr(library, "omp_pause_resource_all"))


def give_back(*_) -> None:
    """Give back the threads of the Python thread that calls this; whatever it is called with is for others."""
    for pause in runtimes():
        pause(SOFT)


def after_cells() -> None:
    """From now on the notebook's thread does so at the end of every cell."""
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if shell := get_ipython():
        shell.events.register("post_run_cell", give_back)                      # once, however often it is asked for
