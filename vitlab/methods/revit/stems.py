"""Other stems for backbones with plain patches: convolutions, and one kernel whose centre serves smaller patches."""
import torch.nn.functional as F
from timm.layers import HybridEmbed, PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn

from vitlab.backbones.ends import image_size

DOUBLINGS = 3       # of the width, from D/8 to D: 48-96-192-384 for DeiT-S (Xiao et al., 4 GF)


def conv_stem(vit: VisionTransformer, grid: int) -> HybridEmbed:
    """Xiao et al. (2021) instead of large patches: strided 3x3 convolutions with BatchNorm and ReLU, then a 1x1 one.

    A patch of 16 pixels is four strides of 2; 24 is 2, 2, 2, 3; 32 is five, one more at the narrow, cheap end.
    Raises ValueError for a backbone that has its own stem, or patches whose side is no product of twos and threes.
    """
    need_plain_patches(vit.patch_embed, "a convolutional stem")
    size, width = image_size(vit), vit.embed_dim
    strides = factors(size // grid) if size % grid == 0 else ()
    if not strides:
        fit = ", ".join(str(size // patch) for patch in (32, 24, 16, 12, 8) if size % patch == 0)
        raise ValueError("a convolutional stem needs patches whose side is a product of twos and threes, which "
                         f"{size} pixels in {grid}x{grid} patches are not; choose lengths from {fit}")
    count = len(strides)
    channels = [width >> min(count - 1 - i, DOUBLINGS) for i in range(count)]
    stem = ConvStem(depth=count + 1, channels=(*channels, width), kernel_size=(*[3] * count, 1), stride=(*strides, 1),
                    padding=(*[1] * count, 0))
    return HybridEmbed(stem, img_size=size, patch_size=1, embed_dim=width, proj=False)


def factors(stride: int) -> tuple[int, ...]:
    """Twos, then threes, whose product is `stride`; () if there are none."""
    found = []
    for factor in (2, 3):
        while stride % factor == 0:
            found.append(factor)
            stride //= factor
    return tuple(found) if stride == 1 else ()


class CenterPatch(nn.Module):
    """Patches of several sizes from one kernel: the smaller ones use its centre (once-for-all nets, Cai et al., 2020).

    stems: patch grid -> a plain patch embedding for it; `forward` takes the first grid unless told. The kernel is that
    of the largest patches.
    """

    def __init__(self, stems: dict[int, PatchEmbed]):
        super().__init__()
        for stem in stems.values():
            need_plain_patches(stem, "a shared kernel")
        first, *_ = stems.values()
        self.cuts = {grid: (stem.proj.kernel_size[0], stem.proj.padding[0]) for grid, stem in stems.items()}
        self.proj = max(stems.values(), key=lambda stem: stem.proj.kernel_size[0]).proj
        self.img_size, self.grid_size, self.num_patches = first.img_size, first.grid_size, first.num_patches

    def kernel(self, patch: int) -> Tensor:
        """The centre of the kernel: [D, 3, patch, patch]."""
        start = self.proj.kernel_size[0] // 2 - patch // 2
        return self.proj.weight[:, :, start:start + patch, start:start + patch]

    def forward(self, images: Tensor, grid: int | None = None) -> Tensor:
        """Images [B, 3, S, S] -> patches [B, grid², D]."""
        patch, padding = self.cuts[grid or self.grid_size[0]]
        return F.conv2d(images, self.kernel(patch), self.proj.bias, patch, padding).flatten(2).mT


def need_plain_patches(stem: nn.Module, what: str) -> None:
    """Raise ValueError unless a stem is timm's own patch embedding."""
    if type(stem) is not PatchEmbed:
        raise ValueError(f"{what} needs a backbone with plain patches, such as deit_small; this one has its own stem")
