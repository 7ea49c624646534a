"""Training: the loop is AdamW on the method's own losses, a run can stop anywhere, and bad input gets one sentence."""
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn
from torch.utils.data import DataLoader

import vitlab
from vitlab import checkpoint
from vitlab.data import ImageSet
from vitlab.recipe import Recipe
from vitlab.train import fit
from vitlab.train.batches import Batches, mixed
from vitlab.train.loop import ctrl_c
from vitlab.train.run import mixer, parameter_groups

CLOCK = ["seconds", "images_per_s"]                     # the columns that no two runs share
EVERYTHING = Recipe(steps=10, batch=8, lr=3e-3, warmup=0.2, clip=1.0, ema=0.9, mixup=0.8, cutmix=1.0,
                    label_smoothing=0.1, log_every=3)


class Trunk(nn.Module):
    """A stand-in for timm's ViT: patches of 2x2, a position table, one layer."""

    def __init__(self, width=8, drop=0.0):
        super().__init__()
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.patch = nn.Linear(12, width)
        self.norm = nn.LayerNorm(width)
        self.drop = DropPath(drop)

    def no_weight_decay(self):
        return {"pos_embed"}

    def forward(self, images):
        patches = F.unfold(images, 2, stride=2).mT                         # [B, 16, 12]
        x = self.patch(patches) + self.pos_embed
        return self.norm(x + self.drop(F.gelu(x))).mean(1)


class Coin(nn.Module):
    """The smallest method: a head that always learns, and two side heads of which a coin picks one in every step."""

    uses_teacher = True

    def __init__(self, classes=4, drop=0.0):
        super().__init__()
        self.vit = Trunk(drop=drop)
        self.head = nn.Linear(8, classes)
        self.sides = nn.ModuleList(nn.Linear(8, classes) for _ in range(2))
        self.seen = []
        self.made = {"method": "coin", "backbone": "trunk", "num_classes": classes, "image_size": 8, "knobs": {}}

    def forward(self, images, point=None, trace=None):
        return self.head(self.vit(images))

    def losses(self, images, labels, teacher=None):
        self.seen.append((images.detach().clone(), labels.clone()))
        full = self(images)
        yield {"ce": F.cross_entropy(full, labels)}
        side = int(torch.randint(2, ()))
        student = self.sides[side](self.vit(images)).log_softmax(1)
        target = (full if teacher is None else teacher(images)).detach().softmax(1)
        yield {f"kl_{side}": F.kl_div(student, target, reduction="batchmean")}


def coin(**knobs):
    torch.manual_seed(1)
    return Coin(**knobs)


