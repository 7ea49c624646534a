"""What a pass takes besides time, where the device tells: the most memory at once, and energy. NaN elsewhere, never a guess."""
from math import nan
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.evaluation import in_evaluation
from vitlab.measure.speed import MOST, prepare
from vitlab.numbers import real

MIB = 2 ** 20


@in_evaluation
def peak_memory(method: nn.Module, images: Tensor, point: Any = None, *, precision: str = "fp32") -> float:
    """MiB that a pass of a batch [B, 3, S, S] needs on a GPU at most, the weights and the pictures included.

    It is what torch hands out; what it keeps in reserve, and CUDA itself, come on top. NaN on a CPU, whose memory nobody
    counts by tensors.
    """
    run, device = prepare(method, images, point, precision), next(method.parameters()).device
    run()                                                   # what is set up once is no part of a pass
    if device.type != "cuda":
        return nan
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) / MIB


@in_evaluation
def joules(method: nn.Module, images: Tensor, point: Any = None, *, precision: str = "fp32", seconds: float = 2.0) -> float:
    """Joules per image of a batch [B, 3, S, S], by the GPU's own counter over passes of some seconds; nothing else may run there.

    It counts the whole card, what it takes at rest included. NaN where nobody counts: on a CPU, on a card older than Volta, and
    without the package nvidia-ml-py (`pip install "vitlab[energy]"`).
    """
    run, device = prepare(method, images, point, precision), next(method.parameters()).device
    seconds = real(seconds, "seconds", 0.1, MOST)
    run()
    meter = counter(device)
    if meter is None:
        return nan
    first, begin, passes = meter(), perf_counter(), 0
    while perf_counter() - begin < seconds:
        run()
        passes += 1
    return (meter() - first) / (passes * len(images))


def counter(device: torch.device):
    """A function that tells the joules this GPU has taken since its driver was loaded; None where there is none."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except pynvml.NVMLError:
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000
