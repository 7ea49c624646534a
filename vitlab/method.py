"""The protocol every method satisfies, and Dense, the unpruned baseline that satisfies it.

A method is an nn.Module that inherits nothing of ours. Training, measuring, plots and widgets use only these members.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, Protocol

import torch
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import check_backbone, check_images, embed, grid, head, image_size, narrow, pool, pooled, read_after, stages
from vitlab.block import attention, mlp, qkv
from vitlab.losses import cross_entropy
from vitlab.trace import Trace, check_trace


class Method(Protocol):
    """What a dynamic vision transformer offers; a Point is a frozen dataclass of its run-time knobs.

    More is read where a class has it: `uses_teacher = True`, if `losses` reads its teacher, and `check_teacher(net)`, which
    refuses one that does not fit; FREE_KNOBS (a tuple), the names of constructor knobs on which no weight depends, so that a
    training run goes on whatever they are; `settled`, knobs as they are to be written into a checkpoint where that differs from
    what was given; `together(images, points)`, the logits at each of several points, where that costs less than one by
    one; of a method whose images differ by their exit alone, `outcomes(images)`, the logits of every exit and a function from a
    point to the exit of each image [B]; `token_macs(trace)` [B], the multiply-adds that depend on how many tokens an image
    keeps; of a method that drops patches `forced`, None or what a person says of some of them, which it asks where scores
    become choices (`vitlab.Forced`); and of one whose exits another net chooses beforehand that net, `assigner`, and what the
    exits cost, `cost` [k]: the one of highest log p - point.cost_weight * cost answers.
    """

    vit: VisionTransformer
    Point: type                     # the dataclass of one operating point; Point() is the headline model, as None is
    points: Sequence[Any]           # the operating points of the paper's table, cheapest first
    adaptive: bool | str            # can two images cost differently at one point? "exit": only by the exit they leave at

    def forward(self, images: Tensor, point: Any = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S], in training and evaluation alike."""

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """The weighted loss terms pass by pass; each dict is backpropagated as soon as it is yielded."""

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Of a method that writes `trace.exit`: images -> logits as if all went where one image did (`LayerTrace.stages`)."""


def own_point(point: Any, method: Method) -> Any:
    """A point of this method's kind, None being Point(); ValueError, in one sentence, for another method's."""
    name = type(method).__name__
    if point is not None and not isinstance(point, method.Point):
        given = repr(point) if is_dataclass(point) else f"a {type(point).__name__}"
        raise ValueError(f"{given} is no operating point of {name}; take one of its `points` or make one with {name}.Point")
    return method.Point() if point is None else point


@dataclass(frozen=True)
class Point:
    """Dense has no knob: one operating point."""


class Dense(nn.Module):
    """The backbone as it is, all tokens in every block: the baseline of every comparison.

    width: a narrower one, of its most important channels (None: as it is; see `backbones.narrow`).
    """

    Point = Point
    adaptive = False

    def __init__(self, vit: VisionTransformer | PoolingVisionTransformer, width: int | None = None):
        super().__init__()
        check_backbone(vit, staged=True, pooled=True)
        self.vit = vit if width is None else narrow(vit, width)
        self.points = (Point(),)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of images [B, 3, S, S]; equal to the timm model's own."""
        self.check(point)
        check_trace(trace)
        return head(self.vit, self.features(images, trace, whole=trace is not None))

    def features(self, images: Tensor, trace: Trace | None = None, whole: bool = True) -> Tensor:
        """The tokens after the last block, [B, P + N, D], with which a student compares its own; the head's if not `whole`."""
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        x, side = embed(self.vit, images), grid(self.vit)                  # [B, P + N, D]
        extra = x.shape[1] - side ** 2
        for stage in stages(self.vit):                                     # one, or the several of a PiT
            x, side = pool(stage, x, side, extra), stage.side
            ids = torch.arange(side * side, device=images.device).expand(images.shape[0], -1)
            for layer, block in stage.blocks.items():
                some = None if whole else read_after(self.vit, layer)
                q, k, v = qkv(block, x, some)
                x = x[:, :some] + attention(block, q, k, v)
                if trace is not None:
                    trace.add(layer, (side, side), ids, q, k, extra=extra, pooled=pooled(self.vit))
                x = x + mlp(block, x)
        return x

    def check(self, point: Point | None) -> Point:
        """The only point; ValueError for another method's."""
        return own_point(point, self)

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Cross-entropy."""
        yield {"ce": cross_entropy(self(images), labels)}
