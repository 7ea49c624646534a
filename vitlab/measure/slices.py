"""Slices: which pictures of a set to look at one by one, chosen by what a net answers."""
from collections.abc import Sequence

import pandas as pd

from vitlab.numbers import whole
from vitlab.words import one_of

NEEDS = {       # a way to choose -> the columns of `answers` that it reads
    "all": (), "wrong": ("correct",), "lost": ("correct",), "unsure": ("confidence",), "dear": ("gmacs",)}
ORDERED = ("unsure", "dear")                # ways that put pictures into an order and leave none out


def pick(table: pd.DataFrame, how: str = "all", *, beside: pd.DataFrame | None = None, label: int | None = None) -> list[int]:
    """Which pictures to look at, in this order: numbers from the column `image` of `table`, rows of `answers`.

    how: "all"; "wrong", those answered wrongly; "lost", those wrong here and right in `beside`, the answers of another point or
    net to the same pictures; "unsure", all, the least confident first; "dear", all, those of the most multiply-adds first.
    label: of these the pictures of one class, by its number in `table` (None: of every class). May be empty.
    Raises ValueError for frames that are no answers, or to other pictures than each other.
    """
    one_of(how, "how", NEEDS)
    check_answers(table, "table", ["image", *NEEDS[how], *(["label"] if label is not None else [])])
    if (how == "lost") != (beside is not None):
        raise ValueError('beside holds the answers that are right where those of table are wrong; give it with how="lost", and '
                         "only then")
    rows = table
    if how == "wrong":
        rows = table[~table.correct]
    elif how == "lost":
        check_answers(beside, "beside", ["image", "correct"])
        if table.image.tolist() != beside.image.tolist():
            raise ValueError("table and beside are answers to different pictures; ask both about the same ones, in one order")
        rows = table[~table.correct & beside.correct.to_numpy()]
    elif how in ORDERED:
        rows = table.sort_values(*NEEDS[how], ascending=how == "unsure", kind="stable")
    if label is not None:
        rows = rows[rows.label == whole(label, "label", 0)]
    return rows.image.tolist()


def check_answers(table: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    """One sentence for what lacks these columns of `answers`."""
    if not isinstance(table, pd.DataFrame) or not set(columns) <= set(table):
        raise ValueError(f"{name} must be rows of vitlab.answers, with {', '.join(columns)}, not a {type(table).__name__}")
    if "correct" in columns and table.correct.dtype != bool:
        raise ValueError(f"the column correct of {name} must be True or False in every row, not {table.correct.dtype}")
