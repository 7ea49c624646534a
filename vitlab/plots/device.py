"""What a device makes of fewer tokens: where dropping pays, published schedules raced on it, a promise kept under load."""
from collections.abc import Mapping
from numbers import Real

import plotly.graph_objects as go
from pandas import DataFrame

from vitlab.plots.rows import frame
from vitlab.plots.theme import INK, LEGEND_ABOVE, MARKERS, SPARE, color_of, dress, faded, marker_of, title_of


def pays(data: DataFrame, *, marks: Mapping[str, float] | None = None) -> go.Figure:
    """Speed-up over all tokens against how many there are, a line per batch size, dotted what the FLOPs promise; above 1 dropping
    pays. data: rows of `measure.pays`. marks: {name: tokens}, such as how many a method has in a block on average.
    """
    rows, figure = frame(data, "batch", "tokens", "speed_up", "promised"), go.Figure()
    for number, (batch, part) in enumerate(rows.groupby("batch")):
        part, hue = part.sort_values("tokens"), SPARE[number % len(SPARE)]
        figure.add_scatter(x=part.tokens, y=part.speed_up, name=f"batch {batch}", mode="lines+markers", line={"color": hue},
                           marker=marker_of(hue, MARKERS[number % len(MARKERS)]),
                           hovertemplate="%{x} tokens: %{y:.2f}×<extra>batch " + str(batch) + "</extra>")
    line = rows.drop_duplicates("tokens").sort_values("tokens")
    figure.add_scatter(x=line.tokens, y=line.promised, name="promised by the FLOPs", mode="lines", hoverinfo="skip",
                       line={"color": faded(INK, 0.8), "width": 1.6, "dash": "dot"})
    figure.add_hline(y=1, line={"color": faded(color_of("dense"), 0.8), "width": 1.2})
    for number, (name, tokens) in enumerate(sorted(checked(marks).items(), key=lambda mark: mark[1])):
        figure.add_vline(x=tokens, line={"color": faded(color_of(name.split()[0]), 0.9), "width": 1.2, "dash": "dash"})
        figure.add_annotation(x=tokens, y=1 - 0.07 * (number % 4), yref="paper", text=name, showarrow=False, xanchor="left",
                              font={"color": color_of(name.split()[0]), "size": 12}, xshift=3)
    dress(figure, height=420, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text="tokens in every block")
    return figure.update_yaxes(title_text=title_of("speed_up"), type="log", tickvals=[0.25, 0.5, 1, 2, 4, 8, 16])


def checked(marks: Mapping[str, float] | None) -> Mapping[str, float]:
    """Marks by name; ValueError for what are none."""
    if marks is None:
        return {}
    if not isinstance(marks, Mapping) or not all(isinstance(name, str) and name and isinstance(at, Real)
                                                 for name, at in marks.items()):
        raise ValueError(f'marks must be numbers of tokens by name, such as {{"supervit": 98.5}}, not {marks!r}')
    return marks


def schedules(data: DataFrame) -> go.Figure:
    """Published accuracy against speed measured here, as times the dense net of the same backbone: rows of
    benchmarks/published.py, those of one backbone. A colour and a marker per method; what has no published accuracy is left out.
    """
    rows = frame(data, "method", "label", "top1", "speed_up", "gmacs_ratio").dropna(subset=["top1", "speed_up"])
    if rows.empty:
        raise ValueError("no row has both a published accuracy and a measured speed-up")
    figure, names = go.Figure(), tuple(dict.fromkeys(rows.method))
    for number, (method, part) in enumerate(rows.groupby("method", sort=False)):
        hue, part = color_of(method, names), part.sort_values("speed_up")
        figure.add_scatter(x=part.speed_up, y=part.top1, name=method, mode="lines+markers", line={"color": faded(hue, 0.5)},
                           marker=marker_of(hue, MARKERS[number % len(MARKERS)]), text=part.label, customdata=part.gmacs_ratio,
                           hovertemplate="%{text}: %{y} %, measured %{x:.2f}×, promised %{customdata:.2f}×<extra></extra>")
    dress(figure, height=400, legend=LEGEND_ABOVE, hovermode="closest")
    figure.update_xaxes(title_text="speed-up measured here (×)")
    return figure.update_yaxes(title_text="top-1 accuracy as published (%)")


def held(data: DataFrame) -> go.Figure:
    """How much of a promised throughput is kept while a machine becomes busy and quiet again, a line per `who`, over the windows
    of benchmarks/governor.py; the band is the promise, 15 % to either side, grey where another process works.
    """
    rows, figure = frame(data, "who", "window", "load", "first", "last", "held", "point"), go.Figure()
    names = tuple(dict.fromkeys(rows.who))
    busy = rows[(rows.load == "loaded") & (rows.who == names[0])]
    if len(busy):
        figure.add_vrect(x0=busy["first"].min(), x1=busy["last"].max(), fillcolor=faded(INK, 0.15), line_width=0,
                         annotation={"text": "another process works", "font": {"color": INK}}, annotation_position="top left")
    figure.add_hrect(y0=85, y1=115, fillcolor=faded(color_of("revit"), 0.12), line_width=0)
    for number, name in enumerate(names):
        part, hue = rows[rows.who == name], color_of("supervit" if number == 0 else "dense")
        figure.add_scatter(x=(part["first"] + part["last"]) / 2, y=100 * part.held, name=name, mode="lines+markers",
                           line={"color": hue}, marker=marker_of(hue, MARKERS[number % len(MARKERS)]), text=part.point,
                           hovertemplate="%{y:.0f} % at %{text}<extra>" + str(name) + "</extra>")
    dress(figure, height=380, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text="seconds")
    return figure.update_yaxes(title_text="pictures answered of those that came (%)", rangemode="tozero")
