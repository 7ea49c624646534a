"""A trace is the record of one call, and says of every block which net it was, however cascades are nested."""
import pytest
import torch
from samples import between, pictures, sharpen

import vitlab
from vitlab import EarlyExit, measure, plots
from vitlab.data import shapes
from vitlab.methods.supervit import Point
from vitlab.trace import LayerTrace

FIRST, LAST = (0.0, 0.0), (1.0, 1.0)


def made(kind: str) -> torch.nn.Module:
    return sharpen(vitlab.create(kind, "micro_patch8", num_classes=10)).eval()


def assigned() -> torch.nn.Module:
    net = made("revit")
    net.attach(vitlab.TLA(3, 56))
    return net.eval()


def nested() -> EarlyExit:
    """A cascade of a cascade: DVT at its first exit, then DVT at its last."""
    net = made("dvt")
    return EarlyExit(net, (net.Point(FIRST), net.Point(LAST))).eval()


def over_supervit() -> EarlyExit:
    net = made("supervit")
    return EarlyExit(net, (Point(4, 0.5), Point(7, 1.0))).eval()


KINDS = {"dense": lambda: made("dense"), "supervit": lambda: made("supervit"), "dvt": lambda: made("dvt"),
         "adaptive_depth": lambda: made("adaptive_depth"), "revit": lambda: made("revit"), "revit, assigned": assigned,
         "early exit": over_supervit, "early exit over dvt": nested}


@pytest.fixture(params=KINDS, scope="module")
def net(request):
    torch.manual_seed(0)
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("cache")))
        yield shapes("val", n=30)


def points(net) -> list:
    """Everything that may be asked of a net first and second, the cheapest and the dearest included."""
    return [None, *{net.points[0], net.points[-1]}]


@torch.no_grad()
def test_a_trace_holds_one_call(net):
    for before in points(net):
        for after in points(net):
            trace, images = vitlab.Trace(), pictures(2)
            net(images, before, trace)
            held, exit = list(trace.layers), trace.exit
            with pytest.raises(ValueError, match="holds another call already; give every call a Trace"):
                net(images, after, trace)
            assert trace.layers == held and trace.exit is exit


@torch.no_grad()
@pytest.mark.parametrize("second", ["dense", "dvt", "revit, assigned"])
@pytest.mark.parametrize("first", ["dense", "dvt", "adaptive_depth"])
def test_a_trace_holds_one_call_of_another_net_too(first, second):
    trace = vitlab.Trace()
    KINDS[first]()(pictures(1), None, trace)
    with pytest.raises(ValueError, match="holds another call"):
        KINDS[second]()(pictures(1), None, trace)


@torch.no_grad()
def test_a_call_that_broke_off_leaves_no_room_for_another(monkeypatch):
    """The second try would go through other stages, so nothing it adds would collide with what the first one left."""
    net, trace, images = assigned(), vitlab.Trace(), pictures(2)
    at = net.at

    def tired(images, length, record=None):
        if length == 7:
            raise MemoryError
        return at(images, length, record)

    monkeypatch.setattr(net, "at", tired)
    monkeypatch.setattr(net, "choose", lambda *_: torch.tensor([0, 2]))
    with pytest.raises(MemoryError):
        net(images, None, trace)
    assert trace.layers and trace.exit is None
    monkeypatch.setattr(net, "at", at)
    monkeypatch.setattr(net, "choose", lambda *_: torch.tensor([1, 1]))
    with pytest.raises(ValueError, match="holds another call"):
        net(images, None, trace)


@torch.no_grad()
def test_stages_within_a_stage_keep_their_numbers():
    trace, net = vitlab.Trace(), nested()
    net(pictures(2), net.Point(1.0), trace)
    blocks = len(net.vit.blocks)
    expected = [stages for stages in ((0, 0), (1, 0), (1, 1), (1, 2)) for _ in range(blocks)]
    assert [part.stages for part in trace.layers] == expected
    assert list(dict.fromkeys(part.name for part in trace.layers)) == ["1.1", "2.1", "2.2", "2.3"]
    grids = {part.stages: part.grid[0] for part in trace.layers}
    assert [grids[1, number] for number in range(3)] == list(net.method.grids)
    assert trace.exit.tolist() == [1, 1]


@torch.no_grad()
def test_cascades_nest_as_deep_as_one_likes():
    outer = EarlyExit(nested(), (vitlab.EarlyExit.Point(0.0), vitlab.EarlyExit.Point(1.0))).eval()
    trace = vitlab.Trace()
    outer(pictures(1), outer.Point(1.0), trace)
    assert list(dict.fromkeys(part.name for part in trace.layers)) == ["1.1.1", "2.1.1", "2.2.1", "2.2.2", "2.2.3"]
    image = pictures(1)
    torch.testing.assert_close(outer.through(trace.layers[-1].stages)(image), outer.method.method(image))


