"""Attribution: integrated gradients add up to the change of the logit, whatever way a picture takes through whichever method."""
from functools import partial

import pytest
import torch
from samples import pictures, sharpen
from test_project import ROOT

import vitlab
from vitlab import EarlyExit, attribution
from vitlab.attribution import overlap, shared_out
from vitlab.methods.supervit import Point
from vitlab.widgets.engine import STEPS

STOPS = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))                # all leave at the first, the second, the last of three exits


def made(kind: str, **knobs) -> torch.nn.Module:
    return sharpen(vitlab.create(kind, "micro_patch8", num_classes=10, **knobs), 2.0).eval()


def assigned(architecture=None) -> torch.nn.Module:
    net = made("revit")
    net.attach(vitlab.TLA(3, 56, architecture))
    return net


def both_ways(net: torch.nn.Module, stages: tuple[int, ...]):
    """The change of every logit from the mean colour to the picture by one path, and the picture."""
    image, path = pictures(1), net.through(stages)
    with torch.no_grad():
        return image[0], (path(image) - path(torch.zeros_like(image)))[0]


def adds_up(heat: torch.Tensor, change: torch.Tensor) -> None:
    assert heat.sum().item() == pytest.approx(change.item(), rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("point", [Point(7, 1.0), Point(4, 1.0)], ids=str)
def test_the_patches_of_a_supervit_that_keeps_all_add_up_at_every_length(point):
    net, image = made("supervit", lengths=(4, 7)), pictures(1)
    with torch.no_grad():
        change = (net(image, point) - net(torch.zeros_like(image), point))[0, 3]
    heat = attribution.integrated(net, image, point, 3)
    assert heat.shape == (point.length,) * 2
    adds_up(heat, change)


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("kind", ["dvt", "adaptive_depth"])
def test_the_patches_of_a_cascade_add_up_at_every_exit(kind, stage):
    net = made(kind)
    image, change = both_ways(net, (stage,))
    heat = attribution.integrated(net, image, net.Point(STOPS[stage]), 3)
    assert heat.shape == ((net.grids[stage],) * 2 if kind == "dvt" else (7, 7))
    adds_up(heat, change[3])


@torch.no_grad()
def test_the_baseline_leaves_where_the_picture_left():
    """With a threshold between the two, the mean-colour picture would leave at another exit than the picture."""
    net, image = made("dvt"), pictures(1)
    first = net.stages[0](image, None)[0].softmax(-1).max().item()
    blank = net.stages[0](torch.zeros_like(image), None)[0].softmax(-1).max().item()
    assert first != blank
    point, trace = net.Point(((first + blank) / 2, 0.0)), vitlab.Trace()
    net(torch.cat([image, torch.zeros_like(image)]), point, trace)
    mine, other = trace.exit.tolist()
    assert {mine, other} == {0, 1}
    path = net.through((mine,))
    adds_up(attribution.integrated(net, image[0], point, 3), (path(image) - path(torch.zeros_like(image)))[0, 3])


@pytest.mark.parametrize("length", [4, 5, 7])
def test_the_patches_of_a_revit_add_up_at_every_fixed_length(length):
    net, image = made("revit"), pictures(1)
    point = net.Point(length)
    with torch.no_grad():
        change = (net(image, point) - net(torch.zeros_like(image), point))[0, 3]
    adds_up(attribution.integrated(net, image[0], point, 3), change)


@pytest.mark.parametrize("architecture", [None, "vit"])
def test_the_patches_of_a_revit_add_up_at_the_length_that_its_assigner_chose(architecture, monkeypatch):
    """An assigner that is a ViT is a net of its own in the method, and never the one that answers."""
    if architecture == "vit":
        small = partial(vitlab.backbones.create, "micro_plain8", 3, image_size=56)
        monkeypatch.setattr("vitlab.methods.revit.assigner.build", lambda *_: small())
        architecture = ("vit", 1.0, 1.0, 56)
    net = assigned(architecture)
    image, trace = pictures(1), vitlab.Trace()
    with torch.no_grad():
        net(image, None, trace)
        path = net.through(trace.layers[-1].stages)
        change = (path(image) - path(torch.zeros_like(image)))[0, 3]
    side = (4, 5, 7)[trace.exit[0]]
    heat = attribution.integrated(net, image[0], None, 3)
    assert heat.shape == (side, side)
    adds_up(heat, change)
    torch.testing.assert_close(attribution.patches(net, image[0], None, 3),
                               attribution.patches(made_like(net), image[0], net.Point(side), 3))


def made_like(net: torch.nn.Module) -> torch.nn.Module:
    """The same ReViT without its assigner."""
    plain = vitlab.create("revit", "micro_patch8", num_classes=10)
    plain.load_state_dict({name: value for name, value in net.state_dict().items() if not name.startswith("assigner")})
    return plain.eval()


def test_the_patches_of_an_early_exit_are_those_of_the_stage_that_answered(small_supervit):
    cascade = EarlyExit(small_supervit, (Point(8, 1.0), Point(14, 1.0)))
    image = pictures(1)[0]
    for threshold, point in ((0.0, Point(8, 1.0)), (1.0, Point(14, 1.0))):
        torch.testing.assert_close(attribution.integrated(cascade, image, cascade.Point(threshold), 3, steps=4),
                                   attribution.integrated(small_supervit, image, point, 3, steps=4))


@pytest.mark.parametrize("stage", range(3))
def test_an_early_exit_over_a_cascade_is_explained_by_the_inner_exit_that_answered(stage):
    inner = made("dvt")
    outer = EarlyExit(inner, (inner.Point(STOPS[0]), inner.Point(STOPS[stage])))
    image = pictures(1)[0]
    for how in (attribution.patches, partial(attribution.integrated, steps=4)):
        torch.testing.assert_close(how(outer, image, outer.Point(1.0), 3), how(inner, image, inner.Point(STOPS[stage]), 3))


@pytest.mark.parametrize(("old", "new"), [(7, 7), (4, 7), (5, 7), (7, 14), (7, 4)])
def test_patches_are_shared_out_by_area_and_lose_nothing(old, new):
    heat = torch.randn(old, old)
    spread = shared_out(heat, (new, new))
    assert spread.sum().item() == pytest.approx(heat.sum().item(), abs=1e-5)
    torch.testing.assert_close(shared_out(torch.ones(old, old), (new, new)), torch.full((new, new), (old / new) ** 2))
    if old == new:
        assert torch.equal(spread, heat)


def test_half_a_patch_goes_to_each_side():
    torch.testing.assert_close(overlap(3, 2), torch.tensor([[1, 0.5, 0], [0, 0.5, 1]]))


def test_a_net_in_training_is_explained_as_it_answers_and_left_in_training():
    net = assigned()
    net.train()
    net.assigner.eval()
    attribution.patches(net, pictures(1)[0])
    assert net.training and net.vit.training and not net.assigner.training


def test_pictures_follow_a_net_in_half_precision():
    net = made("dense").bfloat16()
    assert attribution.patches(net, pictures(1)[0], None, 3).dtype == torch.bfloat16


def fall(net, image, point, target: int, score) -> float:
    """How far a class's logit falls where the tenth of the patches with the highest score is made the mean colour."""
    top = score.flatten().topk(round(0.1 * score.numel())).indices
    hidden = torch.zeros(score.numel()).index_fill(0, top, 1.0).reshape(1, 1, *score.shape)
    large = torch.nn.functional.interpolate(hidden, size=image.shape[-2:], mode="nearest")[0]
    with torch.no_grad():
        return (net(image[None], point) - net((image * (1 - large))[None], point))[0, target].item()


@pytest.mark.parametrize("name, point", [("supervit", (14, 0.5)), ("svit", ())])
def test_what_speaks_most_for_an_answer_is_what_it_rests_on(name, point):
    """The panel's claim, by deletion: the reddest tenth of the patches matters more than a random one, the bluest does not."""
    net = vitlab.load(ROOT / "data" / "checkpoints" / f"{name}_shapes.safetensors")
    images = vitlab.data.shapes("test", difficulty=net.facts["difficulty"], n=20).images(slice(None))
    point, falls = net.Point(*point), {"red": [], "blue": [], "random": []}
    torch.manual_seed(0)
    for image in images:
        with torch.no_grad():
            target = int(net(image[None], point).argmax())
        heat = attribution.integrated(net, image, point, target, steps=STEPS)
        for kind, score in (("red", heat), ("blue", -heat), ("random", torch.rand_like(heat))):
            falls[kind].append(fall(net, image, point, target, score))
    red, blue, chance = (torch.tensor(falls[kind]).mean() for kind in ("red", "blue", "random"))
    assert red > 1.4 * chance
    assert red > 1.4 * blue
