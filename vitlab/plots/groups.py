"""Groups side by side: means over seeds with their spread, and galleries of pictures."""
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from numpy import ndarray
from pandas import DataFrame

from vitlab.numbers import whole
from vitlab.plots.overlay import enlarge
from vitlab.plots.pictures import left, panels, present
from vitlab.plots.rows import frame
from vitlab.plots.theme import LEGEND_ABOVE, color_of, dress, faded, marker_of, title_of
from vitlab.trace import Trace

LEAST = 76                                  # pixels of a gallery's picture, below which nobody reads its title


def by_group(data: DataFrame, *, x: str | Sequence[str] = "point", y: str = "top1", color: str = "method") -> go.Figure:
    """Mean and standard deviation over the rows (seeds) of every group, with a dash for each row.

    x: a column, or two for a nested axis, e.g. ("length", "keep"); color: the column whose values stand side by side.
    Dots, not bars: the axis need not start at zero, so small differences stay honest.
    """
    keys = list(x) if isinstance(x, tuple | list) else [x]
    data = frame(data, *keys, y, color)
    if not keys:
        raise ValueError("x must be the name of a column, or of two")
    figure, names, seeds = go.Figure(), tuple(dict.fromkeys(data[color])), 1
    for name in names:
        rows, hue = data[data[color] == name], color_of(name, names)
        table = rows.groupby(keys, sort=False)[y].agg(["mean", "std", "count"]).reset_index()
        seeds = max(seeds, int(table["count"].max()))
        figure.add_scatter(x=places(rows, keys), y=rows[y], mode="markers", offsetgroup=name, showlegend=False,
                           hoverinfo="skip", marker=marker_of(faded(hue, 0.5), "line-ew-open", 6))
        figure.add_scatter(x=places(table, keys), y=table["mean"], mode="markers", offsetgroup=name, name=name,
                           marker=marker_of(hue, "circle"),
                           error_y={"array": table["std"].fillna(0), "thickness": 1.6, "width": 4, "color": hue},
                           hovertemplate="%{y:.2f} ± %{error_y.array:.2f}<extra>" + str(name) + "</extra>")
    dress(figure, height=400, scattermode="group", scattergap=0.5, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text=" × ".join(map(title_of, keys)), type="category" if len(keys) == 1 else "multicategory",
                        showgrid=False)
    pad = 0.06 * (data[y].max() - data[y].min()) or 1                          # a grouped axis would start at zero by itself
    return figure.update_yaxes(range=[data[y].min() - pad, data[y].max() + pad],
                               title_text=f"{title_of(y)}, mean ± sd of {seeds}" if seeds > 1 else title_of(y))


def places(rows: DataFrame, keys: list[str]) -> list:
    """Positions on a category axis, or on a nested one for two keys."""
    text = [[f"{v:g}" if isinstance(v, float) else str(v) for v in rows[k]] for k in keys]
    return text[0] if len(keys) == 1 else text


def kept_by(picture: ndarray, traces: Mapping[str, Trace], *, row: int = 0) -> go.Figure:
    """The patches that reach the MLP of each layer under several nets, a row of panels for each: as `kept`, every layer shown.

    picture: uint8 [S, S, 3] of image `row` of every trace. Of a cascade the last net that the image came to is shown.
    """
    if not isinstance(traces, Mapping) or not traces:
        raise ValueError('traces must be given by name, such as {"spvit": trace}')
    rows = {}
    for label, trace in traces.items():
        passes = present(trace, row)
        own = [part for part in passes if part.stages == passes[-1].stages]
        rows[label] = [(left(picture, part, row),
                        f"{part.layer + 1}: {int(part.fed[row].sum())} of {part.fed.shape[1]}") for part in own]
    return gallery(rows, columns=max(map(len, rows.values())))


def gallery(rows: dict[str, Sequence[tuple[ndarray, str]]], *, columns: int = 8) -> go.Figure:
    """Rows of pictures, a heading above each: {"easy": [(picture uint8 [S, S, 3], "star 98 %"), ...], "hard": [...]}.

    A row shows its first `columns` pictures. ValueError if there is none.
    """
    wanted, columns = "rows must be lists of (picture, title) by their headings, such as {\"easy\": [(picture, \"star\")]}", \
        whole(columns, "columns")
    if not isinstance(rows, Mapping) or not all(isinstance(items, Sequence) and not isinstance(items, str)
                                                for items in rows.values()):
        raise ValueError(f"{wanted}, not a {type(rows).__name__}")
    shown = {label: list(items)[:columns] for label, items in rows.items() if len(items)}
    if not shown:
        raise ValueError("the gallery is empty; give at least one (picture, title) in one row")
    if odd := [item for items in shown.values() for item in items if not isinstance(item, tuple | list) or len(item) != 2]:
        raise ValueError(f"{wanted}; a {type(odd[0]).__name__} is no (picture, title)")
    width = max(len(items) for items in shown.values())
    cells = [cell for items in shown.values() for cell in [*items, *[(None, "")] * (width - len(items))]]
    return panels([None if picture is None else enlarge(picture, 112) for picture, _ in cells], [title for _, title in cells],
                  columns=width, side=max(LEAST, 820 // width), labels=list(shown))   # ten fit beside a file browser
