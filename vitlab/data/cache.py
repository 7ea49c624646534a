"""A folder of made tensors: written whole or not at all, checked when read, made again when damaged."""

import os
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

Tensors = dict[str, Tensor]


def folder() -> Path:
    """Where made data is kept: $VITLAB_DATA, else data/cache of the checkout, else ~/.cache/vitlab."""
    if os.environ.get("VITLAB_DATA"):
        return Path(os.environ["VITLAB_DATA"]).expanduser()
    root = Path(__file__).resolve().parents[2]
    checkout = (root / "pyproject.toml").is_file()
    return root / "data" / "cache" if checkout else Path.home() / ".cache" / "vitlab"


def kept(name: str, make: Callable[[], Tensors]) -> Tensors:
    """The tensors kept under `name`; where there are none, or damaged ones, `make()` is called and kept."""
    path = folder() / f"{name}.safetensors"
    tensors = read(path)
    if tensors is None:
        tensors = make()
        try:
            write(path, tensors)
        except (OSError, SafetensorError) as error:
            warnings.warn(f"{path} could not be written ({error}); the data is in memory only, set "
                          "VITLAB_DATA to a folder with room to keep it")
    return tensors


def read(path: Path) -> Tensors | None:
    """None unless the file is there, complete, unchanged since it was written, and written under this name."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors if (file.metadata() or {}) == told(path, tensors) else None
    except (OSError, SafetensorError):
        return None


def write(path: Path, tensors: Tensors) -> None:
    """To a file of its own, then renamed: two writers cannot mix, and a reader never sees half a file. Others may read it where
    they may read new files at all: one folder serves a whole class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        draft.write_bytes(save(tensors, metadata=told(path, tensors)))         # save_file's may be read by nobody else
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def told(path: Path, tensors: Tensors) -> dict[str, str]:
    """What stands in a file beside its tensors."""
    return {"checksum": f"{checksum(tensors)} of {path.stem}"}             # one fact: several have no order in a file


def checksum(tensors: Tensors) -> str:
    """Of all names and bytes, wherever the tensors are and of whatever type."""
    total = 0
    for name in sorted(tensors):
        bytes_ = tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        total = zlib.crc32(bytes_, zlib.crc32(name.encode(), total))
    return f"{total:08x}"
