"""Whatever a pass makes stands where its inputs stand: tried on a GPU that is not there, as tensors without contents.

torch refuses an operation on two devices as it would on a real GPU. What asks for a number (who leaves, which length an assigner
names) cannot be tried so.
"""
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

import vitlab
from vitlab.cascade import CRITERIA, leaves
from vitlab.methods.revit import assigner

THERE = torch.device("cuda", 0)
FEW = {"subnets": "all", "lengths": (4, 7), "rates": (0.5, 1.0)}          # nothing is drawn
NETS = {
    "dense": {}, "supervit": FEW, "adaptive_depth": {}, "dvt": {}, "revit": {"dist_token": "deit", "w_attn": 1.0},
    "supervit, random": FEW | {"token_type": "random", "align": "image"},
    "revit, shared": {"positions": "zeropad", "patch": "resize", "norm": "shared", "dist_token": "deit"},
}


class Runs(nn.Module):
    """A net, and what is done with it, as one forward."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, act):
        return act(self.net)


def there(net, act):
    """What is done, with the net's weights on a GPU, without contents, and every tensor made on the way."""
    with FakeTensorMode() as fake:
        state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        moved = {f"net.{name}": torch.empty_like(fake.from_tensor(t), device=THERE) for name, t in state.items()}
        return functional_call(Runs(net), moved, (act,))


def seen(trace):
    blocks = [t for layer in trace.layers for t in (layer.attended, layer.fed, layer.cls)]
    return blocks if trace.exit is None else [*blocks, trace.exit]


@pytest.mark.parametrize("name", NETS)
def test_a_pass_its_trace_and_its_losses_stand_where_the_pictures_do(name):
    net = vitlab.create(name.split(",")[0], "micro_patch8", num_classes=10, **NETS[name])

    def passes(net):
        images = torch.empty(2, 3, 56, 56, device=THERE)
        for point in (net.points[0], net.points[-1]):
            trace = vitlab.Trace()
            yield net(images, point, trace)
            yield from seen(trace)
        if hasattr(net, "exits"):
            yield from net.exits(images)
        if hasattr(net, "through"):
            yield net.through((0,))(images)
        for part in net.losses(images, torch.zeros(2, dtype=torch.long, device=THERE)):
            yield from part.values()

    made = there(net, lambda net: list(passes(net)))
    assert len(made) > 8
    assert {tensor.device for tensor in made} == {THERE}
    assert all(p.device.type == "cpu" for p in net.parameters())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_who_is_sure_is_told_where_the_answers_are(criterion):
    with FakeTensorMode():
        images, logits = torch.empty(2, 3, 8, 8, device=THERE), torch.empty(2, 10, device=THERE)
        assert leaves(CRITERIA[criterion](logits, images, 0), 0.5).device == THERE


def test_an_assigners_answer_and_loss_stand_where_its_pictures_do():
    def passes(tla):
        images = torch.empty(2, 3, 56, 56, device=THERE)
        yield tla(images)
        yield from next(tla.losses(images, torch.zeros(2, dtype=torch.long, device=THERE))).values()

    assert {tensor.device for tensor in there(vitlab.TLA(3, 56), lambda tla: list(passes(tla)))} == {THERE}


def test_a_length_that_is_stated_is_noted_where_the_pictures_are():
    net = vitlab.create("revit", "micro_patch8", num_classes=10)
    assert there(net, lambda net: net.choose(torch.empty(2, 3, 56, 56, device=THERE), net.Point(4))).device == THERE


def test_what_lengths_cost_is_noted_where_the_picture_is(monkeypatch):
    monkeypatch.setattr(assigner, "gmacs", lambda method, picture, point: [point])
    with FakeTensorMode():
        assert assigner.relative_cost(None, (1.0, 2.0), torch.empty(1, 3, 56, 56, device=THERE)).device == THERE
