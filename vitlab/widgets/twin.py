"""Two at once: the picture in view at a pinned operating point, beside what the controls say now, and where they differ."""
from collections.abc import Callable

import ipywidgets as W
from numpy import ndarray

from vitlab.plots.overlay import compared, png
from vitlab.trace import LayerTrace
from vitlab.widgets import text
from vitlab.widgets.controls import sized
from vitlab.widgets.records import Ask, Look, Timing

KINDS = ("pinned", "now")


class Twin:
    """The switch that pins, `pin`, and what is shown beside, `root`."""

    def __init__(self):
        self.pin = sized(W.ToggleButton, "pin", "auto", icon="thumb-tack",
                         tooltip="hold this operating point, and show it beside what the controls say from now on")
        self.table = W.HTML().add_class("vl-told")
        self.captions = {kind: W.HTML() for kind in KINDS}
        self.pictures = {kind: W.Image(format="png") for kind in KINDS}
        frames = [W.VBox([self.captions[kind], self.pictures[kind]]).add_class("vl-twin") for kind in KINDS]
        self.root = W.HBox([*frames, self.table], layout=W.Layout(display="none")).add_class("vl-row").add_class("vl-beside")
        self.seen: tuple[Ask, Look, Look] | None = None                        # what was asked for, the look at it and the pinned

    def hide(self) -> None:
        """Nothing is pinned."""
        self.seen, self.root.layout.display = None, "none"

    def show(self, ask: Ask, look: Look, other: Look, named: Callable[[str, int], str]) -> None:
        """Both answers, and what is left of the picture; the pictures tell the patches that one keeps and the other does not."""
        self.seen, self.root.layout.display = (ask, look, other), "flex"
        now, then = (one.layers[min(ask.layer, len(one.layers) - 1)] for one in (look, other))
        (mine, grid), (others, other_grid) = left(now), left(then)
        both = (others, other_grid, mine, grid), (mine, grid, others, other_grid)
        for kind, part, pair in zip(KINDS, (then, now), both, strict=True):
            alone = only(*pair)
            kept = (f"{int(pair[0].sum())} of {len(pair[0])}" if part.source is None
                    else f"{len(pair[0])} in {int(part.fed[0].sum())} tokens")
            self.captions[kind].value = text.caption(f"{kind}, layer {part.layer + 1}: {kept}, {alone} alone")
            self.pictures[kind].value = png(compared(look.subject.picture, *pair))
        self.show_speed(None, named)

    def show_speed(self, timing: Timing | None, named: Callable[[str, int], str]) -> None:
        """The table, with the speeds once they are measured."""
        if self.seen is not None:
            self.table.value = text.beside(*self.seen, timing, named)


def left(part: LayerTrace) -> tuple[ndarray, tuple[int, int]]:
    """Which patches are left after a layer, alone or in a token, bool [h*w], and their grid."""
    return (part.fed[0] if part.source is None else part.source[0] >= 0).numpy(), part.grid


def only(mine: ndarray, grid: tuple[int, int], others: ndarray, other_grid: tuple[int, int]) -> int:
    """How many patches are left here whose middle is in none that is left there."""
    rows, columns = grid
    middles = [(int((row + 0.5) / rows * other_grid[0]) * other_grid[1] + int((column + 0.5) / columns * other_grid[1]))
               for row in range(rows) for column in range(columns)]
    return int((mine & ~others[middles]).sum())
