"""The hardware limit (Sec. 4.4, Eqs. 9-11): what a net costs if it keeps certain shares of its tokens, and shares for a limit.

The cost is multiply-adds by the closed form of a block, or milliseconds on this device by a table of block times (`clock`).
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log

import numpy as np
import torch
from scipy.optimize import brentq
from timm.models.vision_transformer import VisionTransformer

from vitlab.backbones import blocks, embed, grid, head, image_size, pool_macs, prefix_tokens, stages
from vitlab.block import macs
from vitlab.evaluation import evaluating
from vitlab.measure.cost import check_counter, counted

SAME = 1e-3                                             # relative: a limit this near the dense cost is the dense net


@dataclass(frozen=True)
class Pool:
    """What happens before a block of a PiT that begins a stage."""

    patches: int                                        # of the stage
    cost: Callable[[float], float]                      # tokens that are no patches -> cost


@dataclass(frozen=True)
class Work:
    """What a pass costs in one unit: GFLOPs (1e9 multiply-adds) or milliseconds."""

    unit: str
    stem: float
    block: Callable[[int, float], float]                # block, tokens -> cost
    selector: Callable[[int, float], float]             # selector, tokens but the prefix -> cost
    head: Callable[[float], float]                      # tokens -> cost
    before: tuple[int, ...]                             # the blocks, 0-based, before which selectors stand
    depth: int
    patches: int                                        # of the first stage, a plain ViT's only one
    prefix: int
    packages: int                                       # at most, one more after each selector
    pools: Mapping[int, Pool] = field(default_factory=dict)         # by the block, 0-based, before which they are
    persist: bool = False                               # is the share that is there the same after a pooling, or 1?

    def __call__(self, keep: Sequence[float]) -> float:
        """The cost of keeping these shares of a stage's patches from each selector on; a selector that drops none costs none."""
        total, patches, share, packs, step = self.stem, self.patches, 1.0, 0, 0
        tokens = self.prefix + patches
        for layer in range(self.depth):
            if layer in self.pools:
                total += self.pools[layer].cost(self.prefix + packs)
                patches, share = self.pools[layer].patches, share if self.persist else 1.0
                tokens = self.prefix + max(share * patches, 1) + packs
            if step < len(self.before) and layer == self.before[step]:
                if keep[step] < share:
                    total += self.selector(step, tokens - self.prefix)
                    share, packs = keep[step], min(packs + 1, self.packages)
                    tokens = self.prefix + max(share * patches, 1) + packs
                step += 1
            total += self.block(layer, tokens)
        return total + self.head(tokens)

    def counts(self, keep: Sequence[float]) -> dict[int, int]:
        """The same number for all images: how many patches are to stay before which block, where fewer are than come."""
        found, patches, there, wanted = {}, self.patches, self.patches, dict(zip(self.before, keep, strict=True))
        for layer in range(self.depth):
            if layer in self.pools:
                cells = self.pools[layer].patches
                there, patches = surviving(there, patches, cells) if self.persist else cells, cells
            if layer in wanted and (count := max(round(wanted[layer] * patches), 1)) < there:
                found[layer] = there = count
        return found

    def stage(self, step: int) -> tuple[int, int]:
        """The stage in which a selector stands: the block, 0-based, with which it begins, and how many patches it has."""
        first = max((layer for layer in self.pools if layer <= self.before[step]), default=0)
        return first, self.pools[first].patches if first else self.patches

    @property
    def fresh(self) -> list[bool]:
        """Do all patches of its stage come to a selector, or those that another one left?"""
        homes = [self.stage(step)[0] for step in range(len(self.before))]
        return [step == 0 or not self.persist and home != homes[step - 1] for step, home in enumerate(homes)]

    def coming(self, keep: Sequence[float]) -> list[float]:
        """The shares of the patches that come to each selector, where these stay."""
        return [1.0 if fresh else before for fresh, before in zip(self.fresh, (1.0, *keep))]

    @property
    def per_patch(self) -> float:
        """The cost of the head for one patch: 0 where only the class token is read."""
        patches = self.pools[max(self.pools)].patches if self.pools else self.patches
        return (self.head(self.prefix + patches) - self.head(self.prefix + 1)) / max(patches - 1, 1)

    @property
    def ends(self) -> float:
        """The cost of stem and head that no patch decides."""
        return self.stem + self.head(self.prefix + 1) - self.per_patch

    @property
    def dense(self) -> float:
        """Everything kept, nothing asked."""
        return self([1.0] * len(self.before))

    @property
    def least(self) -> list[float]:
        """The share that leaves one patch from each selector on."""
        return [1 / (self.patches if self.persist else self.stage(step)[1]) for step in range(len(self.before))]

    def floor(self, shape: Sequence[float]) -> float:
        """One patch kept from each selector on, but for those whose share is 1, which drop nothing at any limit."""
        return self([1.0 if share == 1 else least for share, least in zip(shape, self.least, strict=True)])


