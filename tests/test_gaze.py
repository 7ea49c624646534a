"""A patch that is clicked, in the panel: the lens and the row are the library's, and without a click nothing is computed."""
import io
import random
import re

import numpy as np
import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from PIL import Image
from test_depth import NETS
from test_widgets import counted

import vitlab
from vitlab import measure
from vitlab.plots.overlay import heated, marked
from vitlab.widgets import engine, explore
from vitlab.widgets.assigned import heard
from vitlab.widgets.door import LIVE
from vitlab.widgets.gaze import CLASS, PATCH


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore(net, images, batch=2)
    assert made.set(keep=0.5).wait(QUICK), made.last_error
    yield made
    made.close()


@pytest.fixture
def looks(monkeypatch):
    """What was computed inside: a pass, the lens, which is another, or the rows, in which layer."""
    seen, inside, lens, rows = [], engine.Engine.inside, engine.Engine.lens, engine.Engine.rows
    monkeypatch.setattr(engine.Engine, "inside", lambda self, *given: seen.append("pass") or inside(self, *given))
    monkeypatch.setattr(engine.Engine, "lens", lambda self, *given: seen.append("lens") or lens(self, *given))
    monkeypatch.setattr(engine.Engine, "rows", lambda self, *given: seen.append(given[-1]) or rows(self, *given))
    return seen


def words(html):
    return " ".join(re.sub("<[^>]*>", " ", html).split())


def drawn(panel):
    return np.asarray(Image.open(io.BytesIO(panel.gaze.picture.value)))


def click(panel, *patch):
    panel.view.aide.patch = list(patch)
    assert panel.wait(QUICK), panel.last_error


@pytest.mark.parametrize("patch", [(0, 0), (3, 3), (6, 2), (2, 5)])
def test_what_is_read_and_drawn_is_what_the_library_says(panel, net, images, patch):  # noqa: F811
    click(panel, *patch)
    point, number, image = panel.result["point"], 7 * patch[0] + patch[1], images.images([0])
    answers = measure.lens(net, image, number, point)
    told = words(panel.gaze.read.value)
    for row in answers.nlargest(3, "probability").itertuples():
        assert row.probability < 0.005 or f"“{images.classes[row[4]]}” {100 * row.probability:.0f} %" in told
    assert f"layer {answers.layer[0]}" in told and ("dropped" in told) == (answers.after[0] == "attention")
    assert "in the place of the class token" in told
    for place in range(4):
        assert panel.set(layer=place + 1).wait(QUICK), panel.last_error
        rows = measure.attention_rows(net, image, number, point, place=place)
        for kind, row in ((PATCH, rows.patch), (CLASS, rows.cls)):
            panel.gaze.of.value = kind
            for head in (0, 1, 4):
                panel.gaze.head.value = head
                assert f"layer {place + 1}, " + (f"head {head}" if head else "mean") in panel.gaze.caption.value
                if row is None:
                    assert "takes no part in layer" in panel.gaze.told.value
                    continue
                weight = (row[head - 1] if head else row.mean(0)).numpy()
                shown = heated(images.picture(0), np.nan_to_num(weight), ~np.isnan(weight), (7, 7))
                assert np.array_equal(drawn(panel), marked(shown, number, (7, 7)))
                best = int(np.nanargmax(weight))
                name = "itself" if kind == PATCH and best == number else f"row {best // 7 + 1}, column {best % 7 + 1}"
                assert f"brightest: {name}, {100 * weight[best]:.1f} %" in words(panel.gaze.told.value)
                assert f"{100 * np.nansum(weight):.0f} % goes to patches" in words(panel.gaze.told.value)
                assert ("faded: not there" in panel.gaze.told.value) == bool(np.isnan(weight).any())


