"""Tokens that are no patches: with registers beside the class token, traces and position tables still name patches alone."""
from functools import partial

import pytest
import torch
from samples import sharpen
from timm.models.vision_transformer import VisionTransformer

import vitlab
from vitlab.methods.adaptive_depth import AdaptiveDepth
from vitlab.methods.revit.embed import zero_padded

REGISTERS = 2
DRIVERS = {"dense": vitlab.Dense, "supervit": partial(vitlab.SuperViT, lengths=(4,)), "adaptive depth": AdaptiveDepth,
           "revit": partial(vitlab.ReViT, lengths=(4,))}


def registered():
    """Four by four patches of 8 pixels, a class token and two registers, as from `backbones.create`."""
    torch.manual_seed(0)
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=5, reg_tokens=REGISTERS)


@pytest.mark.parametrize("name", DRIVERS)
@torch.no_grad()
def test_a_trace_shows_what_the_class_token_sees_of_the_patches(name):
    net, trace = sharpen(DRIVERS[name](registered())).eval(), vitlab.Trace()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(net(images, net.points[-1], trace), net.vit(images), atol=1e-5, rtol=1e-4)
    first, block = trace.layers[0], net.vit.blocks[0]
    q, k, _ = vitlab.block.qkv(block, vitlab.backbones.embed(net.vit, images))
    seen = vitlab.block.attention_logits(q, k).softmax(-1)[:, :, 0].mean(1)
    torch.testing.assert_close(first.cls, seen[:, 1 + REGISTERS:])
    assert {count for layer in trace.layers for count in layer.extra.tolist()} == {1 + REGISTERS}


def test_a_table_is_resampled_behind_all_that_is_no_patch():
    net = vitlab.ReViT(registered(), (4, 2), patch="resize", positions="interp")
    assert torch.equal(net.embed.table(net.vit, 2), vitlab.backbones.resample_positions(net.vit, 2))
    assert torch.equal(net.embed.table(net.vit, 2)[:, :3], net.vit.pos_embed[:, :3])


def test_a_smaller_table_is_padded__resampled_behind_all_that_is_no_patch():
    table = torch.randn(1, 3 + 4, 5)
    padded = zero_padded(table, 4, 3)
    assert torch.equal(padded[:, :3], table[:, :3])
    assert torch.equal(padded[:, 3:].unflatten(1, (4, 4))[:, 1:3, 1:3].flatten(1, 2), table[:, 3:])
    assert padded[:, 3:].count_nonzero() == table[:, 3:].count_nonzero()
