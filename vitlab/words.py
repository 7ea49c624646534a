"""Words and paths as people give them: one of a few choices, or where a file is; anything else gets one sentence. And an
operating point as people read it."""
import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from numpy import float32


def one_of(value: Any, name: str, choices: Iterable[str]) -> str:
    """The choice that was made; ValueError, naming them all, for anything else."""
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


def path_of(value: Any, name: str = "a path") -> Path:
    """Where a file or folder is, ~ being one's home. TypeError for what is no path, ValueError for an empty one."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise TypeError(f"{name} must be text or a pathlib.Path, not {value!r}")
    if not os.fspath(value):
        raise ValueError(f"{name} is empty; say where")
    return Path(value).expanduser()


def short(point: Any) -> str:
    """A point as code, its numbers with the digits that single precision tells apart, which nets compute in."""
    if not is_dataclass(point):
        return repr(point)
    knobs = ", ".join(f"{field.name}={brief(getattr(point, field.name))}" for field in fields(point))
    return f"{type(point).__name__}({knobs})"


def brief(value: Any) -> str:
    """A knob's value as code."""
    if isinstance(value, tuple):
        return f"({', '.join(map(brief, value))}{',' * (len(value) == 1)})"
    return str(float32(value)) if isinstance(value, float) else repr(value)
