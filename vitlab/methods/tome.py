"""ToMe, Bolya et al., ICLR 2023 (arXiv 2210.09461): tokens that are alike are merged, with or without training.

In every block, between attention and MLP, the r most alike pairs of patches become one token each, which counts for as many
patches as are in it. Nothing is learned for that, so any trained ViT becomes faster in one line:

    net = vitlab.create("tome", "vit_small_patch16_224.augreg_in1k", pretrained=True)     # any plain ViT of timm
    net = vitlab.ToMe(dense.vit)                                                          # or the net of a vitlab Dense
    net = vitlab.create("tome", "micro_patch4", classes=dense.made["classes"])            # or a copy of it, which can be saved:
    net.init_from(dense.vit)

paper -> here:  r = Point.r · s = size, in `forward` · r with a falling arrow = `decreasing` · matching and average = `merging`.
Departures: registers are prefix tokens like the class token, and never merged (the paper's nets have none); a net without class
token answers from the mean of its patches, each of which counts the same, however they were merged; in the last block of a net
that answers from its class token nothing is merged unless somebody looks or counts, for nobody reads what would come of it.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import check_backbone, check_images, embed, grid, head, image_size, pooled, read_after, start_from
from vitlab.block import attention, mlp, qkv
from vitlab.losses import cross_entropy
from vitlab.merging import Match, followed, match, merge, most, sets, standing
from vitlab.method import own_point
from vitlab.numbers import flag, plain, whole
from vitlab.recipe import Recipe
from vitlab.trace import Judged, Trace, check_trace

GONE = 0.8                                                  # share of the patches at the headline r: 13 for DeiT, as in the paper
SHARES = (0.95, GONE, 0.65, 0.5, 0.35, 0.2, 0.0)            # of the points, cheapest first


@dataclass(frozen=True)
class Point:
    """How many tokens every block merges away; a block with fewer than 2r patches merges half of them."""

    r: int | None = None        # None: the net's own; 0: nothing is merged, the dense net

    def __post_init__(self):
        object.__setattr__(self, "r", plain(self.r))


class ToMe(nn.Module):
    """A plain ViT that merges tokens.

    vit: a timm VisionTransformer made for square images, with or without class token.
    r: tokens merged per block at the headline point, and in training (None: as many as leave a fifth of the patches).
    decreasing: 2r in the first block, none in the last, a line between: about as many as with a constant r, and sooner.
    proportional: a token is looked at as often as the patches in it would be (the paper: for weights trained without merging;
    False for training with it). It owns no parameters of its own. Raises ValueError for a knob that makes no sense.
    """

    Point = Point
    adaptive = False

    def __init__(self, vit: VisionTransformer, r: int | None = None, *, decreasing: bool = False, proportional: bool = True):
        super().__init__()
        check_backbone(vit, pooled=True)
        self.vit, self.patches = vit, grid(vit) ** 2
        self.r = self.spread(GONE) if r is None else self.check_r(r)
        self.decreasing, self.proportional = flag(decreasing, "decreasing"), flag(proportional, "proportional")
        self.points = tuple(map(Point, sorted({self.r, *map(self.spread, SHARES)}, reverse=True)))

    def spread(self, share: float) -> int:
        """The r with which all blocks together merge away this share of the patches."""
        return min(round(share * self.patches / len(self.vit.blocks)), most(self.patches, 0))

    def check_r(self, r: int) -> int:
        """A number of tokens per block; ValueError for more than the first block could merge."""
        return whole(r, "r, the tokens merged per block,", 0, most(self.patches, 0))

    def check(self, point: Point | None) -> Point:
        """The point, the net's own r for None; ValueError for another method's or an r that makes no sense."""
        point = own_point(point, self)
        return Point(self.r if point.r is None else self.check_r(point.r))

    def init_from(self, vit: VisionTransformer) -> None:
        """Take the weights of a plain backbone, such as a trained Dense's `vit`; ValueError where they do not fit."""
        start_from(self.vit, vit)

    def schedule(self, point: Point | None = None) -> tuple[int, ...]:
        """Tokens merged away in each block; plain numbers, known before the pass."""
        r, left, gone = self.check(point).r, self.patches, []
        last = len(self.vit.blocks) - 1
        for layer in range(last + 1):
            wanted = 2 * r * (last - layer) // last if self.decreasing and last else r
            gone.append(min(wanted, most(left, 0)))
            left -= gone[-1]
        return tuple(gone)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S] at one operating point; merged tokens are really gone."""
        gone, side, extra = self.schedule(point), grid(self.vit), self.vit.num_prefix_tokens
        check_images(images, image_size(self.vit), self.vit.pos_embed)
        check_trace(trace)
        x, size = embed(self.vit, images), None                            # [B, P + N, D]; None: one patch each
        place = torch.arange(extra, x.shape[1], device=x.device).expand(x.shape[0], -1)    # [B, N] the token a patch is in
        for layer, block in enumerate(self.vit.blocks):
            some = None if trace is not None else read_after(self.vit, layer)
            q, k, v = qkv(block, x, some)
            mask = size.log().mT[:, None] if self.proportional and size is not None else None     # [B, 1, 1, T]
            x = x[:, :some] + attention(block, q, k, v, mask)
            before, who = place, None
            if gone[layer] and some is None:
                who = match(k, gone[layer], extra)
                place = followed(place, who, x.shape[1]) if trace is not None else place
                x, size = merge(x, size, who)
            if trace is not None:
                here, fed = standing(before, k.shape[2], extra), standing(place, x.shape[1], extra)
                trace.add(layer, (side, side), here, q, k, fed=fed, extra=extra, mask=mask, pooled=pooled(self.vit),
                          source=fed.gather(1, place - extra) if any(gone) else None,
                          judged=None if who is None else pairs(who, here, gone[layer]))
            x = x + mlp(block, x)
        return head(self.vit, x, size[..., 0] if size is not None and pooled(self.vit) else None)

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Cross-entropy at the net's own r; merging is an average like any pooling, and gradients flow through it."""
        yield {"ce": cross_entropy(self(images), labels)}


def pairs(who: Match, here: Tensor, gone: int) -> Judged:
    """By what it was decided which tokens merge; here [B, T - P]: which patch stands for each of them."""
    first, second = sets(torch.cat([here[:, :1].expand(-1, who.prefix), here], 1), who.prefix)      # the prefix is in no set
    return Judged("how alike the keys are", who.likeness, first, merge=gone, partner=second.gather(1, who.partner))


RECIPE = Recipe(epochs=300, batch=1024, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), warmup=5 / 300, min_lr=1e-5,
                mixup=0.8, cutmix=1.0, label_smoothing=0.1)  # DeiT's own, with proportional=False and drop_path=0.1 in create
