"""What the saved results say of a claim: a function for each kind of claim, a file for each paper; `claims.py` calls them.

Each reads the CSVs of data/results and returns an Evidence; none types a number of ours. Where a claim is about several points, a
seed's value is its least. Words that a function is given come from claims_of_papers.csv, as text.
"""
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from vitlab.measure.records import DATA

EASY, HARD = "shapes, easy end of the dial", "shapes, hard end of the dial"
RANDOM, OBJECTS, CIFAR = "random weights, 224 pixels", "made pictures of several objects", "CIFAR-10"
ZEROS = "one picture, 224 pixels"


@dataclass(frozen=True)
class Evidence:
    """what: is compared, in words. values: one for each of what `of` names (seeds, clock, figures).

    seeds: of a training. clock: times faster, measured in turns. figures: printed ones, (printed, ours, digits) for each.
    data: the pictures. sources: names of tables. spread: of the clock's passes, (slowest - fastest) / median. runs: passes.
    promised: by the FLOPs, where a net was raced.
    """
    what: str
    values: tuple
    of: str
    unit: str
    data: str
    sources: tuple[str, ...]
    spread: float | None = None
    runs: int | None = None
    promised: float | None = None


@cache
def read(name: str) -> pd.DataFrame:
    """A saved table; the same frame for all who ask, so nobody changes it."""
    return pd.read_csv(DATA / "results" / f"{name}.csv", dtype={"commit": str})


def seeds(what: str, values: pd.Series, data: str, *sources: str, unit: str = "points") -> Evidence:
    """A value for each seed; a seed without one (a cost that was never reached) has NaN."""
    return Evidence(what, tuple(values), "seeds", unit, data, sources)


def clock(what: str, ratios, rows: pd.DataFrame, *sources: str, data: str = RANDOM, promised: float | None = None) -> Evidence:
    """Measured ratios; rows: of the race, for the number of passes and their spread."""
    spread = rows.spread.max() if "spread" in rows else None
    return Evidence(what, tuple(np.atleast_1d(ratios)), "clock", "×", data, sources, spread, int(rows.runs.min()), promised)


def raced(what: str, row: pd.DataFrame, source: str) -> Evidence:
    """One net's measured speed-up, and what its FLOPs promise."""
    promised = row["flops_speed_up" if "flops_speed_up" in row else "gmacs_ratio"]
    return clock(what, row.speed_up, row, source, promised=promised.item())


def told(name: str, claim: str, steps: str | None = None) -> pd.Series:
    """A number that a script wrote under a name, by seed."""
    rows = read(name).query("claim == @claim")
    rows = rows if steps is None else rows[rows.steps == int(steps)]
    if rows.empty:
        raise ValueError(f"{name} has no claim {claim!r}")
    return rows.set_index("seed").value.sort_index()


def by_seed(name: str, column: str, **which) -> pd.Series:
    """A column of the rows that are meant, by seed."""
    rows = read(name)
    for key, value in which.items():
        rows = rows[rows[key] == value]
    if rows.empty or rows.seed.duplicated().any():
        raise ValueError(f"{name} has {len(rows)} rows for {which}, not one a seed")
    return rows.set_index("seed")[column].sort_index()


def gap(one: pd.DataFrame, other: pd.DataFrame, at: int = 50) -> pd.Series:
    """By seed: the mean difference of two curves over the costs that both have, read between their points."""
    found = {}
    for seed, mine in one.groupby("seed"):
        mine, theirs = (part.groupby("gmacs").top1.mean() for part in (mine, other[other.seed == seed]))
        costs = np.linspace(max(mine.index.min(), theirs.index.min()), min(mine.index.max(), theirs.index.max()), at)
        found[seed] = np.mean(np.interp(costs, mine.index, mine) - np.interp(costs, theirs.index, theirs))
    return pd.Series(found)
