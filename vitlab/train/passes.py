"""The passes of a step, one after the other."""
from collections.abc import Iterator

import torch
from torch import Tensor


def passes(parts: Iterator[dict[str, Tensor]], device: torch.device, precision: str) -> Iterator[dict[str, Tensor]]:
    """Each pass of `losses` under autocast; the caller's backward stays outside it, as torch wants."""
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            part = next(parts, None)
        if part is None:
            return
        yield part
