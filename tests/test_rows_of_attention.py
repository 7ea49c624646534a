"""Attention rows: each is the softmax, computed by hand, of the block's queries and keys with the tokens that are there."""
from contextlib import contextmanager

import pytest
import torch
from samples import pictures, small_pit
from test_depth import NETS, POINTS, made
from timm.layers import Attention

import vitlab
from vitlab import measure
from vitlab.block import attention, mlp, qkv
from vitlab.methods.spvit.prune import by_count, by_score
from vitlab.methods.supervit import Point as Sub
from vitlab.plots.pictures import looked_at

HEADS = 4


@contextmanager
def asked(net):
    """Queries and keys [H, T, d] of each block that runs meanwhile, as its attention gets them."""
    q, k, hooks = [], [], []
    for attn in [part for part in net.modules() if isinstance(part, Attention)]:
        hooks.append(attn.q_norm.register_forward_hook(lambda *given: q.append(given[2][0])))
        hooks.append(attn.k_norm.register_forward_hook(lambda *given: k.append(given[2][0])))
    yield q, k
    for hook in hooks:
        hook.remove()


def softmax(q, k, bias=0.0):
    """Every row by hand, [H, T, T]."""
    return ((q @ k.mT) / q.shape[-1] ** 0.5 + bias).softmax(-1)


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5, equal_nan=True)


@torch.no_grad()
def test_of_a_dense_net_they_are_rows_of_the_whole_softmax():
    net, image = made("dense"), pictures(1)
    with asked(net) as (q, k):
        net(image, None, vitlab.Trace())
    for place in range(len(q)):
        by_hand = softmax(q[place], k[place])
        for patch in (0, 20, 48):
            rows = measure.attention_rows(net, image, patch, place=place)
            same(rows.cls, by_hand[:, 0, 1:])
            same(rows.patch, by_hand[:, 1 + patch, 1:])
            assert rows.block.layer == place and rows.patch.shape == (HEADS, 49)


@torch.no_grad()
def test_of_a_net_that_drops_they_are_over_the_tokens_that_are_there_and_blank_elsewhere():
    net, image, point = made("supervit"), pictures(1), Sub(7, 0.5)
    x, ids, kept, blank = net.patchify(image, 7), net.numbers(image, 7), net.schedule(point), 0
    for layer, block in enumerate(net.vit.blocks):
        q, k, v = qkv(block, x)
        by_hand, here = softmax(q[0], k[0]), ids[0].tolist()
        for patch in range(0, 49, 5):
            rows = measure.attention_rows(net, image, patch, point, place=layer)
            full = torch.full((HEADS, 49), torch.nan)
            full[:, here] = by_hand[:, 0, 1:]
            same(rows.cls, full)
            assert (rows.patch is None) == (patch not in here)
            if patch in here:
                full[:, here] = by_hand[:, 1 + here.index(patch), 1:]
                same(rows.patch, full)
            blank += int(rows.cls.isnan().any())
        x = x + attention(block, q, k, v)
        if layer in kept:
            x, ids = net.drop(x, ids, net.score(q, k), kept[layer], 7)
        x = x + mlp(block, x)
    assert blank


@torch.no_grad()
def test_of_merged_tokens_every_patch_has_its_share_and_asks_as_its_token():
    net, image = made("tome"), pictures(1)
    point, trace = net.Point(8), vitlab.Trace()
    with asked(net) as (q, k):
        net(image, point, trace)
    for place, part in enumerate(trace.layers):
        source = torch.arange(49) if place == 0 else trace.layers[place - 1].source[0]
        count = source.bincount(minlength=49)
        told = [stands for stands in range(49) if count[stands]]           # each token once, by the patch that stands for it
        whose, weights = {}, []
        for stands in told:
            rows = measure.attention_rows(net, image, stands, point, place=place)
            whose[stands] = rows.patch
            weights.append(rows.cls[:, source == stands].sum(1))
        bias = torch.zeros(q[place].shape[1])
        if place:
            size = sizes(net, image, point, place)
            bias = size.log()
            assert sorted(size[1:].tolist()) == sorted(count[count > 0].tolist())
        by_hand = softmax(q[place], k[place], bias)
        same(torch.stack(weights, 1).sort(1).values, by_hand[:, 0, 1:].sort(1).values)
        rows_by_hand = by_hand[:, 1:, 1:].mean(0).sum(1).sort().values     # of each token, what it gives to patches
        same(torch.stack([asks.mean(0).sum() for asks in whose.values()]).sort().values, rows_by_hand)
        for patch in (3, 30):
            rows = measure.attention_rows(net, image, patch, point, place=place)
            same(rows.patch, whose[int(source[patch])])
            for row in (rows.cls, rows.patch):                             # those of a token have the same
                same(row, row[:, source])
    assert int(count.max()) > 1


