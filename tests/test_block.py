"""A timm block driven by halves is the block."""
import pytest
import timm
import torch
from timm.models.vision_transformer import Block

from vitlab.block import attend, attention, attention_logits, cls_attention, mlp, qkv
from vitlab.tokens import put, take


def by_halves(block, x, mask=None):
    q, k, v = qkv(block, x)
    x = x + attention(block, q, k, v, mask)
    return x + mlp(block, x)


@pytest.mark.parametrize("options", [{}, {"init_values": 0.1}, {"qk_norm": True}, {"scale_attn_norm": True}], ids=str)
@torch.no_grad()
def test_the_halves_are_the_block(options):
    block = Block(64, 4, qkv_bias=True, **options).eval()
    x = torch.randn(3, 17, 64)
    assert torch.equal(by_halves(block, x), block(x))


@torch.no_grad()
def test_a_whole_deit_by_halves():
    vit = timm.create_model("deit_tiny_patch16_224").eval()
    x = torch.randn(2, 197, 192)
    y = x
    for block in vit.blocks:
        y = by_halves(block, y)
    assert torch.equal(y, vit.blocks(x))


def test_explicit_weights_give_the_fused_update_and_its_gradient():
    block = Block(64, 4).double()
    x = torch.randn(2, 9, 64, dtype=torch.double, requires_grad=True)
    q, k, v = qkv(block, x)
    fused = attention(block, q, k, v)
    explicit = attend(block, attention_logits(q, k).softmax(-1), v)
    torch.testing.assert_close(fused, explicit)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0] for y in (fused, explicit)))


def test_the_class_row_is_the_first_row_of_the_whole_map():
    block = Block(64, 4)
    q, k, _ = qkv(block, torch.randn(2, 9, 64))
    torch.testing.assert_close(cls_attention(q, k), attention_logits(q, k).softmax(-1)[:, :, 0])


def test_masked_keys_are_as_good_as_absent():
    block = Block(64, 4).eval()
    x = torch.randn(2, 9, 64)
    keep = torch.ones(9, dtype=torch.bool)
    keep[[3, 5]] = False
    q, k, v = qkv(block, x)
    masked = attention(block, q, k, v, keep[None, None, None])[:, keep]
    q, k, v = qkv(block, x[:, keep])
    torch.testing.assert_close(masked, attention(block, q, k, v))
    q, k, _ = qkv(block, x)
    row = cls_attention(q, k, keep[None, None])
    assert row[..., ~keep].eq(0).all()
    torch.testing.assert_close(row.sum(-1), torch.ones(2, 4))
    biased = cls_attention(q, k, torch.where(keep, 0.0, -1e9)[None, None])
    torch.testing.assert_close(row, biased)


def test_take_is_gather_and_put_undoes_it():
    x = torch.randn(3, 7, 5)
    index = torch.stack([torch.randperm(7)[:4] for _ in range(3)])
    rows = take(x, index)
    assert torch.equal(rows, x.gather(1, index[..., None].expand(-1, -1, 5)))
    assert torch.equal(put(torch.zeros_like(x), index, rows).ne(0).any(-1).sum(1), torch.tensor([4, 4, 4]))
    assert torch.equal(put(x, index, rows), x)
    assert torch.equal(take(x[..., 0], index), x[..., 0].gather(1, index))
