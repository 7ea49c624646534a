"""The Token-Length Assigner of ReViT (Sec. 3.1): a small EfficientNet that looks at a small copy of the picture and
says how many tokens will do. It is trained after ReViT, by `vitlab.fit`, on the labels of `vitlab.lengths`.

The paper says no more than "a small version of EfficientNet-B0"; sizes and recipe are ours. A net is named by its
`Architecture`, which a checkpoint can hold.
"""
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models.efficientnet import _gen_efficientnet
from torch import Tensor, nn

from vitlab import checkpoint
from vitlab.backbones import check_images
from vitlab.measure import gmacs
from vitlab.numbers import plain, real, whole
from vitlab.recipe import Recipe


class Architecture(NamedTuple):
    """Any timm classifier; width and depth are EfficientNet's multipliers, and 1 for all other nets."""

    net: str = "efficientnet_b0"
    width: float = 0.5
    depth: float = 0.5
    pixels: int = 128           # per side, of the small copy it looks at


SMALL = Architecture()                                      # 0.66 M parameters, 0.0240 G multiply-adds (three lengths)
MICRO = Architecture(width=0.25, depth=0.25, pixels=28)     # 0.12 M, 0.00044 G: for 56-pixel pictures
MOST, LARGEST = 1000, 4096                                 # lengths, and pixels of a side
SMALL_PICTURES = 112                                        # pixels, below which MICRO is the default


class TLA(nn.Module):
    """Logits of each token length, the shortest first: what `fit`, `gmacs` and `ReViT.attach` need, and no more.

    lengths: how many there are.  image_size: pixels per side of the pictures that ReViT takes.
    architecture: see `Architecture` (None: SMALL, or MICRO for small pictures). ValueError for one that cannot be.
    """

    adaptive = False

    def __init__(self, lengths: int, image_size: int, architecture: tuple | None = None):
        super().__init__()
        lengths, image_size = whole(lengths, "lengths", 1, MOST), whole(image_size, "image_size", 16, LARGEST)
        small = MICRO if image_size < SMALL_PICTURES else SMALL
        small = small._replace(pixels=min(small.pixels, image_size))
        given = small if architecture is None else plain(architecture)
        if not isinstance(given, tuple) or len(given) > len(small):
            raise ValueError(f"architecture must be (net, width, depth, pixels), such as {tuple(small)}, not {architecture!r}")
        found = Architecture(*given)
        if lengths < 2:
            raise ValueError(f"an assigner chooses between at least two lengths, not {lengths}")
        if not 16 <= whole(found.pixels, "pixels") <= image_size:
            raise ValueError(f"an assigner looks at 16 to {image_size} pixels per side, not {found.pixels}")
        self.net, self.architecture, self.image_size = build(found, lengths), found, image_size
        self.register_buffer("balance", torch.ones(lengths), persistent=False)
        self.layout = checkpoint.layout(self)
        self.made = {"method": "tla", "backbone": found.net, "num_classes": lengths, "image_size": image_size,
                     "drop_path": 0.0, "knobs": {"architecture": found}}

    def forward(self, images: Tensor, point: None = None) -> Tensor:
        """Logits [B, k] of normalised images [B, 3, S, S]; an assigner has no operating points."""
        if point is not None:
            raise ValueError(f"an assigner has no operating points, so it cannot run at {point!r}; leave the point out")
        check_images(images, self.image_size, next(self.parameters()))
        size = (self.architecture.pixels,) * 2
        wide = images.to(torch.promote_types(images.dtype, torch.float32))  # no half precision: the kernel is missing on a CPU
        return self.net(F.interpolate(wide, size, mode="bilinear", antialias=True).to(images.dtype))

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Class-balanced cross-entropy, see `weigh`; labels [B] are positions among the ascending lengths.

        Raises ValueError for a single image, of which the net's BatchNorm has no statistics.
        """
        if self.training and images.shape[0] < 2:
            raise ValueError("an assigner learns from at least two pictures a step, because of its BatchNorm; raise batch")
        yield {"ce": F.cross_entropy(self(images).float(), labels, self.balance)}

    def check(self, lengths: int, image_size: int) -> None:
        """Raise ValueError unless it is made for this number of lengths and pictures of this size."""
        count = self.made["num_classes"]
        if (count, self.image_size) != (lengths, image_size):
            raise ValueError(f"the assigner chooses among {count} lengths of {self.image_size}-pixel pictures, but "
                             f"this net has {lengths} of {image_size}; make it with TLA({lengths}, {image_size})")

    def weigh(self, labels: Tensor) -> None:
        """Balance the loss for labels [n]: each length that occurs weighs the same in sum, however rare it is."""
        counts = labels.bincount(minlength=len(self.balance)).to(self.balance)
        self.balance.copy_(torch.where(counts > 0, len(labels) / ((counts > 0).sum() * counts.clamp(min=1)), 1.0))


def build(architecture: Architecture, lengths: int) -> nn.Module:
    """The timm net; ValueError for a name it does not know, or multipliers where there are none."""
    name, width, depth, _ = architecture
    for what, value in (("width", width), ("depth", depth)):
        if real(value, what) == 0:
            raise ValueError(f"{what} must be a number above 0, not 0")
    if name == "efficientnet_b0":
        return _gen_efficientnet(name, channel_multiplier=width, depth_multiplier=depth, num_classes=lengths)
    if not timm.is_model(str(name)):
        raise ValueError(f"timm has no net called {name!r}; try efficientnet_b0 or tinynet_e")
    if (width, depth) != (1, 1):
        raise ValueError(f"only efficientnet_b0 has width and depth; give 1 and 1 for {name}")
    return timm.create_model(name, num_classes=lengths)


def choose(logits: Tensor, cost: Tensor, cost_weight: float = 0.0) -> Tensor:
    """argmax(log p - cost_weight * cost): logits [n, k], cost [k] relative to the largest length -> positions [n]."""
    return (logits.float().log_softmax(-1) - cost_weight * cost.to(logits.device, torch.float32)).argmax(-1)


def relative_cost(method: nn.Module, points: Sequence[Any], picture: Tensor) -> Tensor:
    """Multiply-adds of operating points relative to the last one's, for one picture [1, 3, S, S]: [k]."""
    counts = [gmacs(method, picture, point)[0] for point in points]
    return torch.tensor(counts, device=picture.device, dtype=torch.float32) / counts[-1]


RECIPE = Recipe(epochs=30, batch=256, lr=1e-3, weight_decay=0.05)   # ours; mirror pictures: Augment(scale=(1., 1.))
