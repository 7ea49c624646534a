"""timm's augmentation policies, the same with every Pillow."""

from collections.abc import Callable

from PIL import Image
from torch import Tensor


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
