"""What the heads of a selector say of each patch, as maps (Figs. 3 and 10)."""
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from numpy import ndarray
from torch import Tensor

from vitlab.evaluation import beside, in_evaluation
from vitlab.methods.spvit.prune import PACKAGE
from vitlab.packed import Even

if TYPE_CHECKING:
    from vitlab.methods.spvit.spvit import SPViT


@in_evaluation
@torch.inference_mode()
def by_head(net: "SPViT", images: Tensor, factors: Sequence[float] = ()) -> ndarray:
    """The keep probability of each patch in each head of the selector after those of `factors`: [B, H, side, side].

    NaN where a patch is gone.  factors: such as `net.factors.rows[0][1:]`, of which the first n lead to selector n + 1.
    ValueError for a net without selectors, or if no selector is left to ask.
    """
    if not net.selectors:
        raise ValueError('this net has no selectors to ask, since its scores are random; make one with score="selector"')
    t, score = net.asked(beside(net, images), factors, by_head=True)
    ids = t.ids if isinstance(t.rows, Even) else t.rows.padded(t.ids, PACKAGE)[0]
    score = score if isinstance(t.rows, Even) else t.rows.padded(score)[0]
    count = net.work.stage(len(factors))[1]
    room = score.new_full((len(ids), count + 1, score.shape[2]), float("nan"))     # a spare place for what is no patch
    room = room.scatter(1, ids.where(ids >= 0, count)[..., None].expand_as(score), score)
    side = round(count ** 0.5)
    return room[:, :-1].mT.unflatten(2, (side, side)).float().cpu().numpy()
