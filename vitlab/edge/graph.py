"""A method at one operating point as one fixed graph, in a file, ONNX or torch.export's, once its answers were compared."""
import io
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.backbones import image_size
from vitlab.checkpoint import KEY, origin, replace, text
from vitlab.data.picture import USUAL, Preprocessing
from vitlab.edge.session import Session, needed
from vitlab.fixed import At, obstacle, other_point, refused
from vitlab.measure.cost import gmacs, in_parts
from vitlab.words import path_of, short

OPSET = 23              # the newest that torch 2.14 and 2.15 write themselves; the first with attention as one operator
TOLERANCE = 1e-4        # of the largest logit
PICTURES = 8            # on which answers are compared
STRAY = 2               # of them may differ: where two tokens tie, rounding decides which is dropped
LARGEST = 2 ** 31       # bytes of an ONNX file
PROGRAM = ".pt2"        # how a program of torch.export ends; all else is an ONNX file


@torch.no_grad()
def export(method: nn.Module, path: str | Path, point: Any = None) -> Path:
    """Write a method at one point as an ONNX file, for any number of pictures at once; the path. The method stays as it is.

    A path that ends in .pt2 gets a program of torch.export, for PyTorch without vitlab: `torch.export.load(path).module()`, which
    unpickles, so only where you trust it. The file says which net it is, its classes and how it wants pictures prepared
    (`Session.facts`; in a program the extra file "vitlab"). Before it is put in its place its answers to 8 random pictures are
    compared with PyTorch's: RuntimeError where more than two differ by more than 1e-4 of the largest logit. Raises ValueError for
    a point at which a picture decides how many tokens are left, ImportError where an ONNX file lacks the extra `edge`, OSError
    where nothing can be written.
    """
    path = check_path(path)
    write = program if path.suffix == PROGRAM else onnx_file
    for package in ("onnx", "onnxscript", "onnxruntime") if write is onnx_file else ():
        needed(package)
    net = check_method(method)
    point = net.check(point)
    if why := obstacle(net, point):
        raise ValueError(refused(net, point, why, advice(net))) from why
    size = image_size(net.vit)
    images = torch.randn(PICTURES, 3, size, size, generator=torch.Generator().manual_seed(0))
    data, answers = write(At(net, point).eval(), images[:2], facts(net, point, images[:1]))
    compare(net, point, answers, images)
    replace(path, data)
    return path


def onnx_file(net: nn.Module, images: Tensor, told: dict) -> tuple[bytes, Callable]:
    """An ONNX file, and what answers pictures as it does."""
    model = graph(net, images)
    label(model, told)
    data = model.SerializeToString()
    return data, Session.of(data, threads=torch.get_num_threads())


def program(net: nn.Module, images: Tensor, told: dict) -> tuple[bytes, Callable]:
    """The same as a file of torch.export, without the notes that name files of this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                   # of torch about itself
        traced = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        for node in traced.graph.nodes:
            node.meta.pop("stack_trace", None)
        file = io.BytesIO()
        torch.export.save(traced, file, extra_files={KEY: text(told)})
        return file.getvalue(), torch.export.load(io.BytesIO(file.getvalue())).module()


def graph(net: nn.Module, images: Tensor) -> Any:
    """The net's ONNX model, traced with these images; the number of images is free.

    Attention is traced as its parts: the strides of the fused kernel with a mask are not those that torch expects of it. Left out
    are the notes of every node, which name files of this machine, and the shapes in between, some of which onnx finds wrong.
    """
    with in_parts(), warnings.catch_warnings():
        warnings.simplefilter("ignore")                                   # of torch about itself
        program = torch.onnx.export(net, (images,), dynamo=True, opset_version=OPSET, input_names=["images"],
                                    output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False)
    model = program.model_proto
    model.graph.ClearField("value_info")
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def label(model: Any, told: dict) -> None:
    """Write facts into a model, whatever it said before."""
    model.ClearField("metadata_props")
    model.metadata_props.add(key=KEY, value=text(told))


def facts(net: nn.Module, point: Any, image: Tensor) -> dict:
    """What a file says of its net; classes are None where they have no names."""
    made = getattr(net, "made", {})
    wanted = Preprocessing(**made["preprocessing"]) if made.get("preprocessing") else USUAL
    return {"made": made or {"method": type(net).__name__}, "point": {"name": repr(point), **asdict(point)}, "precision": "fp32",
            "image_size": image.shape[-1], "classes": made.get("classes"), "preprocessing": wanted.facts(),
            "gmacs": gmacs(net, image, point)[0], **origin()}


def compare(net: nn.Module, point: Any, answers: Callable, images: Tensor) -> None:
    """RuntimeError unless a file answers these images as the net does, alone and together."""
    truth = net(images, point)
    if not torch.allclose(truth, net(images, point)):
        raise ValueError(f"at {point} this net draws at random and answers the same pictures differently every time; export one "
                         "that does not")
    found = torch.cat([answers(images[:1]), answers(images[1:])])
    apart = (found - truth).abs().amax(1) / truth.abs().max()            # [B]
    if not (apart <= TOLERANCE).sum() >= len(images) - STRAY:
        raise RuntimeError(f"the exported graph answers otherwise than PyTorch: {(~(apart <= TOLERANCE)).sum()} of {len(images)} "
                           f"pictures by more than {TOLERANCE:g} of the largest logit, at most {apart.max():.2g}; nothing was "
                           "written, so use other versions of torch and onnxscript")


def check_path(path: str | Path) -> Path:
    """The path, its folder made; OSError, in one sentence, where no file can be written."""
    path = path_of(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file in it, such as {path / 'net.onnx'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror}); choose another folder") from error


def check_method(method: nn.Module) -> nn.Module:
    """A copy of the method on the CPU, in evaluation mode; ValueError for what cannot be exported whatever its point."""
    if not isinstance(method, nn.Module) or not hasattr(method, "check") or not hasattr(method, "points"):
        raise ValueError(f"export takes a method, not a {type(method).__name__}; make one with vitlab.create")
    other = {weight.dtype for weight in method.parameters()} - {torch.float32}
    if other:
        raise ValueError(f"weights of this net are {other.pop()}, and files are written in float32, because ONNX Runtime's CPU "
                         "gains nothing by other floats; export net.float()")
    if (size := sum(weight.nbytes for weight in method.parameters())) >= LARGEST:
        raise ValueError(f"this net has {size / 2 ** 30:.1f} GiB of weights but an ONNX file holds 2; take a smaller backbone")
    return deepcopy(method).cpu().eval()


def advice(net: nn.Module) -> str:
    """What can be exported instead."""
    other = other_point(net)
    return f"export another point, such as {short(other)}" if other is not None else "none of its points can be exported"
