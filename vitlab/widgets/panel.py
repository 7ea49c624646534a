"""The panel: controls on one side, answers on the other, between them a worker that only ever does the newest thing asked."""
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as W
from numpy import ndarray
from pandas import DataFrame
from PIL import Image
from torch import Tensor, nn

from vitlab.forced import Forced, Orders
from vitlab.numbers import whole
from vitlab.widgets import text
from vitlab.widgets.answering import Answering
from vitlab.widgets.assigned import Assigned
from vitlab.widgets.controls import Controls, everything, offered, point_of
from vitlab.widgets.engine import GATE, Engine
from vitlab.widgets.gaze import Gaze
from vitlab.widgets.known import Known
from vitlab.widgets.pool import give_back
from vitlab.widgets.readouts import Readouts
from vitlab.widgets.records import Ask, Hand, Look, Slice, Timing, Upload
from vitlab.widgets.slices import Slices, check
from vitlab.widgets.taking import Away, Taking
from vitlab.widgets.twin import Twin
from vitlab.widgets.view import View
from vitlab.widgets.walk import WAYS, Walk
from vitlab.widgets.ways import Ways
from vitlab.widgets.worker import LatestWorker
from vitlab.words import one_of

PATIENCE = 5.0                              # seconds without an answer after which the panel says what it waits for
PICTURE = (Image.Image, ndarray, Tensor, bytes, bytearray, str, Path)


