"""How every figure looks: one colour per method, one font, and names with units for the columns of our frames."""
import plotly.graph_objects as go

INK = "#7c828b"                             # mid-grey: about 4:1 on white and on the dark notebook page alike
HERE = "#e5484d"                            # the ring around the point one looks at
GRID = "rgba(128, 132, 140, 0.22)"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
COLORS = {"dense": "#8d939c", "supervit": "#3b82f6", "dvt": "#ea7317", "revit": "#16a34a", "spvit": "#d946a6", "svit": "#8b5cf6"}
SPARE = ("#0d9fb3", "#c2952b", "#e5484d", "#6b8e23", "#a0627a", "#4f7cac")      # methods and losses that have no colour of their own
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
TITLES = {
    "gmacs": "GFLOPs per image (multiply-adds)", "images_per_s": "images per second", "top1": "top-1 accuracy (%)",
    "length": "sequence length", "keep": "keep rate", "tokens": "patches", "step": "training step", "epoch": "epoch",
    "seconds": "seconds", "lr": "learning rate", "loss": "loss", "layer": "layer", "point": "operating point",
}


def color_of(name: str, others: tuple[str, ...] = ()) -> str:
    """The colour of a method (or of any other group, by its place among the `others` that have none of their own)."""
    if name in COLORS:
        return COLORS[name]
    rest = [other for other in others if other not in COLORS]
    return SPARE[rest.index(name) % len(SPARE)] if name in rest else SPARE[0]


def title_of(column: str) -> str:
    """A column's name as an axis title, with its unit."""
    return TITLES.get(column, column.replace("_", " "))


def faded(color: str, alpha: float) -> str:
    """A hex colour as rgba with this opacity."""
    red, green, blue = (int(color[i:i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def dress(figure: go.Figure, *, width: int | None = 720, height: int = 420, **layout) -> go.Figure:
    """Give a figure the common looks; `layout` are plotly's own layout arguments."""
    axis = dict(gridcolor=GRID, zeroline=False, linecolor=GRID, tickcolor=GRID, ticks="outside", ticklen=4, automargin=True,
                title_standoff=10)
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", width=width, height=height,
        font=dict(family=FONT, size=13, color=INK), margin=dict(l=64, r=20, t=24, b=52),
        legend=dict(bgcolor="rgba(0,0,0,0)", tracegroupgap=4),
        hoverlabel=dict(bgcolor="#30343b", font=dict(color="#f2f3f5", family=FONT)))
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure.update_layout(**layout)
