"""Batches whose images keep different numbers of tokens: the packed row is its images one by one."""
import pytest
import torch

import vitlab
from vitlab import packed
from vitlab.block import attention, mlp, qkv
from vitlab.packed import Even, Packed

LENGTHS = (5, 0, 1, 9, 5)


def row(*shape):
    return torch.randn(1, sum(LENGTHS), *shape)


def each(x):
    return x[0].split(list(LENGTHS))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_attention_image_by_image_is_attention_with_all_others_masked(dtype):
    q, k, v = (torch.randn(1, 3, sum(LENGTHS), 8).to(dtype) for _ in "qkv")
    atol = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(packed.one_by_one(q, k, v, LENGTHS), packed.reference(q, k, v, LENGTHS), atol=atol, rtol=0)


def test_attention_of_images_filled_up_to_the_longest_is_the_same():
    q, k, v = (torch.randn(1, 3, sum(LENGTHS), 8, requires_grad=True) for _ in "qkv")
    found, truth = packed.side_by_side(q, k, v, Packed(LENGTHS)), packed.reference(q, k, v, LENGTHS)
    torch.testing.assert_close(found, truth, atol=1e-6, rtol=0)
    weight = torch.randn_like(truth)
    for here, there in zip(torch.autograd.grad((found * weight).sum(), (q, k, v)),
                           torch.autograd.grad((truth * weight).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
    empty = torch.zeros(1, 3, 0, 8)
    assert packed.side_by_side(empty, empty, empty, Packed((0, 0))).shape == empty.shape


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has this kernel for half precision on CUDA only")
def test_the_kernel_for_all_images_agrees():
    q, k, v = (torch.randn(1, 3, sum(LENGTHS), 32, device="cuda", dtype=torch.bfloat16) for _ in "qkv")
    rows = Packed(LENGTHS, "cuda")
    torch.testing.assert_close(packed.varlen(q, k, v, rows), packed.reference(q, k, v, LENGTHS), atol=2e-2, rtol=0)


@torch.no_grad()
def test_a_packed_block_is_the_block_on_every_image():
    block = vitlab.backbones.create("micro_patch8", num_classes=3).eval().blocks[0]

    def through(x, rows):
        x = x + rows.attention(block, *qkv(block, x))
        return x + mlp(block, x)

    x = row(64)
    packed_row = through(x, Packed(LENGTHS))
    for mine, image in zip(each(packed_row), each(x), strict=True):
        if len(image):
            torch.testing.assert_close(mine[None], through(image[None], Even()), atol=1e-5, rtol=1e-5)


def test_even_rows_use_the_block_as_it_is():
    block = vitlab.backbones.create("micro_patch8", num_classes=3).eval().blocks[0]
    q, k, v = qkv(block, torch.randn(2, 5, 64))
    assert torch.equal(Even().attention(block, q, k, v), attention(block, q, k, v))


def test_sums_means_and_ranks_stay_within_an_image():
    rows, x, weight = Packed(LENGTHS), row(4), torch.rand(1, sum(LENGTHS))
    sums, means, rank = rows.sum(x), rows.means(x, weight), rows.rank(x[..., 0])
    for k, (part, share) in enumerate(zip(each(x), each(weight), strict=True)):
        torch.testing.assert_close(sums[k], part.sum(0))
        if len(part):
            torch.testing.assert_close(means[k], (part * share[:, None]).sum(0) / share.sum())
            assert each(rank)[k][part[:, 0].argsort(descending=True)].tolist() == list(range(len(part)))
    assert means[1].isnan().all()                                          # the image without a token
    torch.testing.assert_close(rows.mean(x, weight)[0], means[rows.image])


def test_a_mean_is_the_same_in_both_layouts():
    x, weight = torch.randn(3, 7, 2, 4), torch.rand(3, 7)
    packed_mean = Packed([7, 7, 7]).mean(x.flatten(0, 1)[None], weight.flatten()[None])
    even = Even().mean(x, weight).expand_as(x)
    torch.testing.assert_close(packed_mean[0].unflatten(0, (3, 7)), even)
    torch.testing.assert_close(Even().mean(x), x.mean(1, keepdim=True))


def test_where_images_begin_and_end():
    rows = Packed(LENGTHS)
    assert rows.image.tolist() == [0] * 5 + [2] + [3] * 9 + [4] * 5
    assert rows.offsets.tolist() == [0, 5, 5, 6, 15, 20] and rows.offsets.dtype == torch.int32
    assert rows.first.tolist() == [0, 5, 5, 6, 15]


def test_padding_is_for_looking_at():
    rows, x = Packed(LENGTHS), row(2)
    out, valid = rows.padded(x, -7)
    assert out.shape == (5, 9, 2) and valid.sum(1).tolist() == list(LENGTHS)
    for part, mine, there in zip(each(x), out, valid, strict=True):
        assert torch.equal(mine[there], part)
        assert (mine[~there] == -7).all()


def test_training_drops_attention_weights_within_images():
    block = vitlab.backbones.create("micro_patch8", num_classes=3).train().blocks[0]
    block.attn.attn_drop.p = 0.5
    x = row(64)
    q, k, v = qkv(block, x)
    first, again = (Packed(LENGTHS).attention(block, q, k, v) for _ in range(2))
    assert not torch.equal(first, again)


def test_a_block_costs_what_its_closed_form_says():
    block = vitlab.backbones.create("micro_patch8", num_classes=3).eval().blocks[0]

    def run(n):
        x = torch.zeros(1, n, 64)
        x = x + attention(block, *qkv(block, x))
        return x + mlp(block, x)

    for n in (1, 7, 50):
        assert vitlab.block.macs(block, n) == vitlab.measure.cost.counted(lambda n=n: run(n))
    assert vitlab.block.macs(block, 50, 20) == vitlab.block.macs(block, 50) - 30 * 2 * 64 * 128
