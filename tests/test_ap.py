"""COCO's average precision on toy cases: perfect is 100, nothing 0, and what is further off is worth less."""
import os
import sys
from importlib.util import find_spec

import pytest
import torch

from vitlab.data.detection import DetectionSet, boxes
from vitlab.data.scenes import packed
from vitlab.methods.svit.detection import precision


@pytest.fixture(scope="module", autouse=True)
def extra():
    if find_spec("pycocotools") is None:
        why = "pycocotools is not installed: pip install -e '.[dense]'"
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_DENSE") == "1" else pytest.skip)(why)


def squares(shift: int = 0) -> torch.Tensor:
    """Masks of six squares on 64 pixels, moved to the right."""
    masks = torch.zeros(6, 64, 64, dtype=torch.uint8)
    for n, (left, top, side) in enumerate([(2, 2, 20), (30, 30, 24), (4, 36, 12), (10, 10, 30), (1, 44, 16), (24, 2, 16)]):
        masks[n, top:top + side, left + shift:left + side + shift] = 1
    return masks


@pytest.fixture(scope="module")
def data():
    """Four pictures with 3, 1, 2 and 0 objects of two classes."""
    return DetectionSet("toys", ["a", "b"], torch.zeros(4, 64, 64, 3, dtype=torch.uint8), torch.tensor([3, 1, 2, 0]),
                        torch.tensor([0, 1, 0, 1, 1, 0]), packed(squares().bool()))


def said(data, shift: int = 0, score: float = 0.9) -> list[dict]:
    """What a detector would say that sees all, a little to the right."""
    masks, labels = squares(shift), data.labels + 1
    return [{"boxes": boxes(masks[mine]), "labels": labels[mine], "masks": masks[mine].bool(),
             "scores": torch.full((len(labels[mine]),), score)} for mine in map(slice, data.first[:-1], data.first[1:])]


def ap(found, data, column: str = "ap") -> list[float]:
    table = precision(found, data)
    assert table.kind.tolist() == ["box", "mask"] and (table.n == len(data)).all()
    return table[column].tolist()


def test_what_is_right_in_all_is_worth_all(data):
    assert ap(said(data), data) == ap(said(data), data, "ap75") == pytest.approx([100, 100])


def test_nothing_found_is_worth_nothing(data):
    nothing = [{name: values[:0] for name, values in each.items()} for each in said(data)]
    assert ap(nothing, data) == [0, 0]


def test_the_further_off_the_less(data):
    scores = [ap(said(data, shift), data) for shift in range(8)]
    for kind in (0, 1):
        row = [score[kind] for score in scores]
        assert row == sorted(row, reverse=True) and row[0] > row[1] > row[3] > row[6]
    strict, mild = ap(said(data, 3), data, "ap75"), ap(said(data, 3), data, "ap50")
    assert mild[0] > strict[0] and mild[1] > strict[1]


def test_boxes_and_masks_are_judged_apart(data):
    thinned = [each | {"masks": each["masks"] & (torch.arange(64) % 3 == 0)} for each in said(data)]
    box, mask = ap(thinned, data)
    assert box == pytest.approx(100) and mask == 0


def test_the_wrong_class_is_wrong(data):
    assert ap([each | {"labels": 3 - each["labels"]} for each in said(data)], data) == [0, 0]


def test_a_false_alarm_costs_what_its_score_says(data):
    """One more box where nothing is, surer than the truth or less sure."""
    def alarmed(score):
        found = said(data, score=0.5)
        extra = {"boxes": torch.tensor([[50., 50, 60, 60]]), "labels": torch.tensor([1]), "scores": torch.tensor([score]),
                 "masks": torch.ones(1, 64, 64, dtype=torch.bool)}
        found[3] = extra
        return ap(found, data)[0]
    assert alarmed(0.9) < alarmed(0.1) == pytest.approx(100)


def test_a_class_that_is_nowhere_does_not_count(data):
    assert ap(said(data), data.changed(classes=["a", "b", "c"])) == pytest.approx([100, 100])


def test_it_prints_nothing(data, capsys):
    precision(said(data), data)
    assert capsys.readouterr().out == ""


def test_as_many_answers_as_pictures(data):
    with pytest.raises(ValueError, match="4 pictures but 3 were looked at"):
        precision(said(data)[:3], data)


def test_without_the_extra_one_sentence_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    for part in ("coco", "cocoeval", "mask"):
        monkeypatch.delitem(sys.modules, f"pycocotools.{part}", raising=False)
    with pytest.raises(ImportError, match=r'is not installed; .* pip install -e "\.\[dense\]"'):
        precision(said(data), data)
