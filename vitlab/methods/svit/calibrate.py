"""From training's draws to decisions at test time: a threshold for each gate, found on held-out, unlabelled pictures.

Gates are trained to be drawn from: their shares are right on average, their odds are soft. One threshold for all, such as even
odds ("argmax"), would let in nearly all tokens where odds lie above it, and nearly none where they lie below. So each gate
gets its own: the value that the wanted share of these pictures' tokens exceeds.
"""
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitlab.data.detection import any_set
from vitlab.evaluation import beside, evaluating
from vitlab.methods.svit.select import above
from vitlab.numbers import real

if TYPE_CHECKING:
    from vitlab.methods.svit.svit import SViT


def calibrate(net: "SViT", data, keeps: Sequence[float] | None = None, *, batch: int = 64) -> None:
    """Set a net's thresholds so that of `data` the shares that each k asks for take part (None: `net.offered`).

    data: held-out pictures, an ImageSet or a DetectionSet, whose tokens are all held in memory at once. The more pictures differ,
    the more it takes: the study on `shapes` (benchmarks/svit_small.py) takes 8,000.
    ValueError for a k out of (0, 1), and for gates that know nothing.
    """
    if net.gate == "random":
        raise ValueError('random gates want nothing: with gate="random" of every image the same number of tokens takes part')
    data = any_set(data).for_net(net)
    wanted = sorted({real(keep, "keep", 0.0, 1.0) for keep in (net.offered if keeps is None else keeps)} - {1, 1.0})
    if not wanted or wanted[0] == 0:
        raise ValueError(f"keeps must be shares above 0 and below 1, some at least, not {keeps!r}")
    with evaluating(net), torch.inference_mode():
        rows = [(keep, *thresholds(net, data, net.shares(keep), batch)) for keep in wanted]
    net.set_thresholds(rows)


def thresholds(net: "SViT", data, shares: Sequence[float], batch: int) -> list[float]:
    """A threshold for each gate, block by block: what a gate is asked depends on who took part before."""
    found: list[float] = []
    batches = [net.first(beside(net, data.images(slice(start, start + batch)))) for start in range(0, len(data), batch)]
    for layer in range(len(net.vit.blocks)):
        if layer in net.at:
            gate, before = net.at[layer], net.before(net.at[layer])
            odds = [net.gates[gate](t.x[:, before:]).where(t.alive[:, before:], float("-inf")).flatten() for t in batches]
            found.append(exceeded(torch.cat(odds), shares[gate]))
        batches = [net.block(layer, net.gated(layer, t, above(found))) for t in batches]
    return found


def exceeded(odds: Tensor, share: float) -> float:
    """The threshold that `share` of the values [n] exceeds: halfway between the last that does and the next."""
    falling = odds.double().sort(descending=True).values
    count = min(round(share * len(falling)), int(falling.isfinite().sum()))
    inside = falling[falling.isfinite()]
    ends = torch.cat([inside[:1] + 1, inside, inside[-1:] - 1])            # all, or none
    return (ends[count:count + 2].mean()).item()