class Panel(Answering, Taking):
    """A live panel, made by `vitlab.explore`; show it as the last expression of a cell.

    result: what is shown, as a dict (model, point, image, prediction, confidence, right, exit, tokens, patches, gmacs, device,
    precision, compiled, batch, images_per_s, speed_up, promise, paper, runs, exits, forced; of what is pinned: pinned, and
    beside, its images per second; with latency, what `Taken` has); last_error: the sentence in red, or None.
    """

    def __init__(self, methods: dict[str, nn.Module], images, *, sweep: DataFrame | None = None, device: str = "cpu",
                 precision: str = "fp32", batch: int = 32, compiled: bool = False):
        self.images, self.engine, self.known = images, Engine(methods, images), Known(methods, images, sweep)
        self.controls, self.view = Controls(methods, len(images), device, precision, batch, compiled), View(sweep)
        self.ways, self.readouts, self.told = Ways(self.engine), Readouts(), None
        self.methods, self.slices = methods, Slices(self.engine, images)
        self.walk = Walk(methods, images.classes, images.labels.unique().tolist())
        self.twin, self.away = Twin(), Away(sweep is not None)
        self.gaze, self.assigned = Gaze(self.engine, self.known, self.view.aide), Assigned()
        self.controls.tools.children = (*self.controls.tools.children, self.walk.open, self.twin.pin)
        self.held: tuple[str, Any] | None = None                               # the model and point that are pinned
        self.other: tuple[tuple | None, Look | None] = (None, None)            # the newest look at them
        self.subject: Upload | None = None                                     # a picture from outside, while it is looked at
        self.result: dict[str, Any] = {}
        self.last_error: str | None = None
        self.seen: tuple[tuple | None, Look | None] = (None, None)             # what the pictures show
        self.asked: Ask | None = None                                          # what was asked for it
        self.hand = Hand()                                                     # what a person says of some patches
        self.free: tuple[tuple | None, Look | None] = (None, None)             # the newest look at which nothing was forced
        self.deep: tuple | None = None                                         # whose depth is shown
        self.paced: tuple | None = None                                        # what the speed belongs to
        self.timing: Timing | None = None                                      # and the speed
        self.quiet = threading.local()                                         # .now: this thread's changes are no requests
        self.asking = threading.Lock()                                         # who reads the controls later also asks later
        self.looked = 0                                                        # the newest request whose look was shown
        self.alarm: threading.Timer | None = None
        shown = (self.view.sentences, self.readouts.root, self.assigned.root, self.view.root, self.controls.tools, self.walk.root,
                 self.twin.root, self.view.life, self.gaze.root, self.view.depth, self.view.code, self.away.root, self.view.aide)
        self.root = W.VBox([W.HTML(text.STYLE, layout=W.Layout(display="none")), self.controls.row, self.controls.knobs,
                            *shown]).add_class("vl-panel")
        self.listen()
        self.worker = LatestWorker(self.work, self.fail)
        self.submit()

    def _repr_mimebundle_(self, **kwargs) -> dict[str, Any]:
        """How a notebook shows the panel."""
        return {**self.root._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"explore({', '.join(self.methods)} on {self.images.name})"

    # What a person, or a notebook that runs as a test, does

    def set(self, **values) -> "Panel":
        """Move controls from code: panel.set(length=8, keep=0.5, image=3). Returns the panel, so that .wait() can follow.

        Names: model, image (a position in the set, or any picture), device, precision, batch, layer, and the model's knobs.
        Raises ValueError for a name or a value that the controls do not have, before anything has moved, and on a closed panel.
        """
        if self.worker.closed:
            raise ValueError("this panel is closed; run the cell that made it again")
        c, moves, subject = self.controls, [], self.subject
        model = offered(c.model, "model", values.get("model", c.model.value))
        known = c.named(model)
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"the panel has no {name!r}; it has {', '.join(known)}")
            if name == "image" and isinstance(value, PICTURE) and getattr(value, "ndim", None) != 0:
                subject = Upload("your picture", value)
                subject.picture                                                # a broken one is refused here
            else:
                moves.append((known[name], offered(known[name], name, value)))
                subject = None if name == "image" else subject
        with self.silently():
            for control, value in moves:
                control.value = value
            c.show_knobs()
        self.subject = subject
        if "image" in values:
            self.hand = Hand()
        self.submit()
        return self

    def force(self, keep: Sequence[int] = (), drop: Sequence[int] = (), grid: int | None = None) -> "Panel":
        """Keep and drop patches of the picture in view by hand, as `vitlab.Forced` does; without arguments nothing is forced.

        keep, drop: patch numbers, row by row; grid: patches per side that they count (None: those of the layer in view). Another
        picture begins with nothing forced. Returns the panel. ValueError for what contradicts itself and for a net that drops no
        patch, before anything has changed.
        """
        model = self.controls.model.value
        grid = self.view.aide.grid if grid is None else grid
        orders = Orders(keep, drop, grid)
        if orders:
            Forced(self.methods[model])                                    # refuses a net that drops no patch
        if any(isinstance(said, Tensor) for said in (orders.keep, orders.drop)):
            raise ValueError("the panel looks at one picture; give the numbers of its patches, such as [3, 17]")
        self.hand = Hand(orders.keep, orders.drop, grid)
        self.submit()
        return self

    def pin(self, at: Any = None) -> "Panel":
        """Hold an operating point and show it beside what the controls say from now on; `unpin` lets it go.

        at: a point of the model in view, or (model, point); None: where the sliders stand. Returns the panel. ValueError for
        what the panel does not have, before anything has changed.
        """
        return self.pinned(self.here() if at is None else self.known.placed("at", at, self.controls.model.value))

    def unpin(self) -> "Panel":
        """Show nothing beside any more. Returns the panel."""
        return self.pinned(None)

    def pinned(self, place: tuple[str, Any] | None) -> "Panel":
        """Pin a model and its point, or None."""
        if self.worker.closed:
            raise ValueError("this panel is closed; run the cell that made it again")
        self.held = place
        with self.silently():
            self.twin.pin.value = place is not None
        self.submit()
        return self

    def slice(self, how: str | None = None, *, at: Any = None, beside: Any = None, label: str | int | None = None) -> "Panel":
        """Walk through some of the pictures: the panel goes to the first, and its arrows, or `step`, from one to the next.

        how, as in `measure.pick`: "all", "wrong", "lost" (wrong at `at`, right at `beside`), "unsure" or "dear"; None: every
        picture again, unless a class is named. at, beside: an operating point of the model in view, or (model, point); at None:
        where the sliders stand; else they go there. label: a class of the pictures, by its name or number.
        Of a set of more than 500 a sample is asked about. `rows` are the pictures, once .wait() is over. Returns the panel.
        ValueError for what the panel does not have, before anything has changed.
        """
        if self.worker.closed:
            raise ValueError("this panel is closed; run the cell that made it again")
        nothing = how is None and at is None and beside is None and label is None
        part = None if nothing else self.meant(how, at, beside, label)
        self.slices.forget()
        with self.silently():
            self.walk.choose(part)
            if at is not None:
                self.stand(*part.at)
        self.submit()
        return self

    def meant(self, how: str | None, at: Any, beside: Any, label: str | int | None) -> Slice:
        """The slice that these words mean."""
        how = one_of("all" if how is None else how, "how", WAYS.values())
        if at is not None and how == "all":
            raise ValueError('all pictures are the same ones at every point; say which of them at this one, such as how="wrong"')
        if (how == "lost") != (beside is not None):
            raise ValueError('beside says where pictures are right that are wrong here; give it with how="lost", and only then')
        first = None if how == "all" else self.here() if at is None else self.known.placed("at", at, self.controls.model.value)
        part = Slice(how, first, None if beside is None else self.known.placed("beside", beside, self.controls.model.value),
                     None if label is None else self.labelled(label))
        check(part, self.methods, self.engine.guests)
        return part

    def here(self) -> tuple[str, Any]:
        """The model in view and the point that its sliders stand at."""
        model = self.controls.model.value
        return model, point_of(self.methods[model], self.controls.sliders[model])

    def labelled(self, label: str | int) -> int:
        """The number of a class of the pictures."""
        classes = list(self.images.classes)
        if isinstance(label, str):
            return classes.index(one_of(label, "label", classes))
        return whole(label, "label", 0, len(classes) - 1)

    @property
    def rows(self) -> list[int] | None:
        """The pictures that are walked through, by number, in their order; None while there is no slice, or not yet."""
        ready = self.asked is not None and self.asked.slice and self.slices.slice == self.slices.key(self.asked)
        return list(self.slices.rows) if ready else None

    def wait(self, timeout: float = 60.0) -> bool:
        """Wait until everything asked for is shown; False after an error, on a closed panel, or after `timeout` seconds."""
        give_back()                                                            # this thread computes nothing meanwhile
        return self.worker.wait(timeout) and self.last_error is None

    def close(self) -> None:
        """Stop measuring and take the panel off the page; no thread and no widget of it stays behind."""
        self.worker.close()
        if self.alarm is not None:
            self.alarm.cancel()
        for widget in (self.root, *self.controls.all_sliders()):
            for part in everything(widget):
                part.close()

    # Requests, in whichever thread the notebook calls us

    def listen(self) -> None:
        """Connect the controls."""
        for control in self.controls.watched():
            control.observe(self.guarded(self.changed), "value")
        self.controls.upload.observe(self.guarded(self.uploaded), "file")
        self.controls.upload.observe(self.guarded(self.refused), "refused")
        self.view.aide.observe(self.guarded(self.pointed), "patch")
        self.view.aide.observe(self.guarded(self.turned), "turn")
        self.controls.what_if.observe(self.guarded(self.mode), "value")
        self.controls.free.on_click(self.guarded(lambda _: self.force()))
        for trace in self.view.figure.data:
            trace.on_click(lambda trace, points, _: self.guarded(self.go_to)((trace, points.point_inds)))
        self.controls.back.on_click(self.guarded(lambda _: self.step(-1)))
        self.controls.next.on_click(self.guarded(lambda _: self.step(1)))
        self.twin.pin.observe(self.guarded(lambda change: self.pin() if change["new"] else self.unpin()), "value")
        for control in self.walk.watched():
            control.observe(self.guarded(self.sliced), "value")
        self.walk.back.on_click(self.guarded(lambda _: self.step(-1)))
        self.walk.next.on_click(self.guarded(lambda _: self.step(1)))
        self.gaze.listen(self.guarded)
        self.controls.again.on_click(self.guarded(lambda _: self.measure_again()))
        for kind, key in self.away.buttons.items():
            key.on_click(self.guarded(lambda _, kind=kind: self.take(kind)))

    def guarded(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """The callback with its errors shown in the panel; the notebook would hide them in a log."""
        def run(change):
            if getattr(self.quiet, "now", False):
                return
            try:
                callback(change)
            except Exception as error:
                self.fail(error)
        return run

    @contextmanager
    def silently(self) -> Iterator[None]:
        """Changes that this thread makes to controls meanwhile are no requests."""
        before, self.quiet.now = getattr(self.quiet, "now", False), True
        try:
            yield
        finally:
            self.quiet.now = before

    def changed(self, change: dict) -> None:
        """A control was moved."""
        if change["owner"] is self.controls.model:
            self.controls.show_knobs()
        if change["owner"] is self.controls.image:
            self.subject, self.hand = None, Hand()
        if change["owner"] is self.controls.deep:
            self.view.open_depth(change["new"])
        self.submit()

    def sliced(self, change: dict) -> None:
        """Another slice was chosen. Where one is opened it is of the point in view, beside the costliest one, or the cheapest."""
        owner = change["owner"]
        self.slices.forget()
        with self.silently():
            if owner is self.walk.open and change["new"] or owner is self.walk.how and change["old"] == "all":
                model, point = self.here()
                cheapest, costliest = self.methods[model].points[0], self.methods[model].points[-1]
                self.walk.stand(self.walk.at, (model, point))
                self.walk.stand(self.walk.beside, (model, cheapest if point == costliest else costliest))
            if owner is self.walk.at:
                self.stand(*change["new"])
            self.walk.show()
        self.submit()

    def stand(self, model: str, point: Any) -> None:
        """Move the sliders to an operating point; asks for nothing."""
        controls = self.controls
        controls.model.value = model
        for name, slider in controls.sliders[model].items():
            slider.value = offered(slider, name, getattr(point, name))
        controls.show_knobs()

    def step(self, by: int) -> None:
        """The next or the previous image, of a slice where one is walked through, round and round."""
        image, rows = self.controls.image.value, self.walk.chosen and self.rows
        self.set(image=self.slices.step(rows, image, by) if rows else (image + by) % len(self.images))

    def measure_again(self) -> None:
        self.paced = self.readouts.of = None
        self.ways.found.clear()
        self.submit()

    def uploaded(self, change: dict) -> None:
        """A file has come from the browser."""
        if file := change["new"]:
            with self.silently():
                self.controls.upload.file = {}                                 # its bytes are held once
            self.subject, self.hand = Upload(file["name"], bytes(file["content"]), self.subject), Hand()
            self.submit()

    def refused(self, change: dict) -> None:
        """A file was too large to come."""
        self.fail(ValueError(change["new"][0]))

    def pointed(self, change: dict) -> None:
        """A patch was chosen, or let go."""
        (model, *_), look = self.seen[0] or (None,), self.seen[1]
        if look is not None:
            self.view.show_life(look, self.known.exits(model))
        if self.gaze.choose(change["new"]):
            self.submit()

    def mode(self, change: dict) -> None:
        """A click turns a patch on from now on, or only chooses it."""
        self.view.aide.forcing = change["new"]

    def turned(self, change: dict) -> None:
        """A patch was turned on: what is free is kept, what is kept is dropped, what is dropped is free."""
        row, column, _ = change["new"]
        grid = self.view.aide.grid
        self.hand = self.hand.on(grid).turned(row * grid + column)
        self.submit()

    def go_to(self, clicked: tuple[Any, list[int]]) -> None:
        """A mark of the figure was clicked: the sliders go to its operating point."""
        (trace, places), point = clicked, None
        if places and trace.name in ("history", "visited"):
            ask = self.view.past[places[0]][0]
            model, point = ask.model, ask.point
        elif places and (found := self.known.point_at(trace.x[places[0]], trace.y[places[0]])):
            model, point = found
        if point is not None:
            self.set(model=model, **{name: getattr(point, name) for name in self.controls.sliders[model]})

    def submit(self) -> None:
        """Ask for what the controls say."""
        with self.asking:
            c, model = self.controls, self.controls.model.value
            hand = self.hand if self.hand and c.able[model] else None
            self.view.mark(hand)
            c.free.disabled = hand is None
            self.worker.submit(Ask(
                model, point_of(self.methods[model], c.sliders[model]), c.image.value if self.subject is None else self.subject,
                c.device.value, batch=c.batch.value, layer=c.layer.value - 1 if c.layer.value < c.layer.max else -1,
                hand=hand, deep=c.deep.value, slice=self.walk.chosen, pinned=self.held, **c.way()))
            self.watch()

    def watch(self) -> None:
        """Look again in a while whether the newest request has been answered."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm = threading.Timer(PATIENCE, self.late, (self.worker.asked,))
        self.alarm.daemon = True
        self.alarm.start()

    def late(self, number: int) -> None:
        """Say what a request is waiting for, as long as it is the newest and nothing of it has been shown."""
        if number != self.worker.asked or self.worker.closed or number in (self.looked, self.worker.done):
            return
        if inside := GATE.inside:
            what, since = inside
            self.view.show_note(f"{what} has taken {time.monotonic() - since:.0f} s and goes on; what was asked since then waits")
        self.watch()

    def fail(self, error: BaseException) -> None:
        """One red sentence instead of a traceback."""
        self.last_error = text.sentence(error)
        self.view.show_note(self.last_error, wrong=True)
