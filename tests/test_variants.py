"""Variants that a paper's tables switch on: how a picture is resized, how many tokens stay, what a length starts as."""
import pytest
import torch
import torch.nn.functional as F
from samples import pictures

import vitlab
from vitlab import backbones
from vitlab.methods.revit.distillation import attention_transfer, feature_transfer
from vitlab.methods.supervit import Point

# SuperViT

def by_patch(images, mode):
    """Each of 4 x 4 patches of 14 pixels to 8, one by one."""
    rows = [[F.interpolate(part, (8, 8), mode=mode) for part in row.split(14, 3)] for row in images.split(14, 2)]
    return torch.cat([torch.cat(row, 3) for row in rows], 2)


@pytest.mark.parametrize(("knobs", "resized"), [
    ({}, lambda x: F.interpolate(x, (32, 32), mode="bilinear", align_corners=True)),
    ({"mode": "bicubic"}, lambda x: F.interpolate(x, (32, 32), mode="bicubic", align_corners=True)),
    ({"align": "image"}, lambda x: F.interpolate(x, (32, 32), mode="bilinear", align_corners=False)),
    ({"align": "patch"}, lambda x: by_patch(x, "bilinear")),
    ({"align": "patch", "mode": "bicubic"}, lambda x: by_patch(x, "bicubic")),
], ids=("as it is", "bicubic", "image", "patch", "patch, bicubic"))
@torch.no_grad()
def test_a_picture_is_resized_as_the_knobs_say(knobs, resized):
    method, images = vitlab.create("supervit", "micro_plain8", num_classes=10, lengths=(4, 7), **knobs).eval(), pictures(2)
    assert torch.equal(method.patchify(images, 4), backbones.embed(method.vit, resized(images), method.pos["4"]))
    assert torch.equal(method.patchify(images, 7), backbones.embed(method.vit, images))


@torch.no_grad()
def test_an_own_embedding_cuts_the_whole_picture():
    method = vitlab.create("supervit", "micro_plain8", num_classes=10, lengths=(4, 7), embedding="individual")
    images, own = pictures(2), method.patch_embeds["4"]
    assert (own.kernel_size, own.stride, list(method.patch_embeds)) == ((14, 14), (14, 14), ["4"])
    assert torch.equal(method.patchify(images, 4)[:, 1:], own(images).flatten(2).mT + method.pos["4"][:, 1:])


@pytest.mark.parametrize(("keep", "kept"), [(0.999, [49, 49, 49]), (0.98, [49, 49, 49]), (0.97, [49, 49, 49]),
                                            (0.95, [48, 47, 46])])
def test_no_more_patches_stay_than_there_are(keep, kept):
    method = vitlab.create("supervit", "micro_patch8", num_classes=10).eval()
    assert list(method.schedule(Point(7, keep)).values()) == kept
    assert method(pictures(1), Point(7, keep)).isfinite().all()


@torch.no_grad()
def test_with_a_fifth_of_the_dropped_from_the_top_the_next_best_stay():
    score = torch.tensor([[9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0, 0.0]])
    kept = vitlab.methods.supervit.four_to_one(score, 5)
    assert sorted(score[0, kept[0]].tolist()) == [4.0, 5.0, 6.0, 7.0, 8.0]


# ReViT


@torch.no_grad()
def test_all_that_a_distillation_token_adds_starts_small():
    method = vitlab.create("revit", "deit_tiny", num_classes=200, lengths=(14, 7), dist_token="deit")
    for tensor in (method.embed.dist_token, method.head_dist.weight):
        assert 0.015 < tensor.std() < 0.025
    assert method.head_dist.bias.eq(0).all()


@torch.no_grad()
def test_a_distilled_length_starts_with_a_row_of_zeros_for_its_token():
    method = vitlab.create("revit", "micro_plain8", num_classes=10, lengths=(7, 4), dist_token="deit")
    plain = backbones.create("micro_plain8", num_classes=10)
    method.init_from(plain)
    table = backbones.resample_positions(plain, 4)
    assert torch.equal(method.embed.pos["4"], torch.cat([table[:, :1], torch.zeros(1, 1, 64), table[:, 1:]], 1))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_what_is_transferred_in_half_precision_is_compared_in_single(kind):
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 4, 4, generator=draw).to(kind), torch.randn(2, 8, 4, 4, generator=draw).to(kind)
    found = feature_transfer(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, feature_transfer(student.float(), teacher.float()))
    assert attention_transfer(torch.rand(1, 4, 4, generator=draw), torch.rand(1, 7, 7, generator=draw)) > 0
