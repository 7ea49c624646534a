"""Label columns of other people's tables: a word or a whole number for each picture, all else is one sentence."""

import numpy as np
import pytest
from PIL import Image

from vitlab.data.labels import choose, image_column, labelled, ordered


def table(values, feature=None, column: str = "label"):
    import datasets
    made = datasets.Dataset.from_dict({column: values})
    return made.cast_column(column, feature) if feature is not None else made


def named(values, feature=None, **more) -> list[str]:
    """The class's name of every row."""
    labels, classes = labelled(table(values, feature), None, more.get("classes"))
    return [classes[label] for label in labels]


def of_classes(*names):
    import datasets
    return datasets.ClassLabel(names=list(names))


@pytest.mark.parametrize("values", [
    ["dog", "cat", "dog"], ["10", "2", "10"], ["n01440764", "10", "a b"], ["Dog", "dog", "dog "]])
def test_words_are_classes(values):
    assert named(values) == values


@pytest.mark.parametrize("values, classes", [
    ([3, 0, 1], ["0", "1", "2", "3"]), (np.array([1, 0], np.uint8), ["0", "1"]), ([True, False], ["0", "1"]),
    ([1., 10., 2.], [str(i) for i in range(11)]), (np.array([2, 0], np.float16), ["0", "1", "2"]), ([-0., 1.], ["0", "1"])])
def test_whole_numbers_are_classes_by_their_value(values, classes):
    labels, found = labelled(table(values), None, None)
    assert labels.tolist() == [int(value) for value in values] and found == classes


def test_numbers_written_as_words_stand_in_the_order_of_their_value():
    assert ordered(["10", "9", "1", "9"]) == ["1", "9", "10"]
    assert ordered(["10", "9", "b", "B", "1.5"]) == ["1.5", "10", "9", "B", "b"]
    assert ordered(["01", "1", "0"]) == ["0", "01", "1"]


@pytest.mark.parametrize("values, words", [
    ([.5, 1.], "numbers such as 0.5, no labels"), ([1., float("inf")], "numbers such as inf"),
    ([1., float("nan")], "1 of 2 labels .* missing"), (["a", None, None], "2 of 3 labels .* missing"),
    (["a", " ", ""], "2 of 3 labels .* missing"), ([0, 100_000], "holds 100000, no label"),
    (np.array([2**63 + 5, 0], np.uint64), "no label"), ([1e12], "no label"), ([b"a"], "holds binary, no labels"),
    ([{"a": 1}], "no labels"), ([np.datetime64("2020-01-01", "us")], "holds timestamp.* no labels")])
def test_what_is_no_label_gets_one_sentence(values, words):
    with pytest.raises(ValueError, match=words) as error:
        labelled(table(values), None, None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values", [
    [[0, 2], [1]], [[0, 2], [1, 2]], [[0], [2]], [["cat"], ["dog", "eel"]], [[1, 0, 1], [0, 1, 0]], [[0, 0, 0], [0, 1, 0]],
    [[.9, .1], [0., 1.]], [[0, 1], [0, 1, 0]], [[], []], [[0, None], [0, 1]], [[[0, 1]], [[1, 0]]], [[0, 2], [2, 0]],
    [[1], [1]], [[-1, 2], [1, 0]]])
def test_several_labels_for_a_picture_are_refused(values):
    with pytest.raises(ValueError, match="a picture has one label") as error:
        labelled(table(values), None, None)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_list_of_classes_is_no_row_with_a_single_1():
    import datasets
    with pytest.raises(ValueError, match="one label"):
        labelled(table([[0, 1], [1, 0]], datasets.List(of_classes("cat", "dog"))), None, None)


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_row_with_a_single_1_is_its_place(kind, fixed):
    import datasets
    rows = np.eye(1200, dtype=kind)[[7, 1199, 0]]
    feature = datasets.List(datasets.Value(str(np.dtype(kind))), length=1200) if fixed else None
    labels, classes = labelled(table(rows.tolist(), feature), None, None)
    assert labels.tolist() == [7, 1199, 0] and len(classes) == 1200
    labels, classes = labelled(table(np.eye(2, dtype=kind)[[1, 0, 1]].tolist()), None, ["cat", "dog"])
    assert labels.tolist() == [1, 0, 1] and classes == ["cat", "dog"]


def test_two_tables_with_other_words_tell_classes_apart_by_name():
    train, held_out = ["c", "a", "b"], ["c", "a"]
    assert named(train) == train and named(held_out) == held_out
    labels, classes = labelled(table(held_out), None, ["a", "b", "c"])
    assert labels.tolist() == [2, 0] and classes == ["a", "b", "c"]


def test_classes_orders_the_sets_names_and_never_gives_others():
    cats = of_classes("cat", "dog", "eel")
    for order in (["eel", "cat", "dog"], ["x", "dog", "eel", "y", "cat"], ("cat", "dog", "eel")):
        assert named([0, 1, 2, 1], cats, classes=order) == ["cat", "dog", "eel", "dog"]
        assert labelled(table([2, 1], cats), None, order)[0].tolist() == [order.index("eel"), order.index("dog")]
    with pytest.raises(ValueError, match=r"labels \['cat', 'dog'\] are not among \['katze', 'hund', 'aal'\]; give every name"):
        named([0, 1], cats, classes=["katze", "hund", "aal"])
    with pytest.raises(ValueError, match="not among"):
        named(["cat", "dog"], classes=["cat"])
    assert labelled(table([-1, 1], cats), None, ["dog", "eel", "cat"])[0].tolist() == [-1, 0]     # -1: the label is hidden


def test_hidden_labels_stay_hidden():
    for feature in (None, of_classes("cat", "dog")):
        assert labelled(table([-1, -1], feature), None, ["cat", "dog"])[0].tolist() == [-1, -1]


def test_classes_names_what_has_a_number_only():
    words = ["zero", "one", "two"]
    for values, feature in (([2, 0], None), ([2., 0.], None), ([2, 0], of_classes("0", "1", "2"))):
        assert named(values, feature, classes=words) == ["two", "zero"]
    assert labelled(table([2, 0]), None, ["2", "1", "0"])[0].tolist() == [0, 2]


@pytest.mark.parametrize("classes", ["cat", [], ["a", "a"], [0, "0"]])
def test_classes_must_be_names(classes):
    with pytest.raises(ValueError, match="no list of names"):
        labelled(table([0]), None, classes)


def test_a_column_is_chosen_only_where_there_is_one_to_choose():
    columns = ["img", "fine", "label", "category"]
    usual = ("label", "category")
    assert choose("label", ["fine"], None, usual, columns) == "fine"
    assert choose("label", ["fine", "label"], None, usual, columns) == "label"
    with pytest.raises(ValueError, match="several label columns; choose with label=, from label, category$"):
        choose("label", ["fine", "label", "category"], None, usual, columns)


def test_a_column_of_no_pictures_is_refused_when_it_is_asked_for():
    import datasets
    made = datasets.Dataset.from_dict({"image": [Image.new("L", (2, 2))], "pixels": [[[0, 1], [2, 3]]], "label": [0]})
    for column in ("pixels", "label"):
        with pytest.raises(ValueError, match=f"column {column!r} holds no pictures"):
            image_column(made, column)
    assert image_column(made, None)[1] == "image"
