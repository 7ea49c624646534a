"""The ways to run a point: compiled beside the looks, as fair as plain; the fastest by measuring; told where it cannot be."""
import shutil
import threading
import time
from functools import partial

import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from torch import nn

import vitlab
from vitlab import backbones, measure
from vitlab.compiled import Compiled
from vitlab.widgets import engine, explore, ways
from vitlab.widgets.worker import Gate


class Kernels(nn.Module):
    """Stands in for `Compiled`: its first pass of a point waits for the test, or fails as the test wants."""

    go, begun, error = threading.Event(), [], None

    def __init__(self, method):
        super().__init__()
        self._orig_mod, self.prepared, self.adaptive = method, {}, method.adaptive

    def forward(self, pictures, point=None, trace=None):
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else pictures.dtype
        known = point, len(pictures), str(kind).removeprefix("torch.")
        if known not in self.prepared:
            self.begun.append(known)
            assert self.go.wait(QUICK)
            if self.error is not None and (wrong := self.error(pictures)):
                raise wrong
            self.prepared[known] = 23.0
        return self._orig_mod(pictures, point, trace)


@pytest.fixture
def kernels(monkeypatch):
    """From now on nothing is really compiled."""
    monkeypatch.setattr(Kernels, "go", threading.Event())
    monkeypatch.setattr(Kernels, "begun", [])
    monkeypatch.setattr(Kernels, "error", None)
    monkeypatch.setattr(engine, "Compiled", Kernels)
    yield Kernels
    Kernels.go.set()


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore({"one": net}, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


def until(holds):
    end = time.monotonic() + QUICK
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_looks_go_on_beside_a_compiler_and_nothing_is_measured_meanwhile(panel, kernels, monkeypatch):
    races, real = [], measure.race
    monkeypatch.setattr(measure, "race", lambda entries, *given, **words: races.append(entries) or real(entries, *given, **words))
    panel.set(compiled=True)
    until(lambda: "compiling one (7, 1) in fp32 for 2 pictures" in panel.view.note.value)
    panel.set(image=3)                                                      # it can be left
    until(lambda: panel.result["image"] == "image 3")
    panel.set(compiled=False, keep=0.5)
    until(lambda: panel.result["point"].keep == 0.5)
    until(lambda: "compiling one (7, 1)" in panel.view.note.value)          # and the plain net's speed waits for its end
    assert not panel.wait(0.3) and races == []
    kernels.go.set()
    assert panel.wait(QUICK), panel.last_error
    assert panel.view.note.value == "" and not panel.result["compiled"] and panel.result["compiling_s"] is None
    assert all(type(method) is not Kernels for entries in races for method, _ in entries.values())


def test_both_sides_of_the_ratio_are_compiled_in_one_precision_and_the_first_calls_cost_is_told(panel, kernels, monkeypatch):
    kernels.go.set()
    races, real = [], measure.race

    def race(entries, *given, **words):
        races.append((entries, words["precision"]))
        return real(entries, *given, **words)
    monkeypatch.setattr(measure, "race", race)
    assert panel.set(compiled=True, precision="bf16", keep=0.5).wait(QUICK), panel.last_error
    (entries, precision), = races
    assert precision == "bf16" and list(entries) == ["dense", "here"]
    assert all(type(method) is Kernels for method, _ in entries.values())
    assert panel.result["compiled"] and panel.result["compiling_s"] == 23.0
    assert "cpu, bf16, compiled (which took 23 s, once), batch 2, median of" in panel.view.speed.value
    assert panel.pin().set(keep=0.7).wait(QUICK), panel.last_error
    assert [type(method) for method, _ in races[-1][0].values()] == [Kernels] * 3          # what is pinned, too


def test_each_point_is_compiled_once_and_kept(panel, kernels):
    kernels.go.set()
    for keep in (1.0, 0.5, 1.0, 0.5):
        assert panel.set(compiled=True, keep=keep).wait(QUICK), panel.last_error
    assert panel.set(compiled=False).wait(QUICK) and panel.set(compiled=True).wait(QUICK)
    assert [point.keep for point, *_ in kernels.begun] == [1.0, 0.5]
    assert panel.set(batch=4).wait(QUICK), panel.last_error
    assert [(point.keep, count) for point, count, _ in kernels.begun[2:]] == [(0.5, 4), (1.0, 4)]


def test_without_a_compiler_one_sentence_says_so_and_the_plain_net_is_timed(panel, kernels):
    why = "could not compile, perhaps for want of a C++ compiler such as g++"
    kernels.error = staticmethod(lambda pictures: RuntimeError(why))
    kernels.go.set()
    assert panel.set(compiled=True).wait(QUICK), panel.last_error
    assert f"timed uncompiled: {why}" in panel.view.note.value
    assert "vl-failed" not in panel.view.note.value
    assert not panel.result["compiled"] and panel.result["speed_up"] == 1.0 and ", compiled" not in panel.view.speed.value
    assert panel.set(keep=0.5, image=2).wait(QUICK), panel.last_error
    assert "timed uncompiled" in panel.view.note.value and len(kernels.begun) == 1         # nothing is tried in vain again
    assert panel.set(compiled=False).wait(QUICK) and panel.view.note.value == ""


def test_a_point_at_which_a_picture_decides_is_told_and_another_one_is_compiled(images, monkeypatch):  # noqa: F811
    monkeypatch.setattr(engine, "Compiled", partial(Compiled, backend="eager"))
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 1)
    dvt = vitlab.create("dvt", "micro_patch8", num_classes=10, grids=(4, 7), thresholds=((0.5,),)).eval()
    made = explore({"dvt": dvt}, images, batch=2, compiled=True)
    assert made.wait(QUICK), made.last_error
    assert made.result["compiled"] and made.result["point"].thresholds == (1.0,)
    assert made.set(thresholds=(0.5,)).wait(QUICK), made.last_error
    assert "a picture decides what is computed for it" in made.view.note.value and not made.result["compiled"]
    assert made.set(thresholds=(1.0,)).wait(QUICK) and made.result["compiled"] and made.view.note.value == ""
    made.close()


