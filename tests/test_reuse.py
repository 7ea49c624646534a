"""What a stage of DVT takes over: an MLP made wider, and relations in pieces that stay in the cache."""
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from vitlab.backbones import by_the_book
from vitlab.methods.dvt import reuse
from vitlab.methods.dvt.enlarge import Enlarge, Naive
from vitlab.methods.dvt.reuse import Relations, pointwise, widen


@pytest.mark.parametrize("bias", [True, False])
def test_a_widened_mlp_starts_as_the_one_that_was_there(bias):
    block = Block(8, 2, mlp_ratio=64, norm_layer=partial(nn.LayerNorm, eps=1e-3))
    block.mlp.fc1 = nn.Linear(8, 512, bias=bias)
    for tensor in block.parameters():
        nn.init.normal_(tensor, std=0.3)
    norm, first = block.norm2, block.mlp.fc1
    widen(block, 4)
    assert torch.equal(block.norm2.weight[:8], norm.weight) and block.norm2.weight[8:].eq(1).all()
    assert torch.equal(block.norm2.bias[:8], norm.bias) and block.norm2.bias[8:].eq(0).all()
    assert block.norm2.eps == norm.eps
    assert torch.equal(block.mlp.fc1.weight[:, :8], first.weight)
    assert block.mlp.fc1.weight[:, 8:].std().item() == pytest.approx(first.weight.std().item(), rel=0.1)
    assert torch.equal(block.mlp.fc1.bias, first.bias) if bias else block.mlp.fc1.bias is None


@pytest.mark.parametrize("kind, source", [("mlp", "all"), ("linear", "all"), ("mlp", "same")])
@pytest.mark.parametrize("room", [1, 7, 49, 1000])
def test_relations_in_pieces_that_stay_in_the_cache_are_the_convolutions_of_all(monkeypatch, kind, source, room):
    torch.manual_seed(0)
    relations, up = Relations(2, 3, source, [0, 1, 2], kind, None, False), torch.randn(5, 6, 7, 7)
    monkeypatch.setattr(reuse, "CACHE", 4 * relations.hidden * room)       # bytes of hidden channels and their GELU
    pieces = []
    monkeypatch.setattr(reuse, "pointwise", lambda net, x: pieces.append(x.shape[0] * x.shape[2]) or pointwise(net, x))
    whole = relations.net(up)
    with torch.no_grad():
        torch.testing.assert_close(relations(up), whole, atol=1e-6, rtol=1e-5)
    assert max(pieces) <= (room if room < 49 else 5 * 49) and sum(pieces) == 5 * 49
    torch.testing.assert_close(relations(up), whole, atol=1e-6, rtol=1e-5)              # what is trained is kept anyway
    assert pieces[-1] == 5 * 49
    with by_the_book():
        assert torch.equal(relations(up), whole)


def test_gradients_of_relations_are_those_of_the_convolutions():
    torch.manual_seed(0)
    relations, up = Relations(2, 3, "all", [0, 1, 2], "mlp", None, False), torch.randn(5, 6, 7, 7, requires_grad=True)
    weight = torch.randn(5, 6, 7, 7)
    mine, theirs = (torch.autograd.grad((net(up) * weight).sum(), [up, *relations.net.parameters()]) for net in (
        relations, relations.net))
    for here, there in zip(mine, theirs, strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Enlarge, Naive])
def test_a_finer_grid_for_training_from_sums_and_by_the_book_is_one_and_the_same(kind):
    enlarge, up = kind(4, 6, 1), torch.randn(5, 2, 17, 17, requires_grad=True)
    with by_the_book():
        truth = enlarge.both(up)
    torch.testing.assert_close(enlarge.both(up), truth, atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(truth)
    mine, theirs = (torch.autograd.grad((part * weight).sum(), up)[0] for part in (enlarge.both(up), truth))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(enlarge.both(up), truth, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(enlarge.first(up, 1), truth[..., :1, :], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "source"), [("mlp", "all"), ("linear", "all"), ("mlp", "same")])
def test_relations_with_the_channels_last_are_the_convolutions(kind, source):
    relations = Relations(2, 3, source, (0, 2) if source == "all" else (0, 1, 2), kind, Enlarge(3, 4, 1), zero_last=False)
    x = torch.randn(2, 6, 10, 10)
    torch.testing.assert_close(reuse.channels_last(relations.net, x), relations.net(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@torch.no_grad()
def test_a_finer_grid_under_autocast(dtype):
    enlarge, up = Enlarge(4, 6, 1).to(dtype), torch.randn(5, 2, 17, 17, dtype=dtype)
    truth = enlarge.taps @ up @ enlarge.taps.mT
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(enlarge.both(up).to(dtype), truth, atol=0.05, rtol=0.05)
