"""Figures say what the frame or the trace says, can be read on white and on dark, and reach the disk whole or not at all."""
import base64
import io
import os

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from browser import chromium
from PIL import Image
from samples import pictures
from test_project import ROOT

import vitlab
from vitlab import attribution, plots
from vitlab.measure import layers
from vitlab.methods.early_exit import EarlyExit
from vitlab.methods.supervit import Point
from vitlab.plots import overlay, theme
from vitlab.plots.live import NAMES, live

PICTURE = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)


@pytest.fixture
def sweep():
    """Twelve points of ours and of a paper, and a dense net without knobs."""
    points = [(n, k) for n in (8, 10, 12, 14) for k in (0.5, 0.7, 1.0)]
    ours = [{"method": "supervit", "backbone": "deit_small", "length": n, "keep": k, "top1": n + 10 * k,
             "gmacs": n * n * k / 40, "images_per_s": 4000 / (n * n * k), "device": "cpu", "precision": "fp32", "batch": 32,
             "source": "ours"} for n, k in points]
    theirs = [{**row, "top1": row["top1"] + 1, "device": "A100", "source": "A paper, Table 1"} for row in ours]
    dense = {"method": "dense", "backbone": "deit_small", "top1": 23.0, "gmacs": 4.9, "images_per_s": 20.4, "source": "ours"}
    return pd.DataFrame([*ours, *theirs, dense])


@pytest.fixture
def trace(small_supervit):
    """Two images at the largest length, half of the tokens dropped at three blocks."""
    record = vitlab.Trace()
    small_supervit(pictures(2), Point(14, 0.5), record)
    return record


def drawn(figure):
    """The traces that hold data."""
    return [t for t in figure.data if t.x is not None and len(t.x) and t.x[0] is not None]


