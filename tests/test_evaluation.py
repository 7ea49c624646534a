"""Whoever measures a net sees it in evaluation mode, and leaves each module of it in the mode it was in."""
import pytest
import torch
from samples import pictures, sharpen

import vitlab
from vitlab import attribution, lengths, measure
from vitlab.data import shapes
from vitlab.evaluation import beside, evaluating


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("cache")))
        yield shapes("val", n=6)


def made(kind: str) -> torch.nn.Module:
    """A net in training mode that answers otherwise there: it drops whole blocks. One part of it is frozen in evaluation."""
    net = sharpen(vitlab.create(kind, "micro_patch8", num_classes=10, drop_path=0.9)).train()
    if kind == "revit":
        net.attach(vitlab.TLA(3, 56).eval())
        net.assigner.eval()
    net.vit.blocks[0].eval()
    return net


def exits_of(net, data):
    """Scores, since an Exits equals nothing but itself."""
    return torch.from_numpy(measure.exits(net, data).score)


def table_of(net, data):
    return lengths.length_table(net, data).confidence


class Plain(torch.nn.Module):
    """A timm net that takes a point, as race wants it."""

    adaptive = False

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, images, point=None):
        return self.vit(images)


LOOKS = {   # what is done to which kind of net, and what it gives
    "answers": ("supervit", lambda net, data: vitlab.answers(net, data).confidence),
    "sweep": ("supervit", lambda net, data: vitlab.sweep(net, data, net.points[:1], batch=2, rounds=1).top1),
    "focus": ("dense", lambda net, data: measure.focus(net, data).attention),
    "exits": ("dvt", exits_of),
    "leaving": ("dvt", lambda net, data: measure.leaving(net, data.images(range(6)), net.points[2])),
    "length_table": ("revit", table_of),
    "logits_of": ("revit", lambda net, data: lengths.logits_of(net.assigner, data)),
    "throughput": ("dense", lambda net, data: vitlab.throughput(net, data.images([0]), seconds=0, runs=1).batch),
    "race": ("dense", lambda net, data: measure.race({"one": (net, None), "two": (Plain(net.vit), None)}, data.images([0]),
                                                     rounds=1).batch),
    "stopped race": ("dense", lambda net, data: measure.race({"one": (net, None)}, data.images([0]), stop=lambda: True)),
    "gmacs": ("revit", lambda net, data: vitlab.gmacs(net, data.images([0, 1]))),
    "audit": ("dense", lambda net, data: measure.audit(net, data.images([0]))["core"]),
    "attribution": ("revit", lambda net, data: attribution.patches(net, data.images([0]))),
    "integrated": ("dvt", lambda net, data: attribution.integrated(net, data.images([0]), steps=2)),
}


def modes(net: torch.nn.Module) -> list[bool]:
    return [part.training for part in net.modules()]


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_leaves_every_module_in_its_mode_and_sees_none_in_training(name, data):
    kind, look = LOOKS[name]
    net = made(kind)
    if name == "logits_of":
        net.assigner.train()
    before, seen = modes(net), set()
    assert len(set(before)) == 2
    hooks = [part.register_forward_hook(lambda part, _, __: seen.add(part.training)) for part in net.modules()]
    first = look(net, data)
    assert modes(net) == before
    for hook in hooks:
        hook.remove()
    assert seen <= {False}
    assert seen or name == "stopped race"
    if first is not None and name not in ("throughput", "race", "sweep"):
        again = look(net.eval(), data)
        assert torch.allclose(torch.as_tensor(first), torch.as_tensor(again), equal_nan=True)


@pytest.mark.parametrize("name", ["answers", "exits", "attribution", "gmacs"])
def test_a_look_that_fails_leaves_the_modes_too(name, data):
    net = made("dvt")
    before = modes(net)
    wrong = {"answers": lambda: vitlab.answers(net, data.first(0)), "exits": lambda: measure.exits(net, data.first(0)),
             "attribution": lambda: attribution.patches(net, pictures(2)), "gmacs": lambda: vitlab.gmacs(net, pictures(1, 60))}
    with pytest.raises(ValueError):
        wrong[name]()
    assert modes(net) == before


def test_two_nets_that_share_a_part_come_back_as_they_were():
    net = made("supervit")
    cascade = vitlab.EarlyExit(net, net.points[:2]).eval()
    net.train()
    net.vit.head.eval()
    before = modes(cascade)
    with evaluating(net, cascade):
        assert set(modes(cascade)) == {False}
    assert modes(cascade) == before


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_pictures_follow_the_weights_and_numbers_stay(dtype):
    net = vitlab.create("dense", "micro_patch8", num_classes=10).to(dtype)
    assert beside(net, pictures(1)).dtype == dtype
    assert beside(net, torch.zeros(2, dtype=torch.long)).dtype == torch.long


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_nets_in_other_precisions_are_measured_like_any(dtype, data):
    net = made("dvt").eval()
    whole, point = vitlab.answers(net, data, net.points[-1]), net.points[-1]
    net = net.to(dtype)
    table = vitlab.answers(net, data, point)
    assert table.gmacs.tolist() == whole.gmacs.tolist()
    assert table.confidence.tolist() == pytest.approx(whole.confidence.tolist(), abs=0.03)
    assert measure.exits(net, data).score.shape == (3, 6)
    assert measure.leaving(net, data.images([0, 1]), point) == (0, 0, 2)
    assert measure.focus(net, data).notna().all(axis=None)
    assert vitlab.throughput(net, data.images([0]), seconds=0, runs=1).batch == 1


@pytest.mark.parametrize("look", [vitlab.answers, measure.exits])
def test_what_overflows_in_half_precision_is_called_so(look, data):
    net = vitlab.create("dvt", "micro_patch8", num_classes=10).eval()
    with torch.no_grad():
        for stage in net.stages:
            stage.vit.head.bias.fill_(60000.0)
            stage.vit.head.weight.mul_(1e4)
            stage.vit.norm.weight.mul_(100)
    assert look(net, data) is not None
    with pytest.raises(ValueError, match="images 0 to 5 are not finite; .*float16 holds none above 65504.*use float"):
        look(net.half(), data)
    with torch.no_grad():
        net.float().stages[0].vit.head.bias.fill_(float("nan"))
        net.stages[2].vit.head.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="images 0 to 5 are not finite; check the weights"):
        look(net, data)
