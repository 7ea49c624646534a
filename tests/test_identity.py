"""A run is known by all that its weights depend on: another one is refused in a folder, the same one goes on or is read."""
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from test_train import EVERYTHING, Coin, blobs, coin, interrupt, noisy, same
from torch import nn

import vitlab
from vitlab import checkpoint
from vitlab.data import Augment, fingerprint
from vitlab.data.hub import Decoded
from vitlab.recipe import Recipe
from vitlab.train import fit
from vitlab.train.identity import described, differences

RECIPE = Recipe(steps=4, batch=8, lr=1e-2, warmup=0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished run, and the net that it trained."""
    folder, net = tmp_path_factory.mktemp("run"), coin()
    fit(net, blobs(24), RECIPE, val=blobs(8, seed=1), out=folder)
    return folder, net


def painted(data, row):
    """The same set with one pixel of one picture a little brighter."""
    pictures = data.pictures.clone()
    pictures[row, 3, 3, 1] += 1
    return vitlab.data.ImageSet(data.name, data.classes, data.labels, pictures, data.image_size)


def stranger():
    torch.manual_seed(99)
    return Coin()


def frozen():
    net = coin()
    net.vit.requires_grad_(False)
    return net


def nudged():
    """One weight differs in its last bits."""
    net = coin()
    with torch.no_grad():
        net.head.bias[2] += 1e-6
    return net


OTHERS = {
    "labels": ({"train": blobs(24).relabelled(blobs(24).labels.flip(0), list("abcd"))}, "other labels"),
    "one label": ({"train": blobs(24).relabelled(torch.tensor([1, *blobs(24).labels[1:].tolist()]), list("abcd"))},
                  "other labels"),
    "last picture": ({"train": painted(blobs(24), 23)}, "other pictures"),
    "order": ({"train": blobs(24).take([4, 1, 2, 3, 0, *range(5, 24)])}, "other pictures"),
    "class names": ({"train": blobs(24).relabelled(blobs(24).labels, list("abce")), "val": None}, "other classes"),
    "augmentation": ({"train": blobs(24, augment=noisy)}, "augmentation was None, is <function noisy>"),
    "no val": ({"val": None}, "val was blobs, is None"),
    "val's labels": ({"val": blobs(8, seed=1).relabelled(blobs(8).labels.flip(0), list("abcd"))}, "other val's labels"),
    "val's pictures": ({"val": blobs(8, seed=2)}, "other val's pictures"),
    "initial weights": ({"net": stranger}, "started from other weights.*torch.manual_seed.*last.safetensors"),
    "last bits of a weight": ({"net": nudged}, "started from other weights"),
    "frozen": ({"net": frozen}, "other frozen parameters"),
    "teacher": ({"teacher": coin()}, "other teacher"),
    "recipe": ({"recipe": replace(RECIPE, seed=1)}, "seed was 0, is 1"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_run_is_refused_in_one_sentence(finished, other):
    folder, _ = finished
    change, sentence = OTHERS[other]
    net = change.get("net", coin)()
    before = (folder / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match=sentence) as error:
        fit(net, change.get("train", blobs(24)), change.get("recipe", RECIPE), val=change.get("val", blobs(8, seed=1)),
            teacher=change.get("teacher"), out=folder)
    assert "resume=False" in str(error.value)
    assert "\n" not in str(error.value)
    assert not net.seen
    assert (folder / "state.safetensors").read_bytes() == before


def test_the_same_call_is_read_and_says_so_aloud(finished):
    folder, trained = finished
    net = coin()
    with pytest.warns(UserWarning, match="finished before, so nothing was trained: weights and history come from .*run") as heard:
        table = fit(net, blobs(24), replace(RECIPE, log_every=1), val=blobs(8, seed=1), out=folder)
    assert heard[0].filename == __file__
    assert not net.seen
    assert same(net, trained)
    assert table.attrs["note"] == str(heard[0].message)


@pytest.mark.filterwarnings("ignore:finished before")
def test_a_net_that_the_run_trained_itself_may_be_given_again(finished, tmp_path):
    """A notebook's cell is run twice; a checkpoint of the run is loaded; another net is not told apart by being trained."""
    folder, trained = finished
    before = [tensor.clone() for tensor in trained.state_dict().values()]
    table = fit(trained, blobs(24), RECIPE, val=blobs(8, seed=1), out=folder)
    assert table.attrs["note"].startswith("finished before")
    assert all(map(torch.equal, before, trained.state_dict().values()))
    loaded = stranger()
    checkpoint.restore(loaded, folder / "last.safetensors")
    assert fit(loaded, blobs(24), RECIPE, val=blobs(8, seed=1), out=folder).attrs["note"].startswith("finished before")
    elsewhere = coin()
    fit(elsewhere, blobs(24), RECIPE, out=tmp_path)
    fit(elsewhere, blobs(24), replace(RECIPE, lr=1e-3), out=tmp_path / "other")
    with pytest.raises(ValueError, match="started from other weights"):
        fit(elsewhere, blobs(24), RECIPE, out=tmp_path)


def test_a_net_stopped_by_ctrl_c_goes_on_when_its_cell_is_run_again(tmp_path):
    whole, net = coin(), interrupt(coin(), 4)
    fit(whole, blobs(24), EVERYTHING)
    fit(net, blobs(24), EVERYTHING, out=tmp_path)
    started = checkpoint.contents(tmp_path / "state.safetensors")[0]["weights"]
    fit(net, blobs(24), EVERYTHING, out=tmp_path)
    assert same(net, whole)
    assert checkpoint.read(tmp_path / "last.safetensors")[0]["weights"] == started       # still those of its first step
    fresh = coin()
    with pytest.warns(UserWarning, match="finished before"):
        fit(fresh, blobs(24), EVERYTHING, out=tmp_path)
    assert same(fresh, whole)


FLAWED = []


def fragile(*inputs):
    """An augmentation that breaks as long as FLAWED says so."""
    if FLAWED and FLAWED.pop() == 1:
        raise ValueError("cannot posterize to 0 bits")
    return noisy(*inputs)


def test_a_run_that_died_of_a_picture_goes_on_once_the_cause_is_gone(tmp_path):
    whole, resumed = coin(), coin()
    fit(whole, blobs(24, augment=fragile), EVERYTHING)
    FLAWED[:] = [1, 0, 0, 0, 0, 0, 0, 0]                                   # at step 8; 3 steps are an epoch
    with pytest.raises(ValueError, match="posterize"):
        fit(coin(), blobs(24, augment=fragile), EVERYTHING, out=tmp_path)
    table = fit(resumed, blobs(24, augment=fragile), EVERYTHING, out=tmp_path)
    assert table.attrs["note"].startswith("went on from step 6, finished all 10 steps")
    assert same(resumed, whole)


def test_a_run_without_validation_is_not_the_one_with_it(tmp_path):
    fit(coin(), blobs(24), RECIPE, out=tmp_path)
    with pytest.raises(ValueError, match="val was None, is blobs"):
        fit(coin(), blobs(24), RECIPE, val=blobs(8), out=tmp_path)


def test_a_run_of_an_older_vitlab_says_what_it_did_not_note(tmp_path):
    fit(coin(), blobs(24), RECIPE, out=tmp_path)
    path = tmp_path / "state.safetensors"
    facts, tensors = checkpoint.contents(path)
    facts["data"].pop("labels")
    facts.pop("weights")
    checkpoint.write(path, tensors, facts)
    with pytest.raises(ValueError, match="labels was not noted"):
        fit(coin(), blobs(24), RECIPE, out=tmp_path)


@pytest.mark.filterwarnings("ignore:finished before")
def test_knobs_on_which_no_weight_depends_are_free(tmp_path):
    data = vitlab.data.ImageSet("noise", list("abc"), torch.arange(4) % 3,
                                torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8), 32)
    recipe = Recipe(steps=1, batch=4)

    def dvt(**knobs):
        torch.manual_seed(0)
        return vitlab.create("dvt", "micro_patch8", num_classes=3, image_size=32, grids=(4, 8), **knobs)

    net = dvt()
    fit(net, data, recipe, out=tmp_path)
    net.set_thresholds(((0.3,),))
    assert fit(net, data, recipe, out=tmp_path).attrs["note"].startswith("finished before")
    again = dvt(thresholds=((0.6,),))
    fit(again, data, recipe, out=tmp_path)
    assert again.made["knobs"]["thresholds"] != net.made["knobs"]["thresholds"]
    assert same(again, net)
    with pytest.raises(ValueError, match="detach was not noted, is True"):
        fit(dvt(detach=True), data, recipe, out=tmp_path)


