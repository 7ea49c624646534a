"""The explorer's controls, made from what a method and this machine offer."""
from dataclasses import fields
from math import isclose
from typing import Any

import ipywidgets as W
from timm.models.vision_transformer import Block
from torch import nn

from vitlab.forced import can_be
from vitlab.numbers import flag, plain
from vitlab.widgets.browser import Picker
from vitlab.widgets.engine import devices, precisions
from vitlab.widgets.records import shown

LABELS = {"length": "sequence length", "keep": "keep rate", "cost_weight": "cost weight", "budget": "compute budget",
          "r": "tokens merged per block"}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SLIDER, MORE = 300, 60                      # pixels; more for every further number in the readout
CLICKS = "a click on a patch, or Enter, keeps it by hand; another drops it; a third frees it"
NOTHING_TO_FORCE = "no patch can be forced here: this net leaves none out, or has not said where its scores become choices"
AUTO = "auto"                               # the precision that is fastest, by measuring
NOBODY = "nobody"                           # a slider's None, which ipywidgets would take for nothing selected


def sized(kind: type, description: str, width: str, **settings) -> W.Widget:
    """A control with its label beside it."""
    return kind(description=description, style={"description_width": "initial"}, layout=W.Layout(width=width), **settings)


def button(icon: str, tooltip: str) -> W.Button:
    return W.Button(icon=icon, tooltip=tooltip, layout=W.Layout(width="34px")).add_class("vl-small")


def sliders(method: nn.Module) -> dict[str, W.SelectionSlider]:
    """A slider per field of the method's Point that has more than one value among its points; it starts at the costliest."""
    made = {}
    for name in (field.name for field in fields(method.Point)):
        values = list(dict.fromkeys(getattr(point, name) for point in method.points))
        values = sorted(values) if all(isinstance(v, int | float) for v in values) else values
        if len(values) > 1:
            options = [(shown(v, name), NOBODY if v is None else v) for v in values]
            numbers = max(len(v) if isinstance(v, tuple) else 1 for v in values)
            made[name] = sized(W.SelectionSlider, LABELS.get(name, name.replace("_", " ")),
                               f"{SLIDER + MORE * (numbers - 1)}px", options=options,
                               index=values.index(getattr(method.points[-1], name)))
    return made


def point_of(method: nn.Module, knobs: dict[str, W.SelectionSlider]) -> Any:
    """The operating point the sliders stand at. Where the knobs before it leave a knob one value, it has that one and its
    slider rests: an assigner's cost weight says nothing at a fixed length."""
    chosen, left = {}, list(method.points)
    for name in (field.name for field in fields(method.Point)):
        values = {getattr(point, name) for point in left}
        if name in knobs:
            knobs[name].disabled = len(values) == 1
        if name in knobs and len(values) != 1:
            chosen[name] = None if knobs[name].value == NOBODY else knobs[name].value
        else:
            chosen[name] = next(iter(values), getattr(method.points[-1], name))
        left = [point for point in left if getattr(point, name) == chosen[name]]
    return method.Point(**chosen)


def depth(method: nn.Module) -> int:
    """As many layers as a picture can go through, or more."""
    return sum(isinstance(part, Block) for part in method.modules())


