"""Measuring: counts agree, answers are those of the net, speed is a fair race, and nothing typed by hand."""
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from samples import between, pictures

import vitlab
from vitlab.backbones import by_the_book
from vitlab.data import shapes
from vitlab.measure import audit, facts, focus, layers, paper, race, speed, write
from vitlab.measure.focus import on_patches
from vitlab.methods.supervit import Point
from vitlab.trace import LayerTrace


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("cache")))
        yield shapes("val", n=60)


@pytest.mark.parametrize("point", [Point(8, 0.5), Point(12, 0.7), Point(14, 1.0)], ids=str)
def test_fvcore_told_of_fused_attention_agrees_with_torch(small_supervit, point):
    image = pictures(1)
    report = audit(small_supervit, image, point)
    assert report["core"] == pytest.approx(vitlab.gmacs(small_supervit, image, point)[0], rel=1e-6)
    assert report["total"] > report["core"]


def test_fvcore_untold_reads_deit_small_as_4_25():
    from fvcore.nn import FlopCountAnalysis

    vit = vitlab.create("dense", "deit_small").eval()
    image = torch.zeros(1, 3, 224, 224)
    raw = FlopCountAnalysis(vit, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with by_the_book():
        assert raw.total() / 1e9 == pytest.approx(4.2507, abs=1e-4)
    assert audit(vit, image)["total"] == pytest.approx(4.6083, abs=1e-4)
    assert vitlab.gmacs(vit, image)[0] == pytest.approx(4.5989, abs=1e-4)


def test_cost_is_per_image_and_leaves_the_mode_alone(small_supervit):
    small_supervit.train()
    cost = vitlab.gmacs(small_supervit, pictures(3), Point(8, 0.7))
    assert small_supervit.training
    small_supervit.eval()
    assert cost.shape == (3,)
    assert len(set(cost)) == 1
    cascade = vitlab.EarlyExit(small_supervit, (Point(8, 0.5), Point(14, 1.0)))
    images = pictures(4)
    confidence = small_supervit(images, Point(8, 0.5)).softmax(-1).amax(-1)
    threshold = between(confidence)
    cost = vitlab.gmacs(cascade, images, cascade.Point(threshold))
    assert ((cost > cost.min()) == (confidence < threshold).numpy()).all()


@torch.no_grad()
def test_answers_are_the_nets_own(small_supervit, data):
    table = vitlab.answers(small_supervit, data, Point(10, 0.5), batch=25)
    logits = small_supervit(data.images(range(60)), Point(10, 0.5))
    assert table.image.tolist() == list(range(60))
    assert table.prediction.tolist() == logits.argmax(1).tolist()
    assert table.correct.tolist() == (logits.argmax(1) == data.labels).tolist()
    np.testing.assert_allclose(table.confidence, logits.softmax(1).amax(1), rtol=1e-4)
    assert set(table.tokens) == {14}
    assert set(table.exit) == {0}
    assert table.gmacs.nunique() == 1


def test_answers_of_a_cascade_say_who_answered(small_supervit, data):
    first = vitlab.answers(small_supervit, data, Point(8, 0.5))
    cascade = vitlab.EarlyExit(small_supervit, (Point(8, 0.5), Point(14, 0.7)))
    threshold = between(first.confidence)
    table = vitlab.answers(cascade, data, cascade.Point(threshold))
    assert table.exit.tolist() == (first.confidence < threshold).astype(int).tolist()
    assert table.tokens[table.exit == 0].unique().tolist() == [9]
    assert table.tokens[table.exit == 1].unique().tolist() == [70]


def test_a_sweep_has_a_row_per_point_beside_the_papers(small_supervit, data):
    table = vitlab.sweep(small_supervit, data, small_supervit.points[:4], batch=4, rounds=1)
    assert table.length.tolist() == [8, 8, 8, 10]
    assert table.gmacs_ratio.min() == pytest.approx(1)
    assert (table.images_per_s > 0).all()
    assert table.top1.iloc[0] == 100 * vitlab.answers(small_supervit, data, small_supervit.points[0]).correct.mean()
    both = pd.concat([table, paper("supervit")])
    assert both[["method", "backbone", "length", "keep", "top1", "gmacs", "images_per_s", "source"]].notna().all(axis=None)


def test_the_costliest_point_of_a_sweep_is_once_as_fast_as_itself(monkeypatch, small_supervit, data):
    """Timed twice it would be 0.97 or 1.04 of itself; beside a baseline every point is a run of its own."""
    raced = []
    monkeypatch.setattr(sys.modules["vitlab.measure.answers"], "race",
                        lambda entries, *given, **more: raced.append(list(entries)) or race(entries, *given, **more))
    points = list(small_supervit.points)[::-1]
    table = vitlab.sweep(small_supervit, data, points, batch=2, rounds=3)
    assert table.speed_up[table.gmacs.idxmax()] == 1.0 and len(raced[0]) == len(points)
    assert vitlab.sweep(small_supervit, data, points, batch=2, rounds=1, baseline=small_supervit).images_per_s.notna().all()
    assert len(raced[1]) == len(points) + 1


def test_bad_sets_get_one_sentence(small_supervit, data):
    two = vitlab.create("dense", "micro_patch8", num_classes=2)
    with pytest.raises(ValueError, match="shapes has 10 classes .* but the net has 2 and no names for them"):
        vitlab.answers(two, data)
    broken = vitlab.create("dense", "micro_patch8", num_classes=10)
    with torch.no_grad():
        broken.vit.head.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="are not finite"):
        vitlab.answers(broken, data)


