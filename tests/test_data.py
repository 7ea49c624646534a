"""Data: the made-up shapes, sets read through `datasets`, and one evaluation transform for all."""

import contextlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vitlab.data import Augment, ImageSet, cache, hub, load, shapes
from vitlab.data.outlines import OUTLINES, REACH, TILE, atlas
from vitlab.data.picture import MEAN, STD, in_rgb, squared

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="module")
def folders(tmp_path_factory):
    """Caches of this file's own, so that no test reads or fills another's."""
    import datasets
    patch = pytest.MonkeyPatch()
    patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("made")))
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
    datasets.disable_progress_bars()
    yield
    patch.undo()


# ----------------------------------------------------------------------------------------------------- shapes

def test_a_picture_does_not_depend_on_how_many_are_made_with_it():
    few, many = shapes(n=30), shapes(n=250)
    assert torch.equal(few.pictures, many.pictures[:30]) and torch.equal(few.masks, many.masks[:30])
    assert torch.equal(few.labels, many.labels[:30])


def test_a_picture_does_not_depend_on_the_number_of_threads(monkeypatch, tmp_path):
    threads, one = torch.get_num_threads(), shapes(n=200, difficulty=1.)
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    try:
        torch.set_num_threads(3 if threads == 1 else 1)
        assert torch.equal(one.pictures, shapes(n=200, difficulty=1.).pictures)
    finally:
        torch.set_num_threads(threads)


def test_making_pictures_leaves_the_global_generator_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    before = torch.get_rng_state()
    shapes("val", n=10)
    assert torch.equal(before, torch.get_rng_state())


def test_splits_and_seeds_hold_different_pictures():
    sets = [shapes("train", n=40), shapes("val", n=40), shapes("test", n=40), shapes("train", n=40, seed=1)]
    rows = {picture.numpy().tobytes() for made in sets for picture in made.pictures}
    assert len(rows) == 160


def test_classes_are_balanced_and_named():
    made = shapes(n=400)
    assert made.classes == list(OUTLINES) and len(made.classes) == 10
    assert made.labels.bincount().tolist() == [40] * 10


def test_all_outlines_cover_the_same_area():
    pixel = (2 * REACH / TILE) ** 2
    areas = (.5 - atlas()[:10] / pixel ** .5).clamp(0, 1).sum((1, 2)) * pixel
    assert torch.allclose(areas, torch.tensor(torch.pi), rtol=.01)


def test_mask_and_size_are_the_answers_objects():
    made = shapes(n=200, difficulty=1.)
    masks = np.stack([made.mask(i) for i in range(200)])
    assert masks.shape == (200, 56, 56) and masks.dtype == bool
    assert np.allclose(masks.mean((1, 2)), made.columns["size"])
    alone = made.columns["objects"] == 1
    level = made.pictures.float().mean(-1).numpy()
    inside = (level * masks).sum((1, 2)) / masks.sum((1, 2))
    outside = (level * ~masks).sum((1, 2)) / (~masks).sum((1, 2))
    assert (inside > outside)[alone].mean() > .95                       # one bright object on a dark ground


def test_the_dial_sets_the_range_of_difficulty():
    easy, hard = shapes(n=400).columns, shapes(n=400, difficulty=1.).columns
    assert easy["difficulty"].max() < hard["difficulty"].max() <= 1 and (easy["objects"] == 1).all()
    assert hard["objects"].min() == 1 < hard["objects"].max()
    assert np.corrcoef(easy["difficulty"], easy["size"])[0, 1] < -.8
    assert np.corrcoef(hard["difficulty"], hard["objects"])[0, 1] > .8


def ridge(features: torch.Tensor, labels: torch.Tensor, train: int) -> float:
    """Held-out accuracy of a linear classifier, fitted by ridge regression on the first `train` rows."""
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    features = torch.cat([features, torch.ones(len(features), 1)], 1).double()
    x, y = features[:train], torch.nn.functional.one_hot(labels[:train], 10).double()
    weights = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]).double(), x.T @ y)
    return ((features[train:] @ weights).argmax(1) == labels[train:]).double().mean().item()


