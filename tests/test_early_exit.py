"""An early exit over a net that decides for itself: what a picture costs, and where it is counted."""
import pytest
import torch
from samples import between, pictures, sharpen

import vitlab
from vitlab.methods.supervit import Point


@pytest.fixture(scope="module")
def dvt():
    torch.manual_seed(0)
    return sharpen(vitlab.create("dvt", "micro_patch8", num_classes=10)).eval()


@torch.no_grad()
def test_a_cascade_within_a_cascade_costs_what_each_picture_ran(dvt):
    """Two pictures that leave at one exit of the outer cascade may have left the inner one at different ones."""
    images = pictures(8)
    inner = between(next(iter(dvt.exits(images))).softmax(-1).amax(-1))
    stages = dvt.Point((inner, 1.0)), dvt.Point((1.0, 1.0))
    net = vitlab.EarlyExit(dvt, stages).eval()
    assert net.adaptive is True
    first, second = (vitlab.gmacs(dvt, images, point) for point in stages)
    assert len(set(first.round(9))) == 2
    assert vitlab.gmacs(net, images, net.Point(0.0)) == pytest.approx(first)
    assert vitlab.gmacs(net, images, net.Point(1.0)) == pytest.approx(first + second)


def test_over_one_plain_net_the_exit_tells_the_cost():
    net = vitlab.create("supervit", "micro_patch8", num_classes=10).eval()
    assert vitlab.EarlyExit(net, (Point(4), Point(7))).adaptive == "exit"
