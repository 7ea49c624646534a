"""`load`: any labelled image set that Hugging Face `datasets` reads, by hub name or from a folder."""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vitlab.data.augment import Augment
from vitlab.data.imageset import ImageSet
from vitlab.data.labels import image_column, labelled
from vitlab.data.picture import UNREADABLE, USUAL, Preprocessing, in_rgb, opened, squared
from vitlab.data.sampling import share, stratified
from vitlab.data.scenes import WIDEST, shapes
from vitlab.data.tables import cache_that_can_be_written, local, prepared
from vitlab.numbers import seed_of, whole
from vitlab.words import path_of

MEMORY = 2**30        # bytes of decoded pictures a set may keep; a larger one is decoded batch by batch
PATIENCE = 3          # seconds to wait for the hub before saying that it cannot be reached
NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "imagenette": "frgfm/imagenette",
         "imagenet-1k": "ILSVRC/imagenet-1k"}
CHOICES = {"uoft-cs/cifar100": {"label": "fine_label"}, "frgfm/imagenette": {"config": "320px"}}


def load(name: str | Path, split: str = "train", *, image_size: int | None = None,
         augment: Augment | None = None, fraction: float = 1., seed: int = 0,
         image: str | None = None, label: str | None = None, config: str | None = None,
         classes: Sequence[str] | None = None) -> ImageSet:
    """An image set by hub name, by the path of a parquet file or folder or of an image folder, or "shapes".

    split: train, val or test, under whatever name the set has it; or its own name for it. One file, and a folder that
    names no splits, is "train" only: hold pictures out with ImageSet.split.
    image_size: 224, and 56 for shapes, unless said otherwise.
    fraction: the share of every class to keep, 0 < fraction <= 1, chosen by `seed`.
    image, label, config: the columns and the configuration, needed only where the set leaves a choice.
    classes: the order of the set's names; names of the numbers, where the set has numbers only.
    """
    fraction, seed = share(fraction), seed_of(seed)
    name = name if isinstance(name, str) and name in NAMES else str(path_of(name, "name"))
    if augment is not None and not callable(augment):
        raise ValueError(f"augment must be a vitlab.data.Augment, or a function like one, not {augment!r}")
    for what, word in (("split", split), ("image", image), ("label", label), ("config", config)):
        if word is not None and not isinstance(word, str) or what == "split" and not word:
            raise ValueError(f"{what} must be a word, not {word!r}")
    if name == "shapes":
        if told := [what for what, word in (("image", image), ("label", label), ("config", config), ("classes", classes))
                if word is not None]:
            raise ValueError(f"shapes are made here and have no {told[0]} to choose; leave it out")
        made = shapes(split, size=56 if image_size is None else image_size, seed=seed, augment=augment is not None)
        return made.subset(fraction, seed)
    name = str(name) if Path(name).expanduser().exists() else NAMES.get(name, str(name))
    known = CHOICES.get(name, {})
    image_size = whole(224 if image_size is None else image_size, "image_size", 1, WIDEST)
    table = found(name, split, config or known.get("config"))
    table, image = image_column(table, image)
    labels, classes = labelled(table, label or known.get("label"), classes)
    if fraction < 1:
        rows = stratified(labels, fraction, seed)
        table, labels = table.select(rows.tolist()), labels[rows]
    pictures = Decoded(table.select_columns(image), image)
    read = ImageSet(Path(name).name, classes, labels, pictures, image_size, augment=augment)    # labels are checked here
    if (augment is None or getattr(augment, "on_squares", False)) and len(table) * 3 * image_size ** 2 <= MEMORY:
        return read.changed(pictures=pictures.squared(image_size), source=pictures)
    return read


class Decoded:
    """Pictures of a datasets table, decoded when asked: indices -> list of Pillow images, upright and RGB."""

    def __init__(self, table, column: str):
        import datasets
        self.table, self.column = table.cast_column(column, datasets.Image(decode=False)), column

    def __getitem__(self, indices):
        if torch.as_tensor(indices).ndim == 0:
            return self.one(int(indices))
        return [self.one(int(index)) for index in indices]

    def __len__(self) -> int:
        return len(self.table)

    def one(self, index: int) -> Image.Image:
        try:
            held = self.table[index][self.column]
            if held is None or not (held["bytes"] or held["path"]):
                raise ValueError("the set has nothing there")
            return in_rgb(opened(held["bytes"] or held["path"]))           # by the door that uploads take, not by datasets' own
        except UNREADABLE as error:
            raise ValueError(f"picture {index}{self.file(index)} cannot be decoded ({error}); take it from the set") from error

    def file(self, index: int) -> str:
        """The name of its file in brackets, where the table knows it."""
        held = self.table[index][self.column]
        return f" ({held['path']})" if held and held["path"] else ""

    def take(self, rows: Tensor) -> "Decoded":
        return Decoded(self.table.select(rows.tolist()), self.column)

    def squared(self, size: int, wanted: Preprocessing = USUAL) -> Tensor:
        """All of them through the evaluation transform: uint8 [N, size, size, 3]."""
        pictures = torch.empty(len(self), size, size, 3, dtype=torch.uint8)
        for index in range(len(self)):
            pictures[index] = squared(self[index], size, wanted)
        return pictures


def found(name: str, split: str, config: str | None):
    """The split's datasets.Dataset, from this machine or from the hub."""
    path = Path(name).expanduser()
    if path.exists():
        return local(path.resolve(), split, config)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"there is no folder {name}; give a parquet file, or a folder of images")
    return from_hub(name, split, config)


def from_hub(name: str, split: str, config: str | None):
    """From the hub, or from this machine's cache of it where the hub is out of reach."""
    import datasets
    offline = datasets.config.HF_HUB_OFFLINE
    online = not offline and reachable()
    try:
        datasets.config.HF_HUB_OFFLINE = not online    # else `datasets` retries for half a minute
        with cache_that_can_be_written():
            try:
                builder = datasets.load_dataset_builder(name, config)
            except RuntimeError as error:    # an old set with a loading script: the hub's own conversion of it
                if "scripts are no longer supported" not in str(error):
                    raise
                builder = datasets.load_dataset_builder(name, data_dir=config, revision="refs/convert/parquet")
            return prepared(builder, split, name)
    except datasets.exceptions.DatasetNotFoundError as error:
        if "gated" in str(error):
            raise PermissionError(f"{name} is gated: ask for access at https://huggingface.co/datasets/{name}, "
                                  "then sign in with `hf auth login`") from None
        raise FileNotFoundError(f"there is no folder {name} and no public set of that name on the hub; check "
                                "the name, or sign in with `hf auth login` if it is private") from None
    except (ConnectionError, FileNotFoundError) as error:
        if online:
            raise
        raise ConnectionError(f"there is no folder {name}, it is not in the cache, and the Hugging Face hub "
                              "cannot be reached; go online once, give a local folder, or use "
                              'load("shapes")') from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline


def reachable() -> bool:
    """Does the hub answer at all, through a proxy if one is set?"""
    from huggingface_hub.constants import ENDPOINT
    try:
        urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
