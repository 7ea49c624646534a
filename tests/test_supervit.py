"""SuperViT against its paper: counts, costs, which tokens stay, and what is trained."""
import math

import pytest
import torch
import torch.nn.functional as F
from samples import between, pictures, sharpen

import vitlab
from vitlab.block import attention, attention_logits, mlp, qkv
from vitlab.methods.supervit import Point, highest, resize, resize_patches
from vitlab.tokens import take

TOKENS = {  # incl. the class token: start, after drop 1, 2, 3 (official code)
    (8, 0.5): (65, 34, 18, 10), (8, 0.7): (65, 47, 34, 25), (10, 0.5): (101, 52, 27, 15), (10, 0.7): (101, 72, 52, 38),
    (12, 0.5): (145, 74, 38, 20), (12, 0.7): (145, 103, 74, 53), (14, 0.5): (197, 100, 51, 27), (14, 0.7): (197, 139, 99, 71),
}
TABLE_1 = {(8, 0.5): 0.7, (8, 0.7): 1.0, (8, 1.0): 1.4, (10, 0.5): 1.2, (10, 0.7): 1.5, (10, 1.0): 2.3,
           (12, 0.5): 1.7, (12, 0.7): 2.2, (12, 1.0): 3.3, (14, 0.5): 2.3, (14, 0.7): 3.0, (14, 1.0): 4.6}


@pytest.fixture(scope="module")
def deit_small():
    torch.manual_seed(0)
    return vitlab.create("supervit", "deit_small").eval()


def closed_form(method, point):
    """Multiply-adds / 1e9: patch embedding, 4nD² + 2n²D + 2rn'D² per block, head, and the class rows that rank the tokens."""
    vit, kept = method.vit, method.schedule(point)
    width, hidden, patch = vit.embed_dim, vit.blocks[0].mlp.fc1.out_features, vit.patch_embed.patch_size[0]
    n = point.length ** 2 + 1
    total = point.length ** 2 * 3 * patch ** 2 * width + width * vit.num_classes
    for layer in range(len(vit.blocks)):
        total += 4 * n * width ** 2 + 2 * n ** 2 * width
        if layer in kept:
            total += n * width
            n = kept[layer] + 1
        total += 2 * n * width * hidden
    return total / 1e9


@pytest.mark.parametrize("point", list(TOKENS), ids=str)
@torch.no_grad()
def test_token_counts_are_the_official_ones(small_supervit, point):
    trace = vitlab.Trace()
    small_supervit(pictures(2), Point(*point), trace)
    counts = [layer.fed.sum(1) + 1 for layer in trace.layers]
    assert all(c[0] == c[1] for c in counts)
    assert tuple(dict.fromkeys([point[0] ** 2 + 1, *(int(c[0]) for c in counts)])) == TOKENS[point]


def test_counting_patches_only_gives_the_counts_of_evit():
    method = vitlab.create("supervit", "deit_tiny", count_cls=False)
    assert [n + 1 for n in method.schedule(Point(14, 0.7)).values()] == [139, 98, 69]
    assert [n + 1 for n in method.schedule(Point(8, 0.7)).values()] == [46, 33, 24]


@pytest.mark.parametrize("point", list(TABLE_1), ids=str)
def test_cost_is_table_1_and_the_closed_form(deit_small, point):
    cost = vitlab.gmacs(deit_small, torch.zeros(1, 3, 224, 224), Point(*point))[0]
    assert round(cost, 1) == TABLE_1[point]
    assert cost == pytest.approx(closed_form(deit_small, Point(*point)), rel=1e-6)


@pytest.mark.parametrize("point", [(14, 1.0), (14, 0.7), (8, 0.5)], ids=str)
def test_the_papers_counter_agrees(deit_small, point):
    image = torch.zeros(1, 3, 224, 224)
    audit = vitlab.measure.audit(deit_small, image, Point(*point))
    assert audit["core"] == pytest.approx(vitlab.gmacs(deit_small, image, Point(*point))[0], rel=1e-6)
    assert round(audit["total"], 1) == TABLE_1[point]


@pytest.mark.parametrize(("blocks", "keep", "expected"), [((3, 6, 9), 0.7, 2.7637), ((3, 6, 9), 0.5, 1.9684),
                                                         ((4, 6, 8), 0.7, 2.8281), ((4, 6, 8), 0.5, 2.1183)])
