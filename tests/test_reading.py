"""What nobody reads is not computed: the same answers and gradients, fewer multiply-adds, and costs as the papers count them."""
import pytest
import torch
from samples import between, pictures, sharpen
from torch.utils.flop_counter import FlopCounterMode

import vitlab
from vitlab.backbones import by_the_book, read_after
from vitlab.measure.answers import at_points
from vitlab.measure.cost import counted, in_parts
from vitlab.methods.supervit import Point

CASES = [("dense", {}), ("supervit", {}), ("adaptive_depth", {}), ("revit", {}), ("revit", {"dist_token": "deit"}),
         ("revit", {"norm": "shared"}), ("dvt", {"grids": (4, 7)}), ("dvt", {"grids": (4, 7), "reuse_cls": True}),
         ("dvt", {"grids": (4, 7), "upsample": "naive", "relation_layers": "deep"})]


def really(run) -> float:
    """Multiply-adds of what is computed, whatever the papers count."""
    with in_parts(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


def both(run):
    """The same twice: as it is, and with every token computed."""
    here = run()
    with by_the_book():
        return here, run()


@pytest.mark.parametrize(("name", "knobs"), CASES, ids=str)
@torch.no_grad()
def test_answers_are_the_same_and_fewer_tokens_are_computed(name, knobs):
    torch.manual_seed(0)
    method, images = sharpen(vitlab.create(name, "micro_patch8", 10, **knobs)).eval(), pictures(3)
    for point in (method.points[0], method.points[-1]):
        here, whole = both(lambda: method(images, point))
        torch.testing.assert_close(here, whole, atol=1e-5, rtol=1e-5)
        few, all_of_them = both(lambda: really(lambda: method(images, point)))
        early = point == method.points[0] and name in ("dvt", "adaptive_depth")       # they leave before the last block
        assert few == all_of_them if early else few < all_of_them
        assert all_of_them == counted(lambda: method(images, point))       # what papers count
        traced = method(images, point, vitlab.Trace())
        near = 1e-5 if name == "dvt" else 1e-6                              # it sums by few images
        torch.testing.assert_close(traced, whole, atol=near, rtol=near)


@pytest.mark.parametrize(("name", "knobs"), CASES, ids=str)
def test_gradients_are_the_same(name, knobs):
    torch.manual_seed(0)
    method, images, labels, found = vitlab.create(name, "micro_patch8", 10, **knobs), pictures(3), torch.tensor([0, 1, 2]), []

    def learn():
        torch.manual_seed(1)
        method.zero_grad()
        for part in method.losses(images, labels):
            sum(part.values()).backward()
        return {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in method.named_parameters()}

    found = both(learn)
    for param, grad in found[0].items():
        torch.testing.assert_close(grad, found[1][param], atol=1e-6, rtol=1e-4, msg=param)


@pytest.mark.parametrize("backbone, size", [("micro_patch8_gap", 56), ("lvvit_tiny", 64)])
@torch.no_grad()
def test_where_the_head_reads_patches_all_are_computed(backbone, size):
    method = vitlab.create("dense", backbone, 10, image_size=size).eval()
    assert read_after(method.vit, len(method.vit.blocks) - 1) is None
    few, all_of_them = both(lambda: really(lambda: method(pictures(1, size))))
    assert few == all_of_them


@torch.no_grad()
def test_a_deit_small_is_spared_the_share_of_the_paper_count_that_the_arithmetic_says():
    """The other 196 tokens' queries, mixing, projections and MLP in the last of twelve blocks: 6.9 % (counted on one picture)."""
    method, image = vitlab.create("dense", "deit_small").eval(), torch.zeros(1, 3, 224, 224)
    few, all_of_them = both(lambda: really(lambda: method(image)))
    assert all_of_them - few == 196 * (10 * 384 ** 2 + 2 * 197 * 384)
    assert 1 - few / all_of_them == pytest.approx(0.069, abs=5e-4)


def test_whoever_counts_computes_all_of_it_only_while_counting():
    vit = vitlab.create("dense", "micro_patch8").vit
    last = len(vit.blocks) - 1
    assert read_after(vit, last) == 1
    assert read_after(vit, last, 3) == 3
    assert read_after(vit, last - 1) is None
    with pytest.raises(ZeroDivisionError), by_the_book():
        with by_the_book():
            pass
        assert read_after(vit, last) is None
        raise ZeroDivisionError
    assert read_after(vit, last) == 1


@pytest.mark.parametrize("knobs", [{}, {"drop_blocks": (1, 3)}, {"drop_blocks": (4,)}, {"token_type": "80_20"}], ids=str)
@torch.no_grad()
def test_points_together_are_the_points_one_by_one(knobs):
    torch.manual_seed(0)
    method, images = sharpen(vitlab.create("supervit", "micro_patch8", 10, **knobs)).eval(), pictures(3)
    alone = [method(images, point) for point in method.points]
    for here, there in zip(method.together(images, method.points), alone, strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)
    mixed = [method.points[-1], method.points[0], method.points[-2], None]
    for here, point in zip(method.together(images, mixed), mixed, strict=True):
        torch.testing.assert_close(here, method(images, point), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="length 3 was not trained"):
        list(method.together(images, [Point(3)]))
    with pytest.raises(ValueError, match="images are 48x48 pixels"):
        list(method.together(pictures(1, 48), method.points))


@torch.no_grad()
def test_the_twelve_points_of_a_deit_small_share_a_quarter():
    """25.2 GFLOPs one by one (Table 1); the stem, three blocks and the fourth's attention are computed once for each length."""
    method, image = vitlab.create("supervit", "deit_small").eval(), torch.zeros(1, 3, 224, 224)
    alone = sum(vitlab.gmacs(method, image, point)[0] for point in method.points)
    together = counted(lambda: list(method.together(image, method.points))) / 1e9
    assert alone == pytest.approx(25.2, abs=0.05)
    assert together == pytest.approx(alone - 2 * sum((0.415, 0.657, 0.962, 1.339)), abs=0.01)


@pytest.mark.parametrize("knobs", [{}, {"subnets": "all"}, {"objective": "ce"}], ids=str)
def test_a_step_that_shares_the_prefix_learns_what_one_learns_that_does_not(knobs):
    found = []
    for share in (True, False):
        torch.manual_seed(0)
        method = vitlab.create("supervit", "micro_patch8", 10, share_prefix=share, **knobs)
        images, labels, total = pictures(4), torch.arange(4), 0.0
        torch.manual_seed(1)
        for part in method.losses(images, labels):
            sum(part.values()).backward()
            total += sum(part.values()).item()
        found.append((total, {n: p.grad for n, p in method.named_parameters() if p.grad is not None}))
    (here, mine), (there, others) = found
    assert here == pytest.approx(there, rel=1e-5)
    assert mine.keys() == others.keys()
    for name, grad in mine.items():
        torch.testing.assert_close(grad, others[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(("name", "knobs"), [("supervit", {}), ("dense", {}), ("dvt", {"grids": (4, 7)}), ("adaptive_depth", {}),
                                             ("dvt", {"grids": (4, 5, 7), "criterion": "random"})], ids=str)
def test_answers_at_several_points_are_those_at_each(name, knobs):
    torch.manual_seed(0)
    method, data = sharpen(vitlab.create(name, "micro_patch8", 10, **knobs)).eval(), vitlab.data.shapes("val", n=10)
    points = [method.points[0], method.points[len(method.points) // 2], method.points[-1], None]
    compare(method, data, points)


def compare(method, data, points):
    """A sweep of points, four images at a time, against one traced pass at each of them."""
    for table, point in zip(at_points(method, data, points, 4), points, strict=True):
        trace = vitlab.Trace()
        with torch.no_grad():
            logits = method(data.images(range(10)), point, trace)
        assert table.attrs["classes"] == data.classes
        assert table.prediction.tolist() == logits.argmax(1).tolist()
        assert table.confidence.tolist() == pytest.approx(logits.softmax(-1).amax(1).tolist(), abs=1e-5)
        assert table.gmacs.tolist() == pytest.approx(vitlab.gmacs(method, data.images(range(10)), point).tolist())
        assert table.exit.tolist() == ([0] * 10 if trace.exit is None else trace.exit.tolist())
        reached = torch.stack([layer.fed.sum(1) for layer in trace.layers])
        assert table.tokens.tolist() == [[n for n in row if n][-1] for row in reached.T.tolist()]


@torch.no_grad()
def test_a_cascade_of_points_and_lengths_that_an_assigner_chose_are_swept_as_they_are_run():
    torch.manual_seed(0)
    whole, data = sharpen(vitlab.create("supervit", "micro_patch8", 10)).eval(), vitlab.data.shapes("val", n=10)
    cascade = vitlab.EarlyExit(whole, whole.points[::5])
    confidence = whole(data.images(range(10)), whole.points[0]).softmax(-1).amax(1)
    compare(cascade, data, [cascade.Point(between(confidence)), cascade.Point(0.0), cascade.Point(1.0)])
    revit = vitlab.create("revit", "micro_patch8", 10).eval()
    revit.attach(vitlab.TLA(3, 56))
    revit.eval()
    compare(revit, data, [revit.points[0], revit.points[4], revit.Point(4), revit.Point(7)])


@torch.no_grad()
def test_who_leaves_elsewhere_alone_is_not_mistaken(monkeypatch):
    """An exit that no image takes alone, as rounding might have it: the batch is then looked at as it is run."""
    torch.manual_seed(0)
    method, data = sharpen(vitlab.create("dvt", "micro_patch8", 10, grids=(4, 7))).eval(), vitlab.data.shapes("val", n=6)
    logits, which = method.outcomes(data.images(range(6)))
    monkeypatch.setattr(method, "outcomes", lambda images: (logits, lambda point: which(point) * 0), raising=False)
    table, _ = at_points(method, data, [method.points[-1], method.points[-1]], 6)
    assert table.exit.tolist() == [1] * 6                                  # what really happens, not what was said
