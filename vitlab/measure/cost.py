"""Cost: multiply-adds of one image at one operating point, counted while the net really runs.

The unit is 1e9 multiply-adds, which all five papers call GFLOPs: convolutions, linear layers and the two matrix products of
attention. LayerNorm, softmax, GELU and additions are not counted. The last block is, for all tokens, as the papers have it,
though a net that answers from its class token computes it for that one alone (see `backbones.reading`).
"""
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from threading import RLock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.backends import mha
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vitlab.backbones import by_the_book
from vitlab.evaluation import beside, in_evaluation
from vitlab.trace import Trace

ONE_AT_A_TIME = RLock()
AGREE = 1e-6                    # relative difference between what is reckoned and what is counted


@in_evaluation
@torch.no_grad()
def gmacs(method: nn.Module, images: Tensor, point: Any = None) -> np.ndarray:
    """Multiply-adds / 1e9 of each image [B, 3, S, S], by torch's counter: float array [B].

    An image that is counted runs alone, so padding never is. Images that took the same way through the net are counted once;
    see `from_trace`.
    """
    images, trace = beside(method, images), Trace()
    if method.adaptive:
        method(images, point, trace)
    return from_trace(method, images, point, trace, {})


def from_trace(method: nn.Module, images: Tensor, point: Any, trace: Trace, known: dict) -> np.ndarray:
    """The same of a batch whose trace is known: one counted pass for each way through the net; `known` remembers them.

    Where images keep different numbers of tokens the method tells what depends on them (`token_macs`); the rest is counted once,
    and a second image is counted to check it. RuntimeError where the two do not agree. An image that is counted runs alone, and
    alone it may keep a token more or less than in its batch, where rounding decides: it tells anew.
    """
    ragged = method.adaptive and hasattr(method, "token_macs")
    own = method.token_macs(trace).tolist() if ragged else [0.0] * len(images)
    kinds = ways(trace, len(images), whole=ragged) if method.adaptive else [()] * len(images)
    for kind in set(kinds) - known.keys():
        first, last = kinds.index(kind), len(kinds) - 1 - kinds[::-1].index(kind)
        known[kind] = count(method, images[[first]], point) - (alone(method, images[[first]], point) if ragged else 0.0)
        if own[last] != own[first]:
            truth, told = count(method, images[[last]], point), known[kind] + alone(method, images[[last]], point)
            if abs(told / truth - 1) > AGREE:
                raise RuntimeError(f"this {type(method).__name__} reckons {told:.0f} multiply-adds for an image that takes "
                                   f"{truth:.0f}; its token_macs does not fit what it computes")
    return np.array([known[kind] + mine for kind, mine in zip(kinds, own, strict=True)]) / 1e9


def alone(method: nn.Module, image: Tensor, point: Any) -> float:
    """What a method tells of one image [1, 3, S, S] that runs by itself (`token_macs`)."""
    trace = Trace()
    method(image, point, trace)
    return method.token_macs(trace).item()


def ways(trace: Trace, batch: int, whole: bool) -> list[tuple]:
    """Which blocks each image went through, or (`whole`) which nets of a cascade."""
    seen: list[dict] = [{} for _ in range(batch)]
    for part in trace.layers:
        for image in part.passed.nonzero()[:, 0].tolist():
            seen[image][part.stages if whole else (part.stages, part.layer)] = None
    return [tuple(found) for found in seen]


def count(method: nn.Module, image: Tensor, point: Any) -> float:
    """Multiply-adds of one pass; torch counts two operations for each.

    Attention runs as the matrix products it is made of: which fused kernels its counter knows differs between versions of
    torch and between devices. RuntimeError where a product whose cost is known is counted wrong all the same.
    """
    check_counter(image.device.type)
    return counted(lambda: method(image, point))


