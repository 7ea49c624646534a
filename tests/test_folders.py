"""Image folders and parquet folders of other people: every picture is used under its class, or a warning names it."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitlab.data import hub, load


def tree(root: Path, *files: str) -> Path:
    """A folder with these files: a small grey picture where Pillow can write the type, words elsewhere."""
    for place, name in enumerate(files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".png", ".jpg", ".bmp", ".tif"):
            Image.new("L", (4, 4), 10 * place).save(path, "png" if path.suffix == ".png" else None)
        else:
            path.write_text("no picture")
    return root


def held(made) -> list[tuple[int, str]]:
    """Which pictures of `tree` a set holds, by their grey, and the name of their class."""
    return [(round(int(made.picture(row)[0, 0, 0]) / 10), made.classes[made.labels[row]]) for row in range(len(made))]


def read(root: Path, split: str = "train", **more):
    """Without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(root, split, image_size=4, **more)


def test_a_file_with_a_splits_name_in_it_stays_in_its_class(tmp_path):
    root = tree(tmp_path, "bus/train.png", "bus/2.png", "car/test_1.png", "car/validation-2.png", "car/my_train.png")
    assert held(read(root)) == [(1, "bus"), (0, "bus"), (4, "car"), (2, "car"), (3, "car")]


def test_a_class_may_be_called_train(tmp_path):
    root = tree(tmp_path / "flat", "bus/0.png", "car/1.png", "train/2.png")
    assert held(read(root)) == [(0, "bus"), (1, "car"), (2, "train")]
    root = tree(tmp_path / "split", "train/bus/0.png", "train/train/1.png", "val/bus/2.png", "val/train/3.png")
    assert held(read(root)) == [(0, "bus"), (1, "train")]
    assert held(read(root, "val")) == [(2, "bus"), (3, "train")]


def test_a_path_may_hold_any_word_and_any_sign(tmp_path):
    root = tree(tmp_path / "train [v2]* {a}" / "test?", "cat/0 [1].png", "do*g/1.png")
    assert held(read(root)) == [(0, "cat"), (1, "do*g")]


def test_folders_inside_a_class_count_as_the_class(tmp_path):
    root = tree(tmp_path, "bus/0.png", "bus/old/1.png", "bus/old/red/2.png", "car/new/3.png", "car/test/4.png")
    assert held(read(root)) == [(0, "bus"), (1, "bus"), (2, "bus"), (3, "car"), (4, "car")]


def test_links_are_followed(tmp_path):
    tree(tmp_path / "elsewhere", "a.png", "b.png", "deep/c.png")
    root = tree(tmp_path / "set", "cat/3.png")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "eel").mkdir()
    (root / "eel" / "link.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "link").symlink_to(root)
    for way in (root, tmp_path / "link"):
        assert held(read(way)) == [(0, "cat"), (0, "dog"), (1, "dog"), (2, "dog"), (0, "eel")]


def test_links_in_a_circle_end_and_bring_no_pictures_of_other_classes(tmp_path):
    root = tree(tmp_path / "above" / "set", "cat/0.png", "dog/1.png")
    tree(tmp_path / "other", "2.png")
    (root / "cat" / "root").symlink_to(root)
    (root / "cat" / "above").symlink_to(tmp_path)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "again").symlink_to(root)
    (root / "dog" / "other").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "back").symlink_to(root / "dog")
    os.symlink("loop.png", root / "dog" / "loop.png")
    with pytest.warns(UserWarning, match="5 links that lead back up .*1 links that lead to no file .dog/loop.png") as told:
        made = load(root, image_size=4)
    assert held(made) == [(0, "cat"), (1, "dog"), (0, "dog")] and len(told) == 1


def test_a_link_back_from_a_linked_class_brings_no_other_class(tmp_path):
    root = tree(tmp_path / "set", "train/cat/0.png", "train/dog/1.png")
    elsewhere = tree(tmp_path / "elsewhere", "2.png")
    (root / "train" / "eel").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root / "train")
    (elsewhere / "home").symlink_to(root)
    with pytest.warns(UserWarning, match="2 links that lead back up"):
        assert held(load(root, image_size=4)) == [(0, "cat"), (1, "dog"), (0, "eel")]


