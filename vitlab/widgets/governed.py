"""The governor's panel: a target to move, a load to switch on, and between them a net that holds what it promised."""
import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as W
import pandas as pd
import torch
from torch import nn

from vitlab import measure
from vitlab.governor import Governor, known
from vitlab.measure.answers import at_points
from vitlab.numbers import plain, real, whole
from vitlab.widgets import text
from vitlab.widgets.controls import SLIDER, everything, sized
from vitlab.widgets.engine import GATE
from vitlab.widgets.gauges import Gauges, counted
from vitlab.widgets.load import Load, cores
from vitlab.widgets.pool import give_back
from vitlab.widgets.service import Service
from vitlab.widgets.worker import LatestWorker, Turn

SHARE, LOWEST, HIGHEST = 0.9, 0.1, 1.2      # of the most accurate point's speed at first; of the slowest's, of the fastest's
BATCHES, PICTURES, ROUNDS = 4, 100, 5       # answered in turn; for the accuracy of each point; for its speed
OFTEN = 0.4                                 # seconds between two pictures of the figure
LONGEST = 180.0                             # seconds after which a panel that nobody touches rests


class Governed:
    """A live panel, made by `vitlab.govern`; show it as the last expression of a cell.

    Nothing runs before *run* is pressed, or `.set(run=True)`. result: how things stand, as a dict (seconds, target,
    images_per_s, point, top1, slower, took, threads, cores, switches); last_error: the sentence in red, or None.
    """

    def __init__(self, method: nn.Module, data, table: pd.DataFrame | None, batch: int):
        self.method = copy.deepcopy(method).eval().requires_grad_(False)
        self.data, self.batch, self.device = data.for_net(method), batch, next(method.parameters()).device
        self.service: Service | None = None
        self.result: dict[str, Any] = {}
        self.last_error: str | None = None
        self.other, self.view = Load(), Gauges()
        self.news, self.shown, self.worker = threading.Condition(), 0, None
        self.touched, self.closed = time.monotonic(), False
        most = cores()
        self.run = W.ToggleButton(description="run", icon="play", tooltip="run: let the net answer pictures", disabled=True)
        self.target = sized(W.IntSlider, "images per second", f"{SLIDER + 60}px", value=1, min=1, max=2, disabled=True)
        self.load = W.ToggleButton(description="another process", icon="fire", disabled=True,
                                   tooltip=f"another process keeps cores busy, for {self.other.longest:.0f} seconds at most")
        self.cores = sized(W.Dropdown, "on cores", "120px", options=list(range(1, most + 1)), value=most)
        row = W.HBox([self.run, self.target, self.load, self.cores]).add_class("vl-row").add_class("vl-knobs")
        self.root = W.VBox([W.HTML(text.STYLE, layout=W.Layout(display="none")), row, self.view.sentences, self.view.pace,
                            self.view.plot, self.view.aide]).add_class("vl-panel").add_class("vl-governor")
        for control, heard in ((self.run, self.switched), (self.target, self.moved), (self.load, self.loaded),
                               (self.cores, self.loaded)):
            control.observe(self.guarded(heard), "value")
        if table is None:
            self.view.show_note("measuring every point on this machine …")
            self.worker = LatestWorker(self.work, self.fail)
            self.worker.submit(None)
        else:
            known(method, table)
            self.ready(table)

    def _repr_mimebundle_(self, **kwargs) -> dict[str, Any]:
        """How a notebook shows the panel."""
        return {**self.root._repr_mimebundle_(**kwargs), "text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"govern({type(self.method).__name__} on {self.data.name})"

    # What a person, or a notebook that runs as a test, does

    def set(self, **values) -> "Governed":
        """Move controls from code: panel.set(run=True, target=200, load=True, cores=1). Returns the panel.

        ValueError for a name or a value that the controls do not have, before anything has moved, and on a closed panel or one
        that is still measuring.
        """
        if self.closed:
            raise ValueError("this panel is closed; run the cell that made it again")
        if self.run.disabled:
            raise ValueError("this panel is still measuring; .wait() for it first")
        controls = {"target": self.target, "cores": self.cores, "load": self.load, "run": self.run}
        if strange := [name for name in values if name not in controls]:
            raise ValueError(f"the panel has no {strange[0]!r}; it has {', '.join(controls)}")
        for name, value in values.items():
            values[name] = plain(value)
            if name in ("load", "run") and not isinstance(values[name], bool):
                raise ValueError(f"{name} must be True or False, not {value!r}")
            if name == "target":
                values[name] = round(real(value, "target", self.target.min, self.target.max))
            if name == "cores":
                values[name] = whole(value, "cores", 1, len(self.cores.options))
        for name in controls:                                                  # the target before the start
            if name in values:
                controls[name].value = values[name]
        return self

    def wait(self, timeout: float = 60.0, seconds: float = 0.0) -> bool:
        """Wait until the panel has measured, or, where it runs, until it has shown what is now and `seconds` more of it; False
        after an error, on a closed panel, or after `timeout` seconds."""
        give_back()                                                            # this thread computes nothing meanwhile
        with self.news:
            before, began = self.shown, time.monotonic()
            done = self.news.wait_for(lambda: self.closed or self.last_error or not self.run.disabled and (
                not self.run.value or self.shown > before + 1 and time.monotonic() - began >= seconds), timeout)
            return bool(done) and not self.closed and self.last_error is None

    def close(self) -> None:
        """Stop everything and take the panel off the page; no thread, process or widget of it stays behind."""
        self.closed, worker = True, self.worker
        self.halt()
        if worker is not None:
            worker.close()
        for part in everything(self.root):
            part.close()
        self.tell()

    # Requests, in whichever thread the notebook calls us

    def guarded(self, callback: Callable[[], None]) -> Callable[[dict], None]:
        """The callback with its errors shown in the panel; the notebook would hide them in a log."""
        def heard(_):
            self.touched = time.monotonic()
            try:
                callback()
            except Exception as error:
                self.fail(error)
        return heard

    def switched(self) -> None:
        """*run* was pressed, or let go."""
        if self.run.value and not self.closed:
            self.last_error = None
            self.view.show_note(None)
            self.worker = LatestWorker(self.work, self.fail)
            self.worker.submit(None)
        else:
            self.halt()

    def halt(self) -> None:
        """Let the batch in progress be the last; its thread ends by itself, and nobody waits for it here."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.close(0)
        self.load.value = self.run.value = False
        self.other.stop()
        self.view.rest()

    def moved(self) -> None:
        """The target was moved; the governor follows as soon as its patience allows."""
        if self.service is not None:
            self.service.governor.target = float(self.target.value)

    def loaded(self) -> None:
        """The load was switched, or given other cores."""
        if not self.load.value:
            self.other.stop()
            return
        self.other.start(self.cores.value)
        self.run.value = True                                                  # or there is nothing to see

    def fail(self, error: BaseException) -> None:
        """One red sentence instead of a traceback, and rest."""
        self.last_error = text.sentence(error)
        self.halt()
        self.view.show_note(self.last_error, wrong=True)
        self.tell()

    def tell(self) -> None:
        """Wake whoever waits."""
        with self.news:
            self.shown += 1
            self.news.notify_all()

    # Answers, in the worker's thread

    def work(self, _: None, turn: Turn) -> None:
        """Measure if nobody has; then answer what comes until told to stop, or nobody has touched the panel for long."""
        if self.service is None:
            if (table := self.measured(turn)) is not None:
                self.ready(table)
            turn.worker.close(0)                                               # a run has a thread of its own
            return
        service, moments, drawn = self.service, [], 0.0
        service.pause()
        service.wait = turn.settle
        while not turn.stale() and (moment := service.answer()) and not turn.stale():
            moments.append(moment)
            if self.other.over:                                                # and not merely on its way
                self.load.value = False
            now = time.monotonic()
            if now - drawn > OFTEN:
                self.result = vars(moment).copy()
                self.view.show(moments)
                moments, drawn = [], now
                self.tell()
            if now - self.touched > LONGEST:
                self.run.value = False
                self.view.show_note(f"at rest: nobody has touched this panel for {LONGEST / 60:.0f} minutes; press run to go on")

    def measured(self, turn: Turn) -> pd.DataFrame | None:
        """What every point reaches here, in the thread that will answer; None once nobody wants to know."""
        points, few = list(self.method.points), self.data.sample(min(PICTURES, len(self.data)))
        top1 = []
        for number, point in enumerate(points, 1):
            self.view.show_note(f"measuring every point on this machine: {number} of {len(points)}")
            with GATE.held("a governor's measurement"):
                top1.append(100 * at_points(self.method, few, [point])[0].correct.mean())
            if turn.stale():
                return None
        entries = {str(point): (self.method, point) for point in points}
        speeds = GATE.measure(lambda stop: measure.race(entries, self.batches()[0], rounds=ROUNDS, stop=stop), turn.stale,
                              "a governor's measurement")
        if speeds is None:
            return None
        return pd.DataFrame({"point": list(entries), "top1": top1,
                             "images_per_s": speeds.set_index("name").loc[list(entries)].images_per_s.values})

    def batches(self) -> list[torch.Tensor]:
        """Some pictures of every class, again from the start where the set is small."""
        images = self.data.sample(min(BATCHES * self.batch, len(self.data))).images(slice(None)).to(self.device)
        return [images[torch.arange(k * self.batch, (k + 1) * self.batch) % len(images)] for k in range(BATCHES)]

    def ready(self, table: pd.DataFrame) -> None:
        """Everything is known: the slider gets its range, the buttons can be pressed."""
        best = max(known(self.method, table).values())
        speeds = [speed for _, speed in known(self.method, table).values()]
        low, high, first = max(1, round(LOWEST * min(speeds))), round(HIGHEST * max(speeds)) + 1, max(1, round(SHARE * best[1]))
        governor = Governor(self.method, table, images_per_s=float(first))
        self.service = Service(governor, self.batches(), lambda seconds: True, lambda: self.other.cores)
        self.target.max, self.target.min, self.target.value = high, low, first
        for control in (self.target, self.run, self.load):
            control.disabled = False
        self.view.rest()
        self.view.show_note(f"{counted(len(speeds), 'point')} measured, from {text.digits(min(speeds))} to "
                            f"{text.digits(max(speeds))} images/s in batches of {self.batch}")
        self.tell()
