"""What becomes of a patch, as the panel tells it, against the trace it is read from."""
import re
from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from desk import QUICK, images, net, short  # noqa: F401
from samples import sharpen

import vitlab
from vitlab.measure.records import DATA
from vitlab.trace import LayerTrace, Trace
from vitlab.widgets import explore, life
from vitlab.words import short as as_code


def traced(method, image, point):
    trace = Trace()
    with torch.inference_mode():
        method(image, point, trace)
    return trace.layers


def test_a_life_is_what_the_trace_says_of_the_patch(net, images):  # noqa: F811
    layers = traced(net, images.images([3]), vitlab.SuperViT.Point(7, 0.5))
    kinds = set()
    for row in range(7):
        for column in range(7):
            told = life.moments(layers, (row, column), 7)
            assert [m.attended for m in told] == [bool(part.attended[0, 7 * row + column]) for part in layers]
            assert [m.fed for m in told] == [bool(part.fed[0, 7 * row + column]) for part in layers]
            kinds |= {m.kind for m in told}
            dropped = [m for m in told if m.kind == "dropped"]
            assert all(m.rank > int(m.layer.fed[0].sum()) for m in dropped), "those of a higher rank went on"
            assert all(m.rank <= int(m.layer.fed[0].sum()) for m in told if m.attended and m.fed)
            words = life.sentence(told)
            assert ("dropped in layer" in words) == bool(dropped)
            assert ("to the end" in words) == told[-1].fed
    assert kinds == {"in", "dropped", "out"}


def test_a_finer_grid_is_asked_where_the_patch_lies():
    cascade = sharpen(vitlab.create("dvt", "micro_patch8", num_classes=10)).eval()
    layers = traced(cascade, vitlab.data.shapes("val", n=1).images([0]), None)
    told = life.moments(layers, (3, 0), 4)                                 # the last row of 4 x 4
    places = {part.grid[0]: int((3.5 / 4) * part.grid[0]) for part in layers}
    assert places == {4: 3, 5: 4, 7: 6}
    for moment in told:
        side = moment.layer.grid[0]
        assert moment.share == pytest.approx(float(moment.layer.cls[0, places[side] * side]))
    assert "stage" in life.strip(told, (3, 0))


@torch.no_grad()
def test_a_patch_that_is_merged_is_told_with_whom(images):  # noqa: F811
    tome = vitlab.create("tome", "micro_patch8", num_classes=10).eval()
    layers = traced(tome, images.images([3]), tome.Point(10))
    merged = 0
    for row in range(7):
        for column in range(7):
            told, here = life.moments(layers, (row, column), 7), 7 * row + column
            for moment, part in zip(told, layers, strict=True):
                stands = int(part.source[0, here])
                assert (moment.kind == "merged") == (stands != here) == (not moment.fed)
                assert moment.joined == (None if stands == here else divmod(stands, 7))
            merged += "joins the token of row" in life.sentence(told)
    assert merged == 49 - int(layers[-1].fed[0].sum())


def layer(number, attended, fed=None, folded=None):
    told = torch.tensor([attended], dtype=torch.bool)
    return LayerTrace(0, number, (1, 2), told, told if fed is None else torch.tensor([fed], dtype=torch.bool),
                      torch.tensor([[0.25, 0.75]]) * told, torch.tensor([1]), folded=folded)


@pytest.mark.parametrize(("layers", "words"), [
    ([layer(0, [1, 1]), layer(1, [1, 1])], "takes part to the end, layer 2 (rank 2 of 2 in layer 2's class attention, 25.0 %)"),
    ([layer(0, [1, 1], [0, 1]), layer(1, [0, 1])], "dropped in layer 1 (rank 2 of 2 in layer 1's class attention, 25.0 %)"),
    ([layer(0, [1, 1]), layer(1, [0, 1]), layer(2, [1, 1])],
     "left out in layer 2 (rank 2 of 2 in layer 1's class attention, 25.0 %); comes back in layer 3; "
     "in layer 3 (rank 2 of 2 in layer 3's class attention, 25.0 %), the last"),
    ([layer(0, [1, 1]), layer(1, [0, 1], folded=torch.tensor([[0.5, 0.0]]))],
     "folded into the package in layer 2 (rank 2 of 2 in layer 1's class attention, 25.0 %)")])
def test_a_life_is_told_change_by_change(layers, words):
    assert life.sentence(life.moments(layers, (0, 0), 2)) == words


def test_a_patch_that_is_chosen_is_told_at_once_and_follows_the_sliders(net, images):  # noqa: F811
    panel = explore(net, images, batch=2)
    assert panel.wait(QUICK), panel.last_error
    assert life.HINT in panel.view.life.value
    panel.view.aide.patch = [2, 5]
    assert "<b>row 3, column 6</b>" in panel.view.life.value               # at once, before anything is computed for it
    assert panel.set(length=4, keep=0.5).wait(QUICK), panel.last_error
    assert (panel.view.aide.grid, panel.view.aide.patch) == (4, [1, 3])     # where it lay on 7 x 7
    told = life.moments(panel.seen[1].layers, (1, 3), 4)
    assert panel.view.life.value == life.strip(told, (1, 3))
    panel.view.aide.patch = []
    assert life.HINT in panel.view.life.value
    panel.close()


