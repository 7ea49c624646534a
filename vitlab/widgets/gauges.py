"""What a governor's panel shows: who answers now, how fast, beside what; one live figure of the last minute."""
from collections import deque
from copy import deepcopy
from dataclasses import asdict
from html import escape
from typing import Any

import ipywidgets as W
import plotly.graph_objects as go

from vitlab.plots.live import governed
from vitlab.plots.theme import INK, faded
from vitlab.widgets import text
from vitlab.widgets.browser import Aide
from vitlab.widgets.records import shown
from vitlab.widgets.service import Moment

MINUTE, FIRST = 60.0, 20.0                  # seconds in view, and at least from the start
FINE = 0.2                                  # seconds between two points of a line: drawing must not take the time of answering
FIGURE = "images per second over time beside the target, and the accuracy of the operating point that answers"


class Gauges:
    """The widgets that moments are written into."""

    def __init__(self):
        self.past: deque[Moment] = deque()                                     # of the last minute, as fine as is drawn
        self.figure = go.FigureWidget(governed())
        self.figure._config = {"displayModeBar": False, "responsive": True}    # plotly offers no public way
        self.plot = W.HBox([W.Box([self.figure]).add_class("vl-plots")]).add_class("vl-view")
        self.who, self.pace, self.note = (W.HTML().add_class("vl-status").add_class(f"vl-{kind}")
                                          for kind in ("answer", "speed", "note"))
        self.sentences = W.VBox([self.who, self.note]).add_class("vl-sentences")     # read aloud when they change
        self.aide = Aide(pictures=0, figure=FIGURE)

    def show(self, moments: list[Moment]) -> None:
        """Some moments more, the newest last."""
        for moment in moments:
            if not self.past or moment.seconds >= self.past[-1].seconds + FINE or differs(moment, self.past[-1]):
                self.past.append(moment)
        now = moments[-1]
        while self.past[0].seconds < now.seconds - MINUTE:
            self.past.popleft()
        who = f"<b>{escape(named(now.point))}</b> answers now · {now.top1:.1f} % right when it was measured"
        if who != self.who.value:
            self.who.value = who
        self.pace.value = (
            f'<b class="vl-number">{text.digits(now.images_per_s)}</b> of {text.digits(now.target)} images/s · '
            f'<span class="vl-fact">{1000 * now.took:.0f} ms a batch · {counted(now.threads, "thread")} · the machine is '
            f"{pace(now.slower)} when it was measured · {counted(now.switches, 'switch', 'switches')}</span>")
        self.draw()

    def draw(self) -> None:
        """The last minute in the figure; grey where others keep cores busy."""
        rows = list(self.past)
        times, names = [row.seconds for row in rows], [named(row.point) for row in rows]
        moved = [place for place in range(1, len(rows)) if rows[place].point != rows[place - 1].point]
        traces = {trace.name: trace for trace in self.figure.data}
        end = max(times[-1], times[0] + FIRST)
        with self.figure.batch_update():
            traces["target"].update(x=times, y=[row.target for row in rows])
            traces["answered"].update(x=times, y=[row.images_per_s for row in rows], text=names)
            traces["switch"].update(x=[times[n] for n in moved], y=[rows[n].images_per_s for n in moved],
                                    text=[names[n] for n in moved])
            traces["top1"].update(x=times, y=[row.top1 for row in rows], text=names)
            self.figure.layout.update(shapes=[band(*times_of) for times_of in spans(rows)])
            for axis in (self.figure.layout.xaxis, self.figure.layout.xaxis2):
                axis.range = [times[0], end]
        self.figure._widget_layout = deepcopy(self.figure._layout_obj._props)  # what a page that is opened later shows at once
        self.figure._widget_data = deepcopy(self.figure._data)

    def rest(self) -> None:
        """Nobody answers now."""
        self.who.value, self.pace.value = text.fact("nobody answers now; press run"), ""

    def show_note(self, words: str | None, wrong: bool = False) -> None:
        """A remark, or in red what went wrong; None clears it."""
        self.note.value = "" if words is None else text.note(words, wrong)


def differs(one: Moment, other: Moment) -> bool:
    """Is there something to see besides the passing of time: another point, target or load?"""
    return (one.point, one.target, one.cores) != (other.point, other.target, other.cores)


def named(point: Any) -> str:
    """An operating point, its numbers short."""
    return f"Point({', '.join(f'{name}={shown(value, name)}' for name, value in asdict(point).items())})"


def pace(slower: float) -> str:
    """How slow a machine is beside what it was, in words that are true on both sides of 1."""
    told = f"{slower:.1f}"
    return "as fast as" if told == "1.0" else f"{told} times as slow as" if slower > 1 else f"{1 / slower:.1f} times as fast as"


def counted(number: int, one: str, many: str | None = None) -> str:
    """1 thread, 2 threads."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def spans(rows: list[Moment]) -> list[tuple[float, float]]:
    """From when to when others kept cores busy."""
    found, since = [], None
    for row in rows:
        if row.cores and since is None:
            since = row.seconds
        elif not row.cores and since is not None:
            found, since = [*found, (since, row.seconds)], None
    return found if since is None else [*found, (since, rows[-1].seconds)]


def band(begin: float, end: float) -> dict:
    """A grey band through both axes."""
    return {"type": "rect", "xref": "x", "yref": "paper", "x0": begin, "x1": end, "y0": 0, "y1": 1, "line": {"width": 0},
            "fillcolor": faded(INK, 0.16), "layer": "below"}
