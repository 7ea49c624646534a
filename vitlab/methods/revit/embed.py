"""One backbone at several token lengths: a LayerNorm, a patch embedding and a position table for each (ReViT).

Lengths are patches per side, the largest first. What belongs to the largest stays where timm has it.
"""
import warnings
from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones.check import check_stem
from vitlab.backbones.ends import image_size, resample_positions, tokens
from vitlab.backbones.make import sibling
from vitlab.backbones.start import carry, start_from
from vitlab.methods.revit.stems import CenterPatch, conv_stem

WORDS = {"patch": ("separate", "shared_center", "resize"), "positions": ("separate", "interp", "zeropad"),
         "stem": ("patch", "conv")}


class LengthNorm(nn.Module):
    """A LayerNorm per token length; the input's own token count chooses it (TAL-LN, Sec. 3.2). All start as `norm`."""

    by_count = True

    def __init__(self, norm: nn.Module, counts: Sequence[int]):
        super().__init__()
        self.of = nn.ModuleDict({str(count): deepcopy(norm) for count in counts})

    def forward(self, x: Tensor) -> Tensor:
        count = str(int(x.shape[1]))
        if count not in self.of:
            raise ValueError(f"no length has {count} tokens; those that were trained have {', '.join(self.of)}")
        return self.of[count](x)


def norm_of(norm: nn.Module, count: int) -> nn.Module:
    """The LayerNorm of pictures with so many tokens, however many of them it is given; one that is shared as it is."""
    return norm.of[str(count)] if isinstance(norm, LengthNorm) else norm


def length_norms(vit: VisionTransformer, counts: Sequence[int]) -> None:
    """Give every LayerNorm of a net one twin per token count."""
    for block in vit.blocks:
        block.norm1, block.norm2 = LengthNorm(block.norm1, counts), LengthNorm(block.norm2, counts)
    vit.norm = LengthNorm(vit.norm, counts)


def copy_backbone(source: VisionTransformer, target: VisionTransformer) -> None:
    """All weights of a plain net, its LayerNorms to every length; ValueError where they do not fit."""
    there, twins = source.state_dict(), [name for name in target.state_dict() if ".of." in name]
    plain = {name: ".".join(name.split(".")[:-3] + name.split(".")[-1:]) for name in twins}
    start_from(target, source, {name: there[old] for name, old in plain.items() if old in there})


def zero_padded(table: Tensor, length: int, prefix: int) -> Tensor:
    """A position table in the middle of a larger grid of zeros: [1, P + n², D] -> [1, P + length², D]."""
    small = int((table.shape[1] - prefix) ** 0.5)
    before = (length - small) // 2
    after = length - small - before
    field = F.pad(table[:, prefix:].unflatten(1, (small, small)), (0, 0, before, after, before, after))
    return torch.cat([table[:, :prefix], field.flatten(1, 2)], 1)


