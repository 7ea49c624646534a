"""The progress bar of a training: where it begins, what it says, and that only one process shows it."""
import contextlib
from dataclasses import replace

import numpy as np
import pytest
from test_train import blobs, coin, interrupt

from vitlab.recipe import Recipe
from vitlab.train import fit, loop

RECIPE = Recipe(steps=5, batch=8, log_every=1)                             # 3 steps are an epoch


@pytest.fixture
def bars(monkeypatch):
    """The bars that were shown, a dict each: what they were made with, what they said, how often they moved."""
    shown = []

    @contextlib.contextmanager
    def bar(**made):
        shown.append(made | {"said": [], "moves": 0})
        yield type("Bar", (), {"set_postfix": lambda self, words, refresh: shown[-1]["said"].append(words),
                               "update": lambda self: shown[-1].update(moves=shown[-1]["moves"] + 1)})()

    monkeypatch.setattr(loop, "tqdm", bar)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    return shown


def test_the_bar_goes_from_step_to_step_with_the_loss_and_the_last_accuracy(bars):
    table = fit(coin(), blobs(24), replace(RECIPE, steps=30, lr=5e-2), val=blobs(8))
    assert {name: bars[0][name] for name in ("total", "initial", "desc", "moves")} == {
        "total": 30, "initial": 0, "desc": "coin trunk", "moves": 30}
    assert bars[0]["mininterval"] >= 0.5, "a notebook loses messages that nobody reads in time"
    assert [words["loss"] for words in bars[0]["said"]] == [f"{loss:.3f}" for loss in table.loss]
    assert table.val_top1.nunique() > 2
    last = [None if np.isnan(value) else f"{value:.1f} %" for value in table.val_top1.ffill()]
    assert [words.get("val_top1") for words in bars[0]["said"]] == last


def test_the_bar_of_a_resumed_run_begins_where_that_stopped(bars, tmp_path):
    fit(interrupt(coin(), 2), blobs(24), RECIPE, out=tmp_path)
    fit(coin(), blobs(24), RECIPE, out=tmp_path)
    assert [(bar["initial"], bar["moves"]) for bar in bars] == [(0, 2), (2, 3)]


def test_other_processes_than_the_first_show_no_bar(bars):
    run = type("Run", (), {"accelerator": type("Second", (), {"is_main_process": False})})
    with loop.bar(run):
        assert bars == [{"disable": True, "said": [], "moves": 0}]


def test_a_word_in_the_environment_hides_the_bar_in_notebooks_too(bars, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    fit(coin(), blobs(24), RECIPE)
    assert [bar.get("disable") for bar in bars] == [True]