@pytest.mark.parametrize("dial", [0., 1.])
def test_no_shortcut_through_colour_area_or_histogram(dial):
    made = shapes(n=1800, difficulty=dial)
    seen = made.pictures[:, ::2, ::2].flatten(1, 2)                            # every second pixel, [N, n, 3]
    pixels = seen / 255
    colour = torch.cat([pixels.mean(1), pixels.std(1), pixels.amax(1), pixels.amin(1)], 1)
    area = torch.as_tensor(made.columns["size"])[:, None].pow(torch.tensor([1., 2., .5]))
    level = seen.long() // 32 + 8 * torch.arange(3)                     # 8 levels of each channel
    level = level.flatten(1)
    histogram = torch.zeros(len(made), 24).scatter_add_(1, level, torch.ones(level.shape))
    for name, features in {"colour": colour, "area": area, "histogram": histogram}.items():
        accuracy = ridge(features, made.labels, 1000)
        assert accuracy < .15, f"{name} alone tells the class of {accuracy:.0%} of the pictures"


def test_augmentation_turns_and_mirrors_but_never_changes_the_pixels():
    made, plain = shapes(n=64, augment=True), shapes(n=64)
    torch.manual_seed(0)
    images, labels = made.__getitems__(range(64))
    assert torch.equal(labels, plain.labels)
    ways = [plain.images(range(64)).rot90(turns, (2, 3)) for turns in range(4)]
    ways += [way.flip(3) for way in ways]
    same = torch.stack([(images == way).flatten(1).all(1) for way in ways])
    assert same.any(0).all() and same.any(1).all()                 # each is one of the eight, all eight occur
    assert torch.equal(made.images([0]), plain.images([0]))             # evaluation stays as it is


@pytest.mark.parametrize("wrong", [{"split": "trian"}, {"difficulty": 1.5}, {"difficulty": float("nan")},
                                   {"n": 0}, {"size": 4}])
def test_shapes_refuses_what_makes_no_sense(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        shapes(**wrong)


# ------------------------------------------------------------------------------------------------------ cache

@pytest.mark.parametrize("damage", [lambda whole: whole[:len(whole) // 2], lambda whole: b"",
                                    lambda whole: b"nonsense" * 99,
                                    lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]])
def test_a_damaged_cache_file_is_made_again(damage, monkeypatch, tmp_path):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    made = shapes(n=20)
    file, = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = shapes(n=20)
    assert torch.equal(made.pictures, again.pictures) and file.read_bytes() == whole


def test_the_cache_is_read_not_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    once = {"x": torch.arange(5)}
    assert torch.equal(cache.kept("name", lambda: once)["x"], once["x"])
    assert torch.equal(cache.kept("name", lambda: pytest.fail("made twice"))["x"], once["x"])
    assert [file.name for file in tmp_path.iterdir()] == ["name.safetensors"]


def test_two_at_once_make_one_whole_file(monkeypatch, tmp_path):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    both_are_making = Barrier(2, timeout=20)
    def make(value):
        both_are_making.wait()
        return {"x": torch.full((200_000,), value)}
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda value: cache.kept("name", lambda: make(value))["x"], (1, 2)))
    assert [int(x[0]) for x in made] == [1, 2]
    file, = tmp_path.iterdir()
    assert cache.read(file)["x"].unique().numel() == 1


def test_a_full_disk_costs_the_cache_but_not_the_data(monkeypatch, tmp_path):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("a file where a folder is needed")
    with pytest.warns(UserWarning, match="VITLAB_DATA"):
        assert len(shapes(n=10)) == 10


@pytest.mark.skipif(os.name == "nt", reason="who may read a file is not said by its mode there")
def test_a_cache_for_several_people_can_be_read_by_all_of_them(tmp_path):
    cache.write(tmp_path / "kept.safetensors", {"x": torch.ones(3)})
    (tmp_path / "any").write_bytes(b"")
    assert (tmp_path / "kept.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_failed_write_leaves_the_old_file_whole(monkeypatch, tmp_path):
    path = tmp_path / "kept.safetensors"
    cache.write(path, {"x": torch.ones(3)})
    def full(draft, data):
        with draft.open("wb") as file:
            file.write(data[:4])
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError):
        cache.write(path, {"x": torch.zeros(3)})
    assert torch.equal(cache.read(path)["x"], torch.ones(3)) and list(tmp_path.iterdir()) == [path]


# --------------------------------------------------------------------------------------------------- ImageSet

def test_a_batch_is_its_images_one_by_one():
    made = shapes(n=20)
    images, labels = made.__getitems__([3, 0, 7])
    for row, index in enumerate([3, 0, 7]):
        image, label = made[index]
        assert torch.equal(image, images[row]) and label == labels[row] and isinstance(label, int)
    assert torch.equal(images, made.images([3, 0, 7])) and labels.dtype == torch.int64
    loaded = next(iter(DataLoader(made, batch_size=4, collate_fn=lambda batch: batch)))
    assert torch.equal(loaded[0], made.images(range(4)))


