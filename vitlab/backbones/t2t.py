"""T2T-ViT (Yuan et al., ICCV 2021, arXiv 2101.11986): its tokens-to-token stem before timm's blocks.

The stem cuts the picture into overlapping patches three times; between the cuts a small Performer (Choromanski et al., 2021),
attention with linear cost, mixes them. Positions are a fixed sine-cosine table. Names and numbers follow the official code.
"""
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.pieces import in_pieces, watched

SHAPES = {                                                  # width, blocks, heads, MLP ratio
    "t2t_vit_7": (256, 7, 4, 2), "t2t_vit_10": (256, 10, 4, 2), "t2t_vit_12": (256, 12, 4, 2),
    "t2t_vit_14": (384, 14, 6, 3), "t2t_vit_19": (448, 19, 7, 3), "t2t_vit_24": (512, 24, 8, 3),
}
# kernel, stride and padding of the first cut: DVT's code; 4x4 is in DVT's Table 1 but not in its code, this one has its cost
CUTS = {(224, 14): (7, 4, 2), (224, 10): (11, 6, 5), (224, 7): (14, 8, 3), (224, 4): (24, 14, 5)}
PATCH = 16                                                  # pixels per side for one token, unless a grid is asked for
INNER, FEATURES = 64, 32                                    # width inside the stem; random features of the Performer


class Performer(nn.Module):
    """One layer of attention with positive random features and an MLP: [B, n, d] -> [B, n, 64], at a cost linear in n."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(INNER)
        self.kqv = nn.Linear(width, 3 * INNER)
        self.proj, self.proj_drop = nn.Linear(INNER, INNER), nn.Dropout(0.1)
        self.mlp = Mlp(INNER, INNER, INNER, drop=(0.0, 0.1))
        axes = nn.init.orthogonal_(torch.empty(FEATURES, INNER)) * FEATURES ** 0.5
        self.w = nn.Parameter(axes, requires_grad=False)

    def feature(self, u: Tensor) -> Tensor:
        """phi(u) = exp(W u - |u|²/2) / sqrt(m): [B, n, 64] -> [B, n, 32]."""
        return torch.exp(F.linear(u, self.w.to(u.dtype)) - u.square().sum(-1, keepdim=True) / 2) / FEATURES ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        k, q, v = self.kqv(self.norm1(x)).chunk(3, -1)
        wide = v.to(torch.promote_types(v.dtype, torch.float32))           # exp overflows in half precision
        with torch.autocast(x.device.type, enabled=False):
            k, q = self.feature(k.to(wide.dtype)), self.feature(q.to(wide.dtype))
            total = q @ k.sum(1)[:, :, None]                               # [B, n, 1]
            y = q @ (k.mT @ wide) / (total + 1e-8)
        x = v + self.proj_drop(self.proj(y.to(v.dtype)))                   # the widths differ, so v stands in for x
        return x + self.mlp(self.norm2(x))


class TokensToToken(nn.Module):
    """Images [B, 3, S, S] -> patches [B, N, D]: cut, Performer, cut, Performer, cut, project.

    strict_img_size False lets pictures of other sizes pass, as timm's PatchEmbed does.
    """

    def __init__(self, img_size: int, embed_dim: int, grid: int, strict_img_size: bool = True, **unused):
        super().__init__()
        kernel, stride, padding = first_cut(img_size, grid)
        self.img_size, self.grid_size, self.num_patches = (img_size, img_size), (grid, grid), grid ** 2
        self.strict_img_size = strict_img_size
        self.cuts = nn.ModuleList([nn.Unfold(kernel, stride=stride, padding=padding),
                                   nn.Unfold(3, stride=2, padding=1), nn.Unfold(3, stride=2, padding=1)])
        self.attention = nn.ModuleList([Performer(3 * kernel ** 2), Performer(9 * INNER)])
        self.project = nn.Linear(9 * INNER, embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        if watched(*self.children()):
            return self.cut(images)
        first = self.cuts[0]
        wider = (first.kernel_size / first.stride) ** 2                    # a pixel is in so many patches
        return in_pieces(self.cut, images, round(wider * 4 * images[:1].numel()))

    def cut(self, images: Tensor) -> Tensor:
        """Some of the images at a time: the first cut makes each pixel three times as many numbers."""
        x = images
        for cut, performer in zip(self.cuts, self.attention):
            patches = performer(cut(x).mT)                                 # [B, n, 64]
            side = int(patches.shape[1] ** 0.5)
            x = patches.mT.unflatten(2, (side, side))
        return self.project(self.cuts[-1](x).mT)


def first_cut(image_size: int, grid: int) -> tuple[int, int, int]:
    """Kernel, stride and padding of the first cut; the two later ones halve the side.

    The official numbers where there are any, else the same proportions: stride S / (4 grid), kernel 1.75 strides.
    """
    if (image_size, grid) in CUTS:
        return CUTS[image_size, grid]
    stride = max(round(image_size / (4 * grid)), 1)
    kernel = max(round(1.75 * stride), 2)
    found = [(abs(4 * grid - side), k, stride, padding) for k in (kernel, kernel + 1) for padding in range((k + 1) // 2 + 1)
             if 4 * grid - 3 <= (side := (image_size + 2 * padding - k) // stride + 1) <= 4 * grid]
    if not found:
        raise ValueError(f"a T2T stem cannot cut {image_size} pixels into {grid}x{grid} patches; choose a grid near "
                         f"{image_size // 16}, or a DeiT backbone")
    return min(found)[1:]


def positions(count: int, width: int) -> Tensor:
    """The fixed sine-cosine table [1, count, width] of Vaswani et al. (2017)."""
    rate = 10000 ** (-2 * torch.div(torch.arange(width), 2, rounding_mode="floor") / width)
    angle = torch.arange(count)[:, None].double() * rate.double()
    table = torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())
    return table.float()[None]


def t2t_vit(name: str, num_classes: int, image_size: int = 224, drop_path: float = 0.0,
            grid: int | None = None) -> VisionTransformer:
    """A T2T-ViT by name; `grid` patches per side, None for one patch per 16 pixels."""
    width, depth, heads, ratio = SHAPES[name]
    vit = VisionTransformer(img_size=image_size, patch_size=PATCH, num_classes=num_classes, embed_dim=width, depth=depth,
                            num_heads=heads, mlp_ratio=ratio, qkv_bias=False, drop_path_rate=drop_path, norm_layer=nn.LayerNorm,
                            embed_layer=partial(TokensToToken, grid=grid or max(image_size // PATCH, 1)))
    vit.pos_embed = nn.Parameter(positions(vit.patch_embed.num_patches + 1, width), requires_grad=False)
    nn.init.trunc_normal_(vit.cls_token, std=0.02)
    return vit
