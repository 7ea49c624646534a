"""How a net is looked at: in evaluation mode while it is, with pictures where its weights are; afterwards it is as it was."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from torch import Tensor, nn


def check_net(net: Any) -> None:
    """TypeError, in one sentence, for what is no method (nor an assigner, which lacks operating points alone)."""
    if not isinstance(net, nn.Module) or not hasattr(net, "adaptive"):
        raise TypeError(f"this needs a method of vitlab, not a {kind(net)}; make one with vitlab.create, or put a ViT of timm "
                        "into vitlab.Dense")


def kind(value: Any) -> str:
    """What something is, in a word or two."""
    if isinstance(value, type):
        return f"class, {value.__name__}"
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def checked(method: nn.Module, point: Any) -> Any:
    """The operating point as the method takes it, None being its own; of a method that checks none, as it is."""
    return method.check(point) if hasattr(method, "check") else method.Point() if point is None else point


@contextmanager
def evaluating(*nets: nn.Module) -> Iterator[None]:
    """The nets in evaluation mode; afterwards each module of theirs is back in its own, whatever was raised.

    Module by module, because a net in training mode may hold a part that is not, such as a frozen assigner.
    """
    before = [(part, part.training) for net in nets for part in net.modules()]
    for net in nets:
        net.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.training = training


def in_evaluation(function: Callable) -> Callable:
    """The function with its net, the first argument, in evaluation mode while it runs."""
    @wraps(function)
    def run(method: nn.Module, *args, **kwargs):
        check_net(method)
        with evaluating(method):
            return function(method, *args, **kwargs)
    return run


def beside(method: nn.Module, images: Tensor) -> Tensor:
    """The images on the net's device and, floats, in its precision, such as that of a `.half()` net.

    TypeError for what is no tensor, ValueError for one without a picture.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor [B, 3, S, S], such as an image set's images(range(4)), not a {kind(images)}")
    if images.dim() == 0 or len(images) == 0:
        raise ValueError(f"images of shape {list(images.shape)} hold no picture; give at least one")
    weight = next(method.parameters())
    return images.to(weight.device, weight.dtype if images.is_floating_point() else images.dtype)
