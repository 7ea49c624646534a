"""Patches kept and dropped by hand: nothing forced is nothing changed, and what is forced equals a gather written out here."""
from copy import deepcopy
from math import ceil

import pytest
import torch
from samples import between, pictures, sharpen, small_pit
from torch import nn

import vitlab
from vitlab import attribution, measure
from vitlab.block import attention, cls_attention, mlp, qkv
from vitlab.methods.spvit.selector import Others
from vitlab.methods.svit.select import best
from vitlab.tokens import take

KEEP, DROP = [0, 17, 30], [3, 24, 25]
SIDE = 7


def made(name, **knobs):
    torch.manual_seed(1)
    return sharpen(vitlab.create(name, "micro_patch8", num_classes=10, **knobs)).eval()


def ragged_spvit():
    net = made("spvit")
    net.set_factors([(budget, *[factor] * len(net.after)) for budget, factor in ((net.budget * 0.9, 0.9), (net.budget, 1.0))])
    return net


@torch.no_grad()
def ragged_svit():
    net = made("svit")
    seen = []
    t, rule = net.first(pictures(6)), lambda gate, odds, may, before: seen.append(odds) or every(odds, before)
    for layer in range(len(net.vit.blocks)):
        t = net.block(layer, net.gated(layer, t, rule))
    middle = [between(odds[:, -49:].flatten()) for odds in seen]
    net.set_thresholds([(k, *(odds + shift for odds in middle)) for k, shift in ((0.6, 0.1), (0.7, 0.0))])
    return net


def every(odds, before):
    return best(odds, odds.shape[1], before)


class Reader(nn.Module):
    """What a reader of notebook 09 writes: tokens that are looked at least go, here with one line for what is forced."""

    Point, points, adaptive, forced = vitlab.SuperViT.Point, (vitlab.SuperViT.Point(7, 0.5),), False, None

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, images, point=None, trace=None):
        x = vitlab.backbones.embed(self.vit, images)
        ids = torch.arange(x.shape[1] - 1).expand(len(x), -1)
        for layer, block in enumerate(self.vit.blocks):
            q, k, v = qkv(block, x)
            x, left = x + attention(block, q, k, v), ids
            if layer == 1:
                score = cls_attention(q, k).mean(1)[:, 1:]
                top = score.topk(20).indices if self.forced is None else self.forced.pick(
                    lambda score, count: score.topk(count).indices, score, 20, ids, SIDE)
                x, left = take(x, torch.cat([torch.zeros_like(top[:, :1]), top + 1], 1)), take(ids, top)
            if trace is not None:
                trace.add(layer, (SIDE, SIDE), ids, q, k, fed=left)
            x, ids = x + mlp(block, x), left
        return vitlab.backbones.head(self.vit, x)


NETS = {
    "supervit": lambda: (made("supervit"), vitlab.SuperViT.Point(7, 0.5)),
    "supervit-dense": lambda: (made("supervit"), vitlab.SuperViT.Point(7, 1.0)),
    "supervit-80_20": lambda: (made("supervit", token_type="80_20"), vitlab.SuperViT.Point(7, 0.7)),
    "supervit-high": lambda: (made("supervit", token_type="high"), vitlab.SuperViT.Point(7, 0.7)),
    "spvit": lambda: (made("spvit"), None),
    "spvit-dense": lambda: ((net := made("spvit")), net.points[-1]),
    "spvit-none": lambda: (made("spvit", package="none"), None),
    "spvit-ragged": lambda: (ragged_spvit(), None),
    "spvit-ragged-dense": lambda: ((net := ragged_spvit()), net.points[-1]),
    "svit": lambda: (made("svit"), None),
    "svit-dense": lambda: ((net := made("svit")), net.points[-1]),
    "svit-inherit": lambda: (made("svit", pruned="inherit"), None),
    "svit-ragged": lambda: (ragged_svit(), None),
    "reader": lambda: (Reader(made("dense").vit), None),
    "exits": lambda: ((net := vitlab.EarlyExit(made("supervit"), (vitlab.SuperViT.Point(7, 0.5), vitlab.SuperViT.Point(7, 0.7)))),
                      net.Point(0.3)),
}


@pytest.fixture(params=NETS)
def case(request):
    return NETS[request.param]()


