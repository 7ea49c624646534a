"""How a net is looked at: in evaluation mode while it is, with pictures where its weights are; afterwards it is as it was."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps

from torch import Tensor, nn


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
        with evaluating(method):
            return function(method, *args, **kwargs)
    return run


def beside(method: nn.Module, images: Tensor) -> Tensor:
    """The images on the net's device and, floats, in its precision, such as that of a `.half()` net."""
    weight = next(method.parameters())
    return images.to(weight.device, weight.dtype if images.is_floating_point() else images.dtype)
