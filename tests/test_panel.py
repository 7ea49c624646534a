"""The panel's doors and its honesty: numbers of any library, refusals that move nothing, no other point's speed as this one's."""
import contextlib
import gc
import random
import threading
import time
from pathlib import Path

import desk
import numpy as np
import pandas as pd
import pytest
import torch
from desk import QUICK

import vitlab
from vitlab import measure
from vitlab.plots.overlay import png
from vitlab.widgets import explore, records
from vitlab.widgets import panel as panels
from vitlab.widgets.controls import plain, same

SPEED = ("images_per_s", "speed_up", "promise", "runs")
net, images, short = desk.net, desk.images, desk.short              # fixtures


@pytest.fixture(scope="module")
def shared(net, images):
    """One panel of two models over twelve images; a small batch so that measuring is quick."""
    other = vitlab.create("supervit", "micro_patch8", num_classes=10).eval()
    made = explore({"one": net, "other": other}, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


@pytest.fixture
def panel(shared):
    """The panel, as it stands at the costliest point after it has been measured."""
    assert shared.set(model="one", image=0, length=7, keep=1.0, batch=2, precision="fp32", layer=4).wait(QUICK), shared.last_error
    return shared


def standing(panel):
    """Where every control stands, and what is looked at."""
    return [control.value for control in panel.controls.watched()], panel.subject


# Numbers


@pytest.mark.parametrize("three", [3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)], ids=repr)
def test_a_whole_number_of_any_library_is_an_image(panel, three):
    assert panel.set(image=three).wait(QUICK), panel.last_error
    assert panel.result["image"] == "image 3"


@pytest.mark.parametrize(("length", "keep", "batch"), [
    (np.int64(5), np.float64(0.7), np.int32(8)), (torch.tensor(5), torch.tensor(0.7), torch.tensor(8)),
    (np.uint8(5), np.float32(0.7), np.array(8))], ids=["numpy", "torch", "single precision"])
def test_knobs_take_numbers_of_any_library(panel, length, keep, batch):
    assert panel.set(length=length, keep=keep, batch=batch).wait(QUICK), panel.last_error
    assert panel.result["point"] == vitlab.methods.supervit.Point(5, 0.7)
    assert type(panel.result["point"].length) is int
    assert panel.result["batch"] == 8


@pytest.mark.parametrize("given", [[0.1, 0.5], np.array([0.1, 0.5]), torch.tensor([0.1, 0.5])], ids=["list", "numpy", "torch"])
def test_several_thresholds_come_in_any_row(images, given):
    torch.manual_seed(0)
    made = explore(vitlab.create("dvt", "micro_patch8", num_classes=10, thresholds=((0.1, 0.5), (0.115, 1.0))), images, batch=1)
    assert made.set(thresholds=given).wait(QUICK), made.last_error
    assert made.result["point"].thresholds == (0.1, 0.5)
    made.close()


@pytest.mark.parametrize("values", [
    {"image": True}, {"image": np.bool_(True)}, {"image": torch.tensor(True)}, {"image": 3.0}, {"image": np.float64(3)},
    {"image": None}, {"image": np.int64(-1)}, {"image": torch.tensor(12)}, {"layer": True}, {"layer": 1.0}, {"length": True},
    {"length": np.nan}, {"keep": True}, {"keep": np.array([0.5])}, {"batch": np.True_}, {"keep": "0.5"}], ids=str)
def test_bools_floats_and_others_are_no_whole_numbers(panel, values):
    before = standing(panel)
    with pytest.raises(ValueError, match=f"^{next(iter(values))} must be "):
        panel.set(**values)
    assert standing(panel) == before


def test_numbers_are_one_value_up_to_single_precision():
    assert same(plain(np.float32(0.115)), 0.115) and same(plain(torch.tensor([0.1, 0.5])), (0.1, 0.5))
    assert not same(0.1151, 0.115) and not same(True, 1) and not same((0.1,), (0.1, 0.5)) and not same(None, 0)
    assert plain("fp32") == "fp32" and plain(None) is None


