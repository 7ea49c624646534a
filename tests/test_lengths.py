"""Token-length labels, the assigner that learns them, and the rivals it is compared with."""
from copy import deepcopy

import pandas as pd
import pytest
import torch
from samples import between, pictures, sharpen

import vitlab
from vitlab import lengths
from vitlab.cascade.budget import solve
from vitlab.data import ImageSet
from vitlab.methods.revit import Point, labels
from vitlab.methods.revit.assigner import RECIPE, choose
from vitlab.methods.revit.lengths import LengthTable, compare, confidence, fixed, labels_of, learned, oracle, random

TRUTH = {  # right at 7, 10, 14 -> label by the smallest that is right, and by the smallest from which on all are
    "111": (0, 0), "110": (0, None), "101": (0, 2), "100": (0, None), "011": (1, 1), "010": (1, None), "001": (2, 2),
    "000": (None, None)}


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return sharpen(vitlab.create("revit", "micro_patch8", num_classes=10)).eval()


def noise(n=40, classes=10):
    """An image set of random pixels with random labels."""
    labels = torch.arange(n) % classes
    return ImageSet("noise", range(classes), labels, torch.randint(0, 256, (n, 56, 56, 3), dtype=torch.uint8), 56)


def table(n=500, seed=0):
    """Made-up answers at three lengths, the longer the righter and the surer."""
    draw = torch.Generator().manual_seed(seed)
    hard = torch.rand(n, 1, generator=draw)
    right = torch.rand(n, 3, generator=draw) < (torch.tensor([0.9, 1.1, 1.3]) - 0.8 * hard).clamp(0, 1)
    sure = (0.6 * right + 0.4 * torch.rand(n, 3, generator=draw)).clamp(0, 1)
    return LengthTable((7, 10, 14), right, sure, torch.tensor([1.0, 2.0, 4.0], dtype=torch.double))


# Labels

@pytest.mark.parametrize("pattern", TRUTH)
@pytest.mark.parametrize(("unsolved", "instead"), [("largest", 2), ("smallest", 0), ("drop", -1)])
def test_labels_by_both_rules(pattern, unsolved, instead):
    correct = torch.tensor([[letter == "1" for letter in pattern]])
    for rule, expected in zip(("min_correct", "suffix"), TRUTH[pattern], strict=True):
        assert labels_of(correct, rule, unsolved).tolist() == [instead if expected is None else expected]


def test_the_histogram_counts_what_is_kept():
    frame = lengths.histogram(torch.tensor([0, 2, 2, -1, 2]), (7, 10, 14))
    expected = pd.DataFrame({"length": [7, 10, 14], "images": [1, 0, 3], "share": [0.25, 0.0, 0.75]})
    pd.testing.assert_frame_equal(frame, expected)


def test_splits_label_every_picture_with_a_net_that_has_not_seen_it():
    (both,) = lengths.splits(10)
    assert both[0].tolist() == both[1].tolist() == list(range(10))
    (pair,) = lengths.splits(10, "heldout", share=0.3, seed=1)
    assert len(pair[1]) == 3
    folds = lengths.splits(10, "crossfit", folds=3)
    assert sorted(torch.cat([rows for _, rows in folds]).tolist()) == list(range(10))
    for train, rows in [pair, *folds]:
        assert sorted([*train.tolist(), *rows.tolist()]) == list(range(10))
    again = lengths.splits(10, "crossfit", folds=3)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(folds, again, strict=True))


@torch.no_grad()
def test_the_table_is_what_each_length_answers(net):
    data = noise(11)
    found = lengths.length_table(net, data, batch=4)
    assert found.lengths == (4, 5, 7)
    images = data.images(range(11))
    for column, n in enumerate(found.lengths):
        logits = net(images, Point(n))
        assert torch.equal(found.correct[:, column], logits.argmax(1) == data.labels)
        torch.testing.assert_close(found.confidence[:, column], logits.softmax(-1).amax(-1))
        assert found.gmacs[column] == vitlab.gmacs(net, images[:1], Point(n))[0]
        assert found.top1()[n] == 100 * found.correct[:, column].double().mean()


@pytest.mark.parametrize("label_split", ["train", "heldout", "crossfit"])
def test_labelled_pictures_keep_their_order(net, label_split):
    data, seen = noise(100), []

    def trained(part):
        seen.append(len(part))
        return net

    made = lengths.make_labels(data, trained, label_split=label_split, unsolved="drop")
    correct = lengths.length_table(net, data).correct
    rows = torch.cat([rows for _, rows in lengths.splits(100, label_split)]).sort().values
    solved = rows[correct[rows].any(1)]
    assert seen == {"train": [100], "heldout": [80], "crossfit": [50, 50]}[label_split]
    assert made.classes == ["4x4", "5x5", "7x7"]
    assert torch.equal(made.labels, labels_of(correct, unsolved="drop")[solved])
    assert torch.equal(made.pictures, data.pictures[solved])


