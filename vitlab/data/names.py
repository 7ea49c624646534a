"""Classes by name: a label is a position in one list of names, and two lists need not be in one order."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitlab.numbers import plain

SHOWN = 5       # names in a sentence


def renumbered(labels: Tensor, there: Sequence[str], here: Sequence[str], whose: str) -> Tensor:
    """Labels [n] among the names `there` as positions among the names `here`.

    Classes without a picture do not count. Raises ValueError, naming `whose` pictures they are, for one whose name is not
    `here`, or a name that stands twice in a list.
    """
    if list(there) == list(here):
        return labels
    for names in (there, here):
        if twice := sorted({name for name in names if list(names).count(name) > 1}):
            raise ValueError(f"two classes are called {twice[0]!r}, so they cannot be told apart by name; give each class of "
                             f"{whose} a name of its own, or the names of both in one order")
    place = {name: position for position, name in enumerate(here)}
    used = [there[label] for label in labels.unique().tolist()]
    if strange := [name for name in used if name not in place]:
        raise ValueError(f"{whose} holds pictures of {listed(strange)}, which are not among the {len(here)} classes of the net "
                         f"({listed(here)}); load the set with the net's names in classes=, or make a net for these classes")
    return torch.tensor([place.get(name, -1) for name in there])[labels]


def names(classes: Any) -> list[str]:
    """The names of classes as a person gives them, whole numbers as text; ValueError for what is no row of at least one name."""
    rows = isinstance(classes, Sequence | np.ndarray) and not isinstance(classes, str | bytes)
    found = list(plain(classes if rows else ()))
    if not found or not all(isinstance(name, str | int) and not isinstance(name, bool) for name in found):
        raise ValueError(f"classes must be the names of at least one class, such as the classes of an image set, not {classes!r}")
    return [str(name) for name in found]


def names_of(made: dict) -> list[str] | None:
    """The class names of a net, from the record of how it was made, or None: it knows none."""
    names = made.get("classes")
    return None if names is None else list(names)


def numerals(names: Sequence[str]) -> bool:
    """Are these the names of classes that have none: "0", "1", ...?"""
    return list(names) == [str(position) for position in range(len(names))]


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
