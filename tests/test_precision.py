"""fp32 or bf16 by measuring: what is faster is kept, for the whole run, and nothing else changes."""
from dataclasses import replace

import pytest
import torch
from test_train import EVERYTHING, blobs, coin, same

from vitlab.train import fit, loop, precision

AUTO = replace(EVERYTHING, precision="auto")


@pytest.fixture
def told(monkeypatch):
    """What the measurement says; how often it was asked."""
    world = {"fp32": 1.0, "bf16": 0.5, "asked": 0}

    def measured(run, teacher):
        world["asked"] += 1
        return {name: world[name] for name in ("fp32", "bf16")}

    monkeypatch.setattr(precision, "measured", measured)
    return world


@pytest.mark.parametrize("bf16, choice", [(0.5, "bf16"), (0.99, "fp32"), (2.0, "fp32")])
def test_the_faster_one_is_kept_and_trains_as_if_it_had_been_asked_for(told, bf16, choice):
    told["bf16"] = bf16
    mine, named = coin(), coin()
    history = fit(mine, blobs(24), AUTO)
    fit(named, blobs(24), replace(EVERYTHING, precision=choice))
    assert same(mine, named)
    assert f"in {choice}, which is faster here" in history.attrs["note"]
    assert told["asked"] == 1


def test_measuring_changes_nothing_and_is_done_with_the_nets_own_passes():
    mine, named = coin(), coin()
    history = fit(mine, blobs(24), AUTO)
    choice = "bf16" if "in bf16" in history.attrs["note"] else "fp32"
    fit(named, blobs(24), replace(EVERYTHING, precision=choice))
    assert same(mine, named)
    assert len(mine.seen) == len(named.seen)                               # a copy was measured


def test_a_run_goes_on_with_what_it_began_with(told, tmp_path, monkeypatch):
    whole = coin()
    fit(whole, blobs(24), AUTO)
    update, stopped = loop.update, coin()

    def pressed(run, *rest):
        if run.progress.step == 4:
            rest[-1].append(2)
        return update(run, *rest)

    monkeypatch.setattr(loop, "update", pressed)
    fit(stopped, blobs(24), AUTO, out=tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(precision, "measured", lambda run, teacher: {"fp32": 1.0, "bf16": 9.0})     # another machine
    history = fit(stopped, blobs(24), AUTO, out=tmp_path)
    assert "went on from step 5" in history.attrs["note"]
    assert same(whole, stopped)


def test_a_recipe_that_names_one_is_not_measured(told):
    fit(coin(), blobs(24), EVERYTHING)
    assert told["asked"] == 0


def test_the_median_of_each_is_of_passes_there_and_back(monkeypatch):
    seen = []
    monkeypatch.setattr(precision, "passes", lambda parts, device, kind: seen.append(kind) or loop.passes(parts, device, kind))
    fit(coin(), blobs(24), replace(AUTO, steps=1))
    assert seen == ["fp32", "bf16"] * (1 + precision.TURNS)
    assert torch.is_grad_enabled()
