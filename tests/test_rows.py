"""Naming pictures: whatever a person gives means the pictures it says, or is refused."""
import numpy as np
import pandas as pd
import pytest
import torch

import vitlab
from vitlab.data import ImageSet
from vitlab.data.rows import rows_of

MASK = [True, False, True, True, False]


def numbered(n=5, classes=2):
    """Pictures whose pixels are their number."""
    pictures = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 8, 8, 3).contiguous()
    return ImageSet("numbered", [str(k) for k in range(classes)], torch.arange(n) % classes, pictures, 8,
                    columns={"number": np.arange(n)})


@pytest.mark.parametrize("asked", [
    MASK, tuple(MASK), np.array(MASK), torch.tensor(MASK), pd.Series(MASK), pd.Series(MASK, index=list("abcde")),
    pd.Series(MASK, dtype=object), pd.array(MASK, dtype="boolean"),
    [0, 2, 3], (0, 2, 3), np.array([0, 2, 3]), np.array([0, 2, 3], dtype=np.uint8), torch.tensor([0, 2, 3], dtype=torch.int32),
    pd.Series([0, 2, 3]), pd.Index([0, 2, 3]), [np.int64(0), torch.tensor(2), 3], [-5, -3, -2],
], ids=lambda asked: type(asked).__name__)
def test_every_way_to_name_pictures_names_the_same(asked):
    assert rows_of(asked, 5).tolist() == [0, 2, 3]
    data = numbered()
    part = data.take(asked)
    assert part.columns["number"].tolist() == [0, 2, 3]
    assert torch.equal(part.pictures[:, 0, 0, 0], torch.tensor([0, 2, 3], dtype=torch.uint8))
    assert torch.equal(data.images(asked), part.images([0, 1, 2]))
    assert torch.equal(data.__getitems__(asked)[1], part.labels)


@pytest.mark.parametrize(("asked", "rows"), [
    (slice(None), [0, 1, 2, 3, 4]), (slice(1, 4, 2), [1, 3]), (slice(None, None, -1), [4, 3, 2, 1, 0]), (range(1, 3), [1, 2]),
    (range(4, -1, -2), [4, 2, 0]), (3, [3]), (-1, [4]), (np.int64(2), [2]), (torch.tensor(2), [2]), ([], []),
    (np.array([], dtype=bool)[:0], None), ([4, 4, 0], [4, 4, 0]),
])
def test_slices_ranges_and_single_numbers(asked, rows):
    if rows is None:
        with pytest.raises(IndexError, match="a mask needs one boolean for each of 5 pictures, not 0"):
            rows_of(asked, 5)
    else:
        assert rows_of(asked, 5).tolist() == rows


@pytest.mark.parametrize(("asked", "error", "words"), [
    ([0.0, 1.0], TypeError, "not by"), (np.array([1.5]), TypeError, "ndarray of float64"), (torch.ones(5), TypeError, "float32"),
    (1.0, TypeError, "not by 1.0"), (["0"], TypeError, "not by"), ("012", TypeError, "not by"), (None, TypeError, "not by None"),
    ([[0, 1]], TypeError, "shape"), ([True, 2.0], TypeError, "not by"), ({"a": 1}, TypeError, "not by"),
    ([5], IndexError, "no picture 5 among 5"), ([-6], IndexError, "no picture -6 among 5"),
    ([True, False], IndexError, "one boolean for each of 5 pictures, not 2"),
])
def test_what_names_no_picture_is_refused(asked, error, words):
    with pytest.raises(error, match=words):
        numbered().take(asked)


def test_the_wrong_answers_of_a_net_can_be_taken():
    data = vitlab.data.shapes("val", n=40)
    answers = vitlab.answers(vitlab.create("dense", "micro_patch8", 10), data)
    wrong = data.take(~answers.correct)
    assert len(wrong) == (~answers.correct).sum()
    right = zip(data.labels.tolist(), answers.correct, strict=True)
    assert wrong.labels.tolist() == [label for label, correct in right if not correct]


def test_a_sample_is_of_every_class_as_its_share():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    data = ImageSet("sorted", list("abc"), labels, torch.zeros(100, 8, 8, 3, dtype=torch.uint8), 8)
    for seed in range(5):
        counts = data.sample(20, seed).labels.bincount(minlength=3).tolist()
        assert all(abs(count - share) <= 1 for count, share in zip(counts, (12, 6, 2), strict=True)) and sum(counts) == 20
    assert torch.equal(data.sample(20, 1).labels, data.sample(20, 1).labels)
    assert data.columns == {} and len(data.sample(1000)) == 100
    assert len({tuple(numbered(50).sample(5, seed).columns["number"]) for seed in range(4)}) == 4
    for wrong in (0, -1, 2.0, True, "3"):
        with pytest.raises(ValueError, match="a number of pictures must be a whole number of at least 1"):
            data.sample(wrong)


def test_a_split_sets_a_share_of_every_class_apart():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 2 + [3])
    data = ImageSet("uneven", list("abcd"), labels, torch.zeros(93, 8, 8, 3, dtype=torch.uint8), 8,
                    columns={"number": np.arange(93)})
    rest, held = data.split(0.2, seed=3)
    assert held.labels.bincount(minlength=4).tolist() == [12, 6, 1, 0]
    assert sorted([*rest.columns["number"], *held.columns["number"]]) == list(range(93))
    assert rest.split(0.5)[0].classes == data.classes
    assert data.split(0.99)[0].labels.bincount(minlength=4).tolist() == [1, 1, 1, 1]
    for share in (0, 1, 50, True):
        with pytest.raises(ValueError, match="share.* the part of every class"):
            data.split(share)
    with pytest.raises(ValueError, match="no class of uneven has two pictures"):
        data.take([0, 60, 92]).split(0.5)


def test_torchs_subsets_are_image_sets_and_loaders_are_not():
    data = numbered(20)
    one, other = torch.utils.data.random_split(data, [0.5, 0.5], torch.Generator().manual_seed(0))
    assert vitlab.data.imageset.image_set(one).columns["number"].tolist() == list(one.indices)
    nested = torch.utils.data.Subset(other, [3, 1])
    assert vitlab.data.imageset.image_set(nested).columns["number"].tolist() == [other.indices[3], other.indices[1]]
    with pytest.raises(TypeError, match="needs an ImageSet, .* not a DataLoader"):
        vitlab.data.imageset.image_set(torch.utils.data.DataLoader(data))
    with pytest.raises(TypeError, match="not a list"):
        vitlab.answers(vitlab.create("dense", "micro_patch8", 2), [1, 2])
