"""Numbers of which width train faster here? Measured, never believed: on one and the same processor bf16 trains DeiT-T 1.4
times as fast as fp32, and the small nets of the notebooks half as fast.
"""
from copy import deepcopy
from statistics import median
from time import perf_counter

import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from vitlab.train.passes import passes
from vitlab.train.run import Run

TURNS = 3           # timed steps of each, in turns, after one that warms up
WORTH = 1.05        # times as fast as fp32, or the wider numbers stay


def settle(run: Run, teacher: nn.Module | None) -> None:
    """Decide, once in a run whose recipe leaves it open; the net, and what is drawn, stay as they are."""
    if run.recipe.precision != "auto" or run.progress.precision:
        return
    times = measured(run, teacher)
    choice = ["bf16" if times["fp32"] > WORTH * times["bf16"] else "fp32"]
    if run.accelerator.num_processes > 1:
        broadcast_object_list(choice)                   # the first process decides for all
    run.progress.precision = choice[0]


def measured(run: Run, teacher: nn.Module | None) -> dict[str, float]:
    """Median seconds of the passes of a step, there and back, on a copy of the net, by precision."""
    net, device = deepcopy(run.method).train(), run.accelerator.device
    images, labels = (part.to(device) for part in run.batches[0])
    times: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for _ in range(1 + TURNS):
        for precision, took in times.items():
            begin = perf_counter()
            for part in passes(net.losses(images, labels, teacher), device, precision):
                sum(part.values()).backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took.append(perf_counter() - begin)
            net.zero_grad()
    return {precision: median(took[1:]) for precision, took in times.items()}
