"""Backbones are timm's own; what is asked wrongly is answered in one sentence."""
import pytest
import timm
import torch
from samples import pictures

import vitlab
from vitlab import backbones


@pytest.mark.parametrize(("name", "size", "count"), [("deit_tiny", 224, 5_717_416), ("deit_small", 224, 22_050_664)])
@torch.no_grad()
def test_dense_is_the_untouched_timm_model(name, size, count):
    method = vitlab.create("dense", name).eval()
    timm_model = timm.create_model(backbones.TIMM_NAMES[name]).eval()
    timm_model.load_state_dict(method.vit.state_dict())
    images = pictures(2, size)
    torch.testing.assert_close(method(images), timm_model(images), atol=1e-6, rtol=0)
    assert vitlab.measure.parameters(method) == count


@pytest.mark.parametrize(("name", "tokens"), [("micro_patch8", 49), ("micro_patch4", 196)])
def test_the_small_nets_are_plain_timm_models_with_sine_cosine_positions(name, tokens):
    vit = backbones.create(name, num_classes=10)
    assert vit.patch_embed.num_patches == tokens
    images = pictures(2)
    with torch.no_grad():
        assert torch.equal(vitlab.Dense(vit.eval())(images), vit(images))
    similarity = torch.cosine_similarity(vit.pos_embed[0, 1], vit.pos_embed[0, 1:], dim=-1)
    assert similarity[1] > similarity[5]                                  # a neighbour looks more alike than a far patch


@pytest.mark.parametrize(("call", "words"), [
    (lambda: backbones.create("deit_huge"), "no backbone is called 'deit_huge'"),
    (lambda: backbones.create("swin_tiny_patch4_window7_224"), "not a plain ViT"),
    (lambda: backbones.create("micro_patch4", pretrained=True), "no pretrained weights"),
    (lambda: vitlab.create("supervitt", "deit_small"), "no method is called 'supervitt'"),
    (lambda: vitlab.create("supervit", "micro_patch4", keep=0.5), "no knob 'keep'"),
    (lambda: vitlab.create("dense", "micro_patch4", num_classes=0), "num_classes must be at least 1"),
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
