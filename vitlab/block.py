"""A timm Block opened at its seams: the only file that knows timm's attribute names inside a block.

A pre-norm block is `x = x + attention(norm1(x)); x = x + mlp(norm2(x))`. All five papers change only what happens
between these steps, so the steps are free functions over the submodules of an ordinary timm Block.
Letters: B images · T tokens · n of them that ask · H heads · d head width · D width.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.pieces import at_once, in_pieces, watched

ROOM = 8 * 2 ** 20      # bytes of an MLP's widest layer that the cores' shared cache keeps beside the rest


def qkv(block: nn.Module, x: Tensor, n: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise and project: [B, T, D] -> queries [B, H, n, d] of the first n tokens, None being all; keys and values of all."""
    attn, x = block.attn, block.norm1(x)
    if n is None or type(attn.qkv) is not nn.Linear:
        q, k, v = attn.qkv(x).unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return attn.q_norm(q[:, :, :n]), attn.k_norm(k), v
    parts = attn.qkv.weight.tensor_split(3), (None,) * 3 if attn.qkv.bias is None else attn.qkv.bias.tensor_split(3)
    q, k, v = (F.linear(y, *part).unflatten(2, (attn.num_heads, -1)).transpose(1, 2)
               for y, *part in zip((x[:, :n], x, x), *parts, strict=True))
    return attn.q_norm(q), attn.k_norm(k), v


def attention(block: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The residual update of attention, [B, n, D], by the fused kernel.

    `mask` broadcasts to [B, H, n, T]: bool says which keys are allowed, float is added to the logits.
    """
    drop = block.attn.attn_drop.p if block.training else 0.0
    return project(block, F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop))


def attention_logits(q: Tensor, k: Tensor) -> Tensor:
    """Scaled dot products before the softmax, [B, H, T, T]; only where a paper hands them on."""
    return (q * q.shape[-1] ** -0.5) @ k.mT


def attend(block: nn.Module, weights: Tensor, v: Tensor) -> Tensor:
    """The same residual update, [B, T, D], from explicit attention weights [B, H, T, T]."""
    return project(block, block.attn.attn_drop(weights) @ v)


def cls_attention(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """The class token's softmaxed attention row per head, [B, H, T]; the other rows stay fused.

    The softmax runs in float32, so that the ranking of tokens does not depend on autocast.
    `mask` as in `attention`, broadcast to [B, H, 1, T].
    """
    logits = attention_logits(q[:, :, :1], k).float()
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else logits + mask.float()
    return logits.softmax(-1).squeeze(2)


def mean_attention(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of all tokens' softmaxed attention rows per head, [B, H, T]; only for looking at.

    mask [B, 1, 1, T]: bool, which tokens there are, None for all; float, what is added to the logits.
    """
    logits = attention_logits(q, k).float()
    if mask is None or mask.dtype != torch.bool:
        return (logits if mask is None else logits + mask.float()).softmax(-1).mean(2)
    there = mask[:, 0, 0, :, None].float()[:, None]                        # [B, 1, T, 1], as queries
    return (logits.masked_fill(~mask, float("-inf")).softmax(-1) * there).sum(2) / there.sum(2)


def mlp(block: nn.Module, x: Tensor, norm: nn.Module | None = None) -> Tensor:
    """The residual update of the MLP, [B, T, D]; norm: what stands before it, None being the block's own.

    On a CPU by so many images at a time, or tokens of a single row, that what is widest stays in the cache.
    """
    steps = norm or block.norm2, block.mlp, block.ls2, block.drop_path2

    def update(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    if at_once(x) or block.training:
        return update(x)
    token = 4 * max(weight.shape[0] for weight in block.mlp.parameters())  # bytes of the widest layer
    if x.shape[0] * x.shape[1] * token <= ROOM or watched(*steps):
        return update(x)
    return in_pieces(update, x[0], token, ROOM)[None] if len(x) == 1 else in_pieces(update, x, token * x.shape[1], ROOM)


def project(block: nn.Module, y: Tensor) -> Tensor:
    """Heads back to one residual update: [B, H, T, d] -> [B, T, D]."""
    attn = block.attn
    y = attn.proj_drop(attn.proj(attn.norm(y.transpose(1, 2).flatten(2))))
    return block.drop_path1(block.ls1(y))


def macs(block: nn.Module, attending: Tensor | float, fed: Tensor | float | None = None) -> Tensor | float:
    """Multiply-adds of one image's pass by the closed form, 4TD² + 2T²D + 2rTD² for timm's own block.

    attending: tokens in attention; fed: tokens that reach the MLP (None: the same).
    """
    attn, net = block.attn, block.mlp
    linear = attn.qkv.weight.numel() + attn.proj.weight.numel()
    mixing = 2 * attn.num_heads * attn.head_dim * attending
    return attending * (linear + mixing) + (attending if fed is None else fed) * (net.fc1.weight.numel() + net.fc2.weight.numel())
