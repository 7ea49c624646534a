"""What people give at the doors of the nets: backbones, numbers of any library, sizes, points. Right, or one sentence."""
import json
from functools import partial

import numpy as np
import pytest
import timm
import torch
from samples import pictures
from timm.layers import DiffAttention, SwiGLU
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer

import vitlab
from vitlab import backbones, cascade
from vitlab.methods import METHODS
from vitlab.methods.adaptive_depth import AdaptiveDepth
from vitlab.methods.revit.assigner import MICRO
from vitlab.numbers import plain, real, whole

DRIVERS = (vitlab.Dense, vitlab.SuperViT, vitlab.DVT, AdaptiveDepth, vitlab.ReViT)
tiny = partial(VisionTransformer, img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, num_classes=5)


def small(name, **knobs):
    return vitlab.create(name, "micro_patch8", num_classes=10, **knobs).eval()


# Backbones

def on_the_head(vit):
    vit.head = torch.nn.Linear(32, 7)
    return vit


def rows_too_few(vit):
    vit.pos_embed = torch.nn.Parameter(vit.pos_embed[:, :10])
    return vit


UNDRIVEN = {
    "no class token": (lambda: tiny(class_token=False, global_pool="max"), "has no class token"),
    "no positions": (lambda: tiny(pos_embed="none"), "no absolute position for every token"),
    "class token without a position": (lambda: tiny(no_embed_class=True), "no absolute position for every token"),
    "average pooling": (lambda: tiny(global_pool="avg"), "answers from 'avg' pooling"),
    "distilled": (lambda: VisionTransformerDistilled(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2),
                  "is a VisionTransformerDistilled, which embeds or answers in its own way"),
    "sizes that change": (lambda: tiny(dynamic_img_size=True), "pictures of changing sizes"),
    "pads": (lambda: tiny(dynamic_img_pad=True), "pictures of changing sizes"),
    "parallel blocks": (lambda: tiny(block_fn=ParallelScalingBlock), "blocks other than timm's Block and Attention"),
    "norms behind": (lambda: tiny(block_fn=ResPostBlock), "blocks other than"),
    "differential attention": (lambda: tiny(attn_layer=DiffAttention), "blocks other than"),
    "gray pictures": (lambda: tiny(in_chans=1), "takes pictures of 1 channels"),
    "drops patches": (lambda: tiny(patch_drop_rate=0.5), "drops patches in training"),
    "oblong pictures": (lambda: tiny(img_size=(32, 64)), "not made for square pictures"),
    "oblong patches": (lambda: tiny(patch_size=(8, 4)), "not made for square pictures"),
    "no classifier": (lambda: tiny(num_classes=0), "says it has 0 classes"),
    "another head": (lambda: on_the_head(tiny()), "says it has 5 classes but its head is Linear"),
    "positions of another grid": (lambda: rows_too_few(tiny()), "has 10 positions for 17 tokens"),
    "of another method": (lambda: small("dvt").vit, "has blocks that another method widened"),
    "another family": (lambda: timm.create_model("resnet18"), "is a ResNet and no timm VisionTransformer"),
    "a whole method": (lambda: small("dense"), "is a Dense and no timm VisionTransformer"),
    "a name": (lambda: "deit_tiny", "is a str and no timm VisionTransformer"),
}


@pytest.mark.parametrize("kind", UNDRIVEN)
def test_a_net_that_cannot_be_driven_gets_one_sentence_from_every_method(kind):
    make, words = UNDRIVEN[kind]
    vit = make()
    for driver in DRIVERS:
        with pytest.raises(ValueError, match=f"this backbone .*{words}") as caught:
            driver(vit)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [
    {}, {"pre_norm": True}, {"init_values": 0.1}, {"qk_norm": True}, {"reg_tokens": 2}, {"scale_attn_norm": True},
    {"mlp_layer": SwiGLU}, {"fc_norm": True}, {"proj_bias": False},
], ids=str)
@torch.no_grad()
def test_a_net_that_passes_is_driven_as_timm_does(settings):
    vit, images = tiny(**settings).eval(), pictures(2, 32)
    for p in vit.parameters():
        p.add_(0.05 * torch.randn_like(p))
    expected = vit(images)
    for method in (vitlab.Dense(vit), AdaptiveDepth(vit), vitlab.SuperViT(vit, (2, 4)), vitlab.ReViT(vit, (4,))):
        torch.testing.assert_close(method.eval()(images), expected, atol=1e-5, rtol=1e-5)