def test_a_mark_that_is_clicked_takes_the_sliders_there(net, images):  # noqa: F811
    rows = vitlab.sweep(net, images, rounds=1)
    panel = explore(net, images, sweep=rows, batch=2)
    assert panel.wait(QUICK), panel.last_error
    marks = next(trace for trace in panel.view.figure.data if trace.name not in ("history", "now", "visited", "here"))
    place = len(marks.x) - 1
    expected = panel.known.point_at(marks.x[place], marks.y[place])
    assert expected is not None
    panel.go_to((marks, [place]))
    assert panel.wait(QUICK), panel.last_error
    assert (panel.known.place(*expected)) == (marks.x[place], marks.y[place])
    assert panel.known.place("SuperViT · micro_patch8", panel.result["point"]) == (marks.x[place], marks.y[place])
    first = next(trace for trace in panel.view.figure.data if trace.name == "history")
    panel.go_to((first, [0]))
    assert panel.wait(QUICK), panel.last_error
    assert panel.result["point"] == panel.view.past[0][0].point == net.points[-1]
    panel.go_to((first, []))
    assert panel.last_error is None
    panel.close()


def test_a_place_is_found_in_a_table_that_was_written_and_read(tmp_path, images):  # noqa: F811
    cascade = vitlab.create("dvt", "micro_patch8", num_classes=10).eval()
    vitlab.sweep(cascade, images, rounds=1).to_csv(tmp_path / "rows.csv", index=False)
    panel = explore(cascade, images, sweep=pd.read_csv(tmp_path / "rows.csv"), batch=2)
    assert panel.wait(QUICK), panel.last_error
    assert all(panel.known.place("DVT · micro_patch8", point) for point in cascade.points)
    assert panel.known.place("DVT · micro_patch8", cascade.Point((0.123, 0.456))) is None
    panel.close()


def test_a_file_that_is_too_large_is_told_and_the_control_lives_on(net, images):  # noqa: F811
    panel = explore(net, images, batch=2)
    assert panel.wait(QUICK), panel.last_error
    panel.controls.upload.refused = ["photo.tif has 14.5 MB, and this browser cannot make it smaller", 1.0]
    assert "photo.tif has 14.5 MB" in panel.view.note.value
    assert panel.set(image=2).wait(QUICK), panel.last_error
    assert panel.view.note.value == ""
    panel.close()


@pytest.mark.parametrize("name", ["dvt", "spvit", "supervit", "revit"])
def test_the_line_of_code_has_short_numbers_and_gives_the_same_logits(name):
    method = vitlab.load(DATA / "checkpoints" / f"{name}_shapes.safetensors").eval()
    some = vitlab.data.shapes("val", n=8, difficulty=1.0).for_net(method).images(range(8))
    for point in method.points:
        written = as_code(point)
        assert not re.search(r"\d{12}", written), written
        meant = eval(written, {"Point": method.Point})
        with torch.inference_mode():
            assert torch.equal(method(some, meant), method(some, point)), written


def test_a_point_as_code_is_that_point():
    @dataclass(frozen=True)
    class Point:
        keep: float = 0.7
        length: int | None = None
        thresholds: tuple = (0.5,)
        fixed: bool = False
        name: str = "a 'b'"

    for point in (Point(), Point(1.0, 7, (0.25, 1.0), True), Point(1e-5, None, ())):
        assert eval(as_code(point), {"Point": Point}) == point


def test_a_panel_is_taken_away_as_a_page_that_needs_nothing(net, images, tmp_path):  # noqa: F811
    panel = explore(net, images, sweep=vitlab.sweep(net, images, rounds=1), batch=2)
    assert panel.set(length=6, keep=0.5).wait(QUICK), panel.last_error
    panel.view.aide.patch = [2, 3]
    assert panel.wait(QUICK), panel.last_error                             # whom the patch looks at is a fourth picture
    code = "logits = net(images, net.Point(length=6, keep=0.5))"
    assert code in panel.view.code.value
    assert torch.equal(net(images.images([0]), net.Point(length=6, keep=0.5)), net(images.images([0]), panel.result["point"]))
    page = panel.save(tmp_path / "new" / "panel.html").read_text()
    for shown in (panel.view.answer.value, panel.view.speed.value, panel.view.life.value, code, "Plotly.newPlot"):
        assert shown in page
    assert page.count('<img alt="') == 4
    assert "http" not in re.sub(r"<script.*?</script>", "", page, flags=re.S), "the page asks the network"
    with pytest.raises(ValueError, match="saved as a page or as pictures, such as panel.html or panel.png, not as panel.gif"):
        panel.save(tmp_path / "panel.gif")
    panel.close()
