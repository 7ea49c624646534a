"""Random pictures of every class: as a share of each, or so many in all."""

import torch
from torch import Tensor

from vitlab.numbers import real, seed_of


def ranks(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each picture's place in a random order of its class, from 0, and how many the class has: int64 [n] each."""
    rank, size = torch.empty_like(labels), torch.empty_like(labels)
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        rank[rows] = torch.randperm(len(rows), generator=generator).argsort()
        size[rows] = len(rows)
    return rank, size


def proportional(labels: Tensor, n: int, seed: int = 0) -> Tensor:
    """Positions of n random pictures, of each class as its share to within one, ascending: int64 [min(n, N)].

    The k-th picture of a class of c, in random order, comes at (k + u) / c of the way, u drawn in [0, 1) for each class.
    """
    generator = torch.Generator().manual_seed(seed_of(seed))
    rank, size = ranks(labels, generator)
    start = torch.rand(int(labels.max()) + 1, generator=generator, dtype=torch.double)
    return ((rank + start[labels]) / size).argsort()[:n].sort().values


def share(fraction: float) -> float:
    """A share of every class to keep; ValueError for what is none, such as a percentage."""
    found = real(fraction, "fraction, the share of every class to keep,", 0, 1)
    if found == 0:
        raise ValueError("fraction must be above 0; .5 keeps half of every class")
    return float(found)


def stratified(labels: Tensor, fraction: float, seed: int = 0) -> Tensor:
    """Positions of a random `fraction` of every class, at least one picture of each, ascending: int64 [n]."""
    fraction = share(fraction)
    rank, size = ranks(labels, torch.Generator().manual_seed(seed_of(seed)))
    return (rank < (fraction * size).round().clamp(min=1)).nonzero()[:, 0]
