"""The nets that come with vitlab: small, with what they reach, and ready for a photo."""
import io

import numpy as np
import pandas as pd
import pytest
from desk import QUICK, short  # noqa: F401
from PIL import Image
from test_project import ROOT

import vitlab
from vitlab import checkpoint
from vitlab.widgets import explore

FILES = sorted((ROOT / "data" / "checkpoints").glob("*.safetensors"))
LARGER = {"svit_objects": "a detector: its neck and heads are larger than the net in them"}
PHOTOS = [path.stem.removesuffix("_cifar10") for path in FILES if path.stem.endswith("_cifar10")]
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar(name: str):
    return vitlab.load(ROOT / "data" / "checkpoints" / f"{name}_cifar10.safetensors")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A JPEG of 300x200 pixels: green below, blue above, something grey in between."""
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:120], pixels[120:], pixels[90:130, 100:200] = (120, 170, 230), (60, 130, 50), 150
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg")
    return file.getvalue()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_net_is_small_and_says_what_it_reaches_and_how_it_was_made(path):
    assert path.stat().st_size < (5e6 if path.stem in LARGER else 3e6)
    facts, _ = checkpoint.contents(path)
    assert (ROOT / facts["made_by"].split(", then")[0].split()[1]).exists()
    assert path.stem in LARGER or facts["top1"]


def test_every_method_has_a_net_for_photos():
    assert {"dense", "supervit", "dvt", "revit", "spvit", "svit"} <= set(PHOTOS)


@pytest.mark.parametrize("name", PHOTOS)
def test_the_table_of_a_net_for_photos_has_each_of_its_points(name):
    net, table = cifar(name), pd.read_csv(ROOT / "data" / "results" / f"cifar10_{name}_points.csv")
    assert net.made["classes"] == CLASSES and net.made["image_size"] == 32
    assert list(table.point) == [str(point) for point in net.points]
    assert net.facts["top1"] == pytest.approx(dict(zip(table.point, table.top1, strict=True)), abs=0.006)
    assert (table.n == 10_000).all() and table.gmacs.max() == table.gmacs.iloc[-1]
    assert table.top1.iloc[-1] >= 70


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_is_answered_from_a_file_and_from_bytes(name, photo, tmp_path):
    net = cifar(name)
    (tmp_path / "a.jpg").write_bytes(photo)
    Image.open(io.BytesIO(photo)).save(tmp_path / "a.png")
    for point in (None, net.points[0]):
        told = vitlab.predict(net, [tmp_path / "a.jpg", tmp_path / "a.png", photo], point)
        assert set(told.name) <= set(CLASSES) and told.name.nunique() == 1
        assert np.ptp(told.confidence) < 1e-4


def test_in_the_explorer_they_stand_beside_the_nets_for_shapes_and_answer_an_upload(photo):
    nets = {"supervit": vitlab.load(ROOT / "data" / "checkpoints" / "supervit_shapes.safetensors"),
            **{f"{name} · photos": cifar(name) for name in PHOTOS}}
    panel = explore(nets, vitlab.data.shapes("test", difficulty=1.0, n=12), batch=1)
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["right"] in (True, False)
    panel.controls.upload.file = {"name": "mine.jpg", "content": memoryview(photo)}
    for name in PHOTOS:
        assert panel.set(model=f"{name} · photos").wait(QUICK), panel.last_error
        told = vitlab.predict(nets[f"{name} · photos"], photo, panel.result["point"])
        assert (panel.result["image"], panel.result["right"]) == ("mine.jpg", None)
        assert panel.result["prediction"] == told.name[0]
        assert panel.result["confidence"] == pytest.approx(told.confidence[0], abs=1e-4)
    panel.close()