@torch.no_grad()
def test_an_early_exit_over_one_net_has_plain_stages():
    trace, net = vitlab.Trace(), over_supervit()
    net(pictures(2), net.Point(1.0), trace)
    assert {part.stages for part in trace.layers} == {(0,), (1,)}
    assert "inner" not in measure.layers(trace)


@torch.no_grad()
def test_every_reader_tells_the_inner_stages_apart(data):
    trace, net = vitlab.Trace(), nested()
    blocks, place = len(net.vit.blocks), ["stage", "inner"]
    net(data.images(range(3)), net.Point(1.0), trace)
    rows = measure.layers(trace)
    expected = [(0, "0"), (1, "0"), (1, "1"), (1, "2")]
    assert list(rows[place].drop_duplicates().itertuples(index=False, name=None)) == expected
    fed, _ = plots.tokens_by_layer(rows).data
    assert len(fed.y) == 4 * blocks + 1
    assert list(fed.y[::blocks][:4]) == [float(rows[(rows.stage == s) & (rows.inner == i)].fed.mean()) for s, i in expected]
    shown = plots.kept(data.picture(0), trace, layers=range(0, 4 * blocks, blocks))
    assert [note.text.split(",")[0] for note in shown.layout.annotations] == ["stage 1.1", "stage 2.1", "stage 2.2", "stage 2.3"]
    looks = measure.focus(net, data.first(9), net.Point(1.0))
    assert looks.groupby([*place, "layer"]).size().nunique() == 1
    assert list(looks[place].drop_duplicates().itertuples(index=False, name=None)) == expected
    assert measure.leaving(net, data.images(range(3)), net.Point(1.0)) == (0, 3)
    table = vitlab.answers(net, data.first(3), net.Point(1.0))
    assert set(table.exit) == {1} and set(table.tokens) == {net.method.grids[-1] ** 2}


@torch.no_grad()
def test_a_picture_that_left_within_the_first_stage_is_named_by_its_inner_exit():
    inner = made("dvt")
    net = EarlyExit(inner, (inner.Point(LAST), inner.Point(FIRST))).eval()
    trace = vitlab.Trace()
    net(pictures(1), net.Point(0.0), trace)
    title = plots.attention_map(torch.zeros(56, 56, 3).byte().numpy(), trace).layout.annotations[-1].text
    assert title.startswith("stage 1.3, layer")


@torch.no_grad()
def test_focus_has_a_row_for_every_block_that_an_image_went_through_and_no_other(data):
    net = made("dvt")
    sure = torch.cat([part.softmax(-1).amax(-1)[None] for part in net.exits(data.images(range(30)))])
    threshold = between(sure[0])
    point = net.Point((threshold, 0.0))
    looks, blocks = measure.focus(net, data, point, batch=13), len(net.vit.blocks)
    assert looks.notna().all(axis=None)
    counts = looks.groupby("image").size()
    gone = sure[0] >= threshold
    assert gone.any() and not gone.all()
    assert counts.tolist() == [blocks if gone[image] else 2 * blocks for image in counts.index]
    assert set(looks[looks.stage == 1].image) == {image for image in counts.index if not gone[image]}
    assert looks.equals(looks.sort_values(["image", "stage", "layer"], ignore_index=True))
    alone = measure.focus(net, data, net.Point(FIRST))
    both = looks[looks.stage == 0].reset_index(drop=True)
    assert both.drop(columns="image").values == pytest.approx(alone.drop(columns="image").values, abs=1e-5)


def test_focus_of_one_net_has_one_stage(data):
    assert set(measure.focus(made("dense"), data).stage) == {0}


@pytest.mark.parametrize(("recorded", "next_one"), [
    ([((0,), 0), ((0,), 1), ((0,), 2)], ((0,), 1)), ([((0,), 0), ((0,), 1), ((0,), 2)], ((0,), 2)),
    ([((0,), 0), ((1,), 0), ((1,), 3)], ((0,), 5)), ([((0, 0), 0), ((0, 1), 0)], ((0, 0), 4)),
])
def test_blocks_and_stages_of_one_call_only_ever_rise(recorded, next_one):
    nothing, trace = torch.zeros(1, 4), vitlab.Trace()
    for (stage, *inner), layer in recorded:
        trace.follow((stage, *inner), layer)
        trace.layers.append(LayerTrace(stage, layer, (2, 2), nothing.bool(), nothing.bool(), nothing, 1, tuple(inner)))
    with pytest.raises(ValueError, match="holds another call already"):
        trace.follow(*next_one)
    stages, layer = recorded[-1]
    trace.follow(stages, layer + 1)


def test_a_stage_that_comes_before_those_recorded_is_of_another_call():
    rows, q = torch.arange(1), torch.zeros(1, 1, 5, 2)
    trace, stages = vitlab.Trace(), [vitlab.Trace(), vitlab.Trace()]
    for stage in stages:
        stage.add(0, (2, 2), torch.arange(4)[None], q, q)
    trace.join(stages[1], 1, rows, 1)
    with pytest.raises(ValueError, match="holds another call already"):
        trace.join(stages[0], 0, rows, 1)
