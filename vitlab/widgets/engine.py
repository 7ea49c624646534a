"""The computing behind a panel: one look at an image, then the speed of the point it was seen at."""
import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from numpy import ndarray
from pandas import DataFrame
from torch import Tensor, nn

from vitlab import attribution, measure
from vitlab.data.names import listed
from vitlab.data.picture import Preprocessing, normalised, squared
from vitlab.forced import Forced
from vitlab.measure.cost import from_trace
from vitlab.measure.exits import at_each
from vitlab.measure.speed import PRECISIONS
from vitlab.trace import LayerTrace, Trace
from vitlab.widgets.guests import is_guest, wanted
from vitlab.widgets.records import Ask, Hand, Look, Subject, Timing, Upload
from vitlab.widgets.worker import Gate

GATE = Gate()                               # of the whole process: two panels share one machine
FEWEST, MOST, SECONDS = 3, 25, 1.0          # interleaved rounds behind one median: as many as fit into about SECONDS
STEPS = 8                                   # of integrated gradients: fewer say less, more say the same
FEW = 8                                     # images whose mean cost stands for a batch where cost depends on the image


class Engine:
    """Looks and measures on copies of the methods: moving them to another device leaves the notebook's own alone."""

    def __init__(self, methods: dict[str, nn.Module], images):
        self.methods = {name: method.eval() for name, method in copy.deepcopy(methods).items()}
        self.sets = {name: wanted(method, images) for name, method in methods.items()}
        self.guests = {name for name, method in methods.items() if is_guest(method, images)}
        self.known: dict[tuple, dict] = {}              # of a model and a point: what each way through it costs
        self.means: dict[tuple, tuple[float, tuple[int, ...]]] = {}            # of a batch at a point: its cost, its exits
        self.batch: tuple[tuple | None, Tensor | None] = (None, None)

    def method(self, ask: Ask) -> nn.Module:
        """The method asked for, on the device asked for, and by hand where a person has a say."""
        method = self.methods[ask.model].to(ask.device)
        return Forced(method, ask.hand.keep, ask.hand.drop, ask.hand.grid) if ask.hand else method

    def subject(self, ask: Ask) -> Subject:
        """The picture asked for, as the model asked for wants it."""
        data, image = self.sets[ask.model], ask.image
        if isinstance(image, Upload):
            pixels = squared(image.picture, data.image_size, data.preprocessing)
            return Subject(image.name, pixels.numpy(), normalised(pixels[None], data.preprocessing))
        if ask.model in self.guests:
            return Subject(f"image {image}", data.picture(image), data.images([image]), told=none_of(data.classes))
        return Subject(f"image {image}", data.picture(image), data.images([image]), int(data.labels[image]))

    def look(self, ask: Ask) -> Look:
        """One forward pass of one image, traced."""
        subject, trace = self.subject(ask), Trace()
        with GATE.look(f"a pass of {ask.title}"):
            method, image = self.method(ask), subject.image.to(ask.device)
            cast = torch.autocast(image.device.type, PRECISIONS[ask.precision], enabled=ask.precision != "fp32")
            with torch.inference_mode(), cast:
                logits = method(image, ask.point, trace)
            share = logits[0].float().softmax(-1)
            if not share.isfinite().all():
                raise ValueError(why_not_finite(method, ask.precision))
            layers = [on_cpu(part) for part in trace.layers if part.attended[0].any()]
            gmacs = self.cost(ask.model, method, image, ask.point, ask.hand)[0]
            dense = self.cost(ask.model, self.methods[ask.model], image, method.points[-1])[0]
        left = None if trace.exit is None else int(trace.exit[0])
        return Look(subject, int(share.argmax()), float(share.max()), layers, gmacs, dense, left)

    def relevance(self, ask: Ask, look: Look) -> ndarray:
        """What speaks for the predicted class: float [h, w]."""
        with GATE.look(f"the attribution of {ask.title}"):
            heat = attribution.integrated(self.method(ask), look.subject.image.to(ask.device), ask.point, look.prediction,
                                          steps=STEPS)
        return heat.float().cpu().numpy()

    def depth(self, ask: Ask, look: Look, stale: Callable[[], bool]) -> DataFrame | None:
        """What the net would have answered after every block, None when a newer request came in."""
        with GATE.look(f"the depth of {ask.title}"):
            image = look.subject.image.to(ask.device)
            with torch.autocast(image.device.type, PRECISIONS[ask.precision], enabled=ask.precision != "fp32"):
                return measure.depth(self.method(ask), image, ask.point, stop=stale)

    @torch.inference_mode()
    def cost(self, model: str, method: nn.Module, images: Tensor, point: Any,
             hand: Hand | None = None) -> tuple[float, tuple[int, ...]]:
        """Mean gmacs of these images, and how many of them leave at each exit, () without exits. No way is counted twice."""
        trace = Trace()
        if method.adaptive:
            method(images, point, trace)
        found = from_trace(method, images, point, trace, self.known.setdefault((model, point, hand), {}))
        return float(found.mean()), at_each(method, trace) if method.adaptive == "exit" else ()

    def batch_cost(self, ask: Ask) -> tuple[float, tuple[int, ...]]:
        """The same of the batch that is timed, remembered; where images cost alike or a few stand for all, of those."""
        key, method, images = (ask.model, ask.point, ask.device, ask.batch, ask.hand), self.method(ask), self.pictures(ask)
        if key not in self.means:
            some = images if method.adaptive == "exit" else images[:FEW] if method.adaptive else images[:1]
            self.means[key] = self.cost(ask.model, method, some, ask.point, ask.hand)
        return self.means[key]

    def timing(self, ask: Ask, stale: Callable[[], bool], report: Callable[[Timing], None]) -> Timing | None:
        """The speed at this point: a first rough number is reported at once, then a median of turns with the costliest point.

        None when a newer request came in; a batch that does not fit raises what torch raises (see `fits_not`).
        """
        def once(stop: Callable[[], bool]):
            return measure.throughput(self.method(ask), self.pictures(ask), ask.point, precision=ask.precision,
                                      seconds=0, runs=1, stop=stop)

        first = GATE.measure(once, stale, f"the timing of {ask.title}")
        if first is None or stale():
            return None
        report(Timing(first.images_per_s, first.batch, first.runs))
        method, images, bare = self.method(ask), self.pictures(ask), self.methods[ask.model]
        dense, other = replace(ask, point=bare.points[-1], hand=None), ask.other
        if other is not None and self.pixels(other.model) != self.pixels(ask.model):
            other = None                                                       # it wants these pixels in another way
        rounds = min(max(int(SECONDS * first.images_per_s / first.batch / 2), FEWEST), MOST)

        def turns(stop: Callable[[], bool]):
            entries = {"here": (method, ask.point)}         # the costliest point is 1.00 of itself, whatever noise there is
            entries = entries if ask.pace == dense.pace else {"dense": (bare, dense.point), **entries}
            if other is not None:
                entries["pinned"] = self.method(other), other.point
            return measure.race(entries, images, precision=ask.precision, rounds=rounds, stop=stop)

        table = GATE.measure(turns, stale, f"the timing of {ask.title}")
        if table is None:
            return None
        table = table.set_index("name")
        here, beside = table.loc["here"], None if other is None else float(table.loc["pinned"].images_per_s)
        with GATE.look(f"the cost of {ask.title}"):
            (most, _), (gmacs, exits) = map(self.batch_cost, (dense, ask))
        return Timing(float(here.images_per_s), int(here.batch), int(here.runs), float(here.speed_up), most / gmacs, exits,
                      float(here.spread), beside)

    def pixels(self, model: str) -> tuple[int, Preprocessing]:
        """What a model wants done to pictures."""
        return self.sets[model].image_size, self.sets[model].preprocessing

    def pictures(self, ask: Ask) -> Tensor:
        """A sample of `batch` images of the set, again from its start where it is smaller, on the device: [batch, 3, S, S]."""
        key, data = (ask.batch, ask.device, *self.pixels(ask.model)), self.sets[ask.model]
        if self.batch[0] != key:
            self.batch = (None, None)                                          # free the old one first
            some = data.sample(ask.batch).images(slice(None))
            self.batch = (key, some[torch.arange(ask.batch) % len(some)].to(ask.device))
        return self.batch[1]

    def forget(self, device: str) -> None:
        """Give back the memory of a batch."""
        self.batch = (None, None)
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def none_of(classes: Sequence[str]) -> str:
    """What is to be said of a picture that a net knows nothing about."""
    return f"is of none of its classes ({listed(classes)}); show it one of yours with upload"


def on_cpu(part: LayerTrace) -> LayerTrace:
    """A layer's record where plots can read it."""
    return replace(part, attended=part.attended.cpu(), fed=part.fed.cpu(), cls=part.cls.float().cpu(), extra=part.extra.cpu(),
                   folded=None if part.folded is None else part.folded.float().cpu(),
                   source=None if part.source is None else part.source.cpu())


def why_not_finite(method: nn.Module, precision: str) -> str:
    """Why logits are not finite, and what helps."""
    for name, values in method.state_dict().items():
        if values.is_floating_point() and not values.isfinite().all():
            return f"the logits are not finite: {name} holds NaN or infinity; load the net again, or train it at a lower rate"
    if precision != "fp32":
        return f"the logits are not finite: the weights are, but numbers grow too large for {precision}; choose fp32"
    return "the logits are not finite: the weights are, but numbers grow too large for fp32; train the net at a lower rate"


def fits_not(error: Exception) -> bool:
    """Does this error say that memory ran out?"""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or isinstance(error, RuntimeError) and any(
        said in words for said in ("out of memory", "not enough memory", "can't allocate memory"))


def devices() -> list[str]:
    """The devices torch can use here, the CPU first."""
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    return found + (["mps"] if torch.backends.mps.is_available() else [])
