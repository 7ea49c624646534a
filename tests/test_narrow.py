"""Structured pruning: the channels that count least go from all tokens alike, and what is left is an ordinary, smaller net."""
from copy import deepcopy

import pytest
import timm
import torch
from samples import pictures
from timm.layers import SwiGLU

import vitlab
from vitlab import backbones
from vitlab.backbones import importance, narrow
from vitlab.backbones.narrow import cut_block
from vitlab.block import attention, attention_logits, qkv
from vitlab.methods.spvit.rivals import structured

SMALL = {"micro_patch4": {}, "micro_patch8": {}, "micro_plain8": {}, "deit_tiny": {"image_size": 32},
         "lvvit_tiny": {"image_size": 32}, "t2t_vit_7": {"image_size": 64}}


def dense(name="micro_patch8"):
    torch.manual_seed(0)
    return vitlab.create("dense", name, num_classes=10, **SMALL[name]).eval()


def tiny(**settings):
    shape = {"img_size": 32, "patch_size": 16, "num_classes": 10, "embed_dim": 16, "depth": 1, "num_heads": 2}
    return timm.models.VisionTransformer(**shape, **settings)


def by_hand(vit):
    """The importance of each channel, weight by weight."""
    found = []
    for c in range(vit.embed_dim):
        stem = [p for p in vit.patch_embed.modules() if isinstance(p, (torch.nn.Conv2d, torch.nn.Linear))][-1]
        written = stem.weight[c].square().sum() + vit.pos_embed[0, :, c].square().mean()
        read = (vit.head.weight[:, c] * vit.norm.weight[c]).square().sum()
        for block in vit.blocks:
            written = written + block.attn.proj.weight[c].square().sum() + block.mlp.fc2.weight[c].square().sum()
            read = read + (block.attn.qkv.weight[:, c] * block.norm1.weight[c]).square().sum()
            read = read + (block.mlp.fc1.weight[:, c] * block.norm2.weight[c]).square().sum()
        found.append((written.sqrt() * read.sqrt()).item())
    return torch.tensor(found)


@torch.no_grad()
def uneven(net):
    """Norms that do not weigh all channels alike, as trained ones."""
    for part in net.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.weight.uniform_(0.2, 2)
            part.bias.uniform_(-0.2, 0.2)
    return net


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_all_channels_kept_is_the_same_net(name):
    net = dense(name)
    images = pictures(2, net.made["image_size"])
    again = vitlab.Dense(net.vit, net.vit.embed_dim).eval()
    assert torch.equal(again(images), net(images))
    assert again.vit is not net.vit


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_what_is_left_is_an_ordinary_net_as_timm_runs_it(name):
    net = uneven(dense(name))
    images = pictures(2, net.made["image_size"])
    before = net(images)
    small = vitlab.Dense(net.vit, 21).eval()
    torch.testing.assert_close(small(images), small.vit(images), atol=1e-5, rtol=1e-5)
    assert small.vit.embed_dim == small.vit.num_features == small.vit.pos_embed.shape[2] == 21
    assert type(small.vit) is type(net.vit) and small.vit.norm.normalized_shape == (21,)
    assert torch.equal(net(images), before)                                # the net that it was cut out of is untouched
    with pytest.raises(ValueError, match="does not say how it was made"):
        backbones.sibling(small.vit, 4)


@torch.no_grad()
def test_the_channels_kept_are_those_that_count_most_everywhere_and_in_their_order():
    vit = uneven(dense()).vit
    torch.testing.assert_close(importance(vit), by_hand(vit), rtol=1e-5, atol=0)
    keep, small = by_hand(vit).topk(40).indices.sort().values, narrow(vit, 40)
    assert keep.tolist() != list(range(40))
    assert torch.equal(small.pos_embed, vit.pos_embed[..., keep]) and torch.equal(small.cls_token, vit.cls_token[..., keep])
    assert torch.equal(small.head.weight, vit.head.weight[:, keep]) and torch.equal(small.norm.bias, vit.norm.bias[keep])
    for cut, block in zip(small.blocks, vit.blocks):
        assert torch.equal(cut.attn.proj.bias, block.attn.proj.bias[keep])
        assert torch.equal(cut.mlp.fc2.bias, block.mlp.fc2.bias[keep])
        assert torch.equal(cut.norm1.weight, block.norm1.weight[keep])
        assert torch.equal(cut.norm2.bias, block.norm2.bias[keep])


