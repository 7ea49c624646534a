"""Pictures of one image's tokens: which patches live, where the class token looks, what speaks for the class."""
from collections.abc import Mapping, Sequence
from math import ceil, isqrt
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy import ndarray, ones_like
from plotly.subplots import make_subplots

from vitlab.numbers import several, whole
from vitlab.plots.overlay import dimmed, enlarge, folded, heated, in_tokens, returned, signed, source
from vitlab.plots.theme import INK, dress
from vitlab.trace import LayerTrace, Trace, recorded

PANEL, GAP, TITLE = 196, 14, 30             # pixels of a panel, between panels, and of the line above each
ROOM = 930                                  # pixels of a page beside a file browser
MERGED = 5                                  # panels of `merged`, unless others are asked for


def kept(picture: ndarray, trace: Trace, row: int = 0, *, layers: Sequence[int] | None = None) -> go.Figure:
    """The patches that reach the MLP, dropped ones faded, over the picture uint8 [S, S, 3] of image `row` of the trace.

    Where patches were merged the tokens are shown, see `merged`.
    layers: places in the trace to show, from 0 (None: every layer where the set of patches changes).
    """
    passes = present(trace, row)
    if layers is None:
        alive = [part.fed[row].tolist() for part in passes]
        layers = [n for n, now in enumerate(alive) if n == 0 or now != alive[n - 1]]
    parts = pick(passes, layers)
    return panels([left(picture, part, row) for part in parts],
                  [f"{name(part, passes)}: {int(part.fed[row].sum())} of {part.fed.shape[1]}" for part in parts])


