"""The explorer's controls, made from what a method and this machine offer."""
from dataclasses import fields
from typing import Any

import ipywidgets as W
from torch import nn

from vitlab.measure.speed import PRECISIONS
from vitlab.widgets.engine import devices

LABELS = {"length": "sequence length", "keep": "keep rate"}
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHORT = {"description_width": "initial"}


def label(knob: str) -> str:
    """What a person reads beside a knob's slider."""
    return LABELS.get(knob, knob.replace("_", " "))


def sliders(method: nn.Module) -> dict[str, W.SelectionSlider]:
    """A slider per field of the method's Point that has more than one value among its points; it starts at the costliest."""
    made = {}
    for field in fields(method.Point):
        values = list(dict.fromkeys(getattr(point, field.name) for point in method.points))
        values = sorted(values) if all(isinstance(v, int | float) for v in values) else values
        if len(values) > 1:
            made[field.name] = W.SelectionSlider(
                options=[(f"{v:g}" if isinstance(v, float) else str(v), v) for v in values], continuous_update=True,
                value=getattr(method.points[-1], field.name), description=label(field.name), style=SHORT, layout=W.Layout(width="300px"))
    return made


def point_of(method: nn.Module, knobs: dict[str, W.SelectionSlider]) -> Any:
    """The operating point the sliders stand at; knobs without a slider have their only value."""
    fixed = {f.name: getattr(method.points[-1], f.name) for f in fields(method.Point)}
    return method.Point(**{**fixed, **{name: slider.value for name, slider in knobs.items()}})


class Controls:
    """All controls of one panel, as attributes; `row` and `knobs` are the boxes that hold them."""

    def __init__(self, methods: dict[str, nn.Module], count: int, device: str, precision: str, batch: int):
        self.model = W.Dropdown(options=list(methods), description="model", style=SHORT, layout=W.Layout(width="auto", max_width="230px"))
        self.back, self.next = (W.Button(icon=f"chevron-{way}", tooltip=f"{way} image", layout=W.Layout(width="34px")).add_class("vl-small")
                                for way in ("left", "right"))
        self.image = W.BoundedIntText(value=0, min=0, max=count - 1, description="image", style=SHORT, layout=W.Layout(width="106px"))
        self.upload = W.FileUpload(accept="image/*", multiple=False, description="upload", tooltip="A picture of up to 8 MB",
                                   layout=W.Layout(width="104px"))
        self.device = W.Dropdown(options=devices(), value=device, description="device", style=SHORT, layout=W.Layout(width="118px"))
        self.precision = W.Dropdown(options=list(PRECISIONS), value=precision, description="precision", style=SHORT, layout=W.Layout(width="124px"))
        self.batch = W.Dropdown(options=sorted({*BATCHES, batch}), value=batch, description="batch", style=SHORT, layout=W.Layout(width="100px"))
        self.again = W.Button(icon="refresh", tooltip="measure the speed again", layout=W.Layout(width="34px")).add_class("vl-small")
        self.sliders = {name: sliders(method) for name, method in methods.items()}
        self.layer = W.IntSlider(value=1, min=1, max=1, description="layer", style=SHORT, layout=W.Layout(width="300px"))
        picker = W.HBox([self.back, self.image, self.next, self.upload], layout=W.Layout(overflow="visible"))
        self.row = W.HBox([self.model, picker, self.device, self.precision, self.batch, self.again])
        self.knobs = W.HBox()
        self.row.add_class("vl-row")
        self.knobs.add_class("vl-row").add_class("vl-knobs")
        self.show_knobs()

    def show_knobs(self) -> None:
        """The chosen model's sliders, and the layer."""
        self.knobs.children = (*self.sliders[self.model.value].values(), self.layer)

    def watched(self) -> list[W.ValueWidget]:
        """Everything whose value decides what is shown."""
        return [self.model, self.image, self.device, self.precision, self.batch, self.layer, *self.all_sliders()]

    def all_sliders(self) -> list[W.SelectionSlider]:
        """The knobs of every model, shown or not."""
        return [slider for made in self.sliders.values() for slider in made.values()]

    def named(self) -> dict[str, W.ValueWidget]:
        """The controls that `Panel.set` knows beside the model, by name."""
        return {"image": self.image, "layer": self.layer, "device": self.device, "precision": self.precision, "batch": self.batch,
                **self.sliders[self.model.value]}

    def offer(self, batch: int) -> None:
        """Choose a batch size that may not be in the list."""
        self.batch.options = sorted({*self.batch.options, batch})
        self.batch.value = batch


def choose(control: W.ValueWidget, name: str, value: Any) -> None:
    """Set a control; ValueError names what it offers."""
    if hasattr(control, "options"):
        values = [o[1] if isinstance(o, tuple) else o for o in control.options]
        if value not in values:
            raise ValueError(f"{name} must be one of {', '.join(map(str, values))}, not {value!r}")
        value = values[values.index(value)]
    elif not isinstance(value, int) or not control.min <= value <= control.max:
        raise ValueError(f"{name} must be from {control.min} to {control.max}, not {value!r}")
    control.value = value
