"""Latency: milliseconds from one picture to its answer, of nets and of exported files alike.

A turn is one pass that nobody counts, which brings the weights back into the cache, and TURN passes that are timed one by one;
who is compared takes turns, round by round, as in `speed`.
"""
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, Protocol

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor, nn

from vitlab.evaluation import check_net, evaluating
from vitlab.measure.speed import check_stop, prepare
from vitlab.numbers import whole

TURN = 5            # timed passes of a turn
MOST = 1_000_000    # passes
LEAST = 100         # passes below which a 99th percentile is nothing but the slowest pass


class Session(Protocol):
    """What answers like a net but is none, such as `vitlab.edge.Session`; it knows its own point."""

    device: str
    precision: str
    threads: int

    def __call__(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]."""


@dataclass(frozen=True)
class Latency:
    """One measured latency and how it was measured; `float(latency)` is the median in milliseconds."""

    median_ms: float
    p90_ms: float               # nine passes of ten are at most this slow
    p99_ms: float
    runs: int                   # timed passes
    device: str
    precision: str
    threads: int                # of torch, or of the session

    def __float__(self) -> float:
        return self.median_ms


def latency(runner: nn.Module | Session, image: Tensor, point: Any = None, *, precision: str | None = None, runs: int = LEAST,
            stop: Callable[[], bool] | None = None) -> Latency | None:
    """How long one picture [1, 3, S, S] takes a method at one point, or a session: at least `runs` passes, at least 100.

    precision: of a method, "fp32", "bf16" or "fp16" (None: fp32); a session has its own. `stop()` is asked between turns: once
    it says True, None is returned. Raises ValueError for what cannot be measured so.
    """
    entries = {"": (runner, point, precision)}
    times = turns(entries, image, runs=runs, stop=stop)
    return None if times is None else latency_of(times[""], *entries[""])


def latency_race(entries: Mapping[str, Any], image: Tensor, *, runs: int = LEAST,
                 stop: Callable[[], bool] | None = None) -> DataFrame | None:
    """Entries {name: session, (method, point) or (method, point, precision)} take turns on one picture [1, 3, S, S].

    A row per entry: name, median_ms, p90_ms, p99_ms, runs, device, precision, threads, speed_up (see `paired`; the first entry is
    the yardstick). None as soon as `stop()` says so.
    """
    if not isinstance(entries, Mapping) or not entries:
        raise ValueError("a race needs at least one entry {name: (method, point)}")
    entries = {name: given if isinstance(given, tuple) else (given,) for name, given in entries.items()}
    if long := [name for name, given in entries.items() if not 1 <= len(given) <= 3]:
        raise ValueError(f"entry {long[0]!r} must be a session, (method, point) or (method, point, precision)")
    times = turns(entries, image, runs=runs, stop=stop)
    if times is None:
        return None
    first = times[next(iter(times))]
    return DataFrame([{"name": name, **vars(latency_of(times[name], *entry)), "speed_up": paired(first, times[name])}
                      for name, entry in entries.items()])


def turns(entries: Mapping[str, tuple], image: Tensor, *, runs: int = LEAST,
          stop: Callable[[], bool] | None = None) -> dict[str, np.ndarray] | None:
    """Seconds of every timed pass, [rounds, TURN] for each entry {name: (runner, point, precision)}; None once stopped."""
    rounds = ceil(whole(runs, "runs", LEAST, MOST) / TURN)
    check_stop(stop)
    if not isinstance(image, Tensor) or image.dim() != 4 or len(image) != 1:
        raise ValueError(f"latency is that of one picture [1, 3, S, S], not of {list(getattr(image, 'shape', [image]))}; "
                         "give images[:1]")
    passes = {name: ready(image, *entry) for name, entry in entries.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in passes}
    with evaluating(*(runner for runner, *_ in entries.values() if isinstance(runner, nn.Module))):
        for _ in range(rounds):
            for name, run in passes.items():
                if stop is not None and stop():
                    return None
                times[name].append([run() for _ in range(1 + TURN)][1:])
    return {name: np.array(seconds) for name, seconds in times.items()}


def ready(image: Tensor, runner: nn.Module | Session, point: Any = None, precision: str | None = None) -> Callable[[], float]:
    """A function that runs one pass and returns its seconds."""
    if isinstance(runner, nn.Module):
        check_net(runner)
        return prepare(runner, image, point, "fp32" if precision is None else precision)
    if isinstance(runner, type) or any(not hasattr(runner, name) for name in ("device", "precision", "threads")) \
            or not callable(runner):
        raise ValueError(f"latency is that of a method or of a vitlab.edge.Session, not of a {type(runner).__name__}")
    if point is not None or precision is not None:
        raise ValueError("a session has its own point and precision, so leave both out; export another one to compare")
    return partial(timed, runner, image)


def timed(runner: Session, image: Tensor) -> float:
    """Seconds of one pass of a session."""
    begin = time.perf_counter()
    runner(image)
    return time.perf_counter() - begin


def paired(first: np.ndarray, own: np.ndarray) -> float:
    """How many times faster: the median over rounds of the yardstick's median / its own, both seconds [rounds, TURN]."""
    return float(np.median(np.median(first, 1) / np.median(own, 1)))


def latency_of(seconds: np.ndarray, runner: nn.Module | Session, point: Any = None, precision: str | None = None) -> Latency:
    """Seconds [rounds, TURN] as one Latency."""
    middle, p90, p99 = (1000 * np.percentile(seconds, [50, 90, 99])).tolist()
    if isinstance(runner, nn.Module):
        told = str(next(runner.parameters()).device), precision or "fp32", torch.get_num_threads()
    else:
        told = runner.device, runner.precision, runner.threads
    return Latency(middle, p90, p99, seconds.size, *told)
