"""What a package holds and what each head says, as arrays and as figures."""
import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from samples import pictures

import vitlab
from vitlab import plots
from vitlab.methods.spvit import Point, calibrate
from vitlab.methods.spvit.maps import by_head
from vitlab.plots import overlay

PICTURE = np.random.default_rng(0).integers(0, 255, (56, 56, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def ragged():
    """A net on 7x7 patches that keeps a different number of every image's, and pictures."""
    torch.manual_seed(0)
    net = vitlab.create("spvit", "micro_patch8", num_classes=10).eval()
    with torch.no_grad():
        for selector in net.selectors:
            selector.readers[0].say[-1].weight.mul_(60)
    pics = vitlab.data.shapes("test", n=100).take(slice(8))
    calibrate(net, pics, [net.budget])
    return net, pics.images(slice(None))


@pytest.fixture
def trace(ragged):
    net, images = ragged
    record = vitlab.Trace()
    with torch.no_grad():
        net(images, None, record)
    return record


def decoded(panel):
    """The pixels of an image trace."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(panel.source.split(",")[1]))))


def titles(figure):
    return [a.text for a in figure.layout.annotations]


# The package


def test_a_panel_for_each_selector_says_how_many_it_folded_and_kept(trace):
    figure = plots.package(PICTURE, trace, 2)
    parts = [part for part in trace.layers if part.folded is not None]
    assert len(figure.data) == len(parts) == 3
    counts = [(part.layer + 1, int((part.folded[2] > 0).sum()), int(part.attended[2].sum())) for part in parts]
    assert titles(figure) == [f"layer {layer}: {held} folded, {stay} kept" for layer, held, stay in counts]


def test_what_stays_is_clear_what_went_earlier_is_dark_and_what_is_folded_is_tinted(trace):
    part, row = trace.layers[2], 0
    stays, held = part.attended[row].numpy(), part.folded[row].numpy() > 0
    gone = ~stays & ~held
    assert stays.any() and held.any() and gone.any()
    white = np.full((56, 56, 3), 200, np.uint8)
    shown = decoded(plots.package(white, trace, row).data[1]).astype(int)
    of = {name: shown[overlay.spread(mask, (7, 7), shown.shape[:2])] for name, mask in
          (("stays", stays), ("held", held), ("gone", gone))}
    assert (of["stays"] == 200).all()
    assert of["gone"].max() < 60 and np.ptp(of["gone"], axis=1).max() == 0
    assert (of["held"][:, 0] > of["held"][:, 1] + 10).all() and (of["held"][:, 2] > of["held"][:, 1]).all()


def test_the_heavier_a_patch_in_the_package_the_stronger_its_tint():
    weight, alive = np.array([0.0, 0.1, 0.4, 0.8]), np.array([True, False, False, False])
    plain = np.full((224, 224, 3), 128, np.uint8)
    shown = overlay.folded(plain, weight, alive, (2, 2)).astype(int)
    tint = (shown[..., 0] - shown[..., 1])[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert tint[0] == 0 and (np.diff(tint) > 5).all()
    again = overlay.folded(plain, 7 * weight, alive, (2, 2))
    assert np.array_equal(again, shown)                                    # shares, not sums


def test_an_empty_package_has_its_panel_too(ragged, trace):
    part = trace.layers[1]
    part.folded[3], part.attended[3] = 0, True
    figure = plots.package(PICTURE, trace, 3)
    assert titles(figure)[0] == "layer 2: 0 folded, 49 kept"
    assert np.array_equal(decoded(figure.data[0]), overlay.enlarge(PICTURE))


def test_a_pass_that_packs_nothing_gets_a_sentence(ragged, trace):
    net, images = ragged
    record = vitlab.Trace()
    net(images[:1], net.points[-1], record)
    with pytest.raises(ValueError, match="nothing was folded"):
        plots.package(PICTURE, record)
    with pytest.raises(ValueError, match="from -8 to 7, not 8"):
        plots.package(PICTURE, trace, 8)
    with pytest.raises(ValueError, match="trace is empty"):
        plots.package(PICTURE, vitlab.Trace())


# The heads


@torch.no_grad()
def test_maps_hold_what_each_head_says_of_the_patches_that_are_there(ragged, trace):
    net, images = ragged
    factors = net.factors.rows[0][1:]
    for step, block in enumerate(net.after):
        maps = by_head(net, images, factors[:step])
        assert maps.shape == (8, 4, 7, 7)
        there = trace.layers[block - 1].attended.numpy()
        assert np.array_equal(~np.isnan(maps), np.broadcast_to(there.reshape(8, 1, 7, 7), maps.shape))
        for image in (0, 5):                                               # one by one, where nothing is packed together
            t, score = net.asked(images[image:image + 1], factors[:step], by_head=True)
            for patch, said in zip(t.ids[0].tolist(), score[0]):
                if patch >= 0:
                    np.testing.assert_allclose(maps[image, :, patch // 7, patch % 7], said.numpy(), atol=1e-5)


def test_maps_need_a_selector_to_ask_and_leave_the_net_as_it_was(ragged):
    net, images = ragged
    net.train()
    by_head(net, images[:1])
    assert net.training and net.eval()
    with pytest.raises(ValueError, match="leave none to ask"):
        by_head(net, images[:1], net.factors.rows[0][1:])
    with pytest.raises(ValueError, match="no selectors to ask"):
        by_head(vitlab.create("spvit", "micro_patch8", num_classes=10, score="random"), pictures(1))


def test_a_panel_for_each_head_is_brightest_where_it_says_keep():
    scores = np.full((3, 7, 7), 0.25)
    scores[0, 2, 3], scores[1, 6, 6], scores[2, 0, 1] = 0.75, 0.3, 0.253
    figure = plots.heads(np.zeros_like(PICTURE), scores)
    assert titles(figure) == ["head 1: 25 to 75 %", "head 2: 25.0 to 30.0 %", "head 3: 25.00 to 25.30 %"]
    for panel, brightest in zip(figure.data, (2 * 7 + 3, 48, 1)):
        light = decoded(panel).sum(-1)
        means = [light[overlay.spread(np.arange(49) == n, (7, 7), light.shape)].mean() for n in range(49)]
        assert int(np.argmax(means)) == brightest
    flat = plots.heads(np.zeros_like(PICTURE), scores.reshape(3, 49).T)
    assert [panel.source for panel in flat.data] == [panel.source for panel in figure.data]


def test_a_patch_that_is_gone_is_faded_in_every_panel():
    scores = np.random.default_rng(0).random((6, 7, 7))
    scores[:, 0, 0] = np.nan
    figure = plots.heads(np.full_like(PICTURE, 100), scores)
    assert len(figure.data) == 6 and len({panel.xaxis for panel in figure.data}) == 6
    corner = [decoded(panel)[0, 0] for panel in figure.data]
    assert all(np.array_equal(one, corner[0]) for one in corner) and np.ptp(corner[0].astype(int)) < 20


def test_one_score_for_all_patches_is_no_division_by_zero():
    assert titles(plots.heads(PICTURE, np.full((2, 7, 7), 0.5))) == ["head 1: 50.00 to 50.00 %", "head 2: 50.00 to 50.00 %"]


@pytest.mark.parametrize("scores", (np.full((2, 7, 7), np.nan), np.zeros((48, 4)), np.zeros(49), np.zeros((1, 2, 7, 7))))
def test_what_is_no_map_of_heads_gets_a_sentence(scores):
    with pytest.raises(ValueError, match="scores must be"):
        plots.heads(PICTURE, scores)


def test_a_package_of_a_fixed_point_is_shown_too(ragged):
    net, images = ragged
    record = vitlab.Trace()
    with torch.no_grad():
        net(images[:2], Point(fixed=True), record)
    counts = net.rule(Point(net.budget, True))
    assert [title.split(", ")[1] for title in titles(plots.package(PICTURE, record, 1))] == [f"{n} kept" for n in counts.values()]