def test_cost_of_other_drop_blocks_is_table_6(blocks, keep, expected):
    method = vitlab.create("supervit", "deit_small", drop_blocks=blocks)
    assert vitlab.gmacs(method, torch.zeros(1, 3, 224, 224), Point(14, keep))[0] == pytest.approx(expected, abs=3e-4)


def test_parameter_counts(deit_small):
    assert vitlab.measure.parameters(deit_small) == 22_170_088
    assert vitlab.measure.parameters(vitlab.create("supervit", "deit_tiny")) == 5_777_128
    assert vitlab.measure.parameters(vitlab.create("supervit", "deit_small", embedding="individual")) == 22_170_088 + 1_835_136


@torch.no_grad()
def test_a_hand_written_official_forward_agrees(small_supervit):
    """Eager attention, full map, argsort, gather: the straightforward reading of the paper."""
    images, point, vit = pictures(3), Point(10, 0.5), small_supervit.vit
    x = small_supervit.patchify(images, 10)
    for layer, block in enumerate(vit.blocks):
        q, k, v = qkv(block, x)
        weights = attention_logits(q, k).softmax(-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + block.attn.proj(y)
        if layer + 1 in small_supervit.drop_blocks:
            keep = math.ceil(point.keep * x.shape[1])
            order = weights.mean(1)[:, 0, 1:].argsort(descending=True)[:, :keep]
            x = torch.cat([x[:, :1], x[:, 1:].gather(1, order[..., None].expand(-1, -1, x.shape[2]))], 1)
        x = x + mlp(block, x)
    torch.testing.assert_close(small_supervit(images, point), vit.forward_head(vit.norm(x)), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_kept_sets_are_nested_and_hold_the_most_attended(small_supervit):
    trace = vitlab.Trace()
    small_supervit(pictures(4), Point(14, 0.5), trace)
    for before, after in zip(trace.layers, trace.layers[1:], strict=False):
        assert not (after.attended & ~before.fed).any()
    for layer in trace.layers:
        dropped = layer.attended & ~layer.fed
        if dropped.any():
            lowest_kept = layer.cls.masked_fill(~layer.fed, 2).amin(1)
            assert (layer.cls.masked_fill(~dropped, -1).amax(1) <= lowest_kept).all()


@torch.no_grad()
def test_masking_the_dropped_tokens_gives_the_same_answer(small_supervit):
    """Real removal equals keeping every token in place and forbidding attention to the dropped ones."""
    images, point = pictures(2), Point(14, 0.5)
    x = small_supervit.patchify(images, 14)
    stay = torch.ones(2, 197, dtype=torch.bool)
    for layer, block in enumerate(small_supervit.vit.blocks):
        q, k, v = qkv(block, x)
        x = x + attention(block, q, k, v, stay[:, None, None])
        if layer + 1 in small_supervit.drop_blocks:
            weights = attention_logits(q, k)[:, :, 0].masked_fill(~stay[:, None], float("-inf")).softmax(-1).mean(1)[:, 1:]
            top = weights.masked_fill(~stay[:, 1:], -1).topk(math.ceil(0.5 * int(stay[0].sum()))).indices
            stay = torch.zeros_like(stay).scatter(1, top + 1, True).index_fill(1, torch.tensor([0]), True)
        x = x + mlp(block, x)
    logits = small_supervit.vit.forward_head(small_supervit.vit.norm(x))
    torch.testing.assert_close(small_supervit(images, point), logits, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_no_state_is_left_by_another_point(small_supervit):
    images = pictures(2)
    before = small_supervit(images, Point(8, 0.5))
    small_supervit(images, Point(14, 1.0))
    assert torch.equal(before, small_supervit(images, Point(8, 0.5)))


@torch.no_grad()
def test_pretrained_style_weights_load_unchanged():
    dense = vitlab.create("dense", "deit_tiny")
    method = vitlab.create("supervit", "deit_tiny")
    method.vit.load_state_dict(dense.vit.state_dict())
    images = pictures(1, 224)
    torch.testing.assert_close(method.eval()(images), dense.eval()(images), atol=1e-6, rtol=0)


def test_resizing_each_patch_is_resizing_the_image_when_patches_grow_by_whole_pixels():
    images = torch.randn(2, 3, 224, 224, dtype=torch.double)
    whole = F.interpolate(images, (128, 128), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resize_patches(images, 128, patch=16), whole)
    assert (resize(images, 128) - whole).abs().max() > 0.1                # aligned corners are something else
    assert resize(images, 224) is images
    with pytest.raises(ValueError, match="10 patches do not divide 224 pixels"):
        resize_patches(images, 160, patch=16)


def test_four_sub_nets_in_the_papers_order():
    method = vitlab.create("supervit", "micro_patch4", num_classes=10)
    seen = set()
    for _ in range(60):
        (largest, rates), (other, other_rates) = method.passes()
        assert largest == 14
        assert other in (8, 10, 12)
        assert rates[0] == other_rates[0] == 1.0
        seen |= {(other, other_rates[1]), (largest, rates[1])}
    assert len(seen) == 8                                                  # every (length, rate below 1) gets its turn
    first, second = (list(part) for part in method.losses(pictures(2), torch.tensor([0, 1])))
    assert first == ["ce_14", "kl_14"]
    assert second[0][:3] == "ce_"
    assert second[1:] == ["kl" + second[0][2:]]


@pytest.mark.parametrize(("knobs", "expected"), [
    ({"subnets": "all"}, ["ce_14", "kl_14", "kl_14", "ce_12", "kl_12", "kl_12",
                          "ce_10", "kl_10", "kl_10", "ce_8", "kl_8", "kl_8"]),
    ({"rates": (1.0,), "lengths": (8, 14)}, ["ce_14", "ce_8"]),
    ({"lengths": (14,)}, ["ce_14", "kl_14"]),
    ({"lengths": (8,), "rates": (0.5,)}, ["ce_8"]),
    ({"objective": "ce", "lengths": (14,)}, ["ce_14", "ce_14"]),
])
def test_switches_of_the_training_step(knobs, expected):
    method = vitlab.create("supervit", "micro_patch4", num_classes=10, **knobs)
    assert [name for part in method.losses(pictures(2), torch.tensor([0, 1])) for name in part] == list(dict.fromkeys(expected))
    method.share_prefix = False
    assert [name for part in method.losses(pictures(2), torch.tensor([0, 1])) for name in part] == expected
    assert not [n for n, p in method.named_parameters() if n.startswith("pos.") and n[4:] not in map(str, method.lengths)]


def test_the_teacher_gets_no_gradient_from_its_student():
    method = vitlab.create("supervit", "micro_patch8", num_classes=10, lengths=(7,), rates=(0.5, 1.0))
    images, labels = pictures(4), torch.arange(4)
    part, = method.losses(images, labels)
    student = method(images, Point(7, 0.5)).log_softmax(-1)
    teacher = method(images, Point(7, 1.0)).softmax(-1).detach()
    expected = (teacher * (teacher.log() - student)).sum(1).mean()
    torch.testing.assert_close(part["kl_7"], expected, atol=1e-6, rtol=1e-4)
    got, want = (torch.autograd.grad(loss, method.vit.head.weight)[0] for loss in (part["kl_7"], expected))
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["low", "80_20", "random", "high"])
@torch.no_grad()
def test_token_types_keep_as_many_but_other_tokens(kind):
    method = sharpen(vitlab.create("supervit", "micro_patch4", num_classes=10, token_type=kind)).eval()
    trace = vitlab.Trace()
    method(pictures(2), Point(14, 0.5), trace)
    drop = next(layer for layer in trace.layers if (layer.attended & ~layer.fed).any())
    assert drop.fed.sum(1).tolist() == [99, 99]
    rank = drop.cls.argsort(1, descending=True).argsort(1)
    top = (rank < 19) & drop.fed                                           # a fifth of the 97 that go
    expected = {"low": 19, "80_20": 0, "high": 0}.get(kind)
    assert expected is None or top.sum(1).tolist() == [expected] * 2
    if kind == "random":
        assert 3 < top.sum(1).float().mean() < 17
    assert highest(torch.tensor([[3.0, 1.0, 2.0]]), 1).tolist() == [[1]]


@pytest.mark.parametrize(("knobs", "words"), [
    ({"lengths": (14, 8)}, "ascending"), ({"lengths": (8, 8)}, "ascending"), ({"rates": ()}, "rates must be"),
    ({"rates": (0.0, 1.0)}, "rates must be"), ({"rates": (1.2,)}, "rates must be"), ({"rates": (float("nan"),)}, "rates must be"),
    ({"drop_blocks": (0, 3)}, "from 1 to 6"), ({"drop_blocks": (3, 2)}, "ascending block numbers"),
    ({"drop_blocks": (7,)}, "from 1 to 6"),
    ({"subnets": "five"}, "subnets must be one of four, all"), ({"token_type": "best"}, "token_type must be one of"),
    ({"align": "patch"}, "lengths that divide 56 pixels"), ({"embedding": "none"}, "embedding must be one of"),
])
def test_knobs_that_make_no_sense_get_one_sentence(knobs, words):
    with pytest.raises(ValueError, match=words):
        vitlab.create("supervit", "micro_patch4", num_classes=10, **knobs)


@pytest.mark.parametrize(("point", "words"), [
    (Point(9, 1.0), r"length 9 was not trained; choose from \(8, 10, 12, 14\)"), (Point(14, 0.0), r"keep must be in \(0, 1\]"),
    (Point(14, 1.01), "keep must be in"), (Point(14, -0.5), "keep must be in"), (Point(14, float("nan")), "keep must be in"),
])
def test_a_point_that_was_not_trained_gets_one_sentence(small_supervit, point, words):
    with pytest.raises(ValueError, match=words):
        small_supervit(pictures(1), point)


@torch.no_grad()
def test_an_untrained_keep_rate_runs_down_to_one_patch(small_supervit):
    trace = vitlab.Trace()
    assert small_supervit(pictures(2), Point(8, 0.001), trace).isfinite().all()
    assert trace.layers[-1].fed.sum(1).tolist() == [1, 1]


def test_weight_decay_leaves_positions_and_class_token_alone():
    method = vitlab.create("supervit", "micro_patch4", num_classes=10)
    assert method.no_weight_decay() == {"vit.pos_embed", "vit.cls_token", "pos.8", "pos.10", "pos.12"}
    assert method.no_weight_decay() <= {name for name, _ in method.named_parameters()}


@torch.no_grad()
def test_early_exit_answers_as_its_stages_do(small_supervit):
    images = pictures(6)
    cascade = vitlab.EarlyExit(small_supervit, (Point(8, 0.5), Point(14, 0.7))).eval()
    first, second = (small_supervit(images, p) for p in cascade.stages)
    confidence = first.softmax(-1).amax(-1)
    threshold = between(confidence)
    trace = vitlab.Trace()
    logits = cascade(images, cascade.Point(threshold), trace)
    early = confidence >= threshold
    assert 0 < early.sum() < 6
    torch.testing.assert_close(logits, torch.where(early[:, None], first, second), atol=1e-5, rtol=1e-5)
    assert trace.exit.tolist() == (~early).long().tolist()
    assert len(trace.layers) == 12
    assert torch.equal(trace.layers[-1].fed.any(1), ~early)
    assert torch.equal(cascade(images, cascade.Point(0.0)), first)
    assert torch.equal(cascade(images, cascade.Point(1.0)), second)
    cost = vitlab.gmacs(cascade, images, cascade.Point(threshold))
    cheap, dear = (vitlab.gmacs(small_supervit, images[:1], p)[0] for p in cascade.stages)
    assert cost == pytest.approx([cheap if e else cheap + dear for e in early.tolist()], rel=1e-9)
    with pytest.raises(ValueError, match="at least two stages"):
        vitlab.EarlyExit(small_supervit, (Point(8, 0.5),))
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\]"):
        cascade(images, cascade.Point(1.5))


def test_the_embedding_of_a_small_length_is_a_linear_map_of_the_picture():
    """Resizing then embedding is one linear patch embedding of the larger patches: the reason why sharing it works."""
    method = vitlab.create("supervit", "deit_tiny", align="image").double()
    a, b = pictures(1, 224).double(), pictures(1, 224).double()
    zero = method.patchify(torch.zeros_like(a), 8)
    torch.testing.assert_close(method.patchify(a + b, 8) - zero, method.patchify(a, 8) + method.patchify(b, 8) - 2 * zero)
    assert not torch.equal(take(zero, torch.tensor([[0, 1]])), take(zero, torch.tensor([[0, 2]])))
