"""ReViT against its paper: counts, costs, which parameters a length owns, what the largest teaches, the grouping."""
import pytest
import timm
import torch
import torch.nn.functional as F
from samples import pictures, sharpen

import vitlab
from vitlab import backbones
from vitlab.backbones import by_the_book
from vitlab.methods.revit import PAPER, Point, stems
from vitlab.methods.revit.assigner import MICRO
from vitlab.methods.revit.distillation import attention_transfer, feature_transfer
from vitlab.methods.revit.embed import LengthNorm, zero_padded


def micro(**knobs):
    """Lengths 7, 5 and 4 on the small net, its attention sharpened."""
    return sharpen(vitlab.create("revit", "micro_patch8", num_classes=10, **knobs))


def patches(**knobs):
    """Lengths 6 and 4 on plain patches of 16 and 24 pixels."""
    return vitlab.create("revit", "deit_tiny", num_classes=10, image_size=96, lengths=(6, 4), **knobs)


class Deal(vitlab.TLA):
    """An assigner that gives card i to the picture whose first pixel is i / 10."""

    def __init__(self, cards):
        super().__init__(3, 56, MICRO)
        self.cards = torch.as_tensor(cards)

    def forward(self, images, point=None):
        super().forward(images, point)                                     # it costs what an assigner costs
        return 9.0 * F.one_hot(self.cards[(images[:, 0, 0, 0] * 10).round().long()], 3).float()


def dealt(cards):
    """Pictures that say which card they get, and a net that follows them."""
    images = pictures(len(cards))
    images[:, 0, 0, 0] = torch.arange(len(cards)) / 10
    method = micro().eval()
    method.attach(Deal(cards).eval())
    return method, images


def owned(length, count):
    """Does a parameter of this name belong to one length alone?"""
    marks = (f".of.{count}.", f"stems.{length}.", f"pos.{length}", f"heads.{length}.")
    return lambda name: any(mark in f"{name}." for mark in marks)


# Counts (random weights)

@pytest.mark.parametrize(("backbone", "knobs", "params", "costs"), [
    ("deit_small", {}, 23_936_872, {14: 4.5989, 10: 2.2999, 7: 1.1429}),
    ("deit_small", {"dist_token": "deit"}, 24_323_024, {14: 4.5989, 10: 2.3234, 7: 1.1655}),
    ("deit_tiny", {}, 6_660_520, {14: 1.2537, 10: 0.6138, 7: 0.3060}),
    ("deit_small", {"image_size": 384}, 24_233_320, {24: 15.490, 16: 6.236, 12: 3.443}),
    ("deit_small", {"lengths": (14, 4)}, None, {4: 0.4218}),
], ids=["deit_small", "dist_token", "deit_tiny", "384px", "4x4"])
def test_parameters_and_multiply_adds(backbone, knobs, params, costs):
    method = vitlab.create("revit", backbone, **knobs)
    assert params is None or vitlab.measure.parameters(method) == params
    image = torch.zeros(1, 3, *[backbones.image_size(method.vit)] * 2)
    for length, cost in costs.items():
        found = vitlab.gmacs(method, image, Point(length))[0]
        assert found == pytest.approx(cost, abs=6e-4 if cost > 3.4 and "image_size" in knobs else 6e-5)
        assert found == pytest.approx(closed_form(method, length), rel=1e-6)


