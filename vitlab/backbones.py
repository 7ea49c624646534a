"""Backbones: ordinary timm VisionTransformers by short names, and the two ends of their forward pass.

`deit_tiny`, `deit_small`, `deit_base` are timm's own, weights unchanged; any other timm VisionTransformer goes by its timm name.
`micro_patch8` and `micro_patch4` are the small default nets for 56-pixel pictures (7x7 and 14x14 tokens): a ViT of width 64
behind a convolutional stem (Xiao et al., 2021), built from timm's pieces. A linear patchify costs them 30 points of accuracy.
"""
from functools import partial

import timm
import torch
from timm.layers import GroupNorm1, HybridEmbed, build_sincos2d_pos_embed, resample_abs_pos_embed, trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn

TIMM_NAMES = {
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
}
MICRO_STRIDES = {"micro_patch8": (2, 2, 2, 1), "micro_patch4": (2, 2, 1, 1)}
MICRO_DEPTH = {"micro_patch8": 4, "micro_patch4": 6}


def create(name: str, num_classes: int = 1000, image_size: int | None = None, pretrained: bool = False,
           drop_path: float = 0.0) -> VisionTransformer:
    """A timm VisionTransformer by name, for square images of `image_size` pixels (None: the backbone's own).

    Raises ValueError for an unknown name, or one that is not a plain ViT with a class token and absolute positions;
    ConnectionError when pretrained weights are neither cached nor reachable.
    """
    if name in MICRO_STRIDES:
        if pretrained:
            raise ValueError(f"{name} has no pretrained weights on the hub; use pretrained=False, or vitlab.load a checkpoint")
        return micro(name, num_classes, image_size or 56, drop_path)
    full = TIMM_NAMES.get(name, name)
    if not timm.is_model(full.split(".")[0]):
        known = ", ".join([*TIMM_NAMES, *MICRO_STRIDES])
        raise ValueError(f"no backbone is called {name!r}; choose one of {known}, or the timm name of a VisionTransformer")
    size = {} if image_size is None else {"img_size": image_size}
    try:
        vit = timm.create_model(full, pretrained=pretrained, num_classes=num_classes, drop_path_rate=drop_path, **size)
    except Exception as error:
        if pretrained and unreachable(error):
            raise ConnectionError(f"the pretrained weights of {full} are not cached and the hub cannot be reached; "
                                  "go online once, or use pretrained=False") from error
        raise
    if not isinstance(vit, VisionTransformer) or vit.cls_token is None or vit.pos_embed is None or vit.no_embed_class \
            or vit.global_pool != "token" or getattr(vit.blocks[0].attn, "gate", None) is not None:
        raise ValueError(f"{name} is not a plain ViT with a class token and absolute positions; try deit_small")
    return vit


def micro(name: str, num_classes: int, image_size: int, drop_path: float) -> VisionTransformer:
    """The small default nets.

    At width 64 DeiT's initial weights (std 0.02) leave every block nearly idle, and training waits hundreds of steps for it to
    wake; JAX ViT's (Xavier) start at once. Positions start from one sine-cosine field of about the patches' own scale.
    """
    stem = ConvStem(depth=4, channels=(32, 48, 64, 64), kernel_size=(3, 3, 3, 1), stride=MICRO_STRIDES[name],
                    norm_layer=GroupNorm1, act_layer=nn.GELU)
    vit = VisionTransformer(img_size=image_size, patch_size=1, num_classes=num_classes, embed_dim=64, depth=MICRO_DEPTH[name],
                            num_heads=4, mlp_ratio=2, drop_path_rate=drop_path, weight_init="jax",
                            embed_layer=partial(HybridEmbed, stem, proj=False))
    field = build_sincos2d_pos_embed(list(vit.patch_embed.grid_size), vit.embed_dim)
    with torch.no_grad():
        vit.pos_embed[0, 1:] = 0.5 * field
        trunc_normal_(vit.cls_token, std=0.02)
        trunc_normal_(vit.head.weight, std=0.02)
    return vit


def grid(vit: VisionTransformer) -> int:
    """Patches per side that the backbone was made for."""
    return vit.patch_embed.grid_size[0]


def image_size(vit: VisionTransformer) -> int:
    """Pixels per side that the backbone was made for."""
    return vit.patch_embed.img_size[0]


def resample_positions(vit: VisionTransformer, length: int) -> Tensor:
    """The backbone's own position table at length x length patches: [1, P + length², D] (bicubic, prefix rows copied)."""
    return resample_abs_pos_embed(vit.pos_embed.detach(), [length, length], num_prefix_tokens=vit.num_prefix_tokens)


def embed(vit: VisionTransformer, images: Tensor, positions: Tensor | None = None) -> Tensor:
    """Images [B, 3, h, w] -> tokens [B, T, D], prefix tokens first; `positions` [1, T, D] replaces the backbone's table."""
    return tokens(vit, vit.patch_embed(images), positions)


def tokens(vit: VisionTransformer, patches: Tensor, positions: Tensor | None = None) -> Tensor:
    """Embedded patches [B, N, D] -> tokens [B, T, D]: prefix tokens in front, positions added."""
    prefix = [t.expand(len(patches), -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None]
    x = torch.cat([*prefix, patches], 1) + (vit.pos_embed if positions is None else positions)
    return vit.norm_pre(vit.pos_drop(x))


def head(vit: VisionTransformer, x: Tensor) -> Tensor:
    """Tokens [B, T, D] -> logits [B, K], from the normed class token."""
    return vit.forward_head(vit.norm(x))


def check_images(images: Tensor, size: int) -> None:
    """Raise ValueError, in one sentence, unless images is a batch [B, 3, size, size] of finite floats.

    Pixels are looked at on the CPU only: elsewhere the look would stall the device.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 3:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a tensor [B, 3, {size}, {size}], not {shape}; add the batch axis with images[None]")
    if not images.is_floating_point():
        raise ValueError(f"images must be normalised floats, not {images.dtype}; use the image set's images() or prepare()")
    if len(images) == 0:
        raise ValueError("the batch holds no image; give at least one")
    if images.shape[2] != size or images.shape[3] != size:
        raise ValueError(f"images are {images.shape[2]}x{images.shape[3]} pixels but this net takes {size}x{size}; "
                         f"load the data with image_size={size}")
    if images.device.type == "cpu" and not torch.jit.is_tracing() and not images.sum().isfinite():
        raise ValueError("images hold NaN or infinite pixels; check the pictures and the normalisation")


def unreachable(error: BaseException) -> bool:
    """Does this error, or what caused it, say that a hub file is neither cached nor reachable?"""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None:
        if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError)):
            return True
        error = error.__cause__ or error.__context__
    return False
