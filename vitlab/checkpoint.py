"""Checkpoints: safetensors files with their facts as one JSON text, written whole or not at all, never pickled."""
import json
import os
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import vitlab

KEY = "vitlab"                                          # of the JSON text in the metadata; nobody else writes it
PICKLES = (b"PK\x03\x04", b"\x80")                      # how torch.save and pickle begin
PICKLE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def save(method: nn.Module, path: str | Path, **facts) -> None:
    """The weights of a method and how it was made, with further facts that JSON can hold (recipe, metrics, ...)."""
    if not hasattr(method, "made"):
        raise ValueError(f"this {type(method).__name__} does not say how it was made; make it with vitlab.create")
    write(path, method.state_dict(), {"made": method.made, **origin(), **facts})


def read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Facts and weights; nothing in the file is executed. FileNotFoundError or ValueError, in one sentence."""
    facts, tensors = contents(path)
    if "progress" in facts:
        raise ValueError(f"{path} is the inner state of a training run; its weights are in last.safetensors beside it")
    if "made" not in facts:
        raise ValueError(f"{path} does not say which method its weights belong to; write it again with vitlab.save")
    return facts, tensors


def fill(method: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copy weights into a method; ValueError, before anything is copied, unless every name and shape fits."""
    own = method.state_dict()
    wrong = [name for name in sorted(own.keys() | tensors.keys())
             if name not in own or name not in tensors or own[name].shape != tensors[name].shape]
    if wrong:
        raise ValueError(f"the weights in {path} do not fit this {label(method.made)}: {len(wrong)} tensors are "
                         f"missing, left over or of another shape, the first is {wrong[0]}")
    method.load_state_dict(tensors)


def restore(method: nn.Module, path: str | Path) -> dict:
    """Read a checkpoint into a method that is already there; its facts. ValueError if it is of another one."""
    facts, tensors = read(path)
    there, here = facts["made"], method.made
    if (there["method"], there["backbone"]) != (here["method"], here["backbone"]):
        raise ValueError(f"{path} holds a {label(there)}, which does not fit this {label(here)}; "
                         "open it with vitlab.load")
    fill(method, tensors, path)
    return facts


def contents(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Facts and tensors of any file that `write` wrote."""
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; name the checkpoint in it, such as last.safetensors")
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}; check the path, or train one with vitlab.fit")
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        facts = None if text is None else json.loads(text)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(unreadable(path)) from error
    if facts is None:
        raise ValueError(f"{path} was not written by vitlab; load its weights into a method with load_state_dict, "
                         "then vitlab.save it")
    return facts, tensors


def unreadable(path: Path) -> str:
    """Why a file that is no safetensors file cannot be used."""
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(PICKLES) or path.suffix in PICKLE_ENDINGS:
        return (f"{path} is a pickle, which can run code when it is opened; convert it where you trust it: "
                "method.load_state_dict(torch.load(path, weights_only=True)), then vitlab.save(method, new_path)")
    return f"{path} is cut short or damaged; copy it again, or use an older checkpoint"


def write(path: str | Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Tensors and facts as one safetensors file; OSError leaves whatever was at `path` as it was."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace(path, safetensors.torch.save(plain, {KEY: json.dumps(facts)}))


def replace(path: str | Path, data: bytes) -> None:
    """Put data at path: to a draft in the same folder first, flushed to the disk, then renamed."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror}); nothing there was changed, free some space "
                      "or choose another folder") from error
    finally:
        if draft.exists():
            draft.unlink()


def origin() -> dict:
    """Which code writes: versions, and the commit where vitlab runs from a checkout."""
    versions = {"vitlab": vitlab.__version__, "torch": torch.__version__, "timm": version("timm")}
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return {"versions": versions}
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    answer = subprocess.run(["git", "--no-optional-locks", "-C", root, *describe], capture_output=True, text=True)
    return {"versions": versions} | ({"commit": answer.stdout.strip()} if answer.returncode == 0 else {})


def label(made: dict) -> str:
    """A method in words: supervit on micro_patch8 (10 classes, 56 px)."""
    return f"{made['method']} on {made['backbone']} ({made['num_classes']} classes, {made['image_size']} px)"