def counted(run: Callable[[], Any]) -> float:
    """Multiply-adds of whatever runs, the last block for all tokens, as papers count it."""
    with in_parts(), by_the_book(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


@contextmanager
def in_parts() -> Iterator[None]:
    """Attention runs as its matrix products, torch's own module for it too.

    One at a time: which kernels may run is a setting of the whole process, and two threads that restore it in the wrong order
    would leave it changed for good.
    """
    with ONE_AT_A_TIME, sdpa_kernel(SDPBackend.MATH):
        fast = mha.get_fastpath_enabled()
        mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            mha.set_fastpath_enabled(fast)


@cache
def check_counter(device: str = "cpu") -> None:
    """Once a process and kind of device: a convolution, a linear layer and an attention of known cost, with and without a mask.

    RuntimeError unless they are counted so.
    """
    zeros = partial(torch.zeros, device=device)
    x, y, q = zeros(1, 3, 8, 8), zeros(1, 9, 6), zeros(1, 2, 5, 4)
    known = {"a convolution": (lambda: F.conv2d(x, zeros(7, 3, 4, 4), stride=4), 7 * 3 * 16 * 4),
             "a linear layer": (lambda: F.linear(y, zeros(11, 6), zeros(11)), 9 * 6 * 11),
             "attention": (lambda: F.scaled_dot_product_attention(q, q, q), 2 * 2 * 5 * 5 * 4),
             "masked attention": (lambda: F.scaled_dot_product_attention(q, q, q, zeros(5, 5)), 2 * 2 * 5 * 5 * 4)}
    with torch.no_grad():
        for name, (run, truth) in known.items():
            if (found := counted(run)) != truth:
                raise RuntimeError(f"torch {torch.__version__} counts {name} on {device} as {found:g} multiply-adds instead of "
                                   f"{truth}; costs would be wrong, so install another version of torch")


@in_evaluation
@torch.no_grad()
def audit(method: nn.Module, image: Tensor, point: Any = None) -> dict[str, float]:
    """The same count by fvcore, which the papers used, for one image [1, 3, S, S]: 1e9 multiply-adds by kind of operation.

    fvcore does not know fused attention and would report DeiT-S as 4.25 instead of 4.60, so it is told.
    "total" includes LayerNorm and resizing as fvcore counts them; "core" is what `gmacs` counts. Of a method with early exits
    and no point, every exit is run: the cost of leaving at the last one.
    """
    image = beside(method, image)
    if image.dim() != 4 or len(image) != 1:
        raise ValueError(f"an audit is that of one image [1, 3, S, S], not of {list(image.shape)}; give images[:1]")
    with by_the_book(), warnings.catch_warnings():
        warnings.simplefilter("ignore")                                   # torch.jit, which fvcore needs, warns on import and use
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(_At(method, point).eval(), image)
        analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_macs)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        kinds = {name: n / 1e9 for name, n in analysis.by_operator().items()}
    core = sum(n for name, n in kinds.items() if name in ("linear", "matmul", "conv", "bmm", "scaled_dot_product_attention"))
    return {**kinds, "core": core, "total": sum(kinds.values())}


class _At(nn.Module):
    """A method fixed at one point: fvcore traces a function of tensors only."""

    def __init__(self, method: nn.Module, point: Any):
        super().__init__()
        self.method, self.point = method, point

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.point is None and hasattr(self.method, "exits"):
            return tuple(self.method.exits(images))             # all are returned: the tracer drops what reaches no output
        return self.method(images, self.point)


def _attention_macs(inputs: list, outputs: list) -> float:
    """q K^T and the weighted sum of V, from traced q, k, v of shape [B, H, T, d]."""
    q, k, v = (i.type().sizes() for i in inputs[:3])
    return math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def parameters(method: nn.Module) -> int:
    """Number of parameters, of any module; TypeError for what is none."""
    if not isinstance(method, nn.Module):
        raise TypeError(f"parameters are counted of a net, not of a {type(method).__name__}")
    return sum(p.numel() for p in method.parameters())
