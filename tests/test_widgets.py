"""The explorer without a browser: controls are moved from code or as the front end would, and the panel's result is read."""
import io
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import desk
import numpy as np
import pandas as pd
import pytest
import torch
from desk import QUICK
from ipywidgets.widgets import widget
from PIL import Image
from torch import nn

import vitlab
from vitlab import attribution, measure
from vitlab.methods.early_exit import EarlyExit
from vitlab.methods.supervit import Point
from vitlab.widgets import explore, text, worker
from vitlab.widgets.controls import NOBODY, sliders
from vitlab.widgets.door import LIVE, cell
from vitlab.widgets.engine import FEWEST, STEPS, fits_not
from vitlab.widgets.known import Known
from vitlab.widgets.records import Timing
from vitlab.widgets.view import HISTORY
from vitlab.widgets.worker import Gate, LatestWorker

net, images, short = desk.net, desk.images, desk.short              # fixtures


def counted():
    """How many widgets are alive."""
    return len(widget._instances)


def threads():
    return [t for t in threading.enumerate() if t.name == "vitlab-explorer"]


@pytest.fixture
def panel(net, images):
    """A panel that has answered once, with a small batch so that measuring is quick."""
    made = explore(net, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


@pytest.fixture
def slow(monkeypatch):
    """Measurements that end only when they are stopped, as long as the event is not set."""
    ready, real = threading.Event(), measure.race

    def race(entries, images, *, precision, rounds, stop):
        while not ready.is_set():
            if stop():
                return None
            time.sleep(0.005)
        return real(entries, images, precision=precision, rounds=2, stop=stop)
    monkeypatch.setattr(measure, "race", race)
    return ready


def encoded(picture: Image.Image, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def upload(panel, content: bytes, name: str = "mine.png") -> None:
    """As the browser does it."""
    panel.controls.upload.file = {"name": name, "content": memoryview(content)}


# What is shown


def test_the_panel_shows_what_method_and_measure_say(panel, net, images):
    point, trace = Point(6, 0.5), vitlab.Trace()
    assert panel.set(length=6, keep=0.5, image=3).wait(QUICK)
    logits = net(images.images([3]), point, trace)
    shown = panel.result
    assert shown["point"] == point
    assert shown["prediction"] == images.classes[int(logits.argmax())]
    assert shown["confidence"] == pytest.approx(logits.softmax(-1).max().item(), abs=1e-5)
    assert shown["right"] is bool(logits.argmax() == images.labels[3])
    assert (shown["tokens"], shown["patches"]) == (int(trace.layers[-1].fed.sum()), 36)
    assert shown["gmacs"] == pytest.approx(measure.gmacs(net, images.images([3]), point)[0])
    assert shown["promise"] == pytest.approx(measure.gmacs(net, images.images([3]))[0] / shown["gmacs"])
    assert shown["images_per_s"] > 0
    assert shown["speed_up"] > 0
    assert shown["runs"] >= FEWEST


def test_the_sentences_hold_the_same_numbers(panel):
    panel.set(length=6, keep=0.5).wait(QUICK)
    shown, answer, speed = panel.result, panel.view.answer.value, panel.view.speed.value
    assert f"“{shown['prediction']}”" in answer
    assert f"<b>{shown['tokens']}</b> of 36 tokens at the end" in answer
    assert ("right" if shown["right"] else "it is") in answer
    assert f"FLOPs promise {shown['promise']:.2f}×" in speed
    assert f"<b>{shown['speed_up']:.2f}×</b> dense" in speed
    assert f"cpu, fp32, batch 2, median of {shown['runs']}" in speed


def test_the_papers_ratio_stands_beside_ours_where_the_paper_has_the_point(images):
    made = explore(vitlab.create("supervit", "micro_patch4", num_classes=10), images, batch=1)
    table = measure.paper("supervit").query("backbone == 'deit_small' and variant.isna()")
    paper = table.set_index(["length", "keep"]).images_per_s
    assert made.set(length=14, keep=0.7).wait(QUICK)
    assert made.result["paper"] == pytest.approx(paper[14, 0.7] / paper[14, 1.0])
    assert f"paper’s A100 {made.result['paper']:.2f}×" in made.view.speed.value
    made.close()


def test_a_paper_says_nothing_of_a_net_whose_costliest_point_is_another():
    """Its speed-ups are over length 14; at its own costliest point this net is no 3 times as fast as itself."""
    small = vitlab.create("supervit", "micro_patch4", num_classes=10, lengths=(7, 8))
    whole = vitlab.create("supervit", "micro_patch4", num_classes=10)
    found = Known({"small": small, "whole": whole}, vitlab.data.shapes("val", n=2), None).papers
    assert found["small"] == {} and found["whole"][whole.Point(8, 1.0)][0] > 3


def test_pictures_follow_the_layer_without_measuring_again(panel):
    panel.set(length=7, keep=0.5).wait(QUICK)
    last, speed, count = panel.view.pictures["kept"].value, panel.view.speed.value, len(panel.view.past)
    assert panel.controls.layer.max == 4
    assert panel.set(layer=1).wait(QUICK)
    assert panel.view.pictures["kept"].value != last
    assert panel.view.captions["kept"].value.endswith("layer 1: 49 of 49 kept</p>")
    assert (panel.view.speed.value, len(panel.view.past)) == (speed, count)
    assert panel.result["images_per_s"] > 0


def test_every_measurement_enters_the_history_and_the_ring_moves(panel):
    panel.set(keep=0.5).wait(QUICK)
    panel.controls.again.click()
    assert panel.wait(QUICK)
    history, here = (next(t for t in panel.view.figure.data if t.name == name) for name in ("history", "here"))
    assert list(history.x) == [1, 2, 3]
    assert history.y[-1] == panel.result["images_per_s"] == here.y[0]
    assert here.x[0] == panel.result["gmacs"]


def test_the_ring_around_the_last_of_many_measurements_is_not_cut_off(panel):
    for _ in range(HISTORY):
        panel.view.remember(*panel.view.past[-1])
        (begin, end), last = panel.view.figure.layout.xaxis.range, len(panel.view.past)
        assert last + 0.06 * (end - begin) < end, "the ring is 8 pixels wide on either side, the axis 145"


def test_a_sweep_gives_the_trade_off_with_the_point_in_view(net, images):
    sweep = pd.DataFrame([{"method": "supervit", "length": p.length, "keep": p.keep, "gmacs": 1.0 + n, "top1": 50.0 + n,
                           "source": "ours"} for n, p in enumerate(net.points)])
    made = explore(net, images, batch=1, sweep=sweep)
    assert made.set(length=5, keep=0.7).wait(QUICK)
    ring = next(t for t in made.view.figure.data if t.name == "here")
    assert (ring.x[0], ring.y[0]) == (5.0, 54.0)
    made.close()


# Controls


def test_every_field_of_a_point_with_a_choice_gets_a_slider(net):
    @dataclass(frozen=True)
    class Knobs:
        head_groups: int = 2
        threshold: float | None = None
        fixed: float = 1.0

    class Fifth(nn.Module):
        Point = Knobs
        points = (Knobs(1, 0.5), Knobs(2, 0.9), Knobs(4, None))

    made = sliders(Fifth())
    assert {name: (s.description, s.value, [v for _, v in s.options]) for name, s in made.items()} == {
        "head_groups": ("head groups", 4, [1, 2, 4]), "threshold": ("threshold", NOBODY, [0.5, 0.9, NOBODY])}
    assert [s.description for s in sliders(net).values()] == ["sequence length", "keep rate"]
    assert sliders(vitlab.create("dense", "micro_patch8", num_classes=10)) == {}


def test_two_models_share_a_panel_each_with_its_own_sliders(net, images):
    cascade = EarlyExit(net, (Point(4, 0.5), Point(7, 1.0)), (0.2, 1.0))
    made = explore({"super": net, "exit": cascade}, images, batch=2)
    made.controls.model.value = "exit"                                      # as the front end does it
    assert made.wait(QUICK), made.last_error
    assert [c.description for c in made.controls.knobs.children] == ["threshold", "layer"]
    assert made.result["model"] == "exit"
    assert "its costliest point" in made.view.speed.value
    assert made.set(threshold=1.0).wait(QUICK)
    assert made.controls.layer.max == 8
    assert "stage 2, layer 4" in made.view.captions["kept"].value
    assert made.set(model="super", length=4).wait(QUICK)
    assert made.result["patches"] == 16
    made.close()


def test_a_cascade_says_where_images_leave(images):
    torch.manual_seed(0)
    net = vitlab.create("dvt", "micro_patch8", num_classes=10, thresholds=((0.1, 0.5), (0.115, 1.0)))
    rows = [{"method": "dvt", "thresholds": p.thresholds, "gmacs": 1.0 + n, "top1": 50.0, "source": "ours"}
            for n, p in enumerate(net.points)]
    made = explore(net, images, batch=12, sweep=pd.DataFrame(rows))
    assert made.wait(QUICK), made.last_error
    assert made.result["exit"] == 2
    assert made.result["exits"] == (0, 0, 12)
    assert [label for label, _ in made.controls.knobs.children[0].options] == ["0 / 0", "0.1 / 0.5", "0.115 / 1", "1 / 1"]
    for point in net.points:
        assert made.set(thresholds=point.thresholds, image=3).wait(QUICK), made.last_error
        assert sum(made.result["exits"]) == 12
        table = vitlab.answers(net, images, point)
        assert made.result["exit"] == table.exit[3]
        assert f"left at exit <b>{table.exit[3] + 1}</b>" in made.view.answer.value
        assert made.result["exits"] == tuple(table.exit.value_counts().reindex(range(table.exit.max() + 1), fill_value=0))
    assert "images leave at exit" in made.view.speed.value
    made.close()


def test_an_assigners_choice_is_told_in_lengths(images):
    torch.manual_seed(0)
    net = vitlab.create("revit", "micro_patch8", num_classes=10)
    net.attach(vitlab.TLA(3, 56))
    with torch.no_grad():
        net.assigner.net.classifier.bias.copy_(torch.tensor([0.0, 0.1, 0.4]))   # the largest unless cost weighs
    rows = [{"method": "revit", "length": p.length, "cost_weight": p.cost_weight, "gmacs": 1.0 + n, "top1": 50.0}
            for n, p in enumerate(net.points)]
    made = explore(net, images, batch=12, sweep=pd.DataFrame(rows))
    assert made.wait(QUICK), made.last_error
    length, weight = (made.controls.named()[name] for name in ("length", "cost_weight"))
    assert [label for label, _ in length.options] == ["assigner", "4", "5", "7"]
    assert (weight.description, [v for _, v in weight.options]) == ("cost weight", [0.0, 0.25, 0.5, 1.0, 2.0])
    assert weight.disabled                                                  # it says nothing at a fixed length
    here = next(t for t in made.view.figure.data if t.name == "here")
    for weighs, n, place in ((0.0, 7, 2), (2.0, 4, 0)):
        assert made.set(length=None, cost_weight=weighs).wait(QUICK), made.last_error
        assert not weight.disabled
        assert made.result["point"] == net.Point(None, weighs)
        assert (made.result["exit"], made.result["patches"]) == (place, n * n)
        assert f"<b>length {n}</b>" in made.view.answer.value
        assert f"12 at length {n}" in made.view.speed.value
        assert made.result["exits"] == tuple(12 * (k == place) for k in range(3))
        assert f"length {n}, layer 4" in made.view.captions["kept"].value
        assert here.y[0] == 50.0
        assert here.x[0] == 1.0 + net.points.index(net.Point(None, weighs))
    assert made.set(length=5).wait(QUICK), made.last_error
    assert made.result["point"] == net.Point(5)
    assert weight.disabled
    assert weight.value == 2.0                                              # and waits for the assigner
    assert here.x[0] == 1.0 + net.points.index(net.Point(5))
    made.close()


def test_next_and_previous_go_round_and_round(panel):
    panel.controls.back.click()
    assert panel.wait(QUICK)
    assert panel.result["image"] == "image 11"
    panel.controls.next.click()
    assert panel.wait(QUICK)
    assert panel.result["image"] == "image 0"


def test_bf16_is_measured_and_said(panel):
    assert panel.set(precision="bf16").wait(QUICK)
    assert "cpu, bf16, batch 2" in panel.view.speed.value


def test_set_refuses_what_the_controls_do_not_have(panel):
    for values, words in (({"length": 9}, "length must be one of 4, 5, 6, 7, not 9"), ({"depth": 1}, "the panel has no 'depth'"),
                          ({"image": 12}, "image must be a whole number from 0 to 11"), ({"model": "x"}, "model must be one of"),
                          ({"batch": 3}, "batch must be one of"), ({"layer": 9}, "layer must be a whole number from 1 to 4")):
        with pytest.raises(ValueError, match=words):
            panel.set(**values)
    assert panel.set(length=4).wait(QUICK)


def test_explore_refuses_at_the_door_in_one_sentence(net, images):
    for methods, settings, words in (({}, {}, "nothing to explore"), (nn.Linear(2, 2), {}, "not a method with operating points"),
                                     (net, {"device": "tpu"}, "device must be one of cpu, not 'tpu'"),
                                     (net, {"precision": "int4"}, "precision must be one of fp32, bf16"),
                                     (net, {"batch": 0}, "batch must be a whole number")):
        with pytest.raises(ValueError, match=words):
            explore(methods, images, **settings)
    with pytest.raises(ValueError, match="load the data with image_size=64"):
        explore(vitlab.create("dense", "micro_patch8", num_classes=10, image_size=64), images)


# Threads


def test_only_the_newest_request_counts():
    seen, begun, go = [], threading.Event(), threading.Event()

    def work(request, turn):
        begun.set()
        go.wait(QUICK)
        if not turn.stale():
            seen.append(request)
    worker = LatestWorker(work, lambda error: None)
    worker.submit(0)
    begun.wait(QUICK)
    for request in range(1, 50):
        worker.submit(request)
    go.set()
    assert worker.wait(QUICK)
    assert seen == [49]
    worker.close()
    assert not worker.thread.is_alive()


def test_settling_waits_for_rest_and_notices_what_is_newer():
    waits, arrived = [], threading.Event()

    def work(request, turn):
        arrived.set()
        waits.append(turn.settle(0.01 if request == "rest" else QUICK))
    worker = LatestWorker(work, lambda error: None)
    worker.submit("drag")
    arrived.wait(QUICK)
    worker.submit("rest")
    assert worker.wait(QUICK)
    assert waits == [True, False]
    worker.close()


def test_a_look_goes_before_a_measurement_which_begins_again():
    gate, runs, looked = Gate(), [], []
    measuring = threading.Event()

    def run(stop):
        runs.append(len(looked))
        measuring.set()
        while len(runs) == 1 and not stop():
            time.sleep(0.001)
        return None if stop() else "measured"

    def look():
        measuring.wait(QUICK)
        with gate.look():
            looked.append(True)
    other = threading.Thread(target=look)
    other.start()
    assert gate.measure(run, lambda: False) == "measured"
    other.join(QUICK)
    assert runs == [0, 1]
    assert gate.measure(run, lambda: True) is None


def test_a_drag_never_waits_and_a_stale_measurement_is_dropped(panel, slow):
    for keep in (0.5, 0.7, 1.0, 0.5, 0.7):                                  # a drag that waited for the race would never end
        panel.controls.sliders[panel.controls.model.value]["keep"].value = keep
    while "timing it against dense" not in panel.view.speed.value:          # the race is on, and does not end by itself
        assert not panel.wait(0.3)
    count = len(panel.view.past)
    panel.set(keep=0.5)
    slow.set()
    assert panel.wait(QUICK)
    assert [ask.title for ask, *_ in panel.view.past[count:]] == [f"{panel.controls.model.value} (7, 0.5)"]


def test_there_and_back_again_the_speed_is_of_the_point_in_view(panel):
    """Away from the last measured point and back before anything else is measured: its speed is not left greyed."""
    assert panel.set(keep=1.0).wait(QUICK)
    for _ in range(3):
        panel.set(keep=0.5)
        until = time.monotonic() + QUICK
        while "vl-old" not in panel.view.speed._dom_classes and time.monotonic() < until:
            time.sleep(0.001)
        assert panel.set(keep=1.0).wait(QUICK)
        assert "vl-old" not in panel.view.speed._dom_classes
        assert panel.result["point"].keep == 1.0 and panel.result["runs"] >= FEWEST


def test_two_panels_never_time_at_once(net, images, monkeypatch):
    busy, most, real = [], [], measure.race

    def race(*entries, **settings):
        busy.append(1)
        most.append(len(busy))
        result = real(*entries, **settings)
        busy.pop()
        return result
    monkeypatch.setattr(measure, "race", race)
    both = [explore(net, images, batch=2, name=name) for name in ("one", "two")]
    for keep in (0.5, 0.7):
        for made in both:
            made.set(keep=keep)
        assert all(made.wait(QUICK) for made in both)
    assert max(most) == 1
    assert len(most) >= 4
    for made in both:
        made.close()


def test_running_the_cell_again_leaves_no_thread_and_no_widget_behind(net, images):
    def run():
        made = explore(net, images, batch=1, name="cell")
        assert made.wait(QUICK)
        return made
    first = run()
    widgets, workers, alive = counted(), len(threads()), len(LIVE)
    for _ in range(3):
        last = run()
    assert (counted(), len(threads()), len(LIVE)) == (widgets, workers, alive)
    assert not first.worker.thread.is_alive()
    before = counted()
    last.close()
    assert len(threads()) == workers - 1
    assert counted() < before - 40
    LIVE.clear()


def test_the_notebooks_own_method_stays_as_it_is(net, images):
    net.train()
    made = explore(net, images, batch=1)
    assert made.wait(QUICK)
    made.close()
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    net.eval()


def test_python_ends_quietly_in_the_middle_of_a_pass():
    program = """if True:
        import importlib.util, sys, time, torch
        spec = importlib.util.spec_from_file_location("worker", sys.argv[1])
        worker = sys.modules["worker"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(worker)
        x, begun = torch.ones(900, 900), []
        def work(request, turn):
            while not turn.stale():
                begun.append((x @ x).sum())
        worker.LatestWorker(work, print).submit(0)
        while not begun:
            time.sleep(0.01)"""
    ended = subprocess.run([sys.executable, "-c", program, worker.__file__], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")


# What goes wrong


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
], ids=["cuda", "cpu"])
def test_a_batch_that_does_not_fit_is_halved_with_a_note(panel, monkeypatch, error):
    real = measure.throughput

    def throughput(method, images, *rest, **settings):
        if len(images) > 4:
            raise error
        return real(method, images, *rest, **settings)
    monkeypatch.setattr(measure, "throughput", throughput)
    assert panel.set(batch=32).wait(QUICK), panel.last_error
    assert panel.result["batch"] == panel.controls.batch.value == 4
    assert "batch 8 does not fit into the memory of cpu; going on with 4" in panel.view.note.value
    assert "batch 4, median of" in panel.view.speed.value
    monkeypatch.setattr(measure, "throughput", lambda *a, **k: (_ for _ in ()).throw(error))
    assert not panel.set(batch=2).wait(QUICK)
    assert "memory" in panel.last_error


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert not fits_not(RuntimeError("shapes do not match"))
    assert not fits_not(ValueError("out of memory"))


def test_an_error_becomes_one_red_sentence_and_goes_away(panel, monkeypatch):
    def broken(*_, **__):
        raise KeyError("no\nsuch <layer>")
    real = measure.throughput
    monkeypatch.setattr(measure, "throughput", broken)
    assert not panel.set(keep=0.5).wait(QUICK)
    assert panel.last_error.startswith("KeyError: ")
    assert "\n" not in panel.last_error
    assert 'class="vl-failed"' in panel.view.note.value
    assert "<layer>" not in panel.view.note.value
    monkeypatch.setattr(measure, "throughput", real)
    assert panel.set(keep=0.7).wait(QUICK)
    assert (panel.last_error, panel.view.note.value) == (None, "")


def test_weights_that_are_not_finite_are_said_so(images):
    broken = vitlab.create("dense", "micro_patch8", num_classes=10)
    with torch.no_grad():
        broken.vit.head.bias.fill_(float("nan"))
    made = explore(broken, images, batch=1)
    assert not made.wait(QUICK)
    assert "not finite" in made.last_error
    made.close()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_any_picture_can_be_uploaded(panel, mode):
    ramp = np.arange(60 * 90, dtype=np.uint16).reshape(60, 90)
    picture = Image.fromarray(ramp) if mode == "I;16" else Image.new(mode, (90, 60), 3)
    upload(panel, encoded(picture), "mine & yours.png")
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["image"] == "mine & yours.png"
    assert panel.result["right"] is None
    assert "mine &amp; yours.png" in panel.view.answer.value
    assert panel.controls.upload.file == {}
    assert panel.set(image=0).wait(QUICK)
    assert panel.result["image"] == "image 0"


def huge() -> bytes:
    """A PNG whose header promises 10 gigapixels."""
    content = bytearray(encoded(Image.new("L", (8, 8))))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    from zlib import crc32
    content[29:33] = crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(("content", "words"), [
    (encoded(Image.effect_noise((200, 200), 50))[:3000], "not a whole picture"), (b"no picture at all", "not a whole picture"),
    (b"", "not a whole picture"), (huge(), "million pixels")], ids=["truncated", "text", "empty", "huge"])
def test_a_bad_upload_gets_a_sentence_and_the_picture_stays(panel, content, words):
    before = panel.view.pictures["kept"].value
    upload(panel, content)
    assert not panel.wait(QUICK)
    assert words in panel.last_error
    assert words in panel.view.note.value
    assert panel.view.pictures["kept"].value == before
    assert panel.set(keep=0.5).wait(QUICK)
    assert panel.result["image"] == "image 0"


def test_a_picture_from_code_is_looked_at_and_the_net_sees_what_is_shown(panel, images):
    assert panel.set(image=images.picture(5)).wait(QUICK)
    mine = panel.result
    assert panel.set(image=5).wait(QUICK)
    assert mine["confidence"] == pytest.approx(panel.result["confidence"], abs=1e-6)
    assert mine["prediction"] == panel.result["prediction"]


# In a notebook


def test_a_notebook_shows_the_panel_with_a_text_that_does_not_change(panel):
    bundle = panel._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.root.model_id
    assert bundle["text/plain"] == "explore(SuperViT · micro_patch8 on shapes)"


def test_a_cell_is_known_by_its_id_or_else_by_its_text(monkeypatch):
    class Shell:
        request = {"content": {"code": "explore(net, val)"}, "metadata": {"cellId": "c07"}}

        def get_parent(self):
            return self.request
    shell = Shell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert cell() == "c07"
    shell.request = {"content": {"code": "explore(net, val)"}, "metadata": {}}
    first = cell()
    shell.request = {"content": {"code": "explore(net, test)"}, "metadata": {}}
    assert first != cell() != "c07"
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    assert cell() is None


def test_attribution_in_the_panel_is_the_librarys(panel, net, images, monkeypatch):
    panel.set(length=6, keep=0.5, image=2).wait(QUICK)
    seen = []
    monkeypatch.setattr("vitlab.widgets.view.signed", lambda picture, heat: seen.append(heat) or picture)
    assert panel.set(image=3).wait(QUICK)
    expected = attribution.integrated(net, images.images([3])[0], Point(6, 0.5), steps=STEPS)
    np.testing.assert_allclose(seen[0], expected.numpy(), rtol=1e-4, atol=1e-6)


def test_the_costliest_point_is_one_time_itself_and_a_wide_spread_is_told(panel, net):
    point = net.points[-1]
    assert panel.set(length=point.length, keep=point.keep).wait(QUICK)
    assert panel.result["speed_up"] == 1.0
    ask = SimpleNamespace(device="cpu", precision="fp32", fused=False)
    calm, wild = (text.speed(Timing(10.0, 4, 9, 2.0, 2.1, (), spread), ask, None, "dense") for spread in (0.05, 0.62))
    assert "spread" not in calm
    assert "median of 9, whose middle half spreads over 62 %" in wild