def traced(method, images, point):
    trace = vitlab.Trace()
    return method(images, point, trace), trace


@torch.no_grad()
def test_nothing_forced_is_nothing_changed(case):
    net, point = case
    images = pictures(3)
    expected, bare = net(images, point), vitlab.Forced(net)
    assert torch.equal(bare(images, point), expected)
    assert torch.equal(vitlab.Forced(net, [False] * 49, torch.zeros(3, 49, dtype=torch.bool))(images, point), expected)
    assert all(part.forced is None for part in net.modules() if hasattr(part, "forced"))
    assert torch.equal(traced(bare, images, point)[0], traced(net, images, point)[0])


@torch.no_grad()
def test_what_is_forced_happens_and_is_over_afterwards(case):
    net, point = case
    images = pictures(3)
    before, forced = net(images, point), vitlab.Forced(net, KEEP, DROP)
    logits, trace = traced(forced, images, point)
    last = [part for part in trace.layers if part.attended.any()]
    for part in last:
        there = part.fed.any(1)
        assert part.fed[there][:, KEEP].all()
    assert not any(bool(part.fed[:, DROP].any()) for part in last[-1:])
    assert not torch.allclose(logits, before, atol=1e-4)
    assert torch.equal(net(images, point), before)
    assert torch.equal(deepcopy(forced)(images, point), forced(images, point))


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one(case):
    net, point = case
    images, forced = pictures(3), vitlab.Forced(net, KEEP, DROP)
    one_by_one = torch.cat([forced(image[None], point) for image in images])
    torch.testing.assert_close(forced(images, point), one_by_one, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_each_image_has_its_own(case):
    net, point = case
    images, keep, drop = pictures(3), torch.zeros(3, 49, dtype=torch.bool), torch.zeros(3, 49, dtype=torch.bool)
    for row in range(3):
        keep[row, [row, 10]], drop[row, [20 + row, 31]] = True, True
    keep[0, 40] = True                                                     # another number in one of them
    if isinstance(net, vitlab.EarlyExit):
        point = net.Point(1.0)                                             # none leaves, so the rows stay as they are
    together = vitlab.Forced(net, keep, drop)(images, point)
    one_by_one = [vitlab.Forced(net, keep[row], drop[row])(images[[row]], point) for row in range(3)]
    torch.testing.assert_close(together, torch.cat(one_by_one), atol=2e-5, rtol=1e-5)


# By hand: timm's own blocks on tokens that are gathered here


def chosen(score, count, ids):
    """Those that stay of one image, by the promise: kept, then the best of those of whom nothing is said."""
    free = [i for i in score.argsort(descending=True).tolist() if int(ids[i]) not in KEEP + DROP]
    kept = [i for i, patch in enumerate(ids.tolist()) if patch in KEEP]
    count = min(count, sum(int(patch) not in DROP for patch in ids))
    return kept + free[:count - len(kept)]


@pytest.mark.parametrize("keep", [0.5, 1.0])
@torch.no_grad()
def test_supervit_equals_a_gather_by_hand(keep):
    net = made("supervit")
    for image in pictures(3):
        x, ids = net.patchify(image[None], SIDE), torch.arange(49)
        for layer, block in enumerate(net.vit.blocks):
            q, k, _ = block.attn.qkv(block.norm1(x)).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
            score = (q[:, :, :1] @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(1)[0, 0, 1:]
            x = x + block.attn(block.norm1(x))
            if layer + 1 in net.drop_blocks:
                top = chosen(score, min(ceil(round(keep * (len(ids) + 1), 9)), len(ids)), ids)
                x, ids = torch.cat([x[:, :1], x[:, 1:][:, top]], 1), ids[top]
            x = x + block.mlp(block.norm2(x))
        logits = net.vit.head(net.vit.norm(x)[:, 0])
        ours, trace = traced(vitlab.Forced(net, KEEP, DROP), image[None], net.Point(SIDE, keep))
        torch.testing.assert_close(ours, logits, atol=1e-5, rtol=1e-5)
        assert set(trace.layers[-1].fed[0].nonzero()[:, 0].tolist()) == set(ids.tolist())


@pytest.mark.parametrize(("kind", "ragged"), [("normalised", False), ("none", False), ("normalised", True)])
@torch.no_grad()
def test_spvit_equals_a_gather_by_hand(kind, ragged):
    net = ragged_spvit() if ragged else made("spvit", package=kind)
    rule = net.rule(net.check(None))
    for image in pictures(3):
        x, ids, packages = vitlab.backbones.embed(net.vit, image[None]), torch.arange(49), 0
        for layer, block in enumerate(net.vit.blocks):
            if layer in rule:
                body = x[:, 1:]
                score = net.scorer(layer)(body, Others(lambda f: f.mean(1, keepdim=True), None))[0, :len(ids)]
                if ragged:
                    first = score.argsort(descending=True)[:max(round(float(score.sum() * rule[layer])), 1)].tolist()
                    top = [i for i in range(len(ids)) if int(ids[i]) in KEEP or i in first and int(ids[i]) not in DROP]
                else:
                    top = chosen(score, rule[layer], ids)
                gone = [i for i in range(len(ids)) if i not in top]
                weight = score[gone, None]
                new = [] if kind == "none" else [((body[0, gone] * weight).sum(0) / weight.sum())[None, None]]
                x, ids, packages = torch.cat([x[:, :1], body[:, top], body[:, len(ids):], *new], 1), ids[top], packages + len(new)
            x = block(x)
        logits = net.vit.head(net.vit.norm(x)[:, 0])
        torch.testing.assert_close(vitlab.Forced(net, KEEP, DROP)(image[None]), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("pruned", "ragged"), [("return", False), ("inherit", False), ("return", True)])
@torch.no_grad()
def test_svit_equals_a_gather_by_hand(pruned, ragged):
    net = ragged_svit() if ragged else made("svit", pruned=pruned)
    counts, thresholds = net.counts(net.keep), net.thresholds.at(net.keep, 1e-3) if ragged else None
    for image in pictures(3):
        x, took, alive = vitlab.backbones.embed(net.vit, image[None]), list(range(50)), set(range(50))
        for layer, block in enumerate(net.vit.blocks):
            if layer in net.at:
                gate, before = net.at[layer], net.before(net.at[layer])
                odds, patch = net.gates[gate](x[:, before:])[0], torch.arange(before, 50) - 1
                odds = torch.tensor([o if i + before in alive else float("-inf") for i, o in enumerate(odds.tolist())])
                stay = chosen(odds, counts[gate], patch) if not ragged else [
                    i for i, n in enumerate(patch.tolist()) if n in KEEP or odds[i] > thresholds[gate] and n not in DROP]
                took = [*range(before), *(i + before for i in stay)]
                alive = alive if pruned == "return" else set(took)
            y = x.clone()
            y[:, took] = block(x[:, took])
            x = y
        logits = net.vit.head(net.vit.norm(x)[:, 0])
        torch.testing.assert_close(vitlab.Forced(net, KEEP, DROP)(image[None]), logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_fixed_count_stays_and_a_free_one_changes():
    net, point = made("supervit"), vitlab.SuperViT.Point(7, 0.5)
    trace = traced(net, images := pictures(1), point)[1].layers[-1]
    strong, weak = (trace.fed if kind else ~trace.fed for kind in (1, 0))
    strong, weak = strong[0].nonzero()[:, 0].tolist(), weak[0].nonzero()[:, 0].tolist()
    count = len(strong)
    for keep, drop in ((weak[:2], []), ([], strong[:2]), (weak[:1], strong[:3])):
        fed = traced(vitlab.Forced(net, keep, drop), images, point)[1].layers[-1].fed[0]
        assert int(fed.sum()) == count and fed[keep].all() and not fed[drop].any()
    assert count == 7
    for gone, stay in ((40, 7), (45, 4)):                                  # 4 is all that is left
        few = traced(vitlab.Forced(net, drop=range(gone)), images, point)[1].layers[-1]
        assert int(few.fed.sum()) == stay
    net = ragged_svit()
    one = traced(net, images, None)[1].layers[2].attended[0]
    first = traced(net, images, None)[1].layers[min(net.at)].attended[0]
    out, inside = int((~one).nonzero()[0, 0]), int(first.nonzero()[0, 0])
    assert int(traced(vitlab.Forced(net, [out]), images, None)[1].layers[2].attended.sum()) == int(one.sum()) + 1
    fewer = traced(vitlab.Forced(net, drop=[inside]), images, None)[1].layers[min(net.at)].attended[0]
    assert int(fewer.sum()) == int(first.sum()) - 1


@torch.no_grad()
def test_another_grid_gets_what_lies_there():
    net = made("supervit")
    images, coarse = pictures(2), net.Point(4, 0.5)
    told = vitlab.Forced(net, keep=[0, 48], drop=[24], grid=7)             # two corners and the middle
    fed = traced(told, images, coarse)[1].layers[-1].fed
    assert fed[:, [0, 15]].all() and not fed[:, 10].any()                  # the middle of 7x7 lies in row 3, column 3 of 4x4
    fine = traced(vitlab.Forced(net, drop=[0], grid=2), images, net.Point(6, 0.5))[1].layers[-1].fed.view(2, 6, 6)
    assert not fine[:, :3, :3].any()
    exits = vitlab.EarlyExit(net, (net.Point(4, 0.5), net.Point(7, 0.5)))
    with pytest.raises(ValueError, match="on one grid, but this net has 4x4 and then 7x7 patches; say which with grid=4"):
        vitlab.Forced(exits, [3])(images, exits.Point(1.0))
    same = vitlab.Forced(exits, [3], grid=7)(images, exits.Point(1.0))
    torch.testing.assert_close(same, vitlab.Forced(net, [3])(images, net.Point(7, 0.5)))
    mask = torch.zeros(49, dtype=torch.bool).index_fill(0, torch.tensor([3]), True)
    assert torch.equal(vitlab.Forced(exits, mask)(images, exits.Point(1.0)), same)


@pytest.mark.parametrize("persist", [True, False])
@pytest.mark.parametrize("ragged", [True, False])
def test_a_pit_drops_by_hand_on_every_grid(monkeypatch, persist, ragged):
    small_pit(monkeypatch)
    net = vitlab.create("spvit", "pit_tiny", num_classes=10, image_size=56, persist=persist).eval()
    if ragged:
        net.set_factors([(net.budget, *[1.0] * len(net.after))])
    with torch.no_grad():
        images = pictures(2)
        assert torch.equal(vitlab.Forced(net)(images), net(images))
        forced = vitlab.Forced(net, [0], [35], grid=6)
        logits, trace = traced(forced, images, None)
        torch.testing.assert_close(logits, torch.cat([forced(image[None]) for image in images]), atol=2e-5, rtol=1e-5)
        assert {part.grid[0] for part in trace.layers} == {6, 3, 2}
        for part in trace.layers:
            assert part.fed[:, 0].all()
        assert not trace.layers[net.after[0]].fed[:, 35].any()


# The instruments work on it as on any method


@torch.no_grad()
def test_what_measures_a_method_measures_it_by_hand(tmp_path):
    net, images = ragged_spvit(), vitlab.data.shapes("val", n=4)
    forced = vitlab.Forced(net, drop=range(10))
    pixels = images.images(range(4))
    logits = forced(pixels)
    assert measure.answers(forced, images).prediction.tolist() == logits.argmax(-1).tolist()
    assert (vitlab.gmacs(forced, pixels) < vitlab.gmacs(net, pixels)).all()
    net = made("supervit")
    dense, fewer = (vitlab.gmacs(m, pixels[:1], net.Point(7, 1.0))[0] for m in (net, vitlab.Forced(net, drop=[1, 2, 3])))
    assert fewer < dense                                                   # at a point that drops nothing, too
    assert attribution.patches(vitlab.Forced(net, drop=[1]), pixels[0], net.Point(7, 0.5)).shape == (7, 7)
    cascade = vitlab.EarlyExit(net, (net.Point(7, 0.5), net.Point(7, 0.7)))
    forced = vitlab.Forced(cascade, drop=[1, 2])
    for stage, said in enumerate(forced.exits(pixels)):
        assert torch.equal(said, vitlab.Forced(net, drop=[1, 2])(pixels, cascade.stages[stage]))
        assert torch.equal(said, forced.through([stage])(pixels))
        assert torch.equal(said, forced.outcomes(pixels)[0][stage])
    many = vitlab.Forced(net, drop=[1, 2], grid=7)
    for point, said in zip(net.points, many.together(pixels, net.points), strict=True):
        torch.testing.assert_close(said, many(pixels, point), atol=1e-5, rtol=1e-5)
    assert len(list(forced.losses(pixels, torch.tensor([0, 1, 2, 3])))) > 0
    twin = deepcopy(forced)
    assert twin.exits.func.__self__ is twin and twin.check.__self__ is twin.method is not cascade
    for said in (forced, vitlab.EarlyExit(vitlab.Forced(net, [1]), cascade.stages)):
        with pytest.raises(ValueError, match="are forced already, and nobody could tell whose word counts"):
            vitlab.Forced(said, [2])
    with pytest.raises(ValueError, match="no fixed graph can hold"):
        vitlab.export(vitlab.Forced(net, [1]), tmp_path / "net.pt2", net.Point(7, 0.5))
    with pytest.raises(ValueError, match="is not what it was made as"):
        vitlab.save(vitlab.Forced(net, [1]), tmp_path / "net.safetensors")


# What contradicts itself


@pytest.mark.parametrize(("said", "words"), [
    ({"keep": [3, 4], "drop": [4, 5]}, "patch 4 cannot be kept and dropped at once; choose one of the two"),
    ({"keep": [49]}, "keep names patch 49, but the grid has 7x7 patches, 0 to 48"),
    ({"drop": [3, 60]}, "drop names patch 60, but the grid has 7x7 patches, 0 to 48"),
    ({"keep": range(30)}, "30 patches are kept by hand where 25 of 49 stay; keep fewer, or choose a point at which more stay"),
    ({"drop": range(49)}, "all 49 patches are dropped by hand, and nothing is left to look at; leave at least one"),
    ({"drop": torch.eye(5, 49) > 0}, "keep and drop tell 5 images apart, but 2 came here"),
    ({"drop": torch.arange(98).view(2, 49) < 30}, "of one image 19 patches would stay and of another 25"),
])
@torch.no_grad()
def test_what_contradicts_itself_is_one_sentence(said, words):
    net = made("supervit")
    with pytest.raises(ValueError) as caught:
        vitlab.Forced(net, **said)(pictures(2), net.Point(7, 0.5))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert net.forced is None                                              # over, whatever was raised


@pytest.mark.parametrize(("said", "words"), [
    ({"keep": 3}, "keep must be patch numbers, such as"), ({"drop": ["a"]}, "a patch in drop must be a whole number"),
    ({"keep": [1.5]}, "a patch in keep must be a whole number"), ({"keep": [-1]}, "a patch in keep must be a whole number"),
    ({"keep": [True] * 7}, "keep says yes or no of 7 patches, which is no square grid"),
    ({"keep": torch.ones(2, 16), "drop": []}, "not rows of anything else"),
    ({"keep": [True] * 16, "grid": 7}, "which is no square grid of 7x7"),
    ({"grid": 0}, "grid, the patches per side, must be a whole number"),
    ({"keep": [9], "grid": 3}, "keep names patch 9, but the grid has 3x3 patches, 0 to 8"),
    ({"keep": [3], "drop": [3], "grid": 3}, "patch 3 cannot be kept and dropped at once")])
def test_what_is_no_patch_is_refused_at_the_door(said, words):
    with pytest.raises(ValueError, match=".") as caught:
        vitlab.Forced(made("supervit"), **said)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["dense", "dvt", "revit", "tome", "adaptive_depth"])
def test_a_method_that_leaves_no_patch_out_says_so(name):
    net = vitlab.create(name, "micro_patch8", num_classes=10)
    with pytest.raises(ValueError, match="leaves no patch out, or has no attribute `forced` .*; take a net that drops"):
        vitlab.Forced(net, [3])
    with pytest.raises(ValueError, match="patches are forced in a method, not in a Linear"):
        vitlab.Forced(nn.Linear(2, 2), [3])


@torch.no_grad()
def test_compiled_it_answers_the_same():
    net, images = made("supervit"), pictures(2)
    point = net.Point(7, 0.5)
    fast = torch.compile(net, backend="eager")
    torch.testing.assert_close(fast(images, point), net(images, point))
    torch.testing.assert_close(vitlab.Forced(net, KEEP, DROP)(images, point), vitlab.Forced(fast, KEEP, DROP)(images, point))
    torch.testing.assert_close(fast(images, point), net(images, point))