def test_nothing_is_computed_without_a_click_and_a_head_costs_nothing(panel, looks):
    assert panel.set(image=1).wait(QUICK) and panel.set(layer=2).wait(QUICK)
    assert looks == [] and panel.gaze.root.layout.display == "none"
    click(panel, 1, 1)
    assert looks == ["pass", "lens", 1] and panel.gaze.root.layout.display == "flex"
    panel.gaze.head.value, panel.gaze.of.value = 2, CLASS
    assert panel.wait(QUICK) and len(looks) == 3
    assert panel.set(layer=4).wait(QUICK) and looks[3:] == [3]             # no pass: the lens is of no layer
    assert panel.set(batch=4).wait(QUICK) and len(looks) == 4
    click(panel, 2, 2)
    assert looks[4:] == ["lens", 3]
    assert panel.set(keep=0.7).wait(QUICK) and looks[6:] == ["pass", "lens", 3]
    assert (panel.gaze.head.value, panel.gaze.of.value) == (2, CLASS)
    click(panel)
    assert len(looks) == 9 and panel.gaze.root.layout.display == "none" and panel.gaze.inside == (None, None)
    assert panel.set(image=3).wait(QUICK) and len(looks) == 9


@pytest.mark.parametrize("name", ["supervit", "tome", "dvt", "revit", "assigned", "spvit", "spvit-ragged", "svit", "svit-ragged",
                                  "adaptive_depth", "dense", "gap", "exits"])
def test_every_method_follows(name, images):  # noqa: F811
    made = explore(method := NETS[name](), images, batch=1)
    assert made.wait(QUICK), made.last_error
    click(made, 1, 2)
    grid, point = made.view.aide.grid, made.result["point"]
    answers = measure.lens(method, images.images([0]), grid + 2, point, grid=grid)
    best = answers.loc[answers.probability.idxmax()]
    assert f"“{images.classes[best['class']]}” {100 * best.probability:.0f} %" in words(made.gaze.read.value)
    rows = measure.attention_rows(method, images.images([0]), grid + 2, point, grid=grid)
    for kind, row in ((PATCH, rows.patch), (CLASS, rows.cls)):
        made.gaze.of.value = kind
        assert ("takes no part" in made.gaze.told.value) == (row is None)
    assert ("mean of the patches" in made.gaze.read.value) == (name == "gap")
    if len({part.stages for part in made.seen[1].layers}) > 1:
        look, exits = made.seen[1], made.known.exits(made.result["model"])
        assert any(f" {look.name(place, exits)}: " in words(made.gaze.read.value) for place in range(len(look.layers))), (
            "several nets have a layer of this number")
    assert ("all tokens, mean" in dict(made.gaze.of.options)) == (name == "gap")
    made.close()


def test_what_is_forced_is_looked_at(panel, net, images):  # noqa: F811
    click(panel, 3, 3)
    assert panel.force(drop=[24]).wait(QUICK), panel.last_error
    forced = vitlab.Forced(net, drop=[24])
    answers = measure.lens(forced, images.images([0]), 24, panel.result["point"])
    assert answers.layer[0] == 2 and "as it was dropped in layer 2" in words(panel.gaze.read.value)
    best = answers.loc[answers.probability.idxmax()]
    assert f"“{images.classes[best['class']]}” {100 * best.probability:.0f} %" in words(panel.gaze.read.value)


def test_what_is_taken_away_has_it(panel, tmp_path):
    click(panel, 3, 3)
    page = panel.save(tmp_path / "panel.html").read_text()
    assert panel.gaze.read.value in page and panel.gaze.told.value in page and page.count('<img alt="') == 4
    click(panel)
    assert panel.save(tmp_path / "panel.html").read_text().count('<img alt="') == 3


def test_hundreds_of_clicks_end_where_the_last_one_said_and_nothing_stays_behind(net, images):  # noqa: F811
    def run():
        made = explore(net, images, batch=1, name="cell")
        assert made.wait(QUICK), made.last_error
        click(made, 2, 2)
        return made
    run()
    widgets = counted()
    made, draw = run(), random.Random(0)
    assert counted() == widgets
    for _ in range(200):
        kind = draw.random()
        if kind < 0.6:
            made.view.aide.patch = [] if kind < 0.1 else [draw.randrange(7), draw.randrange(7)]
        elif kind < 0.8:
            made.controls.layer.value = draw.randrange(1, 5)
        else:
            made.controls.named()["keep"].value = draw.choice((0.5, 0.7, 1.0))
    assert made.set(keep=0.5, layer=3, length=7).wait(QUICK), made.last_error
    click(made, 4, 1)
    assert made.gaze.seen == (made.asked.sight, (4, 1), 7, 2) == (*made.gaze.lens, 2)
    assert "vl-old" not in made.gaze.root._dom_classes
    made.close()
    LIVE.clear()


