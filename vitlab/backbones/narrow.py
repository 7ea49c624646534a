"""A narrower backbone cut out of one: all tokens lose the same channels, from the stem to the head, and blocks shrink with them.

As many heads stay, each narrower in the same proportion as the tokens, and so do the hidden layers of the MLPs. In timm's
attention a head's width need not divide the tokens', so any width is possible.
What goes is what counts least: a channel counts as the norm of the weights that write it times that of those that read it. What
a query channel is read by is the key's, and the other way round.
"""
from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones.check import check_backbone
from vitlab.numbers import whole

TABLES = ("cls_token", "reg_token", "pos_embed")        # parameters of tokens, [1, n, D]


@torch.no_grad()
def narrow(vit: VisionTransformer, width: int) -> VisionTransformer:
    """A copy whose tokens have only the `width` most important channels, in their order; ValueError for a net it cannot cut.

    All channels kept, it is the same net. It does not say how it was made, since no name stands for it.
    """
    check(vit)
    width = whole(width, "width, the channels of a token,", 1, vit.embed_dim)
    keep, net = best(importance(vit), width), deepcopy(vit)
    net.__dict__.pop("made", None)
    for block in net.blocks:
        cut_block(block, keep, vit.embed_dim)
    for name in TABLES:
        if (table := getattr(net, name)) is not None:
            setattr(net, name, held(table, table[..., keep]))
    cut_rows(stem_end(net), keep)
    for part in (getattr(net.patch_embed, "norm", None), net.norm_pre, net.norm, net.fc_norm):
        cut_channels(part, keep)
    for part in heads(net):
        cut_columns(part, keep)
    net.embed_dim = net.num_features = net.head_hidden_size = width
    return net


def check(vit: VisionTransformer) -> None:
    """Fail at the door: one sentence for a net whose channels cannot be told apart."""
    check_backbone(vit)
    take = "take a DeiT, T2T-ViT, LV-ViT or micro net"
    if len(stem_end(vit).weight) != vit.embed_dim:
        raise ValueError(f"the stem of this net, a {type(vit.patch_embed).__name__}, does not end in one convolution or linear "
                         f"layer, so its channels cannot be cut; {take}")
    for block in vit.blocks:
        if type(block.mlp) is not Mlp or not isinstance(block.mlp.norm, nn.Identity):
            raise ValueError(f"channels of a {type(block.mlp).__name__} cannot be cut, only those of timm's plain Mlp; {take}")
        if not isinstance(block.attn.q_norm, nn.Identity):
            raise ValueError(f"this net norms its queries and keys over all channels of a head, so none can be cut; {take}")


def shrunk(channels: int, width: int, full: int) -> int:
    """How many of the channels inside a block stay when `width` of its `full` token channels do."""
    return max(round(channels * width / full), 1)


def best(score: Tensor, count: int) -> Tensor:
    """The places of the highest scores in each row, ascending: [..., n] -> [..., count]."""
    return score.topk(count).indices.sort().values


@torch.no_grad()
def importance(vit: VisionTransformer) -> Tensor:
    """How much each channel of the tokens counts: [D]."""
    written = sum(w.detach().flatten(1).square().sum(1) for w in writers(vit))
    read = sum(w.detach().square().sum(0) for w in readers(vit))
    return (written * read).sqrt()


def writers(vit: VisionTransformer) -> Iterator[Tensor]:
    """Weights [D, ...] of all that is added to a token; of the positions what they are in the mean."""
    yield stem_end(vit).weight
    yield vit.pos_embed[0].mT / vit.pos_embed.shape[1] ** 0.5
    for block in vit.blocks:
        one = vit.pos_embed.new_ones(vit.embed_dim)
        yield block.ls1(one)[:, None] * block.attn.proj.weight
        yield block.ls2(one)[:, None] * block.mlp.fc2.weight


