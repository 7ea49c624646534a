"""Studies: what becomes of tokens that are left out, speed batch by batch, and which claims of the papers hold."""
import plotly.graph_objects as go
from pandas import DataFrame

from vitlab.plots.rows import frame
from vitlab.plots.theme import HERE, LEGEND_ABOVE, SPARE, color_of, dress, faded, marker_of, title_of

FATES = {"next": ("back in the next block", 1.0), "later": ("back later", 0.55), "never": ("never back", 0.2)}    # opacity
VERDICTS = {"holds": SPARE[0], "does not show": HERE, "cannot be tested here": faded(color_of("dense"), 0.45)}


def fates(data: DataFrame) -> go.Figure:
    """What becomes of the tokens that each block leaves out, in percent of all: a bar per block, of three parts.

    data: the columns layer, left_out, next, later and never of `measure.fate`; rows of several seeds are averaged.
    """
    rows = frame(data, "layer", "left_out", *FATES).groupby("layer", as_index=False)[["left_out", *FATES]].mean()
    figure = go.Figure()
    for column, (label, alpha) in FATES.items():
        figure.add_bar(x=rows.layer, y=100 * (rows.left_out * rows[column]).fillna(0), name=label,
                       marker={"color": faded(color_of("svit"), alpha)}, hovertemplate="%{y:.1f} %<extra>" + label + "</extra>")
    dress(figure, height=340, barmode="stack", bargap=0.35, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text="block", dtick=1, showgrid=False)
    return figure.update_yaxes(title_text="tokens left out (%)", rangemode="tozero")


def by_batch(data: DataFrame, *, name: str = "svit") -> go.Figure:
    """Speed-up over the first entry of a race, against the batch size on a log axis; dotted what the FLOPs promise.

    data: rows of `measure.race` at several batch sizes, with the column gmacs_ratio. name: whose rows to draw.
    ValueError if there are none.
    """
    data = frame(data, "name", "batch", "speed_up", "gmacs_ratio")
    rows = data[data.name == name].sort_values("batch")
    if rows.empty:
        raise ValueError(f"no row is called {name!r}; the frame has {', '.join(dict.fromkeys(data.name))}")
    hue, figure = color_of(name, tuple(dict.fromkeys(data.name))), go.Figure()
    figure.add_scatter(x=rows.batch, y=rows.speed_up, name="measured", mode="lines+markers", line={"color": hue, "width": 1.8},
                       marker=marker_of(hue, "circle"), hovertemplate="batch %{x}: %{y:.2f}×<extra></extra>")
    figure.add_scatter(x=rows.batch, y=rows.gmacs_ratio, name="promised by the FLOPs", mode="lines", hoverinfo="skip",
                       line={"color": faded(hue, 0.6), "width": 1.6, "dash": "dot"})
    figure.add_hline(y=1, line={"color": faded(color_of("dense"), 0.8), "width": 1.2})
    dress(figure, height=340, legend=LEGEND_ABOVE)
    figure.update_xaxes(title_text="batch", type="log", tickvals=rows.batch, ticktext=[str(b) for b in rows.batch])
    return figure.update_yaxes(title_text=title_of("speed_up"), rangemode="tozero")


def claims(data: DataFrame) -> go.Figure:
    """How many claims of each paper hold: a bar per paper, of three parts, the first paper on top.

    data: the columns paper and verdict of data/claims.csv. ValueError for a verdict that is none of the three.
    """
    rows = frame(data, "paper", "verdict")
    if strange := set(rows.verdict) - set(VERDICTS):
        raise ValueError(f"there is no verdict {min(map(str, strange))!r}; the verdicts are {', '.join(VERDICTS)}")
    papers, figure = tuple(dict.fromkeys(rows.paper)), go.Figure()
    for verdict, color in VERDICTS.items():
        counts = [int(((rows.paper == paper) & (rows.verdict == verdict)).sum()) for paper in papers]
        figure.add_bar(y=papers, x=counts, name=verdict, orientation="h", marker={"color": color}, textposition="inside",
                       text=[n or "" for n in counts], textangle=0, hovertemplate="%{y}: %{x}<extra>" + verdict + "</extra>")
    dress(figure, height=120 + 40 * len(papers), barmode="stack", bargap=0.35, legend=LEGEND_ABOVE | {"traceorder": "normal"})
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure.update_xaxes(title_text="claims", showgrid=False)
