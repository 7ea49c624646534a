"""One patch from inside: what the net would answer from it alone, and the attention row that one chooses, over the picture."""
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import NamedTuple

import ipywidgets as W
import numpy as np
from numpy import ndarray
from pandas import DataFrame
from torch import nn

from vitlab.backbones import pooled
from vitlab.measure import Rows
from vitlab.measure.inside import Pass
from vitlab.plots.overlay import dimmed, heated, marked, png
from vitlab.trace import LayerTrace
from vitlab.widgets import life, text
from vitlab.widgets.browser import Aide
from vitlab.widgets.controls import sized
from vitlab.widgets.engine import Engine
from vitlab.widgets.known import Known
from vitlab.widgets.life import Moment
from vitlab.widgets.records import Ask, Look
from vitlab.widgets.worker import Turn

CLASS, PATCH = "class token", "patch"
MEAN = 0                                    # a head that is none: the mean of all
MOST, LEAST = 3, 0.005                      # classes that are named, and of what probability


class Drawing(NamedTuple):
    """What a row is drawn of."""

    rows: Rows
    picture: ndarray
    patch: int              # on the layer's grid
    layer: str              # its name
    pooled: bool            # is there no class token?
    last: str               # the last layer in which the patch takes part, "" where there is none


class Gaze:
    """A picture, two choosers and two sentences, as `root`; hidden while no patch is chosen."""

    def __init__(self, engine: Engine, known: Known, aide: Aide):
        self.engine, self.known, self.aide = engine, known, aide
        self.of = sized(W.Dropdown, "attention of", "auto", options=[("this patch", PATCH), ("the class token", CLASS)])
        self.head = sized(W.Dropdown, "head", "auto", options=[("mean", MEAN)])
        self.caption, self.picture = W.HTML(), W.Image(format="png")
        self.read, self.told = W.HTML().add_class("vl-read"), W.HTML().add_class("vl-told")
        frame = W.VBox([self.caption, self.picture]).add_class("vl-gazed")
        choosers = W.HBox([self.of, self.head]).add_class("vl-row")
        self.root = W.HBox([frame, W.VBox([self.read, choosers, self.told]).add_class("vl-side")],
                           layout=W.Layout(display="none")).add_class("vl-gaze")
        self.inside: tuple[tuple | None, Pass | None] = (None, None)           # the pass that is looked into, and of what it is
        self.lens: tuple | None = None                                         # whose lens is shown
        self.seen: tuple | None = None                                         # and whose rows
        self.drawing: Drawing | None = None                                    # they

    def listen(self, guarded: Callable) -> None:
        """Connect the choosers: another row or head is drawn, and nothing is computed."""
        for chooser in (self.of, self.head):
            chooser.observe(guarded(lambda _: self.draw()), "value")

    def choose(self, patch: Sequence[int]) -> bool:
        """Another patch was chosen, or let go, []: is anything to be looked at?"""
        if patch:
            self.root.add_class("vl-old")                                  # another's, until its own comes
        else:
            self.root.layout.display, self.lens, self.seen, self.drawing = "none", None, None, None
            self.inside = (None, None)
        return bool(patch)

    def within(self, ask: Ask, look: Look) -> tuple | None:
        """What is looked at: which patch of what answer, of how many a side, and in which layer; None where nothing is."""
        patch, many = tuple(self.aide.patch), len(look.layers)
        return (ask.sight, patch, self.aide.grid, min(ask.layer, many - 1) % many) if patch else None

    def begin(self, ask: Ask, look: Look) -> None:
        """What is shown is something else's, until its own comes."""
        if self.seen != self.within(ask, look):
            self.root.add_class("vl-old")

    def look(self, ask: Ask, look: Look, turn: Turn) -> bool:
        """Look at the patch that is chosen, and show what is not shown yet; False once something newer was asked."""
        key = self.within(ask, look)
        if key is None or key == self.seen:
            return not turn.stale()
        (_, patch, grid, place), net = key, self.engine.methods[ask.model]
        part, number, exits = look.layers[place], patch[0] * grid + patch[1], self.known.exits(ask.model)
        told = life.moments(look.layers, patch, grid)
        sight, seen = self.inside
        if sight != ask.sight:
            self.inside, seen = (None, None), None                         # free the old one first
            self.inside = ask.sight, (seen := self.engine.inside(ask, look))
        if self.lens != key[:3]:
            answers = self.engine.lens(ask, look, seen, number, grid)
            if turn.stale() or self.within(ask, look) != key:              # it may have been let go
                return not turn.stale()
            self.lens = key[:3]
            self.read.value = lens(answers, told, net, partial(self.known.named, ask.model), look.prediction, exits)
            self.root.layout.display = "flex"
        rows = self.engine.rows(seen, number, grid, place)
        if turn.stale() or self.within(ask, look) != key:
            return not turn.stale()
        self.drawing = Drawing(rows, look.subject.picture, part.patch(*patch, grid), look.name(place, exits), pooled(net.vit),
                               next((look.name(n, exits) for n in range(len(told))[::-1] if told[n].attended), ""))
        self.seen = key
        self.offer()
        self.draw()
        self.root.remove_class("vl-old")
        return True

    def offer(self) -> None:
        """What there is to choose from in this layer; what was chosen stays where it can."""
        rows = self.drawing.rows
        heads = next((len(row) for row in (rows.cls, rows.patch) if row is not None), 0)
        first = "all tokens, mean" if self.drawing.pooled else "the class token"
        for chooser, options in ((self.of, [("this patch", PATCH), (first, CLASS)]),
                                 (self.head, [("mean", MEAN), *((str(n), n) for n in range(1, heads + 1))])):
            if heads and list(chooser.options) != options:
                kept = chooser.value
                chooser.options = options
                chooser.value = kept if kept in {value for _, value in options} else options[0][1]

    def draw(self) -> None:
        """The row that is chosen; computes nothing."""
        if self.drawing is None:
            return
        rows, picture, patch, layer, pooled, last = self.drawing
        mine, part, head = self.of.value == PATCH, rows.block, self.head.value
        row, name = rows.patch if mine else rows.cls, {value: name for name, value in self.of.options}[self.of.value]
        self.caption.value = text.caption(f"{layer}, {'mean' if head == MEAN else f'head {head}'}: attention of {name}")
        if row is None:
            shown = dimmed(picture, np.zeros(len(part.attended[0]), bool), part.grid)
            until = f"; {last} is the last in which it does" if mine and last else ""
            self.told.value = text.fact(f"{name} takes no part in {layer} and looks at nobody there{until}")
        else:
            weight = (row.mean(0) if head == MEAN else row[head - 1]).numpy()
            shown = heated(picture, np.nan_to_num(weight), ~np.isnan(weight), part.grid)
            self.told.value = whom(weight, part, patch if mine else None, pooled)
        self.picture.value = png(marked(shown, patch, part.grid))


