"""On a GPU all is what it is on a CPU. Nothing here runs without one; tests/test_devices.py tries a made-up one everywhere."""
import time
from math import isnan

import pytest
import torch
from samples import FIXED, pictures, sharpen

import vitlab
from vitlab.compiled import Compiled
from vitlab.measure import joules, peak_memory

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """torch rounds the pictures of a convolution to 10 bits on a GPU (TF32) unless it is told not to."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


NAMES = [name for name in FIXED if name != "dense"]


def made(name, **knobs):
    torch.manual_seed(0)
    return sharpen(vitlab.create(name, "micro_patch8", num_classes=10, **FIXED[name][0] | knobs)).eval()


def close(here, there, atol=2e-4):
    torch.testing.assert_close(here.float().cpu(), there.float().cpu(), atol=atol, rtol=1e-3)


@pytest.mark.parametrize("name", FIXED)
@torch.inference_mode()
def test_answers_costs_and_traces_are_those_of_a_cpu(name):
    net, images = made(name), pictures(6)
    there = [(net(images, point, trace := vitlab.Trace()), trace, vitlab.gmacs(net, images, point)) for point in net.points]
    net.cuda()
    for point, (logits, trace, cost) in zip(net.points, there, strict=True):
        here = vitlab.Trace()
        close(net(images.cuda(), point, here), logits)
        assert {part.attended.device.type for part in here.layers} == {"cuda"}
        assert [part.attended.sum().item() for part in here.layers] == [part.attended.sum().item() for part in trace.layers]
        assert vitlab.gmacs(net, images.cuda(), point) == pytest.approx(cost)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_a_batch_is_its_pictures_one_by_one_in_both_precisions(name):
    net, images = made(name).cuda(), pictures(6).cuda()
    for enabled, atol in ((False, 2e-4), (True, 0.25)):    # rounding to 8 bits may rank two tokens otherwise
        with torch.autocast("cuda", torch.bfloat16, enabled):
            close(net(images), torch.cat([net(image[None]) for image in images]), atol)


@pytest.mark.parametrize("name", FIXED)
@torch.inference_mode()
def test_a_recorded_graph_answers_as_the_method(name):
    net, point = made(name).cuda(), made(name).Point(*FIXED[name][1])
    recorded = Compiled(net, kernels=False)
    for images in (pictures(4).cuda(), pictures(4).cuda(), pictures(2).cuda()):
        close(recorded(images, point), net(images, point), 1e-5)
    with torch.autocast("cuda", torch.bfloat16):
        close(recorded(images, point), net(images, point), 0.05)
    assert len(recorded.prepared) == 3


@torch.no_grad()
def test_a_graph_is_recorded_again_where_the_weights_moved_and_follows_them_where_they_changed():
    net, images = made("supervit").cuda(), pictures(4).cuda()
    recorded = Compiled(net, kernels=False)
    before = recorded(images)
    close(before, net(images), 1e-5)
    net.vit.head.bias.add_(1)
    close(recorded(images), before + 1, 1e-5)
    held = [torch.full_like(weight, float("nan")) for weight in net.parameters()]      # whoever gets the memory writes there
    net.cpu()
    held += [torch.full((2 ** 20,), float("nan"), device="cuda") for _ in range(8)]
    net.cuda()
    close(recorded(images), net(images), 1e-5)


@torch.inference_mode()
def test_the_kernels_of_torch_compile_answer_alike():
    net, images = made("supervit").cuda(), pictures(4).cuda()
    for compiled in (Compiled(net), Compiled(net, graphs=False)):
        close(compiled(images, net.points[0]), net(images, net.points[0]))


@pytest.mark.parametrize("name", [name for name in FIXED if name not in ("spvit", "svit")])      # theirs are drawn on the device
def test_a_step_of_training_learns_what_a_cpu_learns(name):
    images, labels, grads = pictures(4).double(), torch.tensor([0, 1, 2, 3]), {}     # sharp attention makes much of rounding
    for device in ("cpu", "cuda"):
        net = made(name).double().to(device)
        torch.manual_seed(0)
        for part in net.losses(images.to(device), labels.to(device)):
            sum(part.values()).backward()
        grads[device] = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    assert grads["cpu"].keys() == grads["cuda"].keys()
    for name, grad in grads["cpu"].items():
        torch.testing.assert_close(grads["cuda"][name].cpu(), grad, atol=1e-5, rtol=1e-4)     # losses are float32


@pytest.mark.parametrize("precision", ("fp32", "bf16", "auto"))
def test_fit_trains_on_the_gpu_and_brings_the_net_back(precision):
    net, data = made("supervit"), vitlab.data.shapes("train", n=32)
    history = vitlab.fit(net, data, vitlab.Recipe(steps=4, batch=8, precision=precision), val=data)
    assert history.loss.notna().all() and next(net.parameters()).device.type == "cpu"


def test_what_is_measured_names_the_gpu():
    net, data = made("supervit").cuda(), vitlab.data.shapes("val", n=16)
    table = vitlab.sweep(net, data, net.points[:2], batch=8, rounds=2, resources=True)
    assert (table.device == "cuda:0").all() and (table.latency_ms > 0).all() and (table.memory_mib > 1).all()
    assert peak_memory(net, data.images(range(16))) > peak_memory(net, data.images(range(2)))
    spent = joules(net, data.images(range(16)), seconds=0.5)
    assert isnan(spent) or spent > 0
    assert torch.cuda.get_device_name() in vitlab.measure.facts("cuda")["hardware"]


@torch.inference_mode()
def test_who_serves_runs_there():
    net, data = made("supervit").cuda(), vitlab.data.shapes("val", n=16)
    governor = vitlab.Governor(net, vitlab.sweep(net, data, batch=8, rounds=1), images_per_s=1.0)
    assert governor(data.images(range(8)).cuda()).device.type == "cuda" and governor.steps[0].threads == torch.get_num_threads()
    assert len(vitlab.predict(net, [data.picture(0), data.picture(1)])) == 2


def test_an_explorer_compiles_beside_its_looks_and_tells_memory_and_energy():
    data = vitlab.data.shapes("val", n=12)
    panel = vitlab.explore(made("supervit"), data, device="cuda:0", precision="fp16", compiled=True, batch=4)
    for turn in range(40):                                                  # a graph may be recorded while others are at work
        panel.set(image=turn % 12)
        time.sleep(0.1)
    assert panel.set(latency=True).wait(500), panel.last_error
    told = panel.result
    assert told["compiled"] and told["compiling_s"] > 0 and told["precision"] == "fp16" and panel.view.note.value == ""
    assert told["latency_ms"] > 0 and told["memory_mib"] > 1 and (told["joules"] is None or told["joules"] > 0)
    assert panel.set(precision="auto").wait(500), panel.last_error
    assert "the fastest; " in panel.view.speed.value
    panel.close()