def test_dvt_says_which_mlp_it_cannot_widen():
    with pytest.raises(ValueError, match="DVT widens the LayerNorm .* SwiGLU; take a DeiT or T2T-ViT, or features=False"):
        vitlab.DVT(tiny(mlp_layer=SwiGLU))


@pytest.mark.parametrize(("name", "size"), [
    ("repvit_m0_9", None), ("efficientvit_m0", None), ("shvit_s1", 224), ("levit_128s", 224), ("eva02_tiny_patch14_224", None),
    ("deit_tiny_distilled_patch16_224", None), ("resnet10t", 224), ("deit3_small_patch16_224", 224), ("test_vit2", 96),
    ("vit_srelpos_small_patch16_224", 96), ("test_convnext", None), ("naflexvit_base_patch16_gap", None),
])
def test_every_name_of_timm_that_is_no_plain_vit_gets_one_sentence(name, size):
    assert timm.is_model(name)
    with pytest.raises(ValueError, match=f"{name} is not a plain ViT with a class token and absolute positions: it ") as caught:
        backbones.create(name, 10, size)
    assert "\n" not in str(caught.value)


def test_a_net_is_found_out_before_its_weights_are_drawn(monkeypatch):
    made, create = [], timm.create_model

    def watched(*args, **settings):
        made.append(torch.empty(0).device.type)
        return create(*args, **settings)

    monkeypatch.setattr("timm.create_model", watched)
    with pytest.raises(ValueError, match="has no class token"):
        backbones.create("vit_base_patch16_siglip_224")
    assert made == ["meta"]


@torch.no_grad()
def test_pretrained_patches_without_a_bias_can_have_another_grid(monkeypatch):
    """CLIP's."""
    clip = tiny(pre_norm=True)
    monkeypatch.setattr("timm.create_model", lambda *a, **k: clip)
    assert clip.patch_embed.proj.bias is None
    vit = backbones.create("deit_tiny", 5, pretrained=True, grid=2).eval()
    assert backbones.grid(vit) == 2
    assert vit(pictures(1, 32)).isfinite().all()


# Numbers

@pytest.mark.parametrize("number", [np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor(3, dtype=torch.int8), np.array(3)])
def test_a_whole_number_is_one_whoever_counted_it(number):
    found = whole(number, "n")
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("number", [3.0, "3", True, None, np.bool_(True), torch.tensor(True), np.float64(3), torch.tensor(3.0),
                                    (3,), torch.tensor([3]), 0, -3, float("nan")])
def test_what_is_no_whole_number_gets_one_sentence(number):
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, not "):
        whole(number, "n")


@pytest.mark.parametrize(("number", "expected"), [(np.float32(0.1), 0.1), (np.float16(0.1), 0.1), (torch.tensor(0.7), 0.7),
                                                  (torch.tensor(0.3, dtype=torch.double), 0.3), (np.int64(1), 1), (1, 1)])
def test_a_float_of_fewer_bits_is_the_decimal_it_stands_for(number, expected):
    assert real(number, "x") == expected
    for wrong in (True, "0.1", float("nan"), float("inf"), -0.1, torch.tensor([0.1])):
        with pytest.raises(ValueError, match="x must be a number of at least 0"):
            real(wrong, "x")


def test_rows_and_knobs_become_pythons():
    given = {"a": np.array([[0.5, 1.0]]), "b": [torch.tensor(3), (np.bool_(True), "x")], "c": torch.tensor([1, 2]), "d": MICRO}
    assert plain(given) == {"a": ((0.5, 1.0),), "b": (3, (True, "x")), "c": (1, 2), "d": ("efficientnet_b0", 0.25, 0.25, 28)}


@pytest.mark.parametrize("classes", [np.array([0, 4, 9]).max() + 1, torch.tensor([0, 9]).max() + 1, 10])
def test_classes_may_be_counted_from_labels_and_the_net_can_be_saved(classes, tmp_path):
    net = vitlab.create("dense", "micro_patch8", num_classes=classes, image_size=np.int64(56), drop_path=np.float32(0.1))
    vitlab.save(net, tmp_path / "net.safetensors")
    assert vitlab.load(tmp_path / "net.safetensors").made == net.made
    assert net.made["num_classes"] == 10 and net.made["drop_path"] == 0.1


