"""What a stage of DVT reads of the stage before: its features and its relations (Sec. 3, Figs. 3 and 4)."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import counting, start_from
from vitlab.methods.dvt.enlarge import Enlarge
from vitlab.pieces import CACHE


def layers_of(which: str, depth: int) -> list[int]:
    """Blocks by name, 0-based: all, first, final, shallow or deep half (Tables 7, 8, 11-13)."""
    half = depth // 2
    return {"all": list(range(depth)), "same": list(range(depth)), "first": [0], "final": [depth - 1],
            "shallow": list(range(half)), "deep": list(range(half, depth))}[which]


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
        few = max(2 * CACHE // (8 * self.hidden), 1)
        if torch.is_grad_enabled() or flat.shape[2] <= few:
            return pointwise(self.net, flat).unflatten(2, relations.shape[2:])
        out = flat.new_empty(len(flat), self.heads * len(self.layers), flat.shape[2])
        for one, place in zip(flat.split(1), out.split(1), strict=True):
            for part, piece in zip(one.split(few, 2), place.split(few, 2), strict=True):
                piece.copy_(pointwise(self.net, part))
        return out.unflatten(2, relations.shape[2:])

    def bias(self, layer: int, low: Tensor, some: int | None = None) -> Callable[..., Tensor] | None:
        """What is added to one block's logits, on this stage's grid; None where it reuses none.

        A function of the images' rows (default: all) -> [b, H, T', T'], so that never more of it is there than is wanted.
        some: only of that many queries, prefix tokens all.
        """
        if layer not in self.layers:
            return None
        first = self.layers.index(layer) * self.heads
        own = low[:, first:first + self.heads]
        return lambda rows=slice(None): self.enlarge.both(own[rows]) if some is None else self.enlarge.first(own[rows], some)


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
