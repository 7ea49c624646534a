"""Pictures with boxes and masks, and how often each patch was used: drawn where they belong, refused where they do not fit."""
import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from vitlab import plots
from vitlab.plots.objects import TINT, rgb
from vitlab.trace import LayerTrace, Trace

CLASSES = ["ring", "cross"]


def one(mask: bool = True, scores: tuple = ()) -> dict:
    """Two objects on 32 pixels."""
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, 4:12, 2:10], masks[1, 20:30, 16:24] = 1, 1
    told = {"boxes": torch.tensor([[2., 4, 10, 12], [16, 20, 24, 30]]), "labels": torch.tensor([2, 1])}
    return told | ({"masks": masks} if mask else {}) | ({"scores": torch.tensor(scores)} if scores else {})


def grey(n: int = 1) -> list[np.ndarray]:
    return [np.full((32, 32, 3), 100, np.uint8) for _ in range(n)]


def image(figure, place: int) -> np.ndarray:
    """The pixels of a panel."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(figure.data[place].source.split(",")[1]))))


def test_a_box_stands_in_the_pixels_of_the_panel_it_belongs_to():
    figure = plots.boxes(grey(2), {"truth": [one(), one()]}, CLASSES)
    times = image(figure, 0).shape[0] / 32
    assert [shape.xref for shape in figure.layout.shapes] == ["x", "x", "x2", "x2"]
    first = figure.layout.shapes[0]
    assert [v / times for v in (first.x0, first.y0, first.x1, first.y1)] == [2, 4, 10, 12]
    words = [note.text for note in figure.layout.annotations if note.text in CLASSES]
    assert words == ["cross", "ring"] * 2
    assert figure.layout.shapes[0].line.color != figure.layout.shapes[1].line.color


def test_masks_are_tinted_in_the_colour_of_their_class():
    figure = plots.boxes(grey(), {"truth": [one()]}, CLASSES)
    pixels, times = image(figure, 0), image(figure, 0).shape[0] // 32
    color = rgb(figure.layout.shapes[0].line.color)
    assert np.abs(pixels[8 * times, 5 * times] - ((1 - TINT) * 100 + TINT * color)).max() <= 1
    assert (pixels[0, 0] == 100).all() and (pixels[12 * times + 1, 5 * times] == 100).all()
    plain = image(plots.boxes(grey(), {"truth": [one(mask=False)]}, CLASSES), 0)
    assert (plain == 100).all()


def test_only_what_is_sure_enough_is_drawn_with_its_score():
    found = one(scores=(0.9, 0.4)) | {"masks": one()["masks"][:, None].float()}
    sure = plots.boxes(grey(), {"found": [found]}, CLASSES)
    assert len(sure.layout.shapes) == 1 and "cross 90" in [note.text for note in sure.layout.annotations]
    assert len(plots.boxes(grey(), {"found": [found]}, CLASSES, threshold=0.3).layout.shapes) == 2
    nothing = plots.boxes(grey(), {"found": [found]}, CLASSES, threshold=0.95)
    assert len(nothing.layout.shapes) == 0 and (image(nothing, 0) == 100).all()


def test_rows_stand_below_each_other_by_name():
    figure = plots.boxes(grey(2), {"truth": [one()] * 2, "found": [one()] * 2}, CLASSES)
    assert len(figure.data) == 4 and {"<b>truth</b>", "<b>found</b>"} <= {note.text for note in figure.layout.annotations}
    assert {shape.yref for shape in figure.layout.shapes} == {"y", "y2", "y3", "y4"}


@pytest.mark.parametrize(("told", "sentence"), [
    (lambda: plots.boxes([], {"truth": []}, CLASSES), "nothing to show"),
    (lambda: plots.boxes(grey(), {}, CLASSES), "nothing to show"),
    (lambda: plots.boxes(grey(2), {"truth": [one()]}, CLASSES), "row 'truth' must tell of each of the 2 pictures"),
    (lambda: plots.usage([], trace()), "at least one picture"),
    (lambda: plots.usage(grey(2), trace(), [0]), "2 pictures and 1 rows"),
    (lambda: plots.usage(grey(), trace(), [5]), "from -2 to 1, not 5"),
    (lambda: plots.usage(grey(), Trace()), "the trace is empty"),
    (lambda: plots.usage(grey(), trace(grids=((2, 2), (1, 4)))), "several grids"),
])
def test_what_does_not_fit_is_told_in_one_sentence(told, sentence):
    with pytest.raises(ValueError, match=sentence):
        told()


def trace(*blocks, grids=((2, 2), (2, 2), (2, 2))) -> Trace:
    """Two images of four patches."""
    made = Trace()
    for layer, grid in enumerate(grids):
        there = torch.tensor(blocks[layer] if blocks else [[1, 1, 1, 1]] * 2).bool()
        made.layers.append(LayerTrace(0, layer, grid, there, there, there.float(), torch.ones(2)))
    return made


def test_the_patch_used_most_is_brightest_on_one_scale_for_all():
    record = trace([[1, 1, 1, 1]] * 2, [[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 0, 0, 0], [0, 1, 1, 1]])
    figure = plots.usage(grey(2), record)
    panels = [image(figure, place).astype(int).sum(2) for place in (2, 3)]
    side = panels[0].shape[0] - 1
    corners = [[panel[0, 0], panel[0, side], panel[side, 0], panel[side, side]] for panel in panels]
    assert corners[0][0] > corners[0][1] > corners[0][2] == corners[0][3]
    assert corners[1][1] == corners[1][2] == corners[0][0] and corners[1][0] == corners[0][1]
    assert (image(figure, 0) == 100).all()
    assert {"1.8 of 3 blocks", "2.8 of 3 blocks"} <= {note.text for note in figure.layout.annotations}
    scale = figure.data[-1].marker
    assert (scale.cmin, scale.cmax, scale.colorbar.tickvals) == (1, 3, (1, 2, 3))


def test_rows_choose_images_and_a_flat_usage_is_drawn():
    record = trace([[1, 1, 1, 1]] * 2, [[1, 1, 0, 0], [1, 1, 1, 1]], [[1, 0, 0, 0], [1, 1, 1, 1]])
    figure = plots.usage(grey(), record, [1])
    assert "3.0 of 3 blocks" in [note.text for note in figure.layout.annotations]
    flat = image(figure, 1)
    assert (flat == flat[0, 0]).all()
