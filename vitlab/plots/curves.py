"""Curves over tidy frames: accuracy against cost, training, tokens per layer, measured against promised speed-up."""
import plotly.graph_objects as go
from pandas import DataFrame, Series, concat, notna
from plotly.subplots import make_subplots

from vitlab.plots.theme import HERE, INK, MARKERS, color_of, dress, faded, title_of

FACTS = ("step", "epoch", "lr", "seconds", "images_per_s")      # columns of a training log that are not losses


def tradeoff(data: DataFrame, *, x: str = "gmacs", y: str = "top1", color: str = "method", line: str = "length",
             marker: str = "keep", here: dict | None = None) -> go.Figure:
    """Accuracy against cost, a row of `measure.sweep` per point: a colour per method, a line per `line` value, a marker per
    `marker` value; rows whose `source` is not "ours" (the papers') are hollow and dotted.

    x: "gmacs" or "images_per_s" (drawn on a log axis); here: column -> value of the one point to ring, e.g. {"length": 14, "keep": 0.5}.
    Rows without x or y are left out; ValueError if none is left.
    """
    data = complete(data, x, y)
    figure, marks, ours = go.Figure(), levels(data, marker), (source_of(data) == "ours").any()
    for label, hue, theirs, rows in groups(data, color):
        for value, part in grouped(rows, line):
            part = part.sort_values(x)
            best = part[y].idxmax()
            figure.add_scatter(
                x=part[x], y=part[y], mode="lines+markers+text", legendgroup=label, showlegend=False,
                text=[side(value) if line == "length" and i == best and not (theirs and ours) else "" for i in part.index],
                textposition="top center" if x == "gmacs" else "top right", textfont_size=11, cliponaxis=False,
                customdata=hover(part), hovertemplate="%{customdata}<extra></extra>",
                line=dict(color=faded(hue, 0.55), width=1.6, dash="dot" if theirs else "solid"),
                marker=marker_of(hue, [symbol(marks, v, theirs) for v in part.get(marker, Series(None, part.index))]))
        entry(figure, label, label, hue, "circle-open" if theirs else "circle", "dot" if theirs else "solid")
    for value in marks:
        entry(figure, f"{title_of(marker)} {value:g}", "markers", INK, symbol(marks, value, False))
    if here:
        ring(figure, data, x, y, here)
    dress(figure, height=440, hovermode="closest")
    figure.update_xaxes(title_text=title_of(x))
    if x == "images_per_s":
        ticks = [d * 10 ** e for e in range(-2, 6) for d in (1, 2, 5)]
        figure.update_xaxes(title_text=conditions(data), type="log", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
    return figure.update_yaxes(title_text=title_of(y))


def training(history: DataFrame) -> go.Figure:
    """A training log as `fit` returns it: loss terms on the left, accuracy on the right, over the training steps."""
    scores = [c for c in history if c.endswith("top1") and history[c].notna().any()]
    losses = [c for c in history.select_dtypes("number") if c not in FACTS and not c.endswith("top1") and history[c].notna().any()]
    if history.empty or not losses:
        raise ValueError("the training log holds no loss; give the frame that vitlab.fit returns")
    figure = make_subplots(cols=2 if scores else 1, horizontal_spacing=0.12)
    for place, columns in enumerate([losses, scores][:2 if scores else 1], start=1):
        for number, column in enumerate(columns):
            rows = history[history[column].notna()]
            hue = color_of(column, tuple(losses)) if place == 1 else (color_of("supervit") if number == 0 else INK)
            figure.add_scatter(x=rows["step"], y=rows[column], name=column.replace("_", " "), col=place, row=1,
                               mode="lines+markers" if len(rows) < 25 else "lines", line=dict(color=hue, width=1.8), marker_size=5)
    dress(figure, width=880, height=380, legend=dict(orientation="h", y=1.02, yanchor="bottom", x=0))
    figure.update_xaxes(title_text=title_of("step"), rangemode="tozero")
    figure.update_yaxes(title_text=title_of("loss"), rangemode="tozero", col=1)
    return figure.update_yaxes(title_text=title_of("top1"), col=2)


def tokens_by_layer(data: DataFrame, *, color: str = "method") -> go.Figure:
    """Patches per layer, mean over images, from rows of `measure.layers` (several such frames may be concatenated with a
    column `color` that tells them apart): filled steps reach the MLP, the dotted line took part in attention.
    """
    figure, names = go.Figure(), tuple(dict.fromkeys(data[color])) if color in data else ("patches",)
    for name, rows in data.groupby(color, sort=False) if color in data else [("patches", data)]:
        mean = rows.groupby(["stage", "layer"])[["attended", "fed"]].mean().reset_index()
        mean = concat([mean, mean.tail(1)])                             # a layer is a step from n - 1/2 to n + 1/2
        hue, common = color_of(name, names), dict(x=[n + 0.5 for n in range(len(mean))], line_shape="hv", legendgroup=name)
        figure.add_scatter(y=mean["fed"], name=name, fill="tozeroy", fillcolor=faded(hue, 0.13), mode="lines", line_color=hue,
                           line_width=2, hovertemplate="%{y:.4g} patches reach the MLP<extra></extra>", **common)
        figure.add_scatter(y=mean["attended"], showlegend=False, mode="lines", line_color=hue, line_dash="dot", line_width=1.4,
                           hovertemplate="%{y:.4g} patches in attention<extra></extra>", **common)
    dress(figure, height=360, showlegend=color in data, hovermode="closest")
    figure.update_xaxes(title_text=title_of("layer"), dtick=1, showgrid=False)
    return figure.update_yaxes(title_text="patches (line: MLP, dots: attention)", rangemode="tozero")


def speed(data: DataFrame, *, color: str = "method", marker: str = "keep") -> go.Figure:
    """Measured speed-up against the speed-up that the FLOPs promise, over each group's own costliest point.

    Rows of `measure.sweep` (and the paper's): on the diagonal a saved FLOP is a saved moment; hollow markers are the paper's.
    """
    data = complete(data, "gmacs", "images_per_s")
    figure, marks, top = go.Figure(), levels(data, marker), 1.0
    for label, hue, theirs, rows in groups(data, color):
        dense = rows.loc[rows["gmacs"].idxmax()]
        promised, measured = dense["gmacs"] / rows["gmacs"], rows["images_per_s"] / dense["images_per_s"]
        top = max(top, promised.max(), measured.max())
        figure.add_scatter(
            x=promised, y=measured, mode="markers", showlegend=False, customdata=hover(rows), legendgroup=label,
            hovertemplate="%{customdata}<br>promised %{x:.2f}×, measured %{y:.2f}×<extra></extra>",
            marker=marker_of(hue, [symbol(marks, v, theirs) for v in rows.get(marker, Series(None, rows.index))]))
        entry(figure, label, label, hue, "circle-open" if theirs else "circle")
    for value in marks:
        entry(figure, f"{title_of(marker)} {value:g}", "markers", INK, symbol(marks, value, False))
    figure.add_scatter(x=[1, top], y=[1, top], mode="lines", line=dict(color=INK, width=1, dash="dash"), hoverinfo="skip",
                       name="measured = promised")
    dress(figure, height=460, hovermode="closest")
    figure.update_xaxes(title_text="speed-up promised by the FLOPs (×)")
    return figure.update_yaxes(title_text="speed-up measured (×)")


def complete(data: DataFrame, x: str, y: str) -> DataFrame:
    """The rows that have both numbers; ValueError if there is none."""
    if missing := [c for c in (x, y) if c not in data]:
        raise ValueError(f"the frame has no column {missing[0]!r}; it has {', '.join(map(str, data.columns))}")
    rows = data[data[x].notna() & data[y].notna()]
    if rows.empty:
        raise ValueError(f"no row has both {x} and {y}; measure them with vitlab.sweep first")
    return rows


def source_of(data: DataFrame) -> Series:
    """Where each row comes from: "ours", or a paper and its table."""
    return data["source"].fillna("ours") if "source" in data else Series("ours", data.index)


def groups(data: DataFrame, color: str):
    """(label, colour, is it a paper's, rows) of every method, backbone and source; a label names no more than it must."""
    names = tuple(dict.fromkeys(data[color]))
    backbone = data["backbone"].fillna("") if "backbone" in data else Series("", data.index)
    for (name, source, net), rows in data.groupby([data[color], source_of(data), backbone], sort=False):
        several = backbone[data[color] == name].nunique() > 1
        label = f"{name} {net}" if several else str(name)
        yield (label if source == "ours" else f"{label}, paper"), color_of(name, names), source != "ours", rows


def grouped(rows: DataFrame, column: str):
    """(value, rows) for every value of a column; one group of None where the column is missing."""
    return rows.groupby(column, dropna=False) if column in rows else [(None, rows)]


def levels(data: DataFrame, column: str) -> list:
    """The values of a knob, largest first; none where the frame does not have it."""
    return sorted(data[column].dropna().unique(), reverse=True) if column in data else []


def symbol(marks: list, value, hollow: bool) -> str:
    """The marker of a knob's value: the largest value is a circle."""
    name = MARKERS[marks.index(value) % len(MARKERS)] if value in marks else MARKERS[0]
    return f"{name}-open" if hollow else name


def side(length) -> str:
    """A token length as its grid: 14 -> "14×14"; nothing where a method has no length."""
    return f"{length:g}×{length:g}" if length == length and length is not None else ""


def hover(rows: DataFrame) -> list[str]:
    """The text that appears over each row's marker: method, operating point, accuracy and cost."""
    facts = {"method": "{}", "length": "length {:g}", "keep": "keep rate {:g}", "threshold": "threshold {:g}", "top1": "{:.1f} %",
             "gmacs": "{:.3g} GFLOPs", "images_per_s": "{:.3g} images/s", "source": "{}"}
    return [" · ".join(form.format(row[c]) for c, form in facts.items() if c in row and notna(row[c])) for row in rows.to_dict("records")]


def conditions(data: DataFrame) -> str:
    """The speed axis's title with what it was measured on, where that is the same for every row."""
    facts = [str(data[c].dropna().iloc[0]) for c in ("device", "precision") if c in data and data[c].nunique() == 1]
    facts += [f"batch {data['batch'].dropna().iloc[0]:g}"] if "batch" in data and data["batch"].nunique() == 1 else []
    return f"{title_of('images_per_s')} ({', '.join(facts)})" if facts else title_of("images_per_s")


def marker_of(color: str, symbols: str | list[str], size: int = 9) -> dict:
    """A marker whose outline has its own colour, so that hollow and filled ones match."""
    return dict(color=color, symbol=symbols, size=size, line=dict(color=color, width=1.5))


def entry(figure: go.Figure, name: str, group: str, color: str, symbols: str, dash: str | None = None) -> None:
    """One legend entry without data."""
    figure.add_scatter(x=[None], y=[None], name=name, legendgroup=group, mode="lines+markers" if dash else "markers",
                       marker=marker_of(color, symbols), line=dict(color=color, width=1.6, dash=dash))


def ring(figure: go.Figure, data: DataFrame, x: str, y: str, here: dict) -> None:
    """Ring the rows of ours that match `here`."""
    rows = data[source_of(data) == "ours"]
    for column, value in here.items():
        rows = rows[rows[column] == value]
    figure.add_scatter(x=rows[x], y=rows[y], mode="markers", name="you are here", hoverinfo="skip",
                       marker=dict(symbol="circle-open", size=18, color=HERE, line_width=2.5))