KNOBS = [
    ("supervit", {"lengths": np.array([4, 7]), "rates": torch.tensor([0.5, 1.0]), "drop_blocks": [np.int64(2)]},
     {"lengths": (4, 7), "rates": (0.5, 1.0), "drop_blocks": (2,)}),
    ("supervit", {"lengths": range(4, 8), "rates": (np.float32(0.7),)}, {"lengths": (4, 5, 6, 7), "rates": (0.7,)}),
    ("dvt", {"grids": torch.tensor([4, 7]), "thresholds": np.array([[0.5], [0.7]]), "reuse_dim": np.int32(6)}, {"grids": (4, 7)}),
    ("revit", {"lengths": [np.int64(7), torch.tensor(4)], "tau": torch.tensor(1.0), "lambda_": np.float64(0.9)},
     {"lengths": (7, 4)}),
    ("adaptive_depth", {"exits": np.array([1, 3])}, {"stops": (1, 3, 4)}),
]


@pytest.mark.parametrize(("name", "knobs", "found"), KNOBS)
def test_knobs_of_numpy_and_torch_work_and_come_back_from_a_checkpoint(name, knobs, found, tmp_path):
    net = small(name, **knobs)
    assert {key: getattr(net, key) for key in found} == found
    assert json.loads(json.dumps(net.made)) is not None
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert (again.made, again.points) == (net.made, net.points)


@pytest.mark.parametrize(("name", "knobs", "words"), [
    ("supervit", {"lengths": (4.0, 7.0)}, "lengths must be ascending whole numbers"), ("supervit", {"lengths": ()}, "not ()"),
    ("supervit", {"lengths": 7}, "lengths must be"), ("supervit", {"lengths": (True, 7)}, "lengths must be"),
    ("supervit", {"lengths": "47"}, "lengths must be"), ("supervit", {"rates": ()}, "rates must be different numbers"),
    ("supervit", {"rates": 0.5}, "rates must be"), ("supervit", {"rates": (True, 0.5)}, "rates must be"),
    ("supervit", {"rates": (float("nan"),)}, "rates must be"), ("supervit", {"drop_blocks": (1.5,)}, "drop_blocks must be"),
    ("supervit", {"drop_blocks": ()}, "drop_blocks must be"), ("dvt", {"grids": (4.0, 7)}, "grids must be at least two"),
    ("dvt", {"grids": 7}, "grids must be"), ("dvt", {"reuse_dim": 2.5}, "reuse_dim must be a whole number"),
    ("dvt", {"reuse_hidden": 0}, "reuse_hidden must be a whole number"), ("dvt", {"thresholds": "high"}, "threshold must be in"),
    ("revit", {"lengths": (7.0, 4)}, "lengths must be whole numbers"), ("revit", {"lengths": ()}, "lengths must be"),
    ("revit", {"tau": "warm"}, "tau must be a number"), ("revit", {"lambda_": True}, "lambda_ must be a number"),
    ("revit", {"w_feat": float("nan")}, "w_feat must be a number"), ("adaptive_depth", {"exits": (1.0,)}, "exits must be"),
    ("adaptive_depth", {"exits": ()}, "exits must be ascending"), ("adaptive_depth", {"exits": 2}, "exits must be ascending"),
])
def test_knobs_that_are_no_such_numbers_get_one_sentence(name, knobs, words):
    with pytest.raises(ValueError, match=words):
        small(name, **knobs)


# Sizes

@pytest.mark.parametrize(("backbone", "size", "words"), [
    ("micro_patch8", 57, "patches of 8 pixels, and 57 is no multiple of 8; choose image_size=56 or 64"),
    ("micro_patch8", 100, "choose image_size=96 or 104"), ("micro_patch8", 55, "choose image_size=48 or 56"),
    ("micro_patch8", 49, "no multiple of 8"), ("micro_patch4", 54, "choose image_size=52 or 56"), ("micro_plain8", 60, "or 64"),
    ("micro_patch8", 3, "choose image_size=8"), ("t2t_vit_7", 100, "choose image_size=96 or 112"),
    ("micro_patch8", (56, 56), r"image_size, the pixels of one side, must be a whole number from 1 to 4096, not \(56, 56\)"),
    ("micro_patch8", 0, "not 0"), ("micro_patch8", -56, "not -56"), ("micro_patch8", 56.0, "not 56.0"),
])
def test_a_size_that_does_not_fit_gets_one_sentence(backbone, size, words):
    for method in METHODS:
        with pytest.raises(ValueError, match=words):
            vitlab.create(method, backbone, num_classes=10, image_size=size)


