"""What a stage of DVT reads of the stage before: its features, its relations, and both on a finer grid (Sec. 3, Figs. 3 to 5)."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import counting, start_from
from vitlab.pieces import CACHE, at_once


def layers_of(which: str, depth: int) -> list[int]:
    """Blocks by name, 0-based: all, first, final, shallow or deep half (Tables 7, 8, 11-13)."""
    half = depth // 2
    return {"all": list(range(depth)), "same": list(range(depth)), "first": [0], "final": [depth - 1],
            "shallow": list(range(half)), "deep": list(range(half, depth))}[which]


class Enlarge(nn.Module):
    """A finer grid on the last but one axis (Fig. 5): [..., P + old², C] -> [..., P + new², C], prefix rows untouched.

    how: "grid", two taps per axis; "official", the same numbers by the code's slower operators, which fvcore counts.
    """

    def __init__(self, old: int, new: int, prefix: int, how: str = "grid"):
        super().__init__()
        self.old, self.new, self.prefix, self.how = old, new, prefix, how
        taps = [[cell // 2 for cell in range(2 * old * i // new, -(-2 * old * (i + 1) // new))] for i in range(new)]
        self.register_buffer("low", torch.tensor([t[0] for t in taps]), persistent=False)
        self.register_buffer("high", torch.tensor([t[-1] for t in taps]), persistent=False)
        share = [t.count(t[-1]) / len(t) if t[-1] > t[0] else 0.0 for t in taps]
        self.register_buffer("share", torch.tensor(share)[:, None], persistent=False)
        self.register_buffer("taps", Enlarge.forward(self, torch.eye(prefix + old ** 2)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        cells, width = x[..., self.prefix:, :], x.shape[-1]
        if self.how == "official":
            picture = cells.mT.reshape(-1, 1, self.old, self.old)
            picture = F.adaptive_avg_pool2d(F.interpolate(picture, scale_factor=2.0), self.new)
            cells = picture.reshape(*x.shape[:-2], width, -1).mT
        else:
            rows = self.between(cells.reshape(-1, self.old, self.old * width))              # [n, new, old * C]
            cells = self.between(rows.reshape(-1, self.old, width)).reshape(*x.shape[:-2], -1, width)
        return torch.cat([x[..., :self.prefix, :], cells], -2)

    def between(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Two taps on the last axis but one: [..., old, C] -> [..., new, C]; out: where to write it."""
        return torch.lerp(x.index_select(-2, self.low), x.index_select(-2, self.high), self.share.to(x.dtype), out=out)

    def rows(self, x: Tensor, out: Tensor) -> None:
        """[b, H, P + old², C] -> [b, H, P + new², C], written where it is to stand."""
        out[..., :self.prefix, :] = x[..., :self.prefix, :]
        between = self.between(x[..., self.prefix:, :].reshape(-1, self.old, self.old * x.shape[-1]))      # [n, new, old * C]
        between = between.reshape(*x.shape[:2], self.new, self.old, x.shape[-1])
        self.between(between, out[..., self.prefix:, :].unflatten(-2, (self.new, self.new)))

    def both(self, relation: Tensor) -> Tensor:
        """Queries and keys of attention logits: [B, H, P + old², P + old²] -> [B, H, P + new², P + new²].

        As matrix products, which are no part of the cost that papers count: for training, and on a GPU, where the two taps were
        half of a cascade's time, both of them; else that of the keys, of so many images at a time that they stay in the cache.
        """
        if self.how == "official" or counting():
            return self.rows_and_columns(relation)
        taps, full = self.taps.to(relation.dtype), len(self.taps)
        if torch.is_grad_enabled() or relation.device.type != "cpu":
            return taps @ (relation @ taps.mT)
        if at_once(relation):                                              # a graph
            return self.rows_and_columns(relation)
        out = (relation[:1, :1] @ taps.mT).new_empty(*relation.shape[:2], full, full)          # autocast's kind of numbers
        few = max(3 * CACHE // (4 * relation.shape[1] * full ** 2), 1)
        for part, place in zip(relation.split(few), out.split(few), strict=True):
            self.rows(part @ taps.mT, place)
        return out

    def rows_and_columns(self, relation: Tensor) -> Tensor:
        """Keys, then queries."""
        return self(self(relation.mT.contiguous()).mT.contiguous())

    def first(self, relation: Tensor, some: int) -> Tensor:
        """The same of the first `some` queries, prefix tokens all: [B, H, some, P + new²]."""
        return self(relation[..., :some, :].mT.contiguous()).mT


class Naive(Enlarge):
    """Table 8's mistake: the block of patch-to-patch logits resized as one picture; its class rows and columns as above."""

    def both(self, relation: Tensor) -> Tensor:
        p, right = self.prefix, super().both(relation)
        middle = F.interpolate(relation[..., p:, p:], size=(self.new ** 2, self.new ** 2))
        bottom = torch.cat([right[..., p:, :p], middle], -1)
        return torch.cat([right[..., :p, :], bottom], -2)


@dataclass
class Reuse:
    """What a stage hands on about b images; `reuse[rows]` follows those that stay."""

    features: list[Tensor]              # z_up: [b, T, D], the last block's output, or every block's
    relations: Tensor | None            # A_up: [b, M, T, T] attention logits of all its heads and blocks, M = H * L

    def __getitem__(self, rows: Tensor) -> "Reuse":
        return Reuse([z[rows] for z in self.features], None if self.relations is None else self.relations[rows])

    def detach(self) -> "Reuse":
        """The same without gradients to the stage that found it."""
        return Reuse([z.detach() for z in self.features], None if self.relations is None else self.relations.detach())


class Context(nn.Module):
    """E_l = f_l(z_up), Eq. 4: an embedding of the upstream features for each block that reuses them.

    reuse_cls False puts zeros where the class token is, as the paper found better. Starts as the code's, like the backbone:
    weights with a standard deviation of 0.02, no biases.
    """

    def __init__(self, width: int, hidden: int, out: int, layers: Sequence[int], enlarge: Enlarge, *, norm: bool,
                 reuse_cls: bool):
        super().__init__()
        self.enlarge, self.reuse_cls = enlarge, reuse_cls
        self.nets = nn.ModuleDict({
            str(layer): nn.Sequential(nn.LayerNorm(width) if norm else nn.Identity(), nn.Linear(width, hidden), nn.GELU(),
                                      nn.Linear(hidden, out)) for layer in layers})
        for linear in (part for part in self.nets.modules() if isinstance(part, nn.Linear)):
            trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, layer: int, features: list[Tensor], some: int | None = None) -> Tensor:
        """[B, P + N, D'] for one block; [B, some, D'] for its first tokens, prefix tokens all."""
        net, up = self.nets[str(layer)], features[layer if len(features) > 1 else 0]
        if some is not None:
            e = net(up[:, :some])
            return e if self.reuse_cls else torch.zeros_like(e)
        e = self.enlarge(net(up))
        return e if self.reuse_cls else F.pad(e[:, self.enlarge.prefix:], (0, 0, self.enlarge.prefix, 0))