def blobs(n, seed=0, augment=None):
    """Noise, brighter in the quarter that is the label."""
    generator = torch.Generator().manual_seed(seed)
    pictures, labels = torch.randint(0, 120, (n, 8, 8, 3), generator=generator, dtype=torch.uint8), torch.arange(n) % 4
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        picture[4 * (label // 2):, 4 * (label % 2):][:4, :4] += 100
    return ImageSet("blobs", ["a", "b", "c", "d"], labels, pictures, 8, augment=augment)


def same(one, other):
    """Bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def interrupt(method, step, act=lambda: signal.raise_signal(signal.SIGINT)):
    """Let something happen in the middle of one step (counted from 1) of this method."""
    losses, count = method.losses, iter(range(1, 10_000))

    def interrupted(*inputs):
        if next(count) == step:
            act()
        yield from losses(*inputs)

    method.losses = interrupted
    return method


def stumble():
    raise RuntimeError("the machine stumbled")


# The recipe

@pytest.mark.parametrize(("wrong", "sentence"), [
    ({}, "either steps or epochs"), ({"steps": 1, "epochs": 1}, "either steps or epochs"),
    ({"steps": 0}, "steps must be a whole number of at least 1"), ({"epochs": 1.5}, "epochs must be a whole number"),
    ({"steps": 1, "batch": 0}, "batch"), ({"steps": 1, "lr": 0}, "lr must be a number above 0"),
    ({"steps": 1, "lr": math.nan}, "lr must be"), ({"steps": 1, "lr": "1e-3"}, "lr must be"),
    ({"steps": 1, "min_lr": 1.0}, "min_lr"), ({"steps": 1, "lr": None}, "lr"), ({"steps": 1, "lr_backbone": -1}, "lr_backbone"),
    ({"steps": 1, "warmup": 1.0}, "warmup"), ({"steps": 1, "ema": 1.0}, "ema"), ({"steps": 1, "clip": 0}, "clip"),
    ({"steps": 1, "mixup": -1}, "mixup"), ({"steps": 1, "mixup": 0.8, "batch": 5}, "even"),
    ({"steps": 1, "label_smoothing": 1}, "label_smoothing"), ({"steps": 1, "precision": "fp16"}, "fp32, bf16 or auto"),
    ({"steps": 1, "seed": -1}, "seed"), ({"steps": 1, "workers": -1}, "workers"), ({"steps": 1, "betas": (0.9, 1.0)}, "betas"),
    ({"steps": 1, "log_every": 0}, "log_every"),
])
def test_a_recipe_that_makes_no_sense_is_refused_in_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        Recipe(**wrong)
    assert "\n" not in str(error.value)


# The loop

def test_a_run_is_adamw_on_the_sum_of_the_losses_with_one_clip_per_step():
    recipe, data = Recipe(steps=5, batch=8, lr=1e-2, warmup=0.0, min_lr=0.0, clip=0.05, weight_decay=0.3), blobs(16)
    ours, plain = coin(), coin()
    table = fit(ours, data, recipe)
    decayed = [p for p in plain.parameters() if p.dim() == 2]
    still = [p for p in plain.parameters() if p.dim() != 2]                 # biases, norms and the table [1, 16, 8]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": still, "weight_decay": 0.0}], lr=1e-2, weight_decay=0.3)
    norms = []
    for step in range(5):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(mixed(0, 0, step // 2)))
        rows = order[(step % 2) * 8:][:8]
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / 5))
        torch.manual_seed(mixed(0, 2, step, 0))                             # (seed, purpose, step, process)
        parts = [loss for part in plain.losses(data.images(rows), data.labels[rows]) for loss in part.values()]
        for parameter in plain.parameters():
            parameter.grad = torch.zeros_like(parameter)
        sum(parts).backward()
        norms.append(nn.utils.clip_grad_norm_(plain.parameters(), 0.05).item())
        optimizer.step()
    assert min(norms) > 0.05                                                # the clip does something
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)
    assert table["step"].tolist() == [1, 2, 3, 4, 5]


def test_it_learns_and_reports_what_it_learnt():
    method = coin()
    table = fit(method, blobs(64), Recipe(steps=80, batch=16, lr=2e-2, log_every=10), val=blobs(30, seed=1))
    assert table["ce"].iloc[-1] < 0.7 * table["ce"].iloc[0]
    images = blobs(30, seed=1)
    accuracy = 100 * (method(images.images(range(30))).argmax(1) == images.labels).float().mean().item()
    assert table["val_top1"].iloc[-1] == pytest.approx(accuracy)            # 30 images in batches of 16: each counted once
    assert accuracy > 80
    assert not method.training
    ends = table["step"] % 4 == 0                                           # 64 images in batches of 16
    assert table["val_top1"].notna().tolist() == ends.tolist()
    assert {"step", "epoch", "lr", "seconds", "images_per_s", "loss", "ce", "kl_0", "kl_1", "val_top1"} == set(table.columns)


def test_the_rate_warms_up_and_ends_at_its_minimum():
    rates = fit(coin(), blobs(8), Recipe(steps=20, batch=8, lr=1e-2, min_lr=1e-3, warmup=0.25, log_every=1))["lr"].to_numpy()
    assert rates[0] == pytest.approx(1e-6)
    assert rates[5] == pytest.approx(1e-2)
    assert (np.diff(rates[:6]) > 0).all()
    assert (np.diff(rates[5:]) < 0).all()
    assert rates[-1] == pytest.approx(1e-3 + 9e-3 * 0.5 * (1 + math.cos(math.pi * 14 / 15)))


def test_positions_norms_and_biases_are_not_decayed_and_the_backbone_has_its_own_rate():
    method = vitlab.create("supervit", "micro_patch8", num_classes=3)
    names = {id(p): name for name, p in method.named_parameters()}
    groups = parameter_groups(method, Recipe(steps=1, lr=1e-3, lr_backbone=1e-5))
    assert sorted(names[id(p)] for group in groups for p in group["params"]) == sorted(names.values())
    for group in groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            still = parameter.dim() <= 1 or "pos" in name or name == "vit.cls_token"
            assert group["weight_decay"] == (0.0 if still else 0.05), name
            assert group["lr_scale"] == pytest.approx(0.01 if name.startswith("vit.") else 1.0), name


def test_a_backbone_rate_of_zero_freezes_the_backbone():
    method, before = coin(), coin()
    fit(method, blobs(8), Recipe(steps=3, batch=8, lr_backbone=0.0))
    assert same(method.vit, before.vit)
    assert not torch.equal(method.head.weight, before.head.weight)


def test_a_parameter_outside_the_drawn_sub_net_counts_as_zero_gradient():
    method = coin()
    method.losses = lambda images, labels, teacher: iter([{"ce": F.cross_entropy(method(images), labels)}])
    before = method.sides[0].weight.clone()
    fit(method, blobs(8), Recipe(steps=1, batch=8, lr=0.1, warmup=0.0, weight_decay=0.5))
    torch.testing.assert_close(method.sides[0].weight, before * (1 - 0.1 * 0.5))      # decayed, as in a shared step


def test_labels_are_mixed_and_smoothed_where_the_recipe_says_so():
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    assert mixer(Recipe(steps=1), 4)(images, labels) == (images, labels)
    smooth = mixer(Recipe(steps=1, label_smoothing=0.2), 4)(images, labels)[1]
    torch.testing.assert_close(smooth, torch.eye(4) * 0.8 + 0.05)
    method = coin()
    fit(method, blobs(8), replace(EVERYTHING, steps=4))
    soft = torch.stack([labels for _, labels in method.seen])
    torch.testing.assert_close(soft.sum(-1), torch.ones(4, 8))
    assert ((soft > 0.1).sum(-1) == 2).any()


def test_a_teacher_is_evaluated_and_taught_from():
    teacher, student = coin(drop=0.5).train(), coin()
    fit(student, blobs(8), Recipe(steps=2, batch=8), teacher=teacher)
    assert not teacher.training
    alone = coin()
    fit(alone, blobs(8), Recipe(steps=2, batch=8))
    assert not same(student, alone)


def test_bf16_is_mixed_precision():
    method, seen = coin(), []
    method.vit.patch.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    table = fit(method, blobs(16), Recipe(steps=4, batch=8, precision="bf16"), val=blobs(8))
    assert set(seen) == {torch.bfloat16}                                    # in training and in evaluation
    assert all(p.dtype == torch.float32 for p in method.parameters())
    assert table["loss"].notna().all()


def test_the_batches_are_alike_however_many_workers_load_them():
    recipe = Recipe(epochs=2, batch=4)
    data = blobs(10, augment=noisy)
    batches = Batches(data, recipe, 0, 1)
    here, there = (list(DataLoader(batches, batch_size=None, sampler=range(4), num_workers=n)) for n in (0, 2))
    for (images, labels), (others, their_labels) in zip(here, there, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, their_labels)
    epochs = [sorted(torch.cat([labels for _, labels in here[at:at + 2]]).tolist()) for at in (0, 2)]
    assert all(len(epoch) == 8 for epoch in epochs)


def noisy(pictures, size, wanted):
    """An augmentation that draws from all three generators."""
    return pictures.permute(0, 3, 1, 2) / 255 + torch.rand(len(pictures), 3, 8, 8) + np.random.rand() + random.random()


def test_two_processes_take_the_halves_of_the_double_batch():
    data = blobs(24)
    halves = [Batches(data, Recipe(steps=1, batch=4), process, 2) for process in range(2)]
    whole = Batches(data, Recipe(steps=1, batch=8), 0, 1)
    assert halves[0].per_epoch == whole.per_epoch == 3
    for step in range(6):
        torch.testing.assert_close(torch.cat([half[step][0] for half in halves]), whole[step][0])


def test_what_fit_draws_leaves_the_callers_generators_alone():
    def drawn():
        return torch.rand(()).item(), np.random.rand(), random.random()

    method = coin()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    expected = drawn()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(3)
    fit(method, blobs(8), replace(EVERYTHING, steps=2))
    assert drawn() == expected


def test_the_average_warms_up_and_is_kept_beside_the_raw_weights(tmp_path):
    weights, method = [], coin()
    recipe = Recipe(steps=3, batch=8, lr=1e-2, ema=0.9)
    table = fit(method, blobs(8), recipe, val=blobs(8), out=tmp_path)
    for steps in (1, 2, 3):                                                 # the raw weights after each step
        other, folder = coin(), tmp_path / str(steps)
        fit(interrupt(other, steps), blobs(8), recipe, val=blobs(8), out=folder)
        weights.append(other.head.weight.detach().clone())
    decay = 1 - (1 + 1) ** (-2 / 3)                                         # timm's warm-up at step 2, then at step 3
    average = weights[0] + (1 - decay) * (weights[1] - weights[0])
    average = average + (3 ** (-2 / 3)) * (weights[2] - average)
    kept = checkpoint.read(tmp_path / "ema.safetensors")[1]["head.weight"]
    torch.testing.assert_close(kept, average, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(checkpoint.read(tmp_path / "last.safetensors")[1]["head.weight"], method.head.weight.detach())
    assert table[["val_top1", "val_top1_ema"]].notna().all().all()


# Stopping and going on

@pytest.mark.parametrize("step", [1, 4, 6, 9])
def test_a_resumed_supervit_has_the_weights_of_an_uninterrupted_one(tmp_path, supervit_run, step):
    """Bit by bit, with mixup, EMA, DropPath and drawn sub-nets; 3 steps are an epoch, so 6 is the end of one."""
    whole, table, data, val = supervit_run
    stopped = interrupt(supervit(), step)
    part = fit(stopped, data, EVERYTHING, val=val, out=tmp_path)
    assert part["step"].max() == step
    assert f"after step {step} of 10" in part.attrs["note"]
    resumed = supervit()
    rest = fit(resumed, data, EVERYTHING, val=val, out=tmp_path)
    assert same(resumed, whole)
    pd.testing.assert_frame_equal(rest.drop(columns=CLOCK), table.drop(columns=CLOCK), check_exact=True)
    assert (np.diff(rest["seconds"]) > 0).all()
    average = vitlab.load(tmp_path / "ema.safetensors")
    assert not same(average, whole)


def supervit():
    torch.manual_seed(2)
    return vitlab.create("supervit", "micro_patch8", num_classes=4, image_size=32, drop_path=0.2, lengths=(2, 4))


def scenes(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 255, (n, 32, 32, 3), generator=generator, dtype=torch.uint8)
    return ImageSet("scenes", ["a", "b", "c", "d"], torch.arange(n) % 4, pictures, 32)


@pytest.fixture(scope="module")
def supervit_run():
    method, data, val = supervit(), scenes(30), scenes(9, seed=1)
    return method, fit(method, data, EVERYTHING, val=val), data, val


def test_a_killed_run_goes_on_from_its_last_epoch_to_the_same_weights(tmp_path):
    whole = coin(drop=0.3)
    fit(whole, blobs(24), EVERYTHING)
    with pytest.raises(RuntimeError, match="stumbled"):
        fit(interrupt(coin(drop=0.3), 8, stumble), blobs(24), EVERYTHING, out=tmp_path)
    resumed = coin(drop=0.3)
    table = fit(resumed, blobs(24), EVERYTHING, out=tmp_path)
    assert same(resumed, whole)
    assert table.attrs["note"].startswith("went on from step 6, finished all 10 steps")


def test_a_run_killed_between_two_files_goes_on_from_its_seal(tmp_path, monkeypatch):
    whole = coin()
    fit(whole, blobs(24), EVERYTHING)
    fit(interrupt(coin(), 3), blobs(24), EVERYTHING, out=tmp_path)
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda path, *rest: stumble() if "state" in path.name else write(path, *rest))
    with pytest.raises(RuntimeError, match="stumbled"):
        fit(coin(), blobs(24), EVERYTHING, out=tmp_path)
    monkeypatch.undo()
    assert checkpoint.read(tmp_path / "last.safetensors")[0]["step"] == 6      # newer than the state, which says 3
    resumed = coin()
    fit(resumed, blobs(24), EVERYTHING, out=tmp_path)
    assert same(resumed, whole)


def test_a_finished_run_is_read_and_not_trained_again(tmp_path):
    method = coin()
    table = fit(method, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    for state in (True, False):
        if not state:
            (tmp_path / "state.safetensors").unlink()
        again = coin()
        read = fit(again, blobs(24), replace(EVERYTHING, workers=2, log_every=1), val=blobs(8), out=tmp_path)
        assert not again.seen
        assert same(again, method)
        pd.testing.assert_frame_equal(read, table, check_exact=True)
        assert read.attrs["note"].startswith("finished before")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), table, rtol=1e-12)


def test_resume_false_starts_again_and_leaves_nothing_of_the_old_run(tmp_path):
    fit(coin(), blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    method = coin()
    fit(method, blobs(24), Recipe(steps=2, batch=8), out=tmp_path, resume=False)
    assert len(method.seen) == 2
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["history.csv", "last.safetensors", "state.safetensors"]


@pytest.mark.parametrize(("change", "sentence"), [
    ({"recipe": replace(EVERYTHING, lr=1e-3)}, "lr was 0.003, is 0.001"),
    ({"data": blobs(24).relabelled(blobs(24).labels, list("abce"))}, "other classes"),
    ({"data": blobs(24, seed=7)}, "other pictures"),
    ({"data": blobs(16)}, "images was 24, is 16"),
])
def test_a_folder_with_another_run_is_refused(tmp_path, change, sentence):
    fit(coin(), blobs(24), EVERYTHING, out=tmp_path)
    with pytest.raises(ValueError, match=sentence) as error:
        fit(change.get("method", coin)(), change.get("data", blobs(24)), change.get("recipe", EVERYTHING), out=tmp_path)
    assert "resume=False" in str(error.value)


def test_ctrl_c_without_a_folder_returns_what_was_done():
    method = interrupt(coin(), 4)
    table = fit(method, blobs(24), EVERYTHING)
    assert table["step"].tolist() == [3, 4]
    assert "in memory only" in table.attrs["note"]
    assert not method.training


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    twice = interrupt(coin(), 5, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        fit(twice, blobs(24), EVERYTHING, out=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    assert checkpoint.read(tmp_path / "last.safetensors")[0]["step"] == 3


def test_outside_the_main_thread_no_signal_is_touched():
    before, inside = signal.getsignal(signal.SIGINT), []

    def look():
        with ctrl_c(1):
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path, value):
    method, losses = coin(), Coin.losses

    def spoilt(images, labels, teacher):
        for part in losses(method, images, labels):
            yield {name: term * (value if name != "ce" and len(method.seen) == 5 else 1.0) for name, term in part.items()}

    method.losses = spoilt
    with pytest.raises(FloatingPointError, match=rf"loss kl_[01] became {value} at step 5.*checkpoint of step 3"):
        fit(method, blobs(24), EVERYTHING, out=tmp_path)
    kept = checkpoint.read(tmp_path / "last.safetensors")[1]
    assert all(tensor.isfinite().all() for tensor in kept.values())


# Fail at the door

@pytest.mark.parametrize(("inputs", "sentence"), [
    ({"train": blobs(8), "batch": 16}, "a step takes 16 images but blobs holds 8; lower batch"),
    ({"val": scenes(8)}, "scenes has pictures of 32 pixels but the net takes 8"),
    ({"classes": 3}, "blobs has 4 classes .'a', 'b', 'c', 'd'. but the net has 3 and no names for them"),
    ({"val": blobs(8).relabelled(blobs(8).labels, list("abcx"))}, "blobs holds pictures of 'x', which are not among"),
    ({"made": False}, "make it with vitlab.create"),
])
def test_what_does_not_go_together_is_refused_before_any_work(tmp_path, inputs, sentence):
    method, train = coin(classes=inputs.get("classes", 4)), inputs.get("train", blobs(8))
    if "made" in inputs:
        del method.made
    with pytest.raises(ValueError, match=sentence) as error:
        fit(method, train, Recipe(steps=1, batch=inputs.get("batch", 8)), val=inputs.get("val"), out=tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not method.seen
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    method = coin()
    with pytest.raises(OSError, match="cannot be made a folder"):
        fit(method, blobs(8), Recipe(steps=1, batch=8), out=tmp_path / "file")
    assert not method.seen


# Checkpoints

def test_a_checkpoint_says_what_it_holds(tmp_path):
    fit(coin(), blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    facts, tensors = checkpoint.read(tmp_path / "best.safetensors")
    assert facts["made"] == coin().made | {"classes": ["a", "b", "c", "d"]}
    assert Recipe(**facts["recipe"] | {"betas": tuple(facts["recipe"]["betas"])}) == EVERYTHING
    assert facts["data"]["name"] == "blobs"
    assert facts["trained_on"] == vitlab.measure.facts()["hardware"]
    assert facts["data"]["classes"] == ["a", "b", "c", "d"]
    assert facts["versions"] == {"vitlab": vitlab.__version__, "torch": torch.__version__,
                                 "timm": sys.modules["timm"].__version__}
    assert facts["metrics"]["val_top1"] == max(row["val_top1"] for row in facts["history"] if "val_top1" in row)
    assert tensors.keys() == coin().state_dict().keys()


def test_a_saved_method_comes_back_with_its_facts(tmp_path):
    method = supervit().eval()
    vitlab.save(method, tmp_path / "net.safetensors", note="mine", top1=12.5)
    back = vitlab.load(tmp_path / "net.safetensors")
    assert same(method, back)
    assert torch.equal(method(torch.ones(1, 3, 32, 32)), back(torch.ones(1, 3, 32, 32)))
    assert (back.facts["note"], back.facts["top1"]) == ("mine", 12.5)


def test_a_missing_checkpoint_or_a_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none\.safetensors"):
        checkpoint.read(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="is a folder; name the checkpoint in it"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(tmp_path, share):
    path = tmp_path / "net.safetensors"
    checkpoint.save(coin(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="cut short or damaged") as error:
        checkpoint.read(path)
    assert "\n" not in str(error.value)


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
@pytest.mark.parametrize("dump", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))], ids=["zip", "bare"])
def test_a_pickle_is_refused_and_never_opened(tmp_path, monkeypatch, name, dump):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    dump(Trap(), tmp_path / name)
    with pytest.raises(ValueError, match="is a pickle, which can run code.*convert it"):
        checkpoint.read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_is_not_ours_is_refused(tmp_path):
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="was not written by vitlab"):
        checkpoint.read(tmp_path / "foreign.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "broken.safetensors", {checkpoint.KEY: "{"})
    with pytest.raises(ValueError, match="damaged"):
        checkpoint.read(tmp_path / "broken.safetensors")
    fit(coin(), blobs(8), Recipe(steps=1, batch=8), out=tmp_path)
    with pytest.raises(ValueError, match="inner state of a training run"):
        checkpoint.read(tmp_path / "state.safetensors")


def test_weights_of_another_method_or_backbone_are_refused_by_name(tmp_path):
    path = tmp_path / "net.safetensors"
    checkpoint.save(supervit(), path)
    with pytest.raises(ValueError, match=r"holds a supervit on micro_patch8 .*does not fit this coin on trunk"):
        checkpoint.restore(coin(), path)
    checkpoint.save(coin(classes=5), path)
    method = coin()
    with pytest.raises(ValueError, match=r"do not fit this coin on trunk \(4 classes, 8 px\): 6 tensors"):
        checkpoint.restore(method, path)
    assert same(method, coin())


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    checkpoint.save(coin(), path)
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device.*nothing there was changed"):
        checkpoint.save(coin(classes=9), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_may_not_grow_leaves_the_old_checkpoint_whole(tmp_path):
    """The same with a true limit of the system, in a process of its own."""
    path = tmp_path / "net.safetensors"
    script = f"""
import resource, torch
from vitlab import checkpoint
net = torch.nn.Linear(64, 64)
net.made = {{"method": "linear", "backbone": "none", "num_classes": 64, "image_size": 1, "knobs": {{}}}}
checkpoint.save(net, {str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    checkpoint.save(net, {str(path)!r}, note="second")
except OSError as error:
    assert "nothing there was changed" in str(error), error
else:
    raise AssertionError("the limit was not felt")
assert "note" not in checkpoint.read({str(path)!r})[0]
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=alone(), cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == [path]


# Several processes

ROOT = Path(__file__).resolve().parents[1]
SHARED = Recipe(steps=7, batch=4, lr=1e-2, clip=1.0, ema=0.9, label_smoothing=0.1, same_draw=True,
                log_every=4)                            # stopped after step 5 in the middle of a row
SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import test_train as t

def train(out):
    method, train = t.coin(), t.blobs(24)
    if int(os.environ["RANK"]) == 1:                        # Ctrl-C reaches one process, and starts from other weights
        method = t.interrupt(t.Coin(), 5)
    t.fit(method, train, t.SHARED, val=t.blobs(9), out=out)
    table = t.fit(t.coin(), train, t.SHARED, val=t.blobs(9), out=out)
    assert table.attrs["note"].startswith("went on from step 5, finished all 7 steps"), table.attrs

if __name__ == "__main__":
    if "RANK" in os.environ:
        train(sys.argv[1])
    else:
        from accelerate import notebook_launcher
        notebook_launcher(train, (sys.argv[1],), num_processes=2)
"""


def alone():
    """The environment of a process of its own, on the CPU, with one thread."""
    cpu = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return os.environ | cpu | {"PYTHONPATH": str(ROOT)}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], []],
                         ids=["torchrun", "notebook_launcher"])
def test_two_processes_make_the_weights_of_one_with_twice_the_batch(tmp_path, launcher):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, script, tmp_path / "two", Path(__file__).parent]
    done = subprocess.run(command, capture_output=True, text=True, env=alone(), cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    method = coin()
    table = fit(method, blobs(24), replace(SHARED, batch=8), val=blobs(9), out=tmp_path / "one")
    for name in ("last", "ema"):
        two, one = (checkpoint.read(tmp_path / folder / f"{name}.safetensors")[1] for folder in ("two", "one"))
        for key in one:
            torch.testing.assert_close(two[key], one[key], atol=1e-6, rtol=0)
    facts = checkpoint.read(tmp_path / "two" / "last.safetensors")[0]
    assert facts["processes"] == 2
    both = pd.DataFrame(facts["history"])[table.columns].drop(columns=CLOCK)
    pd.testing.assert_frame_equal(both, table.drop(columns=CLOCK), atol=1e-5)
