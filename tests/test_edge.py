"""A point in a file: ONNX Runtime answers what PyTorch answers, or nothing is written."""
import json
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import FIXED, pictures, sharpen
from torch import nn

import vitlab
from vitlab import backbones, edge
from vitlab.data import shapes
from vitlab.edge.graph import obstacle

ROOT = Path(__file__).resolve().parents[1]
EXTRA = ("onnx", "onnxruntime", "onnxscript")
KINDS = {   # of SuperViT, in one block: what `FIXED` leaves out of resizing, embedding and choosing
    "image": ({"align": "image", "mode": "bicubic", "token_type": "high"}, (4, 0.5)),
    "patch": ({"align": "patch", "token_type": "80_20", "lengths": (4, 7)}, (4, 0.7)),
    "individual": ({"embedding": "individual", "count_cls": False}, (5, 0.7)),
}
TWO = ("adaptive_depth", "spvit", "svit", "tome")       # methods that need two blocks; the others have one
STEM = {"dense": "micro_patch8", "revit": "micro_patch8"}    # with convolutions and group norms; the others have plain patches


@pytest.fixture(scope="module", autouse=True)
def extra():
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        why = f"{', '.join(missing)} not installed: pip install -e '.[edge]'"
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_EDGE") == "1" else pytest.skip)(why)
    torch.set_num_threads(1)


