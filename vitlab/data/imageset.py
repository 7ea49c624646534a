"""`ImageSet`: labelled pictures, in memory or decoded when asked, behind one interface."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from vitlab.data.names import listed, names, names_of, numerals, renumbered
from vitlab.data.picture import USUAL, Preprocessing, normalised, opened, squared
from vitlab.data.rows import Rows, rows_of
from vitlab.data.sampling import proportional, ranks, stratified
from vitlab.numbers import plain, real, seed_of, whole


def image_set(data) -> "ImageSet":
    """An ImageSet, also of torch's Subset of one (as random_split makes them); TypeError, in one sentence, for anything else."""
    if isinstance(data, Subset):
        return image_set(data.dataset).take(data.indices)
    if not isinstance(data, ImageSet):
        raise TypeError(f"this needs an ImageSet, which knows its classes and pictures, not a {type(data).__name__}; make one "
                        "with vitlab.data.load or vitlab.data.ImageSet")
    return data


def numbers(labels, name: str) -> Tensor:
    """Labels as int64 [N]; ValueError for what is no row of whole numbers."""
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(())
    if found.dim() != 1 or len(found) and (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool):
        raise ValueError(f"labels of {name} must be a row of whole numbers, one for each picture, not {str(plain(labels))[:60]}")
    return found.long()