def test_a_class_that_pillow_cannot_open_stays_a_class_and_is_named(tmp_path):
    root = tree(tmp_path, "bird/1.heic", "bird/2.HEIC", "cat/0.png", "cat/1.svg", "dog/0.png", "dog/none")
    with pytest.warns(UserWarning) as told:
        made = load(root, image_size=4)
    assert made.classes == ["bird", "cat", "dog"] and sorted(made.labels.tolist()) == [1, 2]
    sentence = str(told[0].message)
    assert "2 of type .heic, which Pillow does not open here (bird/1.heic, bird/2.HEIC)" in sentence
    assert "1 of type .svg" in sentence and "1 of type unknown" in sentence and "dog/none" in sentence and "\n" not in sentence
    with pytest.raises(ValueError, match="no picture of .* can be read; convert"), pytest.warns(UserWarning):
        load(tree(tmp_path / "all", "bird/1.heic"), image_size=4)


def test_a_warning_counts_all_and_names_a_few(tmp_path):
    with pytest.warns(UserWarning, match=r"40 of type .heic, .*\(cat/00.heic, cat/01.heic, cat/02.heic, \.\.\.\)$"):
        load(tree(tmp_path, "cat/0.png", *(f"cat/{i:02}.heic" for i in range(40))), image_size=4)


def test_a_plugin_of_pillow_counts(tmp_path, monkeypatch):
    tree(tmp_path, "cat/0.png", "cat/1.png")
    (tmp_path / "cat" / "1.png").rename(tmp_path / "cat" / "1.heic")
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")
    assert held(read(tmp_path)) == [(0, "cat"), (1, "cat")]


def test_what_pillow_knows_but_does_not_draw_is_no_picture(tmp_path):
    root = tree(tmp_path, "cat/0.png", "cat/a.h5", "cat/b.eps", "cat/c.mpg")
    Image.new("RGB", (4, 4), (10, 10, 10)).save(root / "cat" / "1.mpo")
    with pytest.warns(UserWarning, match=r"1 of type .h5, .*1 of type .eps, .*1 of type .mpg, "):
        assert held(load(root, image_size=4)) == [(0, "cat"), (1, "cat")]


