"""Several trainings at once: who starts from one net waits for it, and nobody is in another's way."""
import importlib
import threading
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from test_project import ROOT

import vitlab
from vitlab.train.folder import LOCK


@pytest.fixture(scope="module")
def side():
    """benchmarks/side_by_side.py"""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("side_by_side")


@pytest.fixture
def study(side, monkeypatch, tmp_path):
    """Two passes, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side.Study, "data", lambda self, part, seed: vitlab.data.shapes("val", n=64))
    return replace(side.STUDIES["shapes"], passes=2)


def test_a_net_that_is_there_is_read_though_another_run_holds_its_folder(side, study):
    made = side.finished(study, 0, side.START)                  # nothing is there: trained
    with FileLock(side.folder(study, 0, side.START) / LOCK):
        read = side.finished(study, 0, side.START)
        with pytest.raises(ValueError, match="another run is training"):
            side.net_of(study, 0, side.START)
        with pytest.raises(ValueError, match="another run is training"):    # what another recipe made is not read
            side.finished(replace(study, recipe=replace(study.recipe, lr=1e-3)), 0, side.START)
    assert all(map(torch.equal, made.state_dict().values(), read.state_dict().values()))
    assert side.origin(read.facts)["trained_on"] == f"{vitlab.measure.facts()['hardware']}, torch {torch.__version__}"


def test_a_pruned_net_is_read_from_its_last_stretch(side, study, monkeypatch):
    study = replace(study, passes=12)
    made = side.finished(study, 0, "svit")
    assert made.facts["step"] == 2 and side.folder(study, 0, "svit").name == "svit-1"
    monkeypatch.setattr(side, "net_of", lambda *told: pytest.fail("it was trained again"))
    assert all(map(torch.equal, made.state_dict().values(), side.finished(study, 0, "svit").state_dict().values()))


def test_both_begin_once_their_start_has_ended_which_is_trained_once(side, study, monkeypatch):
    told, lock = [], threading.Lock()

    def run(command, check):
        seed, name = command[4:6]
        with lock:
            told.append((seed, name, "begins"))
        time.sleep(0.2 if name == side.START else 0.01)
        with lock:
            told.append((seed, name, "ends"))
    monkeypatch.setattr(side.subprocess, "run", run)
    side.at_once(study, [0, 1], 4)
    assert sorted(told) == sorted((seed, name, what) for seed in "01" for name in study.names for what in ("begins", "ends"))
    for seed in "01":
        assert all(told.index((seed, side.START, "ends")) < told.index((seed, name, "begins")) for name in side.PRUNED)


def test_a_run_that_fails_ends_the_command(side, study, monkeypatch):
    def run(command, check):
        raise RuntimeError("no memory")
    monkeypatch.setattr(side.subprocess, "run", run)
    with pytest.raises(RuntimeError, match="no memory"):
        side.at_once(study, [0], 2)


@pytest.mark.parametrize("name", ["shapes", "cifar10"])
def test_what_spvit_is_asked_to_cost_is_within_reach(side, name):
    study = side.STUDIES[name]
    dense = side.made(study, 0, "dense", grid=study.grids[0])
    for share in study.shares:
        side.made(study, 0, "spvit", budget=share * side.dense_cost(study, dense))
