"""Speed: images per second on real images, and fair races between operating points.

A single time on a shared machine says little. `race` therefore runs its entries in turn, round by round, and compares within
each round: what slows one down slows its rivals too.
"""
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor, nn

from vitlab.evaluation import beside, evaluating, in_evaluation
from vitlab.measure.rounds import in_turns
from vitlab.numbers import real, whole
from vitlab.words import one_of

MOST = 100_000          # seconds, rounds, passes
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Speed:
    """One measured throughput and how it was measured; `float(speed)` is the images per second."""

    images_per_s: float         # batch / median seconds of a forward pass
    batch: int
    device: str
    precision: str
    runs: int                   # timed passes, after the warm-up
    spread: float               # (slowest - fastest) / median pass: one pass that was disturbed widens it
    iqr: float                  # interquartile range / median pass: within how much of it the middle half of the passes lies
    threads: int                # of torch's: as many as were fastest

    def __float__(self) -> float:
        return self.images_per_s


@in_evaluation
def throughput(method: nn.Module, images: Tensor, point: Any = None, *, precision: str = "fp32", seconds: float = 3.0,
               runs: int = 5, stop: Callable[[], bool] | None = None) -> Speed | None:
    """Images per second of one batch [B, 3, S, S] at one point: one warm-up pass, then passes for `seconds`, at least `runs`.

    The batch is moved to the method's device first, so copying is not timed. `stop()` is asked between passes: once it says
    True the measurement is worthless to its caller, and None is returned.
    """
    run = prepare(method, images, point, precision)
    seconds, runs = real(seconds, "seconds", 0, MOST), whole(runs, "runs", 1, MOST)
    check_stop(stop)
    found = in_turns({"": run}, runs, next(method.parameters()).device, seconds=seconds, stop=stop,
                     fixed=is_compiled(method))
    return None if found is None else speed_of(found[0][""], images, method, precision, found[1])


def race(entries: dict[str, tuple[nn.Module, Any]], images: Tensor, *, precision: str = "fp32", rounds: int = 7,
         stop: Callable[[], bool] | None = None) -> DataFrame | None:
    """Entries {name: (method, point)} run in turn, round by round, on the same batch [B, 3, S, S].

    A row per entry: name, images_per_s (median), speed_up (median over rounds of the first entry's time / its own, so the first
    is the yardstick), batch, device, precision, runs, spread, iqr (see `Speed`), threads (see `rounds`). None as soon as
    `stop()` says so.
    """
    if not isinstance(entries, Mapping) or not entries or not all(map(is_pair, entries.values())):
        raise ValueError("a race needs at least one entry {name: (method, point)}")
    rounds = whole(rounds, "rounds", 1, MOST)
    check_stop(stop)
    runs = {name: prepare(method, images, point, precision) for name, (method, point) in entries.items()}
    with evaluating(*(method for method, _ in entries.values())):
        found = in_turns(runs, rounds, next(next(iter(entries.values()))[0].parameters()).device, stop=stop,
                         fixed=any(is_compiled(method) for method, _ in entries.values()))
    if found is None:
        return None
    times, threads = found
    first = times[next(iter(times))]
    rows = []
    for name, (method, _) in entries.items():
        speed = speed_of(times[name], images, method, precision, threads)
        rows.append({"name": name, **vars(speed), "speed_up": median(a / b for a, b in zip(first, times[name]))})
    return DataFrame(rows)


def prepare(method: nn.Module, images: Tensor, point: Any, precision: str) -> Callable[[], float]:
    """A function that runs one synchronised forward pass, in whatever mode the net is, and returns its seconds."""
    check_precision(precision)
    device = next(method.parameters()).device
    images = beside(method, images)

    @torch.inference_mode()
    def run() -> float:
        synchronise(device)
        begin = time.perf_counter()
        with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
            method(images, point)
        synchronise(device)
        return time.perf_counter() - begin

    return run


def check_precision(precision: str) -> None:
    """ValueError for one that is not measured."""
    one_of(precision, "precision", PRECISIONS)


def check_stop(stop: Any) -> None:
    """TypeError for what cannot be asked."""
    if stop is not None and not callable(stop):
        raise TypeError(f"stop must be a function that says whether to stop, or None, not {stop!r}")


def is_pair(entry: Any) -> bool:
    """Is this the (method, point) of a race's entry? Any net may run that takes images and a point."""
    return isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], nn.Module)


def is_compiled(method: nn.Module) -> bool:
    """Is it, or a part of it, a graph of torch.compile?"""
    return any("_orig_mod" in part._modules for part in method.modules())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was told; a CPU has."""
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def speed_of(times: list[float], images: Tensor, method: nn.Module, precision: str, threads: int) -> Speed:
    """Seconds of several passes as one Speed."""
    first, middle, third = np.percentile(times, [25, 50, 75]).tolist()
    device, spread = str(next(method.parameters()).device), (max(times) - min(times)) / middle
    return Speed(len(images) / middle, len(images), device, precision, len(times), spread, (third - first) / middle, threads)
