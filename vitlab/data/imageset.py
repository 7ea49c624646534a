"""`ImageSet`: labelled pictures, in memory or decoded when asked, behind one interface."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vitlab.data.augment import with_every_pillow
from vitlab.data.picture import MEAN, STD, in_rgb, normalised, opened, squared


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

    def batches(self, image_size: int) -> Callable[[Sequence[Image.Image]], Tensor]:
        """What turns a list of pictures into training's images, float [n, 3, S, S]."""
        from timm.data import create_transform  # takes seconds to import, so only where it is used
        transform = create_transform(image_size, is_training=True, mean=MEAN, std=STD, **asdict(self))
        return partial(augmented, with_every_pillow(transform))


def augmented(transform: Callable[[Image.Image], Tensor], pictures: Sequence[Image.Image]) -> Tensor:
    """timm draws from Python's and numpy's generators; torch's seeds them here, so one seed repeats a run."""
    python, numpy = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**31, ()))
    try:
        random.seed(seed)
        np.random.seed(seed)
        return torch.stack([transform(in_rgb(picture)) for picture in pictures])
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class ImageSet(Dataset):
    """N labelled pictures. As a torch Dataset it gives training's view; `images` always gives evaluation's.

    pictures: uint8 [N, S, S, 3], or what gives Pillow images for indices and has `take` (see hub.Decoded).
    augment: turns pictures[indices] into training's images, float [n, 3, S, S]; None: as in evaluation.
    columns: facts per picture, ndarray [N] each.
    masks: where the object is, as np.packbits makes it, uint8 [N, ceil(S * S / 8)].
    """

    def __init__(self, name: str, classes: Sequence[str], labels: Tensor, pictures, image_size: int, *,
                 augment: Callable | None = None, columns: dict[str, np.ndarray] | None = None,
                 masks: Tensor | None = None):
        self.name, self.classes, self.image_size = name, list(classes), image_size
        self.labels, self.pictures, self.augment = labels.long(), pictures, augment
        self.columns, self.masks = columns or {}, masks
        if len(labels) == 0:
            raise ValueError(f"{name} is empty; an image set needs at least one picture")
        low, high = self.labels.min().item(), self.labels.max().item()
        if low < 0 or high >= len(self.classes):
            raise ValueError(f"{name} has labels from {low} to {high} but {len(self.classes)} classes; they "
                             f"must lie in 0..{len(self.classes) - 1} (hidden test labels are -1: choose "
                             "another split)")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        size = f"{len(self):,} pictures, {len(self.classes)} classes, {self.image_size} px"
        return f"ImageSet({self.name}: {size})"

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0].item()

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """A batch at once, float [n, 3, S, S] and int64 [n]; a DataLoader's collate_fn must leave it so."""
        indices = torch.as_tensor(indices)
        images = self.images(indices) if self.augment is None else self.augment(self.pictures[indices])
        return images, self.labels[indices]

    def images(self, indices: Sequence[int]) -> Tensor:
        """The evaluation view, normalised: float [n, 3, S, S]."""
        pictures = self.pictures[torch.as_tensor(indices)]
        if not isinstance(pictures, Tensor):
            pictures = torch.stack([squared(picture, self.image_size) for picture in pictures])
        return normalised(pictures)

    def picture(self, index: int) -> np.ndarray:
        """What the net sees of a picture, before normalisation: uint8 [S, S, 3]."""
        picture = self.pictures[index]
        return (picture if isinstance(picture, Tensor) else squared(picture, self.image_size)).numpy()

    def prepare(self, picture) -> Tensor:
        """A picture from outside (see `opened`) as this set's nets want it: float [3, S, S]."""
        return normalised(squared(opened(picture), self.image_size)[None])[0]

    def mask(self, index: int) -> np.ndarray | None:
        """Where the object is, bool [S, S]; None where nobody knows."""
        if self.masks is None:
            return None
        bits = np.unpackbits(self.masks[index].numpy(), count=self.image_size ** 2)
        return bits.reshape(self.image_size, self.image_size).astype(bool)

    def take(self, rows: Sequence[int]) -> "ImageSet":
        """The pictures at these positions, in this order."""
        rows = torch.as_tensor(rows, dtype=torch.long)
        pictures = self.pictures[rows] if isinstance(self.pictures, Tensor) else self.pictures.take(rows)
        columns = {name: values[rows.numpy()] for name, values in self.columns.items()}
        masks = None if self.masks is None else self.masks[rows]
        return ImageSet(self.name, self.classes, self.labels[rows], pictures, self.image_size,
                        augment=self.augment, columns=columns, masks=masks)

    def relabelled(self, labels: Tensor, classes: Sequence[str]) -> "ImageSet":
        """The same pictures with other labels [N]."""
        if len(labels) != len(self):
            raise ValueError(f"{self.name} holds {len(self)} pictures but there are {len(labels)} labels; give one each")
        return ImageSet(self.name, classes, labels, self.pictures, self.image_size, augment=self.augment,
                        columns=self.columns, masks=self.masks)

    def first(self, n: int) -> "ImageSet":
        return self.take(range(min(n, len(self))))

    def subset(self, fraction: float, seed: int = 0) -> "ImageSet":
        """The same share of every class (at least one picture of each), in the set's order."""
        return self.take(stratified(self.labels, fraction, seed))


def stratified(labels: Tensor, fraction: float, seed: int = 0) -> Tensor:
    """Positions of a random `fraction` of every class, ascending: int64 [n]."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction {fraction} is outside (0, 1]; 1 keeps every picture")
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        count = max(1, round(fraction * len(rows)))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:count]])
    return torch.cat(chosen).sort().values if chosen else torch.empty(0, dtype=torch.long)
