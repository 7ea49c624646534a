"""Columns of a table: which one holds the pictures, which one the labels, and what a label may be."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

IMAGE_NAMES = ("image", "img", "images", "picture")
LABEL_NAMES = ("label", "labels", "class", "target", "category")
MOST = 100_000        # a label beyond is a number of something else


def choose(kind: str, candidates: list[str], asked: str | None, usual: Sequence[str], columns: Sequence[str]) -> str:
    """The column asked for, the only candidate, or the only one with a usual name."""
    if asked is not None:
        if asked not in columns:
            raise ValueError(f"there is no column {asked!r}; choose from {', '.join(columns)}")
        return asked
    named = [name for name in usual if name in candidates]
    for one in (candidates, named):
        if len(one) == 1:
            return one[0]
    if candidates:
        raise ValueError(f"this set has several {kind} columns; choose with {kind}=, from "
                         f"{', '.join(named or candidates)}")
    raise ValueError(f"this set has no {kind} column among {', '.join(columns)}; name one with {kind}=")


def image_column(table, asked: str | None):
    """The table, its pictures typed as such, and their column: by type, else whatever holds encoded bytes."""
    import datasets
    features = table.features
    encoded = [name for name, feature in features.items()
               if isinstance(feature, dict) and "bytes" in feature
               or getattr(feature, "dtype", "") in ("binary", "large_binary")]
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)] or encoded
    column = choose("image", candidates, asked, IMAGE_NAMES, list(features))
    if not isinstance(features[column], datasets.Image):
        if column not in encoded and getattr(features[column], "dtype", "") not in ("string", "large_string"):
            raise ValueError(f"column {column!r} holds no pictures as files have them; store each as the bytes of a PNG "
                             "or JPEG file")
        table = table.cast_column(column, datasets.Image())
    return table, column


def labelled(table, asked: str | None, classes: Sequence[str] | None) -> tuple[Tensor, list[str]]:
    """Labels int64 [N] and the names of the classes, from a ClassLabel column, else one under a usual name.

    One label per picture: a word, a whole number (1.0 is one), or a row with a single 1 among zeros, which counts as
    the place of its 1. classes: where the set has names, the order they shall have, and perhaps more names; where it
    has numbers only, the name of 0, of 1, and so on.
    """
    import datasets
    features = table.features
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    candidates = candidates or [name for name in LABEL_NAMES if name in features]
    column = choose("label", candidates, asked, LABEL_NAMES, list(features))
    values = table.select_columns(column).with_format("arrow")[:][column].combine_chunks()
    return in_order(*read(values, column, features[column]), classes)


def read(values, column: str, feature) -> tuple[np.ndarray, list[str]]:
    """Of a pyarrow array: the number of each picture's class, int64 [N], and the names of the classes."""
    import pyarrow.types as kinds
    missing(column, values.null_count, len(values))
    if kinds.is_string(values.type) or kinds.is_large_string(values.type):
        return words(values, column)
    if kinds.is_list(values.type) or kinds.is_large_list(values.type) or kinds.is_fixed_size_list(values.type):
        return one_hot(values, column, feature)
    if kinds.is_floating(values.type):
        numbers = whole(values.to_numpy(zero_copy_only=False).astype(np.float64), column)
    elif kinds.is_integer(values.type) or kinds.is_boolean(values.type):
        numbers = values.to_numpy(zero_copy_only=False)
    else:
        raise ValueError(f"column {column!r} holds {values.type}, no labels; a label is a word or a whole number: name "
                         "another column with label=")
    if numbers.max() >= MOST:
        raise ValueError(f"column {column!r} holds {numbers.max()}, no label; name another with label=")
    numbers = numbers.astype(np.int64)
    return numbers, getattr(feature, "names", None) or counted(numbers.max() + 1)


def words(values, column: str) -> tuple[np.ndarray, list[str]]:
    coded = values.dictionary_encode()
    found, numbers = coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)
    empty = [place for place, word in enumerate(found) if not word.strip()]
    missing(column, int(np.isin(numbers, empty).sum()), len(values))
    names = ordered(found)
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[word] for word in found])[numbers], names


def whole(values: np.ndarray, column: str) -> np.ndarray:
    """Numbers with a point that stand for whole ones, as pandas writes them where a label was missing."""
    missing(column, int(np.isnan(values).sum()), len(values))
    broken = values[values != np.floor(values)] if np.isfinite(values).all() else values[~np.isfinite(values)]
    if len(broken):
        raise ValueError(f"column {column!r} holds numbers such as {broken[0]:g}, no labels; a label is a word or a "
                         "whole number: name another column with label=")
    return values


def one_hot(values, column: str, feature) -> tuple[np.ndarray, list[str]]:
    """Rows that are all as long and hold one 1 among zeros; a list of labels per picture is refused."""
    import pyarrow.compute
    import pyarrow.types as kinds
    length, flat = len(values[0]), values.flatten()
    plain = kinds.is_boolean(flat.type) or kinds.is_integer(flat.type) or kinds.is_floating(flat.type)
    same = length > 1 and len(pyarrow.compute.list_value_length(values).unique()) == 1
    of_classes = hasattr(getattr(feature, "feature", None), "names")     # each entry is a label, not a 0 or 1
    if plain and same and flat.null_count == 0 and not of_classes:
        rows = flat.to_numpy(zero_copy_only=False).reshape(len(values), length)
        if (((rows == 0) | (rows == 1)).all(1) & ((rows == 1).sum(1) == 1)).all():
            return rows.argmax(1), counted(length)
    raise ValueError(f"column {column!r} holds lists (the first is {str(values[0].as_py())[:40]}), but a picture has one "
                     "label: a word, a whole number, or a row with a single 1 among zeros; name another column with label=")


def missing(column: str, count: int, of: int) -> None:
    if count:
        raise ValueError(f"{count} of {of} labels in column {column!r} are missing; fill them in or take those pictures out")


def counted(n: int) -> list[str]:
    """The names of classes that are known by number only."""
    return [str(number) for number in range(n)]


def ordered(names: Iterable[str]) -> list[str]:
    """Each name once: whole numbers by value, words by the alphabet."""
    names = set(names)
    by_value = all(name.isascii() and name.isdigit() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if by_value else None)


def in_order(numbers: np.ndarray, names: list[str], classes: Sequence[str] | None) -> tuple[Tensor, list[str]]:
    """The labels as places in `classes`, by name; where the set knows its classes by number only, by that number."""
    if classes is None:
        return torch.from_numpy(numbers), names
    wanted = [str(name) for name in classes]
    if isinstance(classes, str) or not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"classes={classes!r} is no list of names; give every class's name, each once")
    place = {name: number for number, name in enumerate(wanted)}
    unknown = [names[number] for number in np.unique(numbers) if 0 <= number < len(names) and names[number] not in place]
    if names and not unknown:
        moved = np.array([place.get(name, -1) for name in names])
        inside = (numbers >= 0) & (numbers < len(names))
        numbers = np.where(inside, moved[numbers.clip(0, len(names) - 1)], numbers)
    elif names != counted(len(names)):
        raise ValueError(f"labels {unknown[:5]} are not among {wanted[:5]}; give every name in classes=")
    return torch.from_numpy(numbers), wanted
