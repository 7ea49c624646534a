"""From training's draws to decisions at test time: a factor for each selector, found on held-out, unlabelled pictures.

Drawing keeps, on average, as many patches of an image as their keep scores add up to. At test time that many stay for certain,
the best ones, times a factor with which the mean picture costs what was asked. A threshold on scores would do as well if
they were all near 0 or 1; they are not (a fixed 0.5 keeps everything where they lie around 0.6), and small differences between
images would decide between keeping all and nothing.
"""
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitlab.data.imageset import image_set
from vitlab.evaluation import beside, evaluating
from vitlab.trace import Trace

if TYPE_CHECKING:
    from vitlab.methods.spvit.spvit import SPViT

TURNS, NEAR, FAR = 8, 0.005, 0.03                       # at most; relative distances from the budget: near enough, and too far


def calibrate(net: "SPViT", data, budgets: Sequence[float] | None = None, *, batch: int = 64) -> None:
    """Set a net's factors so that the mean image of `data` costs each budget in GFLOPs (None: `net.offered`).

    data: held-out pictures, an ImageSet; some hundreds will do. From then on an image keeps what deserves it. ValueError for a
    budget that is out of reach, and for a net whose scores are random.
    """
    if not net.selectors:
        raise ValueError("random scores deserve nothing: with score=\"random\" every image keeps the same number of patches")
    data, before = image_set(data).for_net(net), net.factors.rows
    wanted = net.offered if budgets is None else budgets
    rows = []
    try:
        with evaluating(net):
            for budget in sorted({net.check(net.Point(b, fixed=True)).budget for b in wanted}):
                if min(net.keep_at(budget)) < 1:                           # the dense net needs none
                    rows.append((budget, *found(net, data, budget, batch)))
    except BaseException:
        net.set_factors(before)
        raise
    net.set_factors(rows)


def found(net: "SPViT", data, budget: float, batch: int) -> list[float]:
    """The factors for one budget; ValueError where they come nowhere near it.

    The closed form takes all images for alike, and what persists in a PiT for as much as before; the mean over unlike ones costs
    a little more or less, so the aim is moved by as much until the measured mean is near enough.
    """
    aim, low, high = budget, net.work.floor(net.shape), net.work.dense * 0.998
    nearest, chosen = float("inf"), []
    for _ in range(TURNS):
        factors: list[float] = []
        for share in net.keep_at(aim):
            living, count = scores(net, data, factors, batch)
            factors.append(share * count / living.sum().item())
        net.set_factors([(budget, *factors)])
        cost = mean_cost(net, data, budget, batch)
        if abs(cost / budget - 1) < abs(nearest / budget - 1):
            nearest, chosen = cost, factors
        if abs(cost / budget - 1) <= NEAR:
            break
        low, high = (aim, high) if cost < budget else (low, aim)
        aim += budget - cost
        aim = aim if low < aim < high else (low + high) / 2
    if abs(nearest / budget - 1) > FAR:
        raise ValueError(f"no factors let the mean picture cost {budget:.4g} GFLOPs, the nearest let it cost {nearest:.4g}; "
                         "give more pictures, or another budget")
    return chosen


@torch.inference_mode()
def scores(net: "SPViT", data, factors: Sequence[float], batch: int) -> tuple[Tensor, int]:
    """What the selector after those of `factors` says of the patches still there, over all pictures; and how many there were."""
    seen, count = [], 0
    for start in range(0, len(data), batch):
        images = beside(net, data.images(slice(start, start + batch)))
        t, score = net.asked(images, factors)
        seen.append(score[t.ids >= 0].double())
        count += len(images) * net.work.stage(len(factors))[1]
    return torch.cat(seen), count


@torch.inference_mode()
def mean_cost(net: "SPViT", data, budget: float, batch: int) -> float:
    """The mean cost of these pictures in GFLOPs, by the tokens they really keep."""
    total = 0.0
    for start in range(0, len(data), batch):
        trace = Trace()
        net(beside(net, data.images(slice(start, start + batch))), net.Point(budget), trace)
        total += net.token_macs(trace).sum().item() / 1e9
    return total / len(data) + net.work.ends