@pytest.mark.parametrize(("name", "size"), [("deit_tiny", 230), ("deit_tiny", 8)])
def test_plain_patches_leave_no_pixels_over(name, size):
    with pytest.raises(ValueError, match="is no multiple of 16"):
        backbones.create(name, 10, size)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [32, 64])
@torch.no_grad()
def test_a_size_that_passes_runs_at_every_point_and_the_dearest_is_dense(method, size):
    knobs = {"features": False, "relations": False} if method == "dvt" else {}
    try:
        net = vitlab.create(method, "micro_patch8", num_classes=10, image_size=size, **knobs).eval()
    except ValueError as error:                                            # the small stems reach not every grid
        assert "cannot cut" in str(error) and "choose a grid from" in str(error)
        return
    images = pictures(1, size)
    assert all(net(images, point).isfinite().all() for point in net.points)
    torch.testing.assert_close(net(images, net.points[-1]), net.vit(images), atol=1e-6, rtol=0)


@torch.no_grad()
def test_on_a_grid_that_does_not_divide_the_picture_the_full_point_is_still_dense():
    net = small("supervit", grid=5, lengths=(4, 5))                        # 56 pixels in patches of 12
    images = pictures(2)
    torch.testing.assert_close(net(images), net.vit(images), atol=1e-6, rtol=0)


def test_a_stem_that_cuts_another_number_of_patches_gets_one_sentence():
    with pytest.raises(ValueError, match=r"cuts 33 pixels into 16 patches, not into 3x3; choose other lengths"):
        small("supervit", grid=5, lengths=(3, 5))
    with pytest.raises(ValueError, match=r"cuts 56 pixels into 121 patches, not into 10x10"):
        small("supervit", lengths=(7, 10), embedding="individual")
    for method, knobs in (("supervit", {"grid": 10, "lengths": (7, 10)}), ("revit", {"lengths": (10, 7), "patch": "resize"})):
        with pytest.raises(ValueError, match=r"cannot cut 154 pixels into 7x7 patches; choose other lengths, or a backbone"):
            vitlab.create(method, "deit_tiny", 10, **knobs)                # patches of 23 pixels, zeros around the picture


# Points

@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_a_point_without_numbers_is_the_headline_model_on_every_grid(method, small_supervit):
    images = pictures(1)
    for net in (small(method), small_supervit):                            # grids of 7 and 14
        assert torch.equal(net(images, net.Point()), net(images))
        dearest = torch.equal(net(images, net.Point()), net(images, net.points[-1]))
        assert dearest == (net.made["method"] not in ("spvit", "svit", "tome"))    # they were made for less


@torch.no_grad()
def test_a_cascade_of_two_exits_has_a_headline_too():
    net, images = small("dvt", grids=(4, 7)), pictures(2)
    assert torch.equal(net(images, net.Point()), net(images))
    assert torch.equal(net(images, net.Point(0.0)), net(images, net.Point((0.0,))))


@pytest.mark.parametrize("method", METHODS)
def test_the_point_of_another_method_gets_one_sentence(method):
    net, others = small(method), [driver.Point for driver in DRIVERS if driver.Point is not METHODS[method].Point]
    assert len(others) >= 3                                                # DVT's and adaptive depth's are the same
    for Other in others:
        with pytest.raises(ValueError, match=f"is no operating point of {type(net).__name__}; take one of its `points`"):
            net(pictures(1), Other())
    for wrong in (0.5, (7, 0.5), "dense", torch.zeros(3)):
        with pytest.raises(ValueError, match=f"a {type(wrong).__name__} is no operating point of"):
            net(pictures(1), wrong)


