"""Along the depth: what a net would answer after every block, and what its exits need."""
from collections.abc import Sequence

import plotly.graph_objects as go
from pandas import DataFrame

from vitlab.data.names import names
from vitlab.numbers import whole
from vitlab.plots.rows import frame
from vitlab.plots.theme import GRID, HERE, INK, LEGEND_ABOVE, SPARE, dress, marker_of

SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "star", "pentagon")
SURE, NEEDS = "cross-open", "line-ew-open"              # markers that no class has


def depth(data: DataFrame, classes: Sequence[str] | None = None, *, most: int = 4) -> go.Figure:
    """Rows of `measure.depth`: the probability of the answer and of the classes that led, at most `most`, after every block.

    classes: their names (None: their numbers). Stages of a cascade stand side by side; the bar at the last block of one is its
    threshold, and where an exit is not judged by the largest probability, what it is judged by is a line of its own.
    """
    data, most = frame(data, "stage", "layer", "class", "probability", "score", "threshold"), whole(most, "most", 1, len(SHAPES))
    places = ["stage", *(["inner"] if "inner" in data else []), "layer"]
    spots = data.drop_duplicates(places).reset_index(drop=True)
    if spots.empty:
        raise ValueError("there is no row; measure them with vitlab.measure.depth first")
    table = data.pivot(index=places, columns="class", values="probability").loc[[tuple(row) for row in spots[places].to_numpy()]]
    led = table.idxmax(axis=1)
    shown = list(dict.fromkeys([led.iloc[-1], *led.value_counts().index]))[:most]
    named = [str(k) for k in range(1 + max(table))] if classes is None else names(classes)
    if len(named) <= max(table):
        raise ValueError(f"classes names {len(named)} classes, but the rows have {1 + max(table)}; give the net's classes")
    figure, x = go.Figure(), list(range(1, len(spots) + 1))
    for number, k in enumerate(shown):
        hue = SPARE[number % len(SPARE)]
        figure.add_scatter(x=x, y=100 * table[k], name=named[k], mode="lines+markers",
                           line={"color": hue, "width": 1.4 if number else 2.4},
                           marker=marker_of(hue, SHAPES[number], 7), hovertemplate="%{y:.0f} %")
    if ((spots.score - table.max(axis=1).to_numpy()).abs() > 1e-4).any():
        figure.add_scatter(x=x, y=100 * spots.score, name="how sure it is", mode="lines+markers", hovertemplate="%{y:.0f} %",
                           line={"color": INK, "width": 1, "dash": "dot"}, marker=marker_of(INK, SURE, 6))
    ends = spots[spots.threshold.notna()]
    if len(ends):
        figure.add_scatter(x=[x[i] for i in ends.index], y=100 * ends.threshold, name="threshold", mode="markers",
                           marker={"symbol": NEEDS, "size": 22, "color": HERE, "line": {"color": HERE, "width": 3}},
                           hovertemplate="to leave here: %{y:.0f} %")
    stages = spots[places[:-1]].astype(str).agg(".".join, axis=1)
    for place in range(1, len(spots)):
        if stages[place] != stages[place - 1]:
            figure.add_vline(x=place + 0.5, line={"color": GRID, "width": 2})
    dress(figure, width=None, height=240, autosize=True, legend=LEGEND_ABOVE, hovermode="x unified",
          margin={"l": 52, "r": 12, "t": 30, "b": 42})
    few = spots.index[::1 + len(spots) // 16]
    figure.update_traces(cliponaxis=False)                                 # markers at 0 and at 100 % are whole
    figure.update_xaxes(title_text="layer", tickvals=[x[i] for i in few], ticktext=[str(spots.layer[i]) for i in few])
    figure.update_xaxes(title_font_size=12, tickfont_size=11)
    return figure.update_yaxes(title_text="probability (%)", title_font_size=12, tickfont_size=11, rangemode="tozero")
