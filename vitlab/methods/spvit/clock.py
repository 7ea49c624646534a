"""The hardware limit in milliseconds: a table of times on this device, taken at several counts of tokens."""
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import embed, grid, head, image_size, pool_apart, prefix_tokens, stages
from vitlab.evaluation import evaluating
from vitlab.measure.pays import run
from vitlab.measure.speed import synchronise
from vitlab.methods.spvit.limit import Pool, Work, line
from vitlab.methods.spvit.prune import Score, beside
from vitlab.methods.spvit.selector import Others
from vitlab.packed import Even


def clock(vit: VisionTransformer, before: Sequence[int], scorers: Sequence[Score], packages: int, persist: bool = False, *,
          runs: int = 21, points: int = 7) -> Work:
    """The cost in milliseconds of one picture on the device that the net is on: medians of runs in turns, at several counts.

    Between the counts times are interpolated. A block's time is its share of all the stage's blocks run one after another: one
    block run again and again would find its weights in the cache, which a net's pass does not. A stage's first selector stands
    for all of it.
    """
    prefix, found = prefix_tokens(vit), stages(vit)
    zeros = vit.pos_embed.new_zeros(1, 3, image_size(vit), image_size(vit))
    jobs: dict[tuple, Callable[[], Any]] = {("stem",): partial(embed, vit, zeros)}
    for number, stage in enumerate(found):
        first = stage.blocks[min(stage.blocks)]
        scorer = next((scorers[step] for step, layer in enumerate(before) if layer in stage.blocks), None)
        for n in np.unique(np.linspace(prefix + 1, prefix + stage.side ** 2, points).round().astype(int)).tolist():
            x = torch.randn(1, n, first.attn.qkv.in_features, generator=torch.Generator().manual_seed(n)).to(zeros)
            jobs["blocks", number, n] = partial(run, stage.blocks.values(), x)
            if scorer is not None:
                jobs["selector", number, n] = partial(scorer, x, around(x, stage.side ** 2))
            if stage is found[-1]:
                jobs["head", number, n] = partial(head, vit, x)
        if stage.pooling is not None:
            side, wide = found[number - 1].side, stage.pooling.fc.in_features
            patches, others = zeros.new_zeros(1, side ** 2, wide), zeros.new_zeros(1, prefix + packages, wide)
            jobs["pool", number] = partial(pool_apart, stage, patches, others, side)
    with torch.inference_mode(), evaluating(vit, *(scorer for scorer in scorers if isinstance(scorer, nn.Module))):
        times = medians(jobs, zeros.device, runs)
    home = [number for number, stage in enumerate(found) for _ in stage.blocks]         # the stage of each block

    def table(kind: str, number: int) -> Callable[[float], float]:
        return line([(key[2], ms) for key, ms in times.items() if key[:2] == (kind, number)])

    blocks_ms = [table("blocks", number) for number in range(len(found))]
    depth = [len(stage.blocks) for stage in found]
    selector_ms = [table("selector", home[layer]) for layer in before]
    pools = {min(stage.blocks): Pool(stage.side ** 2, lambda others, ms=times["pool", number]: ms)
             for number, stage in enumerate(found) if stage.pooling is not None}
    return Work("ms", times["stem",], lambda layer, n: blocks_ms[home[layer]](n) / depth[home[layer]],
                lambda step, n: selector_ms[step](n), table("head", len(found) - 1), tuple(before), len(home), grid(vit) ** 2,
                prefix, packages, pools, persist)


def around(x: Tensor, patches: int) -> Others:
    """What a selector may know of the tokens [1, n, D] of a picture, as if they were the first of its patches."""
    ids = torch.arange(x.shape[1], device=x.device).clamp(max=patches - 1)[None]
    return Others(Even().mean, partial(beside, ids, Even(), patches))


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
