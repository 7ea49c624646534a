"""Backbones are timm's own; what is asked wrongly is answered in one sentence."""
import pytest
import timm
import torch
from samples import pictures

import vitlab
from vitlab import backbones
from vitlab.backbones import by_the_book
from vitlab.block import attention_logits, qkv
from vitlab.methods.spvit import similarity


@pytest.mark.parametrize(("name", "size", "count"), [("deit_tiny", 224, 5_717_416), ("deit_small", 224, 22_050_664)])
@torch.no_grad()
def test_dense_is_the_untouched_timm_model(name, size, count):
    method = vitlab.create("dense", name).eval()
    timm_model = timm.create_model(backbones.TIMM_NAMES[name]).eval()
    timm_model.load_state_dict(method.vit.state_dict())
    images = pictures(2, size)
    torch.testing.assert_close(method(images), timm_model(images), atol=1e-6, rtol=0)
    assert vitlab.measure.parameters(method) == count


@pytest.mark.parametrize(("name", "tokens"), [("micro_patch8", 49), ("micro_patch4", 196), ("micro_plain8", 49),
                                                ("micro_patch8_gap", 49), ("micro_patch4_gap", 196), ("micro_plain8_gap", 49)])
def test_the_small_nets_are_plain_timm_models_with_sine_cosine_positions(name, tokens):
    vit = backbones.create(name, num_classes=10)
    assert vit.patch_embed.num_patches == tokens
    images = pictures(2)
    with torch.no_grad():
        with by_the_book():
            assert torch.equal(vitlab.Dense(vit.eval())(images), vit(images))
    places = vit.pos_embed[0, vit.num_prefix_tokens:]
    similarity = torch.cosine_similarity(places[0], places, dim=-1)
    assert len(places) == tokens and similarity[1] > similarity[5]        # a neighbour looks more alike than a far patch


T2T = [                                                     # parameters, and GFLOPs at 7, 10 and 14 patches per side
    ("t2t_vit_7", 4_310_222, (0.3344, 0.6060, 1.1565)), ("t2t_vit_10", 5_889_230, (0.4172, 0.7813, 1.5274)),
    ("t2t_vit_12", 6_941_902, (0.4725, 0.8982, 1.7748)), ("t2t_vit_14", 21_545_550, (1.2065, 2.4047, 4.8003)),
    ("t2t_vit_19", 39_177_422, (2.1002, 4.2421, 8.5027)), ("t2t_vit_24", 64_105_934, (3.3619, 6.8296, 13.6924)),
]


@pytest.mark.parametrize(("name", "count", "costs"), T2T)
def test_t2t_vit_has_the_papers_parameters_and_costs(name, count, costs):
    image = torch.zeros(1, 3, 224, 224)
    for side, cost in zip((7, 10, 14), costs):
        net = vitlab.create("dense", name, grid=side).eval()
        assert vitlab.measure.audit(net, image)["total"] == pytest.approx(cost, abs=1e-4)
    assert vitlab.measure.parameters(net) == count
    assert not net.vit.pos_embed.requires_grad


