"""Several processes train one net, or are refused in one sentence: never each a copy of its own."""
import os

import pytest
import torch
from test_train import blobs, coin

from vitlab.recipe import Recipe
from vitlab.train import fit, processes

LAUNCHED = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def one_process_is_running(monkeypatch):
    """accelerate has counted the processes of this test run, as it has after a first `fit` in a notebook."""
    for name in [name for name in os.environ if name in (*processes.SIZES, *processes.RANKS, *processes.HERE, "LOCAL_RANK")]:
        monkeypatch.delenv(name)
    assert processes.processes().num_processes == 1


def refused(monkeypatch, tmp_path, **environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    net = coin()
    with pytest.raises(ValueError) as error:
        fit(net, blobs(8), Recipe(steps=1, batch=8), out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not net.seen
    assert not (tmp_path / "run").exists()
    return str(error.value)


@pytest.mark.parametrize("launch", [
    LAUNCHED, {"WORLD_SIZE": "2", "RANK": "1"}, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
    {"PMI_SIZE": "3", "PMI_RANK": "2"},
], ids=["torchrun", "by hand", "Open MPI", "MPICH"])
def test_processes_that_accelerate_does_not_count_are_refused(monkeypatch, tmp_path, launch):
    monkeypatch.setattr(processes, "gpus", lambda: 0)
    sentence = refused(monkeypatch, tmp_path, **launch)
    started = [value for name, value in launch.items() if name in processes.SIZES][0]
    assert f"{started} processes were started but accelerate counts 1" in sentence


def test_a_world_size_without_a_launcher_is_refused(monkeypatch, tmp_path):
    assert "nothing started this one as one of them; start them with torchrun" in refused(monkeypatch, tmp_path, WORLD_SIZE="2")


@pytest.mark.parametrize("launch", [LAUNCHED, {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}], ids=["torchrun", "by hand"])
def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path, launch):
    monkeypatch.setattr(processes, "gpus", lambda: 1)
    sentence = refused(monkeypatch, tmp_path, **launch)
    assert "2 processes were started on a machine with 1 GPUs; start one for each GPU, or set CUDA_VISIBLE_DEVICES=" in sentence


def test_only_a_gpu_that_can_be_shared_out_counts(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    for kind, count in (("cuda", 4), ("mps", 0), ("xpu", 4)):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(kind))
        assert processes.gpus() == count
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert processes.gpus() == 0


@pytest.mark.parametrize(("gpus", "variable", "cpu"), [(0, None, True), (2, None, False), (1, "true", True)])
def test_several_processes_share_the_cpu_only_where_there_is_no_gpu(monkeypatch, gpus, variable, cpu):
    asked = []

    class Two:
        num_processes = 2

        def __init__(self, cpu):
            asked.append(cpu)

    monkeypatch.setattr(processes, "PartialState", Two)
    monkeypatch.setattr(processes, "gpus", lambda: gpus)
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    if variable:
        monkeypatch.setenv("ACCELERATE_USE_CPU", variable)
    assert processes.processes().num_processes == 2
    assert asked == [cpu]


def test_a_launcher_of_one_process_is_as_none(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    assert processes.processes().num_processes == 1
