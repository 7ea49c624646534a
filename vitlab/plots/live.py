"""The panels' own figures, which fill while one looks: the explorer's and the governor's."""
import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from vitlab.plots.curves import tradeoff
from vitlab.plots.theme import HERE, INK, LEGEND_ABOVE, color_of, dress, marker_of, title_of

NAMES = ("history", "now", "visited", "here")                                  # the traces that a panel fills


def live(sweep: DataFrame | None = None) -> go.Figure:
    """Two axes that fill while one explores: images per second so far, and cost against accuracy (rows of `sweep`), or
    against images per second as long as nobody has measured accuracy.
    """
    figure = make_subplots(cols=2, horizontal_spacing=0.17, subplot_titles=(
        "images per second so far", "speed against cost" if sweep is None else "trade-off, you are here"))
    for column, many, one in ((1, "history", "now"), (2, "visited", "here")):
        for trace in tradeoff(sweep).data if column == 2 and sweep is not None else ():
            if trace.x[0] is not None:                                         # its legend entries stay outside
                figure.add_trace(trace.update(mode="lines+markers", text=None, marker_size=6), row=1, col=2)  # no room for labels
        figure.add_scatter(name=many, x=[], y=[], mode="lines+markers" if column == 1 else "markers", row=1, col=column,
                           line={"color": INK, "width": 1}, marker=marker_of(color_of("supervit"), "circle", 7),
                           hovertemplate="%{text}: %{y:.4g} images/s<extra></extra>")
        figure.add_scatter(name=one, x=[], y=[], mode="markers", marker=marker_of(HERE, "circle-open", 15), hoverinfo="skip",
                           row=1, col=column)
    figure.update_traces(cliponaxis=False)                                     # a mark at the floor is whole, and its ring
    dress(figure, width=None, height=236, autosize=True, showlegend=False, hovermode="closest",
          margin={"l": 46, "r": 12, "t": 30, "b": 42})
    figure.update_annotations(font_size=12)
    figure.update_xaxes(title_font_size=12, tickfont_size=11)
    figure.update_yaxes(title_font_size=12, tickfont_size=11, title_standoff=4)
    figure.update_xaxes(title_text="measurement", range=[0.5, 5.5], dtick=1, col=1)
    figure.update_yaxes(rangemode="tozero", col=1)
    figure.update_xaxes(title_text="GFLOPs per image", rangemode="tozero", nticks=4, col=2)
    return figure.update_yaxes(title_text=title_of("images_per_s") if sweep is None else "top-1 (%)",
                               rangemode="tozero" if sweep is None else "normal", col=2)


def governed() -> go.Figure:
    """Two axes under each other that fill while a governor works: images per second beside the target, and the accuracy of the
    point that answers."""
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.68, 0.32])
    ours = color_of("supervit")
    for name, row, style in (
            ("target", 1, {"mode": "lines", "line": {"color": INK, "width": 1.5, "dash": "dash", "shape": "hv"}}),
            ("answered", 1, {"mode": "lines", "line": {"color": ours, "width": 2}}),
            ("switch", 1, {"mode": "markers", "marker": marker_of(HERE, "diamond-open", 9), "cliponaxis": False}),
            ("top1", 2, {"mode": "lines", "line": {"color": ours, "width": 2, "shape": "hv"}})):
        told = {"target": "asked: %{y:.4g} images/s", "switch": "from here on %{text}", "top1": "%{text}: %{y:.1f} %"}
        figure.add_scatter(name=name, x=[], y=[], row=row, col=1, hovertemplate=told.get(name, "%{y:.4g} images/s at %{text}")
                           + "<extra></extra>", showlegend=name != "top1", **style)
    dress(figure, width=None, height=330, autosize=True, hovermode="closest", legend=LEGEND_ABOVE,
          margin={"l": 58, "r": 12, "t": 30, "b": 42})
    figure.update_xaxes(title_font_size=12, tickfont_size=11, range=[0, 20])
    figure.update_yaxes(title_font_size=12, tickfont_size=11, title_standoff=4)
    figure.update_xaxes(title_text="seconds", row=2)
    figure.update_yaxes(title_text="images per second", rangemode="tozero", row=1)
    return figure.update_yaxes(title_text="top-1 (%)", nticks=4, row=2)
