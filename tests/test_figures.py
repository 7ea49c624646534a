"""What stands in figures: labels that do not run into each other, one word for the cost, and any picture by the one rule."""
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from samples import pictures

import vitlab
from vitlab import plots
from vitlab.data.picture import from_array
from vitlab.measure import paper
from vitlab.plots import labels, overlay, theme
from vitlab.plots.live import NAMES, live

PLOT = 420, 360             # pixels of the drawing area beside a legend of ordinary names, or less


def drawn(figure: go.Figure) -> list[go.Scatter]:
    """The traces that hold points."""
    return [trace for trace in figure.data if trace.x is not None and trace.x[0] is not None]


def crowd(methods: int = 4, shift: float = 0.002) -> pd.DataFrame:
    """Methods with the same lengths at nearly the same cost and accuracy: every label wants the same place."""
    return pd.DataFrame([
        {"method": f"method {m}", "length": n, "keep": keep, "gmacs": 0.0004 * n ** 2 * keep + shift * m,
         "top1": 60 + 2 * n + 3 * keep + 0.3 * m, "images_per_s": 9000 / n ** 2 / keep * (1 + m / 50), "source": "ours"}
        for m in range(methods) for n in (8, 10, 12, 14) for keep in (0.5, 0.7, 1.0)])


def written(figure: go.Figure, log: bool = False) -> list[tuple[str, np.ndarray]]:
    """Every label and its box in pixels (left, low, right, high), by arithmetic of its own."""
    everything = drawn(figure)
    reach = [np.concatenate([np.log(t.x) if log and axis == "x" else np.asarray(t[axis], float) for t in everything])
             for axis in "xy"]
    found = []
    for trace in everything:
        for n, text in enumerate(trace.text if trace.text is not None else ()):
            if text:
                at = [(np.log(trace.x[n]) if log else trace.x[n]), trace.y[n]]
                x, y = ((v - r.min()) / np.ptp(r) * size for v, r, size in zip(at, reach, PLOT, strict=True))
                high, wide = trace.textposition.split()
                x += {"left": -1, "center": 0, "right": 1}[wide] * (3 * len(text) + 7 * (high == "middle"))
                y += {"bottom": -1, "middle": 0, "top": 1}[high] * 13
                found.append((text, np.array([x - 2.8 * len(text), y - 5, x + 2.8 * len(text), y + 5])))
    return found


def meet(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one[:2] < other[2:]).all() and (other[:2] < one[2:]).all())


@pytest.mark.parametrize("x", ["gmacs", "images_per_s"])
@pytest.mark.parametrize("frame", [crowd(1), crowd(2), crowd(4), crowd(6, 0.0)], ids=["one", "two", "four", "all on one spot"])
def test_labels_do_not_run_into_each_other(frame, x):
    found = written(plots.tradeoff(frame, x=x), x == "images_per_s")
    assert {text for text, _ in found} == {"8×8", "10×10", "12×12", "14×14"}
    assert not [(a, b) for i, (a, one) in enumerate(found) for b, other in found[:i] if meet(one, other)]


def test_the_papers_own_crowd_is_readable():
    rows = pd.concat([paper(name) for name in ("supervit", "dvt", "revit")])
    figure = plots.tradeoff(rows)
    found = [(t.textposition, *(axis[i] for axis in (t.x, t.y))) for t in drawn(figure)
             for i, text in enumerate(t.text or ()) if text]
    assert 8 <= len(found) == len(set(found))


def test_a_line_with_no_room_at_all_stays_without_a_name():
    everywhere = pd.DataFrame({"method": "dvt", "gmacs": np.tile(np.linspace(1, 2, 90), 60), "source": "ours",
                               "top1": np.repeat(np.linspace(50, 60, 60), 90)})
    line = pd.DataFrame({"method": "supervit", "length": 8, "gmacs": [1.4, 1.5], "top1": [55.0, 55.1], "source": "ours"})
    assert written(plots.tradeoff(pd.concat([everywhere, line]))) == []


def test_a_label_stands_at_a_point_of_its_own_line():
    for trace in drawn(plots.tradeoff(crowd(4))):
        assert sum(bool(text) for text in trace.text or ()) <= 1
    alone = plots.tradeoff(crowd(1)).data[0]
    assert alone.text == ("", "", "8×8") and alone.textposition == "top center"