def solve(work: Work, limit: float, shape: Sequence[float]) -> tuple[float, ...]:
    """Shares to keep so that the cost is `limit`: the shape's, such as (.9, .81, .73), all to one power (Eq. 10); 1 stays 1.

    ValueError for a limit that is out of reach.
    """
    dense, floor, least = work.dense, work.floor(shape), work.least
    if abs(limit / dense - 1) <= SAME:
        return (1.0,) * len(shape)
    if not floor <= limit <= dense:
        hint = f"; choose from {floor:.4g} to {dense:.4g}" if floor < dense else ", so dropping does not pay here"
        if limit < floor and work.pools and replace(work, persist=True).floor(shape) <= limit:
            hint += ", or persist=True: else all patches of a PiT are back after each pooling"
        raise ValueError(f"a limit of {limit:.4g} {work.unit} is out of reach: this net takes {dense:.4g} {work.unit} with "
                         f"all its tokens and {floor:.4g} with one patch left after each selector{hint}")
    shares = np.asarray(shape, dtype=float)

    def at(power: float) -> list[float]:
        return np.maximum(shares ** power, least).tolist()

    found = at(brentq(lambda power: work(at(power)) - limit, 1e-9, steepest(shape, least), xtol=1e-12))
    return tuple(found)


def steepest(shape: Sequence[float], least: Sequence[float]) -> float:
    """A power that brings all shares below 1 down to the least."""
    return 1.01 * max(log(one) / log(share) for share, one in zip(shape, least, strict=True) if share < 1)


def surviving(there: int, patches: int, cells: int) -> int:
    """How many cells stay after a pooling where each image keeps the same number of patches: their share stays the same."""
    return max(round(there * cells / patches), 1)


def multiply_adds(vit: VisionTransformer, before: Sequence[int], per_token: Sequence[int], packages: int,
                  persist: bool = False) -> Work:
    """The cost in GFLOPs: blocks, selectors and poolings by the closed form, stem and head counted on an empty picture."""
    zeros, every, prefix = vit.pos_embed.new_zeros(1, 3, image_size(vit), image_size(vit)), blocks(vit), prefix_tokens(vit)
    *_, last = stages(vit)
    check_counter(zeros.device.type)
    with torch.no_grad(), evaluating(vit):
        stem = counted(lambda: embed(vit, zeros)) / 1e9
        x = zeros.new_zeros(1, prefix + last.side ** 2, vit.embed_dim)
        ends = [(n, counted(lambda n=n: head(vit, x[:, :n])) / 1e9) for n in (prefix + 1, x.shape[1])]
    pools = {min(stage.blocks): Pool(stage.side ** 2, lambda others, stage=stage: pool_macs(stage, others) / 1e9)
             for stage in stages(vit) if stage.pooling is not None}
    return Work("GFLOPs", stem, lambda layer, n: macs(every[layer], n) / 1e9, lambda step, n: per_token[step] * n / 1e9,
                line(ends), tuple(before), len(every), grid(vit) ** 2, prefix, packages, pools, persist)


def line(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The piecewise straight line through (x, y) points, x ascending; level beyond its ends."""
    xs, ys = zip(*points, strict=True)
    return lambda x: float(np.interp(x, xs, ys))