def test_points_of_numpy_and_torch_numbers_are_points():
    Point = vitlab.SuperViT.Point
    assert {Point(np.int64(7), torch.tensor(0.5)): 1}[Point(7, 0.5)] == 1
    assert {vitlab.DVT.Point(np.array([0.5, 0.7])): 1}[vitlab.DVT.Point([0.5, 0.7])] == 1
    single = {vitlab.ReViT.Point(np.int64(7), np.float32(0.1)): 1, vitlab.EarlyExit.Point(np.float32(0.1)): 2}
    assert [single[vitlab.ReViT.Point(7, 0.1)], single[vitlab.EarlyExit.Point(0.1)]] == [1, 2]
    net, images = small("supervit"), pictures(2)
    assert torch.equal(net(images, Point(torch.tensor(4), np.float32(0.7))), net(images, Point(4, 0.7)))
    for wrong in (Point(7.0, 0.5), Point(True, 0.5), Point("7"), Point(7, "all"), Point(7, True)):
        with pytest.raises(ValueError, match="must be a whole number|keep must be in"):
            net(images, wrong)
    revit = small("revit")
    for wrong in (revit.Point(7.0), revit.Point(7, float("nan")), revit.Point(7, "much")):
        with pytest.raises(ValueError, match="length must be a whole number|cost_weight must be a number"):
            revit(images, wrong)
    with pytest.raises(ValueError, match="an assigner has no operating points"):
        vitlab.TLA(2, 56)(images, Point(7, 0.5))


def test_one_point_may_stand_alone():
    net = small("dvt")
    ends = net.Point((0.0, 0.0)), net.Point((1.0, 1.0))
    for given in ((0.4, 0.9), [(0.4, 0.9)], np.array([0.4, 0.9]), np.array([[0.4, 0.9]])):
        net.set_thresholds(given)
        assert net.points == (ends[0], net.Point((0.4, 0.9)), ends[1])
    net.set_thresholds(0.7)
    assert net.points == (ends[0], net.Point((0.7, 0.7)), ends[1])
    with pytest.raises(ValueError, match="3 exits need 2 thresholds, one for each but the last, not 3"):
        net.set_thresholds((0.4, 0.6, 0.9))
    two = small("dvt", grids=(4, 7), thresholds=(0.4, 0.9))
    assert two.points == tuple(map(two.Point, ((0.0,), (0.4,), (0.9,), (1.0,))))


def test_thresholds_make_no_other_run():
    assert vitlab.DVT.FREE_KNOBS == ("thresholds",)
    net = small("dvt")
    before = {k: v for k, v in net.made["knobs"].items() if k not in net.FREE_KNOBS}
    net.set_thresholds([(0.4, 0.9)])
    assert net.made["knobs"]["thresholds"] == ((0.4, 0.9),)
    assert {k: v for k, v in net.made["knobs"].items() if k not in net.FREE_KNOBS} == before


@pytest.mark.parametrize(("stages", "thresholds", "words"), [
    ((), (0.5,), "at least two stages"), (7, (0.5,), "at least two stages"), ((vitlab.SuperViT.Point(),), (0.5,), "at least two"),
    ((vitlab.SuperViT.Point(4), vitlab.SuperViT.Point(9)), (0.5,), "length 9 was not trained"),
    ((vitlab.SuperViT.Point(4), vitlab.ReViT.Point(7)), (0.5,), "is no operating point of SuperViT"),
    ((4, 7), (0.5,), "a int is no operating point of SuperViT"),
    ((vitlab.SuperViT.Point(4), vitlab.SuperViT.Point(7)), (1.5,), "a threshold must be in"),
    ((vitlab.SuperViT.Point(4), vitlab.SuperViT.Point(7)), ((0.5, 0.7),), "2 exits need 1 thresholds"),
    ((vitlab.SuperViT.Point(4), vitlab.SuperViT.Point(7)), (), "at least one threshold"),
    ((vitlab.SuperViT.Point(4), vitlab.SuperViT.Point(7)), ("sure",), "a threshold must be in"),
])
def test_an_early_exit_with_wrong_stages_or_thresholds_gets_one_sentence(stages, thresholds, words):
    with pytest.raises(ValueError, match=words):
        vitlab.EarlyExit(small("supervit"), stages, thresholds)


