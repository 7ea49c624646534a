"""The hardware limit (Sec. 4.4, Eqs. 9-11): what a net costs if it keeps certain shares of its tokens, and shares for a limit.

The cost is multiply-adds by the closed form of a block, or milliseconds on this device by a table of block times (`clock`).
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import embed, grid, head, image_size
from vitlab.block import attention, macs, mlp, qkv
from vitlab.evaluation import evaluating
from vitlab.measure.cost import check_counter, counted
from vitlab.measure.speed import synchronise
from vitlab.packed import Even

SAME = 1e-3                                             # relative: a limit this near the dense cost is the dense net


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
    patches: int
    prefix: int
    packages: int                                       # at most, one more after each selector

    def __call__(self, keep: Sequence[float]) -> float:
        """The cost of keeping these shares of all patches from each selector on; a share of 1 needs no selector."""
        total, tokens, share, packs, step = self.stem, self.prefix + self.patches, 1.0, 0, 0
        for layer in range(self.depth):
            if step < len(self.before) and layer == self.before[step]:
                if keep[step] < share:
                    total += self.selector(step, tokens - self.prefix)
                    share, packs = keep[step], min(packs + 1, self.packages)
                    tokens = self.prefix + share * self.patches + packs
                step += 1
            total += self.block(layer, tokens)
        return total + self.head(tokens)

    @property
    def per_patch(self) -> float:
        """The cost of the head for one patch: 0 where only the class token is read."""
        return (self.head(self.prefix + self.patches) - self.head(self.prefix + 1)) / (self.patches - 1)

    @property
    def ends(self) -> float:
        """The cost of stem and head that no patch decides."""
        return self.stem + self.head(self.prefix + 1) - self.per_patch

    @property
    def dense(self) -> float:
        """Everything kept, nothing asked."""
        return self([1.0] * len(self.before))

    def floor(self, shape: Sequence[float]) -> float:
        """One patch kept from each selector on, but for those whose share is 1, which drop nothing at any limit."""
        return self([1.0 if share == 1 else 1 / self.patches for share in shape])


def solve(work: Work, limit: float, shape: Sequence[float]) -> tuple[float, ...]:
    """Shares to keep so that the cost is `limit`: the shape's, such as (.9, .81, .73), all to one power (Eq. 10); 1 stays 1.

    ValueError for a limit that is out of reach.
    """
    dense, floor = work.dense, work.floor(shape)
    if abs(limit / dense - 1) <= SAME:
        return (1.0,) * len(shape)
    if not floor <= limit <= dense:
        hint = f"; choose from {floor:.4g} to {dense:.4g}" if floor < dense else ", so dropping does not pay here"
        raise ValueError(f"a limit of {limit:.4g} {work.unit} is out of reach: this net takes {dense:.4g} {work.unit} with "
                         f"all its tokens and {floor:.4g} with one patch left after each selector{hint}")
    least = 1 / work.patches
    shares = np.asarray(shape, dtype=float)

    def at(power: float) -> list[float]:
        return np.maximum(shares ** power, least).tolist()

    found = at(brentq(lambda power: work(at(power)) - limit, 1e-9, steepest(shape, least), xtol=1e-12))
    return tuple(found)


def steepest(shape: Sequence[float], least: float) -> float:
    """A power that brings all shares below 1 down to the least."""
    return 1.01 * log(least) / log(max(share for share in shape if share < 1))


def multiply_adds(vit: VisionTransformer, before: Sequence[int], per_token: Sequence[int], packages: int) -> Work:
    """The cost in GFLOPs: blocks and selectors by the closed form, stem and head counted on an empty picture."""
    zeros = vit.cls_token.new_zeros(1, 3, image_size(vit), image_size(vit))
    check_counter(zeros.device.type)
    with torch.no_grad(), evaluating(vit):
        x = embed(vit, zeros)
        stem = counted(lambda: embed(vit, zeros)) / 1e9
        ends = [(n, counted(lambda n=n: head(vit, x[:, :n])) / 1e9) for n in (vit.num_prefix_tokens + 1, x.shape[1])]
    blocks = list(vit.blocks)
    return Work("GFLOPs", stem, lambda layer, n: macs(blocks[layer], n) / 1e9, lambda step, n: per_token[step] * n / 1e9,
                line(ends), tuple(before), len(blocks), grid(vit) ** 2, vit.num_prefix_tokens, packages)


def clock(vit: VisionTransformer, before: Sequence[int], selector: nn.Module, packages: int, *, runs: int = 31,
          points: int = 9) -> Work:
    """The cost in milliseconds of one picture on the device that the net is on: medians of runs in turns, at several counts.

    Between the counts times are interpolated; the first block and the selector given stand for all.
    """
    block, prefix, patches = vit.blocks[0], vit.num_prefix_tokens, grid(vit) ** 2
    counts = np.unique(np.linspace(prefix + 1, prefix + patches, points).round().astype(int)).tolist()
    zeros = vit.cls_token.new_zeros(1, 3, image_size(vit), image_size(vit))
    tokens = {n: torch.randn(1, n, vit.embed_dim, generator=torch.Generator().manual_seed(n)).to(zeros) for n in counts}

    def run_block(x: Tensor) -> Tensor:
        x = x + attention(block, *qkv(block, x))
        return x + mlp(block, x)

    jobs: dict[tuple[str, int], Callable[[], Tensor]] = {("stem", 0): lambda: embed(vit, zeros)}
    for n, x in tokens.items():
        jobs["block", n] = partial(run_block, x)
        jobs["selector", n] = partial(selector, x, Even().mean)
        jobs["head", n] = partial(head, vit, x)
    with torch.inference_mode(), evaluating(vit, selector):
        times = medians(jobs, zeros.device, runs)
    block_ms, selector_ms, head_ms = (line([(n, times[kind, n]) for n in counts]) for kind in ("block", "selector", "head"))
    return Work("ms", times["stem", 0], lambda layer, n: block_ms(n), lambda step, n: selector_ms(n), head_ms, tuple(before),
                len(vit.blocks), patches, prefix, packages)


def line(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """The piecewise straight line through (x, y) points, x ascending; level beyond its ends."""
    xs, ys = zip(*points, strict=True)
    return lambda x: float(np.interp(x, xs, ys))


def medians(jobs: Mapping[Any, Callable[[], Any]], device: torch.device, runs: int) -> dict[Any, float]:
    """The median milliseconds of each job; they take turns, after one turn to warm up."""
    times: dict[Any, list[float]] = {name: [] for name in jobs}
    for turn in range(runs + 1):
        for name, job in jobs.items():
            synchronise(device)
            begin = perf_counter()
            job()
            synchronise(device)
            if turn:
                times[name].append(1e3 * (perf_counter() - begin))
    return {name: median(found) for name, found in times.items()}