class Relations(nn.Module):
    """r(A_up), Eq. 8: one MLP over the channels of all upstream logits, then a finer grid block by block.

    Handed on are M numbers per pair of upstream tokens; only H channels at a time are ever enlarged.
    """

    def __init__(self, heads: int, depth: int, source: str, layers: Sequence[int], net: str, enlarge: Enlarge, zero_last: bool):
        super().__init__()
        self.heads, self.layers, self.enlarge = heads, list(layers), enlarge
        told, out, hidden = heads * len(layers_of(source, depth)), heads * len(layers), 3 * heads * depth
        groups = depth if source == "same" else 1
        self.hidden = hidden
        self.net = nn.Conv2d(told, out, 1, groups=groups) if net == "linear" else nn.Sequential(
            nn.Conv2d(told, hidden, 1, groups=groups), nn.GELU(), nn.Conv2d(hidden, out, 1, groups=groups))
        if zero_last:
            last = self.net if net == "linear" else self.net[-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, relations: Tensor) -> Tensor:
        """A_up [B, M, T, T] -> the logits to add, still on the upstream grid: [B, H * blocks, T, T]."""
        if counting() or torch.compiler.is_compiling():
            return self.net(relations)
        if relations.device.type != "cpu":
            return channels_last(self.net, relations)
        flat = relations.flatten(2)                                        # [B, M, T * T]
        few = max(CACHE // (8 * self.hidden), 1)
        if torch.is_grad_enabled() or flat.shape[2] <= few:
            return pointwise(self.net, flat).unflatten(2, relations.shape[2:])
        out = flat.new_empty(len(flat), self.heads * len(self.layers), flat.shape[2])
        for one, place in zip(flat.split(1), out.split(1), strict=True):
            for part, piece in zip(one.split(few, 2), place.split(few, 2), strict=True):
                piece.copy_(pointwise(self.net, part))
        return out.unflatten(2, relations.shape[2:])

    def bias(self, layer: int, low: Tensor, some: int | None = None) -> Tensor | None:
        """What is added to one block's logits, [B, H, T', T'] on this stage's grid; None where it reuses none.

        some: only of that many queries, prefix tokens all.
        """
        if layer not in self.layers:
            return None
        first = self.layers.index(layer) * self.heads
        own = low[:, first:first + self.heads]
        return self.enlarge.both(own) if some is None else self.enlarge.first(own, some)


def pointwise(net: nn.Module, x: Tensor) -> Tensor:
    """What convolutions of one pixel make of [B, M, P], as matrix products: on a CPU four times as fast to train."""
    for part in net if isinstance(net, nn.Sequential) else [net]:
        if isinstance(part, nn.Conv2d) and part.groups == 1:
            x = torch.baddbmm(part.bias[:, None].to(x.dtype), part.weight.flatten(1).to(x.dtype).expand(len(x), -1, -1), x)
        else:
            x = part(x[..., None])[..., 0]
    return x


def channels_last(net: nn.Module, x: Tensor) -> Tensor:
    """The same of [B, M, T, T], whose T is odd, as one matrix product over the channels: a GPU's convolutions want even sizes."""
    x = x.permute(0, 2, 3, 1).contiguous()                                 # [B, T, T, M]
    for part in net if isinstance(net, nn.Sequential) else [net]:
        if isinstance(part, nn.Conv2d) and part.groups == 1:
            x = F.linear(x, part.weight.flatten(1), part.bias)
        else:
            x = part(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x.permute(0, 3, 1, 2).contiguous()


def check_widen(vit: VisionTransformer) -> None:
    """Raise ValueError unless `widen` can take every block of a net."""
    for block in vit.blocks:
        norm, first = block.norm2, getattr(block.mlp, "fc1", None)
        if not isinstance(norm, nn.LayerNorm) or norm.bias is None or not isinstance(first, nn.Linear):
            raise ValueError(f"DVT widens the LayerNorm and the first layer of every MLP, but this backbone has "
                             f"{type(norm).__name__} and {type(block.mlp).__name__}; take a DeiT or T2T-ViT, or features=False")


def widen(block: nn.Module, by: int) -> None:
    """Let a block's MLP take `by` more channels; what was there stays in the first columns."""
    norm, linear = block.norm2, block.mlp.fc1
    width = linear.in_features
    block.norm2 = type(norm)(width + by, eps=norm.eps)
    block.mlp.fc1 = nn.Linear(width + by, linear.out_features, bias=linear.bias is not None)
    with torch.no_grad():
        block.norm2.weight[:width], block.norm2.bias[:width] = norm.weight, norm.bias
        block.mlp.fc1.weight.normal_(std=linear.weight.std().item())
        block.mlp.fc1.weight[:, :width] = linear.weight
        if linear.bias is not None:
            block.mlp.fc1.bias.copy_(linear.bias)


def start(vit: VisionTransformer, other: VisionTransformer) -> None:
    """The weights of a plain net; layers that were widened keep what reads the further channels."""
    here, there, wide = vit.state_dict(), other.state_dict(), {}
    for name in here.keys() & there.keys():
        (*rows, width), (*others, narrow) = (here[name].shape or (0,)), (there[name].shape or (0,))
        if rows == others and narrow < width and name.endswith(("norm2.weight", "norm2.bias", "mlp.fc1.weight")):
            wide[name] = torch.cat([there[name].to(here[name]), here[name][..., narrow:]], -1)
    start_from(vit, other, wide)
