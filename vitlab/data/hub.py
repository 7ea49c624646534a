"""`load`: any labelled image set that Hugging Face `datasets` reads, by hub name or from a folder."""

import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitlab.data.imageset import Augment, ImageSet, stratified
from vitlab.data.picture import USUAL, Preprocessing, squared
from vitlab.data.scenes import shapes

MEMORY = 2**30        # bytes of decoded pictures a set may keep; a larger one is decoded batch by batch
PATIENCE = 3          # seconds to wait for the hub before saying that it cannot be reached
NAMES = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100", "imagenette": "frgfm/imagenette",
         "imagenet-1k": "ILSVRC/imagenet-1k"}
CHOICES = {"uoft-cs/cifar100": {"label": "fine_label"}, "frgfm/imagenette": {"config": "320px"}}
ALIASES = {"train": ("train", "training"), "val": ("validation", "val", "valid", "dev", "test"),
           "test": ("test", "testing", "validation", "val", "valid", "dev")}    # one split serves as both
IMAGE_NAMES = ("image", "img", "images", "picture")
LABEL_NAMES = ("label", "labels", "class", "target", "category")


def load(name: str | Path, split: str = "train", *, image_size: int | None = None,
         augment: Augment | None = None, fraction: float = 1., seed: int = 0,
         image: str | None = None, label: str | None = None, config: str | None = None,
         classes: Sequence[str] | None = None) -> ImageSet:
    """An image set by hub name, by the path of a parquet file or folder or of an image folder, or "shapes".

    split: train, val or test, under whatever name the set has it; or its own name for it.
    image_size: 224, and 56 for shapes, unless said otherwise. fraction: of every class, chosen by `seed`.
    image, label, config: the columns and the configuration, needed only where the set leaves a choice.
    classes: their names in order, where the set has none.
    """
    if str(name) == "shapes":
        made = shapes(split, size=image_size or 56, seed=seed, augment=augment is not None)
        return made.subset(fraction, seed)
    name = NAMES.get(str(name), str(name))
    known = CHOICES.get(name, {})
    image_size = image_size or 224
    table = found(name, split, config or known.get("config"))
    table, image = image_column(table, image)
    labels, classes = labelled(table, label or known.get("label"), classes)
    if fraction < 1:
        rows = stratified(labels, fraction, seed)
        table, labels = table.select(rows.tolist()), labels[rows]
    pictures = Decoded(table.select_columns(image), image)
    read = ImageSet(Path(name).name, classes, labels, pictures, image_size, augment=augment)    # labels are checked here
    if augment is None and len(table) * 3 * image_size ** 2 <= MEMORY:
        return read.changed(pictures=pictures.squared(image_size), source=pictures)
    return read


class Decoded:
    """Pictures of a datasets table, decoded when asked: indices -> list of Pillow images."""

    def __init__(self, table, column: str):
        self.table, self.column = table, column

    def __getitem__(self, indices):
        if torch.as_tensor(indices).ndim == 0:
            return self.one(int(indices))
        return [self.one(int(index)) for index in indices]

    def __len__(self) -> int:
        return len(self.table)

    def one(self, index: int) -> Image.Image:
        try:
            return self.table[index][self.column]
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"picture {index} cannot be decoded ({error}); take it from the set") from error

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


def local(path: Path, split: str, config: str | None):
    import datasets
    from pyarrow import ArrowInvalid
    try:
        if path.is_file():
            builder = datasets.load_dataset_builder("parquet", data_files={split: str(path)})
        else:
            builder = datasets.load_dataset_builder(str(path), config)
        return prepared(builder, split, path)
    except (datasets.exceptions.DatasetsError, datasets.data_files.EmptyDatasetError, ArrowInvalid) as error:
        raise ValueError(f"{path} holds no pictures that can be read ({error.__cause__ or error}); give "
                         "parquet files, or a folder of images for each class") from error


def from_hub(name: str, split: str, config: str | None):
    """From the hub, or from this machine's cache of it where the hub is out of reach."""
    import datasets
    offline = datasets.config.HF_HUB_OFFLINE
    online = not offline and reachable()
    try:
        datasets.config.HF_HUB_OFFLINE = not online    # else `datasets` retries for half a minute
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


def prepared(builder, split: str, where: str | Path):
    """The split under the name this set has for it."""
    names = list(builder.info.splits or builder.config.data_files or ())
    for name in (split, *ALIASES.get(split, ())):
        if name in names:
            builder.download_and_prepare()
            if builder.info.splits[name].num_examples == 0:
                raise ValueError(f"split {name!r} of {where} is empty; choose another split")
            return builder.as_dataset(split=name)
    raise ValueError(f"{where} has no split {split!r}; choose from {', '.join(map(str, names))}")


def choose(kind: str, candidates: list[str], asked: str | None, usual: Sequence[str],
           columns: Sequence[str]) -> str:
    """The column asked for, the only candidate, or the one with a usual name."""
    if asked is not None:
        if asked not in columns:
            raise ValueError(f"there is no column {asked!r}; choose from {', '.join(columns)}")
        return asked
    named = [name for name in usual if name in candidates]
    if len(candidates) == 1 or named:
        return (named or candidates)[0]
    if candidates:
        raise ValueError(f"this set has several {kind} columns; choose with {kind}=, from "
                         f"{', '.join(candidates)}")
    raise ValueError(f"this set has no {kind} column among {', '.join(columns)}; name one with {kind}=")


def image_column(table, asked: str | None):
    """The table, its pictures typed as such, and their column: by type, else whatever holds encoded bytes."""
    import datasets
    features = table.features
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not candidates:
        candidates = [name for name, feature in features.items()
                      if isinstance(feature, dict) and "bytes" in feature
                      or getattr(feature, "dtype", "") in ("binary", "large_binary")]
    column = choose("image", candidates, asked, IMAGE_NAMES, list(features))
    if not isinstance(features[column], datasets.Image):
        table = table.cast_column(column, datasets.Image())
    return table, column


def labelled(table, asked: str | None, classes: Sequence[str] | None) -> tuple[Tensor, list[str]]:
    """Labels int64 [N] and classes: of a ClassLabel column, else of numbers or words under a usual name."""
    import datasets
    features = table.features
    candidates = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    candidates = candidates or [name for name in LABEL_NAMES if name in features]
    column = choose("label", candidates, asked, LABEL_NAMES, list(features))
    values = table.select_columns(column).with_format("arrow")[:][column]
    if values.null_count:
        raise ValueError(f"{values.null_count} of {len(values)} labels in column {column!r} are missing; "
                         "fill them in or take those pictures out")
    values = values.to_numpy()
    if isinstance(features[column], datasets.ClassLabel):
        return torch.from_numpy(values.astype(np.int64)), list(classes or features[column].names)
    if values.dtype.kind in "iub":
        if values.max() >= 100_000:
            raise ValueError(f"column {column!r} holds {values.max()}, no label; name another with label=")
        classes = classes or map(str, range(int(values.max()) + 1))
        return torch.from_numpy(values.astype(np.int64)), list(classes)
    words = [str(value) for value in values]
    classes = list(classes or sorted(set(words)))
    unknown = sorted(set(words) - set(classes))
    if unknown:
        raise ValueError(f"labels {unknown[:5]} are not among {classes[:5]}; give every name in classes=")
    number = {word: position for position, word in enumerate(classes)}
    return torch.tensor([number[word] for word in words]), classes
