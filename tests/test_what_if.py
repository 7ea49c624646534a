"""What if, and along the depth, in the panel: it shows what `vitlab.Forced` and `measure.depth` say; unasked, nothing runs."""
import random
import re

import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from test_forced import ragged_spvit, ragged_svit
from test_widgets import counted

import vitlab
from vitlab import measure
from vitlab.widgets import engine, explore
from vitlab.widgets.door import LIVE
from vitlab.widgets.records import Hand


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore(net, images, batch=2)
    assert made.set(keep=0.5).wait(QUICK), made.last_error
    yield made
    made.close()


def click(panel, row, column, times=[0]):  # noqa: B006
    """What the browser says of a click on a patch in the mode."""
    times[0] += 1
    panel.view.aide.turn = [row, column, times[0]]


def words(html):
    return re.sub("<[^>]*>", "", html)


def test_a_patch_is_kept_then_dropped_then_free(panel, net, images):  # noqa: F811
    free, image, point = dict(panel.result), images.images([0]), panel.result["point"]
    seen = []
    for keep, drop in (([17], []), ([], [17]), ([], [])):
        click(panel, 2, 3)
        assert (list(panel.view.aide.keep), list(panel.view.aide.drop)) == (keep, drop)       # at once
        assert panel.wait(QUICK), panel.last_error
        forced = vitlab.Forced(net, keep, drop) if keep or drop else net
        with torch.no_grad():
            share = forced(image, point)[0].softmax(-1)
        assert panel.result["confidence"] == pytest.approx(float(share.max()), abs=1e-5)
        assert panel.result["gmacs"] == pytest.approx(vitlab.gmacs(forced, image, point)[0])
        assert panel.result["forced"] == ({"keep": tuple(keep), "drop": tuple(drop), "grid": 7} if keep or drop else None)
        assert panel.result["images_per_s"] > 0 and panel.result["speed_up"] > 0
        assert bool(panel.view.hand.value) == bool(keep or drop) != panel.controls.free.disabled
        assert panel.view.pictures["kept"].value
        seen.append(panel.result["confidence"])
    assert {key: panel.result[key] for key in ("confidence", "gmacs", "tokens")} == {
        key: free[key] for key in ("confidence", "gmacs", "tokens")}
    assert len({round(value, 5) for value in seen}) > 1


def test_one_sentence_says_what_changed(panel, net, images):  # noqa: F811
    before = panel.result
    assert panel.force(keep=[0], drop=[24, 25, 26]).wait(QUICK), panel.last_error
    told = words(panel.view.hand.value)
    now = panel.result
    assert told.startswith("by hand, 3 patches dropped and 1 patch kept: ")
    one, two = 100 * before["confidence"], 100 * now["confidence"]
    digits = int(f"{one:.0f}" == f"{two:.0f}")                            # a tenth of a percent where the whole ones are the same
    assert f"“{before['prediction']}” {one:.{digits}f} % → " in told and f"{two:.{digits}f} % · " in told
    assert "as many multiply-adds" in told and f"{now['tokens']} patches left as before" in told
    assert panel.set(keep=1.0).wait(QUICK), panel.last_error               # it stays, at another point
    told = words(panel.view.hand.value)
    assert re.search(r"[\d.]+ instead of [\d.]+ M multiply-adds · 46 instead of 49 patches left", told), told
    assert panel.controls.free.disabled is False
    panel.controls.free.click()
    assert panel.wait(QUICK) and panel.view.hand.value == "" and panel.result["forced"] is None


def test_the_line_of_code_gives_the_same(panel, net, images):  # noqa: F811
    assert panel.force([3, 17], [4]).wait(QUICK), panel.last_error
    line = re.search(r"<code[^>]*>(.*)</code>", panel.view.code.value).group(1)
    assert line == "logits = vitlab.Forced(net, keep=[3, 17], drop=[4], grid=7)(images, net.Point(length=7, keep=0.5))"
    space = {"vitlab": vitlab, "net": net, "images": images.images([0])}
    with torch.no_grad():
        exec(line, space)
    assert float(space["logits"][0].softmax(-1).max()) == pytest.approx(panel.result["confidence"], abs=1e-5)