def test_differences_are_told_in_words():
    there = {"made": {"knobs": {"a": 1, "b": [1, 2], "free": 1}}, "recipe": {"lr": 1.0, "workers": 0}, "val": {"name": None}}
    here = {"made": {"knobs": {"a": 2, "b": [1, 3], "free": 2, "c": 0}}, "recipe": {"lr": 1, "workers": 9}, "val": {"name": "x"}}
    assert differences(there, there) == []
    assert differences(there, here, ("free",)) == ["a was 1, is 2", "other b", "val was None, is x", "c was not noted, is 0"]
    assert differences(here, there, ("free",))[-1] == "val was x, is None"
    assert "c was 0, is not given" in differences(here, there)


# What tells sets apart

def test_an_augmentation_is_all_its_numbers_and_no_address():
    def told(augment):
        data = blobs(4)
        data.augment = augment
        return described(data)["augmentation"]

    assert told(None) is None
    assert told(noisy) == "<function noisy>"
    assert told(type("Mine", (), {"__call__": noisy})()) == "<test_identity.Mine object>"
    assert told(nn.Dropout(0.5)) != told(nn.Dropout(0.4))
    assert repr(Augment(re_prob=.25)) != repr(Augment())


def png(seed):
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "BMP")                              # all of one size, whatever they show
    return file.getvalue()


