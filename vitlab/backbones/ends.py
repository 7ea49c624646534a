"""The two ends of a backbone's forward pass: images to tokens, and tokens to logits."""
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import pit
from vitlab.backbones.lvvit import LVViT
from vitlab.backbones.pit import PoolingVisionTransformer, Stage


def grid(vit: VisionTransformer) -> int:
    """Patches per side that the backbone was made for."""
    return vit.patch_embed.grid_size[0]


def image_size(vit: VisionTransformer) -> int:
    """Pixels per side that the backbone was made for."""
    return vit.patch_embed.img_size[0]


def preprocessing(vit: VisionTransformer) -> dict:
    """What timm's pretrained weights of this backbone want of a picture, in the words of `vitlab.data.picture.Preprocessing`."""
    told = vit.pretrained_cfg
    return {"mean": list(told["mean"]), "std": list(told["std"]), "crop": told["crop_pct"],
            "interpolation": told["interpolation"]}


def resample_positions(vit: VisionTransformer, length: int) -> Tensor:
    """The backbone's own position table at length x length patches: [1, P + length², D] (bicubic, prefix rows copied)."""
    return resample_abs_pos_embed(vit.pos_embed.detach(), [length, length], num_prefix_tokens=vit.num_prefix_tokens)


def embed(vit: VisionTransformer, images: Tensor, positions: Tensor | None = None) -> Tensor:
    """Images [B, 3, h, w] -> tokens [B, T, D], prefix tokens first; `positions` [1, T, D] replaces a ViT's table."""
    if isinstance(vit, PoolingVisionTransformer):
        return pit.embed(vit, images)
    return tokens(vit, vit.patch_embed(images), positions)


def tokens(vit: VisionTransformer, patches: Tensor, positions: Tensor | None = None) -> Tensor:
    """Embedded patches [B, N, D] -> tokens [B, T, D]: prefix tokens in front, positions added."""
    prefix = [t.expand(patches.shape[0], -1, -1) for t in (vit.cls_token, vit.reg_token) if t is not None]
    x = torch.cat([*prefix, patches], 1) + (vit.pos_embed if positions is None else positions)
    return vit.norm_pre(vit.pos_drop(x))


def stages(vit: VisionTransformer | PoolingVisionTransformer) -> list[Stage]:
    """The net's blocks as runs on one patch grid each: a ViT is one stage, a PiT several, to be joined by `pool`."""
    if isinstance(vit, PoolingVisionTransformer):
        return pit.stages(vit)
    return [Stage(grid(vit), dict(enumerate(vit.blocks)))]


def blocks(vit: VisionTransformer | PoolingVisionTransformer) -> list[nn.Module]:
    """The net's blocks in order, those of all stages."""
    return [block for stage in stages(vit) for block in stage.blocks.values()]


def prefix_tokens(vit: VisionTransformer | PoolingVisionTransformer) -> int:
    """How many tokens stand before the patches: the class token, and registers."""
    return vit.num_tokens if isinstance(vit, PoolingVisionTransformer) else vit.num_prefix_tokens


def pooled(vit: VisionTransformer | PoolingVisionTransformer) -> bool:
    """Does the net answer from the mean of its patches, for lack of a class token?"""
    return vit.cls_token is None


def head(vit: VisionTransformer, x: Tensor, valid: Tensor | None = None) -> Tensor:
    """Tokens [B, T, D] -> logits [B, K], from the normed class token and, in an LV-ViT, from the patches that are there.

    A net without class token answers from the mean of the tokens behind its prefix.
    valid [B, T] bool: False marks what stands behind the prefix and is not to be read, as padding (None: nothing does). A net
    without class token also takes numbers: how much each token counts in the mean.
    """
    if isinstance(vit, PoolingVisionTransformer):
        return pit.head(vit, x)
    x = vit.norm(x)
    if pooled(vit) and valid is not None:
        count = valid[:, vit.num_prefix_tokens:].sum(1, keepdim=True)
        mean = (x * valid[..., None])[:, vit.num_prefix_tokens:].sum(1) / count
        return vit.head(vit.head_drop(vit.fc_norm(mean)))
    return vit.forward_head(x) if valid is None or not isinstance(vit, LVViT) else vit.forward_head(x, valid=valid)


def check_images(images: Tensor, size: int, weight: Tensor | None = None) -> None:
    """Raise ValueError, in one sentence, unless images is a batch [B, 3, size, size] of finite floats.

    weight: one of the net's, whose device and, outside autocast, kind of float the images must have.
    Pixels are looked at on the CPU only: elsewhere the look would stall the device. A net that is compiled or exported does
    not look, and takes any number of images.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] != 3:
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a tensor [B, 3, {size}, {size}], not {shape}; add the batch axis with images[None]")
    if not images.is_floating_point():
        raise ValueError(f"images must be normalised floats, not {images.dtype}; use the image set's images() or prepare()")
    if images.shape[0] == 0:
        raise ValueError("the batch holds no image; give at least one")
    if images.shape[2] != size or images.shape[3] != size:
        raise ValueError(f"images are {images.shape[2]}x{images.shape[3]} pixels but this net takes {size}x{size}; "
                         f"load the data with image_size={size}")
    if weight is not None and images.device != weight.device:
        raise ValueError(f"images are on {images.device} but this net is on {weight.device}; "
                         f'move them with images.to("{weight.device}"), or the net with net.to("{images.device}")')
    if weight is not None and images.dtype != weight.dtype and not torch.is_autocast_enabled(images.device.type):
        raise ValueError(f"images are {images.dtype} but this net computes in {weight.dtype}; give images.to({weight.dtype})")
    if images.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return
    if not images.sum().isfinite() and not images.sum(dtype=torch.float64).isfinite():      # bright pictures may overflow
        raise ValueError("images hold NaN or infinite pixels; check the pictures and the normalisation")