@torch.no_grad()
def test_inside_a_block_the_most_important_stay_head_by_head():
    """40 of 64 token channels: 10 of a head's 16, 80 of the 128 hidden."""
    vit = uneven(dense()).vit
    keep, small = by_hand(vit).topk(40).indices.sort().values, narrow(vit, 40)
    for cut, block in zip(small.blocks, vit.blocks):
        weight, bias = block.attn.qkv.weight, block.attn.qkv.bias
        own = (weight * block.norm1.weight).square().sum(1).sqrt()
        assert cut.attn.head_dim == 10 and cut.mlp.fc1.out_features == 80
        for head in range(4):
            at = [16 * head + c for c in range(16)]
            pair = torch.tensor([own[c] * own[64 + c] for c in at])
            value = torch.tensor([own[128 + c] * block.attn.proj.weight[:, c].norm() for c in at])
            q, v = ([at[i] for i in score.topk(10).indices.sort().values] for score in (pair, value))
            k, told, mine = [64 + c for c in q], [128 + c for c in v], slice(10 * head, 10 * head + 10)
            rows = cut.attn.qkv.weight.unflatten(0, (3, 40))
            torch.testing.assert_close(rows[0, mine], weight[q][:, keep] * (10 / 16) ** 0.5)
            torch.testing.assert_close(cut.attn.qkv.bias.unflatten(0, (3, 40))[0, mine], bias[q] * (10 / 16) ** 0.5)
            assert torch.equal(rows[1, mine], weight[k][:, keep]) and torch.equal(rows[2, mine], weight[told][:, keep])
            assert torch.equal(cut.attn.proj.weight[:, mine], block.attn.proj.weight[:, v][keep])
        score = (block.mlp.fc1.weight * block.norm2.weight).norm(dim=1) * block.mlp.fc2.weight.norm(dim=0)
        inner = score.topk(80).indices.sort().values
        assert torch.equal(cut.mlp.fc1.weight, block.mlp.fc1.weight[inner][:, keep])
        assert torch.equal(cut.mlp.fc1.bias, block.mlp.fc1.bias[inner])
        assert torch.equal(cut.mlp.fc2.weight, block.mlp.fc2.weight[keep][:, inner])


