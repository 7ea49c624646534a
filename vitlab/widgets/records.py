"""What a panel asks and what it is told."""
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import log
from typing import Any, NamedTuple

from numpy import ndarray
from PIL import Image
from torch import Tensor

from vitlab.data.picture import in_rgb, opened
from vitlab.trace import LayerTrace

NONE = {"length": "assigner"}               # who chooses where nobody does
LEAST = 1e-12                               # of a probability, before its logarithm is taken


class Upload:
    """A picture from outside, of whatever `data.picture.opened` takes; each model has it prepared in its own way.

    before: what was looked at until then (None: a picture of the set), to which the panel goes back where this one is none.
    """

    def __init__(self, name: str, source: Any, before: "Upload | None" = None):
        self.name, self.source, self.before = name, source, before

    @cached_property
    def picture(self) -> Image.Image:
        """Opened, upright and RGB, when it is first asked for; ValueError says in one sentence why not."""
        picture, self.source, self.before = in_rgb(opened(self.source)), None, None
        return picture


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture to look at: uint8 [S, S, 3] as the net sees it, its normalised tensor [1, 3, S, S], its class or None.

    told: what there is to be said of one whose class the net does not know.
    """

    name: str
    picture: ndarray
    image: Tensor
    label: int | None = None
    told: str = ""


@dataclass(frozen=True)
class Hand:
    """What a person says of some patches of grid x grid: which are kept and which dropped, by number; False where of none."""

    keep: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()
    grid: int = 1

    def __bool__(self) -> bool:
        return bool(self.keep or self.drop)

    def on(self, grid: int) -> "Hand":
        """The same on another grid: the patches that lie there. One that would be both is dropped."""
        if grid == self.grid:
            return self
        keep, drop = ({int((row + 0.5) / self.grid * grid) * grid + int((column + 0.5) / self.grid * grid)
                       for row, column in (divmod(patch, self.grid) for patch in said)} for said in (self.keep, self.drop))
        return Hand(tuple(sorted(keep - drop)), tuple(sorted(drop)), grid)

    def turned(self, patch: int) -> "Hand":
        """The same with one patch turned on: what is free is kept, what is kept is dropped, what is dropped is free."""
        keep, drop = {*self.keep}, {*self.drop}
        if patch in drop:
            drop -= {patch}
        elif patch in keep:
            keep, drop = keep - {patch}, drop | {patch}
        else:
            keep |= {patch}
        return Hand(tuple(sorted(keep)), tuple(sorted(drop)), self.grid)

    def says(self, patch: tuple[int, ...], grid: int) -> str:
        """ "kept", "dropped" or "" of the patch (row, column) of a grid, () being none."""
        here, number = self.on(grid), patch and patch[0] * grid + patch[1]
        return "kept" if number in here.keep else "dropped" if number in here.drop else ""

    @property
    def code(self) -> str:
        """The arguments of `vitlab.Forced` that say the same."""
        told = [f"{name}={list(said)}" for name, said in (("keep", self.keep), ("drop", self.drop)) if said]
        return ", ".join([*told, f"grid={self.grid}"])


@dataclass(frozen=True)
class Slice:
    """Which pictures are walked through: `measure.pick` of the answers at a place, which is a model and its operating point."""

    how: str
    at: tuple[str, Any] | None = None       # None where no answer is needed
    beside: tuple[str, Any] | None = None   # of "lost" alone: where they are right
    label: int | None = None                # a class of the pictures, by number

    @property
    def words(self) -> str:
        """What the pictures have in common, their class apart."""
        at, beside = (place and titled(*place) for place in (self.at, self.beside))
        return {"all": "", "wrong": f"wrong at {at}", "lost": f"wrong at {at}, right at {beside}",
                "unsure": f"the least sure at {at} first", "dear": f"the dearest at {at} first"}[self.how]


@dataclass(frozen=True)
class Ask:
    """What the controls say: everything that decides what is shown."""

    model: str
    point: Any
    image: int | Upload                     # position in the image set, or a picture from outside
    device: str
    precision: str
    batch: int
    layer: int                              # place among the layers the image went through, from 0; -1 is the last
    hand: Hand | None = None                # what a person says of some patches; None where nothing is forced
    deep: bool = False                      # is the depth looked at?
    slice: Slice | None = None              # which pictures are walked through; None where nobody does
    pinned: tuple[str, Any] | None = None   # a model and its operating point to be shown beside, if any
    auto: bool = False                      # is the fastest precision looked for?
    compiled: bool = False                  # are fused kernels wanted?
    fused: bool = False                     # and are they what is timed? See `Ways`
    alone: bool = False                     # is what one picture takes looked at?

    @property
    def sight(self) -> tuple:
        """The part that the answer about the image depends on."""
        return self.model, self.point, self.image, self.device, self.precision, self.hand

    @property
    def pace(self) -> tuple:
        """The part that the speed depends on."""
        return self.model, self.point, self.device, self.precision, self.batch, self.hand, self.pinned, self.fused, self.auto

    @property
    def other(self) -> "Ask | None":
        """The same at what is pinned, with nothing forced; None where nothing is pinned."""
        if self.pinned is None:
            return None
        model, point = self.pinned
        return replace(self, model=model, point=point, hand=None, pinned=None)

    @property
    def title(self) -> str:
        """Model and knobs, short: "SuperViT (14, 0.5)"."""
        return titled(self.model, self.point) + (" by hand" if self.hand else "")


def titled(model: str, point: Any) -> str:
    """A model at its operating point, short: "SuperViT (14, 0.5)"; a flag is told by its name, where it is set."""
    told = {name: value for name, value in asdict(point).items() if value is not False}
    knobs = ", ".join(name if value is True else shown(value, name) for name, value in told.items())
    return f"{model} ({knobs})" if knobs else model


def shown(value: Any, name: str = "") -> str:
    """A knob's value, short: 0.5, or 0.42 / 0.6 for several; None in words where the knob has any."""
    if value is None and name in NONE:
        return NONE[name]
    if isinstance(value, tuple):
        return " / ".join(map(shown, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Verdict(NamedTuple):
    """An assigner's word on one picture, for each exit: the one of highest score, log(share) - weight * cost, runs."""

    share: tuple[float, ...]                # probabilities
    cost: tuple[float, ...]                 # multiply-adds relative to the largest
    weight: float                           # of the cost, as the operating point says it

    @property
    def score(self) -> tuple[float, ...]:
        return tuple(log(max(share, LEAST)) - self.weight * cost for share, cost in zip(self.share, self.cost, strict=True))


@dataclass(frozen=True)
class Look:
    """What the net said of one image, and what it did with its tokens."""

    subject: Subject
    prediction: int
    confidence: float
    layers: list[LayerTrace]                # the layers this image went through; row 0 is the image
    gmacs: float
    dense: float                            # gmacs of the costliest point
    exit: int | None = None                 # the stage that answered, from 0; None without early exits
    word: Verdict | None = None             # what an assigner said, where one was asked

    def name(self, place: int, exits: Sequence[str]) -> str:
        """What a layer is called, where there are several stages with its stage, or exit."""
        part = self.layers[place]
        stage = f"{exits[part.stage]}, " if exits else f"stage {part.name}, " if any(self.layers[-1].stages) else ""
        return f"{stage}layer {part.layer + 1}"

    @property
    def tokens(self) -> int:
        """Patches that reach the last MLP."""
        return int(self.layers[-1].fed.sum())

    @property
    def patches(self) -> int:
        """Patches there were."""
        return self.layers[-1].fed.shape[1]

    @property
    def right(self) -> bool | None:
        """Is the answer right? None where nobody knows."""
        return None if self.subject.label is None else self.subject.label == self.prediction


@dataclass(frozen=True)
class Timing:
    """Images per second at a point; speed_up over the costliest point, measured in turn with it, None until it is."""

    images_per_s: float
    batch: int
    runs: int
    speed_up: float | None = None
    promise: float | None = None            # the speed-up that the FLOPs promise
    exits: tuple[int, ...] = ()             # how many images of the batch leave at each exit
    spread: float = 0.0                     # of the middle half of the passes: interquartile range / median
    beside: float | None = None             # images per second of what is pinned, measured in turn with it
    compiling_s: float | None = None        # seconds that compiling this point took, None where nothing is compiled


@dataclass(frozen=True)
class Taken:
    """What one picture takes alone, and what a batch does where the device tells."""

    latency_ms: float                       # median
    latency_p90_ms: float                   # nine passes of ten are at most this slow
    latency_runs: int
    latency_speed_up: float                 # over the costliest point, measured in turn with it
    memory_mib: float | None = None         # the most at once, of a batch; None where nobody counts
    joules: float | None = None             # per picture of a batch
