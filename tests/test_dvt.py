"""DVT against its paper: costs, parameters, upsampling, and exits that really leave."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from samples import between, pictures

import vitlab
from vitlab import backbones, budget, cascade
from vitlab.backbones import by_the_book
from vitlab.measure import audit, exits, parameters
from vitlab.methods.dvt.enlarge import Enlarge, Naive
from vitlab.methods.dvt.reuse import Reuse

SMALL = (4, 5, 7)
Point = vitlab.DVT.Point

# fvcore's count when leaving at the last exit, 1e9 multiply-adds (Tables 6-8, 11-13), and parameters; "F" features, "R" relations
CASCADES = [
    ("t2t_vit_12", (7, 10, 14), "", 3.1454, 20_890_956), ("t2t_vit_12", (7, 10, 14), "F", 3.3077, 22_433_484),
    ("t2t_vit_12", (7, 10, 14), "R", 3.3353, 20_918_988), ("t2t_vit_12", (7, 10, 14), "FR", 3.4975, 22_461_516),
    ("t2t_vit_14", (7, 10, 14), "FR", 9.3276, 67_881_836), ("deit_small", (7, 10, 14), "", 8.0584, 67_257_912),
    ("deit_small", (7, 10, 14), "FR", 8.8438, 70_442_232), ("t2t_vit_12", (7, 10), "", 1.3707, 13_949_054),
    ("t2t_vit_12", (7, 10), "F", 1.4251, 14_720_318), ("t2t_vit_12", (7, 10), "R", 1.4081, 13_963_070),
    ("t2t_vit_12", (7, 10), "FR", 1.4625, 14_734_334), ("t2t_vit_14", (7, 10), "FR", 3.8409, 44_730_766),
    ("deit_small", (7, 10), "FR", 3.6563, 46_799_408), ("t2t_vit_12", (7, 14), "", 2.2472, 13_931_726),
    ("t2t_vit_12", (7, 14), "FR", 2.3695, 14_717_006), ("t2t_vit_14", (7, 14), "FR", 6.3143, 44_725_726),
]
ABLATIONS = [                                               # exit 2 of 7 -> 10 on T2T-ViT-12; the paper prints two decimals
    ("F", {"feature_layers": "first"}, 1.3752), ("F", {"feature_layers": "shallow"}, 1.3979),
    ("F", {"feature_layers": "deep"}, 1.3979),
    ("F", {"feature_norm": False}, 1.4243), ("F", {"feature_source": "layerwise"}, 1.4251), ("F", {"reuse_cls": True}, 1.4251),
    ("R", {"relation_layers": "shallow"}, 1.3980), ("R", {"relation_layers": "deep"}, 1.3980),
    ("R", {"relation_source": "shallow"}, 1.3994), ("R", {"relation_source": "deep"}, 1.3994),
    ("R", {"relation_source": "final"}, 1.3922),
    ("R", {"upsample": "naive"}, 1.4057), ("R", {"relation_source": "same"}, 1.3764), ("R", {"relation_net": "linear"}, 1.3793),
]


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return vitlab.create("dvt", "micro_patch8", num_classes=10).eval()


@pytest.fixture(scope="module")
def data():
    return vitlab.data.shapes("val", n=120)


@pytest.mark.parametrize(("backbone", "grids", "reuse", "cost", "count"), CASCADES)
def test_costs_and_parameters_are_the_papers(weightless, backbone, grids, reuse, cost, count):
    reused = {"features": "F" in reuse, "relations": "R" in reuse}
    method = vitlab.create("dvt", backbone, grids=grids, upsample="official", **reused).eval()
    assert audit(method, torch.zeros(1, 3, 224, 224))["total"] == pytest.approx(cost, abs=1e-4)
    assert parameters(method) == count


@pytest.mark.parametrize(("reuse", "switch", "cost"), ABLATIONS)
def test_every_switch_costs_what_the_paper_says(weightless, reuse, switch, cost):
    knobs = {"features": "F" in reuse, "relations": "R" in reuse, "upsample": "official", **switch}
    method = vitlab.create("dvt", "t2t_vit_12", grids=(7, 10), **knobs).eval()
    assert audit(method, torch.zeros(1, 3, 224, 224))["total"] == pytest.approx(cost, abs=1.01e-4)


def test_what_runs_is_counted_like_the_official_operators(weightless):
    """Our upsampling does no multiply-adds that torch counts; what else runs is the same."""
    image = torch.zeros(1, 3, 224, 224)
    ours, official = (vitlab.create("dvt", "t2t_vit_12", grids=(7, 10), upsample=how).eval() for how in ("grid", "official"))
    assert audit(ours, image)["core"] == pytest.approx(audit(official, image)["core"], rel=1e-9)
    assert vitlab.gmacs(ours, image)[0] == pytest.approx(audit(ours, image)["core"], rel=1e-6)
    first = vitlab.gmacs(ours, image, Point((0.0,)))[0]
    assert first == pytest.approx(vitlab.gmacs(vitlab.Dense(backbones.create("t2t_vit_12", grid=7)), image)[0], rel=1e-9)


@pytest.mark.parametrize(("old", "new"), [(7, 10), (10, 14), (7, 14), (4, 5), (5, 7), (4, 7)])
class TestEnlarge:
    def test_equals_the_official_operators_and_a_matrix(self, old, new):
        fast, official = Enlarge(old, new, 1), Enlarge(old, new, 1, "official")
        relation, features = torch.randn(2, 3, old ** 2 + 1, old ** 2 + 1), torch.randn(2, old ** 2 + 1, 5)
        torch.testing.assert_close(fast.both(relation), official.both(relation), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(fast(features), official(features), atol=1e-6, rtol=1e-6)
        u = fast(torch.eye(old ** 2 + 1))                                  # the whole operator as a matrix [T', T]
        torch.testing.assert_close(fast.both(relation), u @ relation @ u.mT, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(u.sum(1), torch.ones(new ** 2 + 1))
        assert (u > 0).sum(1).max() <= 4
        assert u[0, 0] == 1

    def test_is_neither_bilinear_nor_naive(self, old, new):
        relation = torch.randn(1, 1, old ** 2 + 1, old ** 2 + 1)
        picture = torch.randn(1, 2, old, old)
        ours = Enlarge(old, new, 0)(picture.flatten(2).mT).mT.unflatten(2, (new, new))
        bilinear = F.interpolate(picture, (new, new), mode="bilinear")
        assert (ours - bilinear).abs().max() > 0.05
        right, naive = Enlarge(old, new, 1).both(relation), Naive(old, new, 1).both(relation)
        assert torch.equal(right[..., 0, :], naive[..., 0, :])
        assert torch.equal(right[..., :, 0], naive[..., :, 0])
        assert not torch.allclose(right, naive, atol=0.1)

    def test_has_the_right_gradient(self, old, new):
        enlarge = Enlarge(old, new, 1).double()
        x = torch.randn(1, 1, old ** 2 + 1, old ** 2 + 1, dtype=torch.double, requires_grad=True)
        enlarge.both(x).square().sum().backward()
        u = enlarge(torch.eye(old ** 2 + 1, dtype=torch.double))
        torch.testing.assert_close(x.grad, u.mT @ (2 * u @ x.detach() @ u.mT) @ u, atol=1e-6, rtol=1e-6)


def test_without_reuse_it_is_three_backbones_bit_for_bit():
    method = vitlab.create("dvt", "micro_patch8", num_classes=10, features=False, relations=False).eval()
    images = pictures(3)
    with torch.no_grad(), by_the_book():
        for stage, logits in zip(method.stages, method.exits(images), strict=True):
            assert torch.equal(logits, stage.vit(images))


def test_silent_relations_change_nothing():
    torch.manual_seed(0)
    method = vitlab.create("dvt", "micro_patch8", num_classes=10, features=False, zero_relations=True).eval()
    images = pictures(3)
    with torch.no_grad():
        for stage, logits in zip(method.stages, method.exits(images), strict=True):
            torch.testing.assert_close(logits, stage.vit(images), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_are_handed_on_with_what_was_added(small):
    images = pictures(2)
    _, first = small.stages[0](images, None)
    _, second = small.stages[1](images, first)
    depth, heads = len(small.vit.blocks), 4
    assert first.relations.shape == (2, depth * heads, 17, 17)
    assert second.relations.shape == (2, depth * heads, 26, 26)
    assert [z.shape for z in first.features] == [(2, 17, 64)]
    stage = small.stages[1]
    q, k, _ = vitlab.block.qkv(stage.vit.blocks[0], backbones.embed(stage.vit, images))
    added = stage.relations.enlarge.both(stage.relations.net(first.relations)[:, :heads])
    torch.testing.assert_close(second.relations[:, :heads], vitlab.block.attention_logits(q, k) + added, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_class_token_gets_no_context_unless_asked(small):
    _, up = small.stages[0](pictures(2), None)
    context = small.stages[1].context
    assert context(0, up.features).shape == (2, 26, 12)
    assert context(0, up.features)[:, 0].eq(0).all()
    assert context(0, up.features)[:, 1:].abs().sum() > 0
    asked = vitlab.create("dvt", "micro_patch8", num_classes=10, reuse_cls=True).eval()
    assert asked.stages[1].context(0, up.features)[:, 0].abs().sum() > 0


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_reach_the_stage_before_unless_detached(detach):
    method = vitlab.create("dvt", "micro_patch8", num_classes=10, detach=detach).train()
    last = next(method.losses(pictures(2), torch.tensor([1, 2])))["ce_7"]
    last.backward()
    assert any(p.grad is not None for p in method.stages[0].parameters()) != detach


# Leaving

def thresholds_for(method, images, *shares):
    """Thresholds in the widest gaps, so that rounding moves no image."""
    with torch.no_grad():
        logits = list(method.exits(images))
    return tuple(between(cascade.CRITERIA[method.criterion](part, images, stage)) for stage, part in enumerate(logits[:-1]))


@pytest.mark.parametrize("criterion", ["confidence", "entropy", "random"])
@torch.no_grad()
def test_who_leaves_early_gets_the_answer_of_that_exit(small, criterion):
    small.criterion = criterion
    images = pictures(24)
    thresholds = thresholds_for(small, images)
    logits = torch.stack(list(small.exits(images)))
    score = torch.stack([cascade.CRITERIA[criterion](part, images, stage) for stage, part in enumerate(logits)])
    expected = (torch.cat([score[:2] >= torch.tensor(thresholds)[:, None], torch.ones(1, 24, dtype=torch.bool)])).int().argmax(0)
    trace = vitlab.Trace()
    answers = small(images, Point(thresholds), trace)
    assert len(set(expected.tolist())) == 3
    assert trace.exit.tolist() == expected.tolist()
    torch.testing.assert_close(answers, logits[expected, torch.arange(24)], atol=1e-5, rtol=1e-4)
    one_by_one = torch.cat([small(image[None], Point(thresholds)) for image in images])
    torch.testing.assert_close(answers, one_by_one, atol=1e-5, rtol=1e-4)
    reached = torch.stack([layer.fed.any(1) for layer in trace.layers])    # blocks after the exit saw nothing of the image
    assert reached.sum(0).tolist() == (len(small.vit.blocks) * (expected + 1)).tolist()
    small.criterion = "confidence"


@torch.no_grad()
def test_all_leave_first_or_nobody_does_or_nobody_is_left(small):
    images = pictures(5)
    logits = list(small.exits(images))
    for stage in range(3):
        trace = vitlab.Trace()
        torch.testing.assert_close(small(images, Point(cascade.stop_at(stage, 3)), trace), logits[stage], atol=1e-6, rtol=1e-5)
        assert trace.exit.tolist() == [stage] * 5
    assert torch.equal(small(images), logits[2])
    emptied = small(images, Point((1e-6, 0.5)))                             # everybody is sure enough after the first stage
    assert torch.equal(emptied, logits[0])
    assert torch.equal(small(images[:1], Point((1.0, 1.0))), next(iter([small(images[:1])])))


@torch.no_grad()
def test_simulated_and_real_exits_agree(small, data):
    found = exits(small, data)
    assert found.score.shape == found.correct.shape == (3, 120)
    assert found.cost == pytest.approx([vitlab.gmacs(small, data.images([0]), p)[0] for p in
                                        (Point((0, 0)), Point((1, 0)), Point((1, 1)))], rel=1e-9)
    for plan in budget.curve(found, np.linspace(found.cost[0], found.cost[2], 5)):
        table = vitlab.answers(small, data, Point(plan.thresholds))
        assert table.exit.tolist() == plan.exit.tolist()
        assert 100 * table.correct.mean() == pytest.approx(plan.top1)
        assert table.gmacs.mean() == pytest.approx(plan.gmacs, rel=1e-9)
        assert np.bincount(table.exit, minlength=3) / 120 == pytest.approx(plan.shares)


@torch.no_grad()
def test_a_lot_is_drawn_from_the_picture_alone():
    images, logits = pictures(200), torch.zeros(200, 10)
    lots = cascade.random(logits, images, 0)
    assert torch.equal(lots[50:60], cascade.random(logits[50:60], images[50:60], 0))
    assert 0 <= lots.min() and lots.max() < 1
    assert 0.4 < lots.mean() < 0.6
    assert not torch.equal(lots, cascade.random(logits, images, 1))


def test_reuse_follows_the_rows_that_stay():
    up = Reuse([torch.arange(4.0)[:, None]], torch.arange(4.0)[:, None])
    rows = torch.tensor([3, 1])
    assert up[rows].features[0][:, 0].tolist() == up[rows].relations[:, 0].tolist() == [3, 1]
    assert Reuse([torch.zeros(4, 1)], None)[rows].relations is None


def test_operating_points_are_kept_in_a_checkpoint(small, tmp_path):
    method = vitlab.create("dvt", "micro_patch8", num_classes=10)
    assert method.points[0] == Point((0.0, 0.0))
    assert method.points[-1] == Point((1.0, 1.0))
    method.set_thresholds([(0.4, 0.6), (0.7, 0.9)])
    vitlab.save(method, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert again.points == method.points == (Point((0.0, 0.0)), Point((0.4, 0.6)), Point((0.7, 0.9)), Point((1.0, 1.0)))


def test_adaptive_depth_leaves_between_blocks(data):
    torch.manual_seed(0)
    method = vitlab.create("adaptive_depth", "micro_patch4", num_classes=10).eval()
    assert method.stops == (2, 4, 6)
    small = data.images(range(12))
    with torch.no_grad():
        logits = list(method.exits(small))
        torch.testing.assert_close(logits[-1], method.vit(small), atol=1e-6, rtol=0)
    found = exits(method, data.first(12))
    first, second = np.diff(found.cost)
    assert first == pytest.approx(second, rel=0.01)
    with pytest.raises(ValueError, match="exits must be ascending block numbers from 1 to 5"):
        vitlab.create("adaptive_depth", "micro_patch4", exits=(3, 6))


@pytest.mark.parametrize(("knobs", "words"), [
    ({"grids": (7, 5, 4)}, "grids must be at least two ascending numbers"), ({"grids": (7,)}, "at least two"),
    ({"grids": (3, 7)}, "cannot cut 56 pixels into 3x3 patches"), ({"feature_layers": "some"}, "feature_layers must be one of"),
    ({"relation_source": "last"}, "relation_source must be one of"), ({"upsample": "bilinear"}, "upsample must be one of"),
    ({"criterion": "sure"}, "criterion must be one of"), ({"thresholds": ((0.5,),)}, "3 exits need 2 thresholds"),
    ({"relation_source": "same", "relation_layers": "deep"}, "pairs every block with its upstream twin"),
])
def test_knobs_that_make_no_sense_get_one_sentence(knobs, words):
    with pytest.raises(ValueError, match=words):
        vitlab.create("dvt", "micro_patch8", num_classes=10, **knobs)


@pytest.mark.parametrize(("thresholds", "words"), [
    ((0.5,), "3 exits need 2 thresholds, one for each but the last, not 1"), ((0.5, 0.5, 0.5), "not 3"),
    ((0.5, 1.5), r"a threshold must be in \[0, 1\], not 1.5"), ((float("nan"), 0.5), r"must be in \[0, 1\], not nan"),
])
def test_thresholds_that_make_no_sense_get_one_sentence(small, thresholds, words):
    with pytest.raises(ValueError, match=words):
        small(pictures(1), Point(thresholds))


def test_bad_data_and_budgets_get_one_sentence(small, data):
    with pytest.raises(ValueError, match="Dense has no early exits"):
        exits(vitlab.create("dense", "micro_patch8", num_classes=10), data)
    with pytest.raises(ValueError, match="is empty"):
        exits(small, data.take([]))
    with pytest.raises(ValueError, match="make it with vitlab.create"):
        exits(vitlab.create("dvt", "micro_patch8", num_classes=3).eval(), data)
    found = exits(small, data)
    with pytest.raises(ValueError, match="budget"):
        budget.solve(found, found.cost[0] / 2)
    with pytest.raises(ValueError, match="does not say how it was made"):
        vitlab.DVT(backbones.micro.micro("micro_patch8", 10), (4, 7))
