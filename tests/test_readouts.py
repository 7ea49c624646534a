"""What one picture takes alone: only when it is asked for, after the speed, and the numbers are the library's."""
from types import SimpleNamespace

import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401

import vitlab
from vitlab import measure
from vitlab.widgets import explore, readouts, text
from vitlab.widgets.answering import TAKEN
from vitlab.widgets.records import Taken, titled


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore({"one": net}, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


@pytest.fixture
def asked(monkeypatch):
    """What was measured, in its order."""
    seen = []
    for name in ("throughput", "race", "latency_race", "peak_memory", "joules"):
        def watched(*given, name=name, real=getattr(measure, name), **words):
            found = real(*given, **words)
            seen.append((name, found))
            return found
        monkeypatch.setattr(measure, name, watched)
    return seen


def names(asked):
    return [name for name, _ in asked]


def test_without_a_click_nothing_of_it_is_computed(panel, asked):
    for move in ({"keep": 0.5}, {"image": 3}, {"length": 5}, {"precision": "bf16"}):
        assert panel.set(**move).wait(QUICK), panel.last_error
    assert names(asked) == ["throughput", "race"] * 3
    assert panel.readouts.root.layout.display == "none" and {panel.result[name] for name in TAKEN} == {None}


def test_it_comes_after_the_speed_and_is_the_librarys(panel, asked):
    assert panel.set(latency=True).wait(QUICK), panel.last_error
    assert names(asked) == ["latency_race"]                                 # the speed was there already
    assert panel.set(keep=0.5).wait(QUICK), panel.last_error
    assert names(asked)[1:] == ["throughput", "race", "latency_race"]
    row = asked[-1][1].set_index("name").loc["here"]
    shown, told = panel.result, panel.readouts.told.value
    assert list(asked[-1][1].name) == ["dense", "here"] and row.runs == 100
    assert (shown["latency_ms"], shown["latency_p90_ms"]) == (row.median_ms, row.p90_ms)
    assert f"<b>{row.median_ms:.3g}</b> ms for one picture alone · <b>{row.speed_up:.2f}×</b> dense" in told
    assert f"9 of 10 within {row.p90_ms:.3g} ms, median of 100" in told
    assert "MiB" not in told and "joules" not in told                       # nobody tells them here, so nobody guesses
    assert shown["memory_mib"] is shown["joules"] is None


def test_the_costliest_point_is_one_time_itself(panel):
    assert panel.set(latency=True).wait(QUICK), panel.last_error
    assert panel.result["latency_speed_up"] == 1.0


def test_another_picture_needs_it_again_only_where_pictures_differ(panel, asked, images):  # noqa: F811
    assert panel.set(latency=True, image=2).wait(QUICK), panel.last_error
    assert panel.set(image=3).wait(QUICK) and panel.set(layer=1).wait(QUICK)
    assert names(asked) == ["latency_race"] and panel.result["latency_ms"] is not None
    torch.manual_seed(0)
    dvt = vitlab.create("dvt", "micro_patch8", num_classes=10, grids=(4, 7)).eval()
    made = explore(dvt, images, batch=2)
    assert made.set(latency=True).wait(QUICK), made.last_error
    count = names(asked).count("latency_race")
    assert made.set(image=1).wait(QUICK), made.last_error
    assert names(asked).count("latency_race") == count + 1
    made.close()


def test_another_points_latency_is_never_shown_as_this_ones(panel, monkeypatch):
    assert panel.set(latency=True).wait(QUICK), panel.last_error
    old = panel.readouts.told.value
    monkeypatch.setattr(readouts, "taken", lambda *_: None)                 # from now on it is given up
    assert panel.set(keep=0.5).wait(QUICK), panel.last_error
    assert panel.readouts.told.value == old and "vl-old" in panel.readouts.told._dom_classes
    assert {panel.result[name] for name in TAKEN} == {None}
    assert panel.set(latency=False).wait(QUICK)
    assert panel.readouts.root.layout.display == "none"


def test_what_a_gpu_tells_stands_beside_it():
    told = text.taken(Taken(1.25, 1.5, 100, 2.0, 213.4, 0.0312), SimpleNamespace(batch=32), "dense")
    assert "<b>1.25</b> ms for one picture alone · <b>2.00×</b> dense · <b>213</b> MiB at most · " in told
    assert "<b>0.031</b> joules a picture" in told
    assert "median of 100, batch 32" in told
    assert "joules" not in text.taken(Taken(1.25, 1.5, 100, 2.0, 213.4, None), SimpleNamespace(batch=32), "dense")


@pytest.mark.parametrize("value", [1, "yes", None, 0.5])
def test_a_switch_is_on_or_off(panel, value):
    for name in ("latency", "compiled"):
        with pytest.raises(ValueError, match=f"{name} must be True or False"):
            panel.set(**{name: value})


def test_a_models_name_at_a_point_tells_a_flag_where_it_is_set():
    assert titled("SuperViT", vitlab.SuperViT.Point(14, 0.5)) == "SuperViT (14, 0.5)"
    assert titled("SViT", vitlab.SViT.Point(0.5)) == "SViT (0.5)"
    assert titled("SViT", vitlab.SViT.Point(0.5, fixed=True)) == "SViT (0.5, fixed)"
