"""SPViT, Kong et al., ECCV 2022 (arXiv 2112.13890): learned selectors fold weak tokens into a package, under a compute budget.

Before three of the blocks a selector scores every patch. What it drops is folded into one package token, which takes part in
all that follows. How much is to be kept follows from a limit: GFLOPs, or milliseconds on a device.

paper -> here:  T (Eq. 6) = selector(x, others) · D (Eq. 7) = keep · P (Eq. 8) = folded · rho_i (Eq. 11) = 1 - keep ·
HardwareLimit (Eq. 10) = budget, latency · Eq. 12 = `losses`; phases and CKA are in `phases`.
Where paper and official code differ:
  * shares to keep are of all patches, and the loss compares their mean over a batch (Eq. 11 mixes rho and 1 - rho);
  * heads share one MLP of d channels, half of them local (code; `shared=False`, `width="paper"`: the text);
  * the decision is drawn from the merged probability (Eqs. 6-7; the code merges logarithms);
  * the package is a weighted mean (Eq. 8; `package="sum"`: the code, "mean": A.6), one for each selector (`merge=True`: one);
  * nothing dropped, nothing packed: an empty package takes part in nothing (in the code it is a token of 1e-6).
Departures from both: at test time tokens are really gone, without noise (the code keeps drawing, and masks): an image keeps
as many patches as its scores add up to, times a factor that `calibrate` finds on held-out pictures; until then, and with
`fixed=True`, each image keeps the same number.
An image that would lose all its patches keeps the best. Selectors begin with torch's initial weights and keep, by their bias,
about what is asked of them (the code's begin at one half).
In a PiT what is dropped goes through the pooling as it was when it was dropped, and all patches are back in the next stage
(the code, which masks, goes on computing dropped patches: gathering them could not be the same); its packages are added up to
one, as in its code. `persist=True` is ours: the published placement does not reach the costs of Table 2's PiT-S at 1.42 and
PiT-XS at 0.72 GFLOPs. See `stages`.
Class token and positions are trained (the code freezes them), the backbone from the first step on (5 epochs later), by one
cosine (the code resets the rate of the selectors halfway). Token distillation is the squared error for LV-ViT, too.
"""
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import (
    blocks,
    check_backbone,
    check_images,
    embed,
    grid,
    head,
    image_size,
    pooled,
    prefix_tokens,
    stages,
    start_from,
)
from vitlab.block import attention, macs, mlp, qkv
from vitlab.calibrated import Calibrated
from vitlab.forced import Orders
from vitlab.losses import cross_entropy, kl
from vitlab.method import Dense, own_point
from vitlab.methods.spvit.clock import clock
from vitlab.methods.spvit.limit import SAME, multiply_adds, solve
from vitlab.methods.spvit.objective import apart, certain, gumbel, off_target, policy_bias
from vitlab.methods.spvit.package import Package
from vitlab.methods.spvit.prune import PACKAGE, PREFIX, Score, Tokens, Veiled, asked, best, by_count, by_mask, by_score
from vitlab.methods.spvit.selector import Design, Others, Selector
from vitlab.methods.spvit.shares import asked_for, geometric, places
from vitlab.methods.spvit.stages import enter, enter_veiled
from vitlab.numbers import flag, plain, real, rows_of_numbers
from vitlab.packed import Even, Packed
from vitlab.recipe import Recipe
from vitlab.trace import Trace, check_trace
from vitlab.words import one_of

STEPS = (0.2, 0.4, 0.6, 0.8)                            # of the way from the least cost to the dense one: further points

Select = Callable[[Tokens, Score, float, int, Package], Tokens]     # `by_count` or `by_score`
Decide = Callable[[int, Tensor, Tensor], Tensor]        # selector, scores [B, N], who is there [B, N] -> who stays, 0 or 1


@dataclass(frozen=True)
class Point:
    """How much an image may cost, on average."""

    budget: float | None = None     # GFLOPs (1e9 multiply-adds); None: what the net was made for
    fixed: bool = False             # every image keeps the same number of tokens, whatever their scores; for exporters

    def __post_init__(self):
        object.__setattr__(self, "budget", plain(self.budget))
        object.__setattr__(self, "fixed", plain(self.fixed))


