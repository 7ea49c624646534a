"""Numbers as people give them: Python's, numpy's and torch's are one; what is not the number that was wanted gets one sentence.

`label.max() + 1` of a numpy array or a tensor is a whole number like any other; inside, and in a checkpoint, it is Python's.
"""
from collections.abc import Sequence
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

BATCH = 1 << 20         # pictures at once, more than any device holds


def plain(value: Any) -> Any:
    """A value in words of Python alone: numpy's and torch's numbers as int, float or bool, arrays and lists as tuples.

    A float of fewer bits becomes the shortest decimal that it stands for, float32(0.1) 0.1 and not 0.10000000149.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value if value.element_size() > 2 or not value.is_floating_point() else value.float()).numpy()
    if isinstance(value, np.ndarray):
        return plain(value[()]) if value.ndim == 0 else tuple(map(plain, value))
    if isinstance(value, np.floating):
        return float(value) if value.itemsize >= 8 else float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    return tuple(map(plain, value)) if isinstance(value, list | tuple | range) else value


def whole(value: Any, name: str, low: int = 1, high: int | None = None) -> int:
    """A whole number from a person, as Python's int; ValueError for another kind (3.0 and True too) or one out of range."""
    found = plain(value)
    if not isinstance(found, Integral) or isinstance(found, bool) or found < low or (high is not None and found > high):
        limits = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {limits}, not {value!r}")
    return int(found)


def real(value: Any, name: str, low: float = 0.0, high: float | None = None) -> float:
    """A finite number from a person, as Python's; ValueError for another kind or one out of [low, high]."""
    found = plain(value)
    if not isinstance(found, Real) or isinstance(found, bool) or not low <= found < inf or (high is not None and found > high):
        limits = f"of at least {low:g}" if high is None else f"in [{low:g}, {high:g}]"
        raise ValueError(f"{name} must be a number {limits}, not {value!r}")
    return found if isinstance(found, int) else float(found)


def batch_of(value: Any) -> int:
    """How many pictures at once."""
    return whole(value, "batch", 1, BATCH)


def seed_of(value: Any) -> int:
    """A seed that every generator takes, torch's and numpy's."""
    return whole(value, "seed", 0, 2 ** 32 - 1)


def flag(value: Any, name: str) -> bool:
    """A yes or no from a person, as Python's bool; ValueError for anything else (1, None and "no" too)."""
    found = plain(value)
    if not isinstance(found, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return found


def several(values: Any, what: str) -> tuple:
    """Numbers from a person, in any kind of row, as a tuple; ValueError, saying `what` is wanted, for no row or another one."""
    found = plain(values)
    if not isinstance(found, Sequence) or isinstance(found, str) or not all(isinstance(part, Real) for part in found) \
            or any(isinstance(part, bool) for part in found):
        raise ValueError(f"{what}, not {values!r}")
    return tuple(found)


def rows_of_numbers(values: Any, what: str) -> list[tuple]:
    """Any number of rows of numbers; ValueError, saying `what` is wanted, for anything else."""
    found = plain(values)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError(f"{what}, not {values!r}")
    return [several(row, what) for row in found]


def wholes(values: Any, what: str) -> tuple[int, ...]:
    """The same of whole numbers of at least 1."""
    found = several(values, what)
    if not all(isinstance(part, Integral) and part >= 1 for part in found):
        raise ValueError(f"{what}, not {values!r}")
    return tuple(map(int, found))
