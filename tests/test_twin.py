"""Two at once: what is pinned and what the controls say are the library's answers, patch by patch, timed in one race."""
import random
import re
import threading

import numpy as np
import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from test_widgets import counted

import vitlab
from vitlab import measure
from vitlab.plots.overlay import compared, dimmed
from vitlab.widgets import engine, explore
from vitlab.widgets.door import LIVE
from vitlab.widgets.twin import only


@pytest.fixture
def panel(net, images):  # noqa: F811
    made = explore(net, images, batch=2)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


def words(html):
    return re.sub("<[^>]*>", " ", html)


def test_both_are_what_the_library_says(panel, net, images):  # noqa: F811
    assert panel.pin().set(length=5, keep=0.5, image=4).wait(QUICK), panel.last_error
    for point, shown in ((net.Point(7, 1.0), panel.result["pinned"]), (net.Point(5, 0.5), panel.result)):
        trace = vitlab.Trace()
        with torch.no_grad():
            share = net(images.images([4]), point, trace)[0].softmax(-1)
        assert shown["point"] == point and shown["prediction"] == images.classes[int(share.argmax())]
        assert shown["confidence"] == pytest.approx(float(share.max()), abs=1e-5)
        assert shown["right"] is bool(share.argmax() == images.labels[4])
        assert shown["tokens"] == int(trace.layers[-1].fed.sum())
        assert shown["gmacs"] == pytest.approx(vitlab.gmacs(net, images.images([4]), point)[0])
    told = words(panel.twin.table.value)
    assert "pinned: " in told and "(7, 1)" in told and "now: " in told and "(5, 0.5)" in told and "…" not in told
    assert panel.result["beside"] > 0 and f"({panel.result['images_per_s'] / panel.result['beside']:.2f}×)" in told


def test_the_patches_that_differ_are_counted_and_striped(panel, net, images):  # noqa: F811
    panel.set(keep=0.5)
    assert panel.pin().force(drop=[0, 1, 2, 3, 4, 5, 6]).wait(QUICK), panel.last_error
    fed = []
    for method in (net, vitlab.Forced(net, drop=range(7))):
        trace = vitlab.Trace()
        with torch.no_grad():
            method(images.images([0]), net.Point(7, 0.5), trace)
        fed.append(trace.layers[-1].fed[0].numpy())
    then, now = fed
    assert (then & ~now).any() and (now & ~then).any()
    assert f"pinned, layer 4: {then.sum()} of 49, {(then & ~now).sum()} alone" in panel.twin.captions["pinned"].value
    assert f"now, layer 4: {now.sum()} of 49, {(now & ~then).sum()} alone" in panel.twin.captions["now"].value
    assert panel.result["pinned"]["point"] == panel.result["point"]            # nothing is forced in what is pinned


def test_stripes_lie_where_one_set_has_a_patch_and_the_other_has_none_and_their_directions_differ():
    picture, one, two = np.full((224, 224, 3), 200, np.uint8), np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    drawn, plain = compared(picture, one, (2, 2), two, (2, 2)), dimmed(picture, one, (2, 2))
    striped = (drawn != plain).any(-1)
    corners = [striped[:112, :112], striped[:112, 112:], striped[112:, :112], striped[112:, 112:]]
    assert [bool(corner.any()) for corner in corners] == [False, True, True, False]
    rising, falling = corners[1], corners[2]
    assert (rising[1:, :-1] == rising[:-1, 1:]).all() and not (rising[1:, 1:] == rising[:-1, :-1]).all()
    assert (falling[1:, 1:] == falling[:-1, :-1]).all() and not (falling[1:, :-1] == falling[:-1, 1:]).all()
    fine = np.zeros(16, bool)
    fine[:2] = True                                                        # two of the four patches in the first corner
    assert only(fine, (4, 4), two, (2, 2)) == 0 and only(two, (2, 2), fine, (4, 4)) == 2


