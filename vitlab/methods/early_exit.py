"""Early exit over one net with several operating points (SuperViT Sec. 4.2, Fig. 2).

Every image first runs at a cheap point; only the images whose largest softmax probability stays below a threshold run again,
from scratch, at the next point. Works on any method, so that confidence cascades can be compared on the same axes.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from vitlab import cascade
from vitlab.backbones import check_images, image_size
from vitlab.method import own_point
from vitlab.numbers import plain
from vitlab.trace import Trace


@dataclass(frozen=True)
class Point:
    """Stop as soon as an image is at least this confident: 0 = always after the first stage, 1 = never before the last."""

    threshold: float | tuple[float, ...] = 0.7          # or one for each exit but the last

    def __post_init__(self):
        object.__setattr__(self, "threshold", plain(self.threshold))


class EarlyExit(nn.Module):
    """A cascade of operating points of one method, e.g. `EarlyExit(net, (Point(8, 0.5), Point(14, 0.7)))`.

    thresholds: of the operating points, one number each, or a tuple with one for each exit but the last.
    It owns no parameters of its own. Raises ValueError for fewer than two stages, a stage that is no point of the method, or a
    threshold outside [0, 1].
    """

    Point = Point

    def __init__(self, method: nn.Module, stages: Sequence[Any], thresholds: Sequence[float] = (0.3, 0.5, 0.7, 0.9, 0.97, 1.0)):
        super().__init__()
        if not hasattr(method, "check") or not hasattr(method, "points"):
            raise ValueError(f"an early exit goes over a method, not a {type(method).__name__}; make one with vitlab.create")
        if not isinstance(stages, Sequence) or len(stages) < 2:
            raise ValueError("an early exit needs at least two stages, points of the method, cheapest first, "
                             "such as net.points[0] and net.points[-1]")
        for point in stages:
            method.check(point)
        self.method, self.vit, self.stages = method, method.vit, tuple(stages)
        given = plain(thresholds)
        self.points = tuple(map(Point, given if isinstance(given, tuple) else (given,)))
        if not self.points:
            raise ValueError("an early exit needs at least one threshold, such as (0.5, 0.9)")
        for point in self.points:
            self.check(point)
        if hasattr(method, "token_macs"):
            self.token_macs = method.token_macs                            # it adds up whatever stages a trace holds

    @property
    def adaptive(self) -> bool | str:
        """Over a net whose images differ, an exit does not say what one costs."""
        return True if self.method.adaptive else "exit"

    def check(self, point: Point | None) -> Point:
        """The point, Point() for None; ValueError for another method's or thresholds that make no sense."""
        point = own_point(point, self)
        cascade.check(point.threshold, len(self.stages))
        return point

    def steps(self) -> list[cascade.Stage]:
        """The stages as functions: each starts from the picture, nothing is handed on."""
        return [partial(self.step, point) for point in self.stages]

    def step(self, point: Any, images: Tensor, carry: None, trace: Trace | None) -> tuple[Tensor, None]:
        """One stage: the method at one of its points."""
        return self.method(images, point, trace), None

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K]; rows that are confident leave the batch. `trace.exit` [B] is the stage that answered."""
        thresholds = cascade.check(self.check(point).threshold, len(self.stages))
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        return cascade.run(self.steps(), images, thresholds, trace)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Logits [B, K] of every stage, no image leaving."""
        return cascade.run_all(self.steps(), images)

    def outcomes(self, images: Tensor) -> tuple[list[Tensor], Callable[[Point], Tensor]]:
        """Logits [B, K] of every exit, no image leaving, and a function: at which one each image [B] leaves at a point."""
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        logits, which = cascade.outcomes(self.steps(), images)
        return logits, lambda point: which(cascade.check(self.check(point).threshold, len(self.stages)))

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Images -> logits [B, K] with the exits switched off: this stage alone, and within it the stages that are named."""
        stage, *inner = stages
        return self.method.through(inner) if inner else partial(self.method, point=self.stages[stage])

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """The method's own: an early exit adds nothing to train."""
        yield from self.method.losses(images, labels, teacher)
