"""What training changes in a picture: timm's transforms, the same with every Pillow."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab.data.picture import Preprocessing, in_rgb
from vitlab.numbers import real, several
from vitlab.words import one_of

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "random")


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
    "how a crop is resized: nearest, bilinear, bicubic, lanczos, box or hamming, or random (two of them by turns)"

    def __post_init__(self):
        """ValueError, in one sentence, for what timm would take without a word or refuse in the middle of training."""
        scale = several(self.scale, "scale must be two shares of a picture's area, such as (.35, 1)")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two shares of a picture's area, the smaller one first, not {self.scale!r}")
        object.__setattr__(self, "scale", scale)
        for name in ("hflip", "re_prob"):
            object.__setattr__(self, name, real(getattr(self, name), name, 0, 1))
        if self.color_jitter is not None:
            object.__setattr__(self, "color_jitter", real(self.color_jitter, "color_jitter", 0, 1))
        one_of(self.interpolation, "interpolation", INTERPOLATIONS)
        if self.auto_augment is not None:
            check_policy(self.auto_augment)

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


def check_policy(policy: Any) -> None:
    """ValueError for what is none of timm's policies."""
    from timm.data.auto_augment import augment_and_mix_transform, auto_augment_transform, rand_augment_transform
    makers = {"rand": rand_augment_transform, "augmix": augment_and_mix_transform}
    try:
        makers.get(re.split("[^a-z]", policy)[0], auto_augment_transform)(policy, {})
    except (AssertionError, ValueError, KeyError, TypeError) as error:     # timm's ways to refuse one
        raise ValueError(f"auto_augment must be a policy of timm, such as rand-m9-mstd0.5-inc1, not {policy!r}") from error


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
