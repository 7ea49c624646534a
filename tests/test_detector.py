"""Detectors on nets that leave tokens out: maps, losses, training, files and speed."""
import pytest
import torch
from samples import sharpen

import vitlab
from vitlab.data import objects
from vitlab.method import Dense
from vitlab.methods.svit import Point, calibrate, detection
from vitlab.methods.svit.detection import Detector, detections, load, pace, train
from vitlab.methods.svit.detection.pyramid import Pyramid
from vitlab.train.run import parameter_groups

SIDE = 64                   # 8x8 patches
RECIPE = vitlab.Recipe(steps=2, batch=1, lr=1e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("VITLAB_DATA", str(tmp_path_factory.mktemp("made")))
    yield objects("val", size=SIDE, n=12)
    patch.undo()


def small(data, method: str = "svit", channels: int = 8, seed: int = 0, **knobs) -> Detector:
    torch.manual_seed(seed)
    return Detector(vitlab.create(method, "micro_patch8", num_classes=4, image_size=SIDE, **knobs), data.classes, channels).eval()


def eager(detector: Detector) -> Detector:
    """Its boxes are of some class, so that something is found."""
    detector.rcnn.roi_heads.box_predictor.cls_score.bias.data[1:] += 2
    return detector


def losses(detector: Detector, data, rows=(0, 1)) -> dict[str, torch.Tensor]:
    return next(detector.losses(*data.__getitems__(list(rows))))


def test_the_pyramid_has_four_maps_of_the_last():
    maps = Pyramid(16, 12)(torch.randn(2, 16, 8, 8))
    assert {name: tuple(part.shape) for name, part in maps.items()} == {
        "0": (2, 12, 16, 16), "1": (2, 12, 8, 8), "2": (2, 12, 4, 4), "3": (2, 12, 2, 2)}


def test_a_pyramid_cell_sees_the_place_it_stands_for():
    """A bright patch moves the cells over it more than those far from it, on every map."""
    torch.manual_seed(0)
    net, dark = Pyramid(16, 8).eval(), torch.zeros(1, 16, 8, 8)
    lit = dark.clone()
    lit[0, :, 1, 6] = 3
    for name, scale in (("0", 2), ("1", 1), ("2", 0.5)):
        moved = (net(lit)[name] - net(dark)[name]).abs().sum(1)[0]
        row, column = divmod(int(moved.argmax()), moved.shape[1])
        assert abs(row - 1.5 * scale) <= 2 and abs(column - 6.5 * scale) <= 2 and moved[-1, 0] == 0


def test_a_detector_answers_in_pixels_of_the_picture(data):
    found = eager(small(data, "dense"))(data.images([0, 1, 2]))
    assert len(found) == 3 and sum(len(each["boxes"]) for each in found) > 0
    for each in found:
        n = len(each["boxes"])
        assert each["masks"].shape == (n, 1, SIDE, SIDE) and each["scores"].shape == each["labels"].shape == (n,)
        assert 0 <= each["boxes"].min() and each["boxes"].max() <= SIDE and 1 <= each["labels"].min() <= each["labels"].max() <= 4
        assert (each["scores"].diff() <= 0).all()


def test_nothing_found_is_an_empty_answer(data):
    detector = small(data, "dense")
    detector.rcnn.roi_heads.box_predictor.cls_score.bias.data[0] += 50
    each, = detections(detector, data.take([0]))
    assert each["boxes"].shape == (0, 4) and each["masks"].shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("knobs", [{}, {"pruned": "inherit"}, {"pruned": "discard"}], ids=str)
def test_the_map_of_a_batch_is_that_of_its_pictures_one_by_one(data, knobs):
    detector, seen = small(data, **knobs), []
    sharpen(detector.net)
    calibrate(detector.net, data, [0.7])
    detector.rcnn.backbone.register_forward_pre_hook(lambda part, told: seen.append(told[0]))
    with torch.no_grad():
        for rows in (range(4), *([n] for n in range(4))):
            detector(data.images(rows), Point(0.7))
    torch.testing.assert_close(seen[0], torch.cat(seen[1:]), atol=1e-4, rtol=1e-4)


def test_a_batch_is_its_pictures_one_by_one(data):
    detector = eager(small(data))
    sharpen(detector.net)
    calibrate(detector.net, data, [0.7])
    together = detections(detector, data.take(range(4)), Point(0.7))
    alone = [detections(detector, data.take([n]), Point(0.7))[0] for n in range(4)]
    for one, other in zip(together, alone, strict=True):
        assert len(one["boxes"]) == len(other["boxes"]) > 0
        torch.testing.assert_close(one["boxes"], other["boxes"], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("pruned", ["return", "inherit", "discard"])
def test_training_and_inference_make_the_same_map(data, pruned):
    """The tokens of `masked`, led by the decisions of a point, give the map that the gathered pass gives."""
    detector = small(data, pruned=pruned)
    net, images, said, point = sharpen(detector.net), data.images([0, 1]), [], Point(fixed=True)
    rule = net.rule(net.check(point))

    def decide(gate, wants, may):
        before = net.before(gate)
        full = torch.zeros(len(wants), before + wants.shape[1])
        some = rule(gate, wants, may > 0, before)
        taken = some.back(full, torch.ones_like(some.taken(full)))
        said.append(taken)
        return taken[:, before:]

    with torch.no_grad():
        masked = net.masked(images, decide)
        x, alive = net.features(images, point)
        torch.testing.assert_close(detector.maps(masked.tokens, masked.there)["0"], detector.maps(x, net.readable(alive))["0"],
                                   atol=1e-4, rtol=1e-4)
    assert len(said) == len(net.gates)


def test_tokens_left_out_stay_in_the_map_and_discarded_ones_are_zero(data):
    for pruned in ("return", "inherit", "discard"):
        detector, seen = small(data, pruned=pruned), []
        detector.rcnn.backbone.register_forward_pre_hook(lambda part, told: seen.append(told[0]))
        trace = vitlab.Trace()
        with torch.no_grad():
            detector(data.images([0]), Point(0.5, fixed=True), trace)
        empty = (seen[0] == 0).all(1).flatten(1)                           # [1, N]
        gone = ~trace.layers[-1].attended
        assert gone.float().mean() > 0.5
        assert torch.equal(empty, gone) if pruned == "discard" else not empty.any()


def test_the_class_token_is_no_part_of_the_map(data):
    detector = small(data, "dense")
    x = torch.randn(2, 65, 64)
    changed = x.clone()
    changed[:, 0] += 1
    assert torch.equal(detector.maps(x)["1"], detector.maps(changed)["1"])
    changed[:, 1, :32] += 1
    assert not torch.equal(detector.maps(x)["1"], detector.maps(changed)["1"])


def test_a_patch_stands_at_its_place_in_the_map(data):
    detector, seen = small(data, "dense"), []
    detector.rcnn.backbone.register_forward_pre_hook(lambda part, told: seen.append(told[0]))
    detector.net.vit.norm = torch.nn.Identity()
    x = torch.arange(65.)[None, :, None].expand(1, 65, 64)
    detector.maps(x)
    assert seen[0][0, 0].tolist() == (1 + torch.arange(64.)).unflatten(0, (8, 8)).tolist()


def test_losses_are_torchvisions_and_the_shares(data):
    five = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    assert set(losses(small(data, "dense").train(), data)) == five
    said = losses(small(data).train(), data)
    assert set(said) == five | {"ratio"} and all(value.isfinite() for value in said.values())
    assert set(losses(small(data, gate="random").train(), data)) == five


@pytest.mark.parametrize("pruned", ["return", "inherit", "discard"])
def test_gates_learn_from_the_heads(data, pruned):
    detector = small(data, pruned=pruned).train()
    said = losses(detector, data)
    (said["loss_mask"] + said["loss_classifier"]).backward()
    assert all(gate.fc2.weight.grad.abs().max() > 0 for gate in detector.net.gates)


def test_no_parameter_is_left_without_a_gradient(data):
    for detector in (small(data, "dense"), small(data)):
        sum(losses(detector.train(), data).values()).backward()
        assert not [name for name, each in detector.named_parameters() if each.grad is None]


def test_losses_in_evaluation_mode_are_refused(data):
    with pytest.raises(ValueError, match="call train\\(\\) on it first"):
        losses(small(data), data)


def test_a_forward_pass_leaves_the_mode_as_it_was(data):
    detector = small(data).train()
    with torch.no_grad():
        assert isinstance(detector(data.images([0])), list)
    assert all(part.training for part in detector.modules())


def test_one_picture_is_learnt(data):
    history = train(small(data, "dense"), data.take([0]), vitlab.Recipe(steps=14, batch=1, lr=3e-3, warmup=0.1, clip=5.0))
    assert history.loss.iloc[-3:].mean() < 0.7 * history.loss.iloc[:3].mean()
    assert history.loss_mask.iloc[-1] < history.loss_mask.iloc[0]


def test_a_finished_run_is_judged_on_other_pictures(data):
    pytest.importorskip("pycocotools")
    detector, other = small(data, "dense"), data.take([5, 6])
    history = train(detector, data, RECIPE, val=other)
    scores = detection.average_precision(detector, other).set_index("kind").ap
    assert history.val_box_ap.iloc[-1] == scores["box"] and history.val_mask_ap.iloc[-1] == scores["mask"]
    assert history.val_box_ap.iloc[:-1].isna().all()


def test_the_same_seed_trains_the_same_weights_and_another_not(data):
    before = torch.get_rng_state()
    runs = []
    for seed in (0, 0, 1):
        detector = small(data)
        torch.manual_seed(seed + len(runs))
        history = train(detector, data, vitlab.Recipe(steps=2, batch=1, lr=1e-3, seed=seed))
        runs.append((detector.state_dict(), history.loss.tolist()))
        assert not detector.training and history.step.tolist() == [1, 2]
    assert all(torch.equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0]) and runs[0][1] == runs[1][1]
    assert runs[0][1] != runs[2][1]
    assert not torch.equal(before, torch.get_rng_state())                  # by this test's own seeds


def test_training_leaves_the_global_generator_alone(data):
    detector = small(data)
    before = torch.get_rng_state()
    train(detector, data, RECIPE)
    assert torch.equal(before, torch.get_rng_state())


def test_a_sparse_detector_starts_from_the_dense_one_and_gates_learn_faster(data):
    dense, sparse = small(data, "dense"), small(data, seed=1)
    gates = [gate.fc2.weight.clone() for gate in sparse.net.gates]
    images = data.images([0, 1])
    sparse.init_from(dense)
    for one, other in zip(eager(dense)(images), eager(sparse)(images, Point(1.0)), strict=True):
        assert len(one["boxes"]) and all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    assert all(torch.equal(a, gate.fc2.weight) for a, gate in zip(gates, sparse.net.gates, strict=True))
    groups = parameter_groups(sparse, vitlab.Recipe(steps=1, lr=1e-2, lr_backbone=1e-4))
    fast = {id(p) for group in groups if group.get("lr_scale", 1) == 1 for p in group["params"]}
    assert fast == {id(p) for p in sparse.net.gates.parameters()}
    still = {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    assert {id(sparse.net.vit.pos_embed), id(sparse.net.vit.cls_token)} <= still


@pytest.mark.parametrize(("other", "sentence"), [
    ({"channels": 12}, "with 8 channels, the one given"), ({"classes": ["a", "b"]}, "finds square, .* the one given a, b"),
    ({"image_size": 32}, "tensors of these two backbones differ")])
def test_another_kind_of_detector_is_no_start(data, other, sentence):
    size = other.get("image_size", SIDE)
    net = vitlab.create("dense", "micro_patch8", num_classes=4, image_size=size)
    with pytest.raises(ValueError, match=sentence):
        small(data).init_from(Detector(net, other.get("classes", data.classes), other.get("channels", 8)))


def test_a_file_gives_the_detector_back(data, tmp_path):
    detector = eager(small(data, pruned="inherit"))
    calibrate(detector.net, data, [0.6])
    path = tmp_path / "deep" / "detector.safetensors"
    detector.save(path, note=7)
    again = load(path)
    assert again.facts["note"] == 7 and again.classes == data.classes and again.net.pruned == "inherit"
    assert again.net.thresholds.rows == detector.net.thresholds.rows
    for one, other in zip(detections(detector, data, Point(0.6)), detections(again, data, Point(0.6)), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ValueError, match="holds a detector; open it with vitlab.methods.svit.detection.load"):
        vitlab.load(path)
    vitlab.save(vitlab.create("dense", "micro_patch8", num_classes=2), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="holds no detector; open a net with vitlab.load"):
        load(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.safetensors")


def test_a_run_writes_its_detector_once_it_is_finished(data, tmp_path):
    detector = small(data, "dense")
    history = train(detector, data, RECIPE, out=tmp_path / "run.safetensors")
    again = load(tmp_path / "run.safetensors")
    assert all(torch.equal(each, again.state_dict()[name]) for name, each in detector.state_dict().items())
    assert again.facts["history"][-1]["loss"] == pytest.approx(history.loss.iloc[-1]) and again.facts["recipe"]["steps"] == 2


def test_calibrated_shares_are_those_asked_on_detection_pictures(data):
    detector, trace = small(data), vitlab.Trace()
    sharpen(detector.net)
    calibrate(detector.net, data, [0.7])
    with torch.no_grad():
        detector.net.features(data.images(slice(None)), Point(0.7), trace)
    shares = [part.attended.float().mean().item() for part in trace.layers[1:]]
    assert shares == pytest.approx(list(detector.net.shares(0.7)), abs=0.02)


def test_backbone_cost_is_that_of_the_point(data):
    dense, sparse = small(data, "dense"), small(data)
    images = data.images([0])
    costs = [vitlab.gmacs(sparse.net, images, Point(keep, fixed=True))[0] for keep in (0.3, 0.6, 0.9)]
    assert costs == sorted(costs) and costs[0] < vitlab.gmacs(dense.net, images)[0]


def test_pace_tells_backbone_and_whole_apart(data):
    entries = {"dense": (small(data, "dense"), None), "half": (small(data), Point(0.5, fixed=True))}
    table = pace(entries, data, runs=2, batch=2)
    assert table[["name", "part"]].values.tolist() == [[n, p] for n in entries for p in ("backbone", "whole")]
    times = table.set_index(["name", "part"])
    assert times.loc[("dense", "backbone"), "speed_up"] == times.loc[("dense", "whole"), "speed_up"] == 1
    assert (times.xs("backbone", level="part").milliseconds < times.xs("whole", level="part").milliseconds).all()
    assert times.images_per_s.values == pytest.approx((2000 / times.milliseconds).values)
    with pytest.raises(ValueError, match="at least one entry"):
        pace({}, data)


@pytest.mark.parametrize(("wrong", "sentence"), [
    (lambda data: Detector(vitlab.create("dense", "micro_patch8", num_classes=2), data.classes), "7 is no multiple of 4"),
    (lambda data: Detector(vitlab.create("supervit", "micro_patch8", num_classes=2), data.classes), "not on a SuperViT"),
    (lambda data: Detector(Dense(vitlab.backbones.create("micro_patch8", image_size=64)), data.classes), "made by vitlab.create"),
    (lambda data: small(data.changed(classes=data.classes), channels=0), "channels must be a whole number"),
    (lambda data: Detector(vitlab.create("dense", "micro_patch8", image_size=64), "ring"), "classes are the names"),
    (lambda data: small(data)(torch.randn(1, 3, 32, 32)), "images are 32x32 pixels but this net takes 64x64"),
    (lambda data: small(data, "dense")(data.images([0]), Point()), "no operating point of Dense"),
    (lambda data: train(small(data), data, vitlab.Recipe(steps=1, batch=2, mixup=0.5)), "trained without mixup"),
    (lambda data: train(small(data), data, vitlab.Recipe(steps=1, batch=2, precision="bf16")), "trained without precision"),
    (lambda data: train(small(data), data, vitlab.Recipe(steps=1, batch=13)), "a step takes 13 images but objects holds 12"),
    (lambda data: train(small(data), data.changed(classes=["a", "b", "c", "d"]), RECIPE), "not among the 4 classes of the net"),
])
def test_what_does_not_go_together_is_told_in_one_sentence(data, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong(data)


def test_a_detector_learns_from_pictures_with_boxes_only(data):
    with pytest.raises(TypeError, match="learns from a DetectionSet, not a list"):
        train(small(data), [1], RECIPE)