def test_two_nets_stand_side_by_side_and_are_timed_in_one_race(net, images, monkeypatch):  # noqa: F811
    races, real = [], measure.race

    def race(entries, *given, **settings):
        races.append({name: point for name, (_, point) in entries.items()})
        return real(entries, *given, **settings)
    monkeypatch.setattr(measure, "race", race)
    other = vitlab.create("tome", "micro_patch8", num_classes=10).eval()
    made = explore({"a": net, "b": other}, images, batch=2)
    assert made.wait(QUICK) and list(races[-1]) == ["here"]
    assert made.pin(("b", other.points[0])).wait(QUICK), made.last_error
    assert races[-1] == {"here": net.points[-1], "pinned": other.points[0]}
    assert made.result["pinned"]["model"] == "b" and made.result["speed_up"] == 1.0 and made.result["beside"] > 0
    assert made.set(keep=0.5).wait(QUICK), made.last_error
    assert races[-1] == {"dense": net.points[-1], "here": net.Point(7, 0.5), "pinned": other.points[0]}
    assert made.unpin().wait(QUICK) and made.result["pinned"] is None and made.result["beside"] is None
    assert list(races[-1]) == ["dense", "here"]
    made.close()


def test_as_the_browser_does_it_and_one_pass_more_where_the_picture_is_new(panel, monkeypatch):
    looks, real = [], engine.Engine.look
    monkeypatch.setattr(engine.Engine, "look", lambda self, ask: looks.append((ask.point.keep, ask.image)) or real(self, ask))
    assert panel.set(keep=0.7).wait(QUICK) and looks == [(0.7, 0)]
    panel.twin.pin.value = True
    assert panel.wait(QUICK), panel.last_error
    assert looks == [(0.7, 0), (0.7, 0)] and panel.twin.root.layout.display == "flex"
    assert panel.set(keep=0.5).wait(QUICK) and looks[2:] == [(0.5, 0)]
    assert panel.set(image=3).wait(QUICK) and looks[3:] == [(0.5, 3), (0.7, 3)]
    assert panel.set(layer=1).wait(QUICK) and len(looks) == 5
    assert "layer 1: 49 of 49, 0 alone" in panel.twin.captions["now"].value
    panel.twin.pin.value = False
    assert panel.wait(QUICK) and len(looks) == 5 and panel.twin.root.layout.display == "none"


@pytest.mark.parametrize("at", [
    3, ("x", 3), ("x", vitlab.SuperViT.Point()), vitlab.DVT.Point(), "dense", vitlab.SuperViT.Point(99)], ids=str)
def test_what_the_panel_does_not_have_is_not_pinned(panel, at):
    before = panel.worker.asked
    with pytest.raises(ValueError, match="at must be an operating point of the model in view"):
        panel.pin(at)
    assert panel.worker.asked == before and panel.held is None and not panel.twin.pin.value


def test_a_net_that_wants_other_pixels_is_shown_and_not_timed(net, images):  # noqa: F811
    other = vitlab.create("dense", "micro_patch8", num_classes=10).eval()
    other.made["preprocessing"] = {**vars(images.preprocessing), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    made = explore({"a": net, "b": other}, images, batch=2)
    assert made.pin(("b", other.points[0])).wait(QUICK), made.last_error
    assert "not timed: it wants other pixels" in made.twin.table.value and made.result["beside"] is None
    made.close()


def test_what_is_taken_away_holds_both(panel, tmp_path):
    assert panel.pin().set(keep=0.5).wait(QUICK), panel.last_error
    page = panel.save(tmp_path / "panel.html").read_text()
    assert panel.twin.table.value in page and page.count("<img alt=") == 5
    assert panel.unpin().wait(QUICK)
    page = panel.save(tmp_path / "panel.html").read_text()
    assert "pinned: " not in page and page.count("<img alt=") == 3


def test_it_leaves_nothing_behind_and_many_moves_end_where_the_last_one_said(net, images):  # noqa: F811
    def run():
        made = explore(net, images, batch=1, name="cell")
        assert made.pin().wait(QUICK), made.last_error
        return made
    run()
    widgets = counted()
    last = run()
    assert counted() == widgets
    draw, threads = random.Random(0), threading.active_count()
    for _ in range(200):
        if draw.random() < 0.3:
            last.twin.pin.value = not last.twin.pin.value
        else:
            last.controls.named()["keep"].value = draw.choice((0.5, 0.7, 1.0))
    last.twin.pin.value = False
    assert last.set(keep=0.7).pin().set(keep=0.5, image=2).wait(QUICK), last.last_error
    assert last.result["pinned"]["point"].keep == 0.7 and last.result["point"].keep == 0.5 and last.result["beside"] > 0
    assert threading.active_count() <= threads + 1
    last.close()
    with pytest.raises(ValueError, match="this panel is closed"):
        last.pin()
    LIVE.clear()
