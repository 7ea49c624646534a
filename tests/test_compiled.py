"""A compiled point answers as the method does, each point by a graph of its own, and everything else is still the method's."""
import shutil

import pytest
import torch
from samples import FIXED, pictures

import vitlab
from vitlab import backbones
from vitlab.compiled import Compiled


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 2)
    return vitlab.create("supervit", "micro_patch8", num_classes=10, drop_blocks=(1,)).eval()


@pytest.mark.parametrize("name", FIXED)
@torch.inference_mode()
def test_a_fixed_point_of_every_method_answers_as_the_method(name, monkeypatch):
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 2)
    knobs, point = FIXED[name]
    method, images = vitlab.create(name, "micro_patch8", num_classes=10, **knobs).eval(), pictures(3)
    point, compiled = method.Point(*point), Compiled(method, backend="eager")
    torch.testing.assert_close(compiled(images, point), method(images, point), atol=1e-6, rtol=0)
    assert list(compiled.prepared) == [(method.check(point), 3, "float32")]


@torch.inference_mode()
def test_any_budget_of_spvit_is_a_graph(monkeypatch):
    """The shares of a budget are searched for outside of it."""
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 2)
    method, images = vitlab.create("spvit", "micro_patch8", num_classes=10, after=(1,)).eval(), pictures(2)
    compiled = Compiled(method, backend="eager")
    for point in (method.points[0], method.points[-1]):
        torch.testing.assert_close(compiled(images, point), method(images, point), atol=1e-6, rtol=0)
        assert (method.check(point), 2, "float32") in compiled.prepared


@torch.inference_mode()
def test_each_point_batch_and_precision_is_a_graph_of_its_own_and_none_falls_back(net):
    ran = []
    compiled = Compiled(net, backend=lambda graph, inputs: lambda *given: ran.append(graph) or graph(*given))
    images = pictures(2)
    for _ in range(2):                                      # twelve points, and torch.compile leaves off after eight
        for point in net.points:
            torch.testing.assert_close(compiled(images, point), net(images, point), atol=1e-6, rtol=0)
    assert len(set(ran)) == 12 and len(ran) == 12 + 2 * 12  # each was tried once before it answered
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(images), net(images), atol=2e-2, rtol=0)
    compiled(pictures(3))
    assert len(set(ran)) == len(compiled.prepared) == len(compiled.runs) == 14
    assert {(n, precision) for _, n, precision in compiled.prepared} == {(2, "float32"), (2, "bfloat16"), (3, "float32")}
    with torch.inference_mode(False), torch.no_grad():
        compiled(images)                                    # known already, whichever way gradients are off
    assert len(set(ran)) == 14


def test_weights_that_change_are_followed(net):
    compiled, images = Compiled(net, backend="eager"), pictures(2)
    with torch.inference_mode():
        before = compiled(images)
    with torch.no_grad():
        net.vit.head.bias.add_(1)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images), before + 1)
        net.double()
        torch.testing.assert_close(compiled(images.double()), net(images.double()))


def test_with_a_trace_in_training_or_with_gradients_the_method_runs(net):
    compiled, images, trace = Compiled(net, backend="eager"), pictures(2), vitlab.Trace()
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images, trace=trace), net(images))
        assert len(trace.layers) == 2
        assert vitlab.gmacs(compiled, images)[0] == vitlab.gmacs(net, images)[0]
    compiled(images).sum().backward()
    assert net.vit.head.bias.grad is not None
    compiled.train()
    with torch.no_grad():
        compiled(images)
    assert compiled.runs == {}


@torch.inference_mode()
def test_who_forces_patches_or_hooks_into_blocks_is_heard(net):
    compiled, image, point = Compiled(net, backend="eager"), pictures(1), net.points[0]
    plain = compiled(image, point)                          # the graph is there
    forced, truth = (vitlab.Forced(each, drop=range(8), grid=7)(image, point) for each in (compiled, net))
    torch.testing.assert_close(forced, truth)
    assert not torch.allclose(forced, plain)
    looked, known = vitlab.measure.depth(compiled, image, point), vitlab.measure.depth(net, image, point)
    assert looked.layer.tolist() == known.layer.tolist()
    torch.testing.assert_close(torch.tensor(looked.logit.to_numpy()), torch.tensor(known.logit.to_numpy()))
    assert looked.logit.to_numpy()[:10].tolist() != looked.logit.to_numpy()[-10:].tolist()
    torch.testing.assert_close(compiled(image, point), plain)