def held(*seeds, names=None):
    """Encoded pictures in a table."""
    import datasets
    rows = [{"bytes": png(seed), "path": names and names[at]} for at, seed in enumerate(seeds)]
    return Decoded(datasets.Dataset.from_dict({"image": rows}).cast_column("image", datasets.Image()), "image")


def in_folder(folder, *seeds):
    """Pictures in files of their own."""
    import datasets
    folder.mkdir()
    for at, seed in enumerate(seeds):
        (folder / f"{at}.bmp").write_bytes(png(seed))
    paths = sorted(map(str, folder.iterdir()))
    return Decoded(datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image()), "image")


def test_encoded_pictures_are_told_apart_by_every_byte(tmp_path):
    same_again, print_ = held(1, 2, 3), fingerprint.fingerprint
    assert print_(held(1, 2, 3)) == print_(same_again)
    assert len({print_(held(*seeds)) for seeds in ((1, 2, 3), (1, 2, 4), (1, 3, 2), (1, 2), (1, 2, 3, 3))}) == 5
    assert print_(held(1, 2, 3, names="abc")) != print_(held(1, 2, 3, names="abd"))
    here = in_folder(tmp_path / "here", 1, 2, 3)
    assert print_(here) == print_(in_folder(tmp_path / "moved", 1, 2, 3))
    (tmp_path / "here" / "1.bmp").write_bytes(png(9))
    assert print_(here) != print_(in_folder(tmp_path / "again", 1, 2, 3))


def test_of_a_large_set_names_sizes_and_a_sample_are_read(monkeypatch):
    print_ = fingerprint.fingerprint
    monkeypatch.setattr(fingerprint, "WHOLE", 0)
    assert print_(held(1, 2, 3)) != print_(held(1, 2, 4))
    monkeypatch.setattr(fingerprint, "SAMPLE", 1)
    (read,) = fingerprint.sample(3, 1)
    changed = [[9 if row == at else row for row in range(3)] for at in range(3)]
    assert [print_(held(*seeds)) != print_(held(0, 1, 2)) for seeds in changed] == [at == read for at in range(3)]
    assert print_(held(0, 1, 2, names="abc")) != print_(held(0, 1, 2, names="abd"))


def test_pictures_in_memory_are_told_apart_by_every_byte_and_their_shape():
    print_, pictures = fingerprint.fingerprint, blobs(24).pictures
    assert print_(pictures) == print_(pictures.clone()) == print_(blobs(24).pictures)
    assert print_(pictures) != print_(painted(blobs(24), 23).pictures)
    assert print_(pictures) != print_(pictures.view(24, 4, 16, 3))


def test_pictures_from_elsewhere_are_told_apart_by_what_they_show():
    def shown(*seeds):
        return [Image.open(io.BytesIO(png(seed))) for seed in seeds]

    print_ = fingerprint.fingerprint
    assert print_(shown(1, 2)) == print_(shown(1, 2))
    assert len({print_(shown(*seeds)) for seeds in ((1, 2), (2, 1), (1, 3), (1,))}) == 4


def test_what_is_frozen_is_noted_by_name(tmp_path):
    fit(frozen(), blobs(24), RECIPE, out=tmp_path)
    noted = checkpoint.read(tmp_path / "last.safetensors")[0]["frozen parameters"]
    assert noted == [name for name, _ in coin().named_parameters() if name.startswith("vit.")]
