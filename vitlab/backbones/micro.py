"""The small default nets for 56-pixel pictures: a ViT of width 64 behind a convolutional stem (Xiao et al., 2021).

`micro_patch8` has 7x7 tokens and 4 blocks, `micro_patch4` 14x14 tokens and 6 blocks. All is built from timm's pieces.
A linear patchify costs them 30 points of accuracy; `micro_plain8` is `micro_patch8` with one, for what needs plain patches.
"""
from functools import partial
from math import prod

import torch
from timm.layers import GroupNorm1, HybridEmbed, build_sincos2d_pos_embed, trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

STRIDES = {"micro_patch8": (2, 2, 2, 1), "micro_patch4": (2, 2, 1, 1)}
DEPTH = {"micro_patch8": 4, "micro_patch4": 6, "micro_plain8": 4}
PLAIN = {"micro_plain8": 8}                             # pixels of a patch
LADDER = ((2, 3, 3, 1), (2, 3, 2, 1), (2, 2, 3, 1), (2, 2, 2, 1), (2, 3, 1, 1), (2, 2, 1, 1), (2, 1, 1, 1))
# at 56 pixels:  4             5             6             7            10            14            28


def micro(name: str, num_classes: int, image_size: int = 56, drop_path: float = 0.0,
          grid: int | None = None, **ends) -> VisionTransformer:
    """A small net; `grid` patches per side, None for its own. ValueError for a grid that no strides reach; with plain
    patches the grid is its own, see `make.regrid`. ends: other ends than a class token, in timm's words.

    At width 64 DeiT's initial weights (std 0.02) leave every block nearly idle, and training waits hundreds of steps for it to
    wake; JAX ViT's (Xavier) start at once. Positions start from one sine-cosine field of about the patches' own scale.
    """
    embed = {"patch_size": PLAIN[name]} if name in PLAIN else {
        "patch_size": 1, "embed_layer": partial(HybridEmbed, conv_stem(name, image_size, grid), proj=False)}
    vit = VisionTransformer(img_size=image_size, num_classes=num_classes, embed_dim=64, depth=DEPTH[name], num_heads=4,
                            mlp_ratio=2, drop_path_rate=drop_path, weight_init="jax", **embed, **ends)
    place(vit)
    with torch.no_grad():
        if vit.cls_token is not None:
            trunc_normal_(vit.cls_token, std=0.02)
        trunc_normal_(vit.head.weight, std=0.02)
    return vit


def patch(name: str) -> int:
    """Pixels per side of a patch on the net's own grid."""
    return PLAIN[name] if name in PLAIN else prod(STRIDES[name])


@torch.no_grad()
def place(vit: VisionTransformer) -> None:
    """Start the patches' positions from the sine-cosine field."""
    vit.pos_embed[0, vit.num_prefix_tokens:] = 0.5 * build_sincos2d_pos_embed(list(vit.patch_embed.grid_size), vit.embed_dim)


def conv_stem(name: str, image_size: int, grid: int | None) -> ConvStem:
    """Four convolutions that cut a picture into the net's own number of patches, or into grid x grid."""
    strides = STRIDES[name] if grid is None else strides_for(name, image_size, grid)
    last = 3 if prod(strides) > 16 else 1              # patches that large: the stem would see little beyond its own
    return ConvStem(depth=4, channels=(32, 48, 64, 64), kernel_size=(3, 3, 3, last), stride=strides,
                    norm_layer=GroupNorm1, act_layer=nn.GELU)


def strides_for(name: str, image_size: int, grid: int) -> tuple[int, ...]:
    """The strides of the stem's four convolutions that cut a picture into grid x grid patches."""
    reach = {side_after(image_size, strides): strides for strides in (*LADDER, STRIDES[name])}
    if grid not in reach:
        raise ValueError(f"{name} cannot cut {image_size} pixels into {grid}x{grid} patches; "
                         f"choose a grid from {', '.join(map(str, sorted(reach)))}")
    return reach[grid]


def side_after(pixels: int, strides: tuple[int, ...]) -> int:
    """Pixels per side after 3x3 convolutions with these strides and timm's padding."""
    for stride in strides:
        pixels = (pixels + 2 * ((stride + 1) // 2) - 3) // stride + 1
    return pixels