def test_a_figure_of_one_point_or_of_equal_points_can_be_labelled():
    for rows in (crowd(1)[:1], pd.concat([crowd(1)[:1]] * 3, ignore_index=True)):
        assert [text for trace in drawn(plots.tradeoff(rows)) for text in trace.text or () if text] == ["8×8"]


def test_the_panels_own_plot_has_no_labels_and_few_ticks():
    figure = live(crowd(4))
    assert not [trace for trace in figure.data if trace.name not in NAMES and (trace.text or "text" in trace.mode)]
    assert figure.layout.xaxis2.nticks == 4
    assert not any(trace.cliponaxis in (None, True) for trace in figure.data), "a slow point's ring would be cut in half"


def test_boxes_that_touch_do_not_overlap():
    box = np.array([0.0, 0, 2, 2])
    assert labels.hits(box, np.array([[1.0, 1, 3, 3]]))
    assert not labels.hits(box, np.array([[2.0, 0, 3, 2], [0, 2, 2, 3], [5, 5, 6, 6]]))


# One word for the cost


def test_people_read_gflops_and_are_told_once_what_they_are():
    frame = crowd(2).assign(gmacs_ratio=2.0)
    for figure in (plots.tradeoff(frame), plots.exits(pd.DataFrame({"gmacs": [1, 2], "exit1": [1, 0.5], "exit2": [0, 0.5]}))):
        assert figure.layout.xaxis.title.text == "GFLOPs per image (multiply-adds)"
    figures = [plots.tradeoff(frame), plots.speed(frame), live(frame), live(),
               *(plots.by_group(frame, x="length", y=column) for column in ("gmacs", "gmacs_ratio"))]
    texts = [t for figure in figures for t in figure.to_json().split('"') if "gmacs" in t or "MFLOP" in t or "GMAC" in t]
    assert texts == []
    assert theme.title_of("gmacs_ratio") == "fewer GFLOPs (×)"


# Pictures of any kind


@pytest.fixture(scope="module")
def trace():
    torch.manual_seed(0)
    record, net = vitlab.Trace(), vitlab.create("supervit", "micro_patch8", num_classes=10).eval()
    with torch.no_grad():
        net(pictures(1), net.Point(7, 0.5), record)
    return record


PICTURE = (np.arange(56 * 56 * 3).reshape(56, 56, 3) * 7 % 256).astype(np.uint8)
DRAWINGS = {
    "kept": lambda picture, trace: plots.kept(picture, trace),
    "attention_map": lambda picture, trace: plots.attention_map(picture, trace),
    "heat": lambda picture, trace: plots.heat(picture, {"a": np.eye(7)}),
    "attribution": lambda picture, trace: plots.attribution(picture, np.eye(7) - 0.5),
    "gallery": lambda picture, trace: plots.gallery({"row": [(picture, "title")]}),
}


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_picture_of_floats_is_the_picture_of_its_bytes(draw, trace):
    expected = DRAWINGS[draw](PICTURE, trace).to_json()
    for same in (PICTURE / 255, (PICTURE / 255).astype(np.float32), torch.from_numpy(PICTURE), torch.from_numpy(PICTURE) / 255,
                 from_array(PICTURE)):
        assert DRAWINGS[draw](same, trace).to_json() == expected


@pytest.mark.parametrize("draw", DRAWINGS)
def test_grey_pictures_are_drawn_and_what_is_no_picture_gets_one_sentence(draw, trace):
    grey = PICTURE[..., 0]
    assert DRAWINGS[draw](grey, trace).to_json() == DRAWINGS[draw](np.stack([grey] * 3, -1), trace).to_json()
    for wrong in (PICTURE.transpose(2, 0, 1), np.zeros((1, 56, 56, 3)), np.full((56, 56, 3), np.nan)):
        with pytest.raises(ValueError, match="is no picture's; give|no finite numbers; give"):
            DRAWINGS[draw](wrong, trace)


def test_a_picture_that_is_bytes_already_is_not_copied():
    assert overlay.in_bytes(PICTURE) is PICTURE
