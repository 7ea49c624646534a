"""Operating points at which no picture decides what is computed for it: one graph, to be written to a file or compiled."""
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.backbones import image_size
from vitlab.words import short


class At(nn.Module):
    """A method at one of its points: a graph is a function of tensors alone."""

    def __init__(self, method: nn.Module, point: Any):
        super().__init__()
        self.method, self.point = method, point

    def forward(self, images: Tensor) -> Tensor:
        return self.method(images, self.point)


def obstacle(net: nn.Module, point: Any) -> Exception | None:
    """What keeps a point from being a fixed graph: the net runs without any numbers, and may not ask for one. None: nothing."""
    shell, size = deepcopy(net).to("meta"), image_size(net.vit)
    try:
        with torch.no_grad():
            shell(torch.empty(2, 3, size, size, device="meta", dtype=next(net.parameters()).dtype), point)
    except (NotImplementedError, RuntimeError) as error:                   # how torch says that it has none
        return error
    return None


def refused(net: nn.Module, point: Any, why: Exception, instead: str) -> str:
    """What is to be said of a point that is none; instead: what to do where a picture decides."""
    if "not on the expected device" in str(why):
        return (f"{type(net).__name__} makes a tensor without saying where, so it is not beside the pictures ({why}); write "
                "device=images.device there")
    return f"at {short(point)} a picture decides what is computed for it, which no fixed graph can hold; {instead}"


def other_point(net: nn.Module) -> Any:
    """What can be one instead: the costliest of the net's own points, None where none can."""
    return next((point for point in reversed(net.points) if obstacle(net, point) is None), None)
