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
from vitlab.compiled import Compiled
from vitlab.data.names import listed
from vitlab.data.picture import Preprocessing, normalised, squared
from vitlab.evaluation import checked
from vitlab.forced import Forced
from vitlab.measure.cost import from_trace
from vitlab.measure.exits import at_each
from vitlab.measure.inside import Pass, watched
from vitlab.measure.lens import answer
from vitlab.measure.rows import rows_of
from vitlab.measure.speed import PRECISIONS
from vitlab.trace import LayerTrace, Trace
from vitlab.widgets.assigned import heard, verdict
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
        self.fast: dict[tuple[str, str], Compiled] = {}                        # of a model and a device
        self.threads: int | None = None                                        # on which they run, once that is known

    def method(self, ask: Ask) -> nn.Module:
        """The method asked for, on the device asked for, and by hand where a person has a say."""
        method = self.methods[ask.model].to(ask.device)
        return Forced(method, ask.hand.keep, ask.hand.drop, ask.hand.grid) if ask.hand else method

    def runner(self, ask: Ask) -> nn.Module:
        """What is timed: the method, or its fused kernels, which are of a copy: a compiler reads it while others are at work."""
        if not ask.fused:
            return self.method(ask)
        key = ask.model, ask.device
        if key not in self.fast:
            self.fast[key] = steady(Compiled(copy.deepcopy(self.methods[ask.model]).to(ask.device)), self.threads)
        return self.fast[key]

    def dense(self, ask: Ask) -> Ask:
        """The same at the costliest point, with nothing forced."""
        return replace(ask, point=self.methods[ask.model].points[-1], hand=None)

    def beside(self, ask: Ask) -> Ask | None:
        """The same at what is pinned, where it can be timed with these pictures; None elsewhere."""
        other = ask.other
        if other is None or self.pixels(other.model) != self.pixels(ask.model):
            return None                                                        # it wants these pixels in another way
        return other

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
            with torch.inference_mode(), self.precisely(ask), heard(method) as said:
                logits = method(image, ask.point, trace)
            share = logits[0].float().softmax(-1)
            if not share.isfinite().all():
                raise ValueError(why_not_finite(method, ask.precision))
            layers = [on_cpu(part) for part in trace.layers if part.passed[0]]
            gmacs = self.cost(ask.model, method, image, ask.point, ask.hand)[0]
            dense = self.cost(ask.model, self.methods[ask.model], image, method.points[-1])[0]
        left = None if trace.exit is None else int(trace.exit[0])
        return Look(subject, int(share.argmax()), float(share.max()), layers, gmacs, dense, left,
                    verdict(method, ask.point, said))

    def relevance(self, ask: Ask, look: Look) -> ndarray:
        """What speaks for the predicted class: float [h, w]."""
        with GATE.look(f"the attribution of {ask.title}"):
            heat = attribution.integrated(self.method(ask), look.subject.image.to(ask.device), ask.point, look.prediction,
                                          steps=STEPS)
        return heat.float().cpu().numpy()

    def depth(self, ask: Ask, look: Look, stale: Callable[[], bool]) -> DataFrame | None:
        """What the net would have answered after every block, None when a newer request came in."""
        with GATE.look(f"the depth of {ask.title}"), self.precisely(ask):
            return measure.depth(self.method(ask), look.subject.image.to(ask.device), ask.point, stop=stale)

    @torch.inference_mode()
    def inside(self, ask: Ask, look: Look) -> Pass:
        """The pass behind a look once more, with all queries, keys and tokens."""
        with GATE.look(f"a look inside {ask.title}"), self.precisely(ask):
            return watched(self.method(ask), look.subject.image.to(ask.device), ask.point)

    @torch.inference_mode()
    def lens(self, ask: Ask, look: Look, seen: Pass, patch: int, grid: int) -> DataFrame:
        """What the net would have answered from one patch."""
        with GATE.look(f"the lens of {ask.title}"), self.precisely(ask):
            return answer(self.method(ask), look.subject.image.to(ask.device), ask.point, seen, patch, grid)

    @torch.inference_mode()
    def rows(self, seen: Pass, patch: int, grid: int, place: int) -> measure.Rows:
        """Whom one patch and the class token look at in one layer."""
        with GATE.look("two rows of attention"):
            return rows_of(seen, patch, place, grid)

    def precisely(self, ask: Ask) -> torch.autocast:
        """The precision asked for."""
        return torch.autocast(torch.device(ask.device).type, PRECISIONS[ask.precision], enabled=ask.precision != "fp32")

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
            return measure.throughput(self.runner(ask), self.pictures(ask), ask.point, precision=ask.precision,
                                      seconds=0, runs=1, stop=stop)

        first = GATE.measure(once, stale, f"the timing of {ask.title}")
        if first is None or stale():
            return None
        report(Timing(first.images_per_s, first.batch, first.runs))
        images, dense, other = self.pictures(ask), self.dense(ask), self.beside(ask)
        rounds = min(max(int(SECONDS * first.images_per_s / first.batch / 2), FEWEST), MOST)

        def turns(stop: Callable[[], bool]):
            entries = {"here": (self.runner(ask), ask.point)}   # the costliest point is 1.00 of itself, whatever noise there is
            entries = entries if ask.pace == dense.pace else {"dense": (self.runner(dense), dense.point), **entries}
            if other is not None:
                entries["pinned"] = self.runner(other), other.point
            return measure.race(entries, images, precision=ask.precision, rounds=rounds, stop=stop)

        table = GATE.measure(turns, stale, f"the timing of {ask.title}")
        if table is None:
            return None
        table = table.set_index("name")
        here, beside = table.loc["here"], None if other is None else float(table.loc["pinned"].images_per_s)
        with GATE.look(f"the cost of {ask.title}"):
            (most, _), (gmacs, exits) = map(self.batch_cost, (dense, ask))
        return Timing(float(here.images_per_s), int(here.batch), int(here.runs), float(here.speed_up), most / gmacs, exits,
                      float(here.iqr), beside, self.prepared(ask, ask.batch))

    def prepared(self, ask: Ask, count: int) -> float | None:
        """How many seconds it took to compile this for so many pictures; None before that."""
        point, precision = checked(self.methods[ask.model], ask.point), str(PRECISIONS[ask.precision]).removeprefix("torch.")
        return self.runner(ask).prepared.get((point, count, precision)) if ask.fused else None

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