class LengthEmbed(nn.Module):
    """Images to tokens at several lengths.

    vit: a backbone for the largest length, whose stem and positions may be changed here.
    patch: "separate" embeddings, "shared_center" (one kernel, see `CenterPatch`) or "resize" (one embedding of the
    resized picture).  positions: "separate" tables, or one that is resampled ("interp") or, made for the shortest
    length, "zeropad"ded.  stem: "patch" or "conv".  dist_token: whether all lengths but the largest have a distillation
    token after the class token; with shared positions it has no row of its own, which would only add to the token.
    Raises ValueError for another word, a length that the picture cannot be cut into, or a stem that cannot be had; warns
    where a pretrained patch embedding gives way to convolutions.
    """

    def __init__(self, vit: VisionTransformer, lengths: Sequence[int], patch: str, positions: str, stem: str,
                 dist_token: bool):
        super().__init__()
        self.check(patch=patch, positions=positions, stem=stem)
        largest, *shorter = self.lengths = tuple(lengths)
        self.patch, self.positions, self.plain = patch, positions, vit.num_prefix_tokens
        nets = {n: sibling(vit, n) for n in shorter} if stem == "patch" and patch != "resize" else {}
        tables = {n: nets[n].pos_embed if n in nets else
                  nn.Parameter(resample_positions(vit, n), vit.pos_embed.requires_grad) for n in shorter}
        stems = {n: net.patch_embed for n, net in nets.items()}
        if patch == "resize":
            for n in shorter:
                check_stem(vit.patch_embed, vit.cls_token, self.resized(vit, n), n)
        if stem == "conv":
            if getattr(vit, "made", {}).get("pretrained"):
                warnings.warn("the pretrained patch embedding is not used: the convolutions of stem=\"conv\" start anew; use "
                              "stem=\"patch\" to keep it", stacklevel=4)
            vit.patch_embed, *others = (conv_stem(vit, n) for n in lengths)
            stems = dict(zip(shorter, others, strict=True))
        if patch == "shared_center":
            vit.patch_embed, stems = CenterPatch({largest: vit.patch_embed, **stems}), {}
        vit.patch_embed.strict_img_size = patch != "resize"                # else one stem sees every length's size
        if positions == "zeropad" and shorter:
            vit.pos_embed = tables[shorter[-1]]
        self.dist_token = nn.Parameter(torch.empty(1, 1, vit.embed_dim)) if dist_token and shorter else None
        if self.dist_token is not None:
            trunc_normal_(self.dist_token, std=0.02)
            tables = {n: nn.Parameter(self.with_dist_row(t.detach()), t.requires_grad) for n, t in tables.items()}
        self.stems = nn.ModuleDict({str(n): module for n, module in stems.items()})
        self.pos = nn.ParameterDict({str(n): t for n, t in tables.items() if positions == "separate"})

    @staticmethod
    def check(**words: str) -> None:
        """Fail at the door: one sentence for each knob that makes no sense."""
        for name, value in words.items():
            if value not in WORDS[name]:
                raise ValueError(f"{name} must be one of {', '.join(WORDS[name])}, not {value!r}")
        if words["stem"] == "conv" and words["patch"] != "separate":
            raise ValueError(f'stem="conv" is a stem per length; use patch="separate", not {words["patch"]!r}')

    def prefix(self, length: int) -> int:
        """Tokens of a length that are no patches."""
        return self.plain + (self.dist_token is not None and length != self.lengths[0])

    def resized(self, vit: VisionTransformer, length: int) -> int:
        """Pixels per side of a picture that one embedding of the largest length cuts into length x length patches."""
        return length * (image_size(vit) // self.lengths[0])

    def with_dist_row(self, table: Tensor) -> Tensor:
        """A position table with a row of zeros for the distillation token."""
        return torch.cat([table[:, :self.plain], torch.zeros_like(table[:, :1]), table[:, self.plain:]], 1)

    def table(self, vit: VisionTransformer, length: int) -> Tensor:
        """The positions of one length: [1, T, D]."""
        if str(length) in self.pos:
            return self.pos[str(length)]
        table = vit.pos_embed
        if self.positions == "interp" and length != self.lengths[0]:
            table = resample_abs_pos_embed(table, [length, length], num_prefix_tokens=self.plain)
        if self.positions == "zeropad":
            table = zero_padded(table, length, self.plain)
        return table if self.prefix(length) == self.plain else self.with_dist_row(table)

    def forward(self, vit: VisionTransformer, images: Tensor, length: int) -> Tensor:
        """Images [B, 3, S, S] -> tokens [B, T, D] of one length, positions added."""
        stem = self.stems[str(length)] if str(length) in self.stems else vit.patch_embed
        if self.patch == "resize" and length != self.lengths[0]:
            size = (self.resized(vit, length),) * 2
            images = F.interpolate(images, size, mode="bilinear", align_corners=True)
        x = stem(images, length) if self.patch == "shared_center" else stem(images)
        if self.prefix(length) > self.plain:
            x = torch.cat([self.dist_token.expand(x.shape[0], -1, -1), x], 1)
        return tokens(vit, x, self.table(vit, length))

    @torch.no_grad()
    def init_from(self, vit: VisionTransformer) -> None:
        """Patch kernels and positions of the shorter lengths, resampled from a plain net's."""
        for stem in self.stems.values():
            carry(vit.patch_embed, stem)
        for length, own in self.pos.items():
            table = resample_positions(vit, int(length))
            own.copy_(table if self.dist_token is None else self.with_dist_row(table))
