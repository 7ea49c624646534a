"""A fixed operating point is one graph: compiled whole on a CPU (tests/test_edge.py exports it, for any number of pictures)."""
import pytest
import torch
from samples import FIXED, pictures

import vitlab
from vitlab import backbones
from vitlab.fixed import At


@pytest.fixture(params=FIXED)
def fixed(request, monkeypatch):
    monkeypatch.setitem(backbones.micro.DEPTH, "micro_patch8", 2)
    knobs, point = FIXED[request.param]
    method = vitlab.create(request.param, "micro_patch8", num_classes=10, **knobs).eval()
    return At(method, method.Point(*point))


@torch.no_grad()
def test_a_fixed_point_is_compiled_whole(fixed):
    images = pictures(2)
    whole = torch.compile(fixed, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(images), fixed(images), atol=1e-6, rtol=0)
