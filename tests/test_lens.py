"""One patch from inside: the lens is the head applied by hand to its token as it was when it left."""
from functools import partial
from math import isqrt

import pytest
import torch
from samples import pictures, small_pit
from test_depth import NETS, POINTS, made

import vitlab
from vitlab import backbones, measure
from vitlab.block import attention, mlp, qkv
from vitlab.merging import followed, match, merge, standing
from vitlab.methods.spvit.prune import by_count, by_score
from vitlab.methods.supervit import Point as Sub


def read(net, image, patch, point=None, **told):
    """What the lens says, as logits [K], and in which layer and after what."""
    rows = measure.lens(net, image, patch, point, **told)
    torch.testing.assert_close(torch.tensor(rows.logit.to_numpy()).softmax(-1), torch.tensor(rows.probability.to_numpy()))
    return torch.tensor(rows.logit.to_numpy()), rows.layer[0], rows.after[0]


def same(one, other):
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


def last_tokens(vit, run):
    """What the last norm is given by a pass that computes every token."""
    seen = []
    hooks = [norm.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for norm in vit.norm.modules()]
    run(vitlab.Trace())
    for hook in hooks:
        hook.remove()
    return seen[-1][0]


@torch.no_grad()
def test_of_a_dense_net_it_is_the_head_on_the_token_after_the_last_block():
    net, image = made("dense"), pictures(1)
    x = backbones.embed(net.vit, image)
    for block in net.vit.blocks:
        x = block(x)
    by_hand = net.vit.head(net.vit.norm(x))[0, 1:]                         # [N, K] head and norm take each token by itself
    for patch in range(49):
        logits, layer, after = read(net, image[0] if patch % 2 else image, patch)
        same(logits, by_hand[patch])
        assert (layer, after) == (len(net.vit.blocks), "mlp")


@pytest.mark.parametrize("point", [Sub(7, 0.5), Sub(4, 0.7)], ids=str)
@torch.no_grad()
def test_of_a_net_that_drops_it_is_the_head_on_the_token_where_it_was_dropped(point):
    net, image, left = made("supervit"), pictures(1), {}
    x, ids, kept = net.patchify(image, point.length), net.numbers(image, point.length), net.schedule(point)
    for layer, block in enumerate(net.vit.blocks):
        q, k, v = qkv(block, x)
        x, before = x + attention(block, q, k, v), ids
        if layer in kept:
            y, ids = net.drop(x, ids, net.score(q, k), kept[layer], point.length)
            left |= {patch: (x[0, 1 + n], layer + 1, "attention") for n, patch in enumerate(before[0].tolist())
                     if patch not in ids[0].tolist()}
            x = y
        x = x + mlp(block, x)
    left |= {patch: (x[0, 1 + n], len(net.vit.blocks), "mlp") for n, patch in enumerate(ids[0].tolist())}
    assert len(left) == point.length ** 2 and len({layer for _, layer, _ in left.values()}) > 1
    for patch, (token, *where) in left.items():
        logits, *told = read(net, image, patch, point)
        same(logits, net.vit.head(net.vit.norm(token)))
        assert told == where


@pytest.mark.parametrize("name", ["spvit", "spvit-ragged"])
@torch.no_grad()
def test_of_a_package_it_is_the_head_on_the_token_that_came_to_the_selector(name):
    net, image = NETS[name](), pictures(1)
    point = net.check(None)
    select, rule = by_score if net.adaptive else by_count, net.rule(point)
    left = {}
    for block in (*rule, None):
        t = net.tokens(image, select, rule, block, vitlab.Trace())         # as they come to the block, or to the head
        depth = len(net.vit.blocks) if block is None else block
        left |= {int(patch): (t.x[0, n], depth) for n, patch in enumerate(t.ids[0]) if patch >= 0}      # the last that is there
    assert len({layer for _, layer in left.values()}) > 1
    for patch, (token, layer) in left.items():
        logits, *told = read(net, image, patch, point)
        same(logits, net.vit.head(net.vit.norm(token)))
        assert told == [layer, "mlp"]


