"""Yes and no as people give them: True and False of any library, and nothing that only counts as one of them."""
import inspect

import numpy as np
import pytest
import torch

import vitlab
from vitlab import data
from vitlab.numbers import flag

KNOBS = [("supervit", "count_cls"), ("supervit", "resample"), ("supervit", "share_prefix"),
         ("revit", "head_per_length"), ("dense", "pretrained"),
         *(("spvit", name) for name in ("persist", "branch", "shared")),
         ("tome", "decreasing"), ("tome", "proportional"),
         *(("dvt", name) for name in ("features", "relations", "reuse_cls", "feature_norm", "detach", "zero_relations"))]
NEITHER = [1, 0, 1.0, None, "no", "False", (), (True,), np.int64(1), torch.tensor([True, False])]


@pytest.mark.parametrize("given", NEITHER, ids=repr)
def test_what_only_counts_as_yes_or_no_is_refused(given):
    with pytest.raises(ValueError, match="^resume must be True or False, not "):
        flag(given, "resume")


@pytest.mark.parametrize("yes", [True, np.True_, np.array(True), torch.tensor(True)], ids=repr)
def test_yes_and_no_of_any_library_are_pythons(yes):
    assert flag(yes, "resume") is True
    assert flag(~yes if yes is not True else False, "resume") is False


@pytest.mark.parametrize(("method", "knob"), KNOBS)
@pytest.mark.parametrize("given", [1, "no"])
def test_a_knob_that_is_yes_or_no_takes_nothing_else(method, knob, given):
    with pytest.raises(ValueError, match=f"^{knob} must be True or False, not {given!r}$"):
        vitlab.create(method, "micro_patch8", num_classes=10, **{knob: given})


def test_functions_refuse_the_same():
    net, pictures = vitlab.create("dense", "micro_patch8", num_classes=10), data.shapes("val", n=12)
    with pytest.raises(ValueError, match="^resume must be True or False, not 'no'$"):
        vitlab.fit(net, pictures, vitlab.Recipe(steps=1, batch=4), resume="no")
    with pytest.raises(ValueError, match="^augment must be True or False, not 1$"):
        data.shapes("val", n=12, augment=1)


def test_every_knob_of_the_kind_is_listed():
    """A method's constructor says which of its knobs are bool; none may be missing above."""
    found = {(name, knob) for name, method in vitlab.methods.METHODS.items()
             for knob, said in inspect.signature(method).parameters.items() if said.annotation is bool}
    assert found == set(KNOBS) - {("dense", "pretrained")}


def test_numpys_yes_makes_the_same_net_and_the_same_checkpoint(tmp_path):
    torch.manual_seed(0)
    net = vitlab.create("supervit", "micro_patch8", num_classes=10, count_cls=np.False_)
    assert net.count_cls is False and net.made["knobs"] == {"count_cls": False}
    vitlab.save(net, tmp_path / "net.safetensors")
    assert vitlab.load(tmp_path / "net.safetensors").count_cls is False
