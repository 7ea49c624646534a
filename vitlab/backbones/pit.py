"""PiT (Heo et al., ICCV 2021, arXiv 2103.16302): a ViT in stages, between which the patch grid is halved and the width doubled.

It is timm's own net, driven stage by stage: `embed`, then for each of `stages` `pool` and its blocks, then `head`. Patches go
through a depthwise convolution on their grid, all other tokens through one linear layer.
"""
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timm.layers import Attention
from timm.models.pit import Pooling, PoolingVisionTransformer
from timm.models.vision_transformer import Block
from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """Blocks that follow each other on one patch grid; a plain ViT is one stage."""

    side: int                           # patches per side
    blocks: dict[int, nn.Module]        # number in the whole net, 0-based -> timm's Block
    pooling: Pooling | None = None      # what leads here from the stage before


def stages(net: PoolingVisionTransformer) -> list[Stage]:
    """The stages in their order, 27x27, 14x14 and 7x7 patches for 224 pixels; blocks are numbered through."""
    found, side, first = [], net.patch_embed.grid_size[0], 0
    for part in net.transformers:
        side = side if part.pool is None else (side + 1) // 2
        found.append(Stage(side, dict(enumerate(part.blocks, first)), part.pool))
        first += len(part.blocks)
    return found


def embed(net: PoolingVisionTransformer, images: Tensor) -> Tensor:
    """Images [B, 3, S, S] -> tokens of the first stage [B, 1 + side², D], positions of the patches added."""
    patches = net.pos_drop(net.patch_embed(images) + net.pos_embed)        # [B, D, side, side]
    return torch.cat([net.cls_token.expand(images.shape[0], -1, -1), patches.flatten(2).mT], 1)


def pool(stage: Stage, x: Tensor, side: int, extra: int = 1) -> Tensor:
    """Tokens at the end of a stage -> those that enter the next: [B, extra + side², D] -> [B, extra + stage.side², D'].

    side: patches per side before. extra: tokens in front that are no patches, the class token and others that go its way, such
    as packages. A stage without pooling takes them as they are.
    """
    if stage.pooling is None:
        return x
    patches, others = pool_apart(stage, x[:, extra:], x[:, :extra], side)
    return torch.cat([others, patches], 1)


def pool_apart(stage: Stage, patches: Tensor, others: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """The same of patches [B, side², D] and of other tokens [..., D], which need not be as many for each image."""
    patches, others = stage.pooling(patches.mT.unflatten(2, (side, side)), others)
    return patches.flatten(2).mT, others


def pool_macs(stage: Stage, others: Tensor | float) -> Tensor | float:
    """Multiply-adds of one image's pooling by the closed form; others: its tokens that are no patches."""
    return stage.pooling.conv.weight.numel() * stage.side ** 2 + others * stage.pooling.fc.weight.numel()


def head(net: PoolingVisionTransformer, x: Tensor) -> Tensor:
    """Tokens of the last stage [B, T, D] -> logits [B, K], from the class token."""
    return net.forward_head(net.norm(x[:, :1]))


def obstacles(net: PoolingVisionTransformer) -> Iterator[str]:
    """What cannot be driven in timm's own PiT."""
    if net.head_dist is not None:
        yield "is a PiT with a distillation token"
    if net.global_pool != "token":
        yield "is a PiT without a pooled answer (global_pool)"
    if net.in_chans != 3 or len(set(net.patch_embed.img_size)) > 1:
        yield f"is not made for square pictures of 3 channels (it takes {net.in_chans} of {net.patch_embed.img_size} pixels)"
    if net.num_classes < 1 or getattr(net.head, "out_features", net.num_classes) != net.num_classes:
        yield f"says it has {net.num_classes} classes but its head is {net.head} (vit.reset_classifier changes both)"
    for part in net.transformers:
        if not isinstance(part.norm, nn.Identity) or not all(type(b) is Block and type(b.attn) is Attention for b in part.blocks):
            yield "has stages other than timm's Block and Attention"


def check_size(name: str, net: PoolingVisionTransformer, grid: int | None) -> None:
    """Raise ValueError for a picture that the patches, which overlap, do not fill, or for another grid than the net's own."""
    size, conv = net.patch_embed.img_size[0], net.patch_embed.conv
    patch, step = conv.kernel_size[0], conv.stride[0]
    if size < patch or (size - patch) % step:
        fit = sorted({max(count * step + patch % step, patch) for count in (size // step, size // step + 1)})
        raise ValueError(f"{name} cuts a picture into patches of {patch} pixels, {step} apart, which do not fill {size} pixels; "
                         f"choose image_size={' or '.join(map(str, fit))}")
    if grid not in (None, net.patch_embed.grid_size[0]):
        sides = ", ".join(str(stage.side) for stage in stages(net))
        raise ValueError(f"{name} has grids of its own, {sides} patches per side for {size} pixels; leave grid out, or choose "
                         "another image_size")