def test_what_measures_takes_it_as_the_method(net):
    compiled, data = Compiled(net, backend="eager"), vitlab.data.shapes("val", n=12)
    table, plain = (vitlab.sweep(each, data, net.points[:2], batch=4, rounds=1) for each in (compiled.eval(), net))
    told = ["method", "backbone", "point", "top1", "gmacs", "n"]
    assert table[told].equals(plain[told])
    assert len(compiled.runs) == 2 and vitlab.latency(compiled, data.images([0]), net.points[0]).median_ms > 0


def test_no_measurement_compiles_it_again_for_another_number_of_threads(net):
    made, most = [], torch.get_num_threads()
    compiled = Compiled(net, backend=lambda graph, inputs: made.append(1) or graph)
    torch.set_num_threads(2)
    try:
        vitlab.throughput(compiled, pictures(2), net.points[0], seconds=0, runs=4)
        vitlab.measure.race({"a": (net, None), "b": (compiled, net.points[0])}, pictures(2), rounds=4)
    finally:
        torch.set_num_threads(most)
    assert len(made) == 1


def test_it_is_saved_and_trained_under_its_own_names(net, tmp_path):
    vitlab.save(Compiled(net), tmp_path / "net.safetensors")
    again, images = vitlab.load(tmp_path / "net.safetensors").eval(), pictures(2)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), net(images))
    vitlab.fit(Compiled(net), vitlab.data.shapes("train", n=8), vitlab.Recipe(steps=1, batch=4))
    with torch.inference_mode():
        assert not torch.equal(again(images), net(images))


@torch.inference_mode()
def test_what_cannot_be_one_graph_is_told(net):
    dvt = vitlab.create("dvt", "micro_patch8", num_classes=10, grids=(4, 7)).eval()
    with pytest.raises(ValueError, match=r"such as Point\(thresholds=\(1.0,\)\), or run the net itself"):
        Compiled(dvt, backend="eager")(pictures(2), dvt.Point(0.5))
    images = pictures(2)
    images[1, 0, 3, 3] = float("nan")
    compiled = Compiled(net, backend="eager")
    compiled(pictures(2))
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        compiled(images)
    with pytest.raises(ValueError, match="images are 64x64 pixels but this net takes 56x56"):
        compiled(pictures(2, 64))
    with pytest.raises(ValueError, match="no operating point of SuperViT"):
        compiled(images[:1], vitlab.Dense.Point())


@pytest.mark.parametrize(("wrong", "words"), [
    ({"kernels": False, "graphs": False}, "one must be"), ({"kernels": 1}, "one must be"), ({"graphs": "yes"}, "one must be"),
    ({"backend": "nope"}, "torch.compile has no backend 'nope'; leave it out"),
], ids=str)
def test_what_makes_no_sense_is_refused_at_the_door(net, wrong, words):
    with pytest.raises(ValueError, match=words):
        Compiled(net, **wrong)
    with pytest.raises(ValueError, match="compiled already"):
        Compiled(Compiled(net))
    with pytest.raises(TypeError, match="needs a method of vitlab"):
        Compiled(torch.nn.Linear(2, 2))


@torch.inference_mode()
def test_graphs_are_of_a_gpu(net):
    with pytest.raises(ValueError, match="CUDA graphs are of a GPU, and these images are on cpu"):
        Compiled(net, graphs=True)(pictures(2))


@torch.inference_mode()
def test_a_compiler_that_fails_is_told_in_one_sentence(net, monkeypatch):
    said = ["no C++ compiler\nin this place"]

    def broken(*given, **words):
        def run(images):
            raise OSError(*said)
        return run

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(RuntimeError, match=r"could not compile this net here, .* such as g\+\+; .* It said: no C\+\+ compiler$"):
        Compiled(net)(pictures(2))
    said[0] = "a number that a tensor holds"
    with pytest.raises(RuntimeError, match="could not compile this net here; run the net itself. It said: a number that a"):
        Compiled(net)(pictures(2))


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
@torch.inference_mode()
def test_the_kernels_of_torch_compile_answer_alike(monkeypatch):
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 1)
    net = vitlab.create("supervit", "micro_patch8", num_classes=10, drop_blocks=(1,)).eval()
    compiled, images, point = Compiled(net), pictures(2), net.points[0]
    torch.testing.assert_close(compiled(images, point), net(images, point), atol=1e-5, rtol=1e-5)
    assert compiled.prepared[point, 2, "float32"] > 0
