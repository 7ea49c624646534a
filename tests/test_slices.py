"""Slices: `measure.pick` against pandas, and the panel that walks them against `answers`; unasked, nothing is answered."""
import random
import re
import threading
import time

import pandas as pd
import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from samples import between
from test_widgets import counted

import vitlab
from vitlab import data, measure
from vitlab.measure.answers import at_points, in_batches
from vitlab.widgets import explore, slices
from vitlab.widgets.door import LIVE
from vitlab.widgets.records import Slice


@pytest.fixture(scope="module")
def many():
    """More pictures than one batch of answers."""
    return data.shapes("val", n=44)


@pytest.fixture
def panel(net, many):  # noqa: F811
    made = explore(net, many, batch=2)
    assert made.set(keep=0.5, image=7).wait(QUICK), made.last_error
    yield made
    made.close()


@pytest.fixture
def asked(monkeypatch):
    """Which operating points answers are computed at, once for each batch of pictures."""
    seen, real = [], in_batches

    def watched(method, data, points, batch):
        for tables in real(method, data, points, batch):
            seen.extend(points)
            yield tables
    monkeypatch.setattr(slices, "in_batches", watched)
    return seen


def words(html):
    return re.sub("<[^>]*>", "", html)


def told(panel):
    return words(panel.walk.told.value)


# Which pictures


def test_a_slice_is_what_pandas_says_of_answers(net, many):  # noqa: F811
    here, there = at_points(net, many, [net.Point(4, 0.5), net.Point(7, 1.0)])
    assert measure.pick(here) == list(range(44))
    assert measure.pick(here, "wrong") == here.index[~here.correct].tolist()
    both = here.merge(there, on="image")
    assert measure.pick(here, "lost", beside=there) == both.query("correct_y and not correct_x").image.tolist()
    assert measure.pick(here, "unsure") == here.confidence.sort_values(kind="stable").index.tolist()
    for label in range(10):
        assert measure.pick(here, label=label) == here.query("label == @label").image.tolist()
        assert measure.pick(here, "wrong", label=label) == here.query("label == @label and not correct").image.tolist()
    assert measure.pick(here, "lost", beside=here) == []


def test_the_dearest_come_first_and_those_that_cost_the_same_as_they_stand():
    table = pd.DataFrame({"image": [10, 11, 12, 13, 14], "gmacs": [1.0, 3.0, 2.0, 3.0, 1.0], "label": [0, 1, 0, 1, 0]})
    assert measure.pick(table, "dear") == [11, 13, 12, 10, 14]
    assert measure.pick(table, "dear", label=0) == [12, 10, 14]


@pytest.mark.parametrize(("given", "words"), [
    ({"how": "worst"}, "how must be one of all, wrong, lost, unsure, dear"),
    ({"how": "dear"}, "table must be rows of vitlab.answers, with image, gmacs"),
    ({"how": "lost"}, "beside holds the answers that are right"), ({"beside": 3}, "beside holds the answers that are right"),
    ({"how": "lost", "beside": 3}, "beside must be rows of vitlab.answers, with image, correct, not a int"),
    ({"how": "lost", "beside": pd.DataFrame({"image": [1], "correct": [True]})}, "answers to different pictures"),
    ({"how": "lost", "beside": pd.DataFrame({"image": [0], "correct": ["yes"]})}, "must be True or False in every row"),
    ({"label": -1}, "label must be a whole number of at least 0"), ({"label": 1.0}, "label must be a whole number")])
def test_what_is_no_slice_gets_one_sentence(given, words):
    table = pd.DataFrame({"image": [0], "correct": [True], "confidence": [0.5], "label": [0]})
    with pytest.raises(ValueError, match=words):
        measure.pick(table, **given)


# In the panel


def test_the_panel_walks_what_the_library_picks(panel, net, many):  # noqa: F811
    here, there = net.Point(4, 0.5), net.Point(7, 1.0)
    one, two = at_points(net, many, [here, there])
    for given, expected in (({"how": "wrong"}, measure.pick(one, "wrong")), ({"how": "unsure"}, measure.pick(one, "unsure")),
                            ({"how": "lost", "beside": there}, measure.pick(one, "lost", beside=two)),
                            ({"how": "wrong", "label": many.classes[3]}, measure.pick(one, "wrong", label=3))):
        assert panel.slice(at=here, **given).wait(QUICK), panel.last_error
        assert panel.rows == expected
        assert panel.result["point"] == here
        count = f"{len(expected)} of 44 pictures: "
        assert (count if expected else "no picture of 44 pictures is in this slice: ") in told(panel)
        assert panel.walk.next.disabled is (not expected)
    assert panel.slice("lost", at=there, beside=here).wait(QUICK), panel.last_error
    assert panel.rows == measure.pick(two, "lost", beside=one)
    assert "wrong at " in told(panel) and "(7, 1), right at " in told(panel) and "(4, 0.5)" in told(panel)
    assert panel.slice().wait(QUICK) and panel.rows is None and panel.walk.root.layout.display == "none"


