"""Labels of lines that do not run into each other: each stands where there is room for it, or nowhere.

Plotly draws a label wherever it is told to. So places are tried here, in the pixels of a figure of the usual size: first
clear of labels, markers and lines; then of labels and markers.
"""
import numpy as np
import plotly.graph_objects as go
from numpy import ndarray

SIZE = 11                                                   # of the letters
LETTER, LINE, MARK, GAP = 6.5, 13.0, 6.0, 2.0               # pixels: a letter's width, a line's height, half a marker, between
SIDES = {"top center": (0, 1), "top right": (1, 1), "bottom center": (0, -1), "middle right": (1, 0), "middle left": (-1, 0),
         "top left": (-1, 1), "bottom right": (1, -1), "bottom left": (-1, -1)}
STEP = 4.0                                                  # pixels between the points that stand for a line


def name_lines(figure: go.Figure, names: dict[int, str], *, log: bool = False, first: str = "top center") -> None:
    """Write names {place of a trace: its label} beside the points of their lines; log: the x axis is.

    The best point of a line is tried first, on its side `first`; then the others.
    """
    lines = {n: across(figure, trace, log) for n, trace in enumerate(figure.data) if drawn(trace)}
    marks = boxes(np.concatenate(list(lines.values())), np.full(2, MARK))
    paths = boxes(np.concatenate([sampled(line) for line in lines.values()]), np.ones(2))
    for number, name in names.items():
        trace, points = figure.data[number], lines[number]
        half = np.array([LETTER * len(name), LINE]) / 2
        order = np.argsort(-points[:, 1], kind="stable")
        sides = [first, *(side for side in SIDES if side != first)]
        tries = [(i, side, spot(points[i], half, SIDES[side])) for i in order for side in sides]
        free = [one for one in tries if not hits(one[2], marks)]
        clear = [one for one in free if not hits(one[2], paths)]
        if found := (clear or free):
            best, side, box = found[0]
            trace.update(text=[name if i == best else "" for i in range(len(points))], textposition=side, textfont_size=SIZE)
            marks = np.concatenate([marks, box[None]])


def drawn(trace: go.Scatter) -> bool:
    """Does a trace hold points? A legend's entry does not."""
    return len(trace.x) > 0 and trace.x[0] is not None


def across(figure: go.Figure, trace: go.Scatter, log: bool) -> ndarray:
    """Where the points of a trace are drawn, about: pixels [n, 2] from the lower left corner."""
    side = [np.concatenate([np.asarray(each[axis], float) for each in figure.data if drawn(each)]) for axis in "xy"]
    here = [np.asarray(trace[axis], float) for axis in "xy"]
    if log:
        side[0], here[0] = np.log(side[0]), np.log(here[0])
    entries = [len(str(each.name)) for each in figure.data if each.showlegend is not False]
    legend = 56 + 7.2 * max(entries, default=-8)
    room = 0.9 * (figure.layout.width - 90 - legend), 0.9 * (figure.layout.height - 90)
    return np.stack([(value - every.min()) / (np.ptp(every) or 1) * pixels for value, every, pixels in zip(here, side, room)], 1)


def sampled(line: ndarray) -> ndarray:
    """Points along a line [n, 2], its own included."""
    parts = [line]
    for start, end in zip(line[:-1], line[1:]):
        parts.append(start + np.linspace(0, 1, 1 + int(np.abs(end - start).max() / STEP))[:, None] * (end - start))
    return np.concatenate(parts)


def boxes(centres: ndarray, half: ndarray) -> ndarray:
    """Boxes [n, 4] (left, low, right, high) around points [n, 2]."""
    return np.concatenate([centres - half, centres + half], 1)


def spot(point: ndarray, half: ndarray, side: tuple[int, int]) -> ndarray:
    """The box of a label on one side of a point."""
    centre = point + np.array(side) * (half + MARK + GAP) * ([0.7, 0.8] if all(side) else [1, 1])
    return np.concatenate([centre - half, centre + half])


def hits(box: ndarray, others: ndarray) -> bool:
    """Does a box overlap one of the others?"""
    return bool(((box[:2] < others[:, 2:]) & (others[:, :2] < box[2:])).all(1).any())
