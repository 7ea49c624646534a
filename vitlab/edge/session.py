"""Running an exported file: pictures in, logits out, on ONNX Runtime's CPU."""
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vitlab.backbones import check_images
from vitlab.checkpoint import KEY
from vitlab.numbers import whole
from vitlab.words import path_of

LIKE = torch.empty(0)                                   # what pictures must be like: float32 on the CPU
MOST = 1024                                             # threads
ZIP = b"PK\x03\x04"                                     # how a program of torch.export begins
ERRORS_ONLY = 3                                         # of ONNX Runtime's log


class Session:
    """A file of `export` or `quantise`: session(images [B, 3, S, S]) -> logits [B, K], a tensor or, of an array, an array.

    threads: of ONNX Runtime (None: as many as torch has).  `facts` is what the file says of its net: made, point, image_size,
    classes, preprocessing, precision, gmacs, versions, commit.
    Raises FileNotFoundError or ValueError, in one sentence, for a file that is missing, damaged or not ours.
    """

    device = "cpu"

    def __init__(self, path: str | Path, threads: int | None = None):
        data = contents(path)
        if data.startswith(ZIP):
            raise ValueError(f"{path} is no ONNX file; a program of torch.export is opened by torch.export.load(path).module(), "
                             "which unpickles, so only where you trust it")
        self.start(data, path, threads)

    @classmethod
    def of(cls, data: bytes, threads: int | None = None) -> "Session":
        """The same of a file's bytes."""
        session = cls.__new__(cls)
        session.start(data, "this graph", threads)
        return session

    def start(self, data: bytes, name: str | Path, threads: int | None) -> None:
        """Open what a file holds."""
        runtime = needed("onnxruntime")
        self.threads = torch.get_num_threads() if threads is None else whole(threads, "threads", 1, MOST)
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = ERRORS_ONLY
        options.add_session_config_entry("session.force_spinning_stop", "1")   # else they take the processor from who runs next
        try:
            self.running = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:                                         # its classes share no other base
            raise ValueError(f"{name} cannot be run by ONNX Runtime {runtime.__version__} ({first_line(error)}); write it again "
                             "with vitlab.export, or take a newer version of it") from error
        told = self.running.get_modelmeta().custom_metadata_map.get(KEY)
        if told is None:
            raise ValueError(f"{name} was not written by vitlab; write one with vitlab.export")
        self.facts = json.loads(told)
        self.precision, self.image_size = self.facts["precision"], self.facts["image_size"]

    def __call__(self, images: Tensor | np.ndarray) -> Tensor | np.ndarray:
        """Logits [B, K] of normalised float32 images; ValueError, in one sentence, for others."""
        pictures = torch.from_numpy(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
        check_images(pictures, self.image_size, LIKE)
        logits = self.running.run(["logits"], {"images": pictures.detach().numpy()})[0]
        return logits if isinstance(images, np.ndarray) else torch.from_numpy(logits)


def contents(path: str | Path) -> bytes:
    """The bytes of a file; FileNotFoundError, in one sentence, where there is none."""
    path = path_of(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder; name the file in it" if path.is_dir() else
                                f"there is no file {path}; check the path, or write one with vitlab.export")
    return path.read_bytes()


def needed(name: str) -> ModuleType:
    """A package of the extra `edge`; ImportError, in one sentence, where it is absent."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{error.name} is not installed; what exports and runs ONNX files comes with "
                          'pip install -e ".[edge]"', name=error.name) from error


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def sixteen_bit() -> bool:
    """Can this processor multiply bfloat16 numbers itself? Where not, PyTorch's bf16 is slower than float32 (DeiT-T: 6 times)."""
    can = torch.cpu.get_capabilities()
    return any(can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
