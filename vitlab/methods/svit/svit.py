"""SViT, Liu et al., WACV 2024 (arXiv 2306.07050): per-layer gates choose tokens; who is left out stays, and can come back.

From the fourth block on a small gate asks every token, by itself, whether it takes part in the block. Who does not skips it
unchanged: it keeps its place in the feature map, is asked again at the next gate, and can come back.

paper -> here:  two-layer MLP gate = gates.Gate · M, drawn = gates.drawn · keep ratios r = keep · dynamic pruning rate =
rate="batch" · L_ratio = gates.off_target · token preservation, reactivation = pruned="return".
From the official code (the paper says less):
  * k, k², k³ for the first, second and last third of the gates; the class token always takes part, but in the last block, where
    it is asked like the others;
  * training computes the block for all tokens, keys left out by a mask, so a gate learns what a token it skipped would have won.
Departures: at test time nothing is drawn. A token takes part where its log-odds exceed a threshold, one for each gate, that
`calibrate` finds on held-out pictures, so that the shares are those of training (the code goes on drawing; its unused "argmax"
is a threshold of 0, and with odds trained to be drawn from, it keeps far more or less than was asked). Until then, and with
`fixed=True`, the same number of tokens of each image takes part. An image of which nobody takes part skips the block, where the
code gives NaN in older versions of torch. LayerNorms are the backbone's (the code trains DeiT's weights with an epsilon of 1e-5).
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import check_backbone, check_images, embed, grid, head, image_size, prefix_tokens, start_from
from vitlab.block import attention, macs, mlp, qkv
from vitlab.calibrated import Calibrated
from vitlab.forced import Orders
from vitlab.losses import cross_entropy
from vitlab.method import own_point
from vitlab.methods.svit.gates import KINDS, Gate, drawn, most, off_target
from vitlab.methods.svit.select import Rule, Some, above, best
from vitlab.numbers import plain, real, rows_of_numbers, several, whole
from vitlab.recipe import Recipe
from vitlab.trace import Trace, check_trace
from vitlab.words import one_of

KEEP = 0.7                                              # k of the published SViT-T and SViT-S
STEPS = (0.5, 0.6, 0.8, 0.9)                            # further k, for further points
THIRDS = 3                                              # groups of gates with one share, or with one gate where none comes back
SAME = 1e-3                                             # relative distance at which two k are one

Decide = Callable[[int, Tensor, Tensor], Tensor]        # gate, log-odds [B, n], who may [B, n] -> who takes part, 0 or 1


@dataclass(frozen=True)
class Point:
    """How many tokens take part."""

    keep: float | None = None       # k, the share in the first gated block, others fall with it; None: what the net was made for
    fixed: bool = False             # of every image the same number, whatever its odds; for exporters

    def __post_init__(self):
        object.__setattr__(self, "keep", plain(self.keep))
        object.__setattr__(self, "fixed", plain(self.fixed))


class Tokens(NamedTuple):
    """The tokens at one depth."""

    x: Tensor               # [B, P + N, D] all of them
    alive: Tensor           # [B, P + N] bool: who may still take part
    who: Some | None        # who takes part now; None: all

    def takes_part(self) -> Tensor:
        """The same as bool, [B, P + N]."""
        everybody = torch.ones_like(self.alive)
        return everybody if self.who is None else self.who.back(~everybody, self.who.taken(everybody))


class Masked(NamedTuple):
    """What a pass leaves behind that computes all tokens."""

    logits: Tensor          # [B, K]
    drawn: list[Tensor]     # of each gate: [B, n] 0 or 1, the tokens asked
    tokens: Tensor          # [B, P + N, D] after the last block
    there: Tensor           # [B, P + N] 0 or 1: which of them have a value


class SViT(nn.Module):
    """A backbone with a gate before most blocks.

    keep: k, or the share of tokens that takes part after each gate.  first: the first gated block, from 1 (None: 4 of 12 blocks).
    pruned: what becomes of who is left out: "return", it stays and is asked again; "inherit", it stays and is never asked again;
    "discard", it is gone from the feature map (zeros). The latter two have three gates, one for each third.
    rate: the shares are met by the mean over a "batch" or by every "image".  gate: "mlp", "linear", "global" or "random", see
    `gates.Gate`.  decisions: in training, "drawn" as in the paper or those who want "most", as at test time: to finish a training
    with, so that the net sees the mixtures it will be tested on.  lambda_ratio: weight of the loss of the shares.
    thresholds: what `calibrate` found, for checkpoints: rows of k and a threshold for each gate.
    Raises ValueError for a knob that makes no sense.
    """

    Point = Point
    FREE_KNOBS = ("thresholds",)                        # no weight depends on them
    forced: Orders | None = None                        # see `vitlab.Forced`

    def __init__(self, vit: VisionTransformer, keep: float | Sequence[float] = KEEP, first: int | None = None, *,
                 pruned: str = "return", rate: str = "batch", gate: str = "mlp", decisions: str = "drawn",
                 lambda_ratio: float = 4.0, thresholds: Sequence[Sequence[float]] | None = None):
        super().__init__()
        check_backbone(vit)
        for name, value, choices in (("pruned", pruned, ("return", "inherit", "discard")), ("rate", rate, ("batch", "image")),
                                     ("gate", gate, KINDS), ("decisions", decisions, ("drawn", "most"))):
            one_of(value, name, choices)
        self.vit, self.prefix, self.pruned, self.rate, self.gate = vit, prefix_tokens(vit), pruned, rate, gate
        self.decisions, self.lambda_ratio = decisions, real(lambda_ratio, "lambda_ratio")
        self.at = gated_blocks(len(vit.blocks), first, each=pruned == "return")
        self.gates = nn.ModuleList([Gate(vit.embed_dim, gate) for _ in self.at])
        self.powers, self.keep = powers(keep, len(self.at), falling=pruned != "return")
        self.set_thresholds(thresholds)

    @property
    def adaptive(self) -> bool:
        """Once it is calibrated, as many tokens of an image take part as want to."""
        return bool(self.thresholds)

    def shares(self, keep: float) -> tuple[float, ...]:
        """The share of tokens that takes part after each gate, at k."""
        return tuple(keep ** power for power in self.powers)

    def counts(self, keep: float) -> tuple[int, ...]:
        """How many of the tokens asked take part after each gate, at k, where it is the same number of each image."""
        tokens = grid(self.vit) ** 2 + self.prefix
        return tuple(round(share * (tokens - self.before(gate))) for gate, share in enumerate(self.shares(keep)))

    def set_thresholds(self, table: Sequence[Sequence[float]] | None) -> None:
        """Who takes part: rows of k and a threshold on the log-odds for each gate, as `calibrate` finds them.

        None: of every image the same number. The points are the k of the rows, or some, and k = 1.
        """
        rows = rows_of_numbers(() if table is None else table, "thresholds must be rows of numbers")
        if any(len(row) != len(self.at) + 1 for row in rows):
            raise ValueError(f"thresholds must be rows of k and {len(self.at)} thresholds, not {rows}")
        self.thresholds = Calibrated(rows, "keep", "of the tokens")
        keeps = self.thresholds.settings or self.offered
        self.points = tuple(Point(k) for k in keeps if k < 1) + (Point(1.0),)
        if hasattr(self, "made"):
            self.made["knobs"] = {**self.made["knobs"], "thresholds": self.thresholds.rows or None}

    @property
    def offered(self) -> tuple[float, ...]:
        """Some k, ascending: the net's own and others."""
        return tuple(sorted({*STEPS, self.keep}))

    def init_from(self, vit: VisionTransformer) -> None:
        """Start from the weights of a plain backbone, as the paper does; ValueError where they do not fit."""
        start_from(self.vit, vit)

    def settle(self) -> None:
        """From now on training decides as test time will: what a training ends with (decisions="most")."""
        self.decisions = "most"
        if hasattr(self, "made"):
            self.made["knobs"] = {**self.made["knobs"], "decisions": "most"}

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the DeiT recipe does not decay."""
        return {"vit.pos_embed", "vit.cls_token"}

    def check(self, point: Point | None) -> Point:
        """The point with its k; ValueError for one that makes no sense."""
        point = own_point(point, self)
        if not isinstance(point.fixed, bool):
            raise ValueError(f"fixed must be True or False, not {point.fixed!r}")
        keep = self.keep if point.keep is None else real(point.keep, "keep", 0.0, 1.0)
        if keep == 0:
            raise ValueError("keep must be above 0: some share of the tokens has to take part")
        if self.adaptive and not point.fixed and keep < 1:
            self.thresholds.at(keep, SAME)
        return Point(keep, point.fixed)

    def rule(self, point: Point) -> Rule:
        """Who takes part after a gate."""
        side = grid(self.vit)
        if self.adaptive and not point.fixed and point.keep < 1:
            return above(self.thresholds.at(point.keep, SAME), side, self.forced)
        counts = self.counts(point.keep)
        return lambda gate, odds, may, before: best(odds.where(may, float("-inf")), counts[gate], before, side, self.forced)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]; who does not take part in a block is really not computed."""
        check_trace(trace)
        x, alive = self.features(images, point, trace)
        return head(self.vit, x, self.readable(alive))

    def features(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> tuple[Tensor, Tensor]:
        """The tokens after the last block, [B, P + N, D], those left out of it too; who is there, bool [B, P + N]."""
        t, rule = self.first(images), self.rule(self.check(point))
        for layer in range(len(self.vit.blocks)):
            t = self.block(layer, self.gated(layer, t, rule), trace)
        return t.x, t.alive

    def readable(self, alive: Tensor) -> Tensor:
        """Which tokens the head may read, where it reads patches, bool [B, P + N]: all that have a value."""
        return alive if self.pruned == "discard" else torch.ones_like(alive)

    def first(self, images: Tensor) -> Tokens:
        """The tokens that come to the first block."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        x = embed(self.vit, images)
        return Tokens(x, torch.ones_like(x[..., 0], dtype=torch.bool), None)

    def gated(self, layer: int, t: Tokens, rule: Rule) -> Tokens:
        """The same tokens, and who takes part from this block, 0-based, on."""
        if layer not in self.at:
            return t
        gate, before = self.at[layer], self.before(self.at[layer])
        t = t._replace(who=rule(gate, self.gates[gate](t.x[:, before:]), t.alive[:, before:], before))
        if self.pruned != "return":
            t = t._replace(alive=t.takes_part())
        return t._replace(x=t.x * t.alive[..., None]) if self.pruned == "discard" else t

    def block(self, layer: int, t: Tokens, trace: Trace | None = None) -> Tokens:
        """The tokens after a block, 0-based: who takes part has been through it, the others are as they were."""
        block = self.vit.blocks[layer]
        if t.who is None:
            q, k, v = qkv(block, t.x)
            x = t.x + attention(block, q, k, v)                            # [B, P + N, D]
        else:
            x = t.who.taken(t.x)                                           # [B, n, D], or [1, sum of n, D]
            q, k, v = qkv(block, x)
            x = x + t.who.rows.attention(block, q, k, v)
        if trace is not None:
            self.note(trace, layer, t, q, k)
        x = x + mlp(block, x)
        return t._replace(x=x if t.who is None else t.who.back(t.x, x))

    def before(self, gate: int) -> int:
        """How many tokens, from the first on, this gate does not ask: the prefix, but of the last block's gate none."""
        return 0 if self.at.get(len(self.vit.blocks) - 1) == gate else self.prefix

    def note(self, trace: Trace, layer: int, t: Tokens, q: Tensor, k: Tensor) -> None:
        """Write one block into a trace: who took part, and whom the class token looked at."""
        side = grid(self.vit)
        there, ids = t.takes_part(), torch.arange(side * side, device=q.device)
        judged = t.who.judged() if layer in self.at and t.who.judged is not None else None   # not of one's own rule
        if t.who is not None:
            q, k = (t.who.back(p.new_zeros(*t.x.shape[:2], *p.shape[1::2]), p.transpose(1, 2)).transpose(1, 2) for p in (q, k))
        trace.add(layer, (side, side), ids.where(there[:, self.prefix:], -1), q, k, extra=self.prefix, mask=there[:, None, None],
                  order=None if t.who is None else t.who.index, judged=judged)

    def token_macs(self, trace: Trace) -> Tensor:
        """Multiply-adds [B] of the blocks, by how many tokens took part; gates ask all, whatever they say."""
        return sum(macs(self.vit.blocks[part.layer], (part.attended.sum(1) + part.extra).double()) for part in trace.layers)

    def masked(self, images: Tensor, decide: Decide | None = None) -> Masked:
        """The pass of training, and of the official evaluation: all tokens are computed, and who skips a block keeps its value.

        decide: who takes part after a gate (None: drawn, or for gates that know nothing as many as are to).
        """
        check_images(images, image_size(self.vit), self.vit.cls_token)
        x, decide, said = embed(self.vit, images), decide or self.draw, []
        alive, takes_part = torch.ones_like(x[..., 0]), None
        for layer, block in enumerate(self.vit.blocks):
            if layer in self.at:
                gate, before = self.at[layer], self.before(self.at[layer])
                said.append(decide(gate, self.gates[gate](x[:, before:]), alive[:, before:]) * alive[:, before:])
                takes_part = F.pad(said[-1], (before, 0), value=1.0)       # [B, T]
                alive = alive if self.pruned == "return" else takes_part
                x = x * alive[..., None] if self.pruned == "discard" else x
            q, k, v = qkv(block, x)
            keys = None if takes_part is None else reachable(takes_part)[:, None, None]
            y = x + attention(block, q, k, v, keys)
            y = y + mlp(block, y)
            x = y if takes_part is None else takes_part[..., None] * y + (1 - takes_part[..., None]) * x
        there = self.readable(alive)
        return Masked(head(self.vit, x, there > 0), said, x, there)

    def draw(self, gate: int, odds: Tensor, may: Tensor) -> Tensor:
        """Who takes part in training, 0 or 1: [B, n]."""
        if self.gate != "random":
            return drawn(odds) if self.decisions == "drawn" else most(odds, may, self.shares(self.keep)[gate], self.rate)
        before = self.shares(self.keep)[gate - 1] if gate and self.pruned != "return" else 1.0
        return (odds.sigmoid() >= 1 - self.shares(self.keep)[gate] / before).float()

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Cross-entropy, and how far the shares are from what was asked."""
        said = self.masked(images)
        yield {"ce": cross_entropy(said.logits, labels), **self.ratio(said.drawn)}

    def ratio(self, drawn: list[Tensor]) -> dict[str, Tensor]:
        """The loss of the shares that took part, from [B, n] of each gate; gates that know nothing have none."""
        return {} if self.gate == "random" else {
            "ratio": self.lambda_ratio * off_target(drawn, self.shares(self.keep), self.rate)}


def reachable(takes_part: Tensor) -> Tensor:
    """The keys that may be looked at, bool [B, T]: who takes part; of an image where nobody does, all, and nobody reads it."""
    there = takes_part > 0.5
    return there | ~there.any(1, keepdim=True)


def gated_blocks(depth: int, first: int | None, each: bool) -> Mapping[int, int]:
    """Before which blocks, 0-based, which gate stands: before each from `first` on, 1-based, or before each third of them."""
    first = depth // 4 if first is None else whole(first, "first", 1, depth) - 1
    blocks = range(first, depth)
    if not each:
        thirds = [n * THIRDS // len(blocks) for n in range(len(blocks))]
        blocks = [first + thirds.index(third) for third in sorted(set(thirds))]
    return {block: gate for gate, block in enumerate(blocks)}


def powers(keep: float | Sequence[float], gates: int, falling: bool) -> tuple[tuple[float, ...], float]:
    """The powers of k that are the shares, and k: 1, 2, 3 by thirds, or what the shares given are of the first.

    falling: no share may be above the one before it.
    """
    usual = tuple(1.0 + gate * THIRDS // gates for gate in range(gates))
    if not isinstance(plain(keep), tuple):
        keep = real(keep, "keep", 0.0, 1.0)
        if keep == 0:
            raise ValueError("keep must be above 0: some share of the tokens has to take part")
        return usual, keep
    rule = f"keep must be one share in (0, 1], or {gates} of them, one for each gate, the first below 1"
    rule += ", none above the one before it" if falling else ""
    shares = several(keep, rule)
    if len(shares) != gates or not all(0 < share <= 1 for share in shares) or shares[0] == 1 \
            or falling and list(shares) != sorted(shares, reverse=True):
        raise ValueError(f"{rule}, not {shares}")
    return tuple(log(share) / log(shares[0]) for share in shares), float(shares[0])


RECIPE = Recipe(epochs=30, batch=1024, lr=2e-5, weight_decay=1e-6, betas=(0.9, 0.999), warmup=0.0, min_lr=1e-6, mixup=0.8,
                cutmix=1.0, label_smoothing=0.1, ema=0.99996)   # the authors' command; the dense net as `init_from`
