"""Nets in a panel that know none of the pictures' classes: asked all the same, neither right nor wrong."""
import io

import numpy as np
import pandas as pd
import pytest
import torch
from desk import QUICK, images, net  # noqa: F401
from PIL import Image

import vitlab
from vitlab.widgets import explore

NAMES = [f"animal {k}" for k in range(10)]


def other(size: int = 32, names=NAMES, **knobs):
    torch.manual_seed(1)
    return vitlab.create("supervit", "micro_patch4", classes=names, image_size=size, **knobs).eval()


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore({"shapes": net, "animals": other()}, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


def test_a_guest_sees_the_picture_at_its_own_size_and_is_neither_right_nor_wrong(panel, images):  # noqa: F811
    assert panel.set(model="animals", image=3).wait(QUICK), panel.last_error
    told = vitlab.predict(other(), images.picture(3))
    assert panel.result["prediction"] == told.name[0]
    assert panel.result["confidence"] == pytest.approx(told.confidence[0], abs=1e-5)
    assert panel.result["right"] is None and panel.result["image"] == "image 3"
    assert "image 3 is of none of its classes (&#x27;animal 0&#x27;" in panel.view.answer.value
    assert panel.set(model="shapes").wait(QUICK)
    assert panel.result["right"] in (True, False) and "none of its classes" not in panel.view.answer.value


def test_an_uploaded_photo_is_answered_by_both(panel):
    photo = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(photo, "jpeg")
    panel.controls.upload.file = {"name": "dog.jpg", "content": memoryview(photo.getvalue())}
    for model in ("animals", "shapes"):
        assert panel.set(model=model).wait(QUICK), panel.last_error
        told = vitlab.predict(panel.methods[model], photo.getvalue())
        assert (panel.result["image"], panel.result["right"]) == ("dog.jpg", None)
        assert panel.result["prediction"] == panel.known.named(model, told.label[0])
        assert "none of its classes" not in panel.view.answer.value
        assert panel.result["confidence"] == pytest.approx(told.confidence[0], abs=1e-5)


def test_beside_each_other_they_are_not_timed_in_one_race(panel):
    panel.set(model="shapes").pin()
    assert panel.set(model="animals").wait(QUICK), panel.last_error
    assert panel.result["pinned"]["model"] == "shapes" and panel.result["beside"] is None
    assert panel.result["images_per_s"] > 0 and "not timed: it wants other pixels" in panel.twin.table.value


def test_what_a_guest_is_wrong_about_is_no_slice(panel):
    panel.set(model="animals")
    for words in ({"how": "wrong"}, {"how": "lost", "beside": ("shapes", panel.methods["shapes"].points[0])}):
        with pytest.raises(ValueError, match="animals knows none of these pictures' classes"):
            panel.slice(**words)
    assert panel.slice("unsure").wait(QUICK) and len(panel.rows) == len(panel.images)
    assert "net(images, " in panel.view.code.value             # for_net would refuse the set


def test_a_sweep_of_others_is_not_a_guests(net, images):  # noqa: F811
    rows = vitlab.sweep(net, images, [net.points[-1]], rounds=1)
    rows = pd.concat([rows, rows.assign(length=8)])             # a point that the guest has, too
    made = explore({"shapes": net, "animals": other()}, images, sweep=rows, batch=2)
    assert made.known.place("shapes", net.points[-1]) is not None
    assert made.known.place("animals", other().points[-1]) is None
    made.close()


def test_who_knows_some_of_the_classes_is_no_guest(images):  # noqa: F811
    some = [images.classes[0], *NAMES[1:]]
    with pytest.raises(ValueError, match="load the data with image_size=32"):
        explore(other(names=some), images)
    with pytest.raises(ValueError, match="which are not among the 10 classes of the net"):
        explore(other(56, some), images)
