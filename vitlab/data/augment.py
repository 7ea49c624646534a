"""What training changes in a picture: timm's transforms, the same with every Pillow."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab.data.picture import Preprocessing, in_rgb


@dataclass(frozen=True)
class Augment:
    """What training changes in a picture, in timm.data.create_transform's words; the defaults are light."""
    scale: tuple[float, float] = (.35, 1.)
    "share of the picture's area a random crop shows (DeiT: .08, 1)"
    hflip: float = .5
    "probability of a mirror image"
    color_jitter: float | None = None
    "strength of changes in brightness, contrast and saturation; ignored with auto_augment"
    auto_augment: str | None = None
    "timm's policy, such as rand-m9-mstd0.5-inc1 (DeiT)"
    re_prob: float = 0.
    "probability that a random box is erased (DeiT: .25)"
    interpolation: str = "bicubic"
    "how a crop is resized"

    def __call__(self, pictures: Sequence[Image.Image], image_size: int, wanted: Preprocessing) -> Tensor:
        """Training's images, float [n, 3, S, S]. timm draws from Python's and numpy's generators; torch's seeds them here, so
        one seed repeats a run."""
        python, numpy = random.getstate(), np.random.get_state()
        seed, transform = int(torch.randint(2**31, ())), training_transform(self, image_size, wanted)
        try:
            random.seed(seed)
            np.random.seed(seed)
            return torch.stack([transform(in_rgb(picture)) for picture in pictures])
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@lru_cache(maxsize=8)
def training_transform(augment: Augment, image_size: int, wanted: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """timm's, made once."""
    from timm.data import create_transform  # takes seconds to import, so only where it is used
    return with_every_pillow(create_transform(image_size, is_training=True, mean=wanted.mean, std=wanted.std, **asdict(augment)))


def with_every_pillow(transform) -> Callable[[Image.Image], Tensor]:
    """A transform of timm.data.create_transform whose policy may keep 0 bits of a colour, as DeiT's often does.

    Until version 13 Pillow made a black picture of that, which is what DeiT was trained with; now it refuses. The
    operations are this transform's own, so nobody else's change.
    """
    for step in transform.transforms:
        layers = [getattr(step, "ops", []), *getattr(step, "policy", [])]
        for operation in (operation for layer in layers for operation in layer):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = posterize
    return transform


def posterize(picture: Image.Image, bits: int, **words) -> Image.Image:
    """The first `bits` of each colour's 8, the others 0."""
    from timm.data import auto_augment
    return auto_augment.posterize(picture, bits, **words) if bits > 0 else Image.new(picture.mode, picture.size)
