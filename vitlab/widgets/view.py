"""What a panel shows: two sentences, and a third when something went wrong; three pictures, one live figure, a patch's life.

On demand also what a person forces, and what that changed, and what the net would answer along the depth.
"""
from collections.abc import Callable, Sequence
from copy import deepcopy

import ipywidgets as W
import plotly.graph_objects as go
from numpy import ndarray
from pandas import DataFrame

from vitlab.plots.depth import depth
from vitlab.plots.live import live
from vitlab.plots.overlay import heated, png, signed
from vitlab.plots.pictures import left, looked_at
from vitlab.plots.theme import CLEAR
from vitlab.widgets import life, text
from vitlab.widgets.browser import Aide
from vitlab.widgets.records import Ask, Hand, Look

HISTORY = 40                                # measurements shown
ROOM = 1.08                                 # of the axis they stand on, so many times as long as they are many
DEPTH = 240                                 # pixels, the height of the figure along the depth
PICTURES = ("kept", "attention", "attribution")


class View:
    """The widgets that answers are written into; `root`, `sentences` and `life` are what holds them."""

    def __init__(self, sweep: DataFrame | None):
        self.past: list[tuple[Ask, str, float, float]] = []                    # what, colour, gmacs, images per second
        self.accuracy = sweep is not None                                      # what the right half of the figure shows
        self.captions = {kind: W.HTML() for kind in PICTURES}
        self.pictures = {kind: W.Image(format="png") for kind in PICTURES}
        self.figure = go.FigureWidget(live(sweep))
        self.figure._config = {"displayModeBar": False, "responsive": True}    # plotly offers no public way
        frames = [W.VBox([self.captions[kind], self.pictures[kind]]).add_class("vl-picture") for kind in PICTURES]
        self.root = W.HBox([*frames, W.Box([self.figure]).add_class("vl-plots")]).add_class("vl-view")
        self.answer, self.speed, self.hand, self.note = (W.HTML().add_class("vl-status").add_class(f"vl-{kind}")
                                                         for kind in ("answer", "speed", "hand", "note"))
        self.answer.value = "loading …"
        self.sentences = W.VBox([self.answer, self.speed, self.hand, self.note]).add_class("vl-sentences")
        self.knew, self.deep = W.HTML().add_class("vl-life"), None
        self.depth = W.VBox([self.knew], layout=W.Layout(display="none")).add_class("vl-depth")
        self.forced: Hand | None = None
        self.aide, self.life = Aide(), W.HTML(text.fact(life.HINT)).add_class("vl-life")
        self.code = W.HTML().add_class("vl-life")

    def show_answer(self, ask: Ask, look: Look, named: Callable[[int], str], exits: Sequence[str]) -> None:
        """The sentence about the image, and the line of code; `named` gives a class's name, `exits` those of exits, if any."""
        self.answer.value, self.code.value = text.answer(look, named, exits), text.code(ask, bool(look.subject.told))
        self.captions["attribution"].value = text.caption(f"red speaks for “{named(look.prediction)}”")

    def show_layer(self, look: Look, place: int, exits: Sequence[str]) -> None:
        """The patches left after one layer, and where its class token, or the mean of its tokens, looks."""
        part = look.layers[place]
        count, patches = int(part.fed[0].sum()), part.fed.shape[1]
        told = f"{count} of {patches} kept" if part.source is None else f"{patches} in {count} tokens"
        self.captions["kept"].value = text.caption(f"{look.name(place, exits)}: {told}")
        where = ("no patch left" if not part.attended[0].any() else "attention to patches" if part.cls[0].any()
                 else "class token left out")
        self.captions["attention"].value = text.caption(f"{where}, layer {part.layer + 1}")
        self.pictures["kept"].value = png(left(look.subject.picture, part, 0))
        self.pictures["attention"].value = png(heated(look.subject.picture, *looked_at(look.layers, place, 0), part.grid))
        side, old = part.grid[0], self.aide.grid
        with self.aide.hold_sync():
            self.aide.grid, self.aide.patch = side, [int((place + 0.5) / old * side) for place in self.aide.patch]

    def show_life(self, look: Look, exits: Sequence[str]) -> None:
        """What becomes of the patch that was chosen, if one was."""
        patch, grid = tuple(self.aide.patch), self.aide.grid
        said = self.forced.says(patch, grid) if self.forced else ""
        self.life.value = (life.strip(life.moments(look.layers, patch, grid), patch, exits, said) if patch
                           else text.fact(life.HINT))

    def mark(self, hand: Hand | None) -> None:
        """Which patches a person keeps and drops."""
        self.forced = hand
        with self.aide.hold_sync():
            self.aide.keep, self.aide.drop = (list(hand.keep), list(hand.drop)) if hand else ([], [])
            self.aide.hand = hand.grid if hand else 1

    def open_depth(self, open: bool) -> None:
        """Make room for the depth, or close it; its figure is made when it is first opened."""
        if open and self.deep is None:
            self.deep = go.FigureWidget(layout={"height": DEPTH, "autosize": True, "template": "none", "paper_bgcolor": CLEAR,
                                                "plot_bgcolor": CLEAR})
            self.deep._config = {"displayModeBar": False, "responsive": True}
            self.depth.children = (self.knew, W.Box([self.deep]).add_class("vl-plots"))
        self.depth.layout.display = "flex" if open else "none"

    def show_depth(self, rows: DataFrame, classes: Sequence[str], sentence: str) -> None:
        """What the net would answer after every block."""
        figure, self.knew.value = depth(rows, classes), sentence
        self.deep.data = []
        size = ("width", "height", "autosize")                             # told again, they would be fixed at what they are
        told = {key: value for key, value in figure.layout.to_plotly_json().items() if key not in size}
        self.deep.layout.update({"shapes": [], **told}, overwrite=True)
        self.deep.add_traces(figure.data)
        self.depth.remove_class("vl-old")
        self.deep._widget_layout, self.deep._widget_data = deepcopy(self.deep._layout_obj._props), deepcopy(self.deep._data)

    def show_relevance(self, look: Look, heat: ndarray) -> None:
        """What speaks for the predicted class."""
        self.pictures["attribution"].value = png(signed(look.subject.picture, heat))

    def show_speed(self, sentence: str) -> None:
        self.speed.value = sentence
        self.speed.remove_class("vl-old")

    def fade_speed(self) -> None:
        """The speed on the page is another point's: it is faded, and where speed is what places the ring, there is none."""
        self.speed.add_class("vl-old")
        if not self.accuracy:
            self.show_place(None)

    def show_note(self, words: str | None, wrong: bool = False) -> None:
        """A remark, or in red what went wrong; None clears it."""
        self.note.value = "" if words is None else text.note(words, wrong)

    def remember(self, ask: Ask, hue: str, gmacs: float, images_per_s: float) -> None:
        """One more measurement in the figure."""
        self.past = [*self.past, (ask, hue, gmacs, images_per_s)][-HISTORY:]
        asks, hues, costs, speeds = (list(column) for column in zip(*self.past, strict=True))
        names = [ask.title for ask in asks]
        traces = {trace.name: trace for trace in self.figure.data if trace.name}
        drawn = {"y": speeds, "text": names, "marker.color": hues, "marker.line.color": hues}
        with self.figure.batch_update():
            traces["history"].update({"x": list(range(1, len(speeds) + 1)), **drawn})
            traces["now"].update(x=[len(speeds)], y=speeds[-1:])
            end = max(5.5, ROOM * len(speeds))                             # so that the ring around the last one is whole
            self.figure.layout.xaxis.update(range=[0.5, end], dtick=1 + len(speeds) // 8)
            if not self.accuracy:
                traces["visited"].update({"x": costs, **drawn})
                traces["here"].update(x=costs[-1:], y=speeds[-1:])
        self.keep_figure()

    def show_place(self, place: tuple[float, float] | None) -> None:
        """Ring the point in view among the others; None takes the ring away, for a point whose place is not known."""
        x, y = ([place[0]], [place[1]]) if place else ([], [])
        with self.figure.batch_update():
            next(trace for trace in self.figure.data if trace.name == "here").update(x=x, y=y)
        self.keep_figure()

    def keep_figure(self) -> None:
        """What a page that is opened later shows at once: plotly sends changes, and keeps the figure as it first was."""
        self.figure._widget_layout = deepcopy(self.figure._layout_obj._props)
        self.figure._widget_data = deepcopy(self.figure._data)
