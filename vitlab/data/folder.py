"""An image folder, listed here: a folder for each class, inside a folder for each split or not.

    pets/cat/1.jpg  pets/dog/old/2.png                     one split, "train"; what lies deeper counts as the class
    pets/train/cat/1.jpg  pets/val/dog/2.png               a split for each folder named like one

Links are followed. Names that begin with a dot are the system's, and text files beside pictures are no pictures.
Every other file that is not used is counted in one warning, with the reason.
"""

import os
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from PIL import Image

from vitlab.data.labels import ordered
from vitlab.data.picture import formats
from vitlab.data.splits import chosen, family

TEXTS = frozenset(".json .jsonl .txt .csv .tsv .xml .yaml .yml .md .html .log .ini .db".split())
PICTURES = frozenset(".heic .heif .hif .jxl .svg .raw .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .exr .hdr .dcm".split())
USED, OUTSIDE, EMPTY = "", "outside the class folders", "empty folders"
LEADS_UP, LEADS_NOWHERE, NO_TEXT = "links that lead back up", "links that lead to no file", "with a name that is no UTF-8"
SHOWN = 3             # how many files a warning names for each reason


def image_folder(root: Path, split: str):
    """A split as a datasets.Dataset with columns image and label; None where no folder in `root` holds pictures.

    The classes are those of all splits together, so that one which this split lacks keeps its place.
    """
    import datasets
    held = class_folders(root)
    if not held:
        return None
    splits = split_folders(root, held)
    own = chosen(split, splits or ["train"], root)
    base = root / own if splits else root
    if not class_folders(base):
        raise unlabelled(base)
    names = ordered(name for part in splits or ["."] for name in class_folders(root / part))
    place, rows, unused = {name: number for number, name in enumerate(names)}, [], defaultdict(list)
    for path, why in below(base, above=(os.path.realpath(root),)):
        first, *deeper = path.removeprefix(f"{base}{os.sep}").split(os.sep)
        if why == USED and deeper:
            rows.append((path, place[first]))
        else:
            unused[why or OUTSIDE].append(path)
    for path, why in below(root, skip=splits) if splits else ():
        unused[why or OUTSIDE].append(path)
    if any(path.endswith(".parquet") for paths in unused.values() for path in paths):
        raise ValueError(f"{root} holds parquet files beside pictures; give the path of the one that is meant")
    if unused:
        warnings.warn(sentence(root, unused))
    if not rows:
        raise ValueError(f"no picture of {base} can be read; convert them to JPEG or PNG")
    features = datasets.Features({"image": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
    paths, labels = zip(*sorted(rows, key=lambda row: row[1]), strict=True)
    return datasets.Dataset.from_dict({"image": paths, "label": labels}, features).cast_column("image", datasets.Image())


def class_folders(base: Path) -> list[str]:
    """Names of the folders directly in `base` that hold pictures at any depth, be they readable or not."""
    return [path.name for path in folders(base)
            if any(opens(file) or ending(file) in PICTURES for file, _ in below(path, above=(os.path.realpath(base),)))]


def split_folders(root: Path, held: list[str]) -> list[str]:
    """Those of `held` that are splits: none where the name is a class's beside others, as in bus, car, train."""
    named = [name for name in held if family(name)]
    others = [name for name in held if name not in named]
    layered = [name for name in named if class_folders(root / name)]
    if not named:
        for name in held:
            refuse_splits_inside(root, name)
    if named and others and len({family(name) for name in named}) == 1:
        if layered:
            raise ValueError(f"{root} holds {layered[0]!r} with folders of its own beside {', '.join(others[:3])}, so it may be "
                             f"a split or a class; give {root / layered[0]} alone, or rename the folder")
        return []
    return named


def refuse_splits_inside(root: Path, name: str) -> None:
    inner = [path.name for path in folders(root / name)]
    if inner and all(map(family, inner)):
        raise ValueError(f"{root / name} holds {', '.join(inner)}, so {name!r} is no class; give {root / name}, or put the "
                         f"splits first, as in {inner[0]}/{name}")


def unlabelled(base: Path) -> ValueError:
    return ValueError(f"{base} holds pictures but no folder for each class, so nobody knows their labels; put the "
                      "pictures of a class into a folder with its name")


def folders(base: Path) -> list[Path]:
    here = (os.path.realpath(base),)
    return [Path(entry.path) for entry in visible(base) if is_folder(entry) and not leads_up(entry, here)]


def visible(folder: str | Path) -> list[os.DirEntry]:
    """What lies directly in a folder, by name, without the system's."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except PermissionError as error:
        raise PermissionError(f"{folder} may not be listed ({error.strerror}); ask its owner, or take it away") from error


def below(folder: str | Path, above: tuple[str, ...] = (), skip: Collection[str] = ()) -> Iterator[tuple[str, str]]:
    """The path of every file in a folder and its sub-folders, and why it cannot be used (USED if it can).

    above: real paths of the folders on the way here; a link to one of them, or above it, would go round for ever.
    skip: names in this folder to leave out.
    """
    above = (*above, os.path.realpath(folder))
    entries = visible(folder)
    if not entries:
        yield str(folder), EMPTY
    for entry in entries:
        if entry.name in skip:
            continue
        if is_folder(entry):
            yield from [(entry.path, LEADS_UP)] if leads_up(entry, above) else below(entry.path, above)
        elif ending(entry.name) not in TEXTS:
            yield entry.path, verdict(entry)


def leads_up(entry: os.DirEntry, above: tuple[str, ...]) -> bool:
    target = os.path.realpath(entry.path) if entry.is_symlink() else None
    return target is not None and any(place == target or place.startswith(target.rstrip(os.sep) + os.sep) for place in above)


def is_folder(entry: os.DirEntry) -> bool:
    """As os.path.isdir, without asking the disk about what is no link; entry.is_dir raises for a link to itself."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def verdict(entry: os.DirEntry) -> str:
    if not os.path.isfile(entry.path) if entry.is_symlink() else not entry.is_file():
        return LEADS_NOWHERE
    if not opens(entry.name):
        return f"of type {ending(entry.name) or 'unknown'}, which Pillow does not open here"
    return USED if encodable(entry.path) else NO_TEXT


def ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def opens(name: str) -> bool:
    """Are files with this ending read here? Yes, too, if a plug-in of Pillow for it was registered before."""
    kind = Image.registered_extensions().get(ending(name))
    return kind == "MPO" or kind in formats()


def encodable(path: str) -> bool:
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


def sentence(root: Path, unused: dict[str, list[str]]) -> str:
    """Why how many files are not used, and which they are."""
    def named(paths):
        return ", ".join(os.path.relpath(path, root) for path in paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
    reasons = "; ".join(f"{len(paths):,} {why} ({named(paths)})" for why, paths in unused.items())
    return f"{root} holds what is not used: {reasons}"
