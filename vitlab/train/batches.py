"""What a step sees and draws: functions of (seed, step, process), so that nothing has to be remembered."""
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vitlab.recipe import Recipe

ORDER, PICTURES, DRAWS = range(3)                       # what a seed is for: no two purposes share a stream


class Batches(Dataset):
    """Item `step` is this process's batch of that step, augmented alike whichever loader process is asked."""

    def __init__(self, data, recipe: Recipe, process: int, processes: int):
        self.data, self.seed, self.size = data, recipe.seed, recipe.batch
        self.process, self.processes = process, processes
        self.per_epoch = len(data) // (recipe.batch * processes)
        self.epoch, self.order = -1, None

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, turn = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(mixed(self.seed, ORDER, epoch))
            self.epoch, self.order = epoch, torch.randperm(len(self.data), generator=generator)
        start = (turn * self.processes + self.process) * self.size
        seed_all(self.seed, PICTURES, step, self.process)
        return self.data.__getitems__(self.order[start:start + self.size].tolist())


class Shares(Dataset):
    """Item k is the k-th run of `size` images of a set, in order, through the evaluation transform."""

    def __init__(self, data, size: int):
        self.data, self.size = data, size

    def __len__(self) -> int:
        return -(-len(self.data) // self.size)

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        rows = list(range(len(self.data))[k * self.size:(k + 1) * self.size])
        return self.data.images(rows), self.data.labels[rows]


def mixed(*numbers: int) -> int:
    """One 32-bit seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_all(*numbers: int) -> None:
    """Python's, numpy's (timm's mixup) and torch's generators, on every device."""
    seed = mixed(*numbers)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def own_randomness(device: torch.device) -> Iterator[None]:
    """What is seeded and drawn inside leaves the caller's generators as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