def test_what_is_forced_by_hand_runs_uncompiled_and_says_so(panel, kernels):
    kernels.go.set()
    panel.set(compiled=True)
    assert panel.force(drop=[3]).wait(QUICK), panel.last_error
    assert ways.BY_HAND in panel.view.note.value and not panel.result["compiled"]
    assert panel.force().wait(QUICK) and panel.result["compiled"] and panel.view.note.value == ""


def test_a_batch_that_does_not_fit_compiled_is_halved_too(panel, kernels):
    kernels.error = staticmethod(lambda pictures: torch.OutOfMemoryError("out of memory") if len(pictures) > 2 else None)
    kernels.go.set()
    assert panel.set(compiled=True, batch=8).wait(QUICK), panel.last_error
    assert panel.result["batch"] == 2 and panel.result["compiled"]
    assert "batch 4 does not fit into the memory of cpu; going on with 2" in panel.view.note.value


def test_a_closed_panel_leaves_its_compiler_to_end_by_itself(net, images, kernels):  # noqa: F811
    made = explore({"one": net}, images, batch=2, compiled=True)
    until(lambda: kernels.begun)
    begin = time.monotonic()
    made.close()
    assert time.monotonic() - begin < 5 and not made.worker.thread.is_alive()
    kernels.go.set()
    made.ways.thread.join(QUICK)
    assert not made.ways.thread.is_alive() and ways.GATE.beside is None


def test_a_measurement_under_way_makes_room_for_a_compiler_and_begins_again_after_it():
    gate, runs, go, inside = Gate(), [], threading.Event(), threading.Event()

    def compiler():
        with gate.aside("compiling"):
            inside.set()
            assert go.wait(QUICK)

    def run(stop):
        runs.append(gate.beside)
        if len(runs) == 1:
            thread.start()
            until(stop)
            return None
        return "measured"
    thread = threading.Thread(target=compiler)
    threading.Timer(0.2, go.set).start()
    assert gate.measure(run, lambda: False) == "measured"
    assert runs == [None, None] and inside.is_set() and go.is_set()
    thread.join(QUICK)


# The fastest way


@pytest.fixture
def told(monkeypatch):
    """What the search for the fastest way finds."""
    world = {"seconds": {("fp32", False): 2.0, ("bf16", False): 1.0, ("fp32", True): 4.0, ("bf16", True): 0.5}, "asked": []}

    def in_turns(runs, rounds, device, **words):
        world["asked"].append(list(runs))
        return {way: [world["seconds"][way]] * rounds for way in runs}, 1
    monkeypatch.setattr(ways, "in_turns", in_turns)
    return world