def test_labels_that_teach_nothing_are_told(net, monkeypatch):
    data = noise(6)
    all_right = LengthTable((4, 5, 7), torch.ones(6, 3, dtype=torch.bool), torch.ones(6, 3), torch.ones(3))
    monkeypatch.setattr(labels, "length_table", lambda *_: all_right)
    with pytest.warns(UserWarning, match=r"all pictures have one label(.|\n)*length +images +share(.|\n)*4 +6 +1\.0"):
        lengths.make_labels(data, lambda part: net)


# The assigner

@pytest.mark.parametrize(("architecture", "params", "cost"), [
    (("efficientnet_b0", 1, 1, 224), 4_011_391, 0.3845), (("efficientnet_b0", 1, 1, 160), 4_011_391, 0.1965),
    (("efficientnet_b0", 1, 1, 128), 4_011_391, 0.1260), (("efficientnet_b0", 0.5, 1, 224), 1_073_445, 0.1194),
    (("efficientnet_b0", 0.5, 1, 128), 1_073_445, 0.0391), (("efficientnet_b0", 0.5, 0.5, 224), 659_043, 0.0733),
    (None, 659_043, 0.0240), (("efficientnet_b0", 0.5, 0.5, 112), 659_043, 0.0200),
    (("tinynet_e", 1, 1, 106), 765_815, 0.0231), (("tinynet_d", 1, 1, 152), 1_061_289, 0.0503),
    (("mobilenetv3_small_050", 1, 1, 128), 571_299, 0.0079),
], ids=str)
def test_assigners_parameters_and_multiply_adds(architecture, params, cost):
    tla = vitlab.TLA(3, 224, architecture)
    assert vitlab.measure.parameters(tla) == params
    assert vitlab.gmacs(tla, torch.zeros(1, 3, 224, 224))[0] == pytest.approx(cost, abs=6e-5)


def test_a_small_assigner_is_a_small_part_of_the_shortest_length(net):
    image = pictures(1)
    tla = vitlab.TLA(3, 56)
    assert vitlab.measure.parameters(tla) == 124_575
    assert vitlab.gmacs(tla, image)[0] < 0.1 * vitlab.gmacs(net, image, Point(4))[0]


def test_the_loss_is_balanced_over_lengths_that_occur():
    tla, labels = vitlab.TLA(3, 56).eval(), torch.tensor([0] * 6 + [2] * 2)
    tla.weigh(labels)
    assert tla.balance.tolist() == pytest.approx([8 / 12, 1.0, 2.0])
    images = pictures(8)
    part = next(tla.losses(images, labels))["ce"]
    each = -tla(images).log_softmax(-1).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(part, (each[:6].mean() + each[6:].mean()) / 2)


def test_cost_counts_against_probability():
    logits, cost = torch.tensor([[2.0, 1.9, 3.0]]), torch.tensor([0.25, 0.5, 1.0])
    assert [choose(logits, cost, w).item() for w in (0.0, 1.0, 2.0, 100.0)] == [2, 2, 0, 0]
    assert choose(logits + 7, cost, 1.5) == choose(logits, cost, 1.5)


def test_an_assigner_learns_which_length_will_do(tmp_path):
    """Bright pictures need the short length, dark ones the long; the loop is `fit`, so a run can be taken up again."""
    labels = torch.arange(64) % 2 * 2
    bright = (labels[:, None, None, None] == 0) * 150 + torch.randint(0, 90, (64, 56, 56, 3))
    data = ImageSet("bright", ("4x4", "5x5", "7x7"), labels, bright.to(torch.uint8), 56)
    recipe = vitlab.Recipe(steps=70, batch=16, lr=3e-3)                    # 25 are enough for some initial weights only
    tla, history = lengths.train_assigner(data, recipe, val=data, out=tmp_path)
    assert not tla.training
    assert history.val_top1.iloc[-1] > 90
    assert (lengths.logits_of(tla, data, batch=20).argmax(1) == labels).double().mean() > 0.9
    again, read = lengths.train_assigner(data, recipe, val=data, out=tmp_path)
    assert read.attrs["note"].startswith("finished before")
    assert torch.equal(again(data.images([0])), tla(data.images([0])))
    assert (RECIPE.lr, RECIPE.weight_decay, RECIPE.epochs) == (1e-3, 0.05, 30)


# Rivals

def test_the_oracle_solves_what_any_length_solves():
    answers = table()
    frame = compare(answers, {"oracle": oracle(answers), **{str(n): fixed(answers, n) for n in answers.lengths}})
    top1 = frame.set_index("assigner").top1
    assert top1["oracle"] == pytest.approx(100 * answers.correct.any(1).double().mean())
    assert top1["oracle"] >= top1.drop("oracle").max()
    assert [top1[str(n)] for n in answers.lengths] == pytest.approx(list(answers.top1().values()))
    assert frame.gmacs[1:].tolist() == [1.0, 2.0, 4.0]
    assert frame.filter(like="share_").sum(axis=1).tolist() == pytest.approx([1.0] * 4)
    assert oracle(answers, "largest").gmacs.mean() > oracle(answers).gmacs.mean()