def test_layers_counts_what_the_trace_holds(small_supervit):
    trace = vitlab.Trace()
    with torch.no_grad():
        small_supervit(pictures(2), Point(14, 0.5), trace)
    table = layers(trace)
    assert table[table.image == 0].fed.tolist() == [196, 99, 99, 50, 26, 26]
    assert table[table.image == 1].attended.tolist() == [196, 196, 99, 99, 50, 26]
    assert table.layer.unique().tolist() == [1, 2, 3, 4, 5, 6]


def test_focus_is_one_on_planted_attention(data):
    """A trace whose attention and kept patches are the object itself scores 1; all patches alike score chance."""
    class Planted(torch.nn.Module):
        made, adaptive = {"image_size": 56, "num_classes": 10}, False

        def __init__(self, aimed):
            super().__init__()
            self.aimed, self.weight = aimed, torch.nn.Parameter(torch.zeros(1))

        def forward(self, images, point=None, trace=None):
            masks = torch.stack([torch.from_numpy(data.mask(i)) for i in range(len(images))])
            mine = on_patches(masks, (14, 14))
            where = mine if self.aimed else torch.ones_like(mine)
            weight = where / where.sum(1, keepdim=True).clamp(min=1)
            trace.layers.append(LayerTrace(0, 0, (14, 14), where, where, weight, 1))

    aimed, blind = (focus(Planted(a), data, batch=60) for a in (True, False))
    assert aimed.attention.tolist() == pytest.approx([1.0] * len(aimed))
    assert aimed.kept.tolist() == pytest.approx([1.0] * len(aimed))
    assert blind.attention_gain.tolist() == pytest.approx([1.0] * len(blind), rel=1e-4)
    assert blind.kept_gain.tolist() == pytest.approx([1.0] * len(blind), rel=1e-4)
    assert len(aimed) > 50


