"""Along the depth: what is read after every block is what the head says when it is applied there by hand."""
from copy import deepcopy
from functools import partial

import pandas as pd
import pytest
import torch
from samples import pictures, sharpen, small_pit
from test_forced import ragged_spvit, ragged_svit

import vitlab
from vitlab import backbones, measure, plots
from vitlab.methods import METHODS
from vitlab.methods.supervit import Point as Sub


def made(name, backbone="micro_patch8", **knobs):
    torch.manual_seed(2)
    return sharpen(vitlab.create(name, backbone, num_classes=10, **knobs), 3).eval()


def early():
    net = made("supervit")
    return vitlab.EarlyExit(net, (Sub(4, 0.5), Sub(7, 0.5)))


def assigned():
    net = made("revit", lengths=(7, 4))
    net.attach(vitlab.TLA(2, 56))
    return net.eval()


NETS = {**{name: partial(made, name) for name in METHODS}, "exits": early, "assigned": assigned, "spvit-ragged": ragged_spvit,
        "svit-ragged": ragged_svit, "gap": partial(made, "dense", "micro_patch8_gap"),
        "tome-gap": partial(made, "tome", "micro_patch8_gap"), "forced": lambda: vitlab.Forced(made("supervit"), [3], [4])}
POINTS = {"supervit": Sub(7, 0.5), "forced": Sub(7, 0.5)}


def wide(frame):
    """Logits by block: a row each."""
    places = ["stage", *(["inner"] if "inner" in frame else []), "layer"]
    return torch.tensor(frame.pivot(index=places, columns="class", values="logit").to_numpy(), dtype=torch.float32)


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_the_last_row_is_the_answer_and_every_block_has_its_rows(name):
    net, point, image = NETS[name](), POINTS.get(name), pictures(1)
    trace = vitlab.Trace()
    logits = net(image, point, trace)
    frame = measure.depth(net, image, point)
    assert len(frame) == 10 * len(trace.layers)
    assert list(frame.drop_duplicates(["stage", "layer"]).layer) == [part.layer + 1 for part in trace.layers]
    torch.testing.assert_close(wide(frame)[-1:], logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(net(image, point), net(image, point))               # no hook stays
    torch.testing.assert_close(net(image, point), logits, atol=1e-5, rtol=1e-5)
    sums = frame.groupby(["stage", "layer"]).probability.sum()
    assert ((sums - 1).abs() < 1e-5).all()


@pytest.mark.parametrize("backbone", ["micro_patch8", "micro_patch8_gap"])
@torch.no_grad()
def test_a_dense_net_equals_its_head_block_by_block(backbone):
    net, image = made("dense", backbone), pictures(1)
    x, rows = backbones.embed(net.vit, image), []
    for block in net.vit.blocks:
        x = block(x)
        rows.append(net.vit.forward_head(net.vit.norm(x)))
    torch.testing.assert_close(wide(measure.depth(net, image[0])), torch.cat(rows), atol=1e-5, rtol=1e-5)


def class_tokens(net, image, point):
    """The class token after every block, from the first norm of the next block and the last norm."""
    seen = []
    doors = [block.norm1 for block in net.vit.blocks[1:]] + [net.vit.norm]
    hooks = [door.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, :1])) for door in doors]
    net(image, point)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", ["supervit", "spvit", "spvit-ragged", "tome"])
@torch.no_grad()
def test_a_net_that_drops_equals_its_head_on_the_class_token(name):
    net, point, image = NETS[name](), POINTS.get(name), pictures(1)
    rows = [net.vit.head(net.vit.norm(token)[:, 0]) for token in class_tokens(net, image, point)]
    torch.testing.assert_close(wide(measure.depth(net, image, point)), torch.cat(rows), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [*sorted(NETS.keys() - {"assigned", "exits", "forced"}), "pit-dense", "pit-spvit"])
