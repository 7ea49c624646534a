"""Whom one patch attends to, and whom the class token: two rows of one block's softmax."""
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitlab.block import cls_attention, mean_attention
from vitlab.evaluation import in_evaluation
from vitlab.measure.inside import Pass, one_image, place_of, watched
from vitlab.numbers import whole
from vitlab.trace import LayerTrace, Told


class Rows(NamedTuple):
    """Two rows of one block's softmax, of each head, [H, h*w] on the block's grid: NaN for patches that take no part.

    All patches of a merged token have a share of what it gets. What a row lacks to 1 goes to tokens that are no patch.
    """

    block: LayerTrace
    cls: Tensor | None          # the class token's, or without one the mean of all tokens'; None where it takes no part
    patch: Tensor | None        # the patch's, or that of the token it was merged into; None where it takes no part


@in_evaluation
@torch.inference_mode()
def attention_rows(method: nn.Module, image: Tensor, patch: int, point: Any = None, *, place: int = -1,
                   grid: int | None = None) -> Rows:
    """The attention rows of the class token and of one patch, of each head: see `Rows`.

    place: which of the blocks that the image went through, from 0; -1 is the last. image, patch, grid: as in `lens`. One pass.
    Raises ValueError for more than one image, no such patch or no such block.
    """
    image = one_image(method, image, "attention_rows")
    return rows_of(watched(method, image, point), patch, place, grid)


def rows_of(seen: Pass, patch: int, place: int, grid: int | None) -> Rows:
    """The same of a pass that was watched already: no pass more."""
    trace, where = seen.trace, place_of(seen.trace.layers, patch, grid)
    there = [n for n, part in enumerate(trace.layers) if part.passed[0]]
    at = there[whole(place, "place, a block that the image went through,", -len(there), len(there) - 1)]
    part, said, before = trace.layers[at], seen.told[at], trace.layers[at - 1] if at else None
    home = torch.arange(part.attended.shape[1], device=said.q.device)      # [N] the patch that stands for each patch's token
    if before is not None and before.source is not None and before.stages == part.stages:
        home = before.source[0]
    if said.pooled:
        cls = mean_attention(said.q, said.k, None if said.mask is None else said.mask[:, :, :1])[0]
    else:
        cls = row(said, 0)
    asks = said.attending(int(home[where[at]]))
    mine = None if asks is None else row(said, asks)
    return Rows(part, *(None if one is None else on_patches(one, said, home).float().cpu() for one in (cls, mine)))


def row(told: Told, place: int) -> Tensor | None:
    """The softmax row of the token that stands there among q and k, [H, T]; None where it takes no part."""
    mask = told.mask
    if mask is not None:
        if mask.dtype == torch.bool and not bool(mask[0, 0, 0, place]):
            return None
        mask = mask if mask.shape[2] == 1 else mask[:, :, place:place + 1]
    return cls_attention(told.q[:, :, place:], told.k, mask)[0]


def on_patches(row: Tensor, told: Told, home: Tensor) -> Tensor:
    """A row over tokens [H, T] as one over patches [H, N], NaN where a patch is not there; home [N]: whose token each is in."""
    ids, room = told.ids[0], row.new_full((len(row), len(home)), nan)
    room[:, ids[ids >= 0]] = row[:, told.extra:][:, ids >= 0]
    return (room / home.bincount(minlength=len(home)).clamp(1))[:, home]
