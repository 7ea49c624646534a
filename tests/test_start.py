"""A net that starts from another's weights, which may cut the picture into another patch grid."""
import pytest
import torch
from samples import pictures
from timm.layers import resample_patch_embed

import vitlab
from vitlab import backbones
from vitlab.backbones import by_the_book, resample_positions
from vitlab.backbones.start import centred


@torch.no_grad()
def test_of_the_same_grid_it_answers_the_same():
    one, other = (backbones.create("micro_patch8", num_classes=10).eval() for _ in range(2))
    images = pictures(2)
    assert not torch.equal(one(images), other(images))
    backbones.start_from(one, other)
    assert torch.equal(one(images), other(images))


@torch.no_grad()
def test_of_another_grid_positions_and_patches_are_resampled_and_all_else_is_copied():
    coarse, fine = (backbones.create("deit_tiny", num_classes=10, image_size=96, grid=grid) for grid in (4, 6))
    before = {name: weight.clone() for name, weight in fine.state_dict().items()}
    backbones.start_from(coarse, fine)
    assert torch.equal(coarse.pos_embed, resample_positions(fine, 4))
    assert torch.equal(coarse.patch_embed.proj.weight, resample_patch_embed(fine.patch_embed.proj.weight, [24, 24]))
    for name, weight in fine.state_dict().items():
        assert torch.equal(weight, before[name])                           # who gives keeps all
        if name not in ("pos_embed", "patch_embed.proj.weight"):
            assert torch.equal(coarse.state_dict()[name], weight), name


@torch.no_grad()
def test_a_kernel_stands_in_the_middle_of_a_larger_one_and_does_the_same():
    kernel, x = torch.randn(5, 2, 1, 1), torch.randn(1, 2, 9, 9)
    wide = centred(kernel, (3, 3))
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(conv(x, wide, padding=1), conv(x, kernel))
    assert torch.equal(centred(wide, (1, 1)), kernel)
    for small, large in ((2, 5), (3, 4), (2, 3)):
        odd = torch.randn(1, 1, small, small)
        assert torch.equal(centred(centred(odd, (large, large)), (small, small)), odd)
    coarse, fine = (backbones.create("micro_patch8", num_classes=10, grid=grid) for grid in (4, 7))
    backbones.start_from(coarse, fine)
    weights = [vit.patch_embed.backbone[3].conv.weight for vit in (coarse, fine)]
    assert [w.shape[-1] for w in weights] == [3, 1]
    assert torch.equal(weights[0][..., 1:2, 1:2], weights[1])
    assert weights[0].count_nonzero() == weights[1].count_nonzero()


@pytest.mark.parametrize("method", ["dvt", "revit", "spvit", "svit"])
@pytest.mark.parametrize(("other", "classes"), [("micro_plain8", 10), ("micro_patch8", 9), ("deit_tiny", 10)])
def test_what_does_not_fit_gets_one_sentence_and_nothing_is_changed(method, other, classes):
    net = vitlab.create(method, "micro_patch8", num_classes=10)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    with pytest.raises(ValueError, match="tensors of this net have no counterpart in the backbone given"):
        net.init_from(backbones.create(other, num_classes=classes))
    assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())


@torch.no_grad()
def test_every_stage_of_a_cascade_starts_from_a_plain_net():
    """Without reuse each exit is then the plain net on its own grid; with it, what reads the stage before is as it was drawn."""
    plain, images = backbones.create("micro_patch4", num_classes=10).eval(), pictures(2)
    alone = vitlab.create("dvt", "micro_patch8", num_classes=10, features=False, relations=False).eval()
    alone.init_from(plain)
    for grid, logits in zip(alone.grids, alone.exits(images), strict=True):
        single = backbones.create("micro_patch8", num_classes=10, grid=grid).eval()
        backbones.start_from(single, plain)
        with by_the_book():
            torch.testing.assert_close(logits, single(images), atol=1e-5, rtol=1e-5)
    net = vitlab.create("dvt", "micro_patch8", num_classes=10)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    net.init_from(plain)
    width = plain.embed_dim
    for name, weight in net.state_dict().items():
        if ".vit." not in name:
            assert torch.equal(weight, before[name]), name
        elif name.endswith(("norm2.weight", "norm2.bias", "mlp.fc1.weight")):
            own = plain.state_dict()[name.partition(".vit.")[2]]
            assert torch.equal(weight[..., :width], own)
            assert torch.equal(weight[..., width:], before[name][..., width:])