def test_a_normalised_image_is_its_picture():
    made = shapes(n=5)
    back = made.images([2])[0].permute(1, 2, 0) * torch.tensor(STD) + torch.tensor(MEAN)
    assert made.picture(2).shape == (56, 56, 3) and made.picture(2).dtype == np.uint8
    assert np.allclose(back * 255, made.picture(2), atol=1e-3)
    assert torch.allclose(made.prepare(made.picture(2)), made.images([2])[0])


def test_a_subset_is_stratified_and_keeps_facts_with_pictures():
    made = shapes(n=400, difficulty=.5)
    part = made.subset(.25)
    assert part.labels.bincount().tolist() == [10] * 10
    for row in (0, 50, 99):
        source = (made.pictures == part.pictures[row]).flatten(1).all(1).nonzero().item()
        assert part.columns["size"][row] == made.columns["size"][source]
        assert (part.mask(row) == made.mask(source)).all()
    assert torch.equal(part.labels, made.subset(.25).labels)
    assert not torch.equal(part.pictures, made.subset(.25, seed=1).pictures)
    assert len(made.first(7)) == 7 and len(made.first(10**6)) == 400
    for fraction in (0, 1.1, -1):
        with pytest.raises(ValueError, match="fraction.* must be"):
            made.subset(fraction)


def test_labels_must_be_classes():
    pictures = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    for labels in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="they must lie in 0..1"):
            ImageSet("wrong", ["a", "b"], torch.tensor(labels), pictures, 8)
    with pytest.raises(ValueError, match="empty"):
        ImageSet("nothing", ["a"], torch.tensor([]), pictures[:0], 8)


# ----------------------------------------------------------------------------------------- a person's picture