def sizes(net, image, point, place):
    """How many patches are in each token that comes to a block, [T], from what its attention is given."""
    seen, real = [], torch.nn.functional.scaled_dot_product_attention
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention",
                      lambda *given, attn_mask=None, **told: seen.append(attn_mask) or real(*given, attn_mask=attn_mask, **told))
        net(image, point, vitlab.Trace())
    return seen[place][0, 0, 0].exp()


@torch.no_grad()
def test_what_a_cascade_hands_on_is_in_them(monkeypatch):
    net, image = made("dvt", grids=(4, 7)), pictures(1)
    trace, biases, real = vitlab.Trace(), [], net.stages[1].relations.bias
    monkeypatch.setattr(net.stages[1].relations, "bias", lambda *given: biases.append(real(*given)) or biases[-1])
    with asked(net) as (q, k):
        net(image, None, trace)
    depth = len(net.vit.blocks)
    assert len(trace.layers) == 2 * depth
    for place in (0, depth, 2 * depth - 1):
        bias = 0.0 if place < depth or biases[place - depth] is None else biases[place - depth]()[0]
        by_hand, side = softmax(q[place], k[place], bias), trace.layers[place].grid[0]
        rows = measure.attention_rows(net, image, 2, place=place, grid=side)
        same(rows.cls, by_hand[:, 0, 1:])
        same(rows.patch, by_hand[:, 3, 1:])
    assert any(bias is not None for bias in biases)


def svit_order(net, image):
    """Which patch each token of each block is, in the block's own order; -1 for the class token."""
    t, rule = net.first(image), net.rule(net.check(None))
    for layer in range(len(net.vit.blocks)):
        t = net.gated(layer, t, rule)
        yield torch.arange(-1, 49) if t.who is None else t.who.index[0] - 1
        t = net.block(layer, t)


def spvit_order(net, image):
    """The same, negative for class token and packages."""
    for layer in range(len(net.vit.blocks)):
        stop = layer + 1 if layer + 1 < len(net.vit.blocks) else None
        select = by_score if net.adaptive else by_count
        yield net.tokens(image, select, net.rule(net.check(None)), stop, vitlab.Trace()).ids[0]


@pytest.mark.parametrize(("name", "order"), [
    ("svit", svit_order), ("svit-ragged", svit_order), ("spvit", spvit_order), ("spvit-ragged", spvit_order)])
@torch.no_grad()
def test_whoever_takes_part_asks_and_is_asked(name, order):
    net, image = NETS[name](), pictures(1)
    numbers = list(order(net, image))
    with asked(net) as (q, k):
        net(image, None, vitlab.Trace())
    absent = 0
    for place, ids in enumerate(numbers):
        by_hand, patch_at = softmax(q[place], k[place]), ids >= 0
        assert len(ids) == by_hand.shape[1]
        for patch in range(49):
            rows = measure.attention_rows(net, image, patch, place=place)
            asks = (ids == patch).nonzero()
            assert (rows.patch is None) == (len(asks) == 0)
            absent += rows.patch is None
            looks = (ids < 0).nonzero()
            for row, at in ((rows.patch, asks), (rows.cls, looks)):
                full = torch.full((HEADS, 49), torch.nan)
                if row is not None:
                    full[:, ids[patch_at]] = by_hand[:, int(at[0])][:, patch_at]
                    same(row, full)
    assert absent


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_the_mean_of_the_heads_is_what_a_trace_says_of_the_class_token(name):
    net, image, point, trace = NETS[name](), pictures(1), POINTS.get(name), vitlab.Trace()
    net(image, point, trace)
    for place in range(len(trace.layers)):
        rows = measure.attention_rows(net, image, 0, point, place=place)
        weight, alive = (torch.from_numpy(part) for part in looked_at(trace.layers, place, 0))
        assert rows.block.place == trace.layers[place].place
        if rows.cls is None:
            assert not weight.any()
            continue
        same(rows.cls.mean(0).nan_to_num(), weight * alive)
        assert torch.equal(~rows.cls[0].isnan(), alive)
    same(measure.attention_rows(net, image, 0, point).cls, rows.cls)       # the last is the last


@torch.no_grad()
def test_a_pit_has_them_on_the_grid_of_each_stage(monkeypatch):
    small_pit(monkeypatch)
    net, image, trace = made("dense", "pit_tiny", image_size=56), pictures(1), vitlab.Trace()
    with asked(net) as (q, k):
        net(image, None, trace)
    for place, part in enumerate(trace.layers):
        side = part.grid[0]
        rows = measure.attention_rows(net, image, 35, place=place)         # the last of 6 x 6
        same(rows.patch, softmax(q[place], k[place])[:, -1, 1:])
        assert rows.patch.shape[1] == side ** 2
