"""Attention with the relations of the stage before (Eq. 9), and the logits that are handed on (Eq. 8)."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitlab.backbones import counting
from vitlab.block import attend, attention, attention_logits, project
from vitlab.pieces import CACHE, at_once, watched

Bias = Callable[..., Tensor]        # of some images: which rows (default all) -> [b, H, n, T]


class Handed:
    """The logits that a stage hands on, block after block: [b, H * blocks, T, T]."""

    def __init__(self, blocks: int):
        self.blocks, self.parts, self.whole = blocks, [], None

    def add(self, logits: Tensor) -> None:
        """Those of one block, [b, H, T, T]."""
        self.parts.append(logits)

    def place(self, q: Tensor) -> Tensor:
        """Where those of one block are to be written, [b, H, T, T]: nothing is copied at the end."""
        b, heads, tokens, _ = q.shape
        if self.whole is None:
            self.whole = q.new_empty(b, self.blocks * heads, tokens, tokens)
        self.add(self.whole[:, heads * len(self.parts):][:, :heads])
        return self.parts[-1]

    def all(self) -> Tensor | None:
        """Of all blocks; None where none hands on."""
        return self.whole if self.whole is not None or not self.parts else torch.cat(self.parts, 1)


def related(block: nn.Module, q: Tensor, k: Tensor, v: Tensor, bias: Bias | None = None, handed: Handed | None = None) -> Tensor:
    """The residual update of attention, [b, n, D], of queries [b, H, n, d], keys and values [b, H, T, d].

    bias: what relations add to the logits (see `Relations.bias`); None: nothing.
    handed: who collects the logits with what was added to them; None where nobody wants them.
    """
    plain = bias is None and handed is None or q.shape[2] < k.shape[2]
    if plain or at_once(q) or counting() or block.training or watched(block.attn.attn_drop):
        return by_the_book(block, q, k, v, bias, handed)
    return project(block, by_image(q, k, v, bias, None if handed is None else handed.place(q)))


def by_the_book(block: nn.Module, q: Tensor, k: Tensor, v: Tensor, bias: Bias | None, handed: Handed | None) -> Tensor:
    """As the equations read, for the whole batch at once."""
    if handed is None:
        return attention(block, q, k, v, None if bias is None else bias())
    logits = attention_logits(q, k) if bias is None else attention_logits(q, k) + bias()
    handed.add(logits)
    return attend(block, logits.softmax(-1), v)


def by_image(q: Tensor, k: Tensor, v: Tensor, bias: Bias | None, place: Tensor | None) -> Tensor:
    """The same before the projection, [b, H, T, d], by so few images at a time that their logits stay in the cache.

    place: [b, H, T, T], where the logits are to be left, or None.
    """
    b, heads, tokens, width = q.shape
    few = max(min(2 * CACHE // (4 * heads * tokens ** 2), b), 1)
    out, weights = v.new_empty(b, heads, tokens, width), q.new_empty(few * heads, tokens, tokens)
    rough = torch.empty_like(weights)
    for first in range(0, b, few):
        part = slice(first, first + few)
        queries, keys, values = (x[part].flatten(0, 1) for x in (q, k, v))
        n = len(queries)
        logits = place[first] if place is not None and few == 1 else rough[:n]
        if bias is None:
            torch.bmm(queries * width ** -0.5, keys.mT, out=logits)
        else:
            torch.baddbmm(bias(part).flatten(0, 1).to(q.dtype), queries, keys.mT, alpha=width ** -0.5, out=logits)
        if place is not None and few > 1:
            place[part] = logits.view(-1, heads, tokens, tokens)
        torch.softmax(logits, -1, out=weights[:n])
        torch.bmm(weights[:n], values, out=out[part].flatten(0, 1))
    return out