def test_random_takes_the_same_shares_and_is_right_as_often_as_they_promise():
    answers = table(3000)
    knowing = oracle(answers)
    frames = [compare(answers, {"oracle": knowing, "random": random(answers, knowing, seed)}) for seed in range(20)]
    for frame in frames:
        assert frame.loc[0, "gmacs":].tolist() == pytest.approx(frame.loc[1, "gmacs":].tolist())
    promised = sum(frames[0].loc[0, f"share_{n}"] * top1 for n, top1 in answers.top1().items())
    assert sum(frame.top1[1] for frame in frames) / 20 == pytest.approx(promised, abs=0.5)


def test_an_assigner_lies_between_random_and_oracle():
    answers = table()
    knowing = oracle(answers)
    logits = torch.nn.functional.one_hot(knowing.chosen, 3) * 2.0 + torch.randn(500, 3)
    tla = learned(answers, logits, gmacs=0.1)
    frame = compare(answers, {"random": random(answers, tla), "tla": tla, "oracle": knowing})
    assert frame.top1.is_monotonic_increasing
    assert frame.gmacs[1] == pytest.approx(frame.gmacs[0] + 0.1)
    dearest = [learned(answers, logits, weight).gmacs.mean() for weight in (0.0, 1.0, 3.0, 100.0)]
    assert dearest == sorted(dearest, reverse=True)
    assert dearest[-1] == 1.0


@torch.no_grad()
def test_offline_choices_are_what_the_nets_do(net):
    data = noise(12)
    found, images = lengths.length_table(net, data), data.images(range(12))
    threshold = between(found.confidence[:, 0])
    cascade = vitlab.EarlyExit(net, [Point(n) for n in found.lengths]).eval()
    trace = vitlab.Trace()
    cascade(images, cascade.Point(threshold), trace)
    stops = confidence(found, threshold)
    assert stops.chosen.tolist() == trace.exit.tolist()
    assert stops.gmacs.tolist() == pytest.approx(vitlab.gmacs(cascade, images, cascade.Point(threshold)).tolist())
    assert solve(found.exits(), found.exits().cost[1]).top1 >= found.top1()[4]
    tla, net = vitlab.TLA(3, 56).eval(), deepcopy(net)
    net.attach(tla)
    choice = learned(found, lengths.logits_of(tla, data), 0.25, gmacs=vitlab.gmacs(tla, images)[0])
    trace = vitlab.Trace()
    net(images, Point(None, 0.25), trace)
    assert choice.chosen.tolist() == trace.exit.tolist()
    assert choice.gmacs.tolist() == pytest.approx(vitlab.gmacs(net, images, Point(None, 0.25)).tolist())


# What makes no sense

@pytest.mark.parametrize(("call", "words"), [
    (lambda net: labels_of(torch.ones(1, 3).bool(), "best"), "rule must be one of min_correct, suffix, not 'best'"),
    (lambda net: labels_of(torch.ones(1, 3).bool(), unsolved="keep"), "unsolved must be one of largest, smallest"),
    (lambda net: lengths.splits(10, "test"), "label_split must be one of train, heldout, crossfit"),
    (lambda net: lengths.splits(10, "heldout", share=1.0), r"share must be in \(0, 1\)"),
    (lambda net: lengths.splits(10, "heldout", share=0), r"share must be in \(0, 1\)"),
    (lambda net: lengths.splits(10, "crossfit", folds=1), "folds must be a whole number of at least 2, not 1"),
    (lambda net: lengths.splits(10, "crossfit", folds=11), "folds from 2 to 10, not 0.2 and 11"),
    (lambda net: fixed(table(), 9), r"length 9 is not in the table; choose from \(7, 10, 14\)"),
    (lambda net: lengths.length_table(net, noise(20, classes=20)), "noise has 20 classes .* but the net has 10 and no names"),
    (lambda net: noise(4).relabelled(torch.zeros(3, dtype=torch.long), ("a",)),
     "holds 4 pictures but there are 3 labels; give one each"),
])
def test_what_makes_no_sense_gets_one_sentence(net, call, words):
    with pytest.raises(ValueError, match=words):
        call(net)


def test_no_label_at_all_gets_one_sentence(net, monkeypatch):
    none = LengthTable((4, 5, 7), torch.zeros(6, 3, dtype=torch.bool), torch.ones(6, 3), torch.ones(3))
    monkeypatch.setattr(labels, "length_table", lambda *_: none)
    with pytest.raises(ValueError, match="no length solves any picture, so none has a label"):
        lengths.make_labels(noise(6), lambda part: net, unsolved="drop")


def test_random_choices_are_their_seeds_and_draw_from_no_one_elses_generator():
    answers = table(200)
    knowing = oracle(answers)
    state = torch.random.get_rng_state()
    first, again, other = (random(answers, knowing, seed).chosen for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_assigners_choice_weighs_cost_relative_to_the_largest_length():
    """Of the costs 1, 2 and 4: going from the middle to the largest costs half of it, from the shortest three quarters."""
    answers = table(1)
    logits = torch.tensor([[0.0, 0.9, 1.9]])
    assert [learned(answers, logits, weight).chosen.item() for weight in (1.99, 2.01, 3.59, 3.61)] == [2, 1, 1, 0]