def test_a_name_that_is_no_text_is_named(tmp_path):
    root = tree(tmp_path, "cat/0.png")
    try:
        os.rename(os.fsencode(root / "cat" / "0.png"), os.fsencode(root / "cat") + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this disk takes no name that is not UTF-8")
    tree(tmp_path, "cat/0.png")
    with pytest.warns(UserWarning, match="1 with a name that is no UTF-8"):
        assert len(load(root, image_size=4)) == 1


def test_text_beside_pictures_is_no_picture_and_no_split(tmp_path):
    root = tree(tmp_path, "cat/0.png", "cat/0.json", "cat/train.txt", "dog/1.png", "labels.csv", "README.md", "labels/0.txt",
                ".hidden/9.png", "cat/._0.png")
    made = read(root)
    assert held(made) == [(0, "cat"), (3, "dog")]


def test_one_picture_called_test_beside_the_classes_is_no_split(tmp_path):
    root = tree(tmp_path, "cat/0.png", "dog/1.png", "test.png")
    with pytest.warns(UserWarning, match=r"1 outside the class folders \(test.png\)"):
        assert held(load(root, image_size=4)) == [(0, "cat"), (1, "dog")]
    with pytest.raises(ValueError, match="no split 'test'; choose from train, .*split.share, seed"):
        load(root, "test", image_size=4)


def test_what_lies_beside_the_splits_is_named(tmp_path):
    root = tree(tmp_path, "train/cat/0.png", "train/9.png", "train/none/x.pt", "val/cat/1.png", "more/2.png", "3.png")
    (root / "train" / "empty").mkdir()
    with pytest.warns(UserWarning) as told:
        assert held(load(root, image_size=4)) == [(0, "cat")]
    sentence = str(told[0].message)
    assert "3 outside the class folders (train/9.png, 3.png, more/2.png)" in sentence
    assert "1 empty folders (train/empty)" in sentence and "1 of type .pt" in sentence


def test_splits_have_many_names_and_train_is_never_another(tmp_path):
    root = tree(tmp_path, "Training/cat/0.png", "dev/cat/1.png")
    assert held(read(root)) == held(read(root, "Training")) == [(0, "cat")]
    assert held(read(root, "val")) == held(read(root, "validation")) == held(read(root, "test")) == [(1, "cat")]
    alone = tree(tmp_path / "alone", "train/cat/0.png")
    for split in ("val", "test", "dev"):
        with pytest.raises(ValueError, match=f"no split {split!r}; choose from train, and hold pictures out"):
            read(alone, split)
    with pytest.raises(ValueError, match="no split 'train'; choose from test$"):
        read(tree(tmp_path / "only", "test/cat/0.png"))


def test_a_split_that_lacks_a_class_keeps_the_places_of_the_others(tmp_path):
    root = tree(tmp_path, "train/a/0.png", "train/b/1.png", "train/c/2.png", "val/a/3.png", "val/c/4.png")
    assert read(root).classes == read(root, "val").classes == ["a", "b", "c"]
    assert read(root, "val").labels.tolist() == [0, 2]


def test_folders_without_labels_are_refused_and_those_beside_them_are_read(tmp_path):
    root = tree(tmp_path / "kaggle", "train/cat/0.png", "train/dog/1.png", "test/2.png", "test/3.png")
    assert held(read(root)) == [(0, "cat"), (1, "dog")]
    flat = tree(tmp_path / "flat", "train/0.png", "test/1.png")
    bare = tree(tmp_path / "bare", "test.png", "train.png")
    for where, split in ((root, "test"), (root, "val"), (flat, "train"), (flat, "test"), (bare, "train")):
        with pytest.raises(ValueError, match="no folder for each class"):
            read(where, split)


def test_splits_below_a_folder_of_their_own_are_not_taken_for_classes(tmp_path):
    outer = tree(tmp_path / "outer", "pets/train/cat/0.png", "pets/val/cat/1.png")
    with pytest.raises(ValueError, match=r"'pets' is no class; give .*outer.pets"):
        read(outer)
    turned = tree(tmp_path / "turned", "cat/train/0.png", "cat/test/1.png", "dog/train/2.png")
    with pytest.raises(ValueError, match="as in test/cat"):
        read(turned)
    doubtful = tree(tmp_path / "doubtful", "bus/0.png", "train/steam/1.png")
    with pytest.raises(ValueError, match="a split or a class"):
        read(doubtful)


def test_numbered_classes_stand_in_the_order_of_their_numbers(tmp_path):
    assert read(tree(tmp_path, *(f"{i}/0.png" for i in (10, 2, 0, 1)))).classes == ["0", "1", "2", "10"]


def test_classes_gives_an_order_and_never_other_names(tmp_path):
    root = tree(tmp_path, "cat/0.png", "dog/1.png")
    assert held(read(root, classes=["dog", "eel", "cat"])) == [(0, "cat"), (1, "dog")]
    assert read(root, classes=["dog", "eel", "cat"]).labels.tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"labels \['cat', 'dog'\] are not among \['katze', 'hund'\]"):
        read(root, classes=["katze", "hund"])


def test_a_share_of_a_folder_is_of_every_class(tmp_path):
    root = tree(tmp_path, *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)))
    assert read(root, fraction=.5).labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("fraction", [50, 0, -1, float("nan"), "0.5", None])
def test_a_percentage_is_no_share(tmp_path, fraction):
    for source in (tree(tmp_path, "cat/0.png"), "shapes"):
        with pytest.raises(ValueError, match="fraction.* must be (a number in|above 0)"):
            load(source, fraction=fraction)


def test_a_picture_that_cannot_be_used_is_named_by_its_file(tmp_path, monkeypatch):
    root = tree(tmp_path, "cat/0.png", "cat/1.png", "cat/2.tif")
    (root / "cat" / "1.png").write_bytes((root / "cat" / "1.png").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"picture 1 \(.*1.png\) cannot be decoded"):
        read(root)
    Image.new("L", (60, 60)).save(root / "cat" / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"picture 1 \(.*1.png\) cannot be decoded .*pixels, .*make it smaller"):
        read(root)
    monkeypatch.undo()
    Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(root / "cat" / "2.tif")
    with pytest.raises(ValueError, match=r"picture 2 \(.*2.tif\) cannot be decoded .*70000"):
        read(root)


def test_a_picture_is_named_when_it_is_decoded_later_too(tmp_path, monkeypatch):
    root = tree(tmp_path, "cat/0.png", "cat/1.png")
    monkeypatch.setattr(hub, "MEMORY", 0)
    made = read(root)
    (root / "cat" / "1.png").unlink()
    made.images([0])
    with pytest.raises(ValueError, match=r"picture 1 \(.*1.png\) cannot be decoded"):
        made.images([1])


def test_a_folder_of_this_machine_comes_before_a_hubs_short_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "cifar10/cat/0.png"))
    assert held(read("cifar10")) == held(read(Path("cifar10"))) == [(0, "cat")]
