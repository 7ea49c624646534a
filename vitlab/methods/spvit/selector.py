"""SPViT's attention-based multi-head token selector (Sec. 4.2): how much each token deserves to be kept, head by head.

Every attention head looks at its own d channels of a token: a local feature f_local of the token itself, a global one f_global,
the mean over all tokens that are still there, and an MLP over both says t_i, keep or prune. A branch beside it weighs the heads.
"""
from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vitlab.numbers import whole
from vitlab.words import one_of

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "hardswish": nn.Hardswish}
LAYERS = ("mlp", "conv1", "conv3")
WIDTHS = ("code", "paper")
LEAST = 1e-6                                            # of a probability, inside a logarithm and as a weight
HALVES = torch.tensor([0.5, -0.5])                      # of a margin, for keep and prune


@dataclass(frozen=True)
class Design:
    """How a selector is built.

    heads: None for the backbone's, 1 for a selector of the whole width (Table 5).  branch: heads are weighed, not averaged.
    shared: all heads read with one MLP, as the official code does; else each with its own.
    width: "code", d channels of which half become local and half global, or "paper" (Eqs. 1-2), d / 2 that become both.
    layer, activation: Table 10; "conv1" is a convolution of kernel 1, a linear layer with BatchNorm; "conv3" reads (Eqs. 1-2) by
    one of kernel 3, over each patch and the ones before and after it, row by row, where those are still there.
    """

    heads: int | None = None
    branch: bool = True
    shared: bool = True
    width: str = "code"
    layer: str = "mlp"
    activation: str = "gelu"

    def check(self, width: int, heads: int) -> int:
        """The number of heads on a backbone of this width; ValueError, in one sentence, for a design that does not fit."""
        for name, value, choices in (("width", self.width, WIDTHS), ("layer", self.layer, LAYERS),
                                     ("activation", self.activation, ACTIVATIONS)):
            one_of(value, f"{name} of a selector", choices)
        count = heads if self.heads is None else whole(self.heads, "heads")
        if width % count or width // count % 4:
            fit = [n for n in range(1, width // 4 + 1) if width % n == 0 and width // n % 4 == 0]
            raise ValueError(f"a selector of {count} heads does not fit a width of {width}: each needs a multiple of 4 channels; "
                             f"choose heads from {', '.join(map(str, fit))}")
        return count


class Others(NamedTuple):
    """What a selector may know of the tokens around one, those that are still there."""

    mean: Callable[[Tensor], Tensor]                        # [B, n, ...] -> broadcast back to it (see `vitlab.packed`)
    beside: Callable[[Tensor], tuple[Tensor, Tensor]]       # -> the patch before and the one after, zeros where there is none


class Reader(nn.Module):
    """One head's MLP, or all heads' where they share it: [..., d] -> local and global features, then keep and prune."""

    def __init__(self, d: int, design: Design):
        super().__init__()
        act, half = ACTIVATIONS[design.activation], d // 2
        dense = linear if design.layer == "mlp" else convolution
        self.split, self.beside = design.width == "code", design.layer == "conv3"
        self.read = nn.Sequential(nn.LayerNorm(d), *dense(3 * d if self.beside else d, d if self.split else half), act())
        self.say = nn.Sequential(*dense(d, half), act(), *dense(half, d // 4), act(), nn.Linear(d // 4, 2))

    def forward(self, x: Tensor, others: Others) -> Tensor:
        """Probabilities [..., 2] of keeping and pruning, Eqs. 1-3, of tokens [B, n, ..., d]."""
        f = self.read[0](x)
        if self.beside:
            before, after = others.beside(f)
            f = torch.cat([before, f, after], -1)
        f = self.read[1:](f)
        local, other = f.chunk(2, -1) if self.split else (f, f)
        return self.say(torch.cat([local, others.mean(other).expand_as(local)], -1)).float().softmax(-1)

    def macs(self) -> int:
        """Multiply-adds for one token of one head."""
        return sum(part.weight.numel() for part in self.modules() if isinstance(part, nn.Linear))


class Selector(nn.Module):
    """Tokens [B, n, D], and what may be known of the others -> the probability of keeping each [B, n] (Eq. 6)."""

    def __init__(self, width: int, heads: int, design: Design = Design()):
        super().__init__()
        self.heads = design.check(width, heads)
        d, hidden = width // self.heads, max(self.heads // 2, 1)
        self.readers = nn.ModuleList([Reader(d, design) for _ in range(1 if design.shared else self.heads)])
        self.branch = nn.Sequential(nn.Linear(self.heads, hidden), nn.GELU(), nn.Linear(hidden, self.heads), nn.Sigmoid()) \
            if design.branch and self.heads > 1 else None

    def forward(self, x: Tensor, others: Others) -> Tensor:
        """The merged keep probability T, float32 [B, n]."""
        t, a = self.by_head(x, others)
        return (t * a).sum(-1) / a.sum(-1)

    def by_head(self, x: Tensor, others: Others) -> tuple[Tensor, Tensor]:
        """Every head's keep probability t and its weight a (Eq. 5), both float32 [B, n, H]."""
        parts = x.unflatten(-1, (self.heads, -1))                              # [B, n, H, d]
        if len(self.readers) == 1:
            t = self.readers[0](parts, others)[..., 0]
        else:
            t = torch.stack([read(part, others)[..., 0] for read, part in zip(self.readers, parts.unbind(-2), strict=True)], -1)
        a = torch.ones_like(t) if self.branch is None else self.branch(parts.mean(-1)).float()     # Eq. 4 divides by d
        return t, a

    @torch.no_grad()
    def start_at(self, share: float) -> None:
        """Begin with keep probabilities around a share in (0, 1), by the bias of keep against prune."""
        for read in self.readers:
            read.say[-1].bias.copy_(margin(share) * HALVES)

    @torch.no_grad()
    def move(self, share: float, other: float) -> None:
        """A selector that keeps about a share is to keep about another one; what it has learned of the tokens stays."""
        for read in self.readers:
            read.say[-1].bias.add_((margin(other) - margin(share)) * HALVES.to(read.say[-1].bias))

    def macs(self) -> int:
        """Multiply-adds for one token; means, norms and the merging are not counted."""
        own = 0 if self.branch is None else sum(p.weight.numel() for p in self.branch if isinstance(p, nn.Linear))
        return self.heads * self.readers[0].macs() + own


def margin(share: float) -> float:
    """By how much the logit of keeping exceeds that of pruning where a share is kept."""
    share = min(max(share, 0.01), 0.99)
    return log(share / (1 - share))


def linear(wide: int, narrow: int) -> list[nn.Module]:
    """A linear layer, as a list of one."""
    return [nn.Linear(wide, narrow)]


def convolution(wide: int, narrow: int) -> list[nn.Module]:
    """A convolution over tokens, which is a linear layer of what its kernel covers, and BatchNorm (Table 10)."""
    return [nn.Linear(wide, narrow, bias=False), ChannelNorm(narrow)]


class ChannelNorm(nn.BatchNorm1d):
    """BatchNorm over all axes but the last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)
