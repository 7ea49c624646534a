"""Taking turns: who is compared runs round by round, so that what slows one down slows the others too; on as many threads as pay.

Where another process has one of the cores, threads that wait for each other can make a net ten times slower (see
`vitlab.threads`): a race on all of them would compare nothing but waiting.
"""
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch

FEWEST = 3          # rounds that are worth a trial of other threads


def in_turns(runs: Mapping[Any, Callable[[], float]], rounds: int, device: torch.device, *, seconds: float = 0.0,
             stop: Callable[[], bool] | None = None, fixed: bool = False) -> tuple[dict[Any, list[float]], int] | None:
    """The seconds that each of `runs` says it took, at least `rounds` of them and for `seconds`, and on how many threads.

    A first round warms up. On a CPU a round is then run on half of torch's threads, and on half of those as long as the whole
    round gets faster; what was torch's number is again afterwards. fixed: on all of them, because a graph of torch.compile is
    of one number and for another would be compiled anew, here. None as soon as `stop()` says so.
    """
    most, first = torch.get_num_threads(), next(iter(runs.values()))
    count = most
    tried = not fixed and device.type == "cpu" and rounds >= FEWEST and not torch.are_deterministic_algorithms_enabled()
    try:
        if one_round(runs, stop) is None:
            return None
        begin = perf_counter()
        kept = [one_round(runs, stop)]
        while tried and count > 1 and kept[0] is not None:
            wake(count // 2, first)
            other = one_round(runs, stop)
            if other is not None and sum(other.values()) >= sum(kept[0].values()):
                wake(count, first)
                break
            count, kept = count // 2, [other]
        while kept[-1] is not None and (len(kept) < rounds or perf_counter() - begin < seconds):
            kept.append(one_round(runs, stop))
    finally:
        torch.set_num_threads(most)
    return None if kept[-1] is None else ({name: [turn[name] for turn in kept] for name in runs}, count)


def one_round(runs: Mapping[Any, Callable[[], float]], stop: Callable[[], bool] | None) -> dict[Any, float] | None:
    """Everybody once: seconds by name; None once stopped."""
    took = {}
    for name, run in runs.items():
        if stop is not None and stop():
            return None
        took[name] = run()
    return took


def wake(threads: int, run: Callable[[], float]) -> None:
    """From now on so many threads; a pass that does not count wakes them up, or puts them to rest."""
    torch.set_num_threads(threads)
    run()
