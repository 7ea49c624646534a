"""The token-length assigner's own rules: how large its small copy is, how it is made, and what it cannot learn from."""
import pytest
import torch
import torch.nn.functional as F
from samples import pictures

import vitlab


def test_it_looks_at_an_antialiased_small_copy():
    tla, images, seen = vitlab.TLA(3, 56).eval(), pictures(2), []
    tla.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    tla(images)
    assert torch.equal(seen[0], F.interpolate(images, (28, 28), mode="bilinear", antialias=True))


@pytest.mark.parametrize(("pixels", "size", "fits"), [(15, 56, False), (16, 56, True), (20, 20, True), (21, 20, False)])
def test_the_copy_has_16_pixels_up_to_those_of_the_picture(pixels, size, fits):
    make = ("efficientnet_b0", 0.25, 0.25, pixels)
    if fits:
        assert vitlab.TLA(2, size, make).architecture.pixels == pixels
    else:
        with pytest.raises(ValueError, match=f"looks at 16 to {size} pixels per side, not {pixels}"):
            vitlab.TLA(2, size, make)


@pytest.mark.parametrize(("size", "pixels", "width"), [(20, 20, 0.25), (111, 28, 0.25), (112, 112, 0.5), (224, 128, 0.5)])
def test_small_pictures_get_the_small_one_and_none_a_copy_larger_than_itself(size, pixels, width):
    found = vitlab.TLA(2, size).architecture
    assert (found.pixels, found.width, found.depth) == (pixels, width, width)


@pytest.mark.parametrize(("width", "depth", "words"), [
    (0, 1, "width must be a number above 0, not 0"), (1, 0.0, "depth must be a number above 0, not 0"),
    (-1, 1, "width must be a number of at least 0"), (1, "deep", "depth must be a number")])
def test_multipliers_are_above_zero(width, depth, words):
    with pytest.raises(ValueError, match=words):
        vitlab.TLA(2, 56, ("efficientnet_b0", width, depth, 28))


def test_one_picture_a_step_is_refused_in_training_alone():
    tla, one = vitlab.TLA(2, 56), (pictures(1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="learns from at least two pictures a step, because of its BatchNorm; raise batch"):
        next(tla.losses(*one))
    assert next(tla.eval().losses(*one))["ce"].isfinite()
    assert next(tla.train().losses(pictures(2), torch.tensor([0, 1])))["ce"].isfinite()


def test_how_rare_lengths_were_is_no_weight_of_the_net():
    tla = vitlab.TLA(3, 56)
    tla.weigh(torch.tensor([0, 0, 1]))
    assert "balance" not in tla.state_dict()
