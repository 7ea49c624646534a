"""Parquet files as splits: a file is one set, and no picture of training stands in for an unseen one."""

import io
import warnings

import pandas as pd
import pytest
from PIL import Image

from vitlab.data import load, tables
from vitlab.data.splits import chosen, spelled_in


@pytest.fixture(autouse=True, scope="module")
def kept_apart(tmp_path_factory):
    import datasets
    patch = pytest.MonkeyPatch()
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    datasets.disable_progress_bars()
    yield
    patch.undo()


def parquet(path, labels):
    """A file with a grey picture for each label, all of one grey that depends on the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.new("L", (4, 4), sum(map(ord, path.name)) % 256).save(file, "png")
    pd.DataFrame({"image": [file.getvalue()] * len(labels), "label": labels}).to_parquet(path)
    return path


def test_a_single_file_is_one_split_whatever_its_name(tmp_path):
    for name in ("pets.parquet", "test-00000-of-00001.parquet"):
        path = parquet(tmp_path / name, ["a", "b"])
        assert load(path, image_size=4).classes == load(path, "training", image_size=4).classes == ["a", "b"]
        for split in ("val", "test", "validation"):
            with pytest.raises(ValueError, match=r"no split .* choose from train, .* load\(...\).split\(share, seed\)"):
                load(path, split, image_size=4)


def test_a_folder_of_files_without_splits_is_one_split(tmp_path):
    parquet(tmp_path / "0000.parquet", ["a"])
    parquet(tmp_path / "deep" / "0001.parquet", ["b"])
    assert load(tmp_path, image_size=4).classes == ["a", "b"]
    for split in ("val", "test"):
        with pytest.raises(ValueError, match="choose from train, and hold pictures out"):
            load(tmp_path, split, image_size=4)


def test_a_file_says_its_split_in_its_name_or_in_a_folders(tmp_path):
    root = tmp_path / "training [v2]*"     # neither what stands above nor a pattern's signs count
    for place, name in enumerate(("data/train-00000-of-00002", "data/train-00001-of-00002", "plain/test/0000", "pets_val")):
        parquet(root / f"{name}.parquet", [place])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(root, "train", image_size=4).labels.tolist() == [0, 1]
        assert load(root, "test", image_size=4).labels.tolist() == [2]
        assert load(root, "val", image_size=4).labels.tolist() == [3]


def test_files_that_tell_no_split_beside_some_that_do_are_named(tmp_path):
    parquet(tmp_path / "train-0.parquet", [0])
    parquet(tmp_path / "extra.parquet", [1])
    parquet(tmp_path / "train_test.parquet", [1])
    with pytest.warns(UserWarning, match=r"1 whose name tells no split \(extra.parquet\)"):
        assert load(tmp_path, image_size=4).labels.tolist() == [0, 1]


@pytest.mark.parametrize("name, word", [
    ("train", "train"), ("train-00000-of-00001", "train"), ("cifar10-train", "train"), ("TEST_3", "test"), ("dev0", "dev"),
    ("train-test-split", "train"), ("my-train-test", None), ("trainstation", None), ("contest", None), ("0001", None)])
def test_a_split_is_a_whole_word(name, word):
    assert spelled_in(name) == word


def test_val_and_test_stand_in_for_each_other_and_train_for_nobody():
    assert chosen("test", ["train", "dev"], "x") == "dev" and chosen("val", ["train", "testing"], "x") == "testing"
    assert chosen("val", ["test", "valid"], "x") == "valid" and chosen("extra", ["train", "extra"], "x") == "extra"
    for asked, names in (("val", ["train", "training"]), ("train", ["test", "val"]), ("train", ["extra"]), (None, ["train"])):
        with pytest.raises(ValueError, match="has no split"):
            chosen(asked, names, "x")


def test_pictures_and_parquet_in_one_folder_are_not_mixed(tmp_path):
    parquet(tmp_path / "train-0.parquet", [0])
    (tmp_path / "assets").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "assets" / "logo.png")
    with pytest.raises(ValueError, match="parquet files beside pictures"):
        load(tmp_path, image_size=4)


def test_files_with_other_classes_are_not_one_set(tmp_path):
    import datasets
    for place, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        made = datasets.Dataset.from_dict({"image": [Image.new("L", (4, 4))], "label": [0]}, features)
        made.to_parquet(tmp_path / f"train-{place}.parquet")
    with pytest.raises(ValueError, match="train-1.parquet has other columns or classes than .*train-0.parquet"):
        load(tmp_path, image_size=4)
    parquet(tmp_path / "words" / "0.parquet", ["cat"])
    parquet(tmp_path / "words" / "1.parquet", ["dog"])
    assert load(tmp_path / "words", image_size=4).classes == ["cat", "dog"]


def test_what_is_neither_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.csv").write_text("a,b")
    (tmp_path / "a.zip").write_bytes(b"PK")
    for where in (tmp_path, tmp_path / "a.csv", tmp_path / "a.zip"):
        with pytest.raises(ValueError, match="holds no pictures that can be read") as error:
            load(where)
        assert "\n" not in str(error.value)


def test_a_cache_of_datasets_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    import datasets
    path = parquet(tmp_path / "pets.parquet", [0])
    (tmp_path / "file").write_text("a file where a folder is needed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    with pytest.raises(OSError, match="file.cache, where `datasets` keeps what it reads, cannot be written .* HF_DATASETS_CACHE"):
        load(path, image_size=4)


def test_a_full_disk_and_a_closed_cache_are_told_from_other_faults(monkeypatch):
    import datasets
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/kept/here")
    faults = [(OSError(28, "No space left on device"), True), (PermissionError(13, "denied", "/kept"), True),
              (PermissionError(13, "denied", "/kept/here/lock"), True), (PermissionError(13, "denied", "/pictures/a"), False),
              (FileNotFoundError(2, "gone", "/pictures/a"), False), (ConnectionError("no network"), False)]
    for fault, of_cache in faults:
        with pytest.raises(OSError) as error, tables.cache_that_can_be_written():
            raise fault
        assert ("keeps what it reads" in str(error.value)) == of_cache, fault


def test_an_image_folder_needs_no_cache(tmp_path, monkeypatch):
    import datasets
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "never")
    (tmp_path / "set" / "cat").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "set" / "cat" / "0.png")
    assert len(load(tmp_path / "set", image_size=4)) == 1 and not (tmp_path / "never").exists()