def test_what_is_taken_away_tells_of_it(panel, tmp_path):
    panel.controls.deep.value = True
    assert panel.force(drop=[4]).wait(QUICK), panel.last_error
    page = panel.save(tmp_path / "panel.html").read_text()
    assert panel.view.hand.value in page and panel.view.knew.value in page and "vitlab.Forced(net, drop=[4], grid=7)" in page
    drawn = page.count("Plotly.newPlot(")                   # plotly's own code, too, has the word
    panel.controls.deep.value = False
    assert panel.force().wait(QUICK), panel.last_error
    page = panel.save(tmp_path / "panel.html").read_text()
    assert 'class="vl-hand"' not in page and page.count("Plotly.newPlot(") == drawn - 1


def test_nothing_forced_and_nothing_opened_computes_nothing_more(net, images, monkeypatch):  # noqa: F811
    made, looks = explore(net, images, batch=2), []
    assert made.wait(QUICK)
    real = engine.Engine.look
    monkeypatch.setattr(engine.Engine, "look", lambda self, ask: looks.append(ask.hand) or real(self, ask))
    monkeypatch.setattr(engine.Engine, "depth", lambda *_: pytest.fail("nobody asked for the depth"))
    assert made.set(keep=0.5).wait(QUICK) and looks == [None]
    made.controls.what_if.value = True
    assert looks == [None] and made.view.aide.forcing
    click(made, 0, 0)
    assert made.wait(QUICK) and looks == [None, Hand((0,), (), 7)]         # what was seen before is not asked again
    click(made, 0, 0)
    assert made.wait(QUICK) and len(looks) == 3
    assert made.set(keep=0.7).wait(QUICK) and looks[3:] == [Hand((), (0,), 7), None]
    made.close()


def test_another_picture_begins_anew_and_another_length_keeps_the_place(panel):
    click(panel, 0, 6)
    click(panel, 0, 6)
    assert panel.set(length=4).wait(QUICK), panel.last_error
    assert panel.result["forced"] == {"keep": (), "drop": (6,), "grid": 7}
    assert not panel.seen[1].layers[-1].fed[0, 3]                          # the corner of 4x4
    click(panel, 0, 3)                                                     # the same patch: free again
    assert panel.wait(QUICK) and panel.result["forced"] is None
    click(panel, 1, 1)
    assert panel.set(image=3).wait(QUICK) and panel.result["forced"] is None and list(panel.view.aide.keep) == []


def test_what_contradicts_itself_is_said_and_can_be_cleared(panel):
    assert not panel.force(keep=range(30)).wait(QUICK)
    assert "30 patches are kept by hand where 25 of 49 stay" in panel.view.note.value
    assert len(panel.view.aide.keep) == 30 and not panel.controls.free.disabled
    panel.controls.free.click()
    assert panel.wait(QUICK), panel.last_error
    before = panel.worker.asked
    for said, sentence in (({"keep": [3], "drop": [3]}, "cannot be kept and dropped"), ({"keep": [49]}, "names patch 49"),
                           ({"keep": torch.ones(49, dtype=torch.bool)}, "give the numbers of its patches")):
        with pytest.raises(ValueError, match=sentence):
            panel.force(**said)
    assert panel.worker.asked == before and not panel.hand


def test_a_net_that_drops_nothing_has_no_such_mode(net, images):  # noqa: F811
    tome = vitlab.create("tome", "micro_patch8", num_classes=10).eval()
    made = explore({"supervit": net, "tome": tome}, images, batch=2)
    assert made.wait(QUICK)
    made.controls.what_if.value = True
    assert made.force(drop=[3]).wait(QUICK), made.last_error
    made.controls.model.value = "tome"
    assert made.wait(QUICK), made.last_error
    assert made.controls.what_if.disabled and not made.controls.what_if.value and not made.view.aide.forcing
    assert "this net leaves none out, or has not said where" in made.controls.what_if.tooltip
    assert made.result["forced"] is None and list(made.view.aide.drop) == []
    with pytest.raises(ValueError, match="ToMe leaves no patch out"):
        made.force(drop=[3])
    made.controls.model.value = "supervit"
    assert made.wait(QUICK) and made.result["forced"]["drop"] == (3,) and not made.controls.what_if.disabled
    made.close()


@pytest.mark.parametrize("make", [ragged_spvit, ragged_svit, lambda: vitlab.create("svit", "micro_patch8", num_classes=10).eval(),
                                  lambda: vitlab.create("spvit", "micro_patch8", num_classes=10).eval()])
