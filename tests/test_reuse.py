"""What a stage of DVT takes over: an MLP made wider, and relations computed in parts of bounded memory."""
from functools import partial

import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from vitlab.methods.dvt import reuse
from vitlab.methods.dvt.reuse import Relations, widen


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


@pytest.mark.parametrize(("room", "parts"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4.9, [4, 1]), (5, [5]), (0.5, [1] * 5)])
def test_hidden_channels_of_relations_never_take_more_than_their_room(monkeypatch, room, parts):
    relations, seen = Relations(2, 1, "all", [0], "mlp", None, False), []
    relations.net.register_forward_hook(lambda net, inputs, output: seen.append(len(output)))
    monkeypatch.setattr(reuse, "HIDDEN_BYTES", int(room * 4 * relations.hidden * 7 ** 2))
    with torch.no_grad():
        assert relations(torch.randn(5, 2, 7, 7)).shape == (5, 2, 7, 7)
    assert seen == parts
    relations(torch.randn(5, 2, 7, 7))                                     # what is trained is kept anyway
    assert seen == [*parts, 5]
