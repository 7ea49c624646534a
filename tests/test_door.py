"""What `fit` and `save` refuse at the door, and what they leave behind: a net where it was, a folder that can be written."""
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from test_train import EVERYTHING, Coin, blobs, coin, same
from torch import nn
from torch.nn.utils import parametrizations, prune

import vitlab
from vitlab import checkpoint
from vitlab.recipe import Recipe
from vitlab.train import fit, loop
from vitlab.train.door import check_net

RECIPE = Recipe(steps=2, batch=8)


def alone(**changes):
    """A Coin that reads no teacher."""
    net = coin(**changes)
    net.uses_teacher = False
    return net


@pytest.mark.parametrize(("net", "sentence"), [
    (lambda: coin().half(), "holds weights in float16, but training updates float32"),
    (lambda: coin().bfloat16(), "holds weights in bfloat16"), (lambda: coin().double(), "holds weights in float64"),
    (lambda: coin().requires_grad_(False), "every parameter of this Coin is frozen"),
])
def test_a_net_that_cannot_be_trained_is_refused(tmp_path, net, sentence):
    net = net()
    with pytest.raises(ValueError, match=sentence) as error:
        fit(net, blobs(8), RECIPE, out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not net.seen
    assert not (tmp_path / "run").exists()


def test_a_net_with_one_half_precision_layer_is_refused():
    net = coin()
    net.head.half()
    with pytest.raises(ValueError, match="float16"):
        fit(net, blobs(8), RECIPE)


@pytest.mark.parametrize("net", [alone(), *(vitlab.create(name, "micro_patch8", 4) for name in ("dense", "supervit", "revit"))],
                         ids=lambda net: type(net).__name__)
def test_a_teacher_that_nobody_reads_is_refused(net):
    with pytest.raises(ValueError, match=f"a {type(net).__name__} learns from no teacher.*leave teacher out"):
        fit(net, blobs(8), RECIPE, teacher=coin())


def test_batchnorm_wants_a_batch_of_two():
    assigner, one = vitlab.TLA(2, 56), Recipe(steps=1, batch=1)
    with pytest.raises(ValueError, match="this TLA has BatchNorm.*at least 2"):
        fit(assigner, blobs(8), one)
    check_net(assigner, Recipe(steps=1, batch=2), None, 1)
    net = vitlab.create("revit", "micro_patch8", 4, lengths=(7, 4))
    net.attach(assigner)
    check_net(net, one, None, 1)                                           # a frozen assigner takes no part in a step


@pytest.mark.parametrize("mixed", [{"mixup": 0.5}, {"cutmix": 1.0}])
def test_same_draw_does_not_promise_what_mixup_breaks(mixed):
    recipe = Recipe(steps=1, same_draw=True, **mixed)
    check_net(coin(), recipe, None, 1)
    with pytest.raises(ValueError, match="mixup and cutmix pair the images of one process"):
        check_net(coin(), recipe, None, 2)
    check_net(coin(), Recipe(steps=1, **mixed), None, 2)


def test_an_accelerator_made_before_does_not_matter():
    plain, after = coin(), coin()
    fit(plain, blobs(24), EVERYTHING)
    try:
        Accelerator(mixed_precision="bf16", cpu=True)
        fit(after, blobs(24), EVERYTHING)
        assert same(plain, after)
        assert AcceleratorState().mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state()


def test_gradient_accumulation_for_another_loop_does_not_matter(monkeypatch):
    """accelerate divides losses by what this variable says."""
    plain, after = coin(), coin()
    fit(plain, blobs(24), EVERYTHING)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    fit(after, blobs(24), EVERYTHING)
    assert same(plain, after)


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_nets_go_back_to_where_they_came_from(monkeypatch, value):
    """Also when the run breaks. "cpu:0" stands for a GPU: another device by name, whose tensors are on the CPU all the same."""
    class There:
        device, num_processes, process_index, is_main_process = torch.device("cpu:0"), 1, 0, True
        wait_for_everyone = staticmethod(lambda: None)

    monkeypatch.setattr(loop, "processes", There)
    nets, moves = [coin(), coin()], []
    for net in nets:
        move = net.to
        net.to = lambda device, net=net, move=move: moves.append((net, str(device))) or move(device)
    losses = nets[0].losses
    nets[0].losses = lambda *inputs: ({name: term * value for name, term in part.items()} for part in losses(*inputs))
    try:
        fit(nets[0], blobs(8), RECIPE, teacher=nets[1])
    except FloatingPointError:
        assert value != 1.0
    for net in nets:
        assert [device for moved, device in moves if moved is net] == ["cpu:0", "cpu"]
        assert not net.training


@pytest.mark.parametrize(("precision", "advice"), [("fp32", r"lower lr or set clip$"), ("bf16", 'use precision="fp32"$')])
def test_an_overflow_of_the_gradient_is_called_that(precision, advice):
    net, losses = coin(), Coin.losses
    net.losses = lambda *inputs: ({name: term * 1e30 for name, term in part.items()} for part in losses(net, *inputs))
    with pytest.raises(FloatingPointError, match=f"the norm of the gradient became inf at step 1: .*{advice}"):
        fit(net, blobs(8), Recipe(steps=1, batch=8, precision=precision))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that nobody may write to")
def test_a_folder_that_cannot_be_written_is_refused_before_any_work():
    net = coin()
    with pytest.raises(OSError, match="nothing can be written to /proc/self .*choose another folder"):
        fit(net, blobs(8), RECIPE, out="/proc/self")
    assert not net.seen


@pytest.mark.filterwarnings("ignore:finished before")
def test_a_finished_run_is_read_from_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    fit(coin(), blobs(8), RECIPE, out=tmp_path)
    monkeypatch.setattr("vitlab.train.folder.TemporaryFile", None)         # nothing may be tried
    assert fit(coin(), blobs(8), RECIPE, out=tmp_path).attrs["note"].startswith("finished before")


# Numbers of a recipe

def test_a_recipes_numbers_may_be_numpys_and_torchs_and_are_kept_as_pythons_own():
    recipe = Recipe(steps=np.int64(3), batch=torch.tensor(8), lr=np.float32(0.5), betas=np.array([0.5, 0.75]), clip=1,
                    seed=np.uint8(4), same_draw=np.bool_(True), log_every=np.array(2))
    assert recipe == Recipe(steps=3, batch=8, lr=0.5, betas=(0.5, 0.75), clip=1.0, seed=4, same_draw=True, log_every=2)
    kinds = {name: type(getattr(recipe, name)) for name in ("steps", "batch", "lr", "clip", "seed", "same_draw", "log_every")}
    assert list(kinds.values()) == [int, int, float, float, int, bool, int]
    assert [type(beta) for beta in recipe.betas] == [float, float]
    assert hash(Recipe(steps=1, betas=[0.9, 0.999])) == hash(Recipe(steps=1))  # a list is what JSON gives back


@pytest.mark.parametrize(("wrong", "sentence"), [
    ({"steps": 3.0}, "steps must be a whole number"), ({"steps": np.float64(3)}, "steps must be a whole number"),
    ({"steps": True}, "steps must be a whole number"), ({"steps": np.bool_(True)}, "steps must be a whole number"),
    ({"steps": torch.tensor(True)}, "steps must be a whole number"), ({"steps": [3]}, "steps must be a whole number"),
    ({"steps": "3"}, "steps must be a whole number"), ({"steps": np.int64(0)}, "at least 1"),
    ({"steps": 1, "batch": None}, "batch must be a whole number"), ({"steps": 1, "workers": None}, "workers must be"),
    ({"steps": 1, "lr": True}, "lr must be a number"), ({"steps": 1, "mixup": None}, "mixup must be a number"),
    ({"steps": 1, "weight_decay": np.nan}, "weight_decay must be a number"), ({"steps": 1, "min_lr": None}, "min_lr must be"),
    ({"steps": 1, "betas": 0.9}, "betas must be two numbers"), ({"steps": 1, "betas": (0.9, None)}, "betas must be two"),
    ({"steps": 1, "betas": (True, 0.9)}, "betas must be"), ({"steps": 1, "same_draw": 1}, "same_draw must be True or False"),
])
def test_what_is_no_number_of_its_kind_is_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        Recipe(**wrong)
    assert "\n" not in str(error.value)


# Checkpoints that could not be loaded

def net():
    torch.manual_seed(0)
    return vitlab.create("dense", "micro_patch8", 4, image_size=16).eval()


def of_compiled(net):
    return torch.compile(net)


def of_compiled_blocks(net):
    for at, block in enumerate(net.vit.blocks):
        net.vit.blocks[at] = torch.compile(block)
    return net


@pytest.mark.parametrize("change", [of_compiled, of_compiled_blocks])
def test_a_compiled_net_is_saved_under_its_own_names(tmp_path, change):
    changed = change(net())
    assert any("_orig_mod" in name for name in changed.state_dict())
    vitlab.save(changed, tmp_path / "net.safetensors")
    assert same(vitlab.load(tmp_path / "net.safetensors"), net())
    other = change(vitlab.create("dense", "micro_patch8", 4, image_size=16))
    checkpoint.restore(other, tmp_path / "net.safetensors")
    assert same(other, net())


def test_a_compiled_net_is_trained_as_its_own_self_and_goes_on(tmp_path):
    def backend(graph, inputs):
        raise AssertionError("something was compiled")

    whole, compiled = coin(), torch.compile(coin(), backend=backend)
    fit(whole, blobs(24), EVERYTHING, val=blobs(8))
    stop = compiled._orig_mod.losses
    compiled._orig_mod.losses = lambda *inputs: stop(*inputs) if len(compiled.seen) < 7 else 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(compiled, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    again = coin()
    fit(again, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)          # from step 6, without torch.compile
    assert same(again, whole)


def other_head(net):
    net.vit.head = nn.Linear(48, 7)


def no_head(net):
    net.vit.head = nn.Identity()


def normed(net):
    parametrizations.weight_norm(net.vit.head)


def pruned(net):
    prune.l1_unstructured(net.vit.head, "weight", amount=0.5)


class Packed(nn.Linear):
    """As quantised layers do, it keeps something that is no tensor in its state dict."""

    def get_extra_state(self):
        return "int8"


def packed(net):
    net.vit.head = Packed(48, 4)


def longer(net):
    net.vit.blocks.append(net.vit.blocks[0])


def noted(net):
    net.scale = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("change", [other_head, no_head, normed, pruned, packed, longer, noted])
def test_a_net_that_load_could_not_make_again_is_refused_by_save_and_by_fit(tmp_path, change):
    changed, data = net(), blobs(8)
    change(changed)
    for attempt in (lambda: vitlab.save(changed, tmp_path / "net.safetensors"), lambda: fit(changed, data, RECIPE),
                    lambda: fit(changed, data, RECIPE, out=tmp_path / "run")):
        with pytest.raises(ValueError, match="this dense on micro_patch8 .* is not what it was made as.*the first is ") as error:
            attempt()
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_an_assigner_is_part_of_what_a_net_is_made_as(tmp_path):
    """However often another one is attached; one that was changed itself is refused."""
    path = tmp_path / "net.safetensors"
    revit = vitlab.create("revit", "micro_patch8", 4, lengths=(7, 4))
    revit.attach(vitlab.TLA(2, 56, ("efficientnet_b0", 0.25, 0.5, 28)))
    vitlab.save(revit, path)
    loaded = vitlab.load(path)
    loaded.attach(vitlab.TLA(2, 56))                                       # of fewer layers
    vitlab.save(loaded, path)
    assert same(vitlab.load(path), loaded)
    loaded.assigner.net.classifier = nn.Linear(7, 2)
    with pytest.raises(ValueError, match="the first is assigner.net.classifier"):
        vitlab.save(loaded, path)


def test_facts_may_be_numpys_and_torchs_numbers(tmp_path):
    path = tmp_path / "net.safetensors"
    vitlab.save(net(), path, top1=np.float32(12.5), n=np.int64(3), each=np.arange(2), loss=torch.tensor(0.5))
    facts = vitlab.load(path).facts
    assert [facts[name] for name in ("top1", "n", "each", "loss")] == [12.5, 3, [0, 1], 0.5]


@pytest.mark.parametrize(("facts", "sentence"), [
    ({"progress": 1}, "progress is a fact that vitlab writes itself"), ({"made": {}}, "made is a fact that vitlab writes"),
    ({"who": object()}, "a object cannot be written into a checkpoint"), ({"on": {1, 2}}, "a set cannot be written"),
])
def test_facts_that_would_spoil_a_checkpoint_are_refused(tmp_path, facts, sentence):
    with pytest.raises(ValueError, match=sentence):
        vitlab.save(net(), tmp_path / "net.safetensors", **facts)
    assert list(tmp_path.iterdir()) == []


def test_what_a_net_was_made_with_is_written_or_refused_before_training():
    strange = net()
    strange.made["knobs"] = {"norm": nn.LayerNorm}
    with pytest.raises(ValueError, match="a type cannot be written into a checkpoint"):
        fit(strange, blobs(8), RECIPE)
