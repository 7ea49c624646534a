"""Curves over tidy frames: accuracy against cost, training, tokens per layer, measured against promised speed-up."""
import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame, concat, notna
from plotly.subplots import make_subplots

from vitlab.numbers import flag
from vitlab.plots.labels import name_lines
from vitlab.plots.rows import complete, conditions, frame, groups, hover, levels, sources, values
from vitlab.plots.theme import (
    HERE,
    INK,
    LEGEND_ABOVE,
    MARKERS,
    SPARE,
    color_of,
    dress,
    entry,
    faded,
    marker_of,
    shape_of,
    symbol,
    title_of,
)

FACTS = ("step", "epoch", "lr", "seconds", "images_per_s")                     # columns of a training log that are not losses
DASHES = ("solid", "dash", "dot")                                               # where there are more curves than colours
LOG = ("images_per_s", "latency_ms")                                            # measured: a ratio is what counts
TICKS = [digit * 10.0 ** power for power in range(-2, 7) for digit in (1, 2, 5)]


def tradeoff(data: DataFrame, *, x: str = "gmacs", y: str = "top1", color: str = "method", line: str = "length",
             marker: str = "keep", here: dict | None = None, front: bool = False) -> go.Figure:
    """Accuracy against cost, a row of `measure.sweep` per point: a colour per method, a line per `line` value, a marker
    per `marker` value; rows whose `source` is not "ours" (the papers') are hollow and dotted. Lines are named where there
    is room.

    x: "gmacs", or "images_per_s" or "latency_ms" on a log axis. here: the values of one point to ring, e.g. {"length": 14,
    "keep": 0.5}. front: join those of our points than which none is better in both, the Pareto front.
    Rows without x or y are left out; ValueError if none is left.
    """
    data, front = frame(complete(data, x, y), color), flag(front, "front")
    check_knobs(line, marker)
    figure, marks, ours, names = go.Figure(), levels(data, marker), (sources(data) == "ours").any(), {}
    parts = list(groups(data, color))
    everybody = tuple(dict.fromkeys(label.removesuffix(", paper") for label, *_ in parts))
    for label, hue, theirs, rows in parts:
        own = MARKERS[0] if marks else shape_of(label.removesuffix(", paper"), everybody)
        for value, part in rows.groupby(line, dropna=False) if line in rows else [(None, rows)]:
            part = part.sort_values(x)
            if line == "length" and notna(value) and not (theirs and ours):
                names[len(figure.data)] = f"{value:g}×{value:g}"
            figure.add_scatter(
                x=part[x], y=part[y], mode="lines+markers+text", legendgroup=label, showlegend=False, cliponaxis=False,
                customdata=hover(part), hovertemplate="%{customdata}<extra></extra>",
                line={"color": faded(hue, 0.55), "width": 1.6, "dash": "dot" if theirs else "solid"},
                marker=marker_of(hue, [symbol(marks, v, theirs) if marks else f"{own}-open" if theirs else own
                                       for v in values(part, marker)]))
        entry(figure, label, label, hue, f"{own}-open" if theirs else own, "dot" if theirs else "solid")
    for value in marks:
        entry(figure, f"{title_of(marker)} {value:g}", "markers", INK, symbol(marks, value))
    if here is not None:
        ring(figure, data[sources(data) == "ours"], x, y, here)
    if front:
        best = pareto(data[sources(data) == "ours"], x, y)
        figure.add_scatter(x=best[x], y=best[y], mode="lines", name="Pareto front", hoverinfo="skip", zorder=-1,
                           line={"color": INK, "width": 7}, opacity=0.25)
    dress(figure, height=440, hovermode="closest")
    name_lines(figure, names, log=x in LOG, first="top center" if x == "gmacs" else "top right")
    figure.update_xaxes(title_text=title_of(x))
    if x in LOG:
        figure.update_xaxes(title_text=conditions(data, x), type="log", tickvals=TICKS, ticktext=[f"{t:g}" for t in TICKS])
    return figure.update_yaxes(title_text=title_of(y))


def pareto(rows: DataFrame, x: str, y: str) -> DataFrame:
    """Those than which none is better in one and as good in the other, cheapest first; of a speed more is better."""
    rows = rows.sort_values([x, y], ascending=[x != "images_per_s", False])
    return rows[rows[y] > rows[y].cummax().shift(fill_value=float("-inf"))]


def check_knobs(*columns: str) -> None:
    """ValueError for what names no column; a frame need not have it, as one of a method without that knob."""
    for column in columns:
        if not isinstance(column, str):
            raise ValueError(f"a knob is told by the name of its column, such as keep, not {column!r}")


def ring(figure: go.Figure, rows: DataFrame, x: str, y: str, here: dict) -> None:
    """Ring the rows that match `here`, if any does."""
    if not isinstance(here, dict):
        raise ValueError(f"here must be the values of one point by their columns, such as {{\"length\": 14}}, not {here!r}")
    rows = frame(rows, *here)
    for column, value in here.items():
        rows = rows[rows[column] == value]
    figure.add_scatter(x=rows[x], y=rows[y], mode="markers", name="you are here", hoverinfo="skip",
                       marker={"symbol": "circle-open", "size": 18, "color": HERE, "line": {"width": 2.5}})


