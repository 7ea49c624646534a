"""The tensors of a file of others, without running anything that is in it."""
import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitlab.checkpoint import KEY, not_finite
from vitlab.words import path_of

PLAIN = ("model_state_dict", "model", "state_dict")     # under which names a state dict lies in a larger file
MOVING = ("state_dict_ema", "model_ema")                # and the moving average of the weights
SETTINGS = [Namespace]                                  # what may lie beside tensors: the options of a training command


def read(path: str | Path, ema: bool = False) -> dict[str, Tensor]:
    """Name -> tensor of a state dict, without the `module.` that DataParallel puts in front; ema: of the moving average."""
    path = path_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder; name the file in it" if path.is_dir() else
                                f"there is no file {path}; check the path")
    found = inside(from_safetensors(path) if is_safetensors(path) else from_torch(path), path, ema)
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange or not found:
        raise ValueError(f"{path} holds no state dict that can be found" + (f": {strange[0]} is no tensor" if strange else ""))
    tensors = {name.removeprefix("module."): tensor for name, tensor in found.items()}
    if name := not_finite(tensors):
        raise ValueError(f"{path} holds NaN or infinity in {name}; take another file")
    return tensors


def inside(found: Any, path: Path, ema: bool) -> dict:
    """What lies in a file's wrappers."""
    wanted = MOVING if ema else (*PLAIN, *MOVING)
    while isinstance(found, Mapping) and (held := [name for name in wanted if isinstance(found.get(name), Mapping)]):
        found, ema, wanted = found[held[0]], False, (*PLAIN, *MOVING)
    if ema:
        raise ValueError(f"{path} holds no moving average of the weights; leave ema out")
    return found if isinstance(found, Mapping) else {}


def is_safetensors(path: Path) -> bool:
    """Such a file begins with its header's length in 8 bytes, then {."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def from_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            ours, tensors = KEY in (file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is cut short or damaged; copy it again") from error
    if ours:
        raise ValueError(f"{path} was written by vitlab; open it with vitlab.load")
    return tensors


def from_torch(path: Path) -> Any:
    """What torch.save wrote: tensors, numbers, words and settings; ValueError for a pickle of anything else."""
    try:
        with torch.serialization.safe_globals(SETTINGS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:                                             # a pickle can be broken in many ways
        code = re.search(r"GLOBAL (\S+)", str(error))
        why = (f"holds more than tensors and settings ({code[1]}), which could run code, so it was not opened; where you trust "
               'it, save its tensors alone: torch.save(torch.load(path, weights_only=False)["model"], new_path)') if code else (
               "is no file of torch.save that can be read safely: cut short, damaged, or something else")
        raise ValueError(f"{path} {why}") from error
