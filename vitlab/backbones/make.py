"""Making a backbone by name, for an image size and a patch grid."""
from functools import partial
from math import ceil, log2

import timm
import torch
from timm.layers import PatchEmbed, resample_patch_embed
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from vitlab.backbones import lvvit, micro, pit, t2t
from vitlab.backbones.check import obstacle
from vitlab.backbones.ends import grid as grid_of
from vitlab.backbones.ends import image_size as size_of
from vitlab.backbones.ends import resample_positions
from vitlab.numbers import flag, real, whole

TIMM_NAMES = {
    "deit_tiny": "deit_tiny_patch16_224",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
    "pit_tiny": "pit_ti_224",
    "pit_xsmall": "pit_xs_224",
    "pit_small": "pit_s_224",
}
GAP, NO_CLASS_TOKEN = "_gap", {"class_token": False, "global_pool": "avg", "fc_norm": False}       # the mean of the patches
POOLED = {name + GAP: TIMM_NAMES[name] for name in ("deit_tiny", "deit_small")}
DISTILLED_END = "_distilled"
DISTILLED = {name + DISTILLED_END: TIMM_NAMES[name] for name in ("deit_tiny", "deit_small", "deit_base")}
CHANGED = {**dict.fromkeys(POOLED, NO_CLASS_TOKEN), **dict.fromkeys(DISTILLED, {"reg_tokens": 1})}     # of timm's own
OWN = {             # name -> how it is made, and pixels per side of the picture and of a patch unless others are asked for
    **{name: (partial(t2t.t2t_vit, name), 224, t2t.PATCH) for name in t2t.SHAPES},
    **{name: (partial(lvvit.lvvit, name), 224, lvvit.PATCH) for name in lvvit.SHAPES},
    **{name: (partial(micro.micro, name), 56, micro.patch(name)) for name in micro.DEPTH},
    **{name + GAP: (partial(micro.micro, name, **NO_CLASS_TOKEN), 56, micro.patch(name)) for name in micro.DEPTH},
}
NAMES = (*TIMM_NAMES, *OWN, *CHANGED)
MOST, WIDEST = 1_000_000, 4096          # classes, and pixels of a side


def create(name: str, num_classes: int = 1000, image_size: int | None = None, pretrained: bool = False,
           drop_path: float = 0.0, grid: int | None = None) -> VisionTransformer | PoolingVisionTransformer:
    """A timm VisionTransformer (or PiT) by name, for square images of `image_size` pixels (None: the backbone's own).

    grid: patches per side (None: the backbone's own). Pretrained weights made for another grid are resampled.
    Raises ValueError for an unknown name, one that is neither a PiT nor a plain ViT with absolute positions that answers from its
    class token or the mean of its patches, a size that is no multiple of its patches, a grid that the picture cannot be cut
    into, or pretrained weights that there are none of; ConnectionError when they are neither cached nor reachable.
    """
    num_classes, drop_path = whole(num_classes, "num_classes", 1, MOST), real(drop_path, "drop_path", 0, 1)
    pretrained = flag(pretrained, "pretrained")
    image_size = None if image_size is None else whole(image_size, "image_size, the pixels of one side,", 1, WIDEST)
    grid = None if grid is None else whole(grid, "grid, the patches of one side,", 1, WIDEST)
    if pretrained and (name in OWN or name in CHANGED):
        raise ValueError(f"{name} has no pretrained weights on the hub; use pretrained=False, or vitlab.load a checkpoint")
    if name in OWN:
        make, usual, patch = OWN[name]
        size = image_size or usual
        check_size(name, size, patch, grid)
        vit = make(num_classes, size, drop_path, grid)
    else:
        vit = from_timm(name, num_classes, image_size, pretrained, drop_path)
        if isinstance(vit, PoolingVisionTransformer):
            pit.check_size(name, vit, grid)
        else:
            check_size(name, size_of(vit), patch_of(vit), grid)
    if grid is not None and (grid != grid_of(vit) or type(vit.patch_embed) is PatchEmbed and size_of(vit) % grid):
        regrid(vit, grid, keep=pretrained)                                 # plain patches; a stem of ours has it
        if name.removesuffix(GAP) in micro.PLAIN:
            micro.place(vit)
    vit.made = {"name": name, "num_classes": num_classes, "image_size": size_of(vit), "pretrained": pretrained,
                "drop_path": drop_path}
    return vit


def sibling(vit: VisionTransformer, grid: int) -> VisionTransformer:
    """A fresh backbone of the same kind for another patch grid; ValueError for one that `create` did not make."""
    if not hasattr(vit, "made"):
        raise ValueError("this backbone does not say how it was made; make it with vitlab.backbones.create")
    return create(**vit.made, grid=grid)


def check_size(name: str, size: int, patch: int, grid: int | None) -> None:
    """Raise ValueError for a picture that a backbone's own patches do not fill; for another grid it may be padded."""
    if size < patch or grid is None and size % patch:
        fit = sorted({max(size // patch, 1) * patch, (size // patch + 1) * patch})
        raise ValueError(f"{name} cuts a picture into patches of {patch} pixels, and {size} is no multiple of {patch}; choose "
                         f"image_size={' or '.join(map(str, fit))}")


def patch_of(vit: VisionTransformer) -> int:
    """Pixels per side of a patch of timm's own model; a convolutional stem halves the picture, rounding up, some times."""
    stem = vit.patch_embed
    return stem.patch_size[0] if type(stem) is PatchEmbed else 2 ** round(log2(size_of(vit) / grid_of(vit)))


def from_timm(name: str, num_classes: int, image_size: int | None, pretrained: bool, drop_path: float):
    """timm's own model, unchanged; another model than a plain ViT is found out before its weights are drawn or loaded."""
    full = (TIMM_NAMES | POOLED | DISTILLED).get(name, name)
    if not timm.is_model(full.split(".")[0]):
        known = ", ".join(short for short in NAMES if not short.endswith((GAP, DISTILLED_END)))
        raise ValueError(f"no backbone is called {name!r}; choose one of {known} (some with {GAP} or {DISTILLED_END} behind), or "
                         "the timm name of a VisionTransformer or PiT")
    if pretrained and full.startswith("pit_") and image_size not in (None, 224):
        raise ValueError(f"{name} has pretrained weights for pictures of 224 pixels only, not {image_size}; leave image_size out")
    wanted = {"num_classes": num_classes, "drop_path_rate": drop_path} | ({} if image_size is None else {"img_size": image_size})
    if name in CHANGED:
        wanted |= CHANGED[name]
    elif name not in TIMM_NAMES and (why := unfit(full, wanted)):
        raise ValueError(f"{name} is not a plain ViT with a class token and absolute positions: it {why}; try deit_small")
    try:
        vit = timm.create_model(full, pretrained=pretrained, **wanted)
    except Exception as error:
        if pretrained and unreachable(error):
            raise ConnectionError(f"the pretrained weights of {full} are not cached and the hub cannot be reached; "
                                  "go online once, or use pretrained=False") from error
        raise
    return vit


def unfit(full: str, wanted: dict) -> str | None:
    """Why vitlab cannot drive a timm model, as the end of a sentence; None if it can. It is built without its weights."""
    try:
        with torch.device("meta"):
            return obstacle(timm.create_model(full, **wanted), staged=True, pooled=True)
    except Exception as error:              # every model refuses in its own way what a ViT's constructor takes
        return f"cannot be built with {wanted} ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


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
            if proj.bias is not None:                                      # CLIP's patches have none
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
