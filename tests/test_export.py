"""A fixed operating point is one graph: compiled whole and exported on a CPU, for any number of pictures."""
import pytest
import torch
from samples import FIXED, pictures
from torch import nn
from torch.export import Dim

import vitlab
from vitlab import backbones


class At(nn.Module):
    """A method at one of its points: a graph is a function of tensors alone."""

    def __init__(self, method, point):
        super().__init__()
        self.method, self.point = method, point

    def forward(self, images):
        return self.method(images, self.point)


@pytest.fixture(params=FIXED)
def fixed(request, monkeypatch):
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 2)
    knobs, point = FIXED[request.param]
    method = vitlab.create(request.param, "micro_patch8", num_classes=10, **knobs).eval()
    return At(method, method.Point(*point))


@torch.no_grad()
def test_a_fixed_point_is_exported_for_any_number_of_pictures(fixed):
    program = torch.export.export(fixed, (pictures(3),), dynamic_shapes=({0: Dim("batch")},)).module()
    for count in (1, 2, 5):
        images = pictures(count)
        torch.testing.assert_close(program(images), fixed(images), atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_fixed_point_is_compiled_whole(fixed):
    images = pictures(2)
    whole = torch.compile(fixed, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(images), fixed(images), atol=1e-6, rtol=0)