def whom(weight: ndarray, part: LayerTrace, patch: int | None, pooled: bool) -> str:
    """Where one row goes, [N] with NaN for who is not there; patch: whose it is, None of a class token."""
    best, columns = int(np.nanargmax(weight)), part.grid[1]
    place = "itself" if best == patch else f"row {best // columns + 1}, column {best % columns + 1}"
    whole, others = float(np.nansum(weight)), int(part.extra[0])
    told = f"brightest: {place}, {text.percent(float(weight[best]), 1)} · {text.percent(whole)} goes to patches"
    if others:
        beside = f"{others} other tokens" if others > 1 else "the one other token" if pooled else "the class token"
        told += f", {text.percent(max(1 - whole, 0.0))} to {beside}"
    return text.fact(told + (" · faded: not there" if np.isnan(weight).any() else ""))


def lens(rows: DataFrame, told: Sequence[Moment], method: nn.Module, named: Callable[[int], str], answer: int,
         exits: Sequence[str] = ()) -> str:
    """What the net would have answered from a patch, rows of `measure.lens`, when, and what read it; answer: the net's own."""
    if rows.empty:
        return text.fact("it is read by nobody: it took part in no block, or its token has fewer numbers than the head reads")
    best = rows.nlargest(MOST, "probability")
    best = best[(best.probability >= LEAST) | (best.probability == best.probability.max())]
    said = ", ".join(f"“{escape(named(int(one['class'])))}” {text.percent(one.probability)}"
                     + (" (the net’s answer, too)" if not place and int(one["class"]) == answer else "")
                     for place, (_, one) in enumerate(best.iterrows()))
    return (f"<b>read alone</b>, {left(told, exits)}: {said} "
            + text.fact(f"(its token, by the net’s last norm and head, in the place of {reads(method)}; no net is trained to "
                        "answer so)"))


def left(told: Sequence[Moment], exits: Sequence[str] = ()) -> str:
    """When a patch was last a token of its own."""
    at = max(number for number, moment in enumerate(told) if moment.attended)
    moment, layer = told[at], life.place(told[at], life.staged(told), exits)
    after = told[at + 1] if at + 1 < len(told) else None
    if moment.kind == "dropped":
        return f"as it was dropped in {layer}"
    if moment.kind == "merged":
        return f"as it was when it joined another token in {layer}"
    if after is None:
        return f"at the end, after {layer}"
    return f"as it was when it was {'folded into the package' if after.kind == 'folded' else 'left out'} after {layer}"


def reads(method: nn.Module) -> str:
    """What the head of a net reads, in words."""
    if pooled(method.vit):
        return "the mean of the patches"
    told = ["the class token"] + (["the distillation token"] if getattr(method, "head_dist", None) is not None else [])
    told += ["the patches that its second head reads"] if hasattr(method.vit, "aux_head") else []
    return " and ".join(told)
