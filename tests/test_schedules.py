"""Published schedules: the counts of the papers, and operations that are what they say."""
import pytest
import torch
from samples import pictures

import vitlab
from vitlab import backbones, schedules
from vitlab.backbones import by_the_book
from vitlab.block import qkv
from vitlab.schedules import Scheduled, best, fused, merged, published, schedule

ROWS = published()


def vit():
    torch.manual_seed(0)
    return backbones.create("micro_patch8", 10).eval()                      # 49 patches, 4 blocks


@pytest.mark.parametrize("place", ROWS.index, ids=lambda n: f"{ROWS.method[n]} {ROWS.backbone[n]} {ROWS.label[n]}")
def test_a_published_schedule_costs_what_is_published(place):
    row = ROWS.loc[place]
    with torch.device("meta"):
        net = schedule(row, backbones.create(row.backbone)).eval()
    assert len(row.attended) == len(row.fed) == 12
    blocks = sum(vitlab.block.macs(block, a, f) for block, a, f in zip(net.vit.blocks, row.attended, row.fed))
    ends = net.vit.patch_embed.proj.weight.numel() * 196 + net.vit.head.weight.numel()
    assert (blocks + ends) / 1e9 == pytest.approx(row.gmacs, rel=0.002)


@pytest.mark.parametrize("way", ["drop", "fuse", "merge", "predict"])
@torch.no_grad()
def test_a_schedule_that_keeps_all_is_the_dense_net(way):
    net, images = Scheduled(vit(), [50] * 4, [50] * 4, way).eval(), pictures(3)
    torch.testing.assert_close(net(images), vit()(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("way", "attended", "fed"), [
    ("drop", [50, 50, 30, 12], [50, 30, 12, 12]), ("fuse", [50, 50, 30, 12], [50, 30, 12, 12]),
    ("merge", [50, 40, 30, 20], [40, 30, 20, 11]), ("merge", [50, 50, 12, 12], [50, 12, 12, 12]),
    ("predict", [50, 50, 30, 12], [50, 50, 30, 12])])
@torch.no_grad()
def test_so_many_tokens_are_in_attention_and_mlp(way, attended, fed):
    net, seen = Scheduled(vit(), attended, fed, way).eval(), {"attn": [], "mlp": []}
    for block in net.vit.blocks:
        block.attn.qkv.register_forward_hook(lambda part, given, _: seen["attn"].append(given[0].shape[1]))
        block.mlp.register_forward_hook(lambda part, given, _: seen["mlp"].append(given[0].shape[1]))
    images = pictures(3)
    with by_the_book():
        together = net(images)
    assert (seen["attn"], seen["mlp"]) == (attended, fed)
    torch.testing.assert_close(together, torch.cat([net(images[[n]]) for n in range(3)]), atol=1e-5, rtol=1e-5)
    assert vitlab.gmacs(net, images)[0] < vitlab.gmacs(vitlab.Dense(vit()), images)[0]
    assert float(vitlab.throughput(net, images, seconds=0, runs=1)) > 0


def tokens(count=9, width=6):
    return torch.randn(2, count, width), torch.randn(2, 2, count, 3), torch.randn(2, 2, count, 3)


def test_the_best_patches_stay_in_their_order_behind_the_class_token():
    x, score = tokens()[0], torch.tensor([[0.1, 0.9, 0.2, 0.8, 0.0, 0.3, 0.7, 0.4]] * 2)
    assert torch.equal(best(x, score, 4), x[:, [0, 2, 4, 7]])


def test_what_is_fused_is_the_sum_of_the_others_by_attention():
    x, q, k = tokens()
    found, score = fused(x, q, k, 5), vitlab.block.cls_attention(q, k).mean(1)
    order = score[:, 1:].argsort(1, descending=True) + 1
    for image in (0, 1):
        torch.testing.assert_close(found[image, :4], x[image, [0, *order[image, :3].tolist()]])
        rest = order[image, 3:]
        torch.testing.assert_close(found[image, 4], (x[image, rest] * score[image, rest, None]).sum(0))


@pytest.mark.parametrize("count", [9, 8, 6, 5])
def test_merging_keeps_every_patch_once_and_the_class_token_alone(count):
    x, _, k = tokens()
    size = torch.ones(2, 9, 1)
    found, sizes = merged(x, size, k, count)
    assert found.shape == (2, count, 6)
    torch.testing.assert_close((found * sizes).sum(1), x.sum(1))            # averages by size lose nothing
    assert (sizes.sum(1) == 9).all()
    assert torch.equal(found[:, 0], x[:, 0]) and (sizes[:, 0] == 1).all()


def test_the_two_most_alike_are_merged():
    x, _, k = tokens(5)
    k[:] = torch.tensor([[1., 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 1, 0.1]])
    found, sizes = merged(x, torch.ones(2, 5, 1), k, 4)                      # of 0, 2, 4 and 1, 3: 4 is most like 1
    torch.testing.assert_close(found, torch.stack([x[:, 0], x[:, 2], (x[:, 1] + x[:, 4]) / 2, x[:, 3]], 1))
    assert sizes[0, :, 0].tolist() == [1, 1, 2, 1]


@torch.no_grad()
def test_a_merged_token_is_looked_at_as_often_as_what_it_stands_for():
    """Proportional attention: two equal tokens merged into one leave everybody's attention as it was."""
    block = vit().blocks[0]
    x = torch.randn(1, 4, 64)
    x = torch.cat([x, x[:, -1:]], 1)                                        # the last one twice
    q, k, v = qkv(block, x)
    size = torch.tensor([[1.0, 1, 1, 2]])[..., None]
    once = vitlab.block.attention(block, q[:, :, :4], k[:, :, :4], v[:, :, :4], size.log().mT[:, None])
    torch.testing.assert_close(once, vitlab.block.attention(block, q, k, v)[:, :4], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("attended", "fed", "way", "words"), [
    ([50] * 3, [50] * 4, "drop", "each of the 4 blocks, not 3 and 4"), ([50] * 4, [60] * 4, "drop", "never rises"),
    ([60] * 4, [60] * 4, "drop", "at most 50 tokens"), ([50] * 4, [50, 50, 50, 2], "drop", "3 or more"),
    ([50, 40, 40, 40], [50, 40, 40, 40], "fuse", "inside a block"), ([50] * 4, [50, 50, 50, 40], "predict", "before it"),
    ([50] * 4, [50] * 4, "melt", "way must be one of"), ("many", [50] * 4, "drop", "numbers of tokens"),
    ([50.5] * 4, [50] * 4, "drop", "numbers of tokens")])
def test_a_schedule_that_cannot_be_gets_one_sentence(attended, fed, way, words):
    with pytest.raises(ValueError, match=words) as error:
        Scheduled(vit(), attended, fed, way)
    assert "\n" not in str(error.value)


def test_nothing_is_traced_and_too_much_is_not_merged():
    net = Scheduled(vit(), [50] * 4, [50] * 4).eval()
    with pytest.raises(ValueError, match="for racing"):
        net(pictures(1), trace=vitlab.Trace())
    x, _, k = tokens()
    with pytest.raises(ValueError, match="at most 4 can be merged at once, not 5"):
        merged(x, torch.ones(2, 9, 1), k, 4)


def test_every_published_method_has_an_operation():
    assert set(ROWS.method) == set(schedules.OPERATIONS)
