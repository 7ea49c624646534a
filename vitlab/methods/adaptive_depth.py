"""Adaptive depth (DVT Table 10): one ViT with classifiers along its depth; a sure image skips the deeper blocks.

The baseline that DVT is compared with: exits save blocks, not tokens.
"""
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab import cascade
from vitlab.backbones import check_backbone, check_images, embed, grid, head, image_size, read_after
from vitlab.block import attention, mlp, qkv
from vitlab.cascade import Point
from vitlab.losses import cross_entropy
from vitlab.method import own_point
from vitlab.numbers import wholes
from vitlab.trace import Trace


class AdaptiveDepth(nn.Module):
    """exits: after which blocks a classifier stands, besides the last one (None: at a third and at two thirds, as in Table 10).

    A classifier is a LayerNorm and a linear layer on the class token. Raises ValueError for exits that are not ascending.
    """

    Point = Point
    adaptive = "exit"

    def __init__(self, vit: VisionTransformer, exits: tuple[int, ...] | None = None):
        super().__init__()
        check_backbone(vit)
        depth = len(vit.blocks)
        rule = f"exits must be ascending block numbers from 1 to {depth - 1}"
        stops = (max(depth // 3, 1), max(2 * depth // 3, 2)) if exits is None else wholes(exits, rule)
        if not stops or list(stops) != sorted(set(stops)) or stops[-1] >= depth:
            raise ValueError(f"{rule}, not {stops}")
        self.vit, self.stops = vit, (*stops, depth)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(vit.embed_dim), nn.Linear(vit.embed_dim, vit.num_classes)) for _ in stops)
        many = len(self.stops)
        same = [(t,) * (many - 1) for t in cascade.EVEN]
        self.points = tuple(map(Point, (cascade.stop_at(0, many), *same, cascade.stop_at(many - 1, many))))

    def check(self, point: Point | None) -> Point:
        """The point with a threshold for each exit but the last; ValueError for another method's or a wrong number of them."""
        return Point(cascade.check(own_point(point, self).thresholds, len(self.stops)))

    def steps(self) -> list[cascade.Stage]:
        """Runs of blocks as functions; the tokens are what is handed on."""
        return [partial(self.step, number) for number in range(len(self.stops))]

    def step(self, number: int, images: Tensor, x: Tensor | None, trace: Trace | None) -> tuple[Tensor, Tensor]:
        """The blocks up to one exit: logits [b, K] and tokens [b, P + N, D]."""
        side, extra = grid(self.vit), self.vit.num_prefix_tokens
        ids = torch.arange(side * side, device=images.device).expand(images.shape[0], -1)
        x = embed(self.vit, images) if x is None else x
        for layer in range(self.stops[number - 1] if number else 0, self.stops[number]):
            block = self.vit.blocks[layer]
            some = None if trace is not None else read_after(self.vit, layer)
            q, k, v = qkv(block, x, some)
            x = x[:, :some] + attention(block, q, k, v)
            if trace is not None:
                trace.add(layer, (side, side), ids, q, k, extra=extra)
            x = x + mlp(block, x)
        return (head(self.vit, x) if number == len(self.heads) else self.heads[number](x[:, 0])), x

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]; None runs every image to the last block."""
        thresholds = self.check(point).thresholds
        check_images(images, image_size(self.vit), self.vit.cls_token)
        return cascade.run(self.steps(), images, thresholds, trace)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Logits [B, K] of every exit, no image leaving."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        return cascade.run_all(self.steps(), images)

    def outcomes(self, images: Tensor) -> tuple[list[Tensor], Callable[[Point], Tensor]]:
        """Logits [B, K] of every exit, no image leaving, and a function: at which one each image [B] leaves at a point."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        logits, which = cascade.outcomes(self.steps(), images)
        return logits, lambda point: which(self.check(point).thresholds)

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Images -> logits [B, K] with the exits switched off: all leave at this one."""
        return partial(cascade.straight, self.steps(), stages[0])

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Cross-entropy at every exit, of equal weight."""
        yield {f"ce_{stop}": cross_entropy(logits, labels) for stop, logits in zip(self.stops, self.exits(images), strict=True)}
