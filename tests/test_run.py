"""A training run's own numbers: rates by group, what a resumed run averages, what its note says, who is started."""
from dataclasses import replace
from time import perf_counter

import pytest
import torch
from test_train import EVERYTHING, blobs, coin, interrupt
from torch import nn

import vitlab
from vitlab import checkpoint
from vitlab.data.picture import USUAL
from vitlab.recipe import Recipe
from vitlab.train import fit, processes
from vitlab.train.batches import Batches, Shares
from vitlab.train.door import learns_statistics
from vitlab.train.replicas import Replicas
from vitlab.train.run import meet, parameter_groups

RECIPE = Recipe(steps=5, batch=8)                                           # 24 pictures: 3 steps are an epoch


def test_every_net_of_a_cascade_has_the_backbones_rate():
    method = vitlab.create("dvt", "micro_patch8", num_classes=3)
    names = {id(p): name for name, p in method.named_parameters()}
    scales = {names[id(p)]: group["lr_scale"] for group in parameter_groups(method, Recipe(steps=1, lr=1e-3, lr_backbone=1e-5))
              for p in group["params"]}
    assert scales == {name: pytest.approx(0.01 if ".vit." in name else 1.0) for name in names.values()}


def test_seconds_are_those_of_training(tmp_path):
    began = perf_counter()
    first = fit(interrupt(coin(), 2), blobs(24), RECIPE, out=tmp_path)
    assert 0 < first.seconds.max() < perf_counter() - began
    again = fit(coin(), blobs(24), RECIPE, out=tmp_path)
    assert first.seconds.max() < again.seconds.max() < perf_counter() - began


def test_the_rate_in_the_history_is_the_recipes_not_the_backbones():
    table = fit(coin(), blobs(24), replace(RECIPE, lr=1e-2, lr_backbone=1e-4, warmup=0.0, log_every=1))
    assert table.lr[0] == pytest.approx(1e-2)


def test_a_resumed_run_averages_as_an_uninterrupted_one(tmp_path):
    fit(coin(), blobs(24), EVERYTHING, out=tmp_path / "whole")
    for net in (interrupt(coin(), 4), coin()):
        fit(net, blobs(24), EVERYTHING, out=tmp_path / "twice")
    whole, twice = (checkpoint.read(tmp_path / run / "ema.safetensors")[1] for run in ("whole", "twice"))
    assert all(torch.equal(whole[name], twice[name]) for name in whole)


def test_resume_false_begins_in_a_folder_that_holds_nothing(tmp_path):
    table = fit(coin(), blobs(24), RECIPE, out=tmp_path / "new", resume=False)
    assert table.step.max() == 5 and (tmp_path / "new" / "last.safetensors").exists()


def test_a_stopped_run_says_where_it_is_kept_and_how_it_goes_on(tmp_path):
    kept = fit(interrupt(coin(), 2), blobs(24), RECIPE, out=tmp_path).attrs["note"]
    assert kept == f"stopped by Ctrl-C after step 2 of 5, kept in {tmp_path}; the same call goes on from there"
    lost = fit(interrupt(coin(), 2), blobs(24), RECIPE).attrs["note"]
    assert lost == "stopped by Ctrl-C after step 2 of 5, in memory only, as no folder was given"
    done = fit(coin(), blobs(24), RECIPE).attrs["note"]
    assert done == "finished all 5 steps, in memory only, as no folder was given"


def test_pictures_prepared_as_usual_are_no_fact_of_the_net():
    made, *_ = meet(coin(), blobs(8), None)
    assert "preprocessing" not in made
    data = blobs(8)
    data.preprocessing = replace(USUAL)                                     # another record of the same numbers
    made, *_ = meet(coin(), data, None)
    assert "preprocessing" not in made
    data.preprocessing = replace(USUAL, mean=(0.5, 0.5, 0.5))
    made, *_ = meet(coin(), data, None)
    assert made["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


# What a step sees

def test_a_batch_is_that_of_its_step_whichever_was_asked_for_before():
    batches = Batches(blobs(24), RECIPE, 0, 1)
    there = [batches[step][0] for step in (0, 4, 7)]
    back = [batches[step][0] for step in (7, 4, 0)][::-1]
    assert all(map(torch.equal, there, back))
    assert not torch.equal(there[0], there[1])


def test_every_picture_is_in_one_share():
    data = blobs(10)
    for size in (1, 3, 5, 10, 11):
        shares = [labels for _, labels in (Shares(data, size)[k] for k in range(len(Shares(data, size))))]
        assert torch.equal(torch.cat(shares), data.labels)
        assert max(map(len, shares)) == min(size, 10)


# Several processes

def test_running_statistics_move_by_what_each_process_saw():
    """Where one process runs all lengths, a step's sum is what it was: its own gradients and statistics."""
    net = vitlab.create("revit", "deit_tiny", num_classes=10, image_size=32, lengths=(4, 2), stem="conv")
    state = processes.processes()
    replicas = Replicas(((4, 2),), net, state)
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    asked = replicas.step(net, images, labels)
    for part in net.losses(images, labels, **asked):
        sum(part.values()).backward()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    after = {name: buffer.clone() for name, buffer in net.named_buffers()}
    assert any(name.endswith("running_mean") and buffer.abs().sum() > 0 for name, buffer in after.items())
    assert replicas.total(state, net, [1.5]) == [1.5]
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, after[name], msg=name)


@pytest.mark.parametrize("launch", [{"WORLD_SIZE": "2", "RANK": "1"}, {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}])
def test_one_process_on_each_of_two_machines_has_a_gpu_of_its_own(monkeypatch, launch):
    for name in (*processes.SIZES, *processes.RANKS, *processes.HERE, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "gpus", lambda: 1)
    processes.check_launch(2, cpu=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started on a machine with 1 GPUs"):
        processes.check_launch(2, cpu=False)


def test_a_world_of_one_needs_no_launcher(monkeypatch):
    for name in (*processes.SIZES, *processes.RANKS, *processes.HERE, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes.processes().num_processes == 1


def test_batchnorm_without_weights_learns_statistics_too():
    assert learns_statistics(nn.BatchNorm2d(3, affine=False))
    assert learns_statistics(nn.BatchNorm2d(3))
    assert not learns_statistics(nn.BatchNorm2d(3).requires_grad_(False))
    assert not learns_statistics(nn.LayerNorm(3))