def test_every_method_that_drops_follows(images, make):  # noqa: F811
    method = make()
    made = explore(method, images, batch=2)
    assert made.wait(QUICK), made.last_error
    assert made.force(drop=range(20)).wait(QUICK), made.last_error
    with torch.no_grad():
        share = vitlab.Forced(method, drop=range(20))(images.images([0]), made.result["point"])[0].softmax(-1)
    assert made.result["confidence"] == pytest.approx(float(share.max()), abs=1e-5)
    assert "instead of" in made.view.hand.value
    made.close()


def test_the_depth_is_the_librarys_and_is_computed_only_when_opened(net, images):  # noqa: F811
    cascade = vitlab.create("dvt", "micro_patch8", num_classes=10).eval()
    made = explore({"supervit": net, "dvt": cascade}, images, batch=2)
    assert made.wait(QUICK)
    assert made.view.deep is None and made.view.depth.layout.display == "none"
    made.controls.deep.value = True
    assert made.wait(QUICK), made.last_error
    assert made.view.depth.layout.display == "flex"
    for model, method in (("supervit", net), ("dvt", cascade)):
        assert made.set(model=model).wait(QUICK), made.last_error
        rows = measure.depth(method, images.images([0]), made.result["point"])
        last = rows.tail(10).sort_values("probability").iloc[-1]
        line = next(trace for trace in made.view.deep.data if trace.name == images.classes[int(last["class"])])
        assert line.y[-1] == pytest.approx(100 * made.result["confidence"], abs=1e-3)
        assert f"“{made.result['prediction']}” leads from " in made.view.knew.value
        where = r"leads from stage \d, layer \d+ on" if model == "dvt" else r"leads from layer \d+ of \d+ on"
        assert re.search(where, made.view.knew.value)
    assert "exit 1 is " in made.view.knew.value and " % sure and needs 100 %" in made.view.knew.value
    made.controls.deep.value = False
    assert made.wait(QUICK) and made.view.depth.layout.display == "none"
    seen = made.deep
    assert made.set(image=2).wait(QUICK) and made.deep == seen
    made.close()


def test_the_life_of_a_patch_says_that_a_person_decided_it(panel):
    panel.view.aide.patch = [3, 3]
    assert panel.force(drop=[24]).wait(QUICK), panel.last_error
    assert "row 4, column 4</b>, dropped by hand · dropped in layer 2" in panel.view.life.value
    assert panel.set(length=4).wait(QUICK), panel.last_error
    assert "dropped by hand" in panel.view.life.value
    assert panel.force().wait(QUICK) and "by hand" not in panel.view.life.value


def test_what_was_opened_leaves_nothing_behind(net, images):  # noqa: F811
    def run():
        made = explore(net, images, batch=1, name="cell")
        made.controls.deep.value = True
        assert made.wait(QUICK), made.last_error
        assert made.force(drop=[3]).wait(QUICK), made.last_error
        return made
    run()
    widgets = counted()
    for _ in range(2):
        last = run()
    assert counted() == widgets
    last.close()
    LIVE.clear()


def test_hundreds_of_turns_and_moves_end_where_the_last_one_said(panel):
    draw = random.Random(0)
    for _ in range(300):
        kind = draw.random()
        if kind < 0.6:
            click(panel, draw.randrange(2), draw.randrange(3))
        elif kind < 0.9:
            panel.controls.named()["keep"].value = draw.choice((0.5, 0.7, 1.0))
        else:
            panel.controls.deep.value = draw.random() < 0.5
    panel.controls.deep.value = True
    click(panel, 6, 6)
    assert panel.wait(QUICK), panel.last_error
    hand = panel.hand
    assert 48 in hand.keep and panel.result["forced"] == {"keep": hand.keep, "drop": hand.drop, "grid": 7}
    assert (list(panel.view.aide.keep), list(panel.view.aide.drop)) == (list(hand.keep), list(hand.drop))
    assert panel.result["point"].keep == panel.controls.named()["keep"].value
    assert panel.deep == panel.asked.sight and "vl-old" not in panel.view.depth._dom_classes


def test_hands_move_from_grid_to_grid():
    hand = Hand().on(7).turned(6).turned(48).turned(48)
    assert hand == Hand((6,), (48,), 7) and hand and not Hand()
    assert hand.on(4) == Hand((3,), (15,), 4) and hand.on(4).on(4) is not None
    assert hand.turned(48) == Hand((6,), (), 7)
    assert Hand((0,), (1,), 7).on(2) == Hand((), (0,), 2)
    assert hand.code == "keep=[6], drop=[48], grid=7"