def readers(vit: VisionTransformer) -> Iterator[Tensor]:
    """Weights [n, D] of all that looks at a token, behind its norm."""
    for block in vit.blocks:
        yield block.attn.qkv.weight * gain(block.norm1)
        yield block.mlp.fc1.weight * gain(block.norm2)
    for part in heads(vit):
        yield part.weight * gain(vit.norm)


def gain(norm: nn.Module) -> Tensor | float:
    """What a norm multiplies each channel by, [D]."""
    return 1.0 if getattr(norm, "weight", None) is None else norm.weight


def heads(vit: VisionTransformer) -> list[nn.Linear]:
    """The classifiers: of the class token and, in an LV-ViT, of the patches."""
    return [part for part in (vit.head, getattr(vit, "aux_head", None)) if part is not None]


def stem_end(vit: VisionTransformer) -> nn.Module:
    """The layer of the stem that writes the patches: its last."""
    return [part for part in vit.patch_embed.modules() if isinstance(part, nn.Conv2d | nn.Linear)][-1]


def cut_block(block: nn.Module, keep: Tensor, full: int) -> None:
    """Only these token channels of a block, in place, and inside it the most important in proportion."""
    attn, net = block.attn, block.mlp
    d, hidden = shrunk(attn.head_dim, len(keep), full), shrunk(net.fc1.out_features, len(keep), full)
    q, k, v = (attn.qkv.weight * gain(block.norm1)).unflatten(0, (3, attn.num_heads, -1)).norm(dim=-1)      # [H, d] each
    read = attn.proj.weight.unflatten(1, (attn.num_heads, -1)).norm(dim=0)
    first = attn.head_dim * torch.arange(attn.num_heads, device=keep.device)[:, None]
    asked, said = ((first + best(score, d)).flatten() for score in (q * k, v * read))
    inner = best((net.fc1.weight * gain(block.norm2)).norm(dim=1) * net.fc2.weight.norm(dim=0), hidden)
    cut_rows(attn.qkv, torch.cat([asked, attn.attn_dim + asked, 2 * attn.attn_dim + said]))
    if d < attn.head_dim:                                                  # the logits are divided by sqrt(d)
        for part in (attn.qkv.weight, attn.qkv.bias) if attn.qkv.bias is not None else (attn.qkv.weight,):
            part[:len(asked)] *= (d / attn.head_dim) ** 0.5
    cut_columns(attn.proj, said)
    cut_channels(attn.norm, said)
    attn.head_dim, attn.attn_dim, attn.scale = d, len(said), d ** -0.5
    cut_rows(net.fc1, inner)
    cut_columns(net.fc2, inner)
    for part in (attn.proj, net.fc2):
        cut_rows(part, keep)
    for part in (attn.qkv, net.fc1):
        cut_columns(part, keep)
    for part in (block.norm1, block.ls1, block.norm2, block.ls2):
        cut_channels(part, keep)


def cut_rows(part: nn.Linear | nn.Conv2d, keep: Tensor) -> None:
    """Only these outputs of a layer, in place."""
    hold(part, ("weight", "bias"), keep)
    setattr(part, "out_features" if isinstance(part, nn.Linear) else "out_channels", len(keep))


def cut_columns(part: nn.Linear, keep: Tensor) -> None:
    """Only these inputs of a layer, in place."""
    part.weight, part.in_features = held(part.weight, part.weight[:, keep]), len(keep)


def cut_channels(part: nn.Module | None, keep: Tensor) -> None:
    """Only these channels of a norm or of a LayerScale, in place; what has none stays as it is."""
    hold(part, ("weight", "bias", "gamma"), keep)
    if hasattr(part, "normalized_shape"):
        part.normalized_shape = (len(keep),)


def hold(part: nn.Module | None, names: Sequence[str], keep: Tensor) -> None:
    """Only these rows of the parameters of a module that it has."""
    for name in names:
        if isinstance(old := getattr(part, name, None), nn.Parameter):
            setattr(part, name, held(old, old[keep]))


def held(old: nn.Parameter, new: Tensor) -> nn.Parameter:
    """What is left of a parameter, learning as before."""
    return nn.Parameter(new.clone(), requires_grad=old.requires_grad)
