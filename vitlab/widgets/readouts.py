"""What one picture takes alone, and a batch in memory and energy: on demand, after the speed, when the panel is at rest."""
from collections.abc import Callable
from math import isnan

import ipywidgets as W

from vitlab import measure
from vitlab.widgets import text
from vitlab.widgets.engine import GATE, Engine
from vitlab.widgets.records import Ask, Look, Taken

LATENCY = 100                               # timed passes of one picture
SECONDS = 1.0                               # of passes, whose energy is counted


class Readouts:
    """The sentence, in `root`."""

    def __init__(self):
        self.told = W.HTML().add_class("vl-status").add_class("vl-taken")
        self.root = W.VBox([self.told], layout=W.Layout(display="none")).add_class("vl-sentences")      # read aloud, too
        self.of: tuple | None = None                                           # what the sentence belongs to

    def show(self, ask: Ask, key: tuple, one: Taken, versus: str) -> None:
        """The sentence."""
        self.of, self.told.value = key, text.taken(one, ask, versus)
        self.told.remove_class("vl-old")
        self.root.layout.display = "flex"

    def wait(self, ask: Ask, key: tuple) -> None:
        """Another point is in view than the sentence's, which is faded until its own comes; hidden where nobody asks."""
        if not ask.alone or not self.told.value:
            self.told.value = text.fact("latency follows …") if ask.alone else ""
            self.of = None
        elif self.of != key:
            self.told.add_class("vl-old")
            self.of = None
        self.root.layout.display = "flex" if ask.alone else "none"


def key(ask: Ask, adaptive: str | bool | None) -> tuple:
    """What it depends on: of a net that looks before it decides, on the picture too."""
    return ask.model, ask.point, ask.device, ask.precision, ask.fused, ask.hand, ask.batch, ask.image if adaptive else None


def taken(engine: Engine, ask: Ask, look: Look, stale: Callable[[], bool]) -> Taken | None:
    """Measure it, the costliest point in turn with this one; None when a newer request came in."""
    image, dense = look.subject.image.to(ask.device), engine.dense(ask)
    entries = {"here": (engine.runner(ask), ask.point, ask.precision)}
    if ask.point != dense.point or ask.hand:
        entries = {"dense": (engine.runner(dense), dense.point, dense.precision), **entries}
    table = GATE.measure(lambda stop: measure.latency_race(entries, image, runs=LATENCY, stop=stop), stale,
                         f"the latency of {ask.title}")
    if table is None:
        return None
    here = table.set_index("name").loc["here"]
    one = Taken(float(here.median_ms), float(here.p90_ms), int(here.runs), float(here.speed_up))
    if not ask.device.startswith("cuda"):
        return one                                                             # nobody counts there
    batch = engine.runner(ask), engine.pictures(ask), ask.point

    def counted(stop: Callable[[], bool]) -> tuple[float, float]:
        return (measure.peak_memory(*batch, precision=ask.precision),
                measure.joules(*batch, precision=ask.precision, seconds=SECONDS))

    found = GATE.measure(counted, stale, f"memory and energy of {ask.title}")
    if found is None:
        return None
    memory, joules = (None if isnan(value) else value for value in found)
    return Taken(one.latency_ms, one.latency_p90_ms, one.latency_runs, one.latency_speed_up, memory, joules)
