"""ToMe: what it is equal to first, then its counts, its source map, and what it does to a trained net."""
import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from samples import pictures, sharpen
from timm.models.vision_transformer import VisionTransformer

import vitlab
from vitlab import backbones, plots, schedules
from vitlab.backbones import by_the_book
from vitlab.merging import followed, match, merge, standing
from vitlab.methods.tome import Point, ToMe
from vitlab.plots import overlay
from vitlab.schedules import Scheduled, published
from vitlab.widgets.view import View

ROOT = Path(__file__).resolve().parents[1]
PICTURE = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)


def vit(**settings):
    """36 patches, 3 blocks."""
    small = {"img_size": 24, "patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    return sharpen(VisionTransformer(**small | settings), 8.0).eval()


def still(net):
    """No block changes a token, so that what comes out is what was merged."""
    with torch.no_grad():
        for block in net.vit.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
    return net


def tokens_at_the_end(net, images, point, trace=None):
    """What comes to the last norm, [B, T', D]."""
    seen = []
    handle = net.vit.norm.register_forward_hook(lambda part, given, _: seen.append(given[0]))
    with torch.no_grad(), by_the_book():
        net(images, point, trace)
    handle.remove()
    return seen[0]


# Equalities

@pytest.mark.parametrize("settings", [
    {}, {"init_values": 0.1}, {"qk_norm": True}, {"reg_tokens": 1}, {"reg_tokens": 4}, {"pre_norm": True},
    {"class_token": False, "global_pool": "avg", "fc_norm": False},
    {"class_token": False, "global_pool": "avg", "reg_tokens": 2, "fc_norm": True}], ids=str)
@torch.no_grad()
def test_with_nothing_merged_it_is_timms_net(settings):
    net, images = ToMe(vit(**settings)), pictures(2, 24)
    with by_the_book():
        assert torch.equal(net(images, Point(0)), net.vit(images))
        assert not torch.allclose(net(images), net.vit(images), atol=1e-4)
        one_by_one = torch.cat([net(image[None]) for image in images])
        torch.testing.assert_close(net(images), one_by_one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(net(images), one_by_one, atol=1e-5, rtol=1e-5)       # the shortcut of the last block


def by_the_paper(vit, image, r, proportional=True):
    """Sec. 3, one image [3, S, S], token by token, in the order of the official code: logits [K], the patches of each token."""
    prefix, heads = vit.num_prefix_tokens, vit.blocks[0].attn.num_heads
    x = backbones.embed(vit, image[None])[0]
    groups = [[] for _ in range(prefix)] + [[n] for n in range(len(x) - prefix)]
    for block in vit.blocks:
        q, k, v = block.attn.qkv(block.norm1(x)).unflatten(1, (3, heads, -1)).permute(1, 2, 0, 3)
        s = torch.tensor([max(len(group), 1) for group in groups], dtype=x.dtype)
        logits = q @ k.mT / k.shape[-1] ** 0.5 + (s.log() if proportional else 0)    # Eq. 1
        x = x + block.attn.proj((logits.softmax(-1) @ v).transpose(0, 1).flatten(1))
        key = k.mean(0)
        a, b = [n for n in range(len(x)) if n % 2 == 0], [n for n in range(len(x)) if n % 2]
        pairs = []
        for n in a[(prefix + 1) // 2:]:
            like = {m: torch.cosine_similarity(key[n], key[m], 0).item() for m in b[prefix // 2:]}
            partner = max(like, key=like.get)
            pairs.append((like[partner], n, partner))
        pairs = sorted(pairs, reverse=True)[:min(r, (len(x) - prefix) // 2)]
        total, groups, gone = x * s[:, None], [list(group) for group in groups], {n for _, n, _ in pairs}
        for _, n, partner in pairs:
            total[partner] += x[n] * s[n]
            groups[partner] += groups[n]
        order = [*range(prefix), *(n for n in a if n >= prefix and n not in gone), *(n for n in b if n >= prefix)]
        groups = [groups[n] for n in order]
        x = total[order] / torch.tensor([max(len(group), 1) for group in groups])[:, None]
        x = x + block.mlp(block.norm2(x))
    return vit.head(vit.norm(x)[0]), groups[prefix:]


@pytest.mark.parametrize("prefix", [1, 2, 3, 4])
@pytest.mark.parametrize(("r", "proportional"), [(3, True), (8, True), (18, True), (8, False)])
@torch.no_grad()
def test_it_is_the_papers_algorithm(prefix, r, proportional):
    net, images = ToMe(vit(reg_tokens=prefix - 1), proportional=proportional), pictures(3, 24)
    trace = vitlab.Trace()
    logits = net(images, Point(r), trace)
    for row, image in enumerate(images):
        expected, groups = by_the_paper(net.vit, image, r, proportional)
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-4)
        found: dict[int, list[int]] = {}
        for patch, stands in enumerate(trace.layers[-1].source[row].tolist()):
            found.setdefault(stands, []).append(patch)
        assert sorted(found.values()) == sorted(map(sorted, groups))


@torch.no_grad()
def test_it_is_the_published_schedule_of_its_counts():
    net, images = sharpen(vitlab.create("tome", "micro_patch8", 10)).eval(), pictures(3)
    fed = [50 - sum(net.schedule()[:layer + 1]) for layer in range(4)]
    other = Scheduled(net.vit, [50, *fed[:-1]], fed, "merge").eval()
    torch.testing.assert_close(net(images), other(images), atol=1e-6, rtol=0)


@torch.no_grad()
def test_pictures_all_of_one_patch_are_answered_alike_however_much_is_merged():
    """Proportional attention: equal tokens merged into one leave everybody's attention as it was."""
    net = ToMe(vit())
    net.vit.pos_embed.zero_()
    images = torch.randn(2, 3, 1, 1).expand(2, 3, 24, 24)
    for point in net.points:
        torch.testing.assert_close(net(images, point), net.vit(images), atol=1e-5, rtol=1e-5)
    plain = ToMe(net.vit, proportional=False)
    assert not torch.allclose(plain(images, plain.points[0]), net.vit(images), atol=1e-4)


@torch.no_grad()
def test_the_mean_of_all_patches_is_theirs_however_they_were_merged():
    net, images = still(ToMe(vit(class_token=False, global_pool="avg", fc_norm=False))), pictures(2, 24)
    tokens = backbones.embed(net.vit, images)
    mean = net.vit.head(net.vit.fc_norm(tokens.mean(1)))
    net.vit.norm = torch.nn.Identity()
    for point in net.points:
        torch.testing.assert_close(net(images, point), mean, atol=1e-5, rtol=1e-5)
    trace = vitlab.Trace()
    net(images, None, trace)
    for part in trace.layers:
        torch.testing.assert_close(part.cls.sum(1), torch.ones(2))         # the mean of all tokens' attention
        assert part.extra.tolist() == [0, 0]


# Counts

@pytest.mark.parametrize("backbone", ["deit_tiny", "deit_small"])
def test_counts_and_cost_are_those_of_the_paper(backbone):
    row = published().query("method == 'tome' and backbone == @backbone").iloc[0]
    with torch.device("meta"):
        net = vitlab.create("tome", backbone).eval()
        cost = vitlab.gmacs(net, torch.zeros(1, 3, 224, 224))[0]
    assert net.check(None) == Point(13)
    gone = net.schedule()
    assert tuple(197 - sum(gone[:layer + 1]) for layer in range(12)) == row.fed
    assert tuple(197 - sum(gone[:layer]) for layer in range(12)) == row.attended
    assert cost == pytest.approx(row.gmacs, rel=0.005)                     # ours counts the products that find the pairs, too
    assert [point.r for point in net.points] == [16, 13, 11, 8, 6, 3, 0]


def test_a_block_merges_at_most_half_of_its_patches():
    net = vitlab.create("tome", "micro_patch8", 10)
    assert net.schedule(Point(24)) == (24, 12, 6, 3)
    with pytest.raises(ValueError, match="r, the tokens merged per block, must be a whole number from 0 to 24, not 25"):
        net(pictures(1), Point(25))


def test_a_decreasing_schedule_merges_early():
    net = vitlab.create("tome", "deit_tiny", decreasing=True)
    assert net.schedule() == (26, 23, 21, 18, 16, 14, 11, 9, 7, 4, 2, 0)   # the official parse_r(12, (13, -1))
    plain = vitlab.create("tome", "deit_tiny")
    image = pictures(1, 224)
    assert vitlab.gmacs(net, image)[0] < 0.93 * vitlab.gmacs(plain, image)[0]
    assert net.schedule(Point(0)) == (0,) * 12
    assert ToMe(vit(depth=1), decreasing=True).schedule(Point(5)) == (5,)


@pytest.mark.parametrize("prefix", [0, 1, 2, 3])
@pytest.mark.parametrize("tokens", [4, 5, 6, 9, 12])
def test_merging_loses_nothing_and_keeps_the_prefix(tokens, prefix):
    x, k = torch.randn(2, tokens, 6), torch.randn(2, 2, tokens, 3)
    for gone in range((tokens - prefix) // 2 + 1):
        who = match(k, gone, prefix)
        once, size = merge(x, None, who)
        assert once.shape == (2, tokens - gone, 6)
        torch.testing.assert_close((once * size).sum(1), x.sum(1), atol=1e-5, rtol=1e-5)
        assert torch.equal(once[:, :prefix], x[:, :prefix])
        place = followed(torch.arange(prefix, tokens).expand(2, -1), who, tokens)
        counts = torch.stack([row.bincount(minlength=tokens - gone) for row in place])[:, prefix:]
        assert torch.equal(counts, size[:, prefix:, 0].long())
        stands = standing(place, tokens - gone, prefix)
        assert torch.equal(place.gather(1, stands), torch.arange(prefix, tokens - gone).expand(2, -1))


# The source map

@pytest.mark.parametrize("settings", [{}, {"reg_tokens": 3}], ids=str)
def test_tokens_are_the_means_of_the_patches_that_their_source_map_names(settings):
    net, images, trace = still(ToMe(vit(**settings))), pictures(2, 24), vitlab.Trace()
    prefix = net.vit.num_prefix_tokens
    end = tokens_at_the_end(net, images, None, trace)
    first = backbones.embed(net.vit, images).detach()
    assert torch.equal(end[:, :prefix], first[:, :prefix])
    for row, source in enumerate(trace.layers[-1].source):
        means = torch.stack([first[row, prefix:][source == patch].mean(0) for patch in source.unique()])
        mine = end[row, prefix:]
        near = torch.cdist(means, mine)
        assert near.amin(1).max() < 1e-3 and near.argmin(1).unique().numel() == len(mine) == len(means)


@torch.no_grad()
def test_the_trace_says_of_every_block_who_is_in_which_token():
    net, trace = sharpen(vitlab.create("tome", "micro_patch8", 10)).eval(), vitlab.Trace()
    net(pictures(3), None, trace)
    before, left = torch.arange(49).expand(3, -1), 49
    for part, gone in zip(trace.layers, net.schedule(), strict=True):
        assert part.attended.sum(1).tolist() == [left] * 3
        left -= gone
        assert part.fed.sum(1).tolist() == [left] * 3 and part.extra.tolist() == [1] * 3
        alone = torch.arange(49).expand(3, -1)
        assert torch.equal(part.fed, part.source == alone)                 # who stands for a token stands for itself
        assert torch.equal(part.attended, before == alone)
        assert torch.equal(part.source.gather(1, before), part.source)     # tokens are only ever merged
        assert (part.source <= alone).all()                                # the first patch stands for them
        before = part.source
    plain = vitlab.Trace()
    net(pictures(1), Point(0), plain)
    assert all(part.source is None for part in plain.layers)


@torch.no_grad()
def test_a_cascade_keeps_the_source_maps_of_its_stages():
    net, trace = vitlab.create("tome", "micro_patch8", 10).eval(), vitlab.Trace()
    images = pictures(2)
    cascade = vitlab.EarlyExit(net, (Point(10), Point(4)), (1.0,))
    cascade(images, None, trace)
    alone = vitlab.Trace()
    net(images, Point(4), alone)
    assert [part.stage for part in trace.layers] == [0] * 4 + [1] * 4
    assert all(torch.equal(one.source, other.source) for one, other in zip(trace.layers[4:], alone.layers))


# Weights, training

@torch.no_grad()
def test_the_net_of_a_dense_one_is_taken_as_it_is_or_copied(tmp_path):
    dense, images = vitlab.create("dense", "micro_patch8", 10).eval(), pictures(2)
    same = vitlab.ToMe(dense.vit).eval()
    torch.testing.assert_close(same(images, Point(0)), dense(images), atol=1e-6, rtol=0)
    net = vitlab.create("tome", "micro_patch8", 10, r=7, decreasing=True).eval()
    net.init_from(dense.vit)
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in dense.parameters()}
    torch.testing.assert_close(net(images, Point(0)), dense(images), atol=1e-6, rtol=0)
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert (again.check(None), again.decreasing) == (Point(7), True) and torch.equal(again(images), net(images))
    with pytest.raises(ValueError, match="have no counterpart in the backbone given"):
        net.init_from(vitlab.create("dense", "micro_plain8", 10).vit)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_medium_patch16_gap_240"])
def test_plain_vits_of_timm_can_merge(name):
    with torch.device("meta"):
        net = vitlab.create("tome", name, 10).eval()
        size = backbones.image_size(net.vit)
        dense, half = (vitlab.gmacs(net, torch.zeros(1, 3, size, size), point)[0] for point in (net.points[-1], net.points[0]))
    assert half < 0.62 * dense


def test_gradients_reach_both_halves_of_a_pair():
    x, k = torch.randn(1, 7, 4, requires_grad=True), torch.randn(1, 2, 7, 3, requires_grad=True)
    once, _ = merge(x, None, match(k, 3))
    once[:, 1:].square().sum().backward()
    assert (x.grad[:, 1:].abs().sum(-1) > 0).all() and x.grad[:, 0].eq(0).all() and k.grad is None


def test_a_trained_net_keeps_its_accuracy_with_a_fifth_of_its_tokens():
    dense = vitlab.load(ROOT / "data" / "checkpoints" / "dense_shapes.safetensors")
    test = vitlab.data.shapes("test", difficulty=dense.facts["difficulty"], n=200)
    net = vitlab.ToMe(dense.vit).eval()
    full, merged = (vitlab.answers(net, test, point) for point in (Point(0), None))
    assert full.correct.mean() > 0.85
    assert merged.correct.mean() > full.correct.mean() - 0.025
    assert merged.tokens.eq(40).all() and full.tokens.eq(196).all()
    assert merged.gmacs.mean() < 0.63 * full.gmacs.mean()


# Pictures

@pytest.fixture
def trace():
    torch.manual_seed(1)
    net, record = sharpen(vitlab.create("tome", "micro_patch8", 10)).eval(), vitlab.Trace()
    with torch.no_grad():
        net(pictures(2), None, record)
    return record


def decoded(panel):
    """The pixels of an image trace."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel.source.split(",")[1]))))


def titles(figure):
    return [note.text for note in figure.layout.annotations]


def test_a_token_has_the_mean_colour_of_its_patches_and_a_border(trace):
    source = trace.layers[-1].source[1].numpy()
    shown, big = overlay.in_tokens(PICTURE, source, (7, 7)), overlay.enlarge(PICTURE)
    number, sizes = overlay.spread(source, (7, 7), big.shape[:2]), np.bincount(source, minlength=49)
    inner = overlay.spread(np.arange(49), (7, 7), big.shape[:2])
    edge = np.zeros(number.shape, bool)
    for axis in (0, 1):
        for step in (1, -1):
            beside = np.roll(number, step, axis)
            line = np.take(np.arange(number.shape[axis]), 0 if step == 1 else -1)
            apart = beside != number
            apart[(line, slice(None)) if axis == 0 else (slice(None), line)] = False     # the picture's own rim
            edge |= apart
    assert (sizes > 1).any() and (sizes == 1).any()
    for token in np.unique(source):
        mine = number == token
        if sizes[token] == 1:
            assert np.array_equal(shown[mine], big[mine]) and np.array_equal(mine, inner == token)
        else:
            assert (shown[mine & ~edge] == big[mine].mean(0).astype(np.uint8)).all()
            assert len(np.unique(shown[mine & edge], axis=0)) == 1


def test_a_panel_for_five_blocks_says_how_many_tokens_are_left(trace):
    figure = plots.merged(PICTURE, trace, 1)
    assert titles(figure) == ["layer 1: 39 tokens", "layer 2: 29 tokens", "layer 3: 19 tokens", "layer 4: 10 tokens"]
    one = plots.merged(PICTURE, trace, 1, layers=(2,))
    assert np.array_equal(decoded(one.data[0]), overlay.in_tokens(PICTURE, trace.layers[2].source[1].numpy(), (7, 7)))
    assert plots.kept(PICTURE, trace, 1, layers=(2,)).data[0].source == one.data[0].source
    assert decoded(plots.kept_by(PICTURE, {"tome": trace}, row=1).data[2]).tolist() == decoded(one.data[0]).tolist()
    with torch.no_grad():
        deep, record = vitlab.create("tome", "micro_patch4", 10, r=3).eval(), vitlab.Trace()
        deep(pictures(1), None, record)
    assert [title.split(":")[0] for title in titles(plots.merged(PICTURE, record))] == [f"layer {n}" for n in (1, 2, 3, 5, 6)]


def test_all_patches_of_a_token_share_what_it_gets_of_the_attention(trace):
    from vitlab.plots.pictures import looked_at

    part, before = trace.layers[3], trace.layers[2].source[0]
    weight, alive = looked_at(trace.layers, 3, 0)
    assert alive.all() and weight.sum() == pytest.approx(part.cls[0].sum().item(), rel=1e-5)
    for token in before.unique():
        mine = (before == token).numpy()
        np.testing.assert_allclose(weight[mine], part.cls[0, token].item() / mine.sum(), rtol=1e-5)
    first, all_there = looked_at(trace.layers, 0, 0)
    assert all_there.all() and np.array_equal(first, trace.layers[0].cls[0].numpy())
    peak = titles(plots.attention_map(PICTURE, trace, 0, layers=(3,)))[0]
    assert peak == f"layer 4: peak {100 * weight.max():.1f} %"


def test_where_nothing_was_merged_a_sentence_says_so():
    for net, point in ((vitlab.create("tome", "micro_patch8", 10), Point(0)), (vitlab.create("dense", "micro_patch8", 10), None)):
        record = vitlab.Trace()
        net.eval()(pictures(1), point, record)
        with pytest.raises(ValueError, match="nothing was merged in this pass; take a ToMe, at a point with r above 0"):
            plots.merged(PICTURE, record)


def test_the_panel_tells_patches_and_tokens(trace):
    view, look = View(None), SimpleNamespace(
        subject=SimpleNamespace(picture=PICTURE), layers=trace.layers, name=lambda place, exits: f"layer {place + 1}")
    view.show_layer(look, 3, ())
    assert view.captions["kept"].value.endswith("layer 4: 49 in 10 tokens</p>")
    expected = overlay.in_tokens(PICTURE, trace.layers[3].source[0].numpy(), (7, 7))
    assert view.pictures["kept"].value == overlay.png(expected)


def test_merging_has_one_home():
    assert schedules.merged is vitlab.merging.merged


# The study on the shipped nets

def test_the_study_of_the_shipped_nets_runs_and_says_what_its_rows_say(monkeypatch):
    """A few pictures of it; r = 0 is the net as it is, and each difference is one of the rows'."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tome_shipped as study
    saved = {}
    for name, value in {"NETS": ("dense", "supervit"), "RS": (0, 26, 98), "SEEDS": (0, 1), "TESTED": 20,
                        "write": lambda frame, path: saved.update({path.stem: frame})}.items():
        monkeypatch.setattr(study, name, value)
    study.main()
    rows, said = saved["tome_shipped_points"], saved["tome_shipped_claims"]
    test = vitlab.data.shapes("test", difficulty=study.DIAL, n=20, seed=100)
    for name in study.NETS:
        net = vitlab.load(ROOT / "data" / "checkpoints" / f"{name}_shapes.safetensors").eval()
        part = rows[(rows.net == name) & (rows.way == "merge") & (rows.seed == 0)].set_index("r")
        asis = vitlab.answers(net, test, net.points[-1])
        assert part.top1[0] == 100 * asis.correct.mean() and part.gmacs[0] == pytest.approx(asis.gmacs.mean())
        assert part.gmacs.is_monotonic_decreasing
        told = said[(said.claim == f"{name}, r 98: less the net as it is") & (said.seed == 0)].value.item()
        assert told == part.top1[98] - part.top1[0]
    assert not said.value.isna().any() and said.groupby("claim").seed.nunique().eq(2).all()


def test_the_saved_study_is_of_the_nets_and_points_that_its_script_names(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import pandas as pd
    import tome_shipped as study
    rows, said = (pd.read_csv(ROOT / "data" / "results" / f"tome_shipped_{name}.csv") for name in ("points", "claims"))
    merge = rows[rows.way == "merge"]
    assert set(merge.net) == set(study.NETS) and set(merge.r) == set(study.RS) and set(rows.seed) == set(study.SEEDS)
    again = pd.DataFrame([{"seed": seed} | claim for seed in study.SEEDS for claim in study.claims(rows[rows.seed == seed])])
    pd.testing.assert_frame_equal(again, said[["seed", "claim", "value"]], atol=0.01)
