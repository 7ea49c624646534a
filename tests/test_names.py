"""Where a net meets a set: classes by name, pictures prepared as the net's weights want them."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab import Recipe
from vitlab.data import ImageSet
from vitlab.data.picture import USUAL, Preprocessing, normalised, squared

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def coloured(names, words, n=24, size=56):
    """Pictures of one colour each, named by the words in the order `names`."""
    labels = torch.tensor([names.index(words[i % len(words)]) for i in range(n)])
    pixels = torch.tensor([COLOURS[words[i % len(words)]] for i in range(n)], dtype=torch.uint8)
    return ImageSet("colours", names, labels, pixels[:, None, None].expand(n, size, size, 3).contiguous(), size)


@pytest.fixture(scope="module")
def learned():
    """A net that tells three colours apart, trained on the order red, green, blue."""
    torch.manual_seed(0)
    net = vitlab.create("dense", "micro_patch8", classes=["red", "green", "blue"])
    train = coloured(["red", "green", "blue"], ["red", "green", "blue"])
    history = vitlab.fit(net, train, Recipe(steps=12, batch=12, lr=3e-3), val=coloured(["blue", "red"], ["red", "blue"]))
    assert history.val_top1.iloc[-1] == 100                                # by number it would be 0
    return net


@pytest.mark.parametrize("names", [["red", "green", "blue"], ["blue", "red", "green"], ["blue", "green", "pink", "red"]])
@pytest.mark.parametrize("words", [["red", "green", "blue"], ["blue", "red"], ["green"]])
def test_a_net_is_right_in_whatever_order_a_set_names_its_classes(learned, names, words):
    data = coloured(names, words)
    table = vitlab.answers(learned, data)
    assert table.correct.all()
    assert [table.attrs["classes"][k] for k in table.prediction] == [data.classes[k] for k in data.labels]
    assert vitlab.sweep(learned, data, rounds=1).top1.tolist() == [100]


def test_the_panel_names_the_nets_classes_and_says_of_pictures_of_others_that_it_knows_none(learned):
    data = coloured(["blue", "green", "red"], ["green", "red"])
    panel = vitlab.explore(learned, data, batch=1)
    try:
        for image, word in enumerate(["green", "red"]):
            assert panel.set(image=image).wait()
            assert (panel.result["prediction"], panel.result["right"]) == (word, True)
        assert panel.set(image=Image.new("RGB", (80, 70), COLOURS["blue"])).wait()
        assert (panel.result["prediction"], panel.result["right"]) == ("blue", None)
    finally:
        panel.close()
    guest = vitlab.explore({"net": learned}, vitlab.data.shapes("val", n=20), batch=1)
    try:
        assert guest.wait() and guest.result["right"] is None
        assert "is of none of its classes ('red', 'green', 'blue')" in guest.view.answer.value.replace("&#x27;", "'")
    finally:
        guest.close()


def test_a_folder_of_fewer_classes_scores_as_it_should(learned, tmp_path):
    for name in ("red", "blue"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for k in range(2):
            Image.new("RGB", (60, 60), COLOURS[name]).save(tmp_path / "val" / name / f"{k}.png")
    val = vitlab.data.load(tmp_path / "val", "train", image_size=56)
    assert val.classes == ["blue", "red"]
    assert vitlab.answers(learned, val).correct.all()


def test_names_live_in_the_checkpoint(learned, tmp_path):
    vitlab.save(learned, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert again.made["classes"] == ["red", "green", "blue"]
    assert vitlab.answers(again, coloured(["blue", "green", "red"], ["green", "red"])).correct.all()


def test_a_net_without_names_gets_those_it_is_trained_with(tmp_path):
    net = vitlab.create("dense", "micro_patch8", 3)
    assert "classes" not in net.made
    vitlab.fit(net, coloured(["red", "green", "blue"], ["red", "green", "blue"]), Recipe(steps=1, batch=4), out=tmp_path)
    assert net.made["classes"] == ["red", "green", "blue"]
    assert vitlab.load(tmp_path / "last.safetensors").made["classes"] == ["red", "green", "blue"]


def test_a_checkpoint_of_before_knows_the_names_of_its_run(tmp_path):
    net = vitlab.create("dense", "micro_patch8", 2)
    vitlab.save(net, tmp_path / "old.safetensors", data={"name": "pets", "classes": ["cat", "dog"]})
    assert vitlab.load(tmp_path / "old.safetensors").made["classes"] == ["cat", "dog"]


def test_numbers_are_names_too():
    """Classes that have no names are called by their numbers, so a set that lacks the last ones still fits."""
    ten, eight = (ImageSet("digits", list(map(str, range(k))), torch.arange(k), torch.zeros(k, 56, 56, 3, dtype=torch.uint8), 56)
                  for k in (10, 8))
    unnamed, named = vitlab.create("dense", "micro_patch8", 10), vitlab.create("dense", "micro_patch8", classes=ten.classes)
    for net in (unnamed, named):
        assert vitlab.answers(net, eight).label.tolist() == list(range(8))
        assert vitlab.answers(net, ten).label.tolist() == list(range(10))


@pytest.mark.parametrize(("made", "names", "words"), [
    ({"num_classes": 3}, ["a", "b", "c", "d"], r"noise has 4 classes \('a', 'b', 'c', 'd'\) but the net has 3 and no names"),
    ({"num_classes": 3}, list(map(str, range(4))), "noise has 4 classes .* the net has 3"),
    ({"classes": ["a", "b", "c", "e"]}, ["a", "b", "c", "d"], "noise holds pictures of 'd', which are not among the 4 classes"),
    ({"classes": ["cat", "dog", "cow", "hen"]}, list(map(str, range(4))), "holds pictures of '0', '1', '2', '3', which"),
    ({"classes": ["a", "b", "c", "c"]}, ["c", "b", "a", "d"], "two classes are called 'c'"),
    ({"classes": ["a", "b", "c", "d"]}, ["a", "b", "b", "d"], "two classes are called 'b'"),
])
def test_where_classes_do_not_go_together_one_sentence_says_so(made, names, words):
    net = vitlab.create("dense", "micro_patch8", **made)
    data = ImageSet("noise", names, torch.arange(4), torch.zeros(4, 56, 56, 3, dtype=torch.uint8), 56)
    for ask in (vitlab.answers, vitlab.sweep, lambda n, d: vitlab.fit(n, d, Recipe(steps=1, batch=2)), vitlab.measure.focus):
        with pytest.raises(ValueError, match=words) as error:
            ask(net, data)
        assert "\n" not in str(error.value)


def test_twins_are_no_trouble_where_the_lists_are_equal():
    names = ["crane", "crane", "heron"]                                    # as in ImageNet
    data = ImageSet("birds", names, torch.arange(3), torch.zeros(3, 56, 56, 3, dtype=torch.uint8), 56)
    assert vitlab.answers(vitlab.create("dense", "micro_patch8", classes=names), data).label.tolist() == [0, 1, 2]


def test_create_counts_the_names():
    assert vitlab.create("dense", "micro_patch8", classes=["a", "b"]).vit.num_classes == 2
    assert vitlab.create("dense", "micro_patch8", 2, classes=np.array(["a", "b"])).made["classes"] == ["a", "b"]
    with pytest.raises(ValueError, match="num_classes is 3 but there are 2 names"):
        vitlab.create("dense", "micro_patch8", 3, classes=["a", "b"])
    for wrong in ([], "abc"):
        with pytest.raises(ValueError, match="classes must be the names of at least one class"):
            vitlab.create("dense", "micro_patch8", classes=wrong)


# Pictures as the weights want them

CLIP = Preprocessing(mean=(.481, .458, .408), std=(.269, .261, .276), crop=1.0, interpolation="bilinear")


def test_a_set_prepares_its_pictures_as_the_net_wants_them(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.fromarray(noise).save(tmp_path / name / "noise.png")
    data = vitlab.data.load(tmp_path, image_size=56)
    net = vitlab.create("dense", "micro_patch8", classes=["a", "b"])
    assert data.for_net(net) is data
    net.made["preprocessing"] = CLIP.facts()
    wanted = data.for_net(net)
    truth = normalised(squared(Image.fromarray(noise), 56, CLIP)[None], CLIP)
    assert torch.equal(wanted.images([0]), truth)
    assert not torch.allclose(wanted.images([0]), data.images([0]), atol=0.1)
    assert torch.equal(wanted.prepare(noise), truth[0])
    assert torch.equal(torch.from_numpy(wanted.picture(0)), squared(Image.fromarray(noise), 56, CLIP))
    assert torch.equal(wanted.take([0]).images([0]), truth)
    net.made["preprocessing"] = USUAL.facts()
    assert torch.equal(wanted.for_net(net).images([0]), data.images([0]))


def test_training_pictures_too():
    data = vitlab.data.shapes("val", n=8, augment=True)
    other = data.changed(preprocessing=CLIP)
    torch.manual_seed(3)
    here = data.__getitems__(range(8))[0]
    torch.manual_seed(3)
    there = other.__getitems__(range(8))[0]
    shift = lambda x, p: x * torch.tensor(p.std)[:, None, None] + torch.tensor(p.mean)[:, None, None]  # noqa: E731
    torch.testing.assert_close(shift(here, USUAL), shift(there, CLIP), atol=1e-5, rtol=0)


def test_a_net_remembers_how_the_pictures_were_prepared_that_it_learned_from(tmp_path):
    data = vitlab.data.shapes("val", n=20).changed(preprocessing=CLIP)
    net = vitlab.create("dense", "micro_patch8", classes=data.classes)
    vitlab.fit(net, data, Recipe(steps=1, batch=4), out=tmp_path)
    again = vitlab.load(tmp_path / "last.safetensors")
    assert Preprocessing(**again.made["preprocessing"]) == CLIP
    plain = vitlab.data.shapes("val", n=20)
    assert vitlab.answers(again, plain).confidence.tolist() == vitlab.answers(again, data).confidence.tolist()


def test_pretrained_weights_say_what_they_want(monkeypatch):
    """timm's record of a CLIP backbone, without its weights."""
    import timm
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **rest: real(name, pretrained=False, **rest))
    net = vitlab.create("dense", "vit_base_patch32_clip_224.openai", 2, pretrained=True)
    wanted = Preprocessing(**net.made["preprocessing"])
    assert (round(wanted.mean[0], 3), round(wanted.std[2], 3)) == (.481, .276)
    assert "preprocessing" not in vitlab.create("dense", "deit_tiny", 2).made


@pytest.mark.parametrize(("wrong", "words"), [
    ({"mean": (1, 2)}, "three numbers"), ({"std": (1, 0, 1)}, "above 0"), ({"crop": 0}, r"crop must be in \(0, 1\]"),
    ({"crop": 1.2}, "crop must be"), ({"interpolation": "cubic"}, "interpolation must be one of nearest"),
])
def test_what_cannot_be_done_to_a_picture(wrong, words):
    with pytest.raises(ValueError, match=words):
        replace(USUAL, **wrong)
