"""What a panel shows: three pictures, one live figure, two sentences, and a third when something went wrong."""
import ipywidgets as W
import plotly.graph_objects as go
from numpy import ndarray
from pandas import DataFrame

from vitlab.plots.live import live
from vitlab.plots.overlay import dimmed, heated, png, signed
from vitlab.widgets import text
from vitlab.widgets.engine import Ask, Look, Timing, knobs

HISTORY = 40                                # measurements shown
PICTURES = ("kept", "attention", "attribution")


class View:
    """The widgets that answers are written into; `root` and `sentences` are the boxes that hold them."""

    def __init__(self, sweep: DataFrame | None):
        self.past: list[tuple] = []
        self.accuracy = sweep is not None                                  # what the right half of the figure has on its y axis
        self.captions = {kind: W.HTML() for kind in PICTURES}
        self.pictures = {kind: W.Image(format="png") for kind in PICTURES}
        self.figure = go.FigureWidget(live(sweep))
        self.figure._config = {"displayModeBar": False, "responsive": True}
        frames = [W.VBox([self.captions[kind], self.pictures[kind]]).add_class("vl-picture").add_class(f"vl-{kind}") for kind in PICTURES]
        self.root = W.HBox([*frames, W.Box([self.figure]).add_class("vl-plots")]).add_class("vl-view")
        self.answer, self.speed, self.note = (W.HTML().add_class("vl-status").add_class(f"vl-{kind}") for kind in ("answer", "speed", "note"))
        self.answer.value = "loading …"
        self.sentences = W.VBox([self.answer, self.speed, self.note]).add_class("vl-sentences")

    def show_answer(self, look: Look, named) -> None:
        """The sentence about the image; `named` gives a class's name."""
        self.answer.value = text.answer(look, named)
        self.captions["attribution"].value = text.caption(f"red speaks for “{named(look.prediction)}”")

    def show_layer(self, look: Look, place: int) -> None:
        """The patches left after one layer, and where its class token looks."""
        part = look.layers[place]
        alive, kept = part.attended[0].numpy(), part.fed[0].numpy()
        name = f"layer {part.layer + 1}" if look.layers[-1].stage == 0 else f"stage {part.stage + 1}, layer {part.layer + 1}"
        self.captions["kept"].value = text.caption(f"{name}: {kept.sum()} of {kept.size} kept")
        self.captions["attention"].value = text.caption(f"class attention, {name}")
        self.pictures["kept"].value = png(dimmed(look.subject.picture, kept, part.grid))
        self.pictures["attention"].value = png(heated(look.subject.picture, part.cls[0].numpy(), alive, part.grid))

    def show_relevance(self, look: Look, heat: ndarray) -> None:
        """What speaks for the predicted class."""
        self.pictures["attribution"].value = png(signed(look.subject.picture, heat))

    def show_speed(self, sentence: str) -> None:
        self.speed.value = sentence
        self.speed.remove_class("vl-old")

    def remember(self, ask: Ask, look: Look, timing: Timing, hue: str) -> None:
        """One more measurement in the figure, in the model's colour."""
        self.past = [*self.past, (f"{ask.model} ({knobs(ask.point)})", hue, look.gmacs, timing.images_per_s)][-HISTORY:]
        names, hues, gmacs, speeds = (list(column) for column in zip(*self.past))
        number = list(range(1, len(speeds) + 1))
        with self.figure.batch_update():
            trace = {t.name: t for t in self.figure.data if t.name}
            trace["history"].update(x=number, y=speeds, text=names, marker_color=hues, marker_line_color=hues)
            trace["now"].update(x=number[-1:], y=speeds[-1:])
            self.figure.layout.xaxis.update(range=[0.5, max(5, len(number)) + 0.5], dtick=1 + len(number) // 8)
            if not self.accuracy:
                trace["visited"].update(x=gmacs, y=speeds, text=names, marker_color=hues, marker_line_color=hues)
                trace["here"].update(x=gmacs[-1:], y=speeds[-1:])

    def show_place(self, x: float, y: float) -> None:
        """Ring the point in view among the others."""
        ring = next(t for t in self.figure.data if t.name == "here")
        with self.figure.batch_update():
            ring.update(x=[x], y=[y])

    def show_note(self, words: str | None, wrong: bool = False) -> None:
        """A remark, or in red what went wrong; None clears it."""
        self.note.value = "" if words is None else text.note(words, wrong)
