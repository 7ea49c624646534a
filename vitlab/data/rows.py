"""Which pictures of a set a person means: positions, a mask, a slice or a range, of whatever kind."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Rows = Sequence[int] | Sequence[bool] | slice | np.ndarray | Tensor     # also a pandas Series or Index


def rows_of(asked: Rows | int, n: int) -> Tensor:
    """Positions among n pictures, int64 [m] in the order asked for: of whole numbers (negative ones count from the end),
    one for every picture to take of n booleans, or a slice.

    Raises TypeError for floats, words and whatever else names no picture; IndexError for a picture that is not there, or a
    mask of another length.
    """
    if isinstance(asked, slice):
        return torch.from_numpy(np.arange(n)[asked].copy())
    if not isinstance(asked, Tensor):
        values = np.asarray(asked)
        if values.size == 0 and values.dtype.kind == "f":                   # an empty list has no type of its own
            values = values.astype(np.int64)
        if values.dtype.kind == "O" and all(isinstance(value, bool | np.bool_) for value in values.ravel()):
            values = values.astype(bool)                                    # a Series of booleans that once held None
        if values.dtype.kind not in "biu":
            raise TypeError(f"pictures are named by whole numbers, a mask of booleans or a slice, not by {described(asked)}")
        asked = torch.from_numpy(values.astype(bool if values.dtype.kind == "b" else np.int64))
    if asked.is_floating_point() or asked.is_complex():
        raise TypeError(f"pictures are named by whole numbers, a mask of booleans or a slice, not by {described(asked)}")
    if asked.dim() > 1:
        raise TypeError(f"pictures are named by one row of numbers or booleans, not by shape {tuple(asked.shape)}")
    asked = asked.cpu()
    if asked.dtype == torch.bool:
        if asked.shape != (n,):
            raise IndexError(f"a mask needs one boolean for each of {n} pictures, not {asked.numel()}")
        return asked.nonzero()[:, 0]
    rows = asked.long().reshape(-1)
    if len(rows) and (rows.min() < -n or rows.max() >= n):
        wrong = int(rows.max()) if rows.max() >= n else int(rows.min())
        raise IndexError(f"there is no picture {wrong} among {n}; they are numbered from 0 to {n - 1}")
    return torch.where(rows < 0, rows + n, rows)


def described(asked) -> str:
    """What was given instead, short."""
    kind = getattr(asked, "dtype", None)
    return f"{type(asked).__name__} of {kind}" if kind is not None else repr(asked)[:60]