# What an assigner says

def assigned():
    """One that leans to the longer length, so that a cost decides against it."""
    method = NETS["assigned"]()
    method.assigner.net.classifier.bias[1] += 0.8
    return method.eval()


def cells(html):
    return [[words(cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in re.findall(r"<tr.*?>(.*?)</tr>", html)][1:]


def test_the_assigners_word_is_its_softmax_and_what_its_cost_makes_of_it(images):  # noqa: F811
    method = assigned()
    made = explore(method, images, batch=2)
    chosen = set()
    for weight in (0.0, 0.5, 2.0):
        for image in range(4):
            assert made.set(length=None, cost_weight=weight, image=image).wait(QUICK), made.last_error
            with torch.no_grad():
                logits = method.assigner(images.images([image]))[0]
            share, cost = logits.softmax(-1), method.cost
            score = share.log() - weight * cost
            rows = cells(made.assigned.root.value)
            assert [row[0] for row in rows] == ["length 4", "length 7"]
            assert [row[1] for row in rows] == [f"{100 * p:.1f} %" for p in share.tolist()]
            assert [float(row[2]) for row in rows] == pytest.approx(cost.tolist(), abs=0.01)
            assert [float(row[3].replace("−", "-")) for row in rows] == pytest.approx(score.tolist(), abs=0.006)
            assert [row[4] for row in rows] == ["✓ runs" if n == int(score.argmax()) else "" for n in range(2)]
            assert made.result["exit"] == int(score.argmax())
            against = int(share.argmax()) != int(score.argmax())
            assert ("decides against it" in made.assigned.root.value) == against
            chosen.add((int(score.argmax()), against))
    assert len(chosen) > 1
    assert made.set(length=7).wait(QUICK), made.last_error
    assert words(made.assigned.root.value) == "length 7 is stated for every picture: the assigner is not asked"
    made.close()


def test_it_is_heard_in_the_pass_that_runs_anyway(images, monkeypatch):  # noqa: F811
    made = explore(method := assigned(), images, batch=2)
    assert made.set(length=None, cost_weight=0.0).wait(QUICK), made.last_error
    calls, real = [], type(method.assigner).forward
    monkeypatch.setattr(type(method.assigner), "forward", lambda self, *given: calls.append(given) or real(self, *given))
    ask = made.asked
    made.engine.look(ask)
    with_word = len(calls)
    monkeypatch.setattr(engine, "verdict", lambda *given: None)
    made.engine.look(ask)
    assert len(calls) == 2 * with_word
    copy = made.engine.methods[ask.model]
    assert not copy.assigner._forward_hooks
    with heard(vitlab.Forced(vitlab.create("supervit", "micro_patch8", 10).eval())) as said:
        assert said == []
    made.close()


def test_other_nets_have_no_such_table(panel):
    assert panel.assigned.root.layout.display == "none" and panel.assigned.root.value == ""


@pytest.mark.parametrize(("patch", "grid"), [(0, (2, 2)), (3, (2, 2)), (24, (7, 7)), (6, (7, 7)), (195, (14, 14))])
def test_a_patch_is_framed_and_nothing_else_is_drawn_over(patch, grid):
    picture = np.full((224, 224, 3), 120, np.uint8)
    before, framed = picture.copy(), marked(picture, patch, grid)
    assert np.array_equal(picture, before)                                 # the picture itself stays
    rows, columns = (slice(place * 224 // side, (place + 1) * 224 // side) for place, side in zip(divmod(patch, grid[1]), grid))
    inside, changed = framed[rows, columns], (framed != before).any(-1)
    assert (inside[0] == 255).all() and (inside[:, 0] == 255).all() and (inside[-1] == 255).all() and (inside[:, -1] == 255).all()
    assert (inside[3:-3, 3:-3] == 120).all()
    changed[max(rows.start - 2, 0):rows.stop + 2, max(columns.start - 2, 0):columns.stop + 2] = False
    assert not changed.any()