def decoded(panel):
    """The pixels of an image trace."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel.source.split(",")[1]))))


def luminance(color):
    """Of a hex colour, as the web's contrast guidelines define it."""
    share = [int(color[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in share]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# Looks


def test_every_colour_reads_on_white_and_on_dark():
    for color in (theme.INK, *theme.COLORS.values(), theme.HERE):
        assert contrast(color, "#ffffff") >= 2.8
        assert contrast(color, "#111111") >= 3.5


def test_methods_never_share_a_colour():
    everybody = [*theme.COLORS, "mine", "yours"]
    assert len({plots.color_of(name, tuple(everybody)) for name in everybody}) == len(everybody)


def test_figures_have_no_background_and_no_heavy_template(sweep):
    figure = plots.tradeoff(sweep)
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert "layout" not in figure.to_dict()["layout"]["template"]
    assert len(figure.to_json()) < 20_000


# Curves


def test_tradeoff_draws_every_point_once_a_line_per_length_and_hollow_papers(sweep):
    figure = plots.tradeoff(sweep)
    lines = drawn(figure)
    assert sum(len(t.x) for t in lines) == len(sweep)
    assert len(lines) == 4 + 4 + 1
    for line in lines:
        hollow = {str(s).endswith("-open") for s in np.atleast_1d(line.marker.symbol)}
        assert hollow == {"paper" in line.legendgroup}
    assert {t for line in lines for t in line.text or () if t} == {"8×8", "10×10", "12×12", "14×14"}
    assert {t.name for t in figure.data if t.name} == {"supervit", "supervit, paper", "dense",
                                                       "keep rate 1", "keep rate 0.7", "keep rate 0.5"}
    assert "GFLOPs" in figure.layout.xaxis.title.text
    assert "%" in figure.layout.yaxis.title.text


def test_tradeoff_over_speed_is_logarithmic_and_says_where_it_was_measured(sweep):
    axis = plots.tradeoff(sweep[sweep.source == "ours"], x="images_per_s").layout.xaxis
    assert axis.type == "log"
    assert axis.title.text == "images per second (cpu, fp32, batch 32)"


def test_tradeoff_rings_where_you_are(sweep):
    ring = plots.tradeoff(sweep, here={"length": 12, "keep": 0.7}).data[-1]
    assert ring.name == "you are here"
    assert list(ring.y) == [19.0]


def test_tradeoff_over_the_latency_of_one_image_says_nothing_of_a_batch(sweep):
    ours = sweep[sweep.source == "ours"].assign(latency_ms=range(1, 1 + (sweep.source == "ours").sum()))
    axis = plots.tradeoff(ours, x="latency_ms").layout.xaxis
    assert axis.type == "log"
    assert axis.title.text == "milliseconds for one image (cpu, fp32)"


def test_the_front_joins_whom_nobody_beats_and_no_paper(sweep):
    rows = pd.DataFrame({"method": [*"ababab"], "gmacs": [1.0, 1, 2, 3, 3, 4], "source": ["ours"] * 5 + ["paper"],
                         "top1": [50.0, 60, 60, 80, 70, 99], "images_per_s": [9.0, 8, 7, 3, 5, 1]})
    front = next(trace for trace in plots.tradeoff(rows, front=True).data if trace.name == "Pareto front")
    assert (list(front.x), list(front.y)) == ([1.0, 3.0], [60.0, 80.0])
    front = next(trace for trace in plots.tradeoff(rows, x="images_per_s", front=True).data if trace.name == "Pareto front")
    assert (list(front.x), list(front.y)) == ([9.0, 8.0, 5.0, 3.0], [50.0, 60.0, 70.0, 80.0])
    assert "Pareto front" not in {trace.name for trace in plots.tradeoff(rows).data}


def test_two_backbones_of_a_method_are_not_joined_by_a_line(sweep):
    other = sweep.assign(backbone="deit_tiny", top1=sweep.top1 - 5)
    variant = sweep[sweep.method == "supervit"].assign(variant="individual")
    lines = drawn(plots.tradeoff(pd.concat([sweep, other, variant])))
    assert len(lines) == 2 * (4 + 4 + 1) + 4 + 4
    assert len({line.marker.color for line in lines}) == 3
    assert all(len(line.x) <= 3 for line in lines)


@pytest.mark.parametrize("draw", [plots.tradeoff, plots.speed])
def test_a_frame_without_the_numbers_gets_a_sentence(sweep, draw):
    with pytest.raises(ValueError, match="no column 'gmacs'"):
        draw(sweep.drop(columns="gmacs"))
    with pytest.raises(ValueError, match="measure them"):
        draw(sweep.assign(gmacs=np.nan))


def test_speed_compares_each_source_with_its_own_costliest_point(sweep):
    sets = [t for t in drawn(plots.speed(sweep)) if t.mode == "markers"]
    assert [min(t.x) for t in sets] == [1.0] * 3
    for t in sets:
        assert np.allclose(t.x, t.y)                                       # the fixture's speeds are inverse to its costs


def test_training_shows_all_losses_and_the_accuracy_where_it_was_measured():
    log = pd.DataFrame({"step": [10, 20, 30], "epoch": 0, "lr": 0.1, "seconds": 1.0, "images_per_s": 9.0,
                        "ce_14": [3.0, 2.0, 1.0], "kl_8": [np.nan, 1.0, 0.5], "val_top1": [np.nan, np.nan, 40.0]})
    figure = plots.training(log)
    assert {t.name: list(t.y) for t in figure.data} == {"ce 14": [3.0, 2.0, 1.0], "kl 8": [1.0, 0.5], "val top1": [40.0]}
    assert "xaxis2" not in plots.training(log.drop(columns="val_top1")).to_dict()["layout"]
    alone = plots.training(log.assign(loss=log.ce_14))                     # a term that is the loss would hide it
    assert {t.name for t in alone.data} == {"loss", "kl 8", "val top1"}
    with pytest.raises(ValueError, match="holds no loss"):
        plots.training(log[["step", "lr"]])


def test_tokens_by_layer_are_steps_as_wide_as_a_layer(trace):
    fed, attended = plots.tokens_by_layer(layers(trace)).data
    count = [int(part.fed[0].sum()) for part in trace.layers]
    assert list(fed.y) == [*count, count[-1]]
    assert list(fed.x) == [0.5 + n for n in range(len(count) + 1)]
    assert list(attended.y)[1:-1] == count[:-1]                            # what reached an MLP is in the next attention


# Groups


def test_by_group_shows_mean_spread_and_every_seed():
    data = pd.DataFrame({"method": ["supervit"] * 3 + ["alone"] * 3, "length": 8, "keep": 0.5,
                         "top1": [80.0, 82, 84, 70, 70, 70]})
    figure = plots.by_group(data, x=("length", "keep"))
    means = {t.name: (t.y[0], t.error_y.array[0]) for t in figure.data if t.name}
    assert means == {"supervit": (82.0, 2.0), "alone": (70.0, 0.0)}
    assert sorted(len(t.y) for t in figure.data) == [1, 1, 3, 3]
    assert figure.layout.yaxis.title.text.endswith("mean ± sd of 3")
    with pytest.raises(ValueError, match="no column 'depth'"):
        plots.by_group(data, x="depth")


def test_exits_stack_to_all_images():
    rows = pd.DataFrame([{"gmacs": 2.0, "exit1": 0.2, "exit2": 0.8}, {"gmacs": 1.0, "exit1": 1.0, "exit2": 0.0}])
    first, second = plots.exits(rows).data
    assert list(first.x) == [1.0, 2.0]
    assert [a + b for a, b in zip(first.y, second.y)] == [100, 100]
    with pytest.raises(ValueError, match="needs gmacs and the columns exit1, exit2"):
        plots.exits(rows.drop(columns=["exit1", "exit2"]))


def test_heat_has_a_panel_per_map_of_whatever_grid():
    picture = np.zeros((56, 56, 3), np.uint8)
    figure = plots.heat(picture, {"coarse": np.eye(4), "fine": np.eye(7)})
    assert len(figure.data) == 2
    assert [a.text for a in figure.layout.annotations] == ["coarse", "fine"]
    with pytest.raises(ValueError, match="at least one"):
        plots.heat(picture, {})


def test_gallery_has_a_row_per_group_and_refuses_to_be_empty():
    figure = plots.gallery({"easy": [(PICTURE, "star")] * 3, "hard": [(PICTURE, "disc")], "none": []}, columns=2)
    assert len(figure.data) == 3
    assert [a.text for a in figure.layout.annotations if a.text.startswith("<b>")] == ["<b>easy</b>", "<b>hard</b>"]
    for many in (8, 10):                                                   # pixels beside a file browser, in a window of 1400
        assert plots.gallery({"easy": [(PICTURE, "star")] * many}, columns=many).layout.width <= 960
    with pytest.raises(ValueError, match="gallery is empty"):
        plots.gallery({"easy": []})


# Pictures


def test_kept_has_a_panel_per_change_that_names_layer_and_count(trace):
    figure = plots.kept(PICTURE, trace)
    count = [int(part.fed[0].sum()) for part in trace.layers]
    assert [a.text for a in figure.layout.annotations] == [
        f"layer {n + 1}: {now} of 196" for n, now in enumerate(count) if n == 0 or now != count[n - 1]]
    shown = decoded(figure.data[-1])
    same = (shown == overlay.enlarge(PICTURE)).all(-1)
    inside = overlay.spread(trace.layers[-1].fed[0].numpy(), (14, 14), shown.shape[:2])
    assert same[inside].all()
    assert same[~inside].mean() < 0.01


def test_attention_is_brightest_where_the_class_token_looks(trace):
    part = trace.layers[0]
    heat = decoded(plots.attention_map(np.zeros_like(PICTURE), trace, layers=[0]).data[0]).sum(-1)
    means = [heat[overlay.spread(np.arange(196) == n, (14, 14), heat.shape)].mean() for n in range(196)]
    assert int(np.argmax(means)) == int(part.cls[0].argmax())
    assert len(plots.attention_map(PICTURE, trace).data) == 5               # first, three drops, last


def test_pictures_of_a_row_or_a_layer_that_is_not_there_get_a_sentence(trace):
    with pytest.raises(ValueError, match="row, an image of the trace, .* from -2 to 1, not 2"):
        plots.kept(PICTURE, trace, 2)
    with pytest.raises(ValueError, match="places from 0 to 5"):
        plots.kept(PICTURE, trace, layers=[6])
    with pytest.raises(ValueError, match="trace is empty"):
        plots.attention_map(PICTURE, vitlab.Trace())


def test_signed_relevance_is_red_for_and_blue_against():
    shown = overlay.signed(np.full((224, 224, 3), 128, np.uint8), np.array([[1.0, -1.0], [0.0, 0.0]]))
    red, blue, neither = shown[0, 0].astype(int), shown[0, -1].astype(int), shown[-1, 0].astype(int)
    assert red[0] > red[2] + 100
    assert blue[2] > blue[0] + 100
    assert np.ptp(neither) == 0


def test_grids_that_do_not_divide_the_picture_are_covered_whole():
    spread = overlay.spread(np.arange(100), (10, 10), (224, 224))
    assert spread.shape == (224, 224)
    assert len(np.unique(spread)) == 100
    assert np.unique(spread, return_counts=True)[1].min() >= 22 * 22


def test_the_live_figure_has_the_traces_that_a_panel_fills(sweep):
    for figure in (live(), live(sweep)):
        assert set(NAMES) <= {t.name for t in figure.data}
    assert sum(len(t.x) for t in drawn(live(sweep))) == len(sweep)


# On disk


def test_save_draws_png_and_svg_with_a_browser_and_a_web_page_without(tmp_path, monkeypatch):
    figure = go.Figure(go.Scatter(y=[1, 2]), layout={"width": 200, "height": 150})
    monkeypatch.setattr(go.Figure, "to_image", lambda self, format, scale, width, height: b"<svg/>")
    assert plots.save(figure, "one.svg", tmp_path / "figures").read_bytes() == b"<svg/>"
    assert plots.save(figure, "one", tmp_path).name == "one.png"

    def nobody(self, format, scale, width, height):
        raise RuntimeError("Kaleido requires Google Chrome to be installed.")
    monkeypatch.setattr(go.Figure, "to_image", nobody)
    with pytest.warns(UserWarning, match="saved as a web page"):
        path = plots.save(figure, "two.png", tmp_path)
    assert path.name == "two.html"
    assert "plotly" in path.read_text()[:5_000_000]
    with pytest.raises(ValueError, match=r"not \.gif"):
        plots.save(figure, "three.gif", tmp_path)


def test_a_real_browser_draws_a_real_picture(tmp_path):
    if not chromium():
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_BROWSER") == "1" else pytest.skip)("no Chromium or Chrome is on the PATH")
    path = plots.save(go.Figure(go.Scatter(y=[1, 2]), layout={"width": 200, "height": 150}), "one", tmp_path)
    assert Image.open(path).size == (400, 300)


@pytest.mark.skipif(os.name == "nt", reason="who may read a file is not said by its mode there")
def test_whoever_may_read_new_files_may_read_a_figure(tmp_path):
    (tmp_path / "any").write_bytes(b"")
    assert plots.save(go.Figure(), "one.html", tmp_path).stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_full_disk_leaves_the_old_figure(tmp_path, monkeypatch):
    figure = go.Figure()
    path = plots.save(figure, "one.html", tmp_path)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("vitlab.plots.files.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        plots.save(figure, "one.html", tmp_path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["one.html"]


# Attribution


@pytest.mark.parametrize("kind", ["dense", "supervit"])
def test_integrated_gradients_sum_to_the_change_of_the_logit(kind):
    method, image = vitlab.create(kind, "micro_patch8", num_classes=10).eval(), pictures(1)
    with torch.no_grad():
        change = (method(image) - method(torch.zeros_like(image)))[0, 3]
    heat = attribution.integrated(method, image[0], None, 3)
    assert heat.shape == (7, 7)
    assert heat.sum().item() == pytest.approx(change.item(), rel=1e-3)


@pytest.mark.parametrize("point", [Point(8, 0.5), Point(14, 0.7), None], ids=str)
def test_patches_have_the_grid_of_the_point_and_leave_the_net_as_it_was(small_supervit, point):
    small_supervit.train()
    heat = attribution.patches(small_supervit, pictures(1)[0], point)
    side = point.length if point else 14
    assert heat.shape == (side, side)
    assert heat.abs().sum() > 0
    assert small_supervit.training
    assert all(p.grad is None for p in small_supervit.parameters())
    small_supervit.eval()


def test_patches_are_gradient_times_activation(small_supervit):
    image, seen = pictures(1), {}
    hook = small_supervit.vit.pos_drop.register_forward_hook(lambda _, __, tokens: seen.update(tokens=tokens))
    logits = small_supervit(image, Point(8, 0.5))
    gradient, = torch.autograd.grad(logits[0, 2], seen["tokens"])
    hook.remove()
    expected = (gradient * seen["tokens"]).sum(-1)[0, 1:].reshape(8, 8)
    torch.testing.assert_close(attribution.patches(small_supervit, image[0], Point(8, 0.5), 2), expected)


def test_a_cascade_is_explained_by_the_stage_that_answered(small_supervit):
    cascade = EarlyExit(small_supervit, (Point(8, 0.5), Point(14, 0.7)), (0.0, 1.0))
    first, last = cascade.points
    image = pictures(1)[0]
    assert attribution.patches(cascade, image, first).shape == (8, 8)
    torch.testing.assert_close(attribution.patches(cascade, image, last, 3),
                               attribution.patches(small_supervit, image, Point(14, 0.7), 3))


def test_a_cascade_of_several_nets_is_explained_by_the_net_that_answered():
    net = vitlab.create("dvt", "micro_patch8", num_classes=10, features=False, relations=False).eval()
    image = pictures(1)[0]
    for stage, point in enumerate((net.Point((0.0, 0.0)), net.Point((1.0, 0.0)), net.Point((1.0, 1.0)))):
        alone = vitlab.Dense(net.stages[stage].vit)
        torch.testing.assert_close(attribution.patches(net, image, point, 3), attribution.patches(alone, image, None, 3))


def test_attribution_refuses_a_batch_and_a_class_that_is_not_there(small_supervit):
    with pytest.raises(ValueError, match="one image"):
        attribution.patches(small_supervit, pictures(2))
    with pytest.raises(ValueError, match="a class, must be a whole number from 0 to 9, not 10"):
        attribution.patches(small_supervit, pictures(1)[0], None, 10)


def test_a_bar_counts_the_verdicts_of_each_paper():
    told = pd.DataFrame({"paper": ["B", "A", "B", "B"], "verdict": ["holds", "does not show", "holds", "cannot be tested here"]})
    figure = plots.claims(told)
    assert [(bar.name, list(bar.y), list(bar.x)) for bar in figure.data] == [
        ("holds", ["B", "A"], [2, 0]), ("does not show", ["B", "A"], [0, 1]), ("cannot be tested here", ["B", "A"], [1, 0])]
    assert figure.data[0].text[1] == ""                     # no 0 beside a bar that is not there
    assert len({bar.marker.color for bar in figure.data}) == 3
    with pytest.raises(ValueError, match="there is no verdict 'maybe'; the verdicts are holds"):
        plots.claims(told.assign(verdict="maybe"))


def test_the_saved_verdicts_can_be_drawn():
    saved = pd.read_csv(ROOT / "data" / "claims.csv")
    assert sum(sum(bar.x) for bar in plots.claims(saved).data) == len(saved)
