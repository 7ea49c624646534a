"""Which backbones can be driven by their parts: the one check, which every method makes before it touches a net."""
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from vitlab.backbones import pit
from vitlab.backbones.lvvit import LVViT

OWN = ("forward_features", "_pos_embed", "forward_head", "pool")    # what a subclass must leave alone
STAGED, POOLED = "dense and spvit", "dense, spvit and tome"         # the methods that run a net stage by stage, and pooled ones


def check_backbone(vit: Any, staged: bool = False, pooled: bool = False) -> None:
    """Raise ValueError, in one sentence, for a net that `block` and `backbones.ends` cannot drive as timm does.

    staged: whether the method asking runs a net of several patch grids, which is to say a PiT, stage by stage.
    pooled: whether it runs one without class token, which answers from the mean of its patches.
    """
    if why := obstacle(vit, staged, pooled):
        raise ValueError(f"this backbone {why}; take a plain ViT with a class token and absolute positions, such as deit_small")


def obstacle(vit: Any, staged: bool = False, pooled: bool = False) -> str | None:
    """The first thing about a net that cannot be driven, as the end of a sentence; None if there is none."""
    if isinstance(vit, pit.PoolingVisionTransformer):
        return next(pit.obstacles(vit), None) if staged else f"is a PiT, whose patch grid shrinks: {STAGED} alone run it"
    if not isinstance(vit, VisionTransformer):
        return f"is a {type(vit).__name__} and no timm VisionTransformer"
    known = LVViT if isinstance(vit, LVViT) else VisionTransformer
    if any(getattr(type(vit), name) is not getattr(known, name) for name in OWN):
        return f"is a {type(vit).__name__}, which embeds or answers in its own way"
    return next(obstacles(vit, pooled), None)


def obstacles(vit: VisionTransformer, pooled: bool = False) -> Iterator[str]:
    """What cannot be driven in timm's own VisionTransformer: its ends, then its blocks."""
    stem = vit.patch_embed
    if vit.cls_token is None and not (pooled and vit.global_pool == "avg"):
        yield f"has no class token: {POOLED} alone run such a net" if vit.global_pool == "avg" else "has no class token"
    if vit.pos_embed is None or vit.no_embed_class:
        yield "has no absolute position for every token"
    if vit.global_pool != "token" and vit.cls_token is not None:
        yield f"answers from {vit.global_pool!r} pooling, not from its class token"
    if vit.dynamic_img_size or getattr(stem, "dynamic_img_pad", False):
        yield "was made for pictures of changing sizes (dynamic_img_size or dynamic_img_pad)"
    if vit.in_chans != 3:
        yield f"takes pictures of {vit.in_chans} channels, not of 3"
    if not isinstance(vit.patch_drop, nn.Identity):
        yield "drops patches in training (patch_drop_rate)"
    if stem.img_size is None or len(set(stem.img_size)) > 1 or len(set(stem.grid_size)) > 1:
        yield f"is not made for square pictures cut alike on both sides (it takes {stem.img_size} pixels)"
    elif vit.pos_embed.shape[1] != stem.num_patches + vit.num_prefix_tokens:
        yield f"has {vit.pos_embed.shape[1]} positions for {stem.num_patches + vit.num_prefix_tokens} tokens"
    for head in (vit.head, getattr(vit, "aux_head", vit.head)):
        if vit.num_classes < 1 or getattr(head, "out_features", vit.num_classes) != vit.num_classes:
            yield f"says it has {vit.num_classes} classes but its head is {head} (vit.reset_classifier changes both)"
    for block in vit.blocks:
        attn, first = getattr(block, "attn", None), getattr(getattr(block, "mlp", None), "fc1", None)
        if type(block) is not Block or type(attn) is not Attention or attn.gate is not None:
            yield f"has blocks other than timm's Block and Attention ({type(block).__name__}, {type(attn).__name__})"
        elif getattr(first, "in_features", vit.embed_dim) != vit.embed_dim:
            yield "has blocks that another method widened"


@torch.no_grad()
def check_stem(stem: nn.Module, like: torch.Tensor, size: int, length: int) -> None:
    """Raise ValueError unless a stem cuts size x size pixels into length x length patches; `like` gives device and dtype.

    A copy of it is run once, so neither its statistics nor the random numbers are touched.
    """
    copy = deepcopy(stem).eval()
    copy.strict_img_size = False                                           # of timm's: let pictures of other sizes pass
    try:
        patches = copy(like.new_zeros(1, 3, size, size))
    except (RuntimeError, AssertionError) as error:                        # a kernel that is larger, or timm's own refusal
        raise ValueError(f"the stem of this net cannot cut {size} pixels into {length}x{length} patches; choose other lengths, "
                         "or a backbone whose patches divide the picture") from error
    count = patches[0, 0].numel() if patches.dim() == 4 else patches.shape[1]
    if count != length ** 2:
        raise ValueError(f"the stem of this net cuts {size} pixels into {count} patches, not into {length}x{length}; "
                         "choose other lengths, or a backbone whose patches divide the picture")
