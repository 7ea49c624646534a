"""Checkpoints: safetensors files with their facts as one JSON text, written whole or not at all, never pickled.

A checksum of facts and tensors stands in every file, and is compared whenever one is read.
"""
import json
import os
import platform
import shutil
import subprocess
import zlib
from importlib.metadata import version
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import vitlab
from vitlab.words import path_of

KEY = "vitlab"                                          # of the JSON text in the metadata; nobody else writes it
CHECKSUM = "checksum"                                   # one of the facts
OURS = ("made", "progress", "detector")                 # facts by which `read` tells the kinds of files apart
COMPILED = "_orig_mod."                                 # how torch.compile marks the names of what it wraps
DRAFT = ".part"                                         # how a file that is being written ends
PICKLES = (b"PK\x03\x04", b"\x80")                      # how torch.save and pickle begin
PICKLE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")


def save(method: nn.Module, path: str | Path, **facts) -> None:
    """The weights of a method and how it was made, with further facts that JSON can hold (recipe, metrics, ...).

    Raises ValueError, before anything is written, for what `vitlab.load` could not read: see `check`.
    """
    check(method)
    path = path_of(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file in it, such as {path / 'net.safetensors'}")
    if taken := [name for name in (*OURS, CHECKSUM) if name in facts]:
        raise ValueError(f"{taken[0]} is a fact that vitlab writes itself; give yours another name")
    if name := not_finite(weights(method)):
        raise ValueError(f"{name} holds NaN or infinity, so nobody could use this checkpoint; train again, at a lower rate")
    write(path, weights(method), {"made": method.made, **origin(), **facts})


def check(method: nn.Module) -> None:
    """ValueError, in one sentence, unless a method made again as its `made` says has the same names and shapes."""
    if "method" not in getattr(method, "made", {}):
        raise ValueError(f"this {type(method).__name__} does not say how it was made; make it with vitlab.create")
    text(method.made)
    expected = planned(method)
    if expected and (wrong := misfits(layout(method), expected)):
        raise ValueError(f"this {label(method.made)} is not what it was made as, so no checkpoint of it could be loaded: "
                         f"{len(wrong)} tensors are missing, left over or of another shape, the first is {wrong[0]}; say in "
                         "vitlab.create how it is to be, such as its number of classes, instead of changing its parts")


def not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity, if any does."""
    return next((name for name, tensor in tensors.items()
                 if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all()), None)


def weights(method: nn.Module) -> dict[str, Tensor]:
    """The state dict under the names that the method was made with, whatever of it torch.compile has wrapped."""
    return {own_name(name): tensor for name, tensor in method.state_dict().items()}


def own_name(name: str) -> str:
    """A parameter's name without torch.compile's part."""
    return name.replace(COMPILED, "")


def layout(method: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """Names and shapes of a state dict; None for what is no tensor, such as the parts of a quantised layer."""
    return {name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in weights(method).items()}


def planned(method: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the method, and each part that was made on its own, noted them in `.layout`; {} without notes."""
    expected: dict[str, tuple[int, ...]] = {}
    for prefix, part in method.named_modules():
        if hasattr(part, "layout"):
            start = own_name(f"{prefix}.") if prefix else ""
            expected = {name: shape for name, shape in expected.items() if not name.startswith(start)}
            expected |= {start + name: shape for name, shape in part.layout.items()}
    return expected


def misfits(own: dict[str, tuple], other: dict[str, tuple]) -> list[str]:
    """The names that only one of two layouts has, or that differ in shape."""
    return [name for name in sorted(own.keys() | other.keys())
            if name not in own or name not in other or own[name] != other[name]]


def read(path: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Facts and weights; nothing in the file is executed. FileNotFoundError or ValueError, in one sentence."""
    facts, tensors = contents(path)
    if "progress" in facts:
        raise ValueError(f"{path} is the inner state of a training run; its weights are in last.safetensors beside it")
    if "detector" in facts:
        raise ValueError(f"{path} holds a detector; open it with vitlab.methods.svit.detection.load")
    if "made" not in facts:
        raise ValueError(f"{path} does not say which method its weights belong to; write it again with vitlab.save")
    if name := not_finite(tensors):
        raise ValueError(f"{path} holds NaN or infinity in {name}; use an older checkpoint, or train again at a lower rate")
    return facts, tensors


def fill(method: nn.Module, tensors: dict[str, Tensor], path: str | Path) -> None:
    """Copy weights into a method; ValueError, before anything is copied, unless every name and shape fits."""
    if wrong := misfits(layout(method), {name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        raise ValueError(f"the weights in {path} do not fit this {label(method.made)}: {len(wrong)} tensors are "
                         f"missing, left over or of another shape, the first is {wrong[0]}")
    method.load_state_dict({name: tensors[own_name(name)] for name in method.state_dict()})


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
    """Facts and tensors of any file that `write` wrote, as it wrote them."""
    path = path_of(path)
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder; name the checkpoint in it, such as last.safetensors")
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {path}; check the path, or train one with vitlab.fit")
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        facts = None if told is None else json.loads(told)
    except (SafetensorError, ValueError) as error:                         # a header that is no UTF-8, too
        raise ValueError(unreadable(path)) from error
    if told is None:
        raise ValueError(f"{path} was not written by vitlab; load its weights into a method with load_state_dict, "
                         "then vitlab.save it")
    if not isinstance(facts, dict) or facts.pop(CHECKSUM, None) != checksum(facts, tensors):
        raise ValueError(unreadable(path))
    return facts, tensors


def checksum(facts: dict, tensors: dict[str, Tensor]) -> str:
    """Of a file's facts, and of the names, types, shapes and bytes of its tensors, on the CPU: 8 hexadecimal digits."""
    total = zlib.crc32(text(facts).encode())
    for name, tensor in sorted(tensors.items()):
        total = zlib.crc32(f"{name} {tensor.dtype} {list(tensor.shape)}".encode(), total)
        total = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy(), total)
    return f"{total:08x}"


def unreadable(path: Path) -> str:
    """Why a file that is no safetensors file cannot be used. One that was begins with its header's length in 8 bytes, then {."""
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(PICKLES) and start[8:] != b"{" or path.suffix in PICKLE_ENDINGS:
        return (f"{path} is a pickle, which can run code when it is opened; convert it where you trust it: "
                "method.load_state_dict(torch.load(path, weights_only=True)), then vitlab.save(method, new_path)")
    return f"{path} is cut short or damaged: it is not what was written; copy it again, or use an older checkpoint"


def write(path: str | Path, tensors: dict[str, Tensor], facts: dict) -> None:
    """Tensors and facts as one safetensors file; OSError leaves whatever was at `path` as it was."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace(path, safetensors.torch.save(plain, {KEY: text(facts | {CHECKSUM: checksum(facts, plain)})}))


def text(facts: dict) -> str:
    """Facts as JSON; numbers of numpy and torch are numbers. ValueError for what JSON cannot hold."""
    def listed(value):
        if hasattr(value, "tolist"):
            return value.tolist()
        raise ValueError(f"a {type(value).__name__} cannot be written into a checkpoint; give numbers, words, lists or dicts")

    return json.dumps(facts, default=listed)


def replace(path: str | Path, data: bytes) -> None:
    """Put data at path: to a draft in the same folder first, flushed to the disk, then renamed."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
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
        if draft.parent.is_dir() and draft.exists():
            draft.unlink()


def origin() -> dict:
    """Which code writes: versions, and the commit where vitlab runs from a checkout."""
    versions = {"vitlab": vitlab.__version__, "torch": torch.__version__, "timm": version("timm")}
    found = commit()
    return {"versions": versions} | ({} if found is None else {"commit": found})


def commit(digits: int = 40) -> str | None:
    """The checkout's commit, with -dirty where files differ from it; None where vitlab does not run from one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    describe = ["describe", "--always", "--dirty", f"--abbrev={digits}", "--exclude=*"]
    answer = subprocess.run(["git", "--no-optional-locks", "-C", root, *describe], capture_output=True, text=True)
    return answer.stdout.strip() if answer.returncode == 0 else None


def hardware(device: str | torch.device = "cpu") -> str:
    """The name of a GPU, or of the processor with its number of cores. ValueError for a device that torch does not know."""
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"there is no device {device!r}; give cpu, cuda or cuda:0") from error
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The CPU's model name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def label(made: dict) -> str:
    """A method in words: supervit on micro_patch8 (10 classes, 56 px)."""
    return f"{made['method']} on {made['backbone']} ({made['num_classes']} classes, {made['image_size']} px)"
