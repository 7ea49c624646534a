"""Moving tokens about: which row of an image's token matrix goes where."""
import torch
from torch import Tensor


def take(x: Tensor, index: Tensor) -> Tensor:
    """Tokens of each image by position: [B, T, ...], [B, n] -> [B, n, ...].

    One row copy on the flattened tokens: on a CPU about ten times faster than `gather` with an expanded index.
    """
    first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_select(0, (index + first).flatten()).unflatten(0, index.shape)


def add(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
    """A copy of x [B, T, D] with y [B, n, D] added at positions index [B, n], which may repeat."""
    first = torch.arange(x.shape[0], device=x.device)[:, None] * x.shape[1]
    return x.flatten(0, 1).index_add(0, (index + first).flatten(), y.flatten(0, 1)).unflatten(0, x.shape[:2])


def put(x: Tensor, index: Tensor, y: Tensor) -> Tensor:
    """A copy of x [B, T, ...] whose positions index [B, n] hold y [B, n, ...]."""
    return x.scatter(1, index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand_as(y), y)