def same(one: Any, other: Any) -> bool:
    """Are these one value? Floats up to single precision's rounding; True is no 1."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return isclose(one, other, rel_tol=1e-6) if numbers else one == other


def offered(control: W.ValueWidget, name: str, value: Any) -> Any:
    """What the control holds for a value given from code; ValueError names what it offers. Moves nothing."""
    value = plain(value)
    if isinstance(control, W.ToggleButton):
        return flag(value, name)
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        meant = [None if v == NOBODY else v for v in values]
        for held, one in zip(values, meant, strict=True):
            if same(one, value):
                return held
        raise ValueError(f"{name} must be one of {', '.join(map(str, meant))}, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, int) or not control.min <= value <= control.max:
        raise ValueError(f"{name} must be a whole number from {control.min} to {control.max}, not {value!r}")
    return value


class Controls:
    """All controls of one panel, as attributes; `row` and `knobs` are the boxes that hold them."""

    def __init__(self, methods: dict[str, nn.Module], count: int, device: str, precision: str, batch: int,
                 compiled: bool = False):
        self.model = sized(W.Dropdown, "model", "auto", options=list(methods))
        self.back, self.next = button("chevron-left", "previous image"), button("chevron-right", "next image")
        self.image = sized(W.BoundedIntText, "image", "106px", value=0, min=0, max=count - 1)
        self.upload = Picker()
        self.device = sized(W.Dropdown, "device", "118px", options=devices(), value=device)
        self.precision = sized(W.Dropdown, "precision", "124px", options=[*precisions(), AUTO], value=precision)
        self.compiled = sized(W.ToggleButton, "compiled", "auto", icon="bolt", value=compiled,
                              tooltip="time what torch.compile makes of it: that takes seconds to a minute for each point, once")
        self.batch = sized(W.Dropdown, "batch", "100px", options=sorted({*BATCHES, batch}), value=batch)
        self.again = button("refresh", "measure the speed again")
        self.sliders = {name: sliders(method) for name, method in methods.items()}
        most = max(2, *map(depth, methods.values()))                           # what the browser takes for its end from then on
        self.layer = sized(W.IntSlider, "layer", f"{SLIDER}px", value=most, min=1, max=most)
        picker = W.HBox([self.back, self.image, self.next, self.upload], layout=W.Layout(overflow="visible"))
        self.row = W.HBox([self.model, picker, self.device, self.precision, self.compiled, self.batch]).add_class("vl-row")
        self.knobs = W.HBox().add_class("vl-row").add_class("vl-knobs")
        self.what_if = sized(W.ToggleButton, "what if", "auto", icon="hand-pointer-o")
        self.free = W.Button(description="clear", tooltip="nothing is forced any more", disabled=True,
                             layout=W.Layout(width="auto"))
        self.deep = sized(W.ToggleButton, "along the depth", "auto", icon="line-chart",
                          tooltip="what the net would answer after every block")
        self.alone = sized(W.ToggleButton, "latency", "auto", icon="clock-o",
                           tooltip="how long one picture takes alone; on a GPU also the memory and energy of a batch")
        self.tools = W.HBox([self.what_if, self.free, self.deep, self.again, self.alone]).add_class("vl-row")
        self.able = {name: can_be(method) for name, method in methods.items()}         # can patches be forced?
        self.show_knobs()

    def show_knobs(self) -> None:
        """The chosen model's sliders, and the layer; and whether its patches can be forced."""
        able = self.able[self.model.value]
        self.what_if.disabled, self.what_if.tooltip = not able, CLICKS if able else NOTHING_TO_FORCE
        self.what_if.value = self.what_if.value and able
        self.knobs.children = (*self.sliders[self.model.value].values(), self.layer)

    def offer(self, batch: int) -> None:
        """Choose a batch size that may not be in the list."""
        self.batch.options = sorted({*self.batch.options, batch})
        self.batch.value = batch

    def all_sliders(self) -> list[W.SelectionSlider]:
        """The knobs of every model, shown or not."""
        return [slider for made in self.sliders.values() for slider in made.values()]

    def watched(self) -> list[W.ValueWidget]:
        """Everything whose value decides what is shown."""
        return [self.model, self.image, self.device, self.precision, self.compiled, self.batch, self.layer, self.deep,
                self.alone, *self.all_sliders()]

    def way(self) -> dict[str, Any]:
        """In which way it is run, and what is measured, as `Ask` says it."""
        auto = self.precision.value == AUTO
        return {"precision": "fp32" if auto else self.precision.value, "auto": auto, "compiled": self.compiled.value,
                "alone": self.alone.value}

    def named(self, model: str | None = None) -> dict[str, W.ValueWidget]:
        """The controls that `Panel.set` knows while it shows this model (None: the chosen one), by name."""
        return {"model": self.model, "image": self.image, "layer": self.layer, "device": self.device,
                "precision": self.precision, "compiled": self.compiled, "batch": self.batch, "latency": self.alone,
                **self.sliders[model or self.model.value]}


def everything(widget: W.Widget) -> list[W.Widget]:
    """A widget, all that hangs below it, and their layouts and styles."""
    below = [part for child in getattr(widget, "children", ()) for part in everything(child)]
    looks = [getattr(widget, name, None) for name in ("layout", "style")]
    return [widget, *below, *(look for look in looks if isinstance(look, W.Widget))]
