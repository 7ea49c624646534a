"""From training's draws to a decision at test time: one threshold a selector, found on held-out pictures without labels.

A fixed 0.5 would not do: a selector whose probabilities all lie below it would drop everything, though drawing keeps a third.
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


class Cuts:
    """Thresholds for several budgets: rows of GFLOPs and a threshold for each selector, ascending."""

    def __init__(self, rows: Sequence[Sequence[float]]):
        self.rows = tuple(sorted(tuple(map(float, row)) for row in rows))

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def budgets(self) -> tuple[float, ...]:
        """What is known, in GFLOPs."""
        return tuple(row[0] for row in self.rows)

    def at(self, budget: float, same: float) -> tuple[float, ...]:
        """The thresholds for a budget, on a straight line between its neighbours; ValueError for one beyond the ends.

        same: relative distance at which two budgets are one.
        """
        low, high = self.budgets[0], self.budgets[-1]
        if not low * (1 - same) <= budget <= high * (1 + same):
            raise ValueError(f"thresholds are known from {low:.4g} to {high:.4g} GFLOPs, not for {budget:.4g}; choose another "
                             "budget, calibrate this one too, or use Point(..., fixed=True)")
        nearest = min(self.rows, key=lambda row: abs(row[0] - budget))
        if abs(nearest[0] / budget - 1) <= same:
            return nearest[1:]
        below = max(row for row in self.rows if row[0] <= budget)
        above = min(row for row in self.rows if row[0] >= budget)
        part = (budget - below[0]) / (above[0] - below[0])
        return tuple(a + part * (b - a) for a, b in zip(below[1:], above[1:], strict=True))


def calibrate(net: "SPViT", data, budgets: Sequence[float] | None = None, *, batch: int = 64) -> None:
    """Set a net's thresholds so that the mean image of `data` costs each budget in GFLOPs (None: those of its points).

    data: held-out pictures, an ImageSet; some hundreds will do. From then on an image keeps what deserves it. ValueError for a
    budget that is out of reach.
    """
    data, before = image_set(data).for_net(net), net.cuts.rows
    dense = net.work.dense
    wanted = [p.budget for p in net.points if p.budget < dense] + [net.budget] if budgets is None else budgets
    rows = []
    try:
        with evaluating(net):
            for budget in sorted({net.check(net.Point(b, fixed=True)).budget for b in wanted}):
                if min(net.keep_at(budget)) < 1:                           # the dense net needs none
                    rows.append((budget, *found(net, data, budget, batch)))
    except BaseException:
        net.set_thresholds(before)
        raise
    net.set_thresholds(rows)


def found(net: "SPViT", data, budget: float, batch: int) -> list[float]:
    """The thresholds for one budget; ValueError where they come nowhere near it.

    The closed form takes all images for alike, and what persists in a PiT for as much as before; the mean over unlike ones costs
    a little more or less, so the aim is moved by as much until the measured mean is near enough.
    """
    aim, low, high = budget, net.work.floor, net.work.dense * 0.998
    nearest, best = float("inf"), []
    for _ in range(TURNS):
        cuts: list[float] = []
        for share in net.keep_at(aim):
            living, count = scores(net, data, cuts, batch)
            cuts.append(threshold(living, round(share * count)))
        net.set_thresholds([(budget, *cuts)])
        cost = mean_cost(net, data, budget, batch)
        if abs(cost / budget - 1) < abs(nearest / budget - 1):
            nearest, best = cost, cuts
        if abs(cost / budget - 1) <= NEAR:
            break
        low, high = (aim, high) if cost < budget else (low, aim)
        aim += budget - cost
        aim = aim if low < aim < high else (low + high) / 2
    if abs(nearest / budget - 1) > FAR:
        raise ValueError(f"no thresholds let the mean picture cost {budget:.4g} GFLOPs, the nearest let it cost {nearest:.4g}; "
                         "give more pictures, or another budget")
    return best


@torch.inference_mode()
def scores(net: "SPViT", data, cuts: Sequence[float], batch: int) -> tuple[Tensor, int]:
    """What the selector after those of `cuts` says of the patches still there, over all pictures; and how many there were."""
    seen, count = [], 0
    for start in range(0, len(data), batch):
        images = beside(net, data.images(slice(start, start + batch)))
        t, score = net.asked(images, cuts)
        seen.append(score[t.ids >= 0].double())
        count += len(images) * net.work.stage(len(cuts))[1]
    return torch.cat(seen), count


def at_least(score: Tensor, alive: Tensor, cut: float) -> Tensor:
    """Who reaches the cut, the best of an image in any case: scores [B, N] and who is alive -> 0 or 1."""
    best = score.where(alive > 0, float("-inf")).amax(1, keepdim=True)
    return (score >= best.clamp(max=cut)).to(alive.dtype)


def threshold(living: Tensor, stay: int) -> float:
    """A number that `stay` of these scores reach, in the middle of the gap below the last of them."""
    ordered = living.sort(descending=True).values
    if stay >= len(ordered):
        return 0.0
    last, next_ = ordered[max(stay, 1) - 1].item(), ordered[max(stay, 1)].item()
    return (last + next_) / 2


@torch.inference_mode()
def mean_cost(net: "SPViT", data, budget: float, batch: int) -> float:
    """The mean cost of these pictures in GFLOPs, by the tokens they really keep."""
    total = 0.0
    for start in range(0, len(data), batch):
        trace = Trace()
        net(beside(net, data.images(slice(start, start + batch))), net.Point(budget), trace)
        total += net.token_macs(trace).sum().item() / 1e9
    return total / len(data) + net.work.ends