def steady(net: nn.Module, threads: int | None) -> nn.Module:
    """The net, every pass of which is on so many threads (None: torch's number): a graph is made for one number of them."""
    most = torch.get_num_threads()
    if threads not in (None, most):
        net.register_forward_pre_hook(lambda *_: torch.set_num_threads(threads))
        net.register_forward_hook(lambda *_: torch.set_num_threads(most), always_call=True)
    return net


def none_of(classes: Sequence[str]) -> str:
    """What is to be said of a picture that a net knows nothing about."""
    return f"is of none of its classes ({listed(classes)}); show it one of yours with upload"


def on_cpu(part: LayerTrace) -> LayerTrace:
    """A layer's record where plots can read it."""
    return replace(part, attended=part.attended.cpu(), fed=part.fed.cpu(), cls=part.cls.float().cpu(), extra=part.extra.cpu(),
                   folded=None if part.folded is None else part.folded.float().cpu(),
                   source=None if part.source is None else part.source.cpu(),
                   judged=part.judged and part.judged.to(lambda held, _: held.cpu()), there=part.passed.cpu())


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


def precisions(device: str | None = None) -> list[str]:
    """The precisions that a device can use to advantage, the exact one first; None: that any device here can."""
    found = [device] if device else devices()
    return [name for name in PRECISIONS if name != "fp16" or any(each != "cpu" for each in found)]


def devices() -> list[str]:
    """The devices torch can use here, the CPU first."""
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    return found + (["mps"] if torch.backends.mps.is_available() else [])
