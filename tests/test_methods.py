"""The contract: what every method promises, whatever its paper. A new method inherits all of it."""
import dataclasses

import pytest
import torch
from samples import pictures, sharpen, small_pit

import vitlab
from vitlab import backbones
from vitlab.backbones import by_the_book
from vitlab.methods import METHODS

CALM = {"dvt", "revit"}     # rank no tokens; sharpened, several nets or lengths in one batch multiply its rounding
PLAIN = {"dvt": {"features": False, "relations": False}}    # knobs with which the dearest point is the backbone alone
CHEAPER = {"spvit", "svit", "tome"}        # the headline model is not the dearest point
IDLE = {"dvt": "stages.2.context.nets.{last}."}             # reaches only patches that nobody reads: the paper counts it


OTHER = {"lvvit_tiny": {"image_size": 56, "grid": 4},       # how a backbone for larger pictures is made for those of the tests
         "pit_tiny": {"image_size": 56}}
STAGED = ("dense", "spvit")                                 # the methods that run a net stage by stage


@pytest.fixture(params=[(m, b) for m in METHODS for b in ("micro_patch8", "micro_patch4", *OTHER)
                        if b != "pit_tiny" or m in STAGED], ids="-".join)
def method(request, monkeypatch):
    name, backbone = request.param
    monkeypatch.setitem(backbones.lvvit.SHAPES, "lvvit_tiny", (48, 3, 4, 2))        # three blocks: the contract names no size
    monkeypatch.setattr(backbones.lvvit, "CHANNELS", 8)
    small_pit(monkeypatch)
    net = vitlab.create(name, backbone, num_classes=10, **OTHER.get(backbone, {})).eval()
    return net if name in CALM else sharpen(net)


def ends(method):
    """The cheapest, a middle and the most expensive point."""
    points = method.points
    return list(dict.fromkeys([points[0], points[len(points) // 2], points[-1]]))


@torch.no_grad()
def test_the_dense_point_is_the_untouched_backbone(method):
    images, made = pictures(2), method.made
    if made["method"] in PLAIN:
        own = OTHER.get(made["backbone"], {})
        method = vitlab.create(made["method"], made["backbone"], num_classes=10, **own, **PLAIN[made["method"]]).eval()
    dearest = method(images, method.points[-1])
    torch.testing.assert_close(dearest, method.vit(images), atol=1e-6, rtol=0)
    assert torch.equal(method(images), method(images, method.Point()))
    assert torch.equal(method(images), dearest) == (made["method"] not in CHEAPER)


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one(method):
    images = pictures(3)
    for point in ends(method):
        one_by_one = torch.cat([method(image[None], point) for image in images])
        torch.testing.assert_close(method(images, point), one_by_one, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_tracing_changes_no_logit_and_sees_every_block(method):
    images = pictures(3)
    for point in ends(method):
        trace = vitlab.Trace()
        with by_the_book():
            assert torch.equal(method(images, point), method(images, point, trace))
        blocks, seen = len(backbones.blocks(method.vit)), {layer.layer for layer in trace.layers}
        assert seen == set(range(blocks if not method.adaptive or point == method.points[-1] else len(seen)))
        assert method.adaptive or len(trace.layers) == blocks
        assert (trace.exit is not None) == (method.adaptive == "exit")
        for layer in trace.layers:
            patches = layer.grid[0] * layer.grid[1]
            assert layer.attended.shape == layer.fed.shape == layer.cls.shape == (3, patches)
            assert layer.fed.dtype == torch.bool
            assert not (layer.fed & ~layer.attended).any()
            assert layer.cls[~layer.attended].eq(0).all()
            assert (layer.cls.sum(1) <= 1 + 1e-6).all()


def test_every_parameter_learns_and_none_is_shared(method):
    method.train()
    labels, idle = torch.tensor([1, 2]), IDLE.get(method.made["method"], "-").format(last=len(backbones.blocks(method.vit)) - 1)
    still = {name: p for name, p in method.named_parameters() if not name.startswith(idle)}
    for _ in range(40):                                                    # sub-nets are drawn: draw until each had its turn
        for part in method.losses(pictures(2), labels):
            assert all(term.isfinite() for term in part.values())
            sum(part.values()).backward()
        still = {name: p for name, p in still.items() if p.grad is None or not p.grad.abs().sum() > 0}
        if not still:
            break
    assert not list(still)
    assert len({p.data_ptr() for p in method.parameters()}) == len(list(method.parameters()))


@torch.no_grad()
def test_saved_and_loaded_it_answers_the_same(method, tmp_path):
    vitlab.save(method, tmp_path / "net.safetensors", top1=12.5)
    again = vitlab.load(tmp_path / "net.safetensors")
    images = pictures(2)
    assert torch.equal(method(images, method.points[0]), again(images, again.points[0]))
    assert again.facts["top1"] == 12.5
    assert again.made == method.made


def test_a_cheaper_point_costs_less(method):
    cost = [vitlab.gmacs(method, pictures(1), point)[0] for point in ends(method)]
    assert cost == sorted(cost)
    assert cost[0] < cost[-1] or len(cost) == 1
    assert method.adaptive or len(set(cost)) == len(cost)


def test_points_are_values(method):
    for point in method.points:
        assert {point: 1}[dataclasses.replace(point)] == 1
        assert type(point).__name__ in str(point)
        with pytest.raises(dataclasses.FrozenInstanceError):
            point.length = 3