@pytest.mark.parametrize(("name", "knobs"), [
    ("svit", {}), ("svit-ragged", {}), ("svit", {"pruned": "inherit"}), ("svit", {"pruned": "discard"})], ids=str)
@torch.no_grad()
def test_of_who_is_left_out_of_blocks_it_is_the_head_on_what_it_was_since(name, knobs):
    net, image = made(name, **knobs) if knobs else NETS[name](), pictures(1)
    left, t, rule = {}, net.first(image), net.rule(net.check(None))
    for layer in range(len(net.vit.blocks)):
        t = net.block(layer, net.gated(layer, t, rule))
        left |= {int(n): (t.x[0, n], layer + 1) for n in t.takes_part()[0].nonzero()[:, 0]}
    assert len({layer for _, layer in left.values()}) > 1
    for patch in range(49):
        token, where = left[1 + patch]
        logits, *told = read(net, image, patch)
        same(logits, net.vit.head(net.vit.norm(token)))
        assert told == [where, "mlp"]
        if not knobs:
            same(token, net.features(image)[0][0, 1 + patch])              # nothing becomes of it afterwards


@pytest.mark.parametrize("backbone", ["micro_patch8", "micro_patch8_gap"])
@torch.no_grad()
def test_of_a_token_that_is_merged_it_is_the_head_on_what_it_was_before(backbone):
    net, image, left = made("tome", backbone), pictures(1), {}
    point, extra, vit = net.check(net.Point(8)), net.vit.num_prefix_tokens, net.vit
    x, size = backbones.embed(vit, image), None
    place = torch.arange(extra, x.shape[1])[None]
    for layer, (block, gone) in enumerate(zip(vit.blocks, net.schedule(point), strict=True)):
        q, k, v = qkv(block, x)
        x = x + attention(block, q, k, v, None if size is None else size.log().mT[:, None])
        here, before, who = standing(place, x.shape[1], extra)[0].tolist(), x, match(k, gone, extra)
        place = followed(place, who, x.shape[1])
        x, size = merge(x, size, who)
        x = x + mlp(block, x)
        there = standing(place, x.shape[1], extra)[0].tolist()
        left |= {patch: (x[0, extra + there.index(patch)], layer + 1, "mlp") if patch in there else
                 (before[0, extra + here.index(patch)], layer + 1, "attention") for patch in here}
    assert {after for *_, after in left.values()} == {"mlp", "attention"}
    for patch, (token, *where) in left.items():
        logits, *told = read(net, image, patch, point)
        same(logits, vit.head(vit.fc_norm(vit.norm(token))))
        assert told == where


@torch.no_grad()
def test_a_cascade_reads_it_by_the_stage_that_answered():
    net, image = made("dvt", grids=(4, 7)), pictures(1)
    for exit, side in ((0, 4), (1, 7)):
        point = net.Point((float(exit),))
        vit = net.stages[exit].vit
        tokens = last_tokens(vit, partial(net, image, point))
        for patch in (0, 5, side ** 2 - 1):
            same(read(net, image, patch, point, grid=side)[0], vit.head(vit.norm(tokens[1 + patch])))
        rows = measure.lens(net, image, 5, point, grid=4)                  # on another grid, what lies in its middle
        here = 5 if side == 4 else int(1.5 / 4 * 7) * 7 + int(1.5 / 4 * 7)
        same(torch.tensor(rows.logit.to_numpy()), vit.head(vit.norm(tokens[1 + here])))
        assert set(rows.stage) == {exit}


@torch.no_grad()
def test_an_exit_along_the_depth_reads_it_by_its_own_classifier():
    net, image = made("adaptive_depth", exits=(1, 2)), pictures(1)
    x = backbones.embed(net.vit, image)
    for exit, block in enumerate(net.vit.blocks[:2]):
        x = block(x)
        thresholds = (1.0,) * exit + (0.0,) * (2 - exit)
        for patch in (0, 17, 48):
            same(read(net, image, patch, net.Point(thresholds))[0], net.heads[exit](x[0, 1 + patch]))