def merged(picture: ndarray, trace: Trace, row: int = 0, *, layers: Sequence[int] | None = None) -> go.Figure:
    """Which patches are in which token when it comes to the MLP: those of one token in the mean of their colours, with a border.

    A patch that is alone in its token is shown as it is.

    picture: uint8 [S, S, 3] of image `row` of the trace.  layers: places in the trace to show, from 0 (None: five, evenly spread,
    of those that follow a merge). ValueError where nothing was merged in this pass.
    """
    passes = present(trace, row)
    if not (known := [n for n, part in enumerate(passes) if part.source is not None]):
        raise ValueError("nothing was merged in this pass; take a ToMe, at a point with r above 0")
    if layers is None:
        layers = sorted({known[round(n * (len(known) - 1) / max(MERGED - 1, 1))] for n in range(MERGED)})
    parts = pick(passes, layers)
    return panels([left(picture, part, row) for part in parts],
                  [f"{name(part, passes)}: {int(part.fed[row].sum())} tokens" for part in parts],
                  side=min(PANEL, (ROOM + GAP) // min(len(parts), MERGED) - GAP))


def left(picture: ndarray, part: LayerTrace, row: int) -> ndarray:
    """What of image `row` reaches one block's MLP, over its picture: the tokens where patches were merged, else the patches."""
    if part.source is None:
        return dimmed(picture, part.fed[row].cpu().numpy(), part.grid)
    return in_tokens(picture, part.source[row].cpu().numpy(), part.grid)


def looked_at(passes: Sequence[LayerTrace], place: int, row: int) -> tuple[ndarray, ndarray]:
    """The attention to each patch [h*w] of image `row` at one place, and which patches take part, bool [h*w].

    All patches of a token take part, and each has its share of what the token gets.
    """
    part, before = passes[place], passes[max(place - 1, 0)]
    weight, alive = part.cls[row].float(), part.attended[row]
    if place and before.source is not None and before.stages == part.stages:
        token = before.source[row]
        weight, alive = (weight / token.bincount(minlength=len(token)).clamp(1))[token], alive[token]
    return weight.cpu().numpy(), alive.cpu().numpy()


def returns(picture: ndarray, trace: Trace, row: int = 0, *, layers: Sequence[int] | None = None) -> go.Figure:
    """As `kept`, block by block, with a frame round every patch that is back: left out of the block before, and in this one.

    layers: places in the trace to show, from 0 (None: from the last block with all patches on).
    """
    passes = present(trace, row)
    sets = [part.fed[row].cpu().numpy() for part in passes]
    if layers is None:
        whole = next((n for n, now in enumerate(sets) if not now.all()), 1)
        layers = range(max(whole - 1, 0), len(passes))
    pick(passes, layers)
    back = {n: sets[n] & ~sets[n - 1] if n and sets[n - 1].shape == sets[n].shape else np.zeros_like(sets[n]) for n in layers}
    return panels([returned(picture, sets[n], back[n], passes[n].grid) for n in layers],
                  [f"{name(passes[n], passes)}: {int(sets[n].sum())}" + (f", {int(back[n].sum())} back" if back[n].any() else "")
                   for n in layers], columns=ceil(len(layers) / ceil(len(layers) / 6)), side=150)


def attention_map(picture: ndarray, trace: Trace, row: int = 0, *, layers: Sequence[int] | None = None) -> go.Figure:
    """The class token's attention, mean over heads, as heat over the picture; each panel's brightest patch is its maximum.

    layers: places in the trace, from 0 (None: the first, those where patches are dropped, and the last; without any, four).
    """
    passes = present(trace, row)
    if layers is None:
        drops = [n for n, part in enumerate(passes) if (part.fed[row] != part.attended[row]).any()]
        last = len(passes) - 1
        layers = sorted({0, *drops, last} if drops else {0, last // 3, 2 * last // 3, last})
    pick(passes, layers)
    seen = {n: looked_at(passes, n, row) for n in layers}
    return panels([heated(picture, *seen[n], passes[n].grid) for n in layers],
                  [f"{name(passes[n], passes)}: peak {100 * float(seen[n][0].max()):.1f} %" for n in layers])


def heat(picture: ndarray, maps: dict[str, ndarray]) -> go.Figure:
    """Maps [h, w] of any grids as heat over the picture uint8 [S, S, 3], a panel per title; each panel's maximum is brightest."""
    if not isinstance(maps, Mapping) or not maps:
        raise ValueError("there is no map to show; give at least one by its title, such as {\"attention\": heat}")
    maps = {title: as_map(values) for title, values in maps.items()}
    return panels([heated(picture, values.ravel(), ones_like(values, bool).ravel(), values.shape) for values in maps.values()],
                  list(maps))


def package(picture: ndarray, trace: Trace, row: int = 0) -> go.Figure:
    """What the packages hold: a panel for each selector, in which the patches folded there are tinted by their weight.

    Patches kept are clear, those that went earlier dark. ValueError where nothing was folded in this pass.
    """
    passes = present(trace, row)
    parts = [part for part in passes if part.folded is not None]
    if not parts:
        raise ValueError("nothing was folded into a package in this pass; take an SPViT, at a point below its dense cost")
    return panels([folded(picture, part.folded[row].float().cpu().numpy(), part.attended[row].cpu().numpy(), part.grid)
                   for part in parts],
                  [f"{name(part, passes)}: {int((part.folded[row] > 0).sum())} folded, {int(part.attended[row].sum())} kept"
                   for part in parts])


def heads(picture: ndarray, scores: ndarray) -> go.Figure:
    """What each head says of the patches, as heat over the picture uint8 [S, S, 3].

    scores: in [0, 1], [H, h, w] or, of a square grid, [h*w, H]; NaN where a patch is gone, which is faded then. From dark to
    bright is a panel's own range, which its title tells in percent.
    """
    scores = as_floats(scores)
    if scores.ndim == 2 and isqrt(len(scores)) ** 2 == len(scores):
        scores = scores.T.reshape(-1, isqrt(len(scores)), isqrt(len(scores)))
    if scores.ndim != 3 or np.isnan(scores).all((1, 2)).any():
        raise ValueError(f"scores must be [heads, rows, columns] or [patches, heads], some for each head, not {scores.shape}")
    alive, low, high = ~np.isnan(scores), np.nanmin(scores, (1, 2)), np.nanmax(scores, (1, 2))
    shown = [heated(picture, np.where(there, values - least, 0).ravel(), there.ravel(), values.shape)
             for values, there, least in zip(scores, alive, low, strict=True)]
    count = len(shown)
    digits = [0 if wide >= 0.1 else 1 if wide >= 0.01 else 2 for wide in high - low]
    told = [f"head {n}: {100 * a:.{d}f} to {100 * b:.{d}f} %" for n, (a, b, d) in enumerate(zip(low, high, digits), 1)]
    return panels(shown, told, columns=count if count < 6 else ceil(count / ceil(count / 4)))


def attribution(picture: ndarray, heat: ndarray) -> go.Figure:
    """The picture uint8 [S, S, 3] and, beside it, the relevance [h, w] of its patches (`attribution.patches`)."""
    return panels([enlarge(picture), signed(picture, as_map(heat))], ["picture", "red: for, blue: against"])


def as_floats(values: Any) -> ndarray:
    """An array of numbers, on the CPU; ValueError for what is none."""
    values = values.detach().cpu().float().numpy() if hasattr(values, "detach") else np.asarray(values)
    if values.dtype.kind not in "fiub" or values.size == 0:
        raise ValueError(f"a map is an array of numbers, not {values!r:.60}")
    return values.astype(float)


def as_map(values: Any) -> ndarray:
    """A map of finite numbers [h, w]; ValueError for another."""
    values = as_floats(values)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"a map must be finite numbers [rows, columns], not {list(values.shape)} with "
                         f"{int((~np.isfinite(values)).sum())} that are none")
    return values


def present(trace: Trace, row: int) -> list[LayerTrace]:
    """The layers that image `row` went through; ValueError for an empty trace or a row that it does not have."""
    count = len(recorded(trace)[0].fed)
    row = whole(row, "row, an image of the trace,", -count, count - 1)
    return [part for part in trace.layers if part.passed[row]]


def pick(passes: list[LayerTrace], layers: Sequence[int]) -> list[LayerTrace]:
    """Layers by place; ValueError names the places there are."""
    wanted = f"layers must be places from 0 to {len(passes) - 1}"
    layers = several(layers, wanted)
    if not layers or not all(isinstance(n, int) and 0 <= n < len(passes) for n in layers):
        raise ValueError(f"{wanted}, not {list(layers)}")
    return [passes[n] for n in layers]


def name(part: LayerTrace, passes: list[LayerTrace]) -> str:
    """A layer as papers count it, from 1, with its stage where there are several."""
    return f"stage {part.name}, layer {part.layer + 1}" if any(passes[-1].stages) else f"layer {part.layer + 1}"


def panels(pictures: Sequence[ndarray | None], titles: Sequence[str], *, columns: int = 5, side: int = PANEL,
           labels: Sequence[str] | None = None) -> go.Figure:
    """Pictures in rows of `columns`, a title above each; `labels` stand above the rows. None leaves a place empty."""
    columns, rows = min(columns, len(pictures)), ceil(len(pictures) / columns)
    top = TITLE if labels is None else TITLE + 24
    width, height = columns * (side + GAP) - GAP, rows * (side + top)
    figure = make_subplots(rows, columns, horizontal_spacing=GAP / width, vertical_spacing=top / height if rows > 1 else 0)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        row, column = divmod(place, columns)
        axis = place + 1 if place else ""                                      # plotly counts x, x2, x3
        spot = {"xref": f"x{axis} domain", "yref": f"y{axis} domain", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom",
                "showarrow": False}
        if picture is not None:
            figure.add_image(source=source(picture), hoverinfo="skip", row=row + 1, col=column + 1)
        figure.add_annotation(text=title, yshift=3, font={"size": 12, "color": INK}, **spot)
        if labels is not None and column == 0:
            figure.add_annotation(text=f"<b>{labels[row]}</b>", yshift=22, **spot)
    dress(figure, width=width, height=height + 8, margin={"l": 0, "r": 0, "t": top, "b": 8})
    figure.update_xaxes(visible=False)
    return figure.update_yaxes(visible=False)