def photo(width: int = 90, height: int = 60, mode: str = "RGB") -> Image.Image:
    """A smooth picture: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    return Image.fromarray((np.stack([x, y, .5 + 0 * x], -1) * 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "I"])
def test_any_mode_and_size_becomes_the_nets_input(mode):
    made = shapes(n=1)
    for width, height in ((56, 56), (300, 40), (7, 9), (1, 1)):
        image = made.prepare(photo(width, height, mode))
        assert image.shape == (3, 56, 56) and image.dtype == torch.float32 and image.isfinite().all()


def test_sixteen_bit_transparency_and_orientation_are_understood():
    deep = Image.fromarray((np.arange(64 * 64).reshape(64, 64) * 16).astype(np.uint16))
    assert deep.mode == "I;16"
    assert abs(np.asarray(in_rgb(deep))[..., 0].astype(int) - np.arange(4096).reshape(64, 64) // 16).max() < 2
    assert in_rgb(Image.new("RGBA", (4, 4), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)
    file, lying = io.BytesIO(), photo()
    exif = lying.getexif()
    exif[0x112] = 6                                                    # to be turned a quarter clockwise
    lying.save(file, "png", exif=exif)
    assert np.array_equal(in_rgb(Image.open(file)), lying.transpose(Image.Transpose.ROTATE_270))
    as_bytes = shapes(n=1).prepare(file.getvalue())
    assert torch.equal(as_bytes, shapes(n=1).prepare(Image.open(file)))


@pytest.mark.parametrize("array, red", [
    (np.zeros((9, 9)), 0), (np.full((9, 9, 3), .5, np.float32), 128), (np.full((9, 9, 1), 7, np.uint8), 7),
    (np.full((9, 9), 65_535, np.uint16), 255), (np.zeros((9, 9, 4), np.uint16), 255), (np.eye(9) > 2, 0)])
def test_arrays_are_pictures_too(array, red):
    image = shapes(n=1).prepare(array)
    assert abs((image[0, 5, 5] * STD[0] + MEAN[0]) * 255 - red) < .01


def truncated() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)).save(file, "jpeg")
    return file.getvalue()[:1500]


@pytest.mark.parametrize("bad, words", [
    (truncated(), "not a whole picture"), (b"", "not a whole picture"), (b"words", "not a whole picture"),
    (Image.new("RGB", (0, 5)), "needs at least one"), (Image.new("1", (20_000, 20_000)), "make it smaller"),
    (np.zeros((0, 4, 3)), "no picture"), (np.zeros((3, 8, 8)), "no picture"), (np.zeros(5), "no picture"),
    (np.full((8, 8), np.nan), "finite"), (np.array([["a"]]), "finite")])
def test_a_bad_picture_gets_one_sentence(bad, words):
    with pytest.raises(ValueError, match=words) as error:
        shapes(n=1).prepare(bad)
    assert "\n" not in str(error.value) and " object at " not in str(error.value)


def test_the_evaluation_transform_is_timms():
    from timm.data import create_transform
    for size in ((300, 400), (500, 333), (250, 250)):
        picture = photo(*size)
        theirs = create_transform(224, crop_pct=.9, interpolation="bicubic", use_prefetcher=True)(picture)
        ours = squared(picture, 224).permute(2, 0, 1).numpy()
        assert np.abs(ours.astype(int) - np.asarray(theirs)).max() <= 2, size


# ------------------------------------------------------------------------------------ sets read by `datasets`

def table(n: int = 12, *, image: str = "img", label: str = "label", names=("cat", "dog", "eel"), labels=None,
          picture=photo, **more):
    import datasets
    features = {image: datasets.Image(), label: datasets.ClassLabel(names=list(names)),
                **{column: datasets.ClassLabel(names=["x", "y"]) for column in more}}
    columns = {image: [picture(20 + i, 30) for i in range(n)], **more,
               label: labels or [i % len(names) for i in range(n)]}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def parquet(folder: Path, **splits) -> Path:
    folder.mkdir(exist_ok=True)
    for split, made in splits.items():
        made.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_a_parquet_folder_is_read_and_its_columns_and_splits_are_found(tmp_path):
    with_palette = table(12, picture=lambda width, height: photo(width, height, "P"))
    folder = parquet(tmp_path / "set", train=with_palette, validation=table(6))
    train, val = load(folder, "train", image_size=16), load(folder, "val", image_size=16)
    assert (train.name, train.classes, len(train), len(val)) == ("set", ["cat", "dog", "eel"], 12, 6)
    assert train.labels.tolist() == [0, 1, 2] * 4 and train.images([0, 5]).shape == (2, 3, 16, 16)
    assert train.columns == {} and train.mask(0) is None
    test = load(folder, "test", image_size=16)                    # the only held-out split serves as test too
    assert torch.equal(test.images([1]), val.images([1]))
    alone = load(folder / "train-00000-of-00001.parquet", image_size=16)
    assert torch.equal(alone.images(range(12)), train.images(range(12)))
    assert load(folder, "train", image_size=16, fraction=.5).labels.bincount().tolist() == [2, 2, 2]


def test_an_image_folder_is_read(tmp_path):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for i in range(3):
                photo(20 + i, 25, "L").save(tmp_path / "pets" / split / name / f"{i}.png")
    val = load(tmp_path / "pets", "val", image_size=16)
    assert val.classes == ["cat", "dog"] and sorted(val.labels.tolist()) == [0, 0, 0, 1, 1, 1]
    assert np.ptp(val.picture(0), axis=2).max() == 0                       # grey stays grey


def test_decoding_when_asked_equals_decoding_once(tmp_path, monkeypatch):
    folder = parquet(tmp_path / "set", train=table(9))
    once = load(folder, "train", image_size=16)
    monkeypatch.setattr(hub, "MEMORY", 0)
    lazy = load(folder, "train", image_size=16)
    assert isinstance(once.pictures, torch.Tensor) and not isinstance(lazy.pictures, torch.Tensor)
    assert torch.equal(once.images(range(9)), lazy.images(range(9)))
    assert np.array_equal(once.picture(4), lazy.picture(4))
    assert torch.equal(once.subset(.34).images([2]), lazy.subset(.34).images([2]))
    assert torch.equal(once.__getitems__([8, 1])[0], lazy.__getitems__([8, 1])[0])


def test_training_is_augmented_and_evaluation_is_not(tmp_path):
    folder = parquet(tmp_path / "set", train=table(9))
    plain = load(folder, "train", image_size=16)
    change = Augment(re_prob=.5, auto_augment="rand-m9-mstd0.5-inc1")
    train = load(folder, "train", image_size=16, augment=change)
    torch.manual_seed(0)
    once, again = train.__getitems__(range(9))[0], train.__getitems__(range(9))[0]
    assert once.shape == (9, 3, 16, 16) and not torch.equal(once, again)
    torch.manual_seed(0)
    assert torch.equal(once, train.__getitems__(range(9))[0])    # torch's seed governs timm's generators
    assert torch.equal(train.images(range(9)), plain.images(range(9)))


def test_labels_may_be_words_or_numbers_and_images_plain_bytes(tmp_path):
    import pandas as pd
    file = io.BytesIO()
    photo().save(file, "png")
    for labels, classes in ((["b", "a", "b"], ["a", "b"]), ([0, 2, 1], ["0", "1", "2"])):
        frame = pd.DataFrame({"picture": [file.getvalue()] * 3, "target": labels, "weight": 1.})
        frame.to_parquet(tmp_path / "plain.parquet")
        made = load(tmp_path / "plain.parquet", image_size=16)
        assert made.classes == classes
        assert [made.classes[label] for label in made.labels] == [str(label) for label in labels]


def test_a_choice_of_label_columns_is_left_to_the_reader(tmp_path):
    folder = parquet(tmp_path / "set", train=table(4, label="fine", coarse=[0, 1, 1, 0]))
    with pytest.raises(ValueError, match="several label columns.*label=, from coarse, fine"):
        load(folder, image_size=16)
    assert load(folder, image_size=16, label="coarse").labels.tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="no column 'course'; choose from img, coarse, fine"):
        load(folder, image_size=16, label="course")


def test_hidden_and_missing_labels_and_columns_are_named(tmp_path):
    import datasets
    hidden = parquet(tmp_path / "hidden", test=table(3, labels=[-1, -1, -1]))
    with pytest.raises(ValueError, match="labels from -1 .* choose another split"):
        load(hidden, "test", image_size=16)
    missing = parquet(tmp_path / "missing", train=table(3, labels=[0, None, 1]))
    with pytest.raises(ValueError, match="1 of 3 labels .* missing"):
        load(missing, image_size=16)
    words = parquet(tmp_path / "words", train=datasets.Dataset.from_dict({"text": ["a"], "label": [0]}))
    with pytest.raises(ValueError, match="no image column among text, label"):
        load(words, image_size=16)
    bare = parquet(tmp_path / "bare", train=table(3).remove_columns("label"))
    with pytest.raises(ValueError, match="no label column among img"):
        load(bare, image_size=16)


def test_what_is_not_there_is_said_in_one_sentence(tmp_path):
    folder = parquet(tmp_path / "set", train=table(3))
    with pytest.raises(ValueError, match="no split 'val'; choose from train"):
        load(folder, "val", image_size=16)
    with pytest.raises(FileNotFoundError, match="no folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "hollow").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        load(tmp_path / "hollow")
    empty = parquet(tmp_path / "empty", train=table(3).select([]))
    with pytest.raises(ValueError, match="is empty"):
        load(empty)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="no pictures"):
        load(tmp_path / "broken.parquet")


def test_a_broken_picture_in_a_set_is_named(tmp_path):
    import datasets
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a"])})
    rows = {"image": [{"bytes": truncated(), "path": None}], "label": [0]}
    folder = parquet(tmp_path / "set", train=datasets.Dataset.from_dict(rows, features))
    with pytest.raises(ValueError, match="picture 0 cannot be decoded"):
        load(folder, image_size=16)


def test_without_a_network_a_sentence_comes_at_once(monkeypatch):
    monkeypatch.setattr(hub, "reachable", lambda: False)
    with pytest.raises(ConnectionError, match='cannot be reached; .* load."shapes"'):
        load("uoft-cs/cifar10", "train")


def test_the_hub_is_probed_with_a_short_limit(monkeypatch):
    import huggingface_hub.constants
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with contextlib.suppress(KeyError):
        monkeypatch.delenv("http_proxy")
    assert not hub.reachable()


def test_a_gated_set_says_where_to_ask(monkeypatch):
    import datasets
    def gated(*arguments, **options):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'ILSVRC/imagenet-1k' is a gated dataset.")
    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset_builder", gated)
    with pytest.raises(PermissionError, match="hf auth login"):
        load("imagenet-1k", "val")


@pytest.mark.parametrize("name, classes", [("cifar10", "airplane"), ("imagenette224", "tench")])
def test_real_pictures(name, classes):
    if not (REAL / name).is_dir():
        pytest.skip(f"no {name} pictures lie beside this checkout; they are not part of vitlab")
    made = load(REAL / name, "test", image_size=32, fraction=.05)
    assert made.classes[0] == classes and len(made.classes) == 10
    assert len(set(made.labels.bincount().tolist())) == 1
    assert made.images(range(4)).shape == (4, 3, 32, 32)