@pytest.mark.parametrize("batch", [np.int64(2), torch.tensor(2), np.array(2)], ids=["numpy", "torch", "0-d"])
def test_explore_takes_a_batch_of_any_library(net, images, batch):
    made = explore(net, images, batch=batch, device=torch.device("cpu"))
    assert made.wait(QUICK), made.last_error
    assert made.result["batch"] == 2 and type(made.result["batch"]) is int
    made.close()


@pytest.mark.parametrize("batch", [True, np.True_, 2.0, np.float32(2), torch.tensor(0), np.int64(-2), "2", None])
def test_explore_refuses_what_is_no_number_of_images(net, images, batch):
    with pytest.raises(ValueError, match="batch must be a whole number from 1 to 4096, not "):
        explore(net, images, batch=batch)


# All or nothing


@pytest.mark.parametrize("values", [
    {"image": 3, "length": 9}, {"image": 3, "depth": 1}, {"model": "other", "image": 3, "keep": 0.4},
    {"length": 4, "keep": 0.5, "image": b"no picture"}, {"image": np.zeros((8, 8), np.uint8), "batch": 3},
    {"model": "other", "precision": "int4"}, {"layer": 1, "device": "tpu"}], ids=str)
def test_a_refused_set_has_moved_nothing(panel, values):
    asked, before, children = panel.worker.asked, standing(panel), panel.controls.knobs.children
    with pytest.raises(ValueError):
        panel.set(**values)
    assert standing(panel) == before
    assert panel.controls.knobs.children == children
    assert panel.worker.asked == asked                                      # nothing was asked for either


def test_a_knob_set_together_with_its_model_is_that_models(panel):
    assert panel.set(keep=0.5, model="other", length=6).wait(QUICK), panel.last_error
    assert (panel.result["model"], panel.result["point"]) == ("other", vitlab.methods.supervit.Point(6, 0.5))
    assert panel.set(model="one").wait(QUICK)
    assert panel.result["point"] == vitlab.methods.supervit.Point(7, 1.0)   # its own sliders have not moved
    panel.set(model="other", keep=1.0, length=7, layer=4).wait(QUICK)


# Whose speed is it?


@pytest.fixture
def stuck(monkeypatch):
    """From now on no measurement says anything until it is given up."""
    def waits(*_, stop, **__):
        while not stop():
            time.sleep(0.002)
    monkeypatch.setattr(measure, "throughput", waits)
    monkeypatch.setattr(measure, "race", waits)


def until(holds):
    end = time.monotonic() + QUICK
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.parametrize("change", [{"keep": 0.5}, {"length": 4}, {"model": "other"}, {"batch": 4}, {"precision": "bf16"}],
                         ids=str)
def test_the_speed_of_what_was_in_view_before_is_never_shown_as_current(panel, stuck, change):
    before, past = dict(panel.result), panel.view.past
    assert all(before[key] is not None for key in SPEED) and "vl-old" not in panel.view.speed._dom_classes
    panel.set(**change)
    until(lambda: "vl-old" in panel.view.speed._dom_classes)                # faded: it is another's
    key, value = next(iter(change.items()))
    assert (getattr(panel.result["point"], key) if key in ("keep", "length") else panel.result[key]) == value
    assert {k: panel.result[k] for k in (*SPEED, "paper", "exits")} == dict.fromkeys((*SPEED, "paper", "exits"))
    here = next(trace for trace in panel.view.figure.data if trace.name == "here")
    until(lambda: not here.x and not here.y)                                # and its place is not ringed as this one's
    assert panel.view.past == past


@pytest.mark.parametrize("change", [{"image": 5}, {"layer": 1}], ids=str)
def test_another_image_or_layer_leaves_the_points_speed_standing(panel, stuck, change):
    before = dict(panel.result)
    assert panel.set(**change).wait(QUICK)
    assert {key: panel.result[key] for key in SPEED} == {key: before[key] for key in SPEED}
    assert "vl-old" not in panel.view.speed._dom_classes


def test_a_measurement_that_ends_too_late_is_nobodys(panel, monkeypatch):
    """It was begun for one point and ends when another is in view."""
    real, begun, go, past = measure.race, [], [], len(panel.view.past)

    def race(entries, images, **settings):
        begun.append(entries["here"][1])
        while not go:
            time.sleep(0.002)
        return real(entries, images, **{**settings, "stop": None, "rounds": 2})
    monkeypatch.setattr(measure, "race", race)
    panel.set(keep=0.5)
    until(lambda: begun)
    panel.set(keep=0.7)
    go.append(True)
    assert panel.wait(QUICK), panel.last_error
    assert [point.keep for point in begun] == [0.5, 0.7]
    assert [ask.title for ask, *_ in panel.view.past[past:]] == ["one (7, 0.7)"]
    assert panel.result["point"].keep == 0.7


