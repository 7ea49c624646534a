"""Sets on this machine: an image folder, a parquet file, a folder of parquet files; and what `datasets` needs to read."""

import errno
import glob
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitlab.data.folder import below, image_folder, opens, sentence, unlabelled, visible
from vitlab.data.splits import chosen, family, spelled_in

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def local(path: Path, split: str, config: str | None):
    """The split's datasets.Dataset. One file is one split, "train", and so is a folder that names no splits."""
    import datasets
    from pyarrow import ArrowException
    try:
        if path.is_file():
            chosen(split, ["train"], path)
            return parquet([path], path)
        if config is not None or configured(path):
            with cache_that_can_be_written():
                return prepared(datasets.load_dataset_builder(str(path), config), split, path)
        table = image_folder(path, split)
        return parquet_folder(path, split) if table is None else table
    except (datasets.exceptions.DatasetsError, datasets.data_files.EmptyDatasetError, ArrowException) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"{path} holds no pictures that can be read ({reason}); give "
                         "parquet files, or a folder of images for each class") from error


def configured(folder: Path) -> bool:
    """Does its README say which files are which, as that of a set cloned from the hub does?"""
    readme = folder / "README.md"
    return readme.is_file() and bool(re.search(r"^configs:", readme.read_text(errors="replace"), re.MULTILINE))


def parquet_folder(root: Path, split: str):
    """A split is what is named like one: a file (train-00000-of-00002.parquet), else a folder around it (train/0.parquet)."""
    files = [Path(path) for path, _ in below(root) if path.endswith(".parquet")]
    if not files:
        if any(opens(entry.name) for entry in visible(root)):
            raise unlabelled(root)
        raise ValueError(f"{root} holds no pictures that can be read; give parquet files, or a folder of images for each "
                         "class")
    splits: dict[str | None, list[Path]] = {}
    for file in files:
        splits.setdefault(split_of(file.relative_to(root)), []).append(file)
    rest = splits.pop(None, [])
    if rest and splits:
        warnings.warn(sentence(root, {"whose name tells no split": list(map(str, rest))}))
    splits = splits or {"train": rest}
    return parquet(splits[chosen(split, list(splits), root)], root)


def split_of(file: Path) -> str | None:
    around = [name for name in reversed(file.parent.parts) if family(name)]
    return spelled_in(file.stem) or next(iter(around), None)


def parquet(files: list[Path], where: Path):
    import datasets
    told = {file: columns(file) for file in files}
    for file in files[1:]:
        if told[file] != told[files[0]]:
            raise ValueError(f"{file} has other columns or classes than {files[0]}, so they are no one set; give the path of one")
    with cache_that_can_be_written():    # the names are patterns to `datasets`: [v2] must stand for itself
        builder = datasets.load_dataset_builder("parquet", data_files={"train": [glob.escape(str(file)) for file in files]})
        return prepared(builder, "train", where)


def columns(file: Path) -> tuple:
    """The names of a file's columns, and what `datasets` wrote of their types, the names of the classes among it."""
    import json

    import pyarrow.parquet
    schema = pyarrow.parquet.read_schema(file)
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    return set(schema.names), json.loads(written).get("info", {}).get("features")


def prepared(builder, split: str, where: str | Path):
    """The split under the name this set has for it."""
    name = chosen(split, list(builder.info.splits or builder.config.data_files or ()), where)
    builder.download_and_prepare()
    if builder.info.splits[name].num_examples == 0:
        raise ValueError(f"split {name!r} of {where} is empty; choose another split")
    return builder.as_dataset(split=name)


@contextmanager
def cache_that_can_be_written() -> Iterator[None]:
    """`datasets` writes what it reads into a folder of its own; where that fails, one sentence says which and what to do."""
    import datasets
    try:
        yield
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        source = error if isinstance(error, OSError) else error.__cause__
        kept, file = Path(datasets.config.HF_DATASETS_CACHE), Path(str(getattr(source, "filename", "") or ""))
        of_cache = file.is_relative_to(kept) or kept.is_relative_to(file)
        if getattr(source, "errno", None) in FULL or of_cache and isinstance(source, OSError) and file.name:
            raise OSError(f"{kept}, where `datasets` keeps what it reads, cannot be written ({source}); set "
                          "HF_DATASETS_CACHE to a folder with room before Python starts") from error
        raise
