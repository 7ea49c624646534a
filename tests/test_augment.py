"""timm's policies on thousands of pictures: none stops a training, and every Pillow gives the same."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment

from vitlab.data import Augment
from vitlab.data.augment import posterize, training_transform, with_every_pillow
from vitlab.data.picture import USUAL

POLICIES = ["rand-m9-mstd0.5-inc1", "rand-m15-mstdinf", "rand-m0-inc1", "original", "originalr", "v0", "v0r", "3a",
            "augmix-m10-w3", "rand-m9-n3-mstd0.5"]


def operations(policy: str) -> list:
    """Every operation of a policy, as Augment prepares it."""
    step, = (step for step in training_transform(Augment(auto_augment=policy), 8, USUAL).transforms
             if hasattr(step, "ops") or hasattr(step, "policy"))
    return [operation for layer in (getattr(step, "ops", []), *getattr(step, "policy", [])) for operation in layer]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_operation_runs_at_every_strength(policy):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    for operation in operations(policy):
        operation.prob, operation.magnitude_std = 1, 0
        for operation.magnitude in (0, 2, 5, 9, 9.99, 10):
            assert operation(picture).size == (8, 8)


def test_thousands_of_pictures_as_deit_changes_them():
    change = Augment(scale=(.08, 1.), color_jitter=.3, auto_augment="rand-m9-mstd0.5-inc1", re_prob=.25)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    torch.manual_seed(0)
    images = torch.cat([change([picture] * 64, 8, USUAL) for _ in range(50)])
    assert images.shape == (3200, 3, 8, 8) and images.isfinite().all()


def test_no_bit_is_black_and_every_other_number_is_timms():
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    assert np.asarray(posterize(picture, 0)).max() == 0
    for bits in range(1, 9):
        assert np.array_equal(posterize(picture, bits), np.asarray(picture) & (256 - 2 ** (8 - bits)))


def test_only_this_transform_is_changed():
    """timm's own table stays, and so does a transform that nobody handed over."""
    other = auto_augment.rand_augment_transform("rand-m9-inc1", {})
    own = auto_augment.rand_augment_transform("rand-m9-inc1", {})
    with_every_pillow(SimpleNamespace(transforms=[own]))
    changed = {name for name, function in auto_augment.NAME_TO_OP.items() if function is posterize}
    assert not changed and all(op.aug_fn is not posterize for op in other.ops)
    assert [op.name for op in own.ops if op.aug_fn is posterize] == ["PosterizeIncreasing"]
