"""Pictures with what is in them and what was found: boxes, classes and masks; and how many blocks worked on each patch."""
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy import ndarray

from vitlab.data.names import names
from vitlab.numbers import real, several
from vitlab.plots.overlay import enlarge, heated, spread
from vitlab.plots.pictures import panels, present
from vitlab.plots.theme import INK, color_of
from vitlab.trace import Trace, recorded

TINT = 0.45                 # share of a class's colour in its mask
SIDE = 168                  # pixels of a panel


def boxes(pictures: Sequence[ndarray], found: dict[str, Sequence[dict]], classes: Sequence[str], *,
          threshold: float = 0.5) -> go.Figure:
    """A row of pictures uint8 [S, S, 3] for each of `found`, such as {"truth": targets, "dense": detections}.

    found: for each picture boxes [n, 4] in pixels, labels [n] from 1, and where there are any masks [n, S, S] or [n, 1, S, S] and
    scores [n], of which those above `threshold` are drawn. ValueError unless there is one for each picture.
    """
    if not isinstance(found, Mapping) or not isinstance(pictures, Sequence | ndarray) or isinstance(pictures, str) \
            or not found or not len(pictures):
        raise ValueError("there is nothing to show; give at least one picture and one row of what is in it")
    if odd := [name for name, row in found.items() if not isinstance(row, Sequence) or len(row) != len(pictures)]:
        raise ValueError(f"row {odd[0]!r} must tell of each of the {len(pictures)} pictures what is in it; give one for each")
    classes, threshold = names(classes), real(threshold, "threshold", 0, 1)
    colors = [color_of(name, tuple(classes)) for name in classes]
    shown = [surest(each, threshold) for row in found.values() for each in row]
    if any(len(each["labels"]) and not 1 <= each["labels"].min() <= each["labels"].max() <= len(classes) for each in shown):
        raise ValueError(f"labels number {len(classes)} classes from 1, and some are outside; give the names of all classes")
    drawn = [tinted(picture, each, colors) for each, picture in zip(shown, [*pictures] * len(found), strict=True)]
    figure = panels(drawn, [""] * len(drawn), columns=len(pictures), side=fitting(len(pictures)), labels=list(found))
    shapes, words = [], []
    for place, (each, picture) in enumerate(zip(shown, drawn, strict=True)):
        times = picture.shape[0] / pictures[place % len(pictures)].shape[0]
        for number, (box, label) in enumerate(zip(each["boxes"] * times, each["labels"])):
            spot = {"xref": f"x{place + 1 if place else ''}", "yref": f"y{place + 1 if place else ''}"}
            left, top, right, bottom = box.tolist()
            color, score = colors[label - 1], f" {100 * each['scores'][number]:.0f}" if "scores" in each else ""
            line = {"color": color, "width": 1.6}
            shapes.append({"type": "rect", "x0": left, "x1": right, "y0": top, "y1": bottom, "line": line, **spot})
            words.append({"text": classes[label - 1] + score, "x": left, "y": top, "xanchor": "left", "yanchor": "bottom", **spot,
                          "showarrow": False, "font": {"size": 9, "color": "white"}, "bgcolor": color, "borderpad": 0})
    return figure.update_layout(shapes=shapes, annotations=[*figure.layout.annotations, *words])


def fitting(many: int) -> int:
    """Pixels of one of so many pictures in a row, which is to fit beside a file browser."""
    return max(min(SIDE, 930 // many), 96)


def surest(each: dict, threshold: float) -> dict[str, ndarray]:
    """What is to be drawn, as arrays: all that has no score, or one above the threshold; ValueError for what tells no boxes."""
    if not isinstance(each, Mapping) or not {"boxes", "labels"} <= set(each):
        raise ValueError(f"what is in a picture is told as boxes [n, 4] and labels [n] in a dict, not as {each!r:.60}")
    told = {name: np.asarray(values.detach().cpu() if hasattr(values, "detach") else values) for name, values in each.items()}
    if told["boxes"].shape != (len(told["labels"]), 4):
        raise ValueError(f"boxes must be [n, 4] for n labels, not {list(told['boxes'].shape)} for {len(told['labels'])}")
    sure = told["scores"] > threshold if "scores" in told else np.ones(len(told["labels"]), bool)
    return {name: values[sure] for name, values in told.items()}


def tinted(picture: ndarray, each: dict[str, ndarray], colors: list[str]) -> ndarray:
    """The picture with masks in their classes' colours, the first on top: uint8 [S', S', 3]."""
    big = enlarge(picture, 2 * SIDE).astype(float)
    for mask, label in reversed(list(zip(each.get("masks", ()), each["labels"]))):
        inside = spread(mask.reshape(-1) > 0.5, mask.shape[-2:], big.shape[:2])[..., None]
        big = np.where(inside, (1 - TINT) * big + TINT * rgb(colors[label - 1]), big)
    return big.astype(np.uint8)


def rgb(color: str) -> ndarray:
    """A hex colour as three numbers to 255."""
    return np.array([int(color[i:i + 2], 16) for i in (1, 3, 5)], float)


def usage(pictures: Sequence[ndarray], trace: Trace, rows: Sequence[int] | None = None) -> go.Figure:
    """Pictures uint8 [S, S, 3] and, below each, how many blocks each of its patches took part in, as heat on one scale for all.

    rows: which images of the trace they are (None: its first). ValueError for a net whose blocks have several grids.
    """
    recorded(trace)
    if not isinstance(pictures, Sequence | ndarray) or isinstance(pictures, str):
        raise TypeError(f"pictures must be a row of arrays, such as [images.picture(n) for n in range(4)], not {pictures!r:.60}")
    rows = list(range(len(pictures)) if rows is None else several(rows, "rows must be numbers of images of the trace"))
    if not rows or len(rows) != len(pictures):
        raise ValueError(f"there are {len(pictures)} pictures and {len(rows)} rows of the trace; give at least one picture, and "
                         "a row for each")
    passes = {row: present(trace, row) for row in rows}
    if len({part.grid for part in trace.layers}) > 1:
        raise ValueError("the blocks of this net have several grids, whose patches are not the same; take one with a single grid")
    grid, depth = trace.layers[0].grid, len(trace.layers)
    counts = [sum(part.attended[row].cpu().numpy().astype(int) for part in passes[row]) for row in rows]
    low, high = min(map(np.min, counts)), max(map(np.max, counts))
    heat = [heated(picture, count - low, np.ones_like(count, bool), grid, high - low)
            for picture, count in zip(pictures, counts, strict=True)]
    told = [f"{count.mean():.1f} of {depth} blocks" for count in counts]
    figure = panels([*(enlarge(picture) for picture in pictures), *heat], [""] * len(rows) + told, columns=len(rows),
                    side=fitting(len(rows)), labels=["pictures", "blocks a patch took part in"])
    bar = {"title": {"text": "blocks", "side": "right"}, "tickvals": list(range(low, high + 1)), "tickfont": {"color": INK},
           "len": 0.5, "y": 0, "yanchor": "bottom", "thickness": 10, "outlinewidth": 0}
    scale = {"color": [low], "cmin": low, "cmax": max(high, low + 1), "colorscale": "Inferno", "showscale": True, "colorbar": bar}
    figure.add_scatter(x=[None], y=[None], mode="markers", showlegend=False, hoverinfo="skip", marker=scale)
    return figure.update_layout(width=figure.layout.width + 70, margin_r=70)
