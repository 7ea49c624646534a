"""A net starts from the weights of another of its kind, which may cut the picture into another patch grid."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones.ends import grid, resample_positions


def start_from(vit: nn.Module, other: nn.Module, tensors: dict[str, Tensor] | None = None) -> None:
    """Copy the weights of another backbone, `regridded` where it is a ViT; ValueError, in one sentence, where they do not fit.

    tensors: the weights to take instead of those, by the names of `other`, such as with columns that it does not have.
    """
    here, there = vit.state_dict(), regridded(other, vit) | (tensors or {})
    if wrong := [name for name in here if name not in there or there[name].shape != here[name].shape]:
        raise ValueError(f"{len(wrong)} tensors of this net have no counterpart in the backbone given, the first is "
                         f"{wrong[0]}; take one of the same width, depth and number of classes, and with the same kind of stem")
    vit.load_state_dict({name: there[name] for name in here})


@torch.no_grad()
def regridded(vit: nn.Module, like: nn.Module) -> dict[str, Tensor]:
    """The weights of a net as those of another's patch grid: positions resampled (bicubic), the stem's kernels `carried`."""
    there = vit.state_dict()
    if not isinstance(vit, VisionTransformer) or not isinstance(like, VisionTransformer):
        return there
    if grid(vit) != grid(like):
        there["pos_embed"] = resample_positions(vit, grid(like))
    stem = carried(vit.patch_embed, like.patch_embed)
    return there | {f"patch_embed.{name}": weight for name, weight in stem.items()}


def carried(source: nn.Module, target: nn.Module) -> dict[str, Tensor]:
    """The weights of a stem for one that cuts another grid.

    Kernels that cut patches, as wide as their stride, are resampled; others stand in the middle of larger ones, or are the
    middle of theirs. Of stems of different kinds nothing is changed.
    """
    there = source.state_dict()
    if type(source) is not type(target):
        return there
    parts = dict(target.named_modules())
    for name, part in source.named_modules():
        own = parts.get(name)
        if isinstance(part, nn.Conv2d) and isinstance(own, nn.Conv2d) and part.kernel_size != own.kernel_size:
            cuts, key = part.kernel_size == part.stride != (1, 1), f"{name}.weight"
            there[key] = (resample_patch_embed(there[key], list(own.kernel_size)) if cuts else
                          centred(there[key], own.kernel_size))
    return there


def centred(kernel: Tensor, size: Sequence[int]) -> Tensor:
    """A kernel [D, C, h, w] in the middle of zeros, or its own middle: [D, C, *size]."""
    down, along = (new - old for old, new in zip(kernel.shape[-2:], size, strict=True))
    top, left = int(down / 2), int(along / 2)                              # towards zero, so that back is where it came from
    return F.pad(kernel, (left, along - left, top, down - top))


def carry(source: nn.Module, target: nn.Module) -> None:
    """Copy a stem's weights into one for another patch grid; ValueError where the two are of different kinds."""
    there, here = carried(source, target), target.state_dict()
    if there.keys() != here.keys() or any(there[name].shape != here[name].shape for name in here):
        raise ValueError("the weights of this stem cannot be carried over to another patch grid; both must be plain "
                         "patches or the same convolutions")
    target.load_state_dict(there)