@torch.no_grad()
def test_an_early_exit_reads_it_by_the_stage_that_answered():
    net, image = NETS["exits"](), pictures(1)
    for threshold, side in ((0.0, 4), (1.0, 7)):
        for patch in (0, 9):
            same(read(net, image, patch, net.Point(threshold), grid=side)[0], read(net.method, image, patch, Sub(side, 0.5))[0])


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("knobs", [{}, {"dist_token": "deit", "head_per_length": True}, {"norm": "shared"}], ids=str)
@torch.no_grad()
def test_each_length_reads_it_by_its_own_norm_and_heads(knobs, attached):
    net, image = made("revit", lengths=(7, 4), **knobs), pictures(1)
    if attached:
        net.attach(vitlab.TLA(2, 56).eval())
    for length in net.lengths:
        tokens = net.run(image, length)[0]
        alone = tokens[:, -3:-2].expand_as(tokens)                         # one patch in the place of all
        by_hand = net.logits(alone, length)
        same(read(net, image, length ** 2 - 3, net.Point(length), grid=length)[0], sum(by_hand)[0] / 2)


@torch.no_grad()
def test_a_second_head_reads_the_same_token():
    net, image = vitlab.create("dense", "lvvit_tiny", num_classes=10, image_size=64).eval(), pictures(1, 64)
    token = net.vit.norm(last_tokens(net.vit, lambda trace: net(image, None, trace))[1 + 6])
    same(read(net, image, 6)[0], net.vit.head(token) + net.vit.aux_weight * net.vit.aux_head(token))


@torch.no_grad()
def test_a_pit_reads_what_is_there_in_its_last_stage_and_nothing_of_another_width(monkeypatch):
    small_pit(monkeypatch)
    net, image = made("dense", "pit_tiny", image_size=56), pictures(1)
    seen = []
    hook = list(backbones.blocks(net.vit))[-1].drop_path2.register_forward_hook(lambda *given: seen.append(given))
    logits = [read(net, image, patch, grid=2)[0] for patch in range(4)]
    hook.remove()
    x, side = backbones.embed(net.vit, image), isqrt(net.vit.pos_embed.shape[2] * net.vit.pos_embed.shape[3])
    for stage in backbones.stages(net.vit):
        x, side = backbones.pool(stage, x, side), stage.side
        for block in stage.blocks.values():
            x = block(x)
    for patch in range(4):
        same(logits[patch], net.vit.head(net.vit.norm(x[0, 1 + patch])))
    narrow = made("spvit", "pit_tiny", image_size=56, persist=True, keep=(0.3, 0.2), after=(1, 3))
    found = [measure.lens(narrow, image, patch, grid=6) for patch in range(36)]
    assert {len(rows) for rows in found} == {0, 10}                        # dropped for good at a third of the width: not read


@pytest.mark.parametrize("name", NETS)
def test_it_leaves_the_net_as_it_was(name):
    net, image, point = NETS[name](), pictures(1), POINTS.get(name)
    with torch.no_grad():
        before = net(image, point)
        assert not measure.lens(net, image, 0, point).empty
        measure.attention_rows(net, image, 0, point)
        assert torch.equal(net(image, point), before)
    assert not [part for part in net.modules() if part._forward_hooks or part._forward_pre_hooks]


def test_a_patch_that_never_took_part_is_not_read():
    net, image = made("svit", first=1), pictures(1)
    empty = [measure.lens(net, image, patch).empty for patch in range(49)]
    assert any(empty) and not all(empty)


@pytest.mark.parametrize("look", [measure.lens, measure.attention_rows])
def test_bad_patches_are_refused_in_a_sentence(look):
    net = made("supervit")
    with pytest.raises(ValueError, match="looks at one image .* give images"):
        look(net, pictures(2), 0)
    with pytest.raises(ValueError, match="patch must be a whole number from 0 to 48, not 49"):
        look(net, pictures(1), 49)
    with pytest.raises(ValueError, match="grid, the patches per side, must be a whole number from 1"):
        look(net, pictures(1), 0, grid=0)
    with pytest.raises(ValueError, match="place, a block that the image went through"):
        measure.attention_rows(net, pictures(1), 0, place=9)