def test_arrows_step_through_it_and_the_picture_follows(panel, many):
    assert panel.slice(label=3).wait(QUICK), panel.last_error
    rows = [number for number, label in enumerate(many.labels.tolist()) if label == 3]
    assert panel.rows == rows and len(rows) > 2 and 7 not in rows
    for button, place in ((panel.walk.next, 1), (panel.controls.next, 2), (panel.walk.back, 1), (panel.controls.back, 0),
                          (panel.walk.back, -1), (panel.walk.next, 0)):
        button.click()
        assert panel.controls.image.value == rows[place]                       # at once
        assert panel.wait(QUICK) and panel.result["image"] == f"image {rows[place]}"
        assert told(panel).startswith(f"{place % len(rows) + 1} of {len(rows)} · {len(rows)} of 44 pictures: ")
        assert f"of class “{many.classes[3]}”" in told(panel)
    assert panel.set(image=7).wait(QUICK)
    assert told(panel).startswith("the picture in view is not in this slice")
    panel.walk.next.click()
    assert panel.wait(QUICK) and panel.result["image"] == f"image {rows[1]}"
    panel.walk.open.value = False
    assert panel.wait(QUICK)
    panel.controls.next.click()
    assert panel.wait(QUICK) and panel.result["image"] == f"image {rows[1] + 1}"


def test_as_the_browser_does_it(panel, net, many):  # noqa: F811
    panel.walk.open.value = True
    assert panel.wait(QUICK) and panel.walk.root.layout.display == "flex"
    assert (panel.rows, panel.result["image"]) == (list(range(44)), "image 7")
    model = panel.controls.model.value
    assert (panel.walk.at.value, panel.walk.beside.value) == ((model, net.Point(7, 0.5)), (model, net.points[-1]))
    assert panel.walk.at.layout.display == panel.walk.beside.layout.display == "none"
    assert panel.set(length=5).wait(QUICK)
    panel.walk.how.value = "unsure"                                            # at the point in view
    assert panel.wait(QUICK), panel.last_error
    expected = measure.pick(vitlab.answers(net, many, net.Point(5, 0.5)), "unsure")
    assert panel.rows == expected and panel.result["image"] == f"image {expected[0]}"
    assert panel.walk.at.layout.display == "flex" and panel.walk.beside.layout.display == "none"
    panel.walk.at.value = model, net.Point(4, 0.7)                             # the sliders go there
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["point"] == net.Point(4, 0.7)
    panel.walk.how.value = "lost"
    assert panel.wait(QUICK), panel.last_error
    one, two = at_points(net, many, [net.Point(4, 0.7), net.points[-1]])
    assert panel.rows == measure.pick(one, "lost", beside=two)
    rows = panel.rows
    assert panel.set(keep=1.0, length=7).wait(QUICK) and panel.rows == rows   # the same pictures at another point
    panel.walk.open.value = False
    panel.walk.open.value = True
    assert (panel.walk.at.value, panel.walk.beside.value) == ((model, net.points[-1]), (model, net.points[0]))
    assert panel.wait(QUICK) and panel.rows == measure.pick(two, "lost", beside=vitlab.answers(net, many, net.points[0]))


