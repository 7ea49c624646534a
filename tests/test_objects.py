"""Made pictures with several objects each: what a target says is what is seen, and the same picture is made every time."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader

import vitlab
from vitlab.data import DetectionSet, crowds, objects
from vitlab.data.detection import any_set, boxes, unpacked


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A cache of this file's own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("made")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def some(folder):
    return objects("val", size=48, n=200)


def alike(one: DetectionSet, other: DetectionSet) -> bool:
    parts = ("pictures", "objects", "labels", "masks")
    return all(torch.equal(getattr(one, part), getattr(other, part)) for part in parts)


def test_a_picture_does_not_depend_on_how_many_are_made_with_it(some):
    assert alike(objects("val", size=48, n=9), some.take(range(9)))


def test_splits_and_seeds_hold_different_pictures_and_none_touches_the_global_generator(some):
    before = torch.get_rng_state()
    others = [objects("test", size=48, n=4), objects("val", size=48, n=4, seed=1)]
    assert not [other for other in others if torch.equal(other.pictures, some.pictures[:4])]
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_kept_is_read_again_and_made_again_when_damaged(monkeypatch):
    first = objects("test", size=48, n=3)
    with monkeypatch.context() as patch:
        patch.setattr(crowds, "make", lambda *told: pytest.fail("made twice"))
        assert alike(first, objects("test", size=48, n=3))
    kept = next(crowds.cache.folder().glob("objects-test-48px-n3-*"))
    data = bytearray(kept.read_bytes())
    data[-5] ^= 255
    kept.write_bytes(data)
    assert alike(first, objects("test", size=48, n=3))


def test_one_to_four_objects_of_every_class_from_small_to_large(some):
    assert some.objects.min() == 1 and some.objects.max() == 4
    assert sorted(some.labels.unique().tolist()) == [0, 1, 2, 3] and some.labels.bincount().min() > 60
    share = unpacked(some.masks, 48).float().mean((1, 2))
    assert share.min() < 0.03 and share.max() > 0.15
    assert np.array_equal(some.columns["objects"], some.objects.numpy())


def test_masks_are_of_what_is_seen(some):
    """Two objects never share a pixel, and inside its rim, which is blended, an object has one flat colour."""
    flat = []
    for index in range(60):
        masks = some.target(index)["masks"]
        assert masks.sum(0).max() == 1
        for mask in 1 - F.max_pool2d(1 - masks.float(), 3, 1, 1):
            inside = torch.from_numpy(some.picture(index))[mask.bool()].float()
            flat += [(inside - inside.median(0).values).abs().amax(1) <= 1] if len(inside) else []
    assert len(torch.cat(flat)) > 5000 and torch.cat(flat).float().mean() > 0.98      # where tips of others reach in


def test_a_hidden_object_is_left_out_and_the_one_in_front_stays():
    scene = {"kind": torch.full((crowds.BLOCK, 7), -1), "radius": torch.full((crowds.BLOCK, 7), .2),
             "turn": torch.zeros(crowds.BLOCK, 7), "centre": torch.full((crowds.BLOCK, 7, 2), .5)}
    scene["kind"][:, 3:6] = 1
    scene["radius"][:, 3], scene["centre"][:, 5, 0] = .1, .95      # below, small: hidden; the third: apart
    masks, there = crowds.seen(scene, 32)
    assert there[0].tolist() == [False, True, True, False]
    scene["kind"][:, 4] = -1                                       # nothing in front of the first any more
    assert crowds.seen(scene, 32)[1][0].tolist() == [True, False, True, False]
    assert not (masks[0, 1] & masks[0, 2]).any() and masks[0, 2].any()


def test_no_object_is_hidden_more_than_it_may_be_and_some_are_hidden(some, monkeypatch):
    generator = torch.Generator().manual_seed(5)
    scene = crowds.draw(generator, list(crowds.USUAL))
    masks, there = crowds.seen(scene, 48)
    alone = torch.stack([crowds.seen({**scene, "kind": only(scene["kind"], slot)}, 48)[0][:, slot] for slot in range(4)], 1)
    share = (masks.sum((2, 3)) / alone.sum((2, 3)))[there]
    assert share.min() >= crowds.SEEN and (share < 1).float().mean() > 0.05
    assert there.any(1).all()


def only(kind: torch.Tensor, slot: int) -> torch.Tensor:
    """Nothing but the objects of one slot."""
    return kind.where(torch.arange(kind.shape[1]) == crowds.DISTRACTORS + slot, -1)


def test_boxes_hold_their_masks_and_nothing_to_spare():
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, 2:5, 1:7], masks[1, 7, 0] = 1, 1
    assert boxes(masks).tolist() == [[1, 2, 7, 5], [0, 7, 1, 8]]
    assert boxes(masks[:0]).shape == (0, 4)


def test_a_set_is_taken_apart_and_batched(some):
    rows = [5, 3, 77]
    part = some.take(rows)
    assert len(part) == 3 and repr(part).startswith("DetectionSet(objects: 3 pictures")
    for place, row in enumerate(rows):
        image, target = part[place]
        assert torch.equal(image, some[row][0]) and target["labels"].min() >= 1
        assert all(torch.equal(target[name], some.target(row)[name]) for name in target)
    assert alike(some.take(slice(2, 4)), some.take([2, 3]))
    images, targets = next(iter(DataLoader(some, batch_size=4, collate_fn=lambda batch: batch)))
    assert images.shape == (4, 3, 48, 48) and len(targets) == 4 and targets[0]["boxes"].dtype == torch.float32


def test_any_picture_is_made_the_nets_input(some):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 130, 3), dtype=np.uint8))
    assert some.square(picture).shape == (48, 48, 3) and some.prepare(picture).shape == (3, 48, 48)
    own = Image.fromarray(some.picture(0))
    assert torch.equal(some.prepare(own), some[0][0])


def test_the_mask_of_a_picture_is_where_any_object_is(some):
    assert np.array_equal(some.mask(3), some.target(3)["masks"].amax(0).bool().numpy())


def test_labels_go_by_name(some):
    turned = some.labelled(some.classes[::-1])
    assert [turned.classes[k] for k in turned.labels] == [some.classes[k] for k in some.labels]
    with pytest.raises(ValueError, match="not among the 1 classes of the net"):
        some.labelled(["ring"])


def test_colours_are_those_the_net_wants(some):
    net = vitlab.create("dense", "micro_patch8", num_classes=2, image_size=48)
    assert some.for_net(net) is some
    net.made["preprocessing"] = {"mean": [.5] * 3, "std": [.5] * 3}
    assert some.for_net(net).images([0]).max() <= 1 and some.for_net(net).preprocessing.std == (.5, .5, .5)


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda: objects("trian"), "split must be one of train, val, test, not 'trian'"),
    (lambda: objects(size=8), "size must be a whole number"),
    (lambda: objects(n=0), "n must be a whole number"), (lambda: objects(seed=-1), "seed must be"),
    (lambda: objects(classes=["ring"]), "two or more of circle"), (lambda: objects(classes=["ring", "ring"]), "each once"),
    (lambda: objects(classes=["ring", "potato"]), "not \\['ring', 'potato'\\]"),
    (lambda: objects(classes="ring"), "must be the names"),
])
def test_what_makes_no_set_is_told_in_one_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()


def test_parts_that_do_not_go_together_are_refused(some):
    with pytest.raises(ValueError, match="pictures of 48 pixels but the net takes 56"):
        some.for_net(vitlab.create("dense", "micro_patch8", num_classes=2))
    with pytest.raises(ValueError, match="give one each"):
        some.changed(labels=some.labels[1:])
    with pytest.raises(ValueError, match="labels from 0 to 3 but 2 classes"):
        some.changed(classes=["a", "b"])
    with pytest.raises(ValueError, match="at least one picture"):
        some.take([])
    with pytest.raises(TypeError, match="needs an ImageSet"):
        any_set([1])
    assert any_set(some) is some
