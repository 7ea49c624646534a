"""What a panel shows, without a widget: one look at an image, then the speed of the point it was seen at."""
import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from numpy import ndarray
from pandas import DataFrame
from torch import Tensor, nn

from vitlab import attribution, measure
from vitlab.plots.theme import color_of
from vitlab.trace import LayerTrace, Trace
from vitlab.widgets.worker import Gate

GATE = Gate()                               # of the whole process: two panels share one machine
FEWEST, MOST, SECONDS = 5, 25, 1.0         # interleaved rounds behind one median: as many as fit into about SECONDS
FEW = 8                                     # images whose mean cost stands for a batch where cost depends on the image


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to look at: uint8 [S, S, 3] as the net sees it, its normalised tensor [1, 3, S, S], its class or None."""

    name: str
    picture: ndarray
    image: Tensor
    label: int | None = None


@dataclass(frozen=True)
class Ask:
    """What the controls say: everything that decides what is shown."""

    model: str
    point: Any
    image: int | Subject                    # position in the image set, or an uploaded picture
    device: str
    precision: str
    batch: int
    layer: int                              # place among the layers the image went through, from 0; -1 is the last


@dataclass(frozen=True)
class Look:
    """What the net said of one image, and what it did with its tokens."""

    subject: Subject
    prediction: int
    confidence: float
    layers: list[LayerTrace]                # the layers this image went through; row 0 is the image
    gmacs: float
    dense: float                            # gmacs of the costliest point

    @property
    def tokens(self) -> int:
        """Patches that reach the last MLP."""
        return int(self.layers[-1].fed.sum())


@dataclass(frozen=True)
class Timing:
    """Images per second at a point; speed_up over the costliest point, measured in turn with it, None until it is."""

    images_per_s: float
    batch: int
    runs: int
    speed_up: float | None = None
    promise: float | None = None            # the speed-up that the FLOPs promise


class Engine:
    """Looks and measures for one panel, on copies of the methods: moving them to another device leaves the notebook's alone."""

    def __init__(self, methods: dict[str, nn.Module], images, sweep: DataFrame | None = None):
        self.methods = {name: method.eval() for name, method in copy.deepcopy(methods).items()}
        self.images, self.sweep = images, sweep
        self.costs: dict[tuple, float] = {}
        self.batch: tuple[Any, Tensor | None] = (None, None)
        self.papers = {name: self.paper(name) for name in methods}

    def subject(self, image: int | Subject) -> Subject:
        """The picture asked for."""
        if isinstance(image, Subject):
            return image
        return Subject(f"image {image}", self.images.picture(image), self.images.images([image]), int(self.images.labels[image]))

    def method(self, ask: Ask) -> nn.Module:
        return self.methods[ask.model].to(ask.device)

    def look(self, ask: Ask) -> Look:
        """One forward pass of one image, traced."""
        subject, trace = self.subject(ask.image), Trace()
        with GATE.look():
            method, image = self.method(ask), subject.image.to(ask.device)
            kind = torch.device(ask.device).type
            with torch.inference_mode(), torch.autocast(kind, measure.speed.PRECISIONS[ask.precision], enabled=ask.precision != "fp32"):
                logits = method(image, ask.point, trace)
            share = logits[0].float().softmax(-1)
            if not share.isfinite().all():
                raise ValueError("the logits are not finite; check the weights, or use fp32")
            layers = [part for part in trace.layers if part.attended[0].any()]
            gmacs, dense = (self.cost(ask.model, method, image, p) for p in (ask.point, method.points[-1]))
        return Look(subject, int(share.argmax()), float(share.max()), [on_cpu(part) for part in layers], gmacs, dense)

    def relevance(self, ask: Ask, look: Look) -> ndarray:
        """What speaks for the predicted class: float [h, w]."""
        with GATE.look():
            heat = attribution.patches(self.method(ask), look.subject.image.to(ask.device), ask.point, look.prediction)
        return heat.float().cpu().numpy()

    def cost(self, model: str, method: nn.Module, image: Tensor, point: Any) -> float:
        """Mean gmacs of these images; remembered where it is the same for every image."""
        if method.adaptive:
            return float(measure.gmacs(method, image, point).mean())
        if (model, point) not in self.costs:
            self.costs[model, point] = float(measure.gmacs(method, image[:1], point)[0])
        return self.costs[model, point]

    def timing(self, ask: Ask, stale: Callable[[], bool], report: Callable[[Timing], None]) -> Timing | None:
        """The speed at this point: a first rough number is reported at once, then a median of turns with the costliest point.

        None when a newer request came in. Raises torch.OutOfMemoryError when the batch does not fit (see `fits_not`).
        """
        first = GATE.measure(lambda stop: measure.throughput(self.method(ask), self.pictures(ask), ask.point, precision=ask.precision,
                                                             seconds=0, runs=1, stop=stop), stale)
        if first is None or stale():
            return None
        report(Timing(first.images_per_s, first.batch, first.runs))
        method, images, dense = self.method(ask), self.pictures(ask), self.methods[ask.model].points[-1]
        entries = {"dense": (method, dense), "here": (method, ask.point)}
        rounds = min(max(int(SECONDS * first.images_per_s / first.batch / 2), FEWEST), MOST)
        table = GATE.measure(lambda stop: measure.race(entries, images, precision=ask.precision, rounds=rounds, stop=stop), stale)
        if table is None:
            return None
        row = table.set_index("name").loc["here"]
        with GATE.look():
            here, most = (self.cost(ask.model, method, images[:FEW], p) for p in (ask.point, dense))
        return Timing(float(row.images_per_s), int(row.batch), int(row.runs), float(row.speed_up), most / here)

    def pictures(self, ask: Ask) -> Tensor:
        """The first `batch` images of the set, again from the start where it is smaller, on the device: [batch, 3, S, S]."""
        key = (ask.batch, ask.device)
        if self.batch[0] != key:
            self.batch = (None, None)                                      # free the old one first
            index = [i % len(self.images) for i in range(ask.batch)]
            self.batch = (key, self.images.images(index).to(ask.device))
        return self.batch[1]

    def named(self, model: str, k: int) -> str:
        """A class's name, where the net's classes are the image set's."""
        classes = self.images.classes
        return classes[k] if self.methods[model].vit.num_classes == len(classes) else f"class {k}"

    def hue(self, model: str) -> str:
        """A model's colour: its method's, or one of its own where two models are of one method."""
        kinds = {name: getattr(method, "made", {}).get("method", name) for name, method in self.methods.items()}
        alone = list(kinds.values()).count(kinds[model]) == 1
        return color_of(kinds[model] if alone else model, tuple(kinds))

    def versus(self, model: str) -> str:
        """What the costliest point is called."""
        return "its costliest point" if self.methods[model].adaptive else "dense"

    def forget(self, device: str) -> None:
        """Give back the memory of a batch."""
        self.batch = (None, None)
        if device.startswith("cuda"):
            torch.cuda.empty_cache()

    def accuracy(self, ask: Ask) -> tuple[float, float] | None:
        """(gmacs, top1) of this point in the sweep that the panel was given; None where it has no such row."""
        rows = self.sweep
        if rows is None:
            return None
        rows = rows[rows["source"] == "ours"] if "source" in rows else rows
        made = getattr(self.methods[ask.model], "made", {})
        for names in ({ask.model}, {made.get("method")}):
            found = rows[rows["method"].isin(names)]
            for knob, value in asdict(ask.point).items():
                found = found[found[knob] == value] if knob in found else found[:0]
            if len(found):
                return float(found["gmacs"].iloc[0]), float(found["top1"].iloc[0])
        return None

    def paper(self, name: str) -> dict[Any, tuple[float, str]]:
        """Point -> the speed-up over the costliest point that the method's paper prints, and its device; {} where it prints none."""
        method = self.methods[name]
        table = measure.paper(getattr(method, "made", {}).get("method", name))
        knobs = [f.name for f in fields(method.Point)]
        if table.empty or not knobs or not {"images_per_s", "gmacs", *knobs} <= set(table):
            return {}
        table = table[table.images_per_s.notna()].dropna(subset=knobs)
        own = getattr(method, "made", {}).get("backbone")
        table = table[table.backbone == (own if own in set(table.backbone) else table.backbone.iloc[0])] if len(table) else table
        if table.empty:
            return {}
        dense = table.loc[table.gmacs.idxmax(), "images_per_s"]
        return {method.Point(**{k: row[k] for k in knobs}): (float(row["images_per_s"] / dense), str(row.get("device", "")))
                for row in table.to_dict("records")}


def on_cpu(part: LayerTrace) -> LayerTrace:
    """A layer's record where plots can read it."""
    return replace(part, attended=part.attended.cpu(), fed=part.fed.cpu(), cls=part.cls.float().cpu())


def fits_not(error: Exception) -> bool:
    """Does this error say that memory ran out?"""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or isinstance(error, RuntimeError) and (
        "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words)


def devices() -> list[str]:
    """The devices torch can use here, the CPU first."""
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    return found + (["mps"] if torch.backends.mps.is_available() else [])


def knobs(point: Any) -> str:
    """A point's knobs, short: "14, 0.5"."""
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in asdict(point).values()) or "dense"