class Masked(NamedTuple):
    """What a pass over masked tokens leaves behind."""

    logits: Tensor          # [B, K]
    tokens: Tensor          # [B, N, D] patches after the last norm, dropped ones too
    kept: list[Tensor]      # of each selector: [B, N] 0 or 1, of the patches of its stage; what is dropped in it stays dropped
    alive: Tensor           # [B, N] 0 or 1: which are there to the end


class SPViT(nn.Module):
    """A backbone with token selectors.

    budget: GFLOPs of an image; latency: milliseconds of one image on the device that the backbone is on; keep: the shares of all
    patches kept from each selector on, such as (0.7, 0.49, 0.34). Give one of them (None: 63, 39 and 25 %).
    after: behind how many blocks each selector stands (None: 3, 6, 9 of 12, scaled to the depth; in a PiT 1, 5, 10).
    package: "normalised" (Eq. 8), "mean", "sum" or "none".  merge: packages are added up to one (Table 7; None: in a PiT).
    persist: what a PiT's selectors drop stays dropped in later stages; shares are then of all patches, else of the stage's own.
    heads, branch, shared, width, layer, activation: see `selector.Design`.  score: "selector", or "random" (Table 11).
    ratio: the shares are met by the mean over a "batch" or by every "image".  decisions: in training, "drawn" as in the paper or
    "best", as at test time: to finish a training with, so that the net sees the mixtures it will be tested on.
    lambda_kl, lambda_distill, lambda_ratio: Eq. 12.
    factors: what `calibrate` found, for checkpoints: rows of a budget and a factor for each selector.
    Raises ValueError for a knob that makes no sense, and for a limit that is out of reach.
    """

    Point = Point
    FREE_KNOBS = ("factors",)                             # no weight depends on them
    uses_teacher = True
    forced: Orders | None = None            # see `vitlab.Forced`

    def __init__(self, vit: VisionTransformer, budget: float | None = None, keep: Sequence[float] | None = None,
                 latency: float | None = None, after: Sequence[int] | None = None, *, package: str = "normalised",
                 merge: bool | None = None, persist: bool = False, heads: int | None = None, branch: bool = True,
                 shared: bool = True, width: str = "code", layer: str = "mlp", activation: str = "gelu", score: str = "selector",
                 ratio: str = "batch", decisions: str = "drawn", lambda_kl: float = 0.5, lambda_distill: float = 0.5,
                 lambda_ratio: float = 2.0, factors: Sequence[Sequence[float]] | None = None):
        super().__init__()
        check_backbone(vit, staged=True, pooled=True)
        self.vit, self.prefix, self.persist = vit, prefix_tokens(vit), flag(persist, "persist")
        self.after, staged = places(vit, after), len(stages(vit)) > 1
        self.package, self.score, self.ratio = Package(package, staged if merge is None else merge), score, ratio
        self.decisions = decisions
        self.check_knobs(staged)
        self.lambdas = {name: real(value, f"lambda_{name}") for name, value in (
            ("kl", lambda_kl), ("distill", lambda_distill), ("ratio", lambda_ratio))}
        design = Design(heads, flag(branch, "branch"), flag(shared, "shared"), width, layer, activation)
        there = blocks(vit)
        self.selectors = nn.ModuleList([Selector(there[block].attn.qkv.in_features, there[block].attn.num_heads, design)
                                        for block in (self.after if score == "selector" else ())])
        packages = 0 if package == "none" else 1 if self.package.merge else len(self.after)
        self.work = multiply_adds(vit, self.after, [self.per_token(block) for block in self.after], packages, self.persist)
        self.keep = asked_for(self.work, budget, keep, latency, lambda: clock(
            vit, self.after, [self.scorer(block) for block in self.after], packages, self.persist))
        self.budget = self.work(self.keep)
        self.solved: dict[float, tuple[float, ...]] = {}                   # budget -> shares: a graph cannot search for them
        for selector, share, before in zip(self.selectors, self.keep, self.work.coming(self.keep)):
            selector.start_at(share / before)
        self.settled = {} if latency is None else {"latency": None, "keep": self.keep}     # another device is another latency
        self.set_factors(factors)

    @property
    def adaptive(self) -> bool:
        """Once it is calibrated an image keeps as many tokens as deserve it."""
        return bool(self.factors)

    def check_knobs(self, staged: bool) -> None:
        """Fail at the door: one sentence for each knob that makes no sense. staged: are there several stages, as in a PiT?"""
        self.package.check()
        if self.persist and not staged:
            raise ValueError(f"persist must be False, or True where a PiT pools its patches, not {self.persist!r}")
        for name, value, choices in (("score", self.score, ("selector", "random")), ("ratio", self.ratio, ("batch", "image")),
                                     ("decisions", self.decisions, ("drawn", "best"))):
            one_of(value, name, choices)

    def keep_at(self, budget: float) -> tuple[float, ...]:
        """The shares to keep for another budget: those of this net, all to one power; 1 where nothing is dropped."""
        if abs(budget / self.budget - 1) <= SAME:
            return self.keep
        if budget not in self.solved:
            self.solved[budget] = solve(self.work, budget, self.shape)
        return self.solved[budget]

    @property
    def shape(self) -> tuple[float, ...]:
        """The shares of which those for another budget are powers: this net's; of a net that drops nothing k, k², k³."""
        return self.keep if min(self.keep) < 1 else geometric(self.work)

    @property
    def offered(self) -> tuple[float, ...]:
        """Budgets between the least cost and the dense one, in GFLOPs, ascending: the net's own and some others."""
        dense, floor = self.work.dense, self.work.floor(self.shape)
        return tuple(sorted({floor + step * (dense - floor) for step in STEPS} | {self.budget}))

    def set_factors(self, table: Sequence[Sequence[float]] | None) -> None:
        """How tokens are chosen: rows of a budget in GFLOPs and a factor for each selector, as `calibrate` finds them.

        None: every image keeps the same number of tokens. The points are the budgets of the rows, or some, and the dense net.
        """
        rows = rows_of_numbers(() if table is None else table, "factors must be rows of numbers")
        if any(len(row) != len(self.after) + 1 for row in rows):
            raise ValueError(f"factors must be rows of a budget and {len(self.after)} factors, not {rows}")
        self.factors = Calibrated(rows, "budget", "GFLOPs")
        dense = self.work.dense
        budgets = self.factors.settings or self.offered
        self.points = tuple(Point(b) for b in budgets if b < (1 - SAME) * dense) + (Point(dense),)
        if hasattr(self, "made"):
            self.made["knobs"] = {**self.made["knobs"], "factors": self.factors.rows or None}

    def init_from(self, vit: VisionTransformer) -> None:
        """Start from the weights of a plain backbone, such as the dense teacher's; ValueError where they do not fit."""
        start_from(self.vit, vit)

    def settle(self) -> None:
        """From now on training decides as test time will: what a training ends with (decisions="best")."""
        self.decisions = "best"
        if hasattr(self, "made"):
            self.made["knobs"] = {**self.made["knobs"], "decisions": "best"}

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the DeiT recipe does not decay."""
        return {"vit.pos_embed", "vit.cls_token"}

    def check(self, point: Point | None) -> Point:
        """The point with its budget in GFLOPs; ValueError for one that is out of reach."""
        point = own_point(point, self)
        if not isinstance(point.fixed, bool):
            raise ValueError(f"fixed must be True or False, not {point.fixed!r}")
        budget = self.budget if point.budget is None else real(point.budget, "budget")
        keep = self.keep_at(budget)
        if self.adaptive and not point.fixed and min(keep) < 1:
            self.factors.at(budget, SAME)
        return Point(budget, point.fixed)

    def rule(self, point: Point) -> dict[int, int] | dict[int, float]:
        """What decides before which block, 0-based: how many patches stay, or the factor of their scores."""
        keep = self.keep_at(point.budget)
        if self.adaptive and not point.fixed:
            if min(keep) == 1:
                return dict.fromkeys(self.after, inf) if self.forced else {}
            return dict(zip(self.after, self.factors.at(point.budget, SAME), strict=True))
        everybody = dict.fromkeys(self.after, self.work.patches) if self.forced else {}
        return everybody | self.work.counts(keep)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]; dropped tokens are really gone, and no image is padded."""
        point = self.check(point)
        check_trace(trace)
        select = by_score if self.adaptive and not point.fixed else by_count
        return self.answer(self.tokens(images, select, self.rule(point), trace=trace))

    def tokens(self, images: Tensor, select: Select, rule: Mapping[int, float], stop: int | None = None,
               trace: Trace | None = None) -> Tokens:
        """The tokens that come to the block `stop`, 0-based, or to the head (None).

        rule: before which block something is dropped, and what decides it, in the words of `select`.
        """
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        t = self.first(images)
        for stage in stages(self.vit):                                     # one, or the several of a PiT
            t = enter(t, stage, self.prefix, self.persist)
            for layer, block in stage.blocks.items():
                if layer == stop:
                    return t
                if layer in rule:
                    t = select(t, self.scorer(layer), rule[layer], self.prefix, self.package)
                q, k, v = qkv(block, t.x)
                x = t.x + t.rows.attention(block, q, k, v)
                if trace is not None:
                    self.note(trace, layer, stage.side, t, q, k)
                t = t._replace(x=x + mlp(block, x), folded=None)
        return t

    def first(self, images: Tensor) -> Tokens:
        """The tokens that come to the first block."""
        x = embed(self.vit, images)                                        # [B, P + N, D]
        ids = torch.arange(-self.prefix, x.shape[1] - self.prefix, device=x.device)
        left = x[:, self.prefix:] if self.work.pools else None
        return Tokens(x, ids.where(ids >= 0, PREFIX).expand(x.shape[0], -1), Even(), left=left, patches=grid(self.vit) ** 2,
                      forced=self.forced)

    def asked(self, images: Tensor, factors: Sequence[float] = (), by_head: bool = False) -> tuple[Tokens, Tensor]:
        """The tokens that come to the selector after those of `factors` and its keep scores, shaped as their ids.

        by_head: those of each head, [..., H]. Prefix tokens, which nobody asks about, have 1.
        """
        if len(factors) >= len(self.after):
            raise ValueError(f"there are {len(self.after)} selectors, so {len(factors)} factors leave none to ask")
        block = self.after[len(factors)]
        score = self.scorer(block)
        t = self.tokens(images, by_score, dict(zip(self.after, factors)), block)
        return t, asked(t, (lambda x, others: score.by_head(x, others)[0]) if by_head else score, self.prefix)

    def scorer(self, block: int) -> Score:
        """What scores the tokens before a block."""
        return uniform if self.score == "random" else self.selectors[self.after.index(block)]

    def note(self, trace: Trace, layer: int, side: int, t: Tokens, q: Tensor, k: Tensor) -> None:
        """Write one block, on a grid of side x side patches, into a trace."""
        folded = None if t.folded is None else t.folded(side * side)
        judged = None if t.folded is None else t.judged("its selector's score" if self.selectors else "a random score")
        told = {"extra": 0, "folded": folded, "pooled": pooled(self.vit), "judged": judged}
        if isinstance(t.rows, Even):
            trace.add(layer, (side, side), t.ids, q, k, **told)
            return
        asking, keys = (t.rows.padded(part.transpose(1, 2))[0].transpose(1, 2) for part in (q, k))
        ids, there = t.rows.padded(t.ids, PACKAGE)
        trace.add(layer, (side, side), ids, asking, keys, mask=there[:, None, None], **told)

    def answer(self, t: Tokens) -> Tensor:
        """Logits [B, K] of the tokens after the last block: of the class token and, in an LV-ViT, of the patches that stayed.

        Without class token (A.6), of the mean of all that is left, in which a package counts as one patch.
        """
        if isinstance(t.rows, Packed) and not hasattr(self.vit, "aux_head") and not pooled(self.vit):
            return head(self.vit, t.x[0, t.rows.first][:, None])           # nobody reads the others
        x, ids, there = t.padded()
        return head(self.vit, x, there if pooled(self.vit) else ids != PACKAGE)

    def token_macs(self, trace: Trace) -> Tensor:
        """Multiply-adds [B] of what depends on how many tokens there were: blocks, selectors, poolings, a head for patches."""
        total, others, there = 0, self.prefix, blocks(self.vit)
        for part in trace.layers:
            tokens = (part.attended.sum(1) + part.extra).double()
            here = (tokens > 0).double()                                   # 0: an image that is elsewhere in a cascade
            total = total + macs(there[part.layer], tokens)
            if part.layer in self.work.pools:
                total = total + 1e9 * self.work.pools[part.layer].cost(others) * here
            if part.folded is not None:
                came = (part.attended | (part.folded > 0)).sum(1) + others - self.prefix
                total = total + self.per_token(part.layer) * came * here
            if part.layer == len(there) - 1:
                total = total + 1e9 * self.work.per_patch * (tokens - self.prefix) * here
            others = part.extra.double()
        return total

    def per_token(self, block: int) -> int:
        """Multiply-adds of the selector before a block, for one token."""
        return 0 if self.score == "random" else self.selectors[self.after.index(block)].macs()

    def masked(self, images: Tensor, decide: Decide | None = None) -> Masked:
        """The pass of training, and of the official evaluation: nothing is removed, dropped tokens are only not attended to.

        decide: (step, scores [B, N], who is still there [B, N]) -> who stays, 0 or 1 (None: drawn, Eq. 7).
        """
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        decide, kept = decide or self.draw, []
        begun = self.first(images)
        x = begun.x
        t = Veiled(x, x.new_ones(len(x), x.shape[1] - self.prefix), x.new_ones(len(x), 0), begun.left)
        for stage in stages(self.vit):
            t = enter_veiled(t, stage, self.prefix, self.persist)
            bias = self.gates(t) if kept else None
            for layer, block in stage.blocks.items():
                if layer in self.after:
                    t = by_mask(t, self.scorer(layer), partial(decide, self.after.index(layer)), self.prefix, self.package)
                    kept.append(t.alive)
                    bias = self.gates(t)
                q, k, v = qkv(block, t.x)
                x = t.x + attention(block, q, k, v, bias)
                t = t._replace(x=x + mlp(block, x))
        patch = F.pad(t.alive > 0, (self.prefix, t.filled.shape[1]))
        read = torch.cat([patch[:, :-t.filled.shape[1] or None], t.filled > 0], 1) if pooled(self.vit) else patch
        tokens = self.vit.norm(t.x)[:, self.prefix:self.prefix + t.alive.shape[1]]
        return Masked(head(self.vit, t.x, read), tokens, kept, t.alive)

    def gates(self, t: Veiled) -> Tensor:
        """What attention adds to its logits, [B, 1, T, T], so that nobody attends to what is not there."""
        return policy_bias(torch.cat([t.alive.new_ones(len(t.x), self.prefix), t.alive, t.filled], 1))

    def draw(self, step: int, score: Tensor, alive: Tensor) -> Tensor:
        """Who stays in training, 0 or 1: [B, N]; of random scores, as many as are to."""
        if self.score == "selector":
            return gumbel(score) if self.decisions == "drawn" else certain(best(score.detach(), alive, 1.0), score)
        before = alive.mean() if self.persist else self.work.coming(self.keep)[step]    # a pooling may leave more than planned
        return (score >= 1 - self.keep[step] / before).to(score.dtype)

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Eq. 12. The dense net as a teacher adds its logits and its tokens to what is learned from."""
        said = self.masked(images)
        terms = {"ce": cross_entropy(said.logits, labels),
                 "ratio": self.lambdas["ratio"] * off_target(said.kept, self.keep, self.ratio)}
        if teacher is not None:
            with torch.no_grad():
                lesson = teacher.features(images)
                logits, tokens = head(teacher.vit, lesson), teacher.vit.norm(lesson)[:, self.prefix:]
            terms["kl"] = self.lambdas["kl"] * kl(said.logits, logits)
            terms["distill"] = self.lambdas["distill"] * apart(said.tokens, tokens, said.alive)
        yield terms

    def check_teacher(self, teacher: nn.Module) -> None:
        """ValueError, in one sentence, unless a teacher has tokens that these can be compared with."""
        if not isinstance(teacher, Dense):
            raise ValueError(f"SPViT learns from a dense net, not from a {type(teacher).__name__}; give the one it starts from, "
                             'made with vitlab.create("dense", ...)')
        there, here = ((stages(vit)[-1].side, prefix_tokens(vit), vit.embed_dim) for vit in (teacher.vit, self.vit))
        if there != here:
            raise ValueError(f"the teacher has {there[0]}x{there[0]} patches of width {there[2]}, this net {here[0]}x{here[0]} "
                             f"of {here[2]}, so their tokens cannot be compared; give a teacher on the same backbone and size")


def uniform(x: Tensor, others: Others) -> Tensor:
    """For comparison: scores that know nothing, [B, n] of tokens [B, n, D]."""
    return torch.rand(x.shape[:-1], device=x.device)


RECIPE = Recipe(epochs=60, batch=256, lr=5e-4, lr_backbone=5e-6, weight_decay=0.05, betas=(0.9, 0.999), warmup=0.0, min_lr=1e-6,
                mixup=0.8, cutmix=1.0, label_smoothing=0.1)     # Sec. 5; the dense net as `init_from` and as teacher
