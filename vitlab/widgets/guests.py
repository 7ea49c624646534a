"""Guests: nets that know none of the pictures' classes, as one that learned photographs among made pictures. They are asked all
the same, as they are about an uploaded picture; only right and wrong they cannot be.
"""
import torch
from PIL import Image
from torch import Tensor, nn

from vitlab.data.imageset import ImageSet
from vitlab.data.names import names_of
from vitlab.data.picture import USUAL, Preprocessing


class Photos:
    """Pictures of a set as somebody would upload them: Pillow images for indices (see `vitlab.data.hub.Decoded`).

    pictures: uint8 [N, S, S, 3].
    """

    def __init__(self, pictures: Tensor):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, indices):
        if torch.as_tensor(indices).ndim == 0:
            return Image.fromarray(self.pictures[int(indices)].numpy())
        return [self[int(index)] for index in indices]

    def take(self, rows: Tensor) -> "Photos":
        return Photos(self.pictures[rows])


def made(method: nn.Module) -> dict:
    """How a net was made, what an early exit goes over included."""
    return getattr(getattr(method, "method", method), "made", {})


def is_guest(method: nn.Module, images: ImageSet) -> bool:
    """Has a net names for its classes, and is none of them one of the pictures'?"""
    names = names_of(made(method))
    return names is not None and set(names).isdisjoint(images.classes)


def wanted(method: nn.Module, images: ImageSet) -> ImageSet:
    """The pictures as a net wants them; for a guest at its own size, and with labels that say nothing.

    Raises ValueError, in one sentence, where a net that is no guest does not go with them.
    """
    if not is_guest(method, images):
        return images.for_net(method)
    own = made(method)
    pictures = images.pictures if images.source is None else images.source
    return images.changed(
        classes=names_of(own), labels=torch.zeros_like(images.labels), image_size=own["image_size"], augment=None, masks=None,
        source=None, pictures=Photos(pictures) if isinstance(pictures, Tensor) else pictures,
        preprocessing=Preprocessing(**own["preprocessing"]) if own.get("preprocessing") else USUAL)
