"""DVT's attention by few images at a time, and its finer grids as sums, are the equations for the whole batch."""
import threading

import pytest
import torch
from samples import pictures

import vitlab
from vitlab import backbones, block
from vitlab.methods.dvt import dvt, related
from vitlab.methods.dvt.enlarge import Enlarge, Sums

TOKENS = 26


@pytest.fixture
def taken():
    """A block, its queries, keys and values of five images, and relations on a grid of 4 x 4."""
    torch.manual_seed(0)
    part = backbones.create("micro_patch8").blocks[0].eval()
    with torch.no_grad():
        q, k, v = block.qkv(part, torch.randn(5, TOKENS, part.attn.qkv.in_features))
    return part, q, k, v, torch.randn(5, q.shape[1], 17, 17), Enlarge(4, 5, 1)


@torch.no_grad()
@pytest.mark.parametrize("few", [1, 2, 3, 5, 99])
@pytest.mark.parametrize("reuses", [True, False])
@pytest.mark.parametrize("hands_on", [True, False])
def test_few_images_at_a_time_are_the_whole_batch(monkeypatch, taken, few, reuses, hands_on):
    part, q, k, v, low, enlarge = taken
    asked = []

    def bias(rows=slice(None)):
        asked.append(len(low[rows]))
        return enlarge.both(low[rows])

    monkeypatch.setattr(related, "CACHE", few * 4 * q.shape[1] * TOKENS ** 2 // 2)
    mine, truth = related.Handed(2), related.Handed(2)
    for added in (bias if reuses else None, None):                         # two blocks
        here = related.related(part, q, k, v, added, mine if hands_on else None)
        there = related.by_the_book(part, q, k, v, added, truth if hands_on else None)
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)
    if hands_on:
        torch.testing.assert_close(mine.all(), truth.all(), atol=1e-5, rtol=1e-5)
        assert mine.all().shape == (5, 2 * q.shape[1], TOKENS, TOKENS)
        assert mine.all() is mine.whole                                    # written where it stands, not copied
    else:
        assert mine.all() is None
    assert not reuses or max(asked[:-1]) <= few and sum(asked[:-1]) == 5   # the last one was the book's


@pytest.mark.parametrize("grids", [(4, 7), (4, 5, 7)])
@pytest.mark.parametrize("knobs", [{}, {"relation_layers": "deep"}, {"relation_source": "final"}, {"upsample": "naive"},
                                   {"upsample": "official"}, {"features": False}, {"relations": False}])
def test_a_cascade_says_the_same_with_and_without_gradients(monkeypatch, grids, knobs):
    torch.manual_seed(0)
    net, images = vitlab.create("dvt", "micro_patch8", num_classes=10, grids=grids, **knobs).eval(), pictures(5)
    truth = [logits.detach() for logits in net.exits(images)]
    monkeypatch.setattr(related, "CACHE", 60_000)                          # one image of the last stage, a few of the others
    with torch.inference_mode():
        for mine, theirs in zip(net.exits(images), truth, strict=True):
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(("few", "groups"), [(1, [1] * 5), (2, [2, 2, 1]), (4, [3, 2]), (5, [5])])
def test_a_cascade_goes_by_groups_whose_relations_have_room(monkeypatch, few, groups):
    torch.manual_seed(0)
    net, images = vitlab.create("dvt", "micro_patch8", num_classes=10).eval(), pictures(5)
    up = net.stages[1](images, net.stages[0](images, None)[1])[1]
    assert net.handed() == 4 * up.relations[0].numel()
    scores = next(iter(net.exits(images))).softmax(-1).amax(-1).sort().values
    point, seen = net.Point((scores[1:3].mean().item(), 0.99)), []         # some leave, some stay
    trace, real = vitlab.Trace(), dvt.Stage.forward
    truth = net(images, point, trace)
    assert 0 < trace.exit.gt(0).sum() < 5
    monkeypatch.setattr(dvt, "ROOM", few * net.handed())
    monkeypatch.setattr(dvt.Stage, "forward", lambda stage, x, *rest: seen.append((stage, len(x))) or real(stage, x, *rest))
    torch.testing.assert_close(net(images, point), truth, atol=1e-5, rtol=1e-4)
    assert [n for stage, n in seen if stage is net.stages[0]] == groups
    seen.clear()
    hook = net.vit.blocks[0].register_forward_hook(lambda *_: None)
    net(images, point)
    assert [n for stage, n in seen if stage is net.stages[0]] == [5]       # who looks sees the whole batch
    hook.remove()


@torch.inference_mode()
def test_in_half_precision_it_is_the_equations_to_its_rounding(monkeypatch):
    torch.manual_seed(0)
    net, images = vitlab.create("dvt", "micro_patch8", num_classes=10).eval(), pictures(5)
    truth = list(net.exits(images))
    with torch.autocast("cpu", torch.bfloat16):
        monkeypatch.setattr(related, "CACHE", 60_000)
        mine = list(net.exits(images))
        monkeypatch.setattr(dvt, "related", related.by_the_book)
        book = list(net.exits(images))
    for here, there, full in zip(mine, book, truth, strict=True):
        assert (here - full).abs().max() <= 1.5 * (there - full).abs().max() + 0.02 * full.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("hands_on", [True, False])
def test_no_images_have_no_attention(taken, hands_on):
    part, q, k, v, low, enlarge = taken
    handed = related.Handed(1) if hands_on else None
    update = related.related(part, q[:0], k[:0], v[:0], lambda rows=slice(None): enlarge.both(low[:0][rows]), handed)
    assert update.shape == (0, TOKENS, part.attn.qkv.in_features)


@torch.no_grad()
def test_whoever_hooks_the_attentions_weights_sees_those_of_the_whole_batch(taken):
    part, q, k, v, low, enlarge = taken
    seen = []
    hook = part.attn.attn_drop.register_forward_hook(lambda _, given, out: seen.append(out.shape))
    related.related(part, q, k, v, None, related.Handed(1))
    hook.remove()
    assert seen == [(5, q.shape[1], TOKENS, TOKENS)]


class TestSums:
    @pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 5), (7,)])
    def test_are_the_matrix(self, lead):
        matrix = torch.rand(9, 6) * (torch.rand(9, 6) > 0.6)
        matrix[4] = 0                                                      # a row of nothing
        sums, x = Sums(matrix), torch.randn(*lead, 6, 4)
        torch.testing.assert_close(sums(x), matrix @ x, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(sums(x[..., :2]), matrix @ x[..., :2], atol=1e-6, rtol=1e-5)

    def test_of_none_is_none(self):
        assert Sums(torch.eye(3))(torch.randn(0, 3, 4)).shape == (0, 3, 4)

    def test_many_threads_that_want_more_and_more_get_theirs(self):
        matrix, wrong = torch.rand(9, 6), []
        sums = Sums(matrix)

        def ask(seed: int) -> None:
            for n in torch.randint(1, 300, (40,), generator=torch.Generator().manual_seed(seed)).tolist():
                x = torch.randn(n, 6, 2)
                if not torch.allclose(sums(x), matrix @ x, atol=1e-5):
                    wrong.append(n)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong

    def test_what_was_made_without_gradients_serves_later(self):
        sums = Sums(torch.rand(9, 6))
        with torch.inference_mode():
            sums(torch.randn(8, 6, 2))
        x = torch.randn(8, 6, 2, requires_grad=True)
        with torch.no_grad():
            torch.testing.assert_close(sums(x.detach()), sums(x), atol=0, rtol=0)