@torch.no_grad()
def test_the_performer_is_attention_with_random_features():
    """What it computes in linear time is an ordinary weighted mean with weights phi(q) phi(k)."""
    performer, x = backbones.t2t.Performer(27).eval(), torch.randn(2, 30, 27)
    k, q, v = performer.kqv(performer.norm1(x)).chunk(3, -1)
    weights = performer.feature(q) @ performer.feature(k).mT
    y = v + performer.proj(weights / (weights.sum(-1, keepdim=True) + 1e-8) @ v)         # the code's 1e-8 is not negligible
    torch.testing.assert_close(performer(x), y + performer.mlp(performer.norm2(y)), atol=1e-5, rtol=1e-4)
    axes = performer.w / 32 ** 0.5
    torch.testing.assert_close(axes @ axes.T, torch.eye(32), atol=1e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert performer(10 * x).isfinite().all()


@pytest.mark.parametrize(("name", "size", "sides"), [
    ("deit_tiny", 224, (4, 7, 10, 14)), ("t2t_vit_7", 224, (4, 7, 10, 14)), ("t2t_vit_7", 112, (7, 10, 14)),
    ("micro_patch8", 56, (4, 5, 6, 7, 10, 14)), ("micro_patch4", 56, (4, 5, 6, 7, 10, 14)),
    ("micro_plain8", 56, (4, 5, 6, 7, 14)),
])
@torch.no_grad()
def test_a_backbone_can_have_another_grid(name, size, sides):
    vit = backbones.create(name, 10, size)
    for side in sides:
        other = backbones.sibling(vit, side).eval()
        images = pictures(1, size)
        assert other.patch_embed(images).shape == (1, side * side, vit.embed_dim)
        assert backbones.grid(other) == side
        with by_the_book():
            assert torch.equal(vitlab.Dense(other)(images), other(images))
    if name != "t2t_vit_7":
        costs = [vitlab.gmacs(vitlab.Dense(backbones.sibling(vit, side)), images)[0] for side in sides]
        assert costs == sorted(costs)


@torch.no_grad()
@pytest.mark.parametrize("name", ("deit_tiny_gap", "vit_medium_patch16_gap_240"))
def test_a_net_without_class_token_is_timms_and_says_where_its_patches_look(name):
    net = vitlab.create("dense", name, num_classes=5, image_size=64).eval()
    images, trace = pictures(2, 64), vitlab.Trace()
    with by_the_book():
        assert torch.equal(net(images, None, trace), net.vit(images))
    weights = trace.layers[0].cls
    q, k, _ = qkv(net.vit.blocks[0], backbones.embed(net.vit, images))
    torch.testing.assert_close(weights, attention_logits(q, k).softmax(-1).mean((1, 2)))
    assert trace.layers[0].extra.tolist() == [0, 0]


@torch.no_grad()
def test_the_mean_of_the_patches_leaves_out_what_is_not_to_be_read():
    vit = backbones.create("micro_patch8_gap", num_classes=5).eval()
    x, valid = torch.randn(2, 49, 64), torch.rand(2, 49) > 0.5
    read = torch.stack([vit.head(vit.norm(tokens[there]).mean(0)) for tokens, there in zip(x, valid)])
    torch.testing.assert_close(backbones.head(vit, x, valid), read)
    assert torch.equal(backbones.head(vit, x), vit.forward_head(vit.norm(x)))


@pytest.mark.parametrize("method", ("supervit", "dvt", "revit", "svit", "adaptive_depth"))
def test_the_methods_that_read_a_class_token_refuse_a_net_without_one(method):
    with pytest.raises(ValueError, match="has no class token: dense, spvit and tome alone run such a net"):
        vitlab.create(method, "micro_patch8_gap", num_classes=5)


def test_what_needs_a_class_token_says_so():
    net = vitlab.create("dense", "micro_patch8_gap", num_classes=10)
    with pytest.raises(ValueError, match="has no class token"):
        similarity.by_layer(net, vitlab.data.shapes("val", n=12))
    with pytest.raises(ValueError, match="has no class token"):
        vitlab.Dense(net.vit, 32)
    with pytest.raises(ValueError, match="micro_patch8_gap has no pretrained weights"):
        vitlab.create("dense", "micro_patch8_gap", pretrained=True)
    with pytest.raises(ValueError, match="deit_tiny_gap has no pretrained weights"):
        vitlab.create("dense", "deit_tiny_gap", pretrained=True)


def test_a_distilled_deit_has_a_register_beside_its_class_token():
    vit = backbones.create("deit_tiny_distilled", num_classes=10, grid=7)
    assert (vit.num_prefix_tokens, vit.reg_token.shape, vit.pos_embed.shape) == (2, (1, 1, 192), (1, 2 + 49, 192))
    assert backbones.sibling(vit, 14).pos_embed.shape == (1, 198, 192)
    with pytest.raises(ValueError, match="deit_tiny_distilled has no pretrained weights"):
        vitlab.create("dense", "deit_tiny_distilled", pretrained=True)


def test_plain_patches_of_the_small_net_keep_their_positions_at_any_grid():
    vit = backbones.create("micro_plain8", 10, grid=5)
    proj, table = vit.patch_embed.proj, vit.pos_embed
    assert (proj.kernel_size, proj.stride, proj.padding) == ((12, 12), (12, 12), (2, 2))
    similarity = torch.cosine_similarity(table[0, 1], table[0, 1:], dim=-1)
    assert similarity[1] > similarity[4]


def test_deit_at_ten_by_ten_sees_the_picture_padded_by_three():
    proj = backbones.create("deit_small", grid=10).patch_embed.proj
    assert (proj.kernel_size, proj.stride, proj.padding) == ((23, 23), (23, 23), (3, 3))


@torch.no_grad()
def test_weights_that_were_learned_are_resampled_for_another_grid(monkeypatch):
    made = timm.create_model("deit_tiny_patch16_224", num_classes=10)
    monkeypatch.setattr("timm.create_model", lambda *a, **k: made)
    kernel, table = made.patch_embed.proj.weight.clone(), made.pos_embed.clone()
    vit = backbones.create("deit_tiny", 10, pretrained=True, grid=7)
    flat = torch.full((1, 3, 224, 224), 0.5)                # of an even picture, every patch embeds as it did
    before = torch.nn.functional.conv2d(flat, kernel, made.patch_embed.proj.bias, 16)[0, :, 0, 0]
    torch.testing.assert_close(vit.patch_embed(flat)[0, 0], before, atol=0.05, rtol=0.1)
    torch.testing.assert_close(vit.pos_embed[:, 0], table[:, 0])


@pytest.mark.parametrize(("call", "words"), [
    (lambda: backbones.create("deit_tiny", grid=9), "cannot be cut evenly into 9x9"),
    (lambda: backbones.create("micro_patch8", grid=9), "cannot cut 56 pixels into 9x9 patches; choose a grid from 4, 5, 6, 7"),
    (lambda: backbones.create("t2t_vit_7", grid=100), "a T2T stem cannot cut 224 pixels into 100x100"),
    (lambda: backbones.create("t2t_vit_12", pretrained=True), "no pretrained weights on the hub"),
    (lambda: backbones.create("deit_huge"), "no backbone is called 'deit_huge'"),
    (lambda: backbones.create("swin_tiny_patch4_window7_224"), "not a plain ViT"),
    (lambda: backbones.create("micro_patch4", pretrained=True), "no pretrained weights"),
    (lambda: vitlab.create("supervitt", "deit_small"), "method must be one of dense, .*, not 'supervitt'"),
    (lambda: vitlab.create("supervit", "micro_patch4", keep=0.5), "no knob 'keep'"),
    (lambda: vitlab.create("dense", "micro_patch4", num_classes=0), "num_classes must be a whole number of at least 1"),
])
def test_what_does_not_exist_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_pretrained_weights_without_a_network_get_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match=r"deit_tiny_patch16_224 are not cached and the hub cannot be reached"):
        vitlab.create("supervit", "deit_tiny", pretrained=True)


@pytest.mark.parametrize(("images", "words"), [
    (torch.zeros(3, 56, 56), r"add the batch axis"),
    (torch.zeros(1, 1, 56, 56), r"images must be a tensor \[B, 3, 56, 56\]"),
    ([[1, 2]], "not list"),
    (torch.zeros(1, 3, 56, 56, dtype=torch.uint8), "normalised floats"),
    (torch.zeros(0, 3, 56, 56), "holds no image"),
    (torch.zeros(1, 3, 48, 56), "takes 56x56"),
    (torch.full((1, 3, 56, 56), float("nan")), "NaN or infinite"),
])
@pytest.mark.parametrize("method", ["dense", "supervit"])
def test_bad_images_get_one_sentence(method, images, words):
    with pytest.raises(ValueError, match=words):
        vitlab.create(method, "micro_patch8", num_classes=10)(images)
