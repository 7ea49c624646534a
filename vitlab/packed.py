"""Batches whose images keep different numbers of tokens, without padding: the tokens of all images stand in one row.

`[1, T, D]` holds image after image. Norms, projections and MLPs see tokens, not images, so `block.qkv` and `block.mlp` run on
it as they are, with one large matrix product each. Only what mixes the tokens of an image must know where one image ends and
the next begins: attention, and means. `Packed` knows. `Even` is its twin for images that all keep the same number, a row each
([B, n, D]): what a method writes over the one runs on the other.
Letters: B images · n tokens of an image · T tokens of all images · H heads · d head width · D width.
"""
from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.block import attention, project


class Even:
    """Every image a row: tokens are [B, n, D]."""

    def attention(self, block: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The residual update of attention, [B, n, D], of q, k, v [B, H, n, d]."""
        return attention(block, q, k, v)

    def mean(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean over each image's tokens, to be broadcast back to them: [B, n, ...] -> [B, 1, ...]; weight [B, n]."""
        if weight is None:
            return x.mean(1, keepdim=True)
        weight = weight.reshape(*weight.shape, *[1] * (x.dim() - 2))
        return (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


class Packed:
    """All images in one row: tokens are [1, T, D], image after image; `lengths` says how many each has, 0 allowed."""

    def __init__(self, lengths: Sequence[int], device: torch.device | str = "cpu"):
        self.lengths, self.device = tuple(lengths), torch.device(device)

    @cached_property
    def image(self) -> Tensor:
        """Which image each token belongs to: [T]."""
        counts = torch.tensor(self.lengths, device=self.device)
        return torch.arange(len(self.lengths), device=self.device).repeat_interleave(counts, output_size=sum(self.lengths))

    @cached_property
    def offsets(self) -> Tensor:
        """Where each image begins, and the end of the last: int32 [B + 1]."""
        return F.pad(torch.tensor(self.lengths, device=self.device).cumsum(0), (1, 0)).int()

    @cached_property
    def place(self) -> Tensor:
        """Where each token stands in its own image: [T]."""
        return torch.arange(len(self.image), device=self.device) - self.first[self.image]

    @property
    def first(self) -> Tensor:
        """The position of each image's first token: [B]."""
        return self.offsets[:-1].long()

    def attention(self, block: nn.Module, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The residual update of attention within each image, [1, T, D], of q, k, v [1, H, T, d]."""
        fused = q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and q.dtype == v.dtype
        drop = block.attn.attn_drop.p if block.training else 0.0
        if fused and not drop:
            return project(block, varlen(q, k, v, self))
        if q.is_cuda:
            return project(block, side_by_side(q, k, v, self, drop))
        return project(block, one_by_one(q, k, v, self.lengths, drop))

    def sum(self, x: Tensor) -> Tensor:
        """The sum over each image's tokens: [1, T, ...] -> [B, ...]."""
        if x.is_cuda:                                       # thousands of tokens would queue for one sum, in any order
            return self.padded(x)[0].sum(1)
        return x.new_zeros(len(self.lengths), *x.shape[2:]).index_add(0, self.image, x[0])

    def mean(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean over each image's tokens, spread back to them: [1, T, ...] -> [1, T, ...]; weight [1, T]."""
        return self.means(x, weight)[None, self.image]

    def means(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean over each image's tokens: [1, T, ...] -> [B, ...]; weight [1, T]. NaN for an image without any."""
        weight = x.new_ones(x.shape[:2]) if weight is None else weight
        weight = weight.reshape(*weight.shape, *[1] * (x.dim() - 2))
        return self.sum(x * weight) / self.sum(weight)

    def rank(self, x: Tensor) -> Tensor:
        """The place of each token's value within its image, 0 for the largest: [1, T] -> [1, T]."""
        falling = x[0].argsort(descending=True, stable=True)
        order = falling[self.image[falling].argsort(stable=True)]          # image after image, each falling
        return torch.empty_like(order).index_copy(0, order, self.place)[None]

    def padded(self, x: Tensor, value: float = 0) -> tuple[Tensor, Tensor]:
        """Every image as long as the longest, filled up: [1, T, ...] -> [B, n, ...], and valid [B, n] bool."""
        longest = max(self.lengths, default=0)
        out = x.new_full((len(self.lengths), longest, *x.shape[2:]), value)
        out[self.image, self.place] = x[0]
        valid = torch.arange(longest, device=self.device) < self.offsets.diff()[:, None]
        return out, valid


def one_by_one(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], drop: float = 0.0) -> Tensor:
    """Attention image by image, the fastest on a CPU (0.51 of the dense time at 58 % of the tokens): [1, H, T, d]."""
    parts = zip(*(t.split(list(lengths), 2) for t in (q, k, v)), strict=True)
    mixed = [F.scaled_dot_product_attention(*part, dropout_p=drop) for part in parts if part[0].shape[2]]
    if not mixed:
        return v                                                           # nobody has any
    return torch.cat([part.transpose(1, 2) for part in mixed], 1).transpose(1, 2)      # as the kernel leaves them


def side_by_side(q: Tensor, k: Tensor, v: Tensor, rows: Packed, drop: float = 0.0) -> Tensor:
    """The same with all images filled up to the longest, for a GPU in full precision, which 256 small launches would keep idle.

    [1, H, T, d] -> [1, H, T, d].
    """
    (q, valid), (k, _), (v, _) = (rows.padded(t.transpose(1, 2)) for t in (q, k, v))         # [B, n, H, d]
    mixed = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), attn_mask=valid[:, None, None],
                                           dropout_p=drop)
    return mixed.transpose(1, 2)[rows.image, rows.place].transpose(0, 1)[None]


def varlen(q: Tensor, k: Tensor, v: Tensor, rows: Packed) -> Tensor:
    """The same by one kernel for all images; torch has it for half precision on CUDA only. [1, H, T, d] -> [1, H, T, d]."""
    from torch.nn.attention.varlen import varlen_attn

    longest = max(rows.lengths)
    tokens = [t[0].transpose(0, 1).contiguous() for t in (q, k, v)]        # [T, H, d]
    return varlen_attn(*tokens, rows.offsets, rows.offsets, longest, longest).transpose(0, 1)[None]


def reference(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """What both must equal, written out: every token attends to all of the row, others' tokens masked. [1, H, T, d]."""
    image = torch.arange(len(lengths), device=q.device).repeat_interleave(torch.tensor(lengths, device=q.device))
    logits = (q * q.shape[-1] ** -0.5) @ k.mT
    return logits.masked_fill(image[:, None] != image, float("-inf")).softmax(-1) @ v
