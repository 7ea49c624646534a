"""Agreement: do two methods keep the same patches of the same pictures, more than chance or a fixed pattern would?"""
from collections.abc import Mapping
from itertools import combinations

import pandas as pd
import torch
from torch import Tensor

from vitlab.measure.usage import by_chance
from vitlab.trace import Trace, recorded


def agreement(traces: Mapping[str, Trace]) -> pd.DataFrame:
    """A row per block and pair of methods, whose traces are of the same pictures on the same grid: layer, a, b, overlap, chance,
    centre_a and centre_b.

    overlap: patches that reach the MLP in both / in any of the two, mean over images. Beside it what random sets of the same
    sizes would have (chance), and what each has with as many patches as it keeps itself around the middle of the picture
    (centre_a, centre_b). Images of which neither keeps a patch do not count. Of a cascade the last stage is compared, for the
    images that came there. ValueError for fewer than two traces, or some that do not fit together.
    """
    if not isinstance(traces, Mapping) or len(traces) < 2:
        raise ValueError('agreement is that of two or more traces by name, such as {"spvit": one, "svit": another}')
    kept = {name: last_stage(trace) for name, trace in traces.items()}
    if len(shapes := {(tuple(sets.shape), grid) for sets, grid in kept.values()}) > 1:
        told = "; ".join(f"{n[0]} blocks, {n[1]} images, {grid[0]}x{grid[1]} patches" for n, grid in sorted(shapes))
        raise ValueError(f"only traces of the same pictures, grid and depth can be compared, not {told}")
    rows = []
    for (a, (mine, grid)), (b, (others, _)) in combinations(kept.items(), 2):
        for layer, (one, two) in enumerate(zip(mine, others, strict=True), 1):
            rows.append({"layer": layer, "a": a, "b": b, "overlap": overlap_of(one, two), "chance": chance(one, two),
                         "centre_a": overlap_of(one, central(one, grid)), "centre_b": overlap_of(two, central(two, grid))})
    return pd.DataFrame(rows)


def last_stage(trace: Trace) -> tuple[Tensor, tuple[int, int]]:
    """Which patches reach the MLP of each block of the last net that ran, bool [L, B, N], and its grid."""
    layers = recorded(trace)
    own = [part for part in layers if part.stages == layers[-1].stages]
    return torch.stack([part.fed for part in own]).cpu(), layers[-1].grid


def overlap_of(one: Tensor, two: Tensor) -> float:
    """Patches in both sets / in any of the two, bool [B, N] each: the mean over the images that have any; NaN if none has."""
    both, either = (one & two).sum(1), (one | two).sum(1)
    seen = either > 0
    return (both[seen] / either[seen]).mean().item()


def chance(one: Tensor, two: Tensor) -> float:
    """The same of random sets of these sizes."""
    sizes = [(a, b) for a, b in zip(one.sum(1).tolist(), two.sum(1).tolist()) if a or b]
    found = [by_chance(a, b, one.shape[1]) for a, b in sizes]
    return sum(found) / len(found) if found else float("nan")


def central(like: Tensor, grid: tuple[int, int]) -> Tensor:
    """As many patches of each image as `like` [B, N] has, those nearest to the middle: bool [B, N]."""
    rows, columns = (torch.arange(n) - (n - 1) / 2 for n in grid)
    away = (rows[:, None] ** 2 + columns ** 2).flatten()                   # [N]
    return away.argsort(stable=True).argsort() < like.sum(1, keepdim=True)
