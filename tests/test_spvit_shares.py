"""SPViT's shares: every point a net offers can be reached, whatever shares it was made with."""
import pytest
import torch
from samples import pictures

import vitlab
from vitlab.methods.spvit import calibrate
from vitlab.methods.spvit.clock import clock


def made(**knobs):
    torch.manual_seed(0)
    return vitlab.create("spvit", "micro_patch8", num_classes=10, **knobs).eval()


@torch.no_grad()
@pytest.mark.parametrize("keep", ((0.99, 0.98, 0.97), (1.0, 0.7, 0.5), (1.0, 1.0, 0.3), (1.0, 1.0, 1.0)))
def test_every_point_offered_can_be_reached(keep):
    net = made(keep=keep)
    assert len(net.points) >= 5
    for point in net.points:
        assert vitlab.gmacs(net, pictures(1), point)[0] == pytest.approx(point.budget, rel=0.03)
    assert net.keep_at(net.budget) == keep


def test_a_selector_that_is_to_drop_nothing_can_be_calibrated_beside_others():
    net, pics = made(keep=(1.0, 0.7, 0.5)), vitlab.data.shapes("test", n=100).take(slice(16))
    calibrate(net, pics, [net.budget])
    assert net.adaptive
    assert vitlab.answers(net, pics).gmacs.mean() == pytest.approx(net.budget, rel=0.03)


def test_a_latency_can_be_taken_without_selectors():
    net = made(score="random")
    work = clock(net.vit, net.after, [net.scorer(block) for block in net.after], 3, runs=1, points=2)
    assert work.unit == "ms" and work.dense > work.stem > 0
