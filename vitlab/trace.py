"""What happened to every token, recorded only when asked: `method(images, point, trace=Trace())`."""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitlab.block import cls_attention, mean_attention
from vitlab.tokens import put

USED = "this trace holds another call already; give every call a Trace() of its own"


class Judged(NamedTuple):
    """How a block decided who stays, by a score of the method's own; of the three cuts one is told.

    A number is the same of all images, [B] differs. Held as it was decided by, so that it costs nothing until somebody asks.
    """

    name: str                           # of the score, such as "its selector's score"
    score: Tensor                       # [B, n] of all that were judged, or pairs that were; NaN for who was not
    ids: Tensor                         # [B, n] their patches, negative for what is no patch
    stay: int | Tensor | None = None    # so many stay, of the highest scores unless the method chooses in another way
    above: float | None = None          # whose score is above this stays
    merge: int | None = None            # so many pairs of the highest scores become one token each
    partner: Tensor | None = None       # [B, n] where pairs are judged: the other patch of each

    def of(self, patch: int, row: int = 0) -> tuple[float, int, int] | None:
        """The score of an image's patch, its place among all scores there, from 1, and how many there are; None: not judged.

        Of a patch in several pairs, those of its best.
        """
        score, mine = self.score[row], self.ids[row] == patch
        mine = mine if self.partner is None else mine | (self.partner[row] == patch)
        own = score[mine & ~score.isnan()]
        return (float(own.max()), 1 + int((score > own.max()).sum()), int((~score.isnan()).sum())) if len(own) else None

    def cut(self, row: int = 0) -> float:
        """The cut that is told, of one image."""
        told = next(each for each in (self.stay, self.above, self.merge) if each is not None)
        return told[row].item() if isinstance(told, Tensor) else told

    def to(self, change: Callable[[Tensor, float], Tensor]) -> "Judged":
        """The same with all tensors changed; the second argument is what stands for nobody."""
        blank = {"score": float("nan"), "ids": -1, "partner": -1, "stay": 0}
        tensors = {name: part for name, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**{name: change(part, blank[name]) for name, part in tensors.items()})


@dataclass
class LayerTrace:
    """One block of one pass, for all B images; patches are numbered row by row on `grid`.

    A token made of several patches is told by one of them, which stands for it; `source` says who is in which.
    """

    stage: int                  # which net of a cascade, 0 for the first
    layer: int                  # block, 0-based
    grid: tuple[int, int]       # the patch grid of this pass, e.g. (14, 14)
    attended: Tensor            # [B, h*w] bool: patches that took part in attention
    fed: Tensor                 # [B, h*w] bool: patches that reached the MLP
    cls: Tensor                 # [B, h*w] attention of the class token, or of all tokens' mean, mean over heads; 0 where absent
    extra: Tensor               # [B] tokens in attention beside the patches: prefix and package tokens
    inner: tuple[int, ...] = () # stages within that stage, where it is a cascade itself
    folded: Tensor | None = None    # [B, h*w] weights with which patches were folded into a package before this block
    source: Tensor | None = None    # [B, h*w] where patches are merged: the patch that stands for its token in the MLP
    judged: Judged | None = None    # how it was decided here who stays, before attention or after it; None: nobody said
    there: Tensor | None = None     # [B] bool: images that came to this block; None: those of which a token is left

    @property
    def stages(self) -> tuple[int, ...]:
        """Which net, from the outermost cascade inwards: the first number is the one that `Trace.exit` counts."""
        return self.stage, *self.inner

    @property
    def name(self) -> str:
        """The stage as people count, from 1: "2", or "2.1" for the first stage within the second."""
        return ".".join(str(number + 1) for number in self.stages)

    @property
    def passed(self) -> Tensor:
        """[B] bool: which images went through this block, be it with nobody left; those that a cascade let go did not."""
        return self.attended.any(1) | (self.extra > 0) if self.there is None else self.there

    def patch(self, row: int, column: int, side: int) -> int:
        """The number of the patch here in which the middle of one of side x side patches lies."""
        down, right = (int((place + 0.5) / side * here) for place, here in zip((row, column), self.grid, strict=True))
        return down * self.grid[1] + right

    @property
    def place(self) -> dict[str, int | str]:
        """The columns of a frame that tell blocks apart: stage, from 0, inner ("0", "1.0") where there is one, layer, from 1."""
        inner = {"inner": ".".join(map(str, self.inner))} if self.inner else {}
        return {"stage": self.stage, **inner, "layer": self.layer + 1}


class Told(NamedTuple):
    """What one block told a trace, for whoever watches it: see `Trace.add`. Nobody keeps it otherwise."""

    ids: Tensor
    fed: Tensor
    q: Tensor
    k: Tensor
    extra: int
    mask: Tensor | None
    pooled: bool
    order: Tensor | None

    def attending(self, patch: int) -> int | None:
        """Where the token that stands for a patch of the first image is among q and k; None where it has none there."""
        return self.place(self.ids, patch)

    def reaching(self, patch: int) -> int | None:
        """The same among the tokens that reach the MLP."""
        return self.place(self.fed, patch)

    def place(self, ids: Tensor, patch: int) -> int | None:
        """Where a patch's number stands, counted from the first prefix token on."""
        found = (ids[0] == patch).nonzero()
        return int(found[0, 0]) + self.extra if len(found) else None

    def own(self, place: int) -> int:
        """The place among the tokens that the block works on, of one among q and k of the first image."""
        return place if self.order is None else int((self.order[0] == place).nonzero()[0, 0])


