"""Do two methods keep the same patches?"""
import math
from types import SimpleNamespace

import pytest
import torch
from samples import pictures, sharpen

import vitlab
from vitlab.measure import agreement
from vitlab.measure.agreement import central


def trace_of(*layers, stage=0, grid=(4, 4)):
    trace = vitlab.Trace()
    trace.layers = [SimpleNamespace(fed=torch.tensor(fed, dtype=torch.bool), stages=(stage,), grid=grid) for fed in layers]
    return trace


def sets(*rows):
    """[B, 16] of the patches named."""
    return [[int(n in row) for n in range(16)] for row in rows]


def test_it_is_the_mean_over_images_of_patches_in_both_over_patches_in_any():
    a, b = trace_of(sets({0, 1, 2}, {5, 6})), trace_of(sets({1, 2, 3}, {9, 10}))
    row, = agreement({"a": a, "b": b}).to_dict("records")
    assert (row["layer"], row["a"], row["b"]) == (1, "a", "b")
    assert row["overlap"] == pytest.approx((2 / 4 + 0) / 2)
    assert row["centre_b"] == pytest.approx((0 + 2 / 2) / 2, abs=0.51)     # 5, 6, 9 and 10 are the middle four
    assert row["centre_a"] == pytest.approx((0 / 6 + 1) / 2)


def test_chance_is_what_random_sets_have():
    torch.manual_seed(0)
    one, two = (torch.rand(4000, 16).argsort(1) < count for count in (5, 9))
    row, = agreement({"a": trace_of(one.tolist()), "b": trace_of(two.tolist())}).to_dict("records")
    assert row["overlap"] == pytest.approx(row["chance"], abs=0.01)


def test_the_middle_is_nearest_to_the_centre_and_as_large_as_what_it_is_compared_with():
    like = torch.tensor(sets({0, 1, 2, 3}, {0}, set()), dtype=torch.bool)
    assert central(like, (4, 4)).sum(1).tolist() == [4, 1, 0]
    assert central(like, (4, 4))[0].nonzero()[:, 0].tolist() == [5, 6, 9, 10]


def test_images_that_nobody_keeps_anything_of_do_not_count():
    a, b = trace_of(sets({0}, set())), trace_of(sets({0}, set()))
    assert agreement({"a": a, "b": b}).overlap.tolist() == [1.0]
    nobody = agreement({"a": trace_of(sets(set())), "b": trace_of(sets(set()))})
    assert math.isnan(nobody.overlap[0])
    assert math.isnan(nobody.chance[0])


@torch.no_grad()
def test_a_method_agrees_with_itself_and_a_dense_net_with_everyone_as_far_as_they_keep():
    torch.manual_seed(0)
    images, made = pictures(3), {}
    for name, knobs, point in (("dense", {}, ()), ("supervit", {}, (7, 0.5)), ("dvt", {"grids": (4, 7)}, ((1.0,),))):
        net = sharpen(vitlab.create(name, "micro_patch8", 10, **knobs)).eval()
        made[name] = vitlab.Trace()
        net(images, net.Point(*point), made[name])
    found = agreement(made | {"again": made["supervit"]})
    same = found.query("a == 'supervit' and b == 'again'")
    assert same.overlap.tolist() == pytest.approx([1.0] * len(same))
    shares = [part.fed.float().mean().item() for part in made["supervit"].layers]
    assert found.query("a == 'dense' and b == 'supervit'").overlap.tolist() == pytest.approx(shares)
    assert found.query("a == 'supervit' and b == 'dvt'").overlap.tolist() == pytest.approx(shares)  # keeps all


def test_what_cannot_be_compared_is_said():
    a = trace_of(sets({0}))
    with pytest.raises(ValueError, match="two or more traces by name"):
        agreement({"a": a})
    with pytest.raises(ValueError, match="same pictures, grid and depth"):
        agreement({"a": a, "b": trace_of(sets({0}), sets({0}))})
    with pytest.raises(TypeError, match=r"vitlab\.Trace"):
        agreement({"a": a, "b": 3})