def speed(data: DataFrame, *, color: str = "method", marker: str = "keep") -> go.Figure:
    """Measured speed-up against the speed-up that the FLOPs promise, over each group's own costliest point.

    Rows of `measure.sweep` (and the papers', hollow): on the diagonal, a saved FLOP is a saved moment.
    """
    data = frame(complete(data, "gmacs", "images_per_s"), color)
    check_knobs(marker)
    figure, marks, top = go.Figure(), levels(data, marker), 1.0
    for label, hue, theirs, rows in groups(data, color):
        dense = rows.loc[rows["gmacs"].idxmax()]
        promised, measured = dense["gmacs"] / rows["gmacs"], rows["images_per_s"] / dense["images_per_s"]
        top = max(top, promised.max(), measured.max())
        figure.add_scatter(
            x=promised, y=measured, mode="markers", showlegend=False, legendgroup=label, customdata=hover(rows),
            hovertemplate="%{customdata}<br>promised %{x:.2f}×, measured %{y:.2f}×<extra></extra>",
            marker=marker_of(hue, [symbol(marks, v, theirs) for v in values(rows, marker)]))
        entry(figure, label, label, hue, "circle-open" if theirs else "circle")
    for value in marks:
        entry(figure, f"{title_of(marker)} {value:g}", "markers", INK, symbol(marks, value))
    figure.add_scatter(x=[1, top], y=[1, top], mode="lines", line={"color": INK, "width": 1, "dash": "dash"},
                       hoverinfo="skip", name="measured = promised")
    dress(figure, height=460, hovermode="closest")
    figure.update_xaxes(title_text="speed-up promised by the FLOPs (×)")
    return figure.update_yaxes(title_text="speed-up measured (×)")


def training(history: DataFrame) -> go.Figure:
    """A training log as `fit` returns it: loss terms on the left, accuracy on the right, over the training steps.

    A term that is all of the loss, and would lie on its line, is not drawn beside it.
    """
    history = frame(history, "step")
    filled = [c for c in history.select_dtypes("number") if history[c].notna().any()]
    scores = [c for c in filled if c.endswith("top1")]
    losses = [c for c in filled if c not in (*FACTS, *scores)]
    if not losses:
        raise ValueError("the training log holds no loss; give the frame that vitlab.fit returns")
    if "loss" in losses:
        losses = [c for c in losses if c == "loss" or not np.allclose(history[c], history["loss"], rtol=1e-6, equal_nan=True)]
    figure = make_subplots(cols=2 if scores else 1, horizontal_spacing=0.12)
    for place, column in enumerate((*losses, *scores)):
        hue, dash = color_of(column, (*losses, *scores)), DASHES[place // len(SPARE) % len(DASHES)]
        rows = history[history[column].notna()]
        figure.add_scatter(x=rows["step"], y=rows[column], name=column.replace("_", " "), row=1, col=1 if column in losses else 2,
                           mode="lines+markers" if len(rows) < 25 else "lines", marker_size=5,
                           line={"color": hue, "width": 1.8, "dash": dash})
    dress(figure, width=880 if scores else 520, height=380, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text=title_of("step"), rangemode="tozero")
    figure.update_yaxes(title_text=title_of("loss"), rangemode="tozero", col=1)
    return figure.update_yaxes(title_text=title_of("top1"), col=2)


def exits(data: DataFrame, *, x: str = "gmacs") -> go.Figure:
    """Where images leave a cascade, against the mean cost (DVT Fig. 10): a row per operating point, with the columns exit1,
    exit2, ... that hold the share of images. ValueError for a frame without them.
    """
    places = [column for column in frame(data) if str(column).startswith("exit") and str(column)[4:].isdigit()]
    if not places or x not in list(data):
        raise ValueError(f"the frame needs {x} and the columns exit1, exit2, ...; it has {', '.join(map(str, data.columns))}")
    data, figure = data.sort_values(x), go.Figure()
    for number, column in enumerate(places):
        hue = faded(color_of("dvt"), 0.25 + 0.75 * number / max(len(places) - 1, 1))
        figure.add_scatter(x=data[x], y=100 * data[column], name=f"exit {column[4:]}", stackgroup="all", mode="lines",
                           line={"color": hue, "width": 1}, fillcolor=hue, hovertemplate="%{y:.0f} %")
    dress(figure, height=320, hovermode="x unified", legend={"traceorder": "normal", **LEGEND_ABOVE})
    figure.update_xaxes(title_text=title_of(x), showgrid=False)
    return figure.update_yaxes(title_text="images that leave here (%)", range=[0, 100])


def tokens_by_layer(data: DataFrame, *, color: str = "method") -> go.Figure:
    """Patches per layer, mean over images, from rows of `measure.layers`: the line reaches the MLP, the dots attention.

    Several such frames may be concatenated, with a column `color` that tells them apart.
    """
    figure, named = go.Figure(), color in list(frame(data, "stage", "layer", "attended", "fed"))
    names = tuple(dict.fromkeys(data[color])) if named else ("patches",)
    for name, rows in data.groupby(color, sort=False) if named else [("patches", data)]:
        mean = rows.groupby([c for c in ("stage", "inner", "layer") if c in rows])[["attended", "fed"]].mean()
        mean = concat([mean, mean.tail(1)])                                    # a layer is a step from n - 1/2 to n + 1/2
        hue = color_of(name, names)
        common = {"x": [n + 0.5 for n in range(len(mean))], "mode": "lines", "line_shape": "hv", "line_color": hue,
                  "legendgroup": name}
        figure.add_scatter(y=mean["fed"], name=name, fill="tozeroy", fillcolor=faded(hue, 0.13), line_width=2,
                           hovertemplate="%{y:.4g} patches reach the MLP<extra></extra>", **common)
        figure.add_scatter(y=mean["attended"], showlegend=False, line_dash="dot", line_width=1.4,
                           hovertemplate="%{y:.4g} patches in attention<extra></extra>", **common)
    dress(figure, height=360, showlegend=named, hovermode="closest")
    figure.update_xaxes(title_text=title_of("layer"), dtick=1, showgrid=False)
    return figure.update_yaxes(title_text="patches (line: MLP, dots: attention)", rangemode="tozero")
