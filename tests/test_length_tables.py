"""Tables of token lengths: labels by the split asked for, a column for every length, and single precision for half."""
from copy import deepcopy

import pytest
import test_lengths
import torch
from test_lengths import noise, table

import vitlab
from vitlab import lengths

net = test_lengths.net                                                      # a fixture


@pytest.mark.filterwarnings("ignore:all pictures have one label")
@pytest.mark.parametrize("split", [{"label_split": "crossfit", "folds": 4, "seed": 5},
                                   {"label_split": "heldout", "share": 0.5, "seed": 5}], ids=lambda split: split["label_split"])
def test_labels_are_made_of_the_split_that_was_asked_for(net, split):
    data, seen = noise(16), []

    def trained(part):
        seen.append(part.pictures)
        return net

    made = lengths.make_labels(data, trained, **split)
    expected = lengths.splits(16, **split)
    assert len(seen) == len(expected)
    assert all(torch.equal(pictures, data.pictures[rows]) for pictures, (rows, _) in zip(seen, expected, strict=True))
    labelled = torch.cat([rows for _, rows in expected]).sort().values
    assert torch.equal(made.pictures, data.pictures[labelled])


@pytest.mark.parametrize(("labels", "share"), [([1, -1, -1], [0.0, 1.0, 0.0]), ([-1, -1], [0.0, 0.0, 0.0])])
def test_shares_are_of_the_pictures_that_are_left(labels, share):
    assert lengths.histogram(torch.tensor(labels), (7, 10, 14)).share.tolist() == share


def test_a_length_that_nobody_takes_has_a_share_of_zero():
    answers = table(20)
    frame = lengths.compare(answers, {"short": lengths.fixed(answers, 7), "long": lengths.fixed(answers, 14)})
    assert frame[["share_7", "share_10", "share_14"]].values.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_answers_in_half_precision_are_compared_in_single(net):
    data, half = noise(6), deepcopy(net).bfloat16()
    found = lengths.length_table(half, data)
    with torch.no_grad():
        logits = half(data.images(range(6)).bfloat16(), half.Point(4))
    assert found.confidence.dtype == torch.float32
    torch.testing.assert_close(found.confidence[:, 0], logits.float().softmax(-1).amax(-1))
    assert lengths.logits_of(vitlab.TLA(3, 56).bfloat16(), data).dtype == torch.float32