def closed_form(method, length):
    """Multiply-adds / 1e9: patch embedding, 4nD² + 2n²D + 8nD² per block, and one or two heads."""
    vit, extra = method.vit, method.embed.prefix(length)
    width, patch = vit.embed_dim, -(-backbones.image_size(vit) // length)
    n = length ** 2 + extra
    return (length ** 2 * 3 * patch ** 2 * width + len(vit.blocks) * (12 * n * width ** 2 + 2 * n ** 2 * width)
            + extra * width * vit.num_classes) / 1e9


def test_the_papers_counter_agrees_and_norms_are_a_small_part():
    method = vitlab.create("revit", "deit_small", lengths=(14, 7))
    audit = vitlab.measure.audit(method, torch.zeros(1, 3, 224, 224), Point(7))
    assert (audit["core"], audit["total"]) == (pytest.approx(1.1429, abs=6e-5), pytest.approx(1.1453, abs=6e-5))
    norms = sum(p.numel() for name, p in method.named_parameters() if ".of.50." in name)
    assert norms == 25 * 2 * 384
    assert 2 * norms / 22_050_664 < 0.01                                   # Sec. 3.2: less than one percent


def test_lengths_scale_with_the_grid():
    assert micro().lengths == (7, 5, 4)
    assert [p.length for p in micro().points] == [4, 5, 7]
    assert vitlab.create("revit", "micro_patch4", num_classes=10).lengths == (14, 10, 7)
    assert backbones.grid(vitlab.create("revit", "micro_patch4", num_classes=10, lengths=(10, 7)).vit) == 10


@torch.no_grad()
def test_with_one_length_it_is_timms_deit():
    method = vitlab.create("revit", "deit_small", lengths=(14,)).eval()
    deit = timm.create_model("deit_small_patch16_224").eval()
    method.init_from(deit)
    images = pictures(1, 224)
    torch.testing.assert_close(method(images), deit(images), atol=1e-6, rtol=0)
    assert vitlab.measure.parameters(method) == 22_050_664


# What a length owns

def test_running_one_length_touches_nothing_of_another():
    method = micro(head_per_length=True)
    method(pictures(2), Point(4)).sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    for length in (7, 5):
        assert not list(filter(owned(length, length ** 2 + 1), touched))
    assert not [name for name in touched if name.startswith(("vit.patch_embed", "vit.pos_embed", "vit.head."))]
    assert list(filter(owned(4, 17), touched))
    assert "vit.blocks.0.attn.qkv.weight" in touched


def test_a_norm_is_chosen_by_the_token_count():
    norm = LengthNorm(torch.nn.LayerNorm(8), (50, 17))
    x = torch.randn(2, 50, 8)
    assert torch.equal(norm(x), F.layer_norm(x, (8,)))
    torch.nn.init.constant_(norm.of["17"].weight, 3.0)
    assert torch.equal(norm(x[:, :17]), F.layer_norm(x[:, :17], (8,), torch.full((8,), 3.0)))
    assert torch.equal(norm(x), F.layer_norm(x, (8,)))
    with pytest.raises(ValueError, match="no length has 16 tokens; those that were trained have 50, 17"):
        norm(x[:, :16])
    counts = list(micro(dist_token="deit").vit.norm.of)
    assert counts == ["50", "27", "18"]                                    # the largest has no distillation token
    assert isinstance(micro(norm="shared").vit.norm, torch.nn.LayerNorm)


@torch.no_grad()
def test_all_lengths_start_from_a_plain_nets_weights():
    method, plain = patches(), backbones.create("deit_tiny", num_classes=10, image_size=96)
    torch.nn.init.normal_(plain.blocks[3].norm2.weight)
    method.init_from(plain)
    images = pictures(2, 96)
    with by_the_book():
        assert torch.equal(method.eval()(images), plain.eval()(images))
    assert torch.equal(method.vit.blocks[3].norm2.of["17"].weight, plain.blocks[3].norm2.weight)
    torch.testing.assert_close(method.embed.pos["4"][:, 0], plain.pos_embed[:, 0])
    even = torch.full((1, 3, 96, 96), 0.3)                               # resampled kernels see the same flat picture
    small, large = method.embed.stems["4"](even)[0, 0], plain.patch_embed(even)[0, 0]
    torch.testing.assert_close(small, large, atol=1e-3, rtol=0.2)
    small_net = micro(lengths=(7, 5))
    small_net.init_from(backbones.create("micro_patch8", num_classes=10))
    with pytest.raises(ValueError, match="tensors of this net have no counterpart .* first is head.weight"):
        micro().init_from(backbones.create("micro_patch8", num_classes=9))
    with pytest.raises(ValueError, match="cannot be carried over"):
        backbones.carry(plain.patch_embed, small_net.vit.patch_embed)


# Shared variants and stems

@pytest.mark.parametrize("knobs", [
    {"patch": "shared_center"}, {"patch": "resize"}, {"positions": "interp"}, {"positions": "zeropad"},
    {"norm": "shared"}, {"patch": "shared_center", "positions": "zeropad"}, {"stem": "conv"}, {"head_per_length": True},
    PAPER,
    {"dist_token": "deit", "positions": "interp", "teacher": "hard"}, {"lambda_": 0.0}, {"lambda_": 1.0, "tau": 3.0},
], ids=str)
def test_every_variant_learns_with_all_it_has_and_is_saved(knobs, tmp_path):
    method = patches(**knobs)
    for part in method.losses(pictures(2, 96), torch.tensor([1, 2])):
        sum(part.values()).backward()
    still = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still
    assert len({p.data_ptr() for p in method.parameters()}) == len(list(method.parameters()))
    vitlab.save(method.eval(), tmp_path / "net.safetensors")
    again, images = vitlab.load(tmp_path / "net.safetensors"), pictures(2, 96)
    for point in method.points:
        assert torch.equal(again(images, point), method(images, point))


@torch.no_grad()
def test_a_shared_kernel_serves_small_patches_with_its_centre():
    method = vitlab.create("revit", "deit_tiny", lengths=(14, 10, 7), patch="shared_center")
    stem = method.vit.patch_embed
    assert stem.proj.weight.shape[-1] == 32
    assert torch.equal(stem.kernel(16), stem.proj.weight[:, :, 8:24, 8:24])
    assert torch.equal(stem.kernel(32), stem.proj.weight)
    images = pictures(1, 224)
    plain = F.conv2d(images, stem.proj.weight[:, :, 8:24, 8:24], stem.proj.bias, 16).flatten(2).mT
    assert torch.equal(stem(images), plain)
    assert [stem(images, n).shape[1] for n in (14, 10, 7)] == [196, 100, 49]


@torch.no_grad()
def test_shared_positions_are_padded_or_resampled():
    table = torch.arange(1.0, 11).reshape(1, 10, 1)
    padded = zero_padded(table, 6, 1)[0, :, 0]
    assert padded[0] == 1
    grid = padded[1:].reshape(6, 6)
    assert torch.equal(grid[1:4, 1:4], torch.arange(2.0, 11).reshape(3, 3))
    assert grid.sum() == 54
    method = micro(positions="interp")
    assert torch.equal(method.embed.table(method.vit, 5), backbones.resample_positions(method.vit, 5))
    assert method.embed.table(method.vit, 7) is method.vit.pos_embed
    method = micro(positions="zeropad")
    assert method.vit.pos_embed.shape[1] == 17
    assert method.embed.table(method.vit, 7).shape[1] == 50


@torch.no_grad()
def test_resized_pictures_share_one_embedding():
    method = micro(patch="resize").eval()
    images = pictures(2)
    small = F.interpolate(images, (32, 32), mode="bilinear", align_corners=True)
    expected = backbones.tokens(method.vit, method.vit.patch_embed(small), method.embed.pos["4"])
    assert torch.equal(method.embed(method.vit, images, 4), expected)


def test_the_convolutional_stem_is_xiaos():
    vit = backbones.create("deit_small", image_size=384)
    for length, strides in ((24, (2, 2, 2, 2)), (16, (2, 2, 2, 3)), (12, (2, 2, 2, 2, 2))):
        stem = stems.conv_stem(vit, length)
        convs = [m for m in stem.modules() if isinstance(m, torch.nn.Conv2d)]
        assert tuple(conv.stride[0] for conv in convs) == (*strides, 1)
        assert [conv.out_channels for conv in convs] == [*[48] * (len(strides) - 3), 96, 192, 384, 384]
        assert stem.grid_size == (length, length)
        if length == 24:
            assert sum(p.numel() for p in stem.parameters()) == 1_021_488
            assert vitlab.gmacs(Alone(stem), torch.zeros(1, 3, 384, 384))[0] == pytest.approx(1.28, abs=0.005)
    with pytest.raises(ValueError, match="choose lengths from 12, 16, 24, 32, 48$"):
        stems.conv_stem(vit, 10)


class Alone(torch.nn.Module):
    """A stem as something that can be counted."""

    adaptive = False

    def __init__(self, stem):
        super().__init__()
        self.stem = stem

    def forward(self, images, point=None):
        return self.stem(images)


# Training (Eq. 1, Algorithm 1)

@pytest.mark.parametrize(("knobs", "expected"), [
    ({}, [["ce_7"], ["ce_5", "kl_5"], ["ce_4", "kl_4"]]),
    ({"lambda_": 0.0}, [["ce_7"], ["ce_5"], ["ce_4"]]),
    ({"lambda_": 1.0, "teacher": "hard"}, [["ce_7"], ["hard_5"], ["hard_4"]]),
    (PAPER, [["ce_7"], ["ce_5", "kl_5", "feat_5", "attn_5"], ["ce_4", "kl_4", "feat_4", "attn_4"]]),
])
def test_the_largest_length_comes_first_and_teaches(knobs, expected):
    terms = micro(**knobs).losses(pictures(2), torch.tensor([0, 1]))
    assert [list(part) for part in terms] == expected


def test_a_shorter_length_learns_by_equation_1():
    method, images, labels = micro(tau=2.0, lambda_=0.3), pictures(4), torch.arange(4)
    _, part, _ = method.losses(images, labels)
    student, teacher = method.at(images, 5), method.at(images, 7).detach()
    p = (teacher / 2).softmax(-1)
    divergence = (p * (p.log() - (student / 2).log_softmax(-1))).sum(1).mean()
    torch.testing.assert_close(part["ce_5"], 0.7 * F.cross_entropy(student, labels))
    torch.testing.assert_close(part["kl_5"], 0.3 * 4 * divergence)
    gradient = torch.autograd.grad(part["kl_5"], method.vit.pos_embed, allow_unused=True)[0]
    assert gradient is None                                                # the teacher's own position table


@torch.no_grad()
def test_the_distillation_token_learns_by_kl_and_answers_with_the_class_token():
    method, images = micro(dist_token="deit").eval(), pictures(3)
    cls, dist = method.logits(method.run(images, 5)[0], 5)
    torch.testing.assert_close(method(images, Point(5)), (cls + dist) / 2)
    said, lesson = method.answer(images, 5), method.answer(images, 7)
    before = method.distillation.terms(said, lesson, torch.arange(3))
    after = method.distillation.terms(said | {"dist": said["dist"] + torch.randn(3, 10)}, lesson, torch.arange(3))
    assert before["ce"] == after["ce"]
    assert before["kl"] != after["kl"]
    assert method.no_weight_decay() >= {"embed.dist_token", "embed.pos.5", "vit.pos_embed", "vit.cls_token"}


def test_transfers_are_zero_for_a_teacher_that_agrees():
    features, attention = torch.randn(2, 8, 4, 4), torch.rand(2, 4, 4)
    double = torch.nn.Upsample(scale_factor=2)
    assert feature_transfer(features, 3 * double(features)) < 1e-6         # the scale of a patch does not count
    assert attention_transfer(attention, 5 * double(attention[:, None])[:, 0]) < 1e-6
    assert feature_transfer(features, torch.randn(2, 8, 7, 7)) > 0.5
    assert attention_transfer(attention, torch.rand(2, 7, 7)) > 0.01
    assert attention_transfer(torch.zeros(1, 4, 4), torch.rand(1, 7, 7)).isfinite()


def test_gradients_pass_by_pass_are_those_of_the_sum():
    method, images, labels = micro(**PAPER), pictures(3), torch.arange(3)
    for part in method.losses(images, labels):
        sum(part.values()).backward()
    each = [p.grad.clone() for p in method.parameters()]
    method.zero_grad()
    sum(sum(part.values()) for part in method.losses(images, labels)).backward()
    for one, p in zip(each, method.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad, rtol=1e-5, atol=1e-7)


def test_nan_in_a_length_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    method = micro()
    torch.nn.init.constant_(method.embed.pos["4"], float("nan"))
    with pytest.raises(FloatingPointError, match="loss ce_4 became nan at step 1"):
        vitlab.fit(method, vitlab.data.shapes("val", n=20), vitlab.Recipe(steps=1, batch=4))


# Inference at assigned lengths

@pytest.mark.parametrize("cards", [[0, 1, 2, 2, 1, 0, 0], [2, 2], [1], [0, 2, 0, 0]], ids=str)
@torch.no_grad()
def test_grouping_changes_no_answer(cards):
    method, images = dealt(cards)
    trace = vitlab.Trace()
    logits = method(images, None, trace)
    lengths = [(4, 5, 7)[card] for card in cards]
    alone = torch.cat([method(image[None], Point(n)) for image, n in zip(images, lengths, strict=True)])
    torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(method(images), logits, atol=1e-6, rtol=1e-5)
    assert trace.exit.tolist() == cards
    assert len(trace.layers) == len(method.vit.blocks) * len(set(cards))
    for layer in trace.layers:
        here = torch.tensor(cards) == layer.stage
        assert layer.grid[0] == (4, 5, 7)[layer.stage]
        assert torch.equal(layer.attended.all(1), here)
        assert torch.equal(layer.attended.any(1), here)
    order = torch.randperm(len(cards))
    torch.testing.assert_close(method(images[order]), logits[order], atol=1e-5, rtol=0)


@torch.no_grad()
def test_an_assigned_picture_costs_its_length_and_the_assigner():
    method, images = dealt([0, 1, 2])
    own = vitlab.gmacs(method.assigner, images[:1])[0]
    each = [vitlab.gmacs(method, images[:1], Point(n))[0] for n in (4, 5, 7)]
    assert vitlab.gmacs(method, images) == pytest.approx([cost + own for cost in each], rel=1e-9)
    assert method.cost.tolist() == pytest.approx([cost / each[-1] for cost in each], rel=1e-6)
    assert own < 0.1 * each[0]
    assert vitlab.gmacs(method.assigner, torch.zeros(1, 3, 56, 56))[0] == pytest.approx(0.00044, abs=5e-6)


@torch.no_grad()
def test_a_cost_weight_moves_pictures_to_shorter_lengths():
    method, images = micro().eval(), pictures(12)
    assert not method.adaptive
    method.attach(vitlab.TLA(3, 56).eval())
    method.assigner.net.classifier.bias.copy_(torch.tensor([0.0, 0.3, 0.8]))
    log_p = method.assigner(images).log_softmax(-1)
    seen = []
    for point in method.points[:5]:
        trace = vitlab.Trace()
        method(images, point, trace)
        assert torch.equal(trace.exit, (log_p - point.cost_weight * method.cost).argmax(-1))
        seen.append(vitlab.gmacs(method, images, point).mean())
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    assert method.adaptive
    assert [p.cost_weight for p in method.points[:5]] == [2.0, 1.0, 0.5, 0.25, 0.0]
    assert method.points[5:] == (Point(4), Point(5), Point(7))


@torch.no_grad()
def test_net_and_assigner_are_one_checkpoint(tmp_path):
    method, images = micro().eval(), pictures(4)
    method.attach(vitlab.TLA(3, 56, ("efficientnet_b0", 0.25, 0.5, 32)).eval())
    vitlab.save(method, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert again.made == method.made
    assert again.assigner.architecture == ("efficientnet_b0", 0.25, 0.5, 32)
    assert torch.equal(again.cost, method.cost)
    for point in method.points:
        assert torch.equal(again(images, point), method(images, point))
    answers = vitlab.answers(again, vitlab.data.ImageSet(
        "noise", range(10), torch.arange(4), torch.randint(0, 256, (4, 56, 56, 3), dtype=torch.uint8), 56))
    assert answers.tokens.isin([16, 25, 49]).all()


def test_training_goes_on_without_moving_the_assigner(tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    method = micro()
    method.attach(vitlab.TLA(3, 56))
    before = {name: t.clone() for name, t in method.state_dict().items()}
    vitlab.fit(method, vitlab.data.shapes("val", n=20), vitlab.Recipe(steps=2, batch=4, lr=1e-2))
    moved = {name for name, t in method.state_dict().items() if not torch.equal(t, before[name])}
    assert not [name for name in moved if name.startswith("assigner.")]
    assert len(moved) > 50


# What makes no sense

@pytest.mark.parametrize(("make", "words"), [
    (lambda: micro(lengths=(4, 5, 7)), r"largest, which teaches, first, such as \(14, 10, 7\), not \(4, 5, 7\)"),
    (lambda: micro(lengths=(7, 7, 4)), "lengths must be whole numbers"),
    (lambda: micro(lengths=(7, 4.5)), "lengths must be whole numbers"),
    (lambda: micro(lengths=(7, 0)), "lengths must be whole numbers"),
    (lambda: micro(lengths=(7, 3)), "micro_patch8 cannot cut 56 pixels into 3x3 patches"),
    (lambda: patches(stem="conv", patch="resize"), 'use patch="separate"'),
    (lambda: vitlab.create("revit", "deit_tiny", lengths=(14, 9)), "224 pixels cannot be cut evenly into 9x9 patches"),
    (lambda: vitlab.create("revit", "deit_tiny", lengths=(300, 14)), "cannot be cut evenly into 300x300"),
    (lambda: vitlab.create("revit", "deit_tiny", stem="conv"), "twos and threes, .* 10x10 .*choose lengths from 7, 14, 28$"),
    (lambda: micro(patch="shared_center"), "a shared kernel needs a backbone with plain patches, such as deit_small"),
    (lambda: micro(stem="conv"), "a convolutional stem needs a backbone with plain patches"),
    (lambda: micro(patch="own"), "patch must be one of separate, shared_center, resize, not 'own'"),
    (lambda: micro(positions="none"), "positions must be one of separate, interp, zeropad"),
    (lambda: micro(norm="layer"), "norm must be one of tal, shared"), (lambda: micro(stem="x"), "stem must be one of"),
    (lambda: micro(dist_token="yes"), "dist_token must be one of none, deit"),
    (lambda: micro(tau=0.0), "tau must be a temperature above 0"), (lambda: micro(tau=float("nan")), "tau must be"),
    (lambda: micro(lambda_=1.5), r"lambda_ must be in \[0, 1\]"), (lambda: micro(lambda_=-0.1), "lambda_ must be"),
    (lambda: micro(teacher="both"), "teacher must be soft or hard"),
    (lambda: micro(w_feat=-1.0), "w_feat must be a number"),
    (lambda: micro(w_attn=float("inf")), "w_attn must be a number"),
    (lambda: micro(dist_token="deit", lambda_=0.0), "learns from the teacher alone; give lambda_ above 0"),
    (lambda: micro().attach(vitlab.TLA(2, 56)), r"among 2 lengths .* this net has 3 of 56; make it with TLA\(3, 56\)"),
    (lambda: micro().attach(vitlab.TLA(3, 64)), "3 lengths of 64-pixel pictures"),
    (lambda: micro(assigner=("efficientnet_b0", 0.5, 0.5, 200)), "looks at 16 to 56 pixels per side, not 200"),
    (lambda: micro(assigner=("no_such_net", 1, 1, 32)), "timm has no net called 'no_such_net'"),
    (lambda: micro(assigner=("tinynet_e", 0.5, 1, 32)), "only efficientnet_b0 has width and depth"),
    (lambda: vitlab.TLA(1, 56), "at least two lengths, not 1"),
])
def test_knobs_that_make_no_sense_get_one_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(("point", "words"), [
    (Point(6), r"length 6 was not trained; choose from \(7, 5, 4\)"),
    (Point(None, -1.0), "cost_weight must be a number"), (Point(None, float("nan")), "cost_weight must be a number"),
    (Point(None, 0.5), "this net has none; attach one, or choose a length"),
])
def test_a_point_that_makes_no_sense_gets_one_sentence(point, words):
    with pytest.raises(ValueError, match=words):
        micro().eval()(pictures(1), point)


def test_in_training_a_length_is_stated_and_a_lesson_is_needed():
    method = micro()
    with pytest.raises(ValueError, match=r"in training mode state a length, such as Point\(7\), or call eval"):
        method(pictures(1))
    assert method(pictures(1), Point(5)).shape == (1, 10)
    with pytest.raises(ValueError, match="learns from the largest, which is not among these lengths"):
        list(method.losses(pictures(1), torch.zeros(1, dtype=torch.long), lengths=(5, 4)))
    with pytest.raises(ValueError, match="takes 56x56"):
        next(method.losses(pictures(1, 48), torch.zeros(1, dtype=torch.long)))