def test_a_point_that_the_sweep_lacks_is_not_ringed_where_the_last_one_was(net, images):
    sweep = pd.DataFrame([{"method": "supervit", "length": 7, "keep": 1.0, "gmacs": 1.0, "top1": 50.0, "source": "ours"}])
    made = explore(net, images, batch=1, sweep=sweep)
    assert made.wait(QUICK)
    here = next(trace for trace in made.view.figure.data if trace.name == "here")
    assert (here.x, here.y) == ((1.0,), (50.0,))
    assert made.set(keep=0.5).wait(QUICK)
    assert (here.x, here.y) == ((), ())
    assert made.set(keep=1.0).wait(QUICK)
    assert (here.x, here.y) == ((1.0,), (50.0,))
    made.close()


# What is not finite


def broken(value):
    net = vitlab.create("dense", "micro_patch8", num_classes=10)
    with torch.no_grad():
        net.vit.head.bias.fill_(value)
    return net


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_that_are_not_finite_are_named(images, precision, value):
    made = explore(broken(value), images, batch=1, precision=precision)
    assert not made.wait(QUICK)
    assert "vit.head.bias holds NaN or infinity; load the net again" in made.last_error
    made.close()


def test_what_is_too_large_for_half_precision_is_said_to_be_and_fp32_shows_it(images):
    made = explore(broken(torch.finfo(torch.float32).max), images, batch=1, precision="bf16")
    assert not made.wait(QUICK)
    assert made.last_error.endswith("numbers grow too large for bf16; choose fp32")
    assert made.set(precision="fp32").wait(QUICK), made.last_error
    made.close()


def test_what_is_too_large_for_fp32_is_not_blamed_on_half_precision(images):
    net = broken(torch.finfo(torch.float32).max)
    with torch.no_grad():
        net.vit.head.weight.fill_(torch.finfo(torch.float32).max)
    made = explore(net, images, batch=1)
    assert not made.wait(QUICK)
    assert made.last_error.endswith("numbers grow too large for fp32; train the net at a lower rate")
    made.close()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_explore_says_what_to_do_with_a_net_of_another_precision(images, kind):
    with pytest.raises(ValueError, match=f"has {kind} weights but the panel looks in float32; give it net.float()"):
        explore(vitlab.create("dense", "micro_patch8", num_classes=10).to(kind), images)


# What may go wrong while it works


def test_two_threads_that_change_controls_at_once_leave_no_dead_slider(panel):
    """Their silences overlap: the first to begin is the first to end."""
    first, second, asked = threading.Event(), threading.Event(), panel.worker.asked

    def other():
        with panel.silently():
            first.set()
            assert second.wait(QUICK)

    thread = threading.Thread(target=other)
    with panel.silently():
        thread.start()
        assert first.wait(QUICK)
        panel.controls.image.value = 3                                      # said by nobody
    assert panel.worker.asked == asked
    second.set()
    thread.join()
    panel.controls.image.value = 4
    assert panel.worker.asked == asked + 1
    moved = threading.Thread(target=lambda: setattr(panel.controls.image, "value", 5))
    moved.start()
    moved.join()
    assert panel.worker.asked == asked + 2
    assert panel.wait(QUICK) and panel.result["image"] == "image 5"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError("no room")], ids=repr)
def test_no_error_of_any_kind_ends_the_worker(panel, monkeypatch, error):
    def breaks(ask):
        raise error
    with monkeypatch.context() as patch:
        patch.setattr(panel.engine, "look", breaks)
        assert not panel.set(image=7).wait(QUICK)
        assert panel.last_error.startswith(type(error).__name__)
    assert panel.set(image=8).wait(QUICK) and panel.result["image"] == "image 8"