def test_two_nets_are_asked_about_the_same_pictures(net, many):  # noqa: F811
    def cascade(threshold):
        torch.manual_seed(1)
        return vitlab.create("dvt", "micro_patch8", classes=many.classes[::-1], thresholds=((threshold, 1.0),)).eval()

    first = cascade(0.0)
    other = cascade(between(vitlab.answers(first, many, first.points[0]).confidence))      # about half leave at the first exit
    made = explore({"a": net, "b": other}, many, batch=2)
    assert made.slice("lost", at=("b", other.points[1]), beside=("a", net.points[-1]), label=2).wait(QUICK), made.last_error
    assert made.result["model"] == "b"
    one, two = vitlab.answers(other, many, other.points[1]), vitlab.answers(net, many, net.points[-1])
    expected = [row for row in range(44) if many.labels[row] == 2 and two.correct[row] and not one.correct[row]]
    assert made.rows == expected
    assert made.slice("dear").wait(QUICK), made.last_error                     # at the sliders' point, of b
    assert made.rows == measure.pick(one, "dear") != list(range(44)) and one.gmacs.nunique() == 2
    with pytest.raises(ValueError, match=r"at a \(4, 0.5\) all pictures cost the same"):
        made.slice("dear", at=("a", net.points[0]))
    made.walk.at.value = "a", net.points[0]                                    # in the browser a sentence, and the panel goes on
    assert not made.wait(QUICK) and "all pictures cost the same" in told(made) == made.last_error
    assert made.set(keep=0.7).wait(QUICK), made.last_error
    assert made.result["images_per_s"] > 0 and made.rows == []
    made.close()


@pytest.mark.parametrize("name", sorted(vitlab.METHODS))
def test_every_method_is_walked_through(images, name):  # noqa: F811
    torch.manual_seed(0)
    method = vitlab.create(name, "micro_patch8", num_classes=10).eval()
    made = explore(method, images, batch=2)
    for how in ("wrong", "unsure"):
        assert made.slice(how).wait(QUICK), made.last_error
        assert made.rows == measure.pick(vitlab.answers(method, images, made.result["point"]), how)
    least = vitlab.answers(method, images, made.result["point"]).confidence.min()
    assert made.result["confidence"] == pytest.approx(least, abs=1e-5)         # the picture shown is the least sure one
    made.close()


def test_unasked_nothing_is_answered_and_no_point_twice(panel, net, asked):  # noqa: F811
    assert panel.set(keep=0.7, image=3).wait(QUICK)
    panel.walk.open.value = True
    assert panel.wait(QUICK) and panel.slice(label=1).wait(QUICK)
    assert asked == []
    here, there = net.Point(7, 0.7), net.Point(7, 1.0)
    assert panel.slice("wrong").wait(QUICK) and asked == [here] * 5
    assert panel.slice("unsure").wait(QUICK) and panel.slice("lost", beside=there).wait(QUICK)
    assert asked == [here] * 5 + [there] * 5
    panel.controls.next.click()
    assert panel.set(keep=1.0).wait(QUICK) and panel.slice("wrong", label=2).wait(QUICK) and len(asked) == 10
    assert panel.set(precision="bf16").wait(QUICK), panel.last_error          # another precision may answer otherwise
    assert len(asked) == 15


def test_a_newer_request_goes_first_and_the_slice_goes_on_where_it_stopped(net, many, monkeypatch):  # noqa: F811
    made, begun, go, seen = explore(net, many, batch=2), threading.Event(), threading.Event(), []
    real = in_batches

    def slow(*given):
        for number, tables in enumerate(real(*given)):
            seen.append(number)
            begun.set()
            assert number != 1 or go.wait(QUICK)
            yield tables
    monkeypatch.setattr(slices, "in_batches", slow)
    assert made.wait(QUICK)
    made.slice("wrong")
    assert begun.wait(QUICK)
    made.set(keep=0.5)
    go.set()
    assert made.wait(QUICK), made.last_error
    assert made.result["point"].keep == 0.5 and seen == [0, 1, 2, 3, 4]
    assert made.rows == measure.pick(vitlab.answers(net, many, net.points[-1]), "wrong")
    made.close()


def test_of_a_large_set_a_sample_is_asked_about(net, many, monkeypatch):  # noqa: F811
    monkeypatch.setattr(slices, "MOST", 20)
    made = explore(net, many, batch=2)
    assert made.slice("unsure").wait(QUICK), made.last_error
    some = data.sampling.proportional(many.labels, 20)
    table = vitlab.answers(net, many.take(some), made.result["point"])
    assert made.rows == [some.tolist()[place] for place in measure.pick(table, "unsure")]
    assert "20 of 20 pictures (a sample of 44): " in told(made)
    made.close()


def test_an_empty_slice_is_told_and_the_picture_stays(net, many):  # noqa: F811
    made = explore(net, many.take([0, 1, 2]), batch=2)
    assert made.set(image=1).wait(QUICK) and made.slice(label="hourglass").wait(QUICK), made.last_error
    assert made.rows == [] and made.result["image"] == "image 1" and made.walk.next.disabled and made.walk.back.disabled
    assert told(made) == "no picture of 3 pictures is in this slice: of class “hourglass”; choose another slice"
    made.controls.next.click()
    assert made.wait(QUICK) and made.result["image"] == "image 2"
    made.walk.label.value = -1
    assert made.wait(QUICK) and told(made) == "3 of 3 · 3 of 3 pictures" and not made.walk.next.disabled
    made.close()