@dataclass
class Trace:
    """The record of one forward call: `layers` in order of execution, `exit` [B] = the stage that answered, or None.

    It holds one call: a second one raises ValueError, since nothing would tell whose layer is whose.
    watch: called with each block's record and what it was made of, while both are there.
    """

    layers: list[LayerTrace] = field(default_factory=list)
    exit: Tensor | None = None
    watch: Callable[[LayerTrace, Told], None] | None = field(default=None, repr=False)

    def part(self) -> "Trace":
        """An empty one for a stage of a cascade, to be joined; whoever watches this one watches that one, too."""
        return Trace(watch=self.watch)

    def add(self, layer: int, grid: tuple[int, int], ids: Tensor, q: Tensor, k: Tensor, *,
            fed: Tensor | None = None, extra: int = 1, mask: Tensor | None = None, folded: Tensor | None = None,
            source: Tensor | None = None, pooled: bool = False, order: Tensor | None = None,
            judged: Judged | None = None) -> None:
        """Record one block.

        ids [B, n]: patch numbers of the tokens in attention after the first `extra`, negative for what is no patch;
        fed [B, m]: of those that reach the MLP (default: the same); q, k [B, H, extra + n, d]: this block's queries and keys;
        mask [B, H, T, T]: what it adds to its logits or, bool, the keys that count as tokens; folded, source: see LayerTrace;
        pooled: whether there is no class token, so that the mean of all tokens' attention is told;
        order [B, m]: the places among q and k of the tokens that the block works on, where those are fewer;
        judged: the scores by which it was decided here who stays.
        """
        self.follow((0,), layer)
        mask_first = None if mask is None else mask[:, :, :1]
        if pooled:
            weight = mean_attention(q, k, mask_first).mean(1)[:, extra:].detach()
        else:
            weight = cls_attention(q, k, mask_first).mean(1)[:, extra:].detach()
            if mask is not None and mask.dtype == torch.bool:
                weight = weight.where(mask[:, 0, 0, :1], 0)                # a class token that is absent looks at nobody
        empty = torch.zeros(len(ids), grid[0] * grid[1], device=ids.device)
        attended = patches(empty, ids, torch.ones_like(weight)).bool()
        reached = attended if fed is None else patches(empty, fed, torch.ones_like(fed, dtype=empty.dtype)).bool()
        tokens = mask[:, 0, 0].sum(1) if mask is not None and mask.dtype == torch.bool else attended.new_full(
            (len(ids),), q.shape[2], dtype=torch.long)
        self.layers.append(LayerTrace(0, layer, grid, attended, reached, patches(empty, ids, weight),
                                      tokens - attended.sum(1), folded=None if folded is None else folded.detach(),
                                      source=source, judged=judged and judged.to(lambda part, _: part.detach()),
                                      there=attended.new_ones(len(ids))))
        if self.watch is not None:
            self.watch(self.layers[-1], Told(ids, ids if fed is None else fed, q, k, extra, mask, pooled, order))

    def join(self, record: "Trace", stage: int, rows: Tensor, batch: int) -> None:
        """Append the layers of one stage of a cascade, which saw only the images `rows` [b] of a batch of `batch`.

        The other images stay empty there: no patch attended, none fed. A stage that is a cascade itself keeps its own
        numbers in `inner`.
        """
        for part in record.layers:
            inner = () if record.exit is None else part.stages
            self.follow((stage, *inner), part.layer)
            spread = (t if t is None else torch.zeros(batch, *t.shape[1:], dtype=t.dtype, device=t.device).index_copy(0, rows, t)
                      for t in (part.attended, part.fed, part.cls, part.extra, part.folded, part.source, part.passed))
            *told, folded, source, there = spread
            judged = part.judged and part.judged.to(
                lambda part, blank: part.new_full((batch, *part.shape[1:]), blank).index_copy(0, rows, part))
            self.layers.append(LayerTrace(stage, part.layer, part.grid, *told, inner, folded, source, judged, there))

    def follow(self, stages: tuple[int, ...], layer: int) -> None:
        """Raise ValueError unless this block comes after those recorded: stages and blocks of one call only ever rise."""
        if self.exit is not None or self.layers and (stages, layer) <= (self.layers[-1].stages, self.layers[-1].layer):
            raise ValueError(USED)



def check_trace(trace: Any) -> None:
    """Before anything is computed: TypeError for what is no trace, ValueError for one that holds a call; None is no trace."""
    if trace is None:
        return
    if not isinstance(trace, Trace):
        raise TypeError(f"trace must be a vitlab.Trace() or None, not a {type(trace).__name__}")
    if trace.layers or trace.exit is not None:
        raise ValueError(USED)


def recorded(trace: Any) -> list[LayerTrace]:
    """The layers of a trace that holds a call; TypeError for what is none, ValueError for an empty one."""
    if not isinstance(trace, Trace):
        raise TypeError(f"this needs a vitlab.Trace, not a {type(trace).__name__}; give one to method(images, point, trace)")
    if not trace.layers:
        raise ValueError("the trace is empty; run method(images, point, trace) first")
    return trace.layers


def patches(empty: Tensor, ids: Tensor, values: Tensor) -> Tensor:
    """Values [B, n] at the patches that ids [B, n] number, on a copy of empty [B, N]; those of negative numbers go nowhere."""
    beside = torch.cat([empty, empty.new_zeros(len(empty), 1)], 1)         # a spare column for what is no patch
    return put(beside, ids.where(ids >= 0, empty.shape[1]), values)[:, :-1]
