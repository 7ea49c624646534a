"""Which tokens a block works on, and how it does without touching the others.

A decision is bool [B, T], another number in each image, or positions [B, n], the same number in each. Either way the tokens
taken go through the block by themselves, and come back to their places among those that stayed behind.
Letters: B images · T tokens of an image · n taken, the same number in each · D width.
"""
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.forced import Orders
from vitlab.packed import Even, Packed
from vitlab.tokens import put, take
from vitlab.trace import Judged


class Some(NamedTuple):
    """Some of the tokens [B, T, D]: positions [B, n], or [1, sum of n] counted through all images."""

    index: Tensor
    rows: Even | Packed
    judged: Callable[[], Judged] | None = None      # by what they were chosen

    def taken(self, x: Tensor) -> Tensor:
        """[B, T, ...] -> [B, n, ...], or packed [1, sum of n, ...]."""
        return take(x, self.index) if isinstance(self.rows, Even) else x.flatten(0, 1)[self.index]

    def back(self, x: Tensor, y: Tensor) -> Tensor:
        """A copy of x [B, T, ...] with y, shaped as `taken` gives it, in the places it was taken from."""
        if isinstance(self.rows, Even):
            return put(x, self.index, y)
        return x.flatten(0, 1).index_copy(0, self.index[0], y[0]).unflatten(0, x.shape[:2])


Rule = Callable[[int, Tensor, Tensor, int], Some]
# gate, log-odds [B, n], who may take part [B, n], how many tokens before these are not asked -> who takes part


def some(takes_part: Tensor, judged: Callable[[], Judged] | None = None) -> Some:
    """The tokens that take part, bool [B, T], in one row; none of an image is allowed."""
    lengths = takes_part.sum(1).tolist()                                   # waits for the device, once a gate
    return Some(takes_part.flatten().nonzero_static(size=sum(lengths)).mT, Packed(lengths, takes_part.device), judged)


def best(odds: Tensor, count: int, prefix: int, side: int = 0, forced: Orders | None = None) -> Some:
    """The prefix tokens and, of those asked, the `count` that most want to: their number is known before, so it exports.

    side, forced: patches per side, and what a person says of them.
    """
    first = torch.arange(prefix, device=odds.device).expand(odds.shape[0], -1)
    top = highest(odds, count) if forced is None else forced.pick(highest, odds, count, patches(odds, side), side)
    return Some(torch.cat([first, prefix + top], 1), Even(), partial(said, odds, side, stay=count))


def above(thresholds: Sequence[float], side: int = 0, forced: Orders | None = None) -> Rule:
    """Who takes part where log-odds above a threshold decide; who is not asked, always. side, forced: as above."""
    def rule(gate: int, odds: Tensor, may: Tensor, before: int) -> Some:
        stays = (odds > thresholds[gate]) & may
        stays = stays if forced is None else forced.over(stays, patches(odds, side), side)
        return some(F.pad(stays, (before, 0), value=True), partial(said, odds, side, may, above=thresholds[gate]))
    return rule


def said(odds: Tensor, side: int, may: Tensor | None = None, **cut: float) -> Judged:
    """How log-odds [B, n] decided, of who may take part [B, n] (None: who has any above -inf)."""
    asked = odds > float("-inf") if may is None else may
    return Judged("its gate's log-odds", odds.where(asked, float("nan")), patches(odds, side), **cut)


def highest(odds: Tensor, count: int) -> Tensor:
    """Positions of the `count` that most want to, [B, n] -> [B, count]."""
    return odds.topk(count).indices


def patches(odds: Tensor, side: int) -> Tensor:
    """Which patch each of the tokens asked is, [B, n]; negative for prefix tokens, which stand first."""
    return torch.arange(side ** 2 - odds.shape[1], side ** 2, device=odds.device).expand_as(odds)
