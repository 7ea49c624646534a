"""A batch in pieces whose temporaries stay in a processor's cache: through memory the same work takes up to twice as long."""
from collections.abc import Callable

import torch
from torch import Tensor, nn

CACHE = 2 ** 20         # bytes that a core keeps at hand


def at_once(x: Tensor) -> bool:
    """Is there nothing to gain? Not on a CPU, where gradients keep everything in memory anyway, and in a graph, which has no
    number of images."""
    return torch.compiler.is_compiling() or torch.is_grad_enabled() or x.device.type != "cpu"


def watched(*modules: nn.Module) -> bool:
    """Does a hook want to see everything that goes through one of them, or a part of it?"""
    return any(part._forward_hooks or part._forward_pre_hooks for module in modules for part in module.modules())


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, size: int, room: int | None = None) -> Tensor:
    """The function of x [B, ...], by so few rows at a time that what it makes, `size` bytes of each, fits into `room` bytes.

    room: None is twice the cache.
    """
    if at_once(x):
        return function(x)
    few = max((2 * CACHE if room is None else room) // max(size, 1), 1)
    if len(x) <= few:
        return function(x)
    few = -(-len(x) // -(-len(x) // few))                                  # pieces of one size
    first = function(x[:few])
    out = first.new_empty(len(x), *first.shape[1:])
    out[:few] = first
    for part, place in zip(x[few:].split(few), out[few:].split(few), strict=True):
        place.copy_(function(part))
    return out
