"""What a panel shows: three pictures, one live figure, two sentences, and a third when something went wrong."""
from collections.abc import Callable, Sequence

import ipywidgets as W
import plotly.graph_objects as go
from numpy import ndarray
from pandas import DataFrame

from vitlab.plots.live import live
from vitlab.plots.overlay import heated, png, signed
from vitlab.plots.pictures import left, looked_at
from vitlab.widgets import text
from vitlab.widgets.records import Look

HISTORY = 40                                # measurements shown
PICTURES = ("kept", "attention", "attribution")


class View:
    """The widgets that answers are written into; `root` and `sentences` are the boxes that hold them."""

    def __init__(self, sweep: DataFrame | None):
        self.past: list[tuple[str, str, float, float]] = []                    # name, colour, gmacs, images per second
        self.accuracy = sweep is not None                                      # what the right half of the figure shows
        self.captions = {kind: W.HTML() for kind in PICTURES}
        self.pictures = {kind: W.Image(format="png") for kind in PICTURES}
        self.figure = go.FigureWidget(live(sweep))
        self.figure._config = {"displayModeBar": False, "responsive": True}    # plotly offers no public way
        frames = [W.VBox([self.captions[kind], self.pictures[kind]]).add_class("vl-picture") for kind in PICTURES]
        self.root = W.HBox([*frames, W.Box([self.figure]).add_class("vl-plots")]).add_class("vl-view")
        self.answer, self.speed, self.note = (W.HTML().add_class("vl-status").add_class(f"vl-{kind}")
                                              for kind in ("answer", "speed", "note"))
        self.answer.value = "loading …"
        self.sentences = W.VBox([self.answer, self.speed, self.note]).add_class("vl-sentences")

    def show_answer(self, look: Look, named: Callable[[int], str], exits: Sequence[str]) -> None:
        """The sentence about the image; `named` gives a class's name, `exits` are the exits' names, if they have any."""
        self.answer.value = text.answer(look, named, exits)
        self.captions["attribution"].value = text.caption(f"red speaks for “{named(look.prediction)}”")

    def show_layer(self, look: Look, place: int, exits: Sequence[str]) -> None:
        """The patches left after one layer, and where its class token, or the mean of its tokens, looks."""
        part = look.layers[place]
        count, patches = int(part.fed[0].sum()), part.fed.shape[1]
        told = f"{count} of {patches} kept" if part.source is None else f"{patches} patches in {count} tokens"
        stage = f"{exits[part.stage]}, " if exits else f"stage {part.name}, " if any(look.layers[-1].stages) else ""
        self.captions["kept"].value = text.caption(f"{stage}layer {part.layer + 1}: {told}")
        where = "attention to patches" if part.cls[0].any() else "class token left out"
        self.captions["attention"].value = text.caption(f"{where}, layer {part.layer + 1}")
        self.pictures["kept"].value = png(left(look.subject.picture, part, 0))
        self.pictures["attention"].value = png(heated(look.subject.picture, *looked_at(look.layers, place, 0), part.grid))

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

    def remember(self, name: str, hue: str, gmacs: float, images_per_s: float) -> None:
        """One more measurement in the figure."""
        self.past = [*self.past, (name, hue, gmacs, images_per_s)][-HISTORY:]
        names, hues, costs, speeds = (list(column) for column in zip(*self.past, strict=True))
        traces = {trace.name: trace for trace in self.figure.data if trace.name}
        drawn = {"y": speeds, "text": names, "marker.color": hues, "marker.line.color": hues}
        with self.figure.batch_update():
            traces["history"].update({"x": list(range(1, len(speeds) + 1)), **drawn})
            traces["now"].update(x=[len(speeds)], y=speeds[-1:])
            self.figure.layout.xaxis.update(range=[0.5, max(5, len(speeds)) + 0.5], dtick=1 + len(speeds) // 8)
            if not self.accuracy:
                traces["visited"].update({"x": costs, **drawn})
                traces["here"].update(x=costs[-1:], y=speeds[-1:])

    def show_place(self, place: tuple[float, float] | None) -> None:
        """Ring the point in view among the others; None takes the ring away, for a point whose place is not known."""
        x, y = ([place[0]], [place[1]]) if place else ([], [])
        with self.figure.batch_update():
            next(trace for trace in self.figure.data if trace.name == "here").update(x=x, y=y)