@torch.no_grad()
def test_query_channels_that_say_nothing_can_go_without_a_trace():
    """Attention is the same then: what is left is divided by the root of fewer channels, which is made up for."""
    block = uneven(dense()).vit.blocks[0]
    x = torch.randn(2, 9, 64)
    block.attn.qkv.weight.unflatten(0, (3, 4, 16))[:2, :, 3:9] = 0         # six of a head's queries and keys
    block.attn.qkv.bias.unflatten(0, (3, 4, 16))[:2, :, 3:9] = 0
    block.attn.proj.weight.unflatten(1, (4, 16))[..., :6] = 0              # and six values that nobody reads
    small = deepcopy(block)
    cut_block(small, torch.arange(64), 64 * 16 / 10)
    assert small.attn.head_dim == 10
    torch.testing.assert_close(attention_logits(*qkv(small, x)[:2]), attention_logits(*qkv(block, x)[:2]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(attention(small, *qkv(small, x)), attention(block, *qkv(block, x)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_channel_that_nobody_writes_or_nobody_reads_goes_first():
    vit = dense().vit
    for block in vit.blocks:
        block.norm1.weight[5] = block.norm2.weight[5] = 0
        block.attn.proj.weight[9] = block.mlp.fc2.weight[9] = 0
    vit.norm.weight[5] = 0
    vit.patch_embed.backbone[3].conv.weight[9] = 0
    vit.pos_embed[..., 9] = 0
    assert importance(vit)[[5, 9]].tolist() == [0, 0]
    small = narrow(vit, 62)
    assert torch.equal(small.pos_embed, vit.pos_embed[..., [c for c in range(64) if c not in (5, 9)]])


@torch.no_grad()
def test_of_pictures_the_stem_sees_the_channels_that_are_kept():
    vit, images = dense("micro_patch4").vit, pictures(2)
    keep = by_hand(vit).topk(30).indices.sort().values
    torch.testing.assert_close(narrow(vit, 30).patch_embed(images), vit.patch_embed(images)[..., keep], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name, part", [(name, part) for name in ("micro_patch4", "micro_patch8") for part in (0.6, 0.75, 0.9)])
def test_the_budget_is_met(name, part):
    net = dense(name)
    full = vitlab.gmacs(net, pictures(1))[0]
    assert vitlab.gmacs(structured(net, part * full), pictures(1))[0] == pytest.approx(part * full, rel=0.03)


@pytest.mark.parametrize("name, budget", (("deit_tiny", 0.90), ("deit_small", 2.64)))
def test_the_papers_budgets_are_met(name, budget):
    net = structured(vitlab.create("dense", name), budget)
    assert vitlab.gmacs(net, pictures(1, 224))[0] == pytest.approx(budget, rel=0.01)
    assert {block.attn.num_heads for block in net.vit.blocks} == {3 if name == "deit_tiny" else 6}
    assert net.vit.embed_dim == pytest.approx(160 if name == "deit_tiny" else 288, abs=3)       # the paper's smaller DeiTs


def test_no_other_width_comes_nearer():
    net = dense()
    budget = 0.75 * vitlab.gmacs(net, pictures(1))[0]
    width = structured(net, budget).vit.embed_dim
    away = [abs(vitlab.gmacs(vitlab.Dense(net.vit, w), pictures(1))[0] - budget) for w in range(width - 3, width + 4)]
    assert min(away) == away[3]


def test_all_of_the_budget_is_all_of_the_net():
    net = dense()
    assert structured(net, vitlab.gmacs(net, pictures(1))[0]).vit.embed_dim == 64


def test_it_trains_on_and_comes_back_from_a_checkpoint(tmp_path):
    data = vitlab.data.shapes("train", n=100)
    teacher = vitlab.create("dense", "micro_patch8", classes=data.classes).eval()
    net = structured(teacher, 0.75 * vitlab.gmacs(teacher, pictures(1))[0])
    before = net.vit.pos_embed.clone()
    vitlab.fit(net, data, vitlab.Recipe(steps=2, batch=8))
    assert not torch.equal(net.vit.pos_embed, before) and net.made["classes"] == data.classes
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    images = pictures(2)
    with torch.no_grad():
        assert torch.equal(again(images), net(images)) and again.vit.embed_dim == net.vit.embed_dim < 64


def test_a_frozen_table_stays_frozen():
    assert not narrow(dense("t2t_vit_7").vit, 40).pos_embed.requires_grad


@pytest.mark.parametrize("given, words", (
    (lambda: structured(vitlab.create("spvit", "micro_patch8", num_classes=10), 0.01), "trained dense net"),
    (lambda: structured(dense(), 9.0), "out of reach"), (lambda: structured(dense(), 1e-9), "out of reach"),
    (lambda: structured(dense(), float("nan")), "budget must be"),
    (lambda: structured(vitlab.create("dense", "pit_tiny", num_classes=10, image_size=64), 0.01), "is a PiT"),
    (lambda: narrow(tiny(mlp_layer=SwiGLU), 8), "channels of a SwiGLU cannot be cut"),
    (lambda: narrow(tiny(qk_norm=True), 8), "norms its queries and keys"),
    (lambda: vitlab.create("dense", "micro_patch8", num_classes=10, width=65), "from 1 to 64, not 65"),
    (lambda: vitlab.create("dense", "micro_patch8", num_classes=10, width=0), "from 1 to 64, not 0"),
))
def test_bad_input_gets_one_sentence(given, words):
    with pytest.raises(ValueError, match=words) as error:
        given()
    assert "\n" not in str(error.value)
