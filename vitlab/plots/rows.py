"""Reading the rows of a sweep, ours and the papers', the way figures need them."""
from collections.abc import Iterator

from pandas import DataFrame, Series, notna

from vitlab.plots.theme import color_of, title_of

HOVER = {"method": "{}", "variant": "{}", "length": "length {:g}", "keep": "keep rate {:g}", "threshold": "threshold {:g}",
         "top1": "{:.1f} %", "gmacs": "{:.3g} GFLOPs", "images_per_s": "{:.3g} images/s", "source": "{}"}


def frame(data: DataFrame, *columns: str) -> DataFrame:
    """Rows that have these columns; TypeError or ValueError, in one sentence, for what has not, or is no frame."""
    if not isinstance(data, DataFrame):
        raise TypeError(f"a figure of rows needs a pandas frame, such as vitlab.sweep returns, not a {type(data).__name__}")
    for column in columns:
        if not isinstance(column, str) or column not in data:
            raise ValueError(f"the frame has no column {column!r}; it has {', '.join(map(str, data.columns)) or 'none'}")
    return data


def complete(data: DataFrame, x: str, y: str) -> DataFrame:
    """The rows that have both numbers; ValueError if there is none."""
    data = frame(data, x, y)
    rows = data[data[x].notna() & data[y].notna()]
    if rows.empty:
        raise ValueError(f"no row has both {x} and {y}; measure them with vitlab.sweep first")
    return rows


def sources(data: DataFrame) -> Series:
    """Where each row comes from: "ours", or a paper and its table."""
    return data["source"].fillna("ours") if "source" in data else Series("ours", data.index)


def groups(data: DataFrame, color: str) -> Iterator[tuple[str, str, bool, DataFrame]]:
    """(label, colour, is it a paper's, rows) of every method and variant, backbone and source.

    A label names no more than it must to tell the groups apart.
    """
    variant, backbone = (data[c].fillna("") if c in data else Series("", data.index) for c in ("variant", "backbone"))
    kind, source = (data[color].astype(str) + " " + variant).str.strip(), sources(data)
    names = tuple(dict.fromkeys(kind))
    for (name, net, whose), rows in data.groupby([kind, backbone, source], sort=False):
        label = f"{name}, {net}" if backbone[kind == name].nunique() > 1 else name
        yield (label if whose == "ours" else f"{label}, paper"), color_of(name, names), whose != "ours", rows


def levels(data: DataFrame, column: str) -> list:
    """The values of a knob, largest first; none where the frame does not have it."""
    return sorted(data[column].dropna().unique(), reverse=True) if column in data else []


def values(rows: DataFrame, column: str) -> Series:
    """A knob's value per row, None where the frame does not have it."""
    return rows[column] if column in rows else Series(None, rows.index, dtype=object)


def hover(rows: DataFrame) -> list[str]:
    """The text that appears over each row's marker: what it is, how good and how dear."""
    return [" · ".join(form.format(row[c]) for c, form in HOVER.items() if c in row and notna(row[c]))
            for row in rows.to_dict("records")]


def conditions(data: DataFrame, column: str = "images_per_s") -> str:
    """The title of a speed axis, with what it was measured on where that is the same for every row; one image is no batch."""
    facts = ("device", "precision") if column == "latency_ms" else ("device", "precision", "batch")
    alike = [c for c in facts if c in data and data[c].nunique() == 1]
    first = {c: data[c].dropna().iloc[0] for c in alike}
    facts = [f"batch {value:g}" if c == "batch" else str(value) for c, value in first.items()]
    return f"{title_of(column)} ({', '.join(facts)})" if facts else title_of(column)
