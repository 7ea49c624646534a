"""Between the stages of a PiT: what becomes of the patches that were dropped when the grid is pooled.

A cell of the next grid is made of 3x3 patches, whether they are there or not: the pooling takes dropped ones as they were when
they were dropped, so that removing them and masking them are the same. Then all cells are there, as published, or (`persist`)
only those that have a patch that is still there among their nine; cells without stay out, and are pooled once more as they are.
Where all images are to keep the same number, that number must be known before: the share that is there stays the same, and of
the cells those stay whose patches had the best scores, dropped ones counting 0.
"""
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.backbones import Stage, pool_apart
from vitlab.methods.spvit.limit import surviving
from vitlab.methods.spvit.prune import Tokens, Veiled, highest, spread
from vitlab.packed import Even, Packed
from vitlab.tokens import take


def enter(t: Tokens, stage: Stage, prefix: int, persist: bool) -> Tokens:
    """The tokens with which a stage begins, of those that came out of the one before; a plain ViT's only stage changes none."""
    if stage.pooling is None:
        return t
    return enter_even(t, stage, prefix, persist) if isinstance(t.rows, Even) else enter_packed(t, stage, persist)


def enter_even(t: Tokens, stage: Stage, prefix: int, persist: bool) -> Tokens:
    """The same number of cells for all images."""
    there, count = t.x.shape[1] - prefix - t.packages, t.left.shape[1]
    now = t.x[:, prefix:prefix + there] if there == count else t.seen()
    beside = torch.cat([t.x[:, :prefix], t.x[:, prefix + there:]], 1) if t.packages else t.x[:, :prefix]
    grid, beside = pool_apart(stage, now, beside, isqrt(count))
    cells = grid.shape[1]
    body, worth, ids = grid, None, torch.arange(cells, device=grid.device).expand(grid.shape[0], -1)
    if persist and (stay := surviving(there, count, cells)) < cells:
        value = best_inputs(spread(t.ids[:, prefix:prefix + there], t.worth, count), stage)
        ids = highest(value, stay) if t.forced is None else t.forced.pick(highest, value, stay, ids, isqrt(cells))
        worth = value.gather(1, ids)
        body = take(grid, ids)
    return t._replace(patches=cells, x=torch.cat([beside[:, :prefix], body, beside[:, prefix:]], 1), left=grid, worth=worth,
                      ids=torch.cat([t.ids[:, :prefix], ids, t.ids[:, prefix + there:]], 1))


def enter_packed(t: Tokens, stage: Stage, persist: bool) -> Tokens:
    """As many cells as each image has."""
    others = (t.ids[0] < 0).nonzero()[:, 0]                                # class token and packages
    grid, beside = pool_apart(stage, t.seen(), t.x[:, others], isqrt(t.left.shape[1]))
    alive = torch.ones_like(grid[..., 0])
    if persist:
        alive = any_input(t.by_patch(torch.ones_like(t.ids).float(), torch.zeros_like(t.left[..., 0]).float()), stage)
        if t.forced is not None:
            numbers = torch.arange(alive.shape[1], device=alive.device).expand_as(alive)
            alive = t.forced.over(alive > 0, numbers, isqrt(alive.shape[1]))
    image, cell = (alive > 0).nonzero(as_tuple=True)
    owner = torch.cat([t.rows.image[others], image])
    order = owner.argsort(stable=True)                                     # each image's cells behind its other tokens
    x, ids = torch.cat([beside[0], grid[image, cell]])[order], torch.cat([t.ids[0, others], cell])[order]
    rows = Packed(owner.bincount(minlength=len(grid)).tolist(), x.device)
    return t._replace(x=x[None], ids=ids[None], rows=rows, left=grid, folded=None, patches=grid.shape[1])


def enter_veiled(t: Veiled, stage: Stage, prefix: int, persist: bool) -> Veiled:
    """All cells, and which are alive."""
    if stage.pooling is None:
        return t
    count = t.alive.shape[1]
    beside = torch.cat([t.x[:, :prefix], t.x[:, prefix + count:]], 1)
    grid, beside = pool_apart(stage, t.seen(prefix), beside, isqrt(count))
    alive = any_input(t.alive, stage) if persist else torch.ones_like(t.alive[:, :1]).expand(-1, grid.shape[1])
    return Veiled(torch.cat([beside[:, :prefix], grid, beside[:, prefix:]], 1), alive, t.filled, grid)


def any_input(alive: Tensor, stage: Stage) -> Tensor:
    """Which cells have a patch alive among those that they are made of: [B, N] 0 or 1 -> [B, cells].

    A product over the others, not a maximum: where one patch decides, that one learns, and where none is alive all of them do.
    """
    conv, side = stage.pooling.conv, isqrt(alive.shape[1])
    inputs = F.unfold(alive.unflatten(1, (1, side, side)), conv.kernel_size, padding=conv.padding, stride=conv.stride)
    return 1 - (1 - inputs).prod(1)


def best_inputs(scores: Tensor, stage: Stage) -> Tensor:
    """The mean score of the patches that a cell is made of: [B, N], 0 for dropped ones -> [B, cells]."""
    conv, side = stage.pooling.conv, isqrt(scores.shape[1])
    return F.avg_pool2d(scores.unflatten(1, (1, side, side)), conv.kernel_size, conv.stride, conv.padding,
                        count_include_pad=False).flatten(1)
