"""Making a backbone by name, for an image size and a patch grid."""
from math import ceil

import timm
import torch
from timm.layers import PatchEmbed, resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.backbones import micro, t2t
from vitlab.backbones.ends import grid as grid_of
from vitlab.backbones.ends import image_size as size_of
from vitlab.backbones.ends import resample_positions

TIMM_NAMES = {
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
}
NAMES = (*TIMM_NAMES, *t2t.SHAPES, *micro.DEPTH)


def create(name: str, num_classes: int = 1000, image_size: int | None = None, pretrained: bool = False,
           drop_path: float = 0.0, grid: int | None = None) -> VisionTransformer:
    """A timm VisionTransformer by name, for square images of `image_size` pixels (None: the backbone's own).

    grid: patches per side (None: the backbone's own). Pretrained weights made for another grid are resampled.
    Raises ValueError for an unknown name, one that is not a plain ViT with a class token and absolute positions, or a grid
    that the picture cannot be cut into; ConnectionError when pretrained weights are neither cached nor reachable.
    """
    if name in micro.DEPTH or name in t2t.SHAPES:
        if pretrained:
            raise ValueError(f"{name} has no pretrained weights on the hub; use pretrained=False, or vitlab.load a checkpoint")
        vit = (micro.micro(name, num_classes, image_size or 56, drop_path, grid) if name in micro.DEPTH else
               t2t.t2t_vit(name, num_classes, image_size or 224, drop_path, grid))
    else:
        vit = from_timm(name, num_classes, image_size, pretrained, drop_path)
    if grid is not None and grid != grid_of(vit):                          # plain patches; the small and T2T nets have it
        regrid(vit, grid, keep=pretrained)
        if name in micro.PLAIN:
            micro.place(vit)
    vit.made = {"name": name, "num_classes": num_classes, "image_size": size_of(vit), "pretrained": pretrained,
                "drop_path": drop_path}
    return vit


def sibling(vit: VisionTransformer, grid: int) -> VisionTransformer:
    """A fresh backbone of the same kind for another patch grid; ValueError for one that `create` did not make."""
    if not hasattr(vit, "made"):
        raise ValueError("this backbone does not say how it was made; make it with vitlab.backbones.create")
    return create(**vit.made, grid=grid)


def from_timm(name: str, num_classes: int, image_size: int | None, pretrained: bool, drop_path: float) -> VisionTransformer:
    """timm's own model, unchanged."""
    full = TIMM_NAMES.get(name, name)
    if not timm.is_model(full.split(".")[0]):
        known = ", ".join(NAMES)
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


def regrid(vit: VisionTransformer, grid: int, keep: bool) -> None:
    """Give a backbone with plain patches another grid, as DVT does: patches of ceil(S / grid) pixels, zeros around the picture.

    keep: resample the weights it has; otherwise patch embedding and positions start anew.
    """
    old, size = vit.patch_embed, size_of(vit)
    patch = ceil(size / grid)
    padding, odd = divmod(grid * patch - size, 2)
    if type(old) is not PatchEmbed or odd or padding >= patch:
        raise ValueError(f"{size} pixels cannot be cut evenly into {grid}x{grid} patches; choose another grid, such as "
                         f"{grid_of(vit)}")
    proj = nn.Conv2d(3, vit.embed_dim, patch, patch, padding, bias=old.proj.bias is not None)
    table = resample_positions(vit, grid)
    if keep:
        with torch.no_grad():
            proj.weight.copy_(resample_patch_embed(old.proj.weight, [patch, patch]))
            proj.bias.copy_(old.proj.bias)
    else:
        nn.init.trunc_normal_(table, std=0.02)
    old.proj, old.patch_size, old.grid_size, old.num_patches = proj, (patch, patch), (grid, grid), grid ** 2
    vit.pos_embed = nn.Parameter(table)


def unreachable(error: BaseException) -> bool:
    """Does this error, or what caused it, say that a hub file is neither cached nor reachable?"""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None:
        if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, ConnectionError)):
            return True
        error = error.__cause__ or error.__context__
    return False