def test_throughput_says_how_it_was_measured_and_can_be_stopped(small_supervit):
    seen = vitlab.throughput(small_supervit, pictures(4), Point(8, 0.5), seconds=0.0, runs=3)
    assert float(seen) == seen.images_per_s > 0
    assert (seen.batch, seen.device, seen.precision, seen.runs) == (4, "cpu", "fp32", 3)
    asked = []
    assert vitlab.throughput(small_supervit, pictures(2), stop=lambda: asked.append(1) or len(asked) > 2) is None
    assert len(asked) == 3
    with pytest.raises(ValueError, match="precision must be one of fp32, bf16"):
        vitlab.throughput(small_supervit, pictures(1), precision="int8")
    with pytest.raises(ValueError, match="hold no picture"):
        vitlab.throughput(small_supervit, pictures(0))


def test_a_race_takes_turns_and_compares_round_by_round(monkeypatch, small_supervit):
    """With a clock that slows down as it runs, ratios within a round stay right where ratios of medians would not."""
    order, rounds = [], iter(range(100))

    def scripted(method, images, point, precision):
        def run():
            order.append(point)
            turn = next(rounds) // 2
            return (2.0 if point == "slow" else 1.0) * (1 + turn)
        return run

    monkeypatch.setattr(speed, "prepare", scripted)
    table = race({"a": (small_supervit, "slow"), "b": (small_supervit, "fast")}, pictures(8), rounds=3)
    assert order == ["slow", "fast"] * 4
    assert table.speed_up.tolist() == [1.0, 2.0]
    assert table.images_per_s.tolist() == [8 / 6, 8 / 3]
    assert race({"a": (small_supervit, "slow")}, pictures(1), stop=lambda: True) is None


def test_one_disturbed_pass_widens_the_spread_but_not_the_middle_half(small_supervit):
    seconds = [0.9, 1.0, 1.0, 1.1, 9.0]
    said = speed.speed_of(seconds, pictures(4), small_supervit, "fp32", 1)
    assert (said.images_per_s, said.spread, said.iqr) == pytest.approx((4.0, 8.1, 0.1))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_is_that_of_the_products(small_supervit, precision):
    seen = []
    hook = small_supervit.vit.head.register_forward_hook(lambda part, given, said: seen.append(said.dtype))
    assert vitlab.throughput(small_supervit, pictures(2), precision=precision, seconds=0, runs=1).precision == precision
    hook.remove()
    assert set(seen) == {speed.PRECISIONS[precision]}


def test_results_carry_the_machine_and_replace_the_old_file_whole(tmp_path, monkeypatch):
    path = write(pd.DataFrame({"gmacs": [1.23456789]}), tmp_path / "deep" / "x.csv")
    table = pd.read_csv(path)
    assert set(facts()) < set(table.columns)
    assert table.torch[0] == torch.__version__
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(pd.DataFrame({"gmacs": [2.0]}), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["x.csv"]


def test_the_papers_table_is_whole():
    table = paper("supervit")
    main = table[(table.backbone == "deit_small") & table.source.str.endswith("Table 1")]
    assert len(main) == 12
    assert main.top1.max() == 80.6
    dense = paper("dense").set_index("backbone").images_per_s
    ratio = main.set_index(["length", "keep"]).images_per_s / dense["deit_small"]
    assert ratio[14, 0.5] == pytest.approx(1.94, abs=0.005)


def test_importing_vitlab_is_light_and_models_need_no_widgets():
    code = """
import sys
import vitlab
heavy = {"torch", "timm", "pandas", "plotly", "ipywidgets", "captum", "fvcore", "datasets", "matplotlib", "onnx", "onnxruntime"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
for name in ("plotly", "ipywidgets", "captum", "fvcore", "datasets", "kaleido", "anywidget", "matplotlib",
             "onnx", "onnxruntime", "onnxscript"):
    sys.modules[name] = None
import torch
method = vitlab.create("supervit", "micro_patch8", num_classes=10)
vitlab.gmacs(method, torch.zeros(1, 3, 56, 56)), vitlab.fit, vitlab.save, vitlab.load, vitlab.sweep, vitlab.data.shapes
vitlab.export, vitlab.latency
"""
    subprocess.run([sys.executable, "-c", code], check=True)
