"""Shared by all tests: one torch thread, small nets, random pictures."""
import pytest
import torch
from samples import sharpen

import vitlab


@pytest.fixture(autouse=True)
def one_thread_and_a_seed():
    """Two threads collapse on a busy machine; a fixed seed makes every failure repeatable."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def small_supervit():
    """A SuperViT on the small net with 14x14 tokens, its attention sharpened so that rounding does not rank the tokens."""
    torch.manual_seed(0)
    return sharpen(vitlab.create("supervit", "micro_patch4", num_classes=10)).eval()


@pytest.fixture
def weightless(monkeypatch):
    """Nets of a paper's size are made without drawing their weights, all of them zeros: no cost and no count depends on them."""
    for name in ("uniform_", "normal_", "erfinv_"):
        monkeypatch.setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor.zero_())
