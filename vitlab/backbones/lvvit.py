"""LV-ViT (Jiang et al., NeurIPS 2021, arXiv 2104.10858): a ViT behind a convolutional stem, whose patches answer too.

A second classifier looks at every patch; the answer is the class token's logits plus half of each class's best among the
patches. What attention and MLP add to a token is divided by a constant. Names and numbers follow the official code, so that its
state dict loads as it is: `net.vit.load_state_dict(...)`.
Departures: methods train the answer itself, so of the patches the best of each class learns; the code's dense loss (all patches,
against token labels of a larger net), its MixToken and the token labels are left out.
"""
from functools import partial

import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SHAPES = {                                                  # width, blocks, heads, divisor of what a block adds
    "lvvit_tiny": (240, 12, 4, 1), "lvvit_small": (384, 16, 6, 2), "lvvit_medium": (512, 20, 8, 2),
}
PATCH = 16                                                  # pixels per side for one token, unless a grid is asked for
CHANNELS = 64                                               # of the stem, at half the picture's size


class Convolutions(nn.Module):
    """Images [B, 3, S, S] -> patches [B, N, D]: three convolutions at S / 2, then plain patches of what they see.

    strict_img_size False lets pictures of other sizes pass, as timm's PatchEmbed does.
    """

    def __init__(self, img_size: int, embed_dim: int, grid: int, strict_img_size: bool = True, **unused):
        super().__init__()
        patch, padding = last_cut(img_size, grid)
        self.img_size, self.grid_size, self.num_patches = (img_size, img_size), (grid, grid), grid ** 2
        self.strict_img_size = strict_img_size
        self.conv1, self.bn1 = nn.Conv2d(3, CHANNELS, 7, 2, 3, bias=False), nn.BatchNorm2d(CHANNELS)
        self.conv2, self.bn2 = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1, bias=False), nn.BatchNorm2d(CHANNELS)
        self.conv3, self.bn3 = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1, bias=False), nn.BatchNorm2d(CHANNELS)
        self.proj = nn.Conv2d(CHANNELS, embed_dim, patch, patch, padding)

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(conv(x)))
        return self.proj(x).flatten(2).mT


def last_cut(image_size: int, grid: int) -> tuple[int, int]:
    """Kernel (and stride) and padding of the last convolution, as DVT cuts a picture: zeros around what does not divide."""
    half = (image_size + 1) // 2
    patch = -(-half // grid)
    padding, odd = divmod(grid * patch - half, 2)
    if odd or padding >= patch:
        raise ValueError(f"an LV-ViT stem cannot cut {image_size} pixels evenly into {grid}x{grid} patches; choose another grid, "
                         f"such as {max(image_size // PATCH, 1)}")
    return patch, padding


class Scale(nn.Module):
    """x / divisor, in the place of timm's LayerScale."""

    def __init__(self, divisor: float):
        super().__init__()
        self.divisor = divisor

    def forward(self, x: Tensor) -> Tensor:
        return x / self.divisor


class LVViT(VisionTransformer):
    """A VisionTransformer whose patches have a head of their own; aux_weight: what it counts beside the class token's."""

    aux_weight = 0.5

    def __init__(self, divisor: float, **shape):
        super().__init__(**shape)
        for block in self.blocks if divisor != 1 else ():
            block.ls1, block.ls2 = Scale(divisor), Scale(divisor)
        self.aux_head = fresh_head(self.embed_dim, self.num_classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Other classes: both heads start anew."""
        super().reset_classifier(num_classes, global_pool)
        self.aux_head = fresh_head(self.embed_dim, num_classes).to(self.cls_token)

    def forward_head(self, x: Tensor, pre_logits: bool = False, valid: Tensor | None = None) -> Tensor:
        """Normed tokens [B, T, D] -> logits [B, K], or what the class token's head sees; valid [B, T]: see `best`."""
        cls, first = super().forward_head(x, pre_logits), self.num_prefix_tokens
        return cls if pre_logits else cls + self.best(x[:, first:], None if valid is None else valid[:, first:])

    def best(self, patches: Tensor, valid: Tensor | None = None) -> Tensor:
        """The patches' part of the answer: for each class the largest logit among them, weighted. [B, n, D] -> [B, K].

        valid [B, n] bool: which of them are patches and no padding (None: all); a picture without any has no such part.
        """
        logits = self.aux_head(self.head_drop(patches))
        if valid is not None:
            logits = logits.masked_fill(~valid[..., None], float("-inf"))
            logits = logits.masked_fill(~valid.any(1)[:, None, None], 0.0)
        return self.aux_weight * logits.amax(1)


def fresh_head(width: int, classes: int) -> nn.Linear:
    """A classifier with the official initial weights."""
    head = nn.Linear(width, classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def lvvit(name: str, num_classes: int, image_size: int = 224, drop_path: float = 0.0, grid: int | None = None) -> LVViT:
    """An LV-ViT by name; `grid` patches per side, None for one patch per 16 pixels."""
    width, depth, heads, divisor = SHAPES[name]
    return LVViT(divisor, img_size=image_size, patch_size=PATCH, num_classes=num_classes, embed_dim=width, depth=depth,
                 num_heads=heads, mlp_ratio=3, qkv_bias=False, drop_path_rate=drop_path, norm_layer=nn.LayerNorm,
                 embed_layer=partial(Convolutions, grid=grid or max(image_size // PATCH, 1)))
