"""From pictures as people have them to names."""
import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import vitlab
from vitlab.data.picture import normalised, squared


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return vitlab.create("supervit", "micro_patch8", classes=[f"kind {n}" for n in range(10)]).eval()


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))


def logits(net, photo, point=None):
    with torch.no_grad():
        return net(normalised(squared(photo, 56)[None]), point)[0]


def test_every_form_of_a_picture_gets_the_same_answer(net, photo, tmp_path):
    photo.save(tmp_path / "a.png")
    data = io.BytesIO()
    photo.save(data, "PNG")
    forms = [photo, tmp_path / "a.png", str(tmp_path / "a.png"), data.getvalue(), np.asarray(photo),
             torch.from_numpy(np.asarray(photo).copy())]
    found = vitlab.predict(net, forms)
    share = logits(net, photo).softmax(-1)
    assert found.picture.tolist() == list(range(6))
    assert set(found.label) == {int(share.argmax())}
    assert found.confidence.tolist() == pytest.approx([share.max().item()] * 6, abs=1e-6)
    assert found.name[0] == f"kind {found.label[0]}"
    for one in forms:
        assert vitlab.predict(net, one).label.tolist() == [found.label[0]]


def test_so_many_answers_in_their_order_at_the_point_asked_for(net, photo):
    point = net.points[0]
    found = vitlab.predict(net, [photo, photo.rotate(90)], point, top=3, batch=1)
    share = logits(net, photo, point).softmax(-1).sort(descending=True)
    assert found["rank"].tolist() == [1, 2, 3] * 2
    assert found.label.tolist()[:3] == share.indices[:3].tolist()
    assert found.confidence.tolist()[:3] == pytest.approx(share.values[:3].tolist(), abs=1e-6)
    assert len(vitlab.predict(net, photo, top=99)) == 10


def test_a_net_without_names_tells_numbers_and_one_with_other_pictures_prepares_them(photo):
    torch.manual_seed(0)
    net = vitlab.create("dense", "micro_patch8", 10).eval()
    plain = vitlab.predict(net, photo)
    assert plain.name[0] == str(plain.label[0])
    net.made["preprocessing"] = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop": 1.0, "interpolation": "bilinear"}
    assert vitlab.predict(net, photo).confidence[0] != plain.confidence[0]


def test_a_training_net_is_left_as_it_was(photo):
    net = vitlab.create("dense", "micro_patch8", 10)
    vitlab.predict(net, photo)
    assert net.training


def test_several_threads_may_ask_at_once(net, photo):
    truth, seen = vitlab.predict(net, photo), []
    threads = [threading.Thread(target=lambda: seen.append(vitlab.predict(net, photo))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.label.tolist() == truth.label.tolist() for one in seen) and len(seen) == 4


@pytest.mark.parametrize("pictures, error, words", [
    ([], ValueError, "no picture"), (3, TypeError, "must be paths"), ({"a": 1}, TypeError, "must be paths"),
    (["missing.png"], FileNotFoundError, "picture 0: there is no picture"),
    ([b"abc"], ValueError, "picture 0: this is not a whole"),
    (np.zeros((2, 2, 7)), ValueError, "picture 0: shape")])
def test_what_is_no_picture_is_said(net, pictures, error, words):
    with pytest.raises(error, match=words):
        vitlab.predict(net, pictures)