@torch.no_grad()
def test_it_equals_a_net_whose_later_blocks_are_zero(name, monkeypatch):
    small_pit(monkeypatch)
    nets = {**NETS, **{f"pit-{kind}": partial(made, kind, "pit_tiny", image_size=56) for kind in ("dense", "spvit")}}
    net, point, image = nets[name](), POINTS.get(name), pictures(1)
    told, place = wide(measure.depth(net, image, point)), 0
    cascade = list(getattr(net, "stages", [])) if name == "dvt" else None
    stops = getattr(net, "stops", None)
    for stage in range(len(cascade) if cascade else len(stops) if stops else 1):
        vit = cascade[stage].vit if cascade else net.vit
        first, last = (0 if not stops or not stage else stops[stage - 1]), stops[stage] if stops else len(backbones.blocks(vit))
        for count in range(first + 1, last + 1):
            other = deepcopy(net)
            vit = other.stages[stage].vit if cascade else other.vit
            for block in backbones.blocks(vit)[count:]:
                for part in (block.attn.proj, block.mlp.fc2):
                    part.weight.zero_(), part.bias.zero_()
            logits = other.through([stage])(image) if cascade or stops else other(image, point)
            torch.testing.assert_close(told[[place]], logits, atol=1e-5, rtol=1e-5)
            place += 1
    assert place == len(told)


@torch.no_grad()
def test_an_exit_tells_what_it_needs_and_how_sure_it_is():
    image = pictures(1)
    for net, given, needs in ((made("dvt"), (0.11, 1.0), [0.11, 1.0]), (made("adaptive_depth"), (1.0, 1.0), [1.0, 1.0]),
                              (early(), 1.0, [1.0]), (made("dvt", criterion="entropy"), 1.0, [1.0, 1.0])):
        point = net.Point(given)
        frame = measure.depth(net, image, point)
        ends = frame.groupby("stage").tail(1).set_index("stage")
        said = list(net.exits(image))
        sure = vitlab.cascade.CRITERIA[getattr(net, "criterion", "confidence")]
        for stage, row in ends.iterrows():
            assert row.score == pytest.approx(float(sure(said[stage], image, stage)), abs=1e-5)
            assert row.threshold == needs[stage] if stage < len(needs) else pd.isna(row.threshold)
        assert frame.threshold.notna().sum() == 10 * sum(stage < len(needs) for stage in ends.index)
    assert measure.depth(made("dense"), image).threshold.isna().all()
    net = made("dvt")
    nested = vitlab.EarlyExit(net, (net.Point(1.0), net.Point((1.0, 0.0))))     # both are cascades themselves
    frame = measure.depth(nested, image, nested.Point(1.0))
    told = frame[frame.threshold.notna()].drop_duplicates(["stage", "inner", "layer"])
    assert told[["stage", "inner", "layer"]].values.tolist() == [[0, "2", 4]]
    assert plots.depth(frame).layout.shapes[0].x0 == 4.5                   # a line between stages, also inner ones


def test_it_stops_when_asked_and_takes_one_image():
    net = made("dense")
    assert measure.depth(net, pictures(1), stop=lambda: True) is None
    with pytest.raises(ValueError, match="depth looks at one image"):
        measure.depth(net, pictures(2))
    net.train()
    measure.depth(net, pictures(1))
    assert net.training


def test_its_picture_shows_the_classes_that_ever_led_and_the_thresholds():
    net = made("dvt")
    frame = measure.depth(net, pictures(1), net.Point(1.0))
    figure = plots.depth(frame, [f"kind {k}" for k in range(10)])
    leaders = set(frame.loc[frame.groupby(["stage", "layer"]).probability.idxmax(), "class"])
    shown = {trace.name for trace in figure.data}
    answer = frame.loc[frame.index[-10:]].sort_values("probability")["class"].iloc[-1]
    assert f"kind {answer}" in shown
    assert len(leaders & {int(name.split()[-1]) for name in shown if name.startswith("kind")}) >= min(len(leaders), 4)
    marks = next(trace for trace in figure.data if trace.name == "threshold")
    assert list(marks.y) == [100.0, 100.0]
    assert not any(trace.cliponaxis in (None, True) for trace in figure.data), "a marker at 0 % would be cut in half"
    assert not any(trace.name == "threshold" for trace in plots.depth(measure.depth(made("dense"), pictures(1))).data)
    assert len({trace.marker.symbol for trace in figure.data}) == len(figure.data)      # never by colour alone
