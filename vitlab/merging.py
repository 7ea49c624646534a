"""Merging tokens that are alike: ToMe's bipartite soft matching (Bolya et al., ICLR 2023, Sec. 3), and its average by size.

Patches take turns in two sets, by their places; each of the first set has a partner in the second, the one whose key is most
like its own, and of these pairs the most alike become one token each. Prefix tokens are in no set, so they are never merged.
Letters: B images · T tokens, P of them prefix tokens, which stand first · R tokens that go · d head width · D width. `size`
[B, T, 1] is how many patches each token stands for.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.tokens import add, take


@dataclass(frozen=True)
class Match:
    """Who is merged into whom, by places within the two sets."""

    going: Tensor               # [B, R] of the first set, the most alike first
    staying: Tensor             # [B, A - R] of the first set, in their order
    to: Tensor                  # [B, R] of the second set: into whom each of `going` is merged
    prefix: int                 # P
    likeness: Tensor            # [B, A] of each of the first set: the cosine of its key and its partner's
    partner: Tensor             # [B, A] of the second set


def most(tokens: int, prefix: int = 1) -> int:
    """How many of T tokens can go at once: half of the patches."""
    return (tokens - prefix) // 2


def sets(x: Tensor, prefix: int) -> tuple[Tensor, Tensor]:
    """The two sets of tokens [B, T, ...]: those at even places [B, A, ...] and at odd ones, the prefix left out."""
    odd = prefix % 2
    return x[:, prefix + odd::2], x[:, prefix + 1 - odd::2]


def match(k: Tensor, gone: int, prefix: int = 1) -> Match:
    """The `gone` most alike pairs by cosine of the keys [B, H, T, d], mean over heads. No gradient flows through the choice."""
    first, second = sets(F.normalize(k.detach().mean(1), dim=-1), prefix)
    nearest, partner = (first @ second.mT).max(-1)                         # [B, A]
    order = nearest.argsort(1, descending=True)
    going, staying = order[:, :gone], order[:, gone:].sort(1).values
    return Match(going, staying, partner.gather(1, going), prefix, nearest, partner)


def merge(x: Tensor, size: Tensor | None, who: Match) -> tuple[Tensor, Tensor]:
    """Tokens [B, T, D] -> [B, T - R, D], who goes averaged into whom by size, and their sizes; None: one patch each.

    Order: prefix tokens, those of the first set that stay, the second set.
    """
    size = torch.ones_like(x[..., :1]) if size is None else size
    (_, second), (_, weight) = sets(x, who.prefix), sets(size, who.prefix)
    begin = who.prefix + who.prefix % 2                                    # where the first set does
    going, staying = begin + 2 * who.going, begin + 2 * who.staying
    weights, lot = add(weight, who.to, take(size, going)), add(second * weight, who.to, take(x, going) * take(size, going))
    return (torch.cat([x[:, :who.prefix], take(x, staying), lot / weights], 1),
            torch.cat([size[:, :who.prefix], take(size, staying), weights], 1))


def merged(x: Tensor, size: Tensor, k: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Tokens [B, T, D] merged to `count`, the class token being the first and alone, and their sizes [B, count, 1].

    At most half of the patches can go at once; ValueError for more.
    """
    gone = x.shape[1] - count
    if not 0 <= gone <= most(x.shape[1]):
        raise ValueError(f"of {x.shape[1]} tokens at most {most(x.shape[1])} can be merged at once, not {gone}")
    return merge(x, size, match(k, gone)) if gone else (x, size)


# For looking at: which patches are in which token


def followed(place: Tensor, who: Match, tokens: int) -> Tensor:
    """Where each patch is after a merge: places [B, N] among T = `tokens` tokens -> places among T - R."""
    batch, prefix, stay = len(place), who.prefix, who.staying.shape[1]
    where = torch.arange(tokens, device=place.device).repeat(batch, 1)     # [B, T]; prefix tokens stay where they are
    first, second = sets(where, prefix)                                    # views
    second.copy_(prefix + stay + torch.arange(second.shape[1], device=place.device).expand_as(second))
    first.scatter_(1, who.staying, prefix + torch.arange(stay, device=place.device).expand_as(who.staying))
    first.scatter_(1, who.going, prefix + stay + who.to)
    return where.gather(1, place)


def standing(place: Tensor, tokens: int, prefix: int = 1) -> Tensor:
    """Which patch stands for each token, [B, T - P]: the first of those [B, N] that are in it; each token has one."""
    patch = torch.arange(place.shape[1], device=place.device).expand_as(place)
    nobody = place.new_full((len(place), tokens - prefix), place.shape[1])
    return nobody.scatter_reduce(1, place - prefix, patch, "amin")