def test_an_early_exit_runs_its_own_points_alone():
    Point = vitlab.SuperViT.Point
    net = vitlab.EarlyExit(small("supervit"), (Point(4), Point(7)), np.array([0.5, 0.9]))
    assert net.points == (net.Point(0.5), net.Point(0.9))
    with pytest.raises(ValueError, match="is no operating point of EarlyExit"):
        net(pictures(1), Point(7))
    with pytest.raises(ValueError, match="goes over a method, not a VisionTransformer"):
        vitlab.EarlyExit(tiny(), (Point(4), Point(7)))
    with pytest.raises(ValueError, match="2 exits need 1 thresholds"):
        net(pictures(1), net.Point((0.5, 0.7)))
    assert vitlab.EarlyExit(small("supervit"), (Point(4), Point(7)), 0.7).points == (net.Point(0.7),)
    revit = small("revit").train()                                         # what it stands for is asked when it runs
    assert vitlab.EarlyExit(revit, (revit.Point(4), revit.Point())).eval()(pictures(1)).shape == (1, 10)


# Pictures

@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_net_of_another_precision_runs_or_says_what_it_wants(method, dtype):
    net, images = small(method), pictures(2)
    exact = net(images)
    net.to(dtype)
    trace = vitlab.Trace()
    answer = net(images.to(dtype), None, trace)
    assert answer.dtype == dtype and trace.layers
    torch.testing.assert_close(answer.float(), exact, atol=0.05, rtol=0.05)
    with pytest.raises(ValueError, match=f"images are torch.float32 but this net computes in {dtype}; give images.to"):
        net(images)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_net_of_another_precision_may_have_an_assigner(dtype):
    net, images = small("revit").to(dtype), pictures(2).to(dtype)
    net.attach(vitlab.TLA(3, 56).eval())
    assert net(images, net.points[0]).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_t2t_stem_runs_in_every_precision(dtype):
    net = vitlab.create("dense", "t2t_vit_7", 10, image_size=64).eval()
    images = pictures(2, 64)
    exact = net(images)
    torch.testing.assert_close(net.to(dtype)(images.to(dtype)).float(), exact, atol=0.05, rtol=0.05)


@torch.no_grad()
def test_autocast_mixes_as_it_likes():
    net, images = small("dense"), pictures(2)
    with torch.autocast("cpu", torch.bfloat16):
        assert net(images.bfloat16()).isfinite().all()
        assert net(images).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@torch.no_grad()
def test_bright_pictures_are_not_called_nan(dtype):
    net = small("dense").to(dtype)
    bright = torch.full((4, 3, 56, 56), 60.0, dtype=dtype)                 # their sum is past float16
    assert net(bright).isfinite().all()
    huge = small("dense")(torch.full((4, 3, 56, 56), 1e37))                # and past float32
    assert huge.shape == (4, 10)
    for bad in (float("nan"), float("inf"), -float("inf")):
        broken = bright.clone()
        broken[2, 1, 3, 4] = bad
        with pytest.raises(ValueError, match="NaN or infinite pixels"):
            net(broken)


def test_pictures_on_another_device_get_one_sentence():
    with pytest.raises(ValueError, match=r'images are on meta but this net is on cpu; move them with images.to\("cpu"\)'):
        small("dense")(torch.zeros(1, 3, 56, 56, device="meta"))


def test_an_assigner_wants_two_pictures_to_learn_from():
    tla = vitlab.TLA(2, 56).train()
    with pytest.raises(ValueError, match="an assigner learns from at least two pictures a step"):
        next(tla.losses(pictures(1), torch.tensor([0])))
    assert next(tla.losses(pictures(2), torch.tensor([0, 1])))["ce"].isfinite()
    assert tla.eval()(pictures(1)).shape == (1, 2)


@pytest.mark.parametrize("size", [24, 112, 120])
def test_there_is_an_assigner_for_every_size(size):
    assert vitlab.TLA(2, size).eval()(pictures(1, size)).shape == (1, 2)


# Thresholds that a person gives to a cascade

@pytest.mark.parametrize(("given", "found"), [
    (None, (1.0, 1.0)), (1, (1, 1)), (np.float32(0.1), (0.1, 0.1)), ([0.5, 1], (0.5, 1)), (np.array([0.5, 0.7]), (0.5, 0.7)),
    (torch.tensor([0.5, 0.75]), (0.5, 0.75)), (torch.tensor(0.25), (0.25, 0.25)),
])
def test_thresholds_may_be_numbers_of_any_library(given, found):
    assert cascade.check(given, 3) == found
    for wrong in (True, "0.5", (0.5, None), (0.5, True), float("nan")):
        with pytest.raises(ValueError, match=r"a threshold must be in \[0, 1\]"):
            cascade.check(wrong, 3)
