"""Early exit over one net with several operating points (SuperViT Sec. 4.2, Fig. 2).

Every image first runs at a cheap point; only the images whose largest softmax probability stays below a threshold run again,
from scratch, at the next point. Works on any method, so that confidence cascades can be compared on the same axes.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.trace import Trace


@dataclass(frozen=True)
class Point:
    """Stop as soon as an image is at least this confident: 0 = always after the first stage, 1 = never before the last."""

    threshold: float = 0.7


class EarlyExit(nn.Module):
    """A cascade of operating points of one method, e.g. `EarlyExit(net, (Point(8, 0.5), Point(14, 0.7)))`.

    It owns no parameters of its own. Raises ValueError for fewer than two stages or a threshold outside [0, 1].
    """

    Point = Point
    adaptive = True

    def __init__(self, method: nn.Module, stages: Sequence[Any], thresholds: Sequence[float] = (0.3, 0.5, 0.7, 0.9, 0.97, 1.0)):
        super().__init__()
        if len(stages) < 2:
            raise ValueError("an early exit needs at least two stages, cheapest first")
        self.method, self.vit, self.stages = method, method.vit, tuple(stages)
        self.points = tuple(Point(t) for t in thresholds)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K]; rows that are confident leave the batch. `trace.exit` [B] is the stage that answered."""
        point = point or Point()
        if not 0 <= point.threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], not {point.threshold}; 0 always stops at the first stage")
        rows = torch.arange(len(images), device=images.device)             # the images still inside
        logits, exits = None, torch.zeros_like(rows)
        for stage, at in enumerate(self.stages):
            record = None if trace is None else Trace()
            here = self.method(images[rows], at, record)
            logits = here if logits is None else logits.index_copy(0, rows, here)
            exits[rows] = stage
            if trace is not None:
                trace.join(record, stage, rows, len(images))
            rows = rows[here.float().softmax(-1).amax(-1) < point.threshold] if point.threshold < 1 else rows
            if len(rows) == 0:
                break
        if trace is not None:
            trace.exit = exits
        return logits

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """The method's own: an early exit adds nothing to train."""
        yield from self.method.losses(images, labels, teacher)
