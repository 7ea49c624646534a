"""`DetectionSet`: pictures with any number of objects each, and their boxes, classes and masks, as torchvision wants them."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitlab.data.imageset import ImageSet, image_set
from vitlab.data.names import renumbered
from vitlab.data.picture import USUAL, Preprocessing, normalised, opened, squared
from vitlab.data.rows import Rows, rows_of

Target = dict[str, Tensor]      # boxes [n, 4], left, top, right, bottom in pixels · labels [n], from 1 · masks [n, S, S], 0 or 1


class DetectionSet(Dataset):
    """N pictures and M objects, those of the first picture first.

    pictures: uint8 [N, S, S, 3].  objects: how many each has, int [N].  labels: the objects' classes, from 0, int [M].
    masks: what is seen of each, as np.packbits makes it, uint8 [M, ceil(S * S / 8)].
    columns: facts per picture, ndarray [N] each.  preprocessing: what a net wants of the colours, see `for_net`.
    A target numbers classes from 1, as torchvision does, whose 0 is the background. Rows are read as those of an ImageSet.
    """

    def __init__(self, name: str, classes: Sequence[str], pictures: Tensor, objects: Tensor, labels: Tensor, masks: Tensor, *,
                 columns: dict[str, np.ndarray] | None = None, preprocessing: Preprocessing = USUAL):
        self.name, self.classes, self.image_size = name, [str(each) for each in classes], pictures.shape[1]
        self.pictures, self.objects, self.labels, self.masks = pictures, objects.long(), labels.long(), masks
        self.columns, self.preprocessing = columns or {}, preprocessing
        if len(pictures) == 0 or len(objects) != len(pictures):
            raise ValueError(f"{name} has {len(pictures)} pictures and tells the number of objects of {len(objects)}; give one "
                             "number for each of at least one picture")
        if not len(labels) == len(masks) == int(objects.sum()):
            raise ValueError(f"{name} has {int(objects.sum())} objects but {len(labels)} labels and {len(masks)} masks; give one "
                             "each")
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise ValueError(f"{name} has labels from {int(labels.min())} to {int(labels.max())} but {len(self.classes)} classes")
        self.first = torch.cat([torch.zeros(1, dtype=torch.long), self.objects.cumsum(0)])      # [N + 1]

    def __len__(self) -> int:
        return len(self.pictures)

    def __repr__(self) -> str:
        return (f"DetectionSet({self.name}: {len(self):,} pictures, {len(self.labels):,} objects, {len(self.classes)} classes, "
                f"{self.image_size} px)")

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return self.images([index])[0], self.target(index)

    def __getitems__(self, indices: Rows) -> tuple[Tensor, list[Target]]:
        """A batch at once, float [n, 3, S, S] and n targets; a DataLoader's collate_fn must leave it so."""
        return self.images(indices), [self.target(index) for index in rows_of(indices, len(self)).tolist()]

    def images(self, indices: Rows) -> Tensor:
        """Normalised: float [n, 3, S, S]."""
        return normalised(self.pictures[rows_of(indices, len(self))], self.preprocessing)

    def picture(self, index: int) -> np.ndarray:
        """What the net sees of a picture, before normalisation: uint8 [S, S, 3]."""
        return self.pictures[int(rows_of(index, len(self)))].numpy()

    def target(self, index: int) -> Target:
        """What is in a picture: boxes around what is seen, labels from 1, masks; the object in front last."""
        index = int(rows_of(index, len(self)))
        mine = slice(self.first[index], self.first[index + 1])
        masks = unpacked(self.masks[mine], self.image_size)
        return {"boxes": boxes(masks), "labels": self.labels[mine] + 1, "masks": masks}

    def mask(self, index: int) -> np.ndarray:
        """Where any object is, bool [S, S]."""
        return self.target(index)["masks"].bool().any(0).numpy()

    def square(self, picture) -> np.ndarray:
        """What a net of this set sees of a picture from outside (see `picture.opened`), before normalisation: uint8 [S, S, 3]."""
        return squared(opened(picture), self.image_size, self.preprocessing).numpy()

    def prepare(self, picture) -> Tensor:
        """A picture from outside as this set's nets want it: float [3, S, S]."""
        return normalised(torch.from_numpy(self.square(picture))[None], self.preprocessing)[0]

    def take(self, rows: Rows) -> "DetectionSet":
        """The pictures that `rows` names, in this order, with what is in them."""
        rows = rows_of(rows, len(self))
        inside = [torch.arange(self.first[row], self.first[row + 1]) for row in rows.tolist()]
        inside = torch.cat([torch.zeros(0, dtype=torch.long), *inside])
        columns = {name: column[rows.numpy()] for name, column in self.columns.items()}
        return self.changed(pictures=self.pictures[rows], objects=self.objects[rows], labels=self.labels[inside],
                            masks=self.masks[inside], columns=columns)

    def for_net(self, net) -> "DetectionSet":
        """The same pictures with the colours a net wants; ValueError where it takes another size. Its classes do not matter."""
        made = getattr(net, "made", {})
        if made.get("image_size", self.image_size) != self.image_size:
            raise ValueError(f"{self.name} has pictures of {self.image_size} pixels but the net takes {made['image_size']}; make "
                             f"the set with size={made['image_size']}")
        wanted = Preprocessing(**made["preprocessing"]) if made.get("preprocessing") else USUAL
        return self if wanted == self.preprocessing else self.changed(preprocessing=wanted)

    def labelled(self, classes: Sequence[str]) -> "DetectionSet":
        """The same objects with labels in this order of classes, by name; ValueError for a class that is not among them."""
        if list(classes) == self.classes:
            return self
        return self.changed(labels=renumbered(self.labels, self.classes, list(classes), self.name), classes=classes)

    def changed(self, **parts) -> "DetectionSet":
        """The same set with other parts, by the names of the constructor."""
        names = ("name", "classes", "pictures", "objects", "labels", "masks", "columns", "preprocessing")
        return DetectionSet(**{name: getattr(self, name) for name in names} | parts)


def any_set(data) -> ImageSet | DetectionSet:
    """A set of pictures, whatever is known of them; TypeError, in one sentence, for anything else."""
    return data if isinstance(data, DetectionSet) else image_set(data)


def unpacked(bits: Tensor, size: int) -> Tensor:
    """The opposite of np.packbits: uint8 [n, ceil(S * S / 8)] -> 0 or 1, uint8 [n, S, S]."""
    each = bits[..., None] >> torch.arange(7, -1, -1, dtype=torch.uint8) & 1
    return each.flatten(1)[:, :size * size].reshape(-1, size, size)


def boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks [n, S, S], none of them empty: left, top, right, bottom, where pixel 0 is from 0 to 1."""
    across, down = masks.amax(1), masks.amax(2)                            # [n, S] columns and rows that hold some of it
    ends = [(line.argmax(1), line.shape[1] - line.flip(1).argmax(1)) for line in (across, down)]
    (left, right), (top, bottom) = ends
    return torch.stack([left, top, right, bottom], 1).float()
