"""Which processes train together, as accelerate finds them; a launch that it does not see whole is refused."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState
from accelerate.utils import get_int_from_env, parse_flag_from_env
from torch import nn

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")       # torchrun's, and three of mpirun's
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
HERE = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")    # on this machine


def processes() -> PartialState:
    """The device, number and place of this process among those that train together.

    accelerate's PartialState, not its Accelerator, which holds one mixed precision for the whole process. Several
    processes without GPUs share the CPU. ValueError, in one sentence, where processes were started that would each
    train a copy of their own, or share a GPU.
    """
    started, cpu = get_int_from_env(SIZES, 0), parse_flag_from_env("ACCELERATE_USE_CPU")
    if started > 1:
        cpu = cpu or gpus() == 0
        check_launch(started, cpu)
    found = PartialState(cpu=cpu)
    if started and found.num_processes != started:
        raise ValueError(f"{started} processes were started but accelerate counts {found.num_processes}, so each would train a "
                         "copy of its own; make no Accelerator, and call no fit, before the processes are started, or start "
                         "them with torchrun")
    return found


def check_launch(started: int, cpu: bool) -> None:
    """ValueError unless this process was told which of the started ones it is, and has a GPU of its own where GPUs are used."""
    if get_int_from_env(RANKS, -1) < 0:
        raise ValueError(f"WORLD_SIZE says that {started} processes train together, but nothing started this one as one of them; "
                         "start them with torchrun, or unset WORLD_SIZE")
    here = max(get_int_from_env(HERE, 1), get_int_from_env(["LOCAL_RANK"], 0) + 1)
    if not cpu and here > gpus():
        raise ValueError(f"{here} processes were started on a machine with {gpus()} GPUs; start one for each GPU, or set "
                         "CUDA_VISIBLE_DEVICES= (nothing) to train on the CPU")


def gpus() -> int:
    """GPUs that processes can share out among them: Apple's is one for all, and counts as none."""
    if not torch.accelerator.is_available() or torch.accelerator.current_accelerator().type == "mps":
        return 0
    return torch.accelerator.device_count()


@contextmanager
def visiting(device: torch.device, *nets: nn.Module | None) -> Iterator[None]:
    """Nets are on this device inside, and back where they came from afterwards, in evaluation mode."""
    homes = [(net, next(net.parameters(), torch.empty(0)).device) for net in nets if net is not None]
    try:
        for net, _ in homes:
            net.to(device)
        yield
    finally:
        for net, home in homes:
            net.to(home).eval()
