"""Under which name a set has the split that was asked for. Train never stands in for another."""

import re
from collections.abc import Sequence

SPELLINGS = {"train": ("train", "training"), "val": ("validation", "val", "valid", "dev"), "test": ("test", "testing")}
STANDS_IN = {"val": "test", "test": "val"}     # where a set holds out one split only, it serves as both


def family(name: str) -> str | None:
    """train, val or test, if that is what a name says, in any case; None for every other name."""
    return next((kind for kind, names in SPELLINGS.items() if name.lower() in names), None)


def spelled_in(text: str) -> str | None:
    """The word by which a file's name tells its split: the first, else the only one that can ("cifar10-train-00")."""
    words = [word for word in re.split(r"[^a-z]+", text.lower()) if word]
    telling = [word for word in words if family(word)]
    return telling[0] if telling and (telling[0] == words[0] or len(set(telling)) == 1) else None


def chosen(asked: str, names: Sequence[str], where) -> str:
    """Which of a set's own split names is meant; ValueError where it has none of the kind."""
    if asked in names:
        return asked
    kind = family(str(asked))
    for spelling in SPELLINGS.get(kind, ()) + SPELLINGS.get(STANDS_IN.get(kind), ()):
        for name in names:
            if name.lower() == spelling:
                return name
    hold_out = ", and hold pictures out of it with load(...).split(share, seed)" if kind in STANDS_IN else ""
    raise ValueError(f"{where} has no split {asked!r}; choose from {', '.join(map(str, names))}{hold_out}")
