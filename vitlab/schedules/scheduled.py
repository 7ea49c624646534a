"""A ViT that runs a published schedule: so many tokens in each block's attention, so many in its MLP."""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import check_backbone, check_images, embed, head, image_size, read_after
from vitlab.block import attention, cls_attention, mlp, qkv
from vitlab.losses import cross_entropy
from vitlab.merging import merged
from vitlab.numbers import wholes
from vitlab.schedules.operations import Predictor, best, fused, predicted
from vitlab.trace import Trace
from vitlab.words import one_of

WAYS = ("drop", "fuse", "merge", "predict")


@dataclass(frozen=True)
class Point:
    """A schedule has no knob: one operating point."""


class Scheduled(nn.Module):
    """A ViT whose blocks have `attended` tokens in attention and `fed` in the MLP, the class token among them; for racing.

    way: how tokens go. "drop" keeps those that the class token looks at most, "fuse" folds the others into one (EViT), "merge"
    averages the most alike, with attention in proportion to size (ToMe); "predict" asks a small net before a block (DynamicViT).
    The weights are the backbone's own. ValueError for a schedule that the way cannot follow, or another number of blocks.
    """

    Point = Point
    adaptive = False

    def __init__(self, vit: VisionTransformer, attended: Sequence[int], fed: Sequence[int], way: str = "drop"):
        super().__init__()
        check_backbone(vit)
        self.vit, self.way, self.points = vit, one_of(way, "way", WAYS), (Point(),)
        wanted = f"attended and fed must be numbers of tokens for each of the {len(vit.blocks)} blocks"
        self.attended, self.fed = wholes(attended, wanted), wholes(fed, wanted)
        self.check_schedule(wanted)
        asked = [layer for layer, (_, before) in enumerate(self.steps()) if before]
        self.predictors = nn.ModuleDict({str(layer): Predictor(vit.embed_dim) for layer in asked})

    def check_schedule(self, wanted: str) -> None:
        """One sentence for numbers that do not belong together."""
        vit, path = self.vit, [*zip(self.attended, self.fed)]
        if vit.num_prefix_tokens != 1:
            raise ValueError(f"schedules count one class token, but this net's patches have {vit.num_prefix_tokens} before them")
        if len(self.attended) != len(vit.blocks) or len(self.fed) != len(vit.blocks):
            raise ValueError(f"{wanted}, not {len(self.attended)} and {len(self.fed)}")
        flat = [1 + vit.patch_embed.num_patches, *(count for pair in path for count in pair)]
        if any(now > before for before, now in zip(flat, flat[1:])) or min(flat) < 3:
            raise ValueError(f"a schedule starts from at most {flat[0]} tokens, never rises, and ends at 3 or more")
        inside, between = any(a != f for a, f in path), any(now != before for before, now in zip(flat[::2], flat[1::2]))
        if inside and self.way == "predict" or between and self.way != "predict":
            raise ValueError('tokens go inside a block, between attention and MLP, or with way="predict" before it')

    def steps(self) -> Iterator[tuple[int, int]]:
        """Of each block: tokens that go between attention and MLP, and before the block."""
        came = 1 + self.vit.patch_embed.num_patches
        for attended, fed in zip(self.attended, self.fed):
            yield attended - fed, came - attended
            came = fed

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]. A merged or fused token is no patch, so nothing can be traced."""
        if trace is not None:
            raise ValueError("a schedule is for racing: which patch a token stands for is not followed, so leave trace out")
        check_images(images, image_size(self.vit), self.vit.cls_token)
        x = embed(self.vit, images)                                        # [B, T, D]
        size = torch.ones_like(x[..., :1]) if self.way == "merge" else None
        for layer, block in enumerate(self.vit.blocks):
            if str(layer) in self.predictors:
                x = predicted(x, self.predictors[str(layer)], self.attended[layer])
            some = read_after(self.vit, layer)
            q, k, v = qkv(block, x, some)
            mask = None if size is None or layer == 0 else size.log().mT[:, None]      # [B, 1, 1, T]
            x = x[:, :some] + attention(block, q, k, v, mask)
            if self.fed[layer] < self.attended[layer] and some is None:
                x, size = self.fewer(x, size, q, k, self.fed[layer])
            x = x + mlp(block, x)
        return head(self.vit, x)

    def fewer(self, x: Tensor, size: Tensor | None, q: Tensor, k: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
        """So many tokens, and how large they are."""
        if self.way == "merge":
            while x.shape[1] - count > (most := (x.shape[1] - 1) // 2):    # more than half: twice
                x, size = merged(x, size, k, x.shape[1] - most)
                k = k[:, :, :x.shape[1]]                                   # of tokens as they are; only a time depends on which
            return merged(x, size, k, count)
        if self.way == "fuse":
            return fused(x, q, k, count), None
        return best(x, cls_attention(q, k).mean(1)[:, 1:], count), None

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Cross-entropy."""
        yield {"ce": cross_entropy(self(images), labels)}