@pytest.mark.parametrize(("given", "words"), [
    ({"how": "worst"}, "how must be one of all, wrong, lost, unsure, dear"), ({"at": 3, "how": "wrong"}, "at must be an opera"),
    ({"how": "lost", "beside": ("x", 3)}, "beside must be an operating point of the model in view"),
    ({"how": "lost"}, "beside says where pictures are right"), ({"label": "cat"}, "label must be one of"),
    ({"label": 10}, "label must be a whole number from 0 to 9"), ({"at": 3}, "all pictures are the same ones at every point"),
    ({"how": "dear"}, "all pictures cost the same")], ids=str)
def test_a_slice_that_the_panel_does_not_have_moves_nothing(panel, given, words):
    before = panel.worker.asked
    with pytest.raises(ValueError, match=words):
        panel.slice(**given)
    assert panel.worker.asked == before and panel.walk.chosen is None and panel.rows is None


def test_wrong_and_right_at_one_point_is_refused(panel, net):  # noqa: F811
    point = net.Point(4, 0.5)
    with pytest.raises(ValueError, match=r"no picture is wrong and right at once at .*; choose another point on one side"):
        panel.slice("lost", at=point, beside=point)
    assert panel.rows is None


def test_the_line_of_code_and_the_saved_page_give_the_picture_in_view(panel, net, many, tmp_path):  # noqa: F811
    assert panel.slice("unsure").wait(QUICK), panel.last_error
    panel.step(2)
    assert panel.wait(QUICK)
    line = re.search(r"<code[^>]*>(.*)</code>", panel.view.code.value).group(1)
    space = {"net": net, "data": many}
    with torch.no_grad():
        exec(line, space)
    assert float(space["logits"][0].softmax(-1).max()) == pytest.approx(panel.result["confidence"], abs=1e-5)
    assert f"images([{panel.rows[2]}])" in line
    page = panel.save(tmp_path / "panel.html").read_text()
    assert line in page and panel.walk.told.value in page
    assert panel.slice().wait(QUICK)
    page = panel.save(tmp_path / "panel.html").read_text()
    assert "logits = net(images, net." in page and "44 pictures" not in page


def test_walking_leaves_nothing_behind(net, many):  # noqa: F811
    def run():
        made = explore(net, many, batch=1, name="cell")
        assert made.slice("wrong").wait(QUICK), made.last_error
        return made
    run()
    widgets = counted()
    for _ in range(2):
        last = run()
    assert counted() == widgets
    last.close()
    with pytest.raises(ValueError, match="this panel is closed"):
        last.slice("wrong")
    LIVE.clear()
    assert not last.worker.thread.is_alive()


def test_hundreds_of_steps_and_slices_end_where_the_last_one_said(panel, net, many):  # noqa: F811
    draw, threads = random.Random(0), threading.active_count()
    for _ in range(300):
        kind = draw.random()
        if kind < 0.6:
            draw.choice((panel.walk.next, panel.walk.back, panel.controls.next)).click()
        elif kind < 0.8:
            panel.controls.named()["keep"].value = draw.choice((0.5, 0.7, 1.0))
        else:
            panel.walk.open.value = True
            panel.walk.how.value = draw.choice(("all", "wrong", "unsure", "lost"))
        time.sleep(0.002 * draw.random())
    panel.walk.how.value = "all"
    panel.walk.how.value = "unsure"
    assert panel.wait(QUICK), panel.last_error
    point = panel.result["point"]
    assert panel.rows == measure.pick(vitlab.answers(net, many, point), "unsure")
    assert panel.result["image"] == f"image {panel.rows[0]}" and panel.controls.image.value == panel.rows[0]
    for _ in range(9):
        panel.walk.next.click()
    assert panel.wait(QUICK) and panel.result["image"] == f"image {panel.rows[9]}"
    assert told(panel).startswith("10 of 44 · ") and threading.active_count() <= threads + 1


def test_a_slice_says_what_it_is(net):  # noqa: F811
    here, there = ("one", net.Point(4, 0.5)), ("two", net.Point(7, 1.0))
    assert Slice("lost", here, there).words == "wrong at one (4, 0.5), right at two (7, 1)"
    assert Slice("unsure", here).words == "the least sure at one (4, 0.5) first"
