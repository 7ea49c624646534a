"""How every figure looks: one colour per method, one font, markers, and names with units for the columns of our frames."""
import plotly.graph_objects as go

INK = "#7c828b"             # mid-grey: about 4:1 on white and 5:1 on a dark notebook page
HERE = "#e5484d"            # the ring around the point one looks at
GRID = "rgba(128, 132, 140, 0.22)"
CLEAR = "rgba(0,0,0,0)"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
# Any two differ by 19 at least in CIELAB, to the usual eye and as deuteranopes and protanopes see them (tests/test_theme.py).
COLORS = {"dense": "#8d939c", "supervit": "#3f69ce", "dvt": "#ed7a07", "revit": "#07825a", "spvit": "#d773ce", "svit": "#9728f4",
          "tome": "#9b5e14"}
SPARE = (*(color for name, color in COLORS.items() if name != "dense"), "#127493", "#e51457")    # for groups without a colour
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
TITLES = {
    "gmacs": "GFLOPs per image (multiply-adds)", "images_per_s": "images per second", "top1": "top-1 accuracy (%)",
    "length": "sequence length", "keep": "keep rate", "tokens": "patches", "step": "training step", "epoch": "epoch",
    "speed_up": "speed-up (×)", "gmacs_ratio": "fewer GFLOPs (×)",
    "seconds": "seconds", "lr": "learning rate", "loss": "loss", "layer": "layer", "point": "operating point",
    "r": "tokens merged per block", "latency_ms": "milliseconds for one image",
}
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}


def color_of(name: str, others: tuple[str, ...] = ()) -> str:
    """The colour of a method, or of any other group by its place among those of the `others` that have none of their own."""
    if str(name) in COLORS:
        return COLORS[str(name)]
    rest, taken = [other for other in others if other not in COLORS], {COLORS[other] for other in others if other in COLORS}
    free = [color for color in SPARE if color not in taken] or SPARE
    return free[rest.index(name) % len(free)] if name in rest else free[0]


def shape_of(name: str, others: tuple[str, ...] = ()) -> str:
    """The marker of a group among others, so that none is told by its colour alone."""
    return MARKERS[others.index(name) % len(MARKERS)] if name in others else MARKERS[0]


def title_of(column: str) -> str:
    """A column's name as an axis title, with its unit."""
    return TITLES.get(column, column.replace("_", " "))


def faded(color: str, alpha: float) -> str:
    """A hex colour as rgba with this opacity."""
    red, green, blue = (int(color[i:i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def symbol(levels: list, value, hollow: bool = False) -> str:
    """The marker of a knob's value among its `levels`, the first of which is a circle."""
    name = MARKERS[levels.index(value) % len(MARKERS)] if value in levels else MARKERS[0]
    return f"{name}-open" if hollow else name


def marker_of(color: str, symbols: str | list[str], size: int = 9) -> dict:
    """A marker whose outline has its own colour, so that hollow and filled ones match."""
    return {"color": color, "symbol": symbols, "size": size, "line": {"color": color, "width": 1.5}}


def entry(figure: go.Figure, name: str, group: str, color: str, symbols: str, dash: str | None = None) -> None:
    """One legend entry without data."""
    figure.add_scatter(x=[None], y=[None], name=name, legendgroup=group, mode="lines+markers" if dash else "markers",
                       marker=marker_of(color, symbols), line={"color": color, "width": 1.6, "dash": dash})


def dress(figure: go.Figure, *, width: int | None = 720, height: int = 420, **layout) -> go.Figure:
    """Give a figure the common looks; `layout` are plotly's own layout arguments."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "tickcolor": GRID, "ticks": "outside", "ticklen": 4,
            "automargin": True, "title_standoff": 10}
    figure.update_layout(
        template="none", paper_bgcolor=CLEAR, plot_bgcolor=CLEAR, width=width, height=height,
        font={"family": FONT, "size": 13, "color": INK}, margin={"l": 64, "r": 20, "t": 24, "b": 52},
        legend={"bgcolor": CLEAR, "tracegroupgap": 4},
        modebar={"bgcolor": CLEAR, "color": faded(INK, 0.7), "activecolor": INK},     # its dark bar would lie over a caption
        hoverlabel={"bgcolor": "#30343b", "font": {"color": "#f2f3f5", "family": FONT}})
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure.update_layout(**layout)
