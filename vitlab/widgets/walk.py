"""The row of controls that chooses a slice of the pictures and steps through it."""
from collections.abc import Sequence
from typing import Any

import ipywidgets as W
from torch import nn

from vitlab.widgets.controls import button, sized
from vitlab.widgets.records import Slice, titled

WAYS = {"every picture": "all", "wrong": "wrong", "wrong here, right there": "lost", "least sure first": "unsure",
        "dearest first": "dear"}
EVERY = -1                                  # a class that is none


class Walk:
    """The row, as `root`, and the switch that opens it, `open`; `chosen` is what it says.

    classes: names; present: the numbers of those that have a picture.
    """

    def __init__(self, methods: dict[str, nn.Module], classes: Sequence[str], present: Sequence[int]):
        ways = {name: how for name, how in WAYS.items() if how != "dear" or any(net.adaptive for net in methods.values())}
        self.open = sized(W.ToggleButton, "walk a slice", "auto", icon="filter",
                          tooltip="step through some of the pictures: wrong ones, those of a class, the least sure first")
        self.how = sized(W.Dropdown, "pictures", "auto", options=list(ways.items()), value="all")
        self.places = [(model, point) for model, method in methods.items() for point in method.points]
        self.at, self.beside = (sized(W.Dropdown, name, "auto", options=self.options()) for name in ("wrong at", "right at"))
        self.classes, some = classes, [(classes[k], k) for k in present]
        self.label = sized(W.Dropdown, "class", "auto", options=[("every", EVERY), *some], value=EVERY)
        self.back = button("chevron-left", "previous picture of the slice").add_class("vl-back")
        self.next = button("chevron-right", "next picture of the slice").add_class("vl-next")
        self.told = W.HTML().add_class("vl-walk")
        steps = W.HBox([self.back, self.next, self.told]).add_class("vl-steps")
        self.root = W.HBox([self.how, self.at, self.beside, self.label, steps],
                           layout=W.Layout(display="none")).add_class("vl-row").add_class("vl-slice")

    def options(self) -> list[tuple[str, tuple[str, Any]]]:
        return [(titled(*place), place) for place in self.places]

    def watched(self) -> list[W.ValueWidget]:
        """Everything whose value decides which pictures are walked through."""
        return [self.open, self.how, self.at, self.beside, self.label]

    @property
    def chosen(self) -> Slice | None:
        """The slice that the controls say; None while the row is closed."""
        how, label = self.how.value, None if self.label.value == EVERY else self.label.value
        if not self.open.value:
            return None
        return Slice(how, None if how == "all" else self.at.value, self.beside.value if how == "lost" else None, label)

    def choose(self, part: Slice | None) -> None:
        """Say a slice, or close the row."""
        self.open.value = part is not None
        if part is not None:
            known = {number for _, number in self.label.options}
            if part.label not in (None, *known):                               # a class that no picture has
                self.label.options = [*self.label.options, (self.classes[part.label], part.label)]
            self.how.value, self.label.value = part.how, EVERY if part.label is None else part.label
            for control, place in ((self.at, part.at), (self.beside, part.beside)):
                if place is not None:
                    self.stand(control, place)
        self.show()

    def stand(self, control: W.Dropdown, place: tuple[str, Any]) -> None:
        """A place in the list, which it may not have had: the sliders have more than the method's points."""
        if place not in self.places:
            self.places.append(place)
            for each in (self.at, self.beside):
                kept, each.options = each.value, self.options()
                each.value = kept
        control.value = place

    def show(self) -> None:
        """The controls that the slice needs."""
        how = self.how.value
        self.root.layout.display = "flex" if self.open.value else "none"
        for control, needed in ((self.at, how != "all"), (self.beside, how == "lost")):
            control.layout.display = "flex" if needed else "none"
        self.at.description = "wrong at" if how in ("wrong", "lost") else "at"

    def tell(self, sentence: str, some: bool) -> None:
        """What the slice is, and whether there are pictures to step to: whoever reads of them can go there."""
        self.back.disabled = self.next.disabled = not some
        self.told.value = sentence