def check_parts(data: "ImageSet") -> None:
    """One sentence for the first part of a set that does not go with the others."""
    count, side, pictures = len(data.labels), data.image_size, data.pictures
    if isinstance(pictures, Tensor):
        if pictures.dtype != torch.uint8 or pictures.shape[1:] != (side, side, 3):
            raise ValueError(f"pictures of {data.name} must be uint8 [N, {side}, {side}, 3], not {pictures.dtype} "
                             f"{list(pictures.shape)}")
    elif isinstance(pictures, np.ndarray) or not all(hasattr(pictures, name) for name in ("__getitem__", "__len__", "take")):
        raise ValueError(f"pictures of {data.name} must be a tensor uint8 [N, {side}, {side}, 3], not a "
                         f"{type(pictures).__name__}; load a folder of files with vitlab.data.load")
    if len(pictures) != count:
        raise ValueError(f"{data.name} has {len(pictures)} pictures but {count} labels; give one each")
    if data.augment is not None and not callable(data.augment):
        raise ValueError(f"augment must be a vitlab.data.Augment, or a function like one, not {data.augment!r}")
    if not isinstance(data.columns, Mapping):
        raise ValueError(f"columns of {data.name} must be arrays by their names, not {data.columns!r:.60}")
    for name, values in data.columns.items():
        if not isinstance(values, np.ndarray) or len(values) != count:
            raise ValueError(f"column {name!r} of {data.name} must be an array with a value for each of {count} pictures")
    if data.masks is not None:
        bits = (count, -(-side ** 2 // 8))
        if not isinstance(data.masks, Tensor) or data.masks.dtype != torch.uint8 or data.masks.shape != bits:
            raise ValueError(f"masks of {data.name} must be uint8 {list(bits)}, as np.packbits makes them")


class ImageSet(Dataset):
    """N labelled pictures. As a torch Dataset it gives training's view; `images` always gives evaluation's.

    pictures: uint8 [N, S, S, 3], or what gives Pillow images for indices and has `take` and `squared` (see hub.Decoded).
    augment: training's images, float [n, 3, S, S], of (pictures[rows], S, preprocessing), such as an `Augment`; None: as in
    evaluation.  columns: facts per picture, ndarray [N] each.
    masks: where the object is, as np.packbits makes it, uint8 [N, ceil(S * S / 8)].
    source: where uint8 pictures were cut from, as above; None: nowhere.  preprocessing: what a net wants, see `for_net`.
    Wherever pictures are named, `rows_of` reads what is given: numbers, a mask, a slice.
    """

    def __init__(self, name: str, classes: Sequence[str], labels: Tensor, pictures, image_size: int, *,
                 augment: Callable | None = None, columns: dict[str, np.ndarray] | None = None,
                 masks: Tensor | None = None, source=None, preprocessing: Preprocessing = USUAL):
        self.name, self.classes, self.image_size = str(name), names(classes), whole(image_size, "image_size")
        self.labels, self.pictures, self.augment = numbers(labels, self.name), pictures, augment
        self.columns, self.masks, self.source, self.preprocessing = columns or {}, masks, source, preprocessing
        if len(self.labels) == 0:
            raise ValueError(f"{name} is empty; an image set needs at least one picture")
        check_parts(self)
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

    def changed(self, **parts) -> "ImageSet":
        """The same set with other parts, by the names of the constructor."""
        names = ("name", "classes", "labels", "pictures", "image_size", "augment", "columns", "masks", "source", "preprocessing")
        return ImageSet(**{name: getattr(self, name) for name in names} | parts)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0].item()

    def __getitems__(self, indices: Rows) -> tuple[Tensor, Tensor]:
        """A batch at once, float [n, 3, S, S] and int64 [n]; a DataLoader's collate_fn must leave it so."""
        rows = rows_of(indices, len(self))
        if self.augment is None:
            return self.images(rows), self.labels[rows]
        return self.augment(self.pictures[rows], self.image_size, self.preprocessing), self.labels[rows]

    def images(self, indices: Rows) -> Tensor:
        """The evaluation view, normalised: float [n, 3, S, S]."""
        pictures = self.pictures[rows_of(indices, len(self))]
        if not isinstance(pictures, Tensor):
            pictures = torch.stack([squared(picture, self.image_size, self.preprocessing) for picture in pictures])
        return normalised(pictures, self.preprocessing)

    def picture(self, index: int) -> np.ndarray:
        """What the net sees of a picture, before normalisation: uint8 [S, S, 3]."""
        picture = self.pictures[int(rows_of(index, len(self)))]
        return (picture if isinstance(picture, Tensor) else squared(picture, self.image_size, self.preprocessing)).numpy()

    def prepare(self, picture) -> Tensor:
        """A picture from outside (see `opened`) as this set's nets want it: float [3, S, S]."""
        return normalised(squared(opened(picture), self.image_size, self.preprocessing)[None], self.preprocessing)[0]

    def mask(self, index: int) -> np.ndarray | None:
        """Where the object is, bool [S, S]; None where nobody knows."""
        if self.masks is None:
            return None
        bits = np.unpackbits(self.masks[int(rows_of(index, len(self)))].numpy(), count=self.image_size ** 2)
        return bits.reshape(self.image_size, self.image_size).astype(bool)

    def take(self, rows: Rows) -> "ImageSet":
        """The pictures that `rows` names, in this order."""
        rows = rows_of(rows, len(self))
        pictures = self.pictures[rows] if isinstance(self.pictures, Tensor) else self.pictures.take(rows)
        return self.changed(labels=self.labels[rows], pictures=pictures,
                            columns={name: values[rows.numpy()] for name, values in self.columns.items()},
                            masks=None if self.masks is None else self.masks[rows],
                            source=None if self.source is None else self.source.take(rows))

    def relabelled(self, labels: Tensor, classes: Sequence[str]) -> "ImageSet":
        """The same pictures with other labels [N]."""
        if len(labels := numbers(labels, self.name)) != len(self):
            raise ValueError(f"{self.name} holds {len(self)} pictures but there are {len(labels)} labels; give one each")
        return self.changed(labels=labels, classes=classes)

    def first(self, n: int) -> "ImageSet":
        """The first n pictures, in a folder those of the first classes; `sample` takes from all of them."""
        return self.take(range(min(whole(n, "a number of pictures"), len(self))))

    def sample(self, n: int, seed: int = 0) -> "ImageSet":
        """n random pictures, of every class as its share, in the set's order; all of them where there are no more."""
        return self.take(proportional(self.labels, whole(n, "a number of pictures"), seed))

    def split(self, share: float, seed: int = 0) -> tuple["ImageSet", "ImageSet"]:
        """(the rest, a random `share` of every class), both in the set's order; a class of one picture stays in the rest.

        Raises ValueError for a share outside (0, 1), or of which no picture comes.
        """
        share = real(share, "share, the part of every class that is set apart,", 0, 1)
        if share in (0, 1):
            raise ValueError(f"share is the part of every class that is set apart, between 0 and 1, not {share}")
        rank, size = ranks(self.labels, torch.Generator().manual_seed(seed_of(seed)))
        held = rank < (share * size).round().clamp(min=1).minimum(size - 1)
        if not held.any():
            raise ValueError(f"no class of {self.name} has two pictures, so none can be set apart; take a larger set")
        return self.take(~held), self.take(held)

    def subset(self, fraction: float, seed: int = 0) -> "ImageSet":
        """The same share of every class (at least one picture of each), in the set's order."""
        return self.take(stratified(self.labels, fraction, seed))

    def for_net(self, net) -> "ImageSet":
        """The same pictures as a net wants them: labels in its order of classes, by name; its mean, spread, crop and resizing.

        A net without class names takes labels as they are, from a set of as many classes or one whose classes have no names
        either. Raises ValueError, in one sentence, where sizes or classes do not go together.
        """
        inner = getattr(net, "method", net)                                # what an early exit goes over
        made, vit = getattr(inner, "made", None), getattr(inner, "vit", None)
        if made is None and vit is None:
            raise TypeError(f"pictures are prepared for a method, not for a {type(net).__name__}; make one with vitlab.create")
        return self.for_made(made or {"image_size": vit.patch_embed.img_size[0], "num_classes": vit.num_classes})

    def for_made(self, made: dict) -> "ImageSet":
        """The same, from a net's record of how it was made."""
        size, count, names = made["image_size"], made["num_classes"], names_of(made)
        if self.image_size != size:
            raise ValueError(f"{self.name} has pictures of {self.image_size} pixels but the net takes {size}; load the data with "
                             f"image_size={size}")
        if names is None:
            numbers = numerals(self.classes) and int(self.labels.max()) < count
            if len(self.classes) != count and not numbers:
                raise ValueError(f"{self.name} has {len(self.classes)} classes ({listed(self.classes)}) but the net has {count} "
                                 "and no names for them; make it with vitlab.create(..., classes=the set's .classes)")
            labels, names = self.labels, self.classes if len(self.classes) == count else [str(k) for k in range(count)]
        else:
            labels = renumbered(self.labels, self.classes, names, self.name)
        wanted = Preprocessing(**made["preprocessing"]) if made.get("preprocessing") else USUAL
        if names == self.classes and wanted == self.preprocessing:
            return self
        return self.changed(labels=labels, classes=names, preprocessing=wanted, pictures=self.cut(wanted))

    def cut(self, wanted: Preprocessing):
        """The pictures, cut anew where they were cut from larger ones in another way."""
        same = (wanted.crop, wanted.interpolation) == (self.preprocessing.crop, self.preprocessing.interpolation)
        return self.pictures if same or self.source is None else self.source.squared(self.image_size, wanted)
