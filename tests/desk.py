"""What the panel's tests share: a small net, pictures to look at, and measurements that take no time."""
import pytest
import torch
from samples import sharpen

import vitlab
from vitlab import data
from vitlab.widgets import engine

QUICK = 120                                 # seconds that nothing here needs, unless the machine is very busy


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return sharpen(vitlab.create("supervit", "micro_patch8", num_classes=10)).eval()


@pytest.fixture(scope="module")
def images():
    return data.shapes("val", n=12)


@pytest.fixture(scope="module", autouse=True)
def short():
    """Measurements of as few rounds as there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "SECONDS", 0.01)
        yield