def test_while_a_pass_hangs_the_panel_says_what_it_waits_for(panel, monkeypatch):
    go_on, look = threading.Event(), panel.engine.method

    def hangs(ask):
        assert go_on.wait(QUICK)
        return look(ask)

    monkeypatch.setattr(panels, "PATIENCE", 0.05)
    monkeypatch.setattr(panel.engine, "method", hangs)
    panel.set(image=9)
    until(lambda: "a pass of one (7, 1)" in panel.view.note.value and "goes on" in panel.view.note.value)
    assert panel.last_error is None
    go_on.set()
    assert panel.wait(QUICK) and panel.view.note.value == ""


def test_a_closed_panel_says_so(net, images):
    made = explore(net, images, batch=2)
    assert made.wait(QUICK)
    made.close()
    with pytest.raises(ValueError, match="this panel is closed; run the cell that made it again"):
        made.set(keep=0.5)
    assert not made.wait(1)
    assert not made.alarm.is_alive() or made.alarm.finished.is_set()


# Many hands


def hand(panel, number, moves, last):
    """A person, or a cell, that moves controls as fast as it can; what each control was moved to goes into `last`."""
    draw = random.Random(number)
    knobs = {"length": (4, 5, 6, 7), "keep": (0.5, 0.7, 1.0), "image": tuple(range(12)), "layer": (1, 2, 3), "batch": (1, 2)}
    for _ in range(moves):
        name = draw.choice(list(knobs))
        value = draw.choice(knobs[name])
        with last["turns"]:
            if draw.random() < 0.5:
                panel.set(**{name: value})
            else:
                controls = panel.controls.named()
                controls[name].value = value                                # as the browser does it
            last[name] = value


@pytest.mark.parametrize("turns", [threading.Lock(), contextlib.nullcontext()], ids=["in turns", "at once"])
def test_hundreds_of_moves_from_three_threads_end_where_the_last_one_said(panel, turns, moves=167):
    """Also what is computed meanwhile writes into the controls: nothing of it is taken for a request, or lost as one.

    Of moves at once nobody knows which is the last: what is shown must be where the controls stand.
    """
    last = {"turns": turns, "image": 0, "length": 7, "keep": 1.0, "batch": 2}
    hand(panel, 0, 30, last)
    assert panel.wait(QUICK), panel.last_error
    gc.collect()
    threads, before = threading.active_count(), resident()
    hands = [threading.Thread(target=hand, args=(panel, number, moves, last)) for number in (1, 2, 3)]
    for each in hands:
        each.start()
    for each in hands:
        each.join()
    assert panel.wait(QUICK), panel.last_error
    gc.collect()
    if isinstance(turns, contextlib.nullcontext):
        last = {name: control.value for name, control in panel.controls.named().items()}
    assert panel.result["point"] == vitlab.SuperViT.Point(last["length"], last["keep"])
    assert (panel.result["image"], panel.result["batch"]) == (f"image {last['image']}", last["batch"])
    assert threading.active_count() <= threads + 1                          # the alarm's
    assert resident() < 1.05 * before
    for name, value in {"length": 4, "keep": 0.5, "image": 11, "batch": 1}.items():      # no control is dead
        panel.controls.named()[name].value = value
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["point"] == vitlab.SuperViT.Point(4, 0.5)
    assert (panel.result["image"], panel.result["batch"]) == ("image 11", 1)


def resident():
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    held = Path("/proc/self/statm")
    return int(held.read_text().split()[1]) * 4096 if held.exists() else 0


def test_an_upload_is_read_beside_the_notebook_and_a_broken_one_gives_way(panel, monkeypatch):
    threads, door = [], records.opened

    def watched(source):
        threads.append(threading.current_thread())
        return door(source)

    monkeypatch.setattr(records, "opened", watched)
    good = {"name": "good.png", "content": memoryview(png(np.full((20, 20, 3), 90, np.uint8)))}
    panel.uploaded({"new": good})
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["image"] == "good.png"
    panel.uploaded({"new": {"name": "bad.png", "content": memoryview(b"nothing")}})
    assert not panel.wait(QUICK)
    assert "not a whole picture" in panel.last_error
    assert panel.set(keep=0.5).wait(QUICK), panel.last_error
    assert panel.result["image"] == "good.png"
    assert threads == [panel.worker.thread] * 2