def test_auto_runs_and_answers_in_the_precision_that_is_fastest(panel, net, images, told):  # noqa: F811
    assert panel.set(precision="auto", image=5).wait(QUICK), panel.last_error
    assert panel.result["precision"] == "bf16" and told["asked"] == [[("fp32", False), ("bf16", False)]]
    assert "cpu, bf16 (the fastest; fp32 0.50×), batch 2, median of" in panel.view.speed.value
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        share = net(images.images([5]), net.Point(7, 1.0)).float().softmax(-1)
    assert panel.result["confidence"] == pytest.approx(share.max().item(), abs=1e-6)
    told["seconds"] = {("fp32", False): 1.0, ("bf16", False): 2.0}
    assert panel.set(keep=0.5).wait(QUICK) and panel.result["precision"] == "fp32"
    assert panel.set(keep=1.0, image=2).wait(QUICK) and panel.result["precision"] == "bf16" and len(told["asked"]) == 2
    panel.controls.again.click()                                            # looks for it again, too
    assert panel.wait(QUICK) and panel.result["precision"] == "fp32" and len(told["asked"]) == 3


def test_auto_tries_what_is_compiled_where_that_is_wanted(panel, kernels, told):
    kernels.go.set()
    assert panel.set(precision="auto", compiled=True).wait(QUICK), panel.last_error
    assert (panel.result["precision"], panel.result["compiled"]) == ("bf16", True)
    assert len(told["asked"][0]) == 4
    assert "bf16 (the fastest; bf16 0.50×, fp32 0.25×, fp32 compiled 0.12×), compiled (which took" in panel.view.speed.value
    told["seconds"][("bf16", True)] = 9.0
    assert panel.set(keep=0.5).wait(QUICK), panel.last_error
    assert (panel.result["precision"], panel.result["compiled"]) == ("bf16", False) and panel.view.note.value == ""


def test_auto_goes_on_uncompiled_where_what_it_is_compared_with_cannot_be_compiled(panel, kernels, told):
    assert panel.set(keep=0.5).wait(QUICK)
    kernels.error = staticmethod(lambda pictures: ValueError("no graph") if len(kernels.begun) == 3 else None)
    kernels.go.set()
    assert panel.set(precision="auto", compiled=True).wait(QUICK), panel.last_error
    assert [point.keep for point, *_ in kernels.begun] == [0.5, 0.5, 1.0]
    assert (panel.result["precision"], panel.result["compiled"]) == ("bf16", False)
    assert "timed uncompiled: no graph" in panel.view.note.value


def test_a_compiled_pass_is_on_the_threads_that_were_chosen_and_torchs_number_is_as_before():
    class Counts(nn.Module):
        def forward(self, fails):
            seen.append(torch.get_num_threads())
            return 1 / (1 - fails)

    seen, most = [], torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for threads in (1, 2, None):
            made = engine.steady(Counts(), threads)
            made(0)
            with pytest.raises(ZeroDivisionError):
                made(1)
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(most)
    assert seen == [1, 1, 2, 2, 2, 2]


def test_auto_leaves_out_a_precision_in_which_logits_overflow(images, told):  # noqa: F811
    broken = vitlab.create("dense", "micro_patch8", num_classes=10)
    with torch.no_grad():
        broken.vit.head.bias.fill_(torch.finfo(torch.float32).max)
    made = explore(broken, images, batch=1, precision="auto")
    assert made.wait(QUICK), made.last_error
    assert made.result["precision"] == "fp32" and told["asked"] == [[("fp32", False)]]
    made.close()


def test_fp16_is_offered_where_a_gpu_is(monkeypatch):
    assert engine.precisions("cpu") == ["fp32", "bf16"] and engine.precisions("cuda:0") == ["fp32", "bf16", "fp16"]
    monkeypatch.setattr(engine, "devices", lambda: ["cpu", "cuda:0"])
    assert engine.precisions() == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.skipif(
    not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")])])
def test_what_torch_compile_makes_is_timed_while_somebody_goes_on_looking(images, monkeypatch, backend):  # noqa: F811
    monkeypatch.setattr(engine, "Compiled", partial(Compiled, backend=backend))
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 1)
    net = vitlab.create("supervit", "micro_patch8", num_classes=10, drop_blocks=(1,)).eval()  # noqa: F811
    made = explore(net, images, batch=2, compiled=True)
    for turn in range(60):                                                  # looks count costs while the net is traced
        made.set(image=turn % 12, keep=(0.5, 0.7, 1.0)[turn % 3], layer=1)
        time.sleep(0.05)
    assert made.set(keep=0.5).wait(600), made.last_error
    assert made.result["compiled"] and made.result["compiling_s"] > 0 and made.view.note.value == ""
    made.close()
