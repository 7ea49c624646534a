"""Training in parallel by token length (ReViT Sec. 3.3, Fig. 4): every process trains some lengths on the same images.

The largest length's process sends what it teaches to the others; gradients are summed, and every process steps alike.
Up to rounding the weights are those of one process that runs all lengths. The paper gives each length a device, which
waits for the largest; `balanced` finds splits that keep fewer devices busy.
Departure: the sum goes to all processes and all step, instead of one that steps and sends its weights: as many bytes.
"""
from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import broadcast, gather_object
from accelerate.utils import reduce as over_processes
from torch import Tensor, nn

from vitlab.numbers import wholes

Lesson = dict[str, Tensor]


class Replicas:
    """Which lengths each process trains; the first process has the largest.

    split: lengths per process, such as ((14,), (10,), (7,)) or ((14,), (10, 7)). ValueError for one that does not hold
    each of the method's lengths once, or for another number of processes.
    """

    def __init__(self, split: Sequence[Sequence[int]], method: nn.Module, accelerator: PartialState):
        wanted = "replicas must be groups of token lengths, one for each process, such as ((14,), (10, 7))"
        if not isinstance(split, Sequence) or isinstance(split, str):
            raise ValueError(f"{wanted}, not {split!r}")
        self.split = tuple(tuple(sorted(wholes(group, wanted), reverse=True)) for group in split)
        lengths = getattr(method, "lengths", None)
        if lengths is None or not hasattr(method, "distillation"):
            raise ValueError(f"a {type(method).__name__} has no token lengths to spread over processes; "
                             "leave replicas out")
        if sorted(n for group in self.split for n in group) != sorted(lengths) or lengths[0] not in self.split[0]:
            raise ValueError(f"replicas must hold each length of {tuple(lengths)} once, {lengths[0]} in the first "
                             f"group, not {self.split}")
        if not all(self.split) or len(self.split) != accelerator.num_processes:
            raise ValueError(f"replicas are {len(self.split)} groups of lengths but {accelerator.num_processes} "
                             "processes run; start one process per group, and leave none empty")
        self.accelerator, self.mine = accelerator, self.split[accelerator.process_index]
        self.before: list[Tensor] = []

    def step(self, method: nn.Module, images: Tensor, labels: Tensor) -> dict:
        """What this process's `method.losses` is called with."""
        self.before = [buffer.clone() for buffer in statistics(method)]
        return {"lengths": self.mine, "exchange": partial(self.exchange, fingerprint(images, labels))}

    def exchange(self, batch: list[float], lesson: Lesson | None) -> Lesson:
        """The first process's lesson in all of them; ValueError, in all, if one looks at another batch."""
        if len(self.split) == 1:
            return lesson
        outline = {} if lesson is None else {name: (tuple(t.shape), t.dtype) for name, t in lesson.items()}
        told = gather_object([(batch, outline)])
        if strangers := [number for number, (there, _) in enumerate(told) if there != told[0][0]]:
            raise ValueError(f"process {strangers[0]} has another batch than the first one; give all processes the "
                             "same data, seed and recipe")
        if lesson is None:
            lesson = {name: torch.empty(shape, dtype=dtype, device=self.accelerator.device)
                      for name, (shape, dtype) in told[0][1].items()}
        return {name: broadcast(tensor.contiguous()) for name, tensor in lesson.items()}

    def total(self, accelerator: PartialState, method: nn.Module, numbers: list[float]) -> list[float]:
        """Sum over processes of gradients, of what running statistics moved by (in place), and of some numbers."""
        buffers, told = statistics(method), torch.tensor(numbers, device=accelerator.device)
        for buffer, before in zip(buffers, self.before, strict=True):
            buffer.sub_(before)
        reduce([p.grad for p in method.parameters() if p.requires_grad] + buffers + [told], "sum")
        for buffer, before in zip(buffers, self.before, strict=True):
            buffer.add_(before)
        return told.tolist()


def statistics(method: nn.Module) -> list[Tensor]:
    """Running means and variances: what training moves without a gradient."""
    return [buffer for buffer in method.buffers() if buffer.is_floating_point()]


def reduce(tensors: list[Tensor], how: str) -> None:
    """The "mean" or "sum" of each tensor over all processes, in place, in one message."""
    whole = over_processes(torch.cat([tensor.flatten() for tensor in tensors]), how)
    for tensor, value in zip(tensors, whole.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(value.view_as(tensor))


def fingerprint(images: Tensor, labels: Tensor) -> list[float]:
    """Numbers that tell two batches apart."""
    weight = torch.arange(1, len(images) + 1, dtype=torch.double, device=images.device)
    sums = [(part.flatten(1).float().sum(1) * weight).sum() for part in (images, labels[:, None])]
    return [len(images), *torch.stack(sums).tolist()]


def balanced(gmacs: Mapping[int, float], processes: int) -> tuple[tuple[int, ...], ...]:
    """Lengths spread over processes so that the busiest has little to do: the costliest first, each to the idlest."""
    if not 1 <= processes <= len(gmacs):
        raise ValueError(f"{len(gmacs)} lengths keep 1 to {len(gmacs)} processes busy, not {processes}")
    groups: list[list[int]] = [[] for _ in range(processes)]
    for length in sorted(gmacs, key=gmacs.get, reverse=True):
        min(groups, key=lambda group: sum(gmacs[n] for n in group)).append(length)
    return tuple(tuple(group) for group in groups)


def training_cost(gmacs: Mapping[int, float]) -> pd.DataFrame:
    """What a step takes by its multiply-adds, for every number of processes: a row each.

    split; processes; work and wall: all lengths' and the busiest process's, in passes of the largest length;
    efficiency: the share of the devices' time that is used. Messages are not counted.
    """
    most, rows = max(gmacs.values()), []
    for processes in range(1, len(gmacs) + 1):
        split = balanced(gmacs, processes)
        wall = max(sum(gmacs[n] for n in group) for group in split) / most
        work = sum(gmacs.values()) / most
        rows.append({"split": " | ".join("+".join(map(str, group)) for group in split), "processes": processes,
                     "work": work, "wall": wall, "efficiency": work / (wall * processes)})
    return pd.DataFrame(rows)
