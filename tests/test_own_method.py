"""A method of a reader's own, with what the protocol asks for and nothing else, is taken by everything that takes a method."""
import copy

import pytest
import torch
from desk import QUICK, images, short  # noqa: F401
from test_forced import Reader

import vitlab
from vitlab import measure
from vitlab.block import attention, mlp, qkv
from vitlab.compiled import Compiled
from vitlab.widgets import explore


@pytest.fixture
def own():
    torch.manual_seed(0)
    net = Reader(vitlab.create("dense", "micro_patch8", num_classes=10).vit).eval()
    assert not hasattr(net, "check") and not hasattr(net, "made")
    return net


def test_it_is_explored_with_every_tool(own, images, tmp_path):  # noqa: F811
    panel = explore(own, images, batch=2, compiled=False)
    assert panel.wait(QUICK), panel.last_error
    assert panel.set(latency=True).wait(QUICK), panel.last_error
    assert panel.result["latency_ms"] > 0 and panel.result["images_per_s"] > 0
    assert panel.pin().wait(QUICK), panel.last_error
    panel.controls.deep.value = True
    panel.view.aide.patch = [3, 3]
    assert panel.wait(QUICK), panel.last_error
    assert "read alone" in panel.gaze.read.value
    assert panel.save(tmp_path / "panel.html").exists()
    panel.close()


class Placed(Reader):
    """One that makes no tensor of its own."""

    def forward(self, images, point=None, trace=None):  # noqa: F811
        x = vitlab.backbones.embed(self.vit, images)
        for block in self.vit.blocks:
            x = x + attention(block, *qkv(block, x))
            x = x + mlp(block, x)
        return vitlab.backbones.head(self.vit, x)


@torch.inference_mode()
def test_it_is_compiled(own, images):  # noqa: F811
    net, pictures = Placed(own.vit).eval(), images.images([0, 1])
    compiled = Compiled(copy.deepcopy(net), backend="eager")
    for point in (None, net.points[0]):
        torch.testing.assert_close(compiled(pictures, point), net(pictures, point), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_it_is_told_what_it_lacks_to_be_compiled_and_is_looked_along(own, images):  # noqa: F811
    pictures = images.images([0, 1])
    compiled = Compiled(copy.deepcopy(own), backend="eager")
    with pytest.raises(ValueError, match="Reader makes a tensor without saying where.*; write device=images.device there"):
        compiled(pictures, own.points[0])
    along = measure.depth(own, pictures[:1])
    assert along.layer.nunique() == len(own.vit.blocks)
