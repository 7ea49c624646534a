"""Nothing lost: runs that are killed, damaged, out of room, started twice or told to end; files of which a bit has flipped."""
import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from test_train import EVERYTHING, blobs, coin, interrupt, same, stumble

import vitlab
from vitlab import checkpoint
from vitlab.data import cache
from vitlab.recipe import Recipe
from vitlab.train import fit
from vitlab.train.folder import LOCK

pytestmark = pytest.mark.filterwarnings("ignore:finished before")
ONE_EPOCH = replace(EVERYTHING, steps=3)                # of 24 pictures in batches of 8


@pytest.fixture(scope="module")
def whole():
    """How a run of one epoch, and one of several, ends where nothing goes wrong."""
    ends = {}
    for name, recipe in (("one", ONE_EPOCH), ("several", EVERYTHING)):
        ends[name] = coin()
        fit(ends[name], blobs(24), recipe, val=blobs(8))
    return ends


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK)


def dies_at(write, count):
    """A write that fails the n-th time, and from then on."""
    left = iter(range(count - 1, -1, -1))

    def sometimes(*inputs):
        if next(left, 0) == 0:
            raise OSError(28, "No space left on device")
        return write(*inputs)
    return sometimes


@pytest.mark.parametrize("recipe", (ONE_EPOCH, EVERYTHING), ids=("one epoch", "several epochs"))
@pytest.mark.parametrize("at", range(1, 12))
def test_a_disk_that_is_full_at_any_write_costs_nothing_once_there_is_room(tmp_path, monkeypatch, whole, recipe, at):
    with monkeypatch.context() as full:
        full.setattr(os, "replace", dies_at(os.replace, at))
        try:
            fit(coin(), blobs(24), recipe, val=blobs(8), out=tmp_path)
        except OSError as error:
            assert "No space left on device" in str(error)
        else:
            assert at > 6 and recipe is ONE_EPOCH, "it has no so many writes"
    net = coin()
    fit(net, blobs(24), recipe, val=blobs(8), out=tmp_path)
    assert same(net, whole["one" if recipe is ONE_EPOCH else "several"])
    assert files(tmp_path) == ["best.safetensors", "ema.safetensors", "history.csv", "last.safetensors", "state.safetensors"]
    for name in files(tmp_path):
        assert name == "history.csv" or checkpoint.contents(tmp_path / name)[0]["recipe"]["steps"] == recipe.steps


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", dies_at(os.replace, 1))
    net = coin()
    with pytest.raises(OSError, match="state.safetensors could not be written.*free some space"):
        fit(net, blobs(24), ONE_EPOCH, out=tmp_path)
    assert not net.seen


