"""Which machine this is, in words."""
import os
import platform
from pathlib import Path

import torch


def hardware(device: str | torch.device = "cpu") -> str:
    """The name of a GPU, or of the processor with its number of cores. ValueError for a device that torch does not know."""
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"there is no device {device!r}; give cpu, cuda or cuda:0") from error
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The CPU's model name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
