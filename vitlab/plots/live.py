"""The explorer's own figure: speed so far on the left, all operating points with the one in view on the right."""
import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from vitlab.plots.curves import marker_of, tradeoff
from vitlab.plots.theme import HERE, INK, color_of, dress, title_of

NAMES = ("history", "now", "visited", "here")       # the traces that a panel updates


def live(sweep: DataFrame | None = None) -> go.Figure:
    """Two empty axes that fill while one explores: images per second so far, and cost against accuracy (rows of `sweep`), or
    against images per second as long as nobody has measured accuracy.
    """
    right = "speed against cost" if sweep is None else "trade-off, you are here"
    figure = make_subplots(cols=2, horizontal_spacing=0.17, subplot_titles=("images per second so far", right))
    figure.add_scatter(name="history", x=[], y=[], mode="lines+markers", line=dict(color=INK, width=1), row=1, col=1,
                       marker=marker_of(color_of("supervit"), "circle", 6), hovertemplate="%{text}: %{y:.4g} images/s<extra></extra>")
    figure.add_scatter(name="now", x=[], y=[], mode="markers", marker=marker_of(HERE, "circle-open", 14), hoverinfo="skip", row=1, col=1)
    for trace in () if sweep is None else tradeoff(sweep).data:
        if trace.x is not None and trace.x[0] is not None:                 # its legend entries stay outside
            figure.add_trace(trace, row=1, col=2)
    figure.add_scatter(name="visited", x=[], y=[], mode="markers", marker=marker_of(color_of("supervit"), "circle", 8), row=1, col=2,
                       hovertemplate="%{text}: %{y:.4g} images/s<extra></extra>")
    figure.add_scatter(name="here", x=[], y=[], mode="markers", marker=marker_of(HERE, "circle-open", 16), hoverinfo="skip", row=1, col=2)
    dress(figure, width=None, height=236, autosize=True, showlegend=False, margin=dict(l=46, r=12, t=30, b=42), hovermode="closest")
    figure.update_annotations(font_size=12)
    figure.update_xaxes(title_text="measurement", col=1, range=[0.5, 5.5], dtick=1)
    figure.update_yaxes(rangemode="tozero", col=1)
    figure.update_xaxes(title_text="GFLOPs", col=2, rangemode="tozero")
    figure.update_yaxes(title_text=title_of("images_per_s") if sweep is None else "top-1 (%)", col=2,
                        rangemode="tozero" if sweep is None else "normal")
    figure.update_xaxes(title_font_size=12, tickfont_size=11)
    return figure.update_yaxes(title_font_size=12, tickfont_size=11, title_standoff=4)