def small(method="supervit", depth=2, backbone="micro_plain8", **knobs):
    """A net of few blocks, in evaluation mode, that ranks its tokens clearly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(backbones.micro.DEPTH, backbone, depth)
        torch.manual_seed(0)
        return sharpen(vitlab.create(method, backbone, classes=["a", "b", "c"], **knobs)).eval()


def same(session, net, point, counts=(1, 2, 5)):
    """The file answers any number of pictures as the net does."""
    for count in counts:
        images = pictures(count)
        with torch.no_grad():
            torch.testing.assert_close(session(images), net(images, point), atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """(a SuperViT, its point, the file of it)."""
    net = small()
    point = net.Point(4, 0.5)
    return net, point, vitlab.export(net, tmp_path_factory.mktemp("edge") / "deep" / "net.onnx", point)


@pytest.mark.parametrize("name", [name for name in FIXED if name != "supervit"])
def test_a_file_answers_what_its_net_answers(name, tmp_path):
    knobs, point = FIXED[name]
    net = small(name, depth=2 if name in TWO else 1, backbone=STEM.get(name, "micro_plain8"), **knobs)
    point = net.Point(*point)
    same(edge.Session(vitlab.export(net, tmp_path / "net.onnx", point)), net, point)


@pytest.mark.parametrize("name", FIXED)
def test_a_program_of_torch_answers_what_its_net_answers(name, tmp_path):
    knobs, point = FIXED[name]
    net = small(name, depth=2 if name in TWO else 1, backbone=STEM.get(name, "micro_plain8"), **knobs)
    point, told = net.Point(*point), {"vitlab": ""}
    path = vitlab.export(net, tmp_path / "net.pt2", point)
    same(torch.export.load(path, extra_files=told).module(), net, point)
    facts = json.loads(told["vitlab"])
    assert facts["classes"] == ["a", "b", "c"] and facts["point"]["name"] == repr(net.check(point))
    assert str(ROOT).encode() not in path.read_bytes()
    with pytest.raises(ValueError, match=r"no ONNX file; a program of torch.export is opened by torch.export.load\(path\)"):
        edge.Session(path)


def test_a_program_needs_no_extra_and_is_not_written_where_it_answers_otherwise(tmp_path, monkeypatch):
    for name in EXTRA:
        monkeypatch.setitem(sys.modules, name, None)
    net, path = small("dense", depth=1), tmp_path / "net.pt2"
    vitlab.export(net, path)
    before, load = path.read_bytes(), torch.export.load

    def wrong(file):
        found = load(file)
        found.state_dict["method.vit.head.weight"].mul_(1.01)
        return found

    monkeypatch.setattr(torch.export, "load", wrong)
    with pytest.raises(RuntimeError, match="answers otherwise than PyTorch: 8 of 8 pictures"):
        vitlab.export(net, path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="which no fixed graph can hold"):
        vitlab.export(small("dvt", grids=(4, 7)), tmp_path / "other.pt2", vitlab.DVT.Point(0.5))


def test_every_method_is_tried():
    assert set(FIXED) == set(vitlab.METHODS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_supervit_is_exported(kind, tmp_path):
    knobs, point = KINDS[kind]
    net = small(depth=1, **knobs)
    point = net.Point(*point)
    same(edge.Session(vitlab.export(net, tmp_path / "net.onnx", point)), net, point)


def test_a_file_says_what_it_holds(file):
    net, point, path = file
    session = edge.Session(path, threads=2)
    assert (session.precision, session.image_size, session.device, session.threads) == ("fp32", 56, "cpu", 2)
    told = session.facts
    assert told["made"] == {**net.made, "knobs": {}}
    assert told["classes"] == ["a", "b", "c"]
    assert told["point"] == {"name": repr(point), "length": 4, "keep": 0.5}
    assert told["preprocessing"] == vitlab.data.picture.USUAL.facts()
    assert told["gmacs"] == vitlab.gmacs(net, pictures(1), point)[0]
    assert told["versions"]["torch"] == torch.__version__
    assert edge.Session(path).threads == torch.get_num_threads()
    assert str(ROOT).encode() not in path.read_bytes()


def test_a_session_takes_tensors_and_arrays_and_answers_in_kind(file):
    net, point, path = file
    session, images = edge.Session(path), pictures(3)
    same(session, net, point)
    answers = session(images.numpy())
    assert isinstance(answers, np.ndarray)
    np.testing.assert_array_equal(answers, session(images).numpy())
    assert answers.shape == (3, 3)


@pytest.mark.parametrize("images, said", [
    (pictures(1, 48), "48x48 pixels but this net takes 56x56"), (pictures(1).double(), "torch.float64 but this net computes in"),
    (pictures(1)[0], "add the batch axis"), (pictures(0), "holds no image"), (pictures(1) / 0, "NaN or infinite"),
    (np.zeros((1, 3, 56, 56), np.uint8), "normalised floats"), ("cat.jpg", "must be a tensor"),
], ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "")
def test_pictures_that_a_file_cannot_take_get_one_sentence(file, images, said):
    with pytest.raises(ValueError, match=said):
        edge.Session(file[2])(images)


def test_files_that_are_none_get_one_sentence(file, tmp_path):
    import onnx

    with pytest.raises(FileNotFoundError, match="there is no file"):
        edge.Session(tmp_path / "none.onnx")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        edge.Session(tmp_path)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(file[2].read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.onnx cannot be run by ONNX Runtime"):
        edge.Session(cut)
    foreign = onnx.load(file[2])
    foreign.ClearField("metadata_props")
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="foreign.onnx was not written by vitlab"):
        edge.Session(tmp_path / "foreign.onnx")


def early():
    net = small()
    return vitlab.EarlyExit(net, (net.points[0], net.points[-1]), (0.5, 1.0))


@pytest.mark.parametrize("net, point, other", [
    (lambda: small("dvt", grids=(4, 7)), 0.5, "Point(thresholds=(1.0,))"),
    (lambda: small("adaptive_depth", exits=(1,)), 0.5, "Point(thresholds=(1.0,))"),
    (early, 0.5, "Point(threshold=1.0)"),
], ids=["dvt", "adaptive_depth", "early_exit"])
def test_where_pictures_decide_another_point_is_named(net, point, other, tmp_path):
    net = net()
    with pytest.raises(ValueError) as refused:
        vitlab.export(net, tmp_path / "net.onnx", net.Point(point))
    assert str(refused.value).endswith(f"which no fixed graph can hold; export another point, such as {other}")
    assert not list(tmp_path.iterdir())


def test_a_revit_is_exported_at_a_length_whether_it_has_an_assigner_or_not():
    net, images = small("revit", lengths=(7, 4)), pictures(3)
    with torch.no_grad():
        alone = net(images, net.Point(4))
        net.attach(vitlab.TLA(2, 56))
        torch.testing.assert_close(net(images, net.Point(4)), alone)
        traced = net(images, net.Point(4), trace := vitlab.Trace())
    torch.testing.assert_close(traced, alone)
    assert trace.exit.tolist() == [0, 0, 0]
    assert obstacle(net, net.Point(4)) is None
    with pytest.raises(ValueError, match=r"such as Point\(length=7, cost_weight=0.0\)"):
        vitlab.export(net, "net.onnx", net.Point(None, 0.5))


def test_what_cannot_be_exported_gets_one_sentence(tmp_path):
    path, net = tmp_path / "net.onnx", small()
    for method, point, said in (
        (nn.Linear(2, 2), None, "export takes a method, not a Linear"), ("net", None, "export takes a method, not a str"),
        (net, net.Point(3), "length 3 was not trained"), (net, vitlab.Dense.Point(), "no operating point of SuperViT"),
        (small().half(), None, "weights of this net are torch.float16"),
    ):
        with pytest.raises(ValueError, match=said):
            vitlab.export(method, path, point)
    assert not path.exists()


def test_places_where_nothing_can_be_written_are_named_first(tmp_path, file):
    (tmp_path / "taken").write_text("")
    for export in (lambda path: vitlab.export(small(), path), lambda path: edge.quantise(file[2], path)):
        with pytest.raises(IsADirectoryError, match="is a folder; name the file in it"):
            export(tmp_path)
        with pytest.raises(OSError, match="taken.*cannot be written .*; choose another folder"):
            export(tmp_path / "taken" / "net.onnx")


def test_a_file_that_answers_otherwise_is_not_written(file, tmp_path, monkeypatch):
    import onnx

    net, point, path = file
    wrong = onnx.load(path)
    last = next(node for node in wrong.graph.node if "logits" in node.output)
    head = next(part for part in wrong.graph.initializer if part.name == last.input[1])
    assert sorted(head.dims) == [3, 64]                                    # the classifier's weights
    head.raw_data = (np.frombuffer(head.raw_data, np.float32) * np.float32(1.01)).tobytes()
    monkeypatch.setattr("vitlab.edge.graph.graph", lambda net, images: wrong)
    place = tmp_path / "net.onnx"
    shutil.copy(path, place)
    with pytest.raises(RuntimeError, match="answers otherwise than PyTorch: 8 of 8 pictures"):
        vitlab.export(net, place, point)
    assert place.read_bytes() == path.read_bytes()
    assert [part.name for part in tmp_path.iterdir()] == ["net.onnx"]


def test_a_net_that_draws_lots_is_not_written(file, tmp_path, monkeypatch):
    import onnx

    net = small(token_type="random")
    monkeypatch.setattr("vitlab.edge.graph.graph", lambda net, images: onnx.load(file[2]))
    with pytest.raises(ValueError, match="draws at random"):
        vitlab.export(net, tmp_path / "net.onnx", net.Point(4, 0.5))
    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_net_as_it_was(file, tmp_path, monkeypatch):
    import onnx

    net, point, path = file
    monkeypatch.setattr("vitlab.edge.graph.graph", lambda net, images: onnx.load(path))
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    net.train()
    net.vit.blocks[0].eval()
    try:
        vitlab.export(net, tmp_path / "net.onnx", point)
        assert net.training
        assert not net.vit.blocks[0].training
        assert all(weight.requires_grad for weight in net.parameters())
        assert all(torch.equal(weight, before[name]) for name, weight in net.state_dict().items())
    finally:
        net.eval()


def test_readmes_lines_run(file, tmp_path, monkeypatch):
    import onnx

    net, point, path = file
    lines = re.search(r"\n(path = vitlab.export.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    lines, points = re.subn(r"Point\([^)]*\)", "point", lines)              # this net has other lengths
    assert points == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitlab.edge.graph.graph", lambda net, images: onnx.load(path))
    names = {"vitlab": vitlab, "net": net, "point": point, "held": SimpleNamespace(images=lambda rows: pictures(len(rows)))}
    exec(lines, names)
    assert names["logits"].shape == (1, 3)
    assert sorted(part.name for part in tmp_path.iterdir()) == ["int8.onnx", "net.onnx"]


@pytest.mark.parametrize("name", EXTRA)
def test_without_the_extra_one_sentence_says_how_to_get_it(name, file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf'{name} is not installed; .*pip install -e "\.\[edge\]"'):
        vitlab.export(file[0], tmp_path / "net.onnx")


@pytest.mark.slow
def test_int8_answers_of_a_trained_net_agree_on_most_pictures(tmp_path):
    net = vitlab.load(ROOT / "data" / "checkpoints" / "supervit_shapes.safetensors")
    point, images = net.Point(8, 0.5), shapes("val", n=200, size=56).images(slice(None))
    source = vitlab.export(net, tmp_path / "net.onnx", point)
    path = edge.quantise(source, tmp_path / "int8.onnx")
    fp32, int8 = edge.Session(source), edge.Session(path)
    with torch.no_grad():
        truth = net(images, point)
    assert ((fp32(images) - truth).abs().amax(1) < 1e-4).float().mean() > 0.99
    assert (fp32(images).argmax(1) == truth.argmax(1)).float().mean() > 0.99
    assert (int8(images).argmax(1) == truth.argmax(1)).float().mean() >= 0.97
    assert (int8(images) - truth).abs().max() > 1e-3                       # it is another arithmetic
    assert path.stat().st_size < 0.6 * source.stat().st_size
    assert int8.facts == {**fp32.facts, "precision": "int8"}
    assert int8.precision == "int8"
    with pytest.raises(ValueError, match="is int8 already"):
        edge.quantise(path, tmp_path / "twice.onnx")


def test_int8_answers_that_are_lost_are_not_written(file, tmp_path, monkeypatch):
    monkeypatch.setattr("vitlab.edge.int8.FARTHEST", 1e-6)
    with pytest.raises(RuntimeError, match="int8 answers to random .* away from the float32 ones; nothing was written"):
        edge.quantise(file[2], tmp_path / "int8.onnx")
    assert not list(tmp_path.iterdir())


def test_a_processor_without_bfloat16_says_so(monkeypatch):
    for features, can in (({"avx2": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert edge.sixteen_bit() is can