def test_a_run_killed_in_its_first_epoch_starts_from_its_seal(tmp_path, whole):
    with pytest.raises(RuntimeError, match="stumbled"):
        fit(interrupt(coin(), 2, stumble), blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    assert files(tmp_path) == ["state.safetensors"]
    net = coin()
    fit(net, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    assert same(net, whole["several"])


def test_an_unfinished_run_without_its_state_starts_again(tmp_path, whole):
    fit(interrupt(coin(), 4), blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    (tmp_path / "state.safetensors").unlink()
    net = coin()
    with pytest.warns(UserWarning, match="unfinished run without its state.safetensors, so it starts again"):
        fit(net, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    assert same(net, whole["several"])


def harm(path, kind):
    if kind == "missing":
        path.unlink()
    elif kind == "cut short":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("kind", ("missing", "cut short", "one bit"))
@pytest.mark.parametrize("name", ("last.safetensors", "ema.safetensors", "history.csv"))
def test_what_a_finished_run_has_lost_is_written_again(tmp_path, name, kind):
    fit(coin(), blobs(24), ONE_EPOCH, val=blobs(8), out=tmp_path)
    before = (tmp_path / name).read_bytes()
    harm(tmp_path / name, kind)
    with pytest.warns(UserWarning, match=f"{name} in .*missing or damaged, written again"):
        fit(coin(), blobs(24), ONE_EPOCH, val=blobs(8), out=tmp_path)
    if name == "history.csv":
        assert (tmp_path / name).read_bytes() == before
    else:
        assert "history" in checkpoint.read(tmp_path / name)[0]


@pytest.mark.parametrize("kind", ("missing", "cut short", "one bit"))
@pytest.mark.parametrize("name", ("best.safetensors", "state.safetensors"))
def test_what_cannot_be_made_again_is_named(tmp_path, name, kind):
    fit(coin(), blobs(24), ONE_EPOCH, val=blobs(8), out=tmp_path)
    harm(tmp_path / name, kind)
    if (name, kind) == ("state.safetensors", "missing"):                   # the weights are in last.safetensors
        with pytest.warns(UserWarning, match="finished before"):
            fit(coin(), blobs(24), ONE_EPOCH, val=blobs(8), out=tmp_path)
        return
    with pytest.raises(ValueError, match=f"{name} is (missing or damaged|cut short or damaged)"):
        fit(coin(), blobs(24), ONE_EPOCH, val=blobs(8), out=tmp_path)


def test_two_runs_cannot_train_into_one_folder(tmp_path):
    said = []

    def second():
        with pytest.raises(ValueError, match="another run is training into .*choose another folder"):
            fit(coin(), blobs(24), ONE_EPOCH, out=tmp_path)
        said.append(files(tmp_path))

    fit(interrupt(coin(), 2, lambda: (second(), threading_twin(second))), blobs(24), ONE_EPOCH, out=tmp_path)
    assert said == [["state.safetensors"]] * 2
    assert fit(coin(), blobs(24), ONE_EPOCH, out=tmp_path).attrs["note"].startswith("finished before")


def threading_twin(act):
    twin = threading.Thread(target=act)
    twin.start()
    twin.join()


def test_what_a_killed_process_left_half_written_is_swept(tmp_path):
    (tmp_path / f".last.safetensors.123456{checkpoint.DRAFT}").write_bytes(b"half")
    fit(coin(), blobs(24), ONE_EPOCH, out=tmp_path)
    assert files(tmp_path) == ["ema.safetensors", "history.csv", "last.safetensors", "state.safetensors"]


def test_told_to_end_it_keeps_the_step_and_ends(tmp_path, whole):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        fit(interrupt(coin(), 2, lambda: signal.raise_signal(signal.SIGTERM)), blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM], "what was there before hears of it, when all is kept"
    assert checkpoint.contents(tmp_path / "state.safetensors")[0]["progress"]["step"] == 2
    net = coin()
    fit(net, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    assert same(net, whole["several"])


@pytest.mark.slow
def test_a_lock_ends_with_the_process_that_held_it(tmp_path):
    program = f"""
import os, signal, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_kept import *
killed = interrupt(coin(), 2, lambda: os.kill(os.getpid(), signal.SIGKILL))
fit(killed, blobs(24), EVERYTHING, val=blobs(8), out={str(tmp_path)!r})
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == -signal.SIGKILL
    net, whole = coin(), coin()
    fit(net, blobs(24), EVERYTHING, val=blobs(8), out=tmp_path)
    fit(whole, blobs(24), EVERYTHING, val=blobs(8))
    assert same(net, whole)


# Files

def test_another_sets_file_under_a_caches_name_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    one, other = cache.kept("one", lambda: {"x": torch.zeros(3)}), cache.kept("other", lambda: {"x": torch.ones(3)})
    (tmp_path / "one.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes())
    assert torch.equal(cache.kept("one", lambda: {"x": torch.full((3,), 2.0)})["x"], torch.full((3,), 2.0))
    assert not torch.equal(one["x"], other["x"])
    assert torch.equal(cache.kept("other", pytest.fail)["x"], other["x"])


@pytest.mark.parametrize("inner", (False, True), ids=("weights", "state of a run"))
def test_no_flipped_bit_is_read_as_if_nothing_had_happened(tmp_path, inner):
    fit(coin(), blobs(24), ONE_EPOCH, out=tmp_path)
    path = tmp_path / ("state.safetensors" if inner else "last.safetensors")
    good, dice = path.read_bytes(), random.Random(0)
    truth = checkpoint.contents(path)
    header = int.from_bytes(good[:8], "little") + 8
    for n in range(300):
        data = bytearray(good)
        data[dice.randrange(header if n % 2 else len(good))] ^= 1 << dice.randrange(8)      # every other one in the header
        path.write_bytes(data)
        try:
            facts, tensors = checkpoint.contents(path)
        except ValueError as error:
            assert "\n" not in str(error)
        else:                                           # a space of the header that has become a tab
            assert facts == truth[0] and all(torch.equal(tensors[name], tensor) for name, tensor in truth[1].items())


def test_the_tail_of_a_file_that_was_never_written_is_noticed(tmp_path):
    path = tmp_path / "net.safetensors"
    checkpoint.save(coin(), path)
    data = bytearray(path.read_bytes())
    data[-200:] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged: it is not what was written"):
        checkpoint.read(path)


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path, value):
    path, net = tmp_path / "net.safetensors", coin()
    with torch.no_grad():
        net.head.bias[1] = value
    with pytest.raises(ValueError, match="head.bias holds NaN or infinity"):
        checkpoint.save(net, path)
    assert not path.exists()
    checkpoint.write(path, checkpoint.weights(net), {"made": net.made})
    with pytest.raises(ValueError, match="net.safetensors holds NaN or infinity in head.bias"):
        checkpoint.read(path)


@pytest.mark.parametrize(("change", "words"), (
    ({"pretrained": True}, "pretrained"), ({"knobs": None}, "knobs"), ({"method": 3}, "method"),
    ({"backbone": None}, "backbone"), ({"knobs": {"rates": "all"}}, "rates"), ({"knobs": {"colour": 1}}, "colour"),
    ({"num_classes": "ten"}, "num_classes"),
    ({"image_size": -1}, "image_size"), ({"backbone": "deit_huge"}, "deit_huge"), ({"method": "vgg"}, "vgg")))
def test_a_file_that_says_something_senseless_gets_one_sentence(tmp_path, monkeypatch, change, words):
    net = vitlab.create("supervit", "micro_patch8", num_classes=10)
    checkpoint.write(tmp_path / "net.safetensors", checkpoint.weights(net), {"made": net.made | change})
    monkeypatch.setattr("timm.create_model", lambda *a, **k: pytest.fail("nothing is made, and nobody goes online"))
    with pytest.raises(ValueError, match=words) as error:
        vitlab.load(tmp_path / "net.safetensors")
    assert "\n" not in str(error.value)


def test_a_recipe_of_no_steps_is_still_refused(tmp_path):
    with pytest.raises(ValueError, match="steps"):
        fit(coin(), blobs(24), Recipe(steps=0), out=tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", ("cut short", "one bit"))
def test_a_damaged_file_is_no_pickle_however_long_its_header_is(tmp_path, kind):
    """A safetensors file begins with the length of its header, and one in 256 lengths with the byte that pickles begin with."""
    path, net = tmp_path / "net.safetensors", vitlab.create("dense", "micro_patch8", 10)
    for length in range(300):
        vitlab.save(net, path, told="x" * length)
        if path.read_bytes()[0] == 0x80:
            break
    assert path.read_bytes()[0] == 0x80
    harm(path, kind)
    with pytest.raises(ValueError, match="cut short or damaged"):
        vitlab.load(path)
