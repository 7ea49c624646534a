"""PiT: timm's own net, driven stage by stage."""
import pytest
import timm
import torch
from samples import pictures
from torch.export import Dim

import vitlab
from vitlab import attribution, backbones
from vitlab.backbones import by_the_book
from vitlab.block import attention, mlp, qkv

# parameters; GFLOPs with and without LayerNorm; width of the first stage
NETS = {"pit_tiny": (4_847_272, 0.7020, 0.6991, 64), "pit_xsmall": (10_618_888, 1.3991, 1.3947, 96),
        "pit_small": (23_461_912, 2.8775, 2.8708, 144)}


@pytest.fixture
def net():
    """Dense on the smallest, with 6x6, 3x3 and 2x2 patches."""
    return vitlab.create("dense", "pit_tiny", num_classes=10, image_size=56).eval()


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_dense_is_the_untouched_timm_model(name):
    dense, timm_model = vitlab.create("dense", name).eval(), timm.create_model(backbones.TIMM_NAMES[name]).eval()
    timm_model.load_state_dict(dense.vit.state_dict())
    images = pictures(2, 224)
    with by_the_book():
        assert torch.equal(dense(images), timm_model(images))
    assert vitlab.measure.parameters(dense) == NETS[name][0]


@pytest.mark.parametrize("name", NETS)
def test_costs_are_the_papers_and_the_closed_form(name):
    dense, image, (_, with_norms, without, width) = vitlab.create("dense", name).eval(), torch.zeros(1, 3, 224, 224), NETS[name]
    audit, cost = vitlab.measure.audit(dense, image), vitlab.gmacs(dense, image)[0]
    assert audit["total"] == pytest.approx(with_norms, abs=6e-5)
    assert (audit["core"], cost) == (pytest.approx(cost, rel=1e-6), pytest.approx(without, abs=6e-5))
    stages = [blocks * (12 * n * d ** 2 + 2 * n ** 2 * d) for blocks, n, d in
              ((2, 730, width), (6, 197, 2 * width), (4, 50, 4 * width))]
    pools = sum(9 * side ** 2 * 2 * d + 2 * d ** 2 for side, d in ((14, width), (7, 2 * width)))
    assert cost == pytest.approx((27 ** 2 * 3 * 256 * width + sum(stages) + pools + 4 * width * 1000) / 1e9, rel=1e-6)


@torch.no_grad()
def test_a_trace_has_each_stages_grid(net):
    images, trace = pictures(2), vitlab.Trace()
    with by_the_book():
        assert torch.equal(net(images, None, trace), net(images))
    assert [part.layer for part in trace.layers] == list(range(12))
    assert [part.grid[0] for part in trace.layers] == [6] * 2 + [3] * 6 + [2] * 4
    for part in trace.layers:
        assert part.attended.all()
        assert part.fed.shape == part.cls.shape == (2, part.grid[0] ** 2)
        assert (part.cls.sum(1) < 1).all()
    assert vitlab.measure.layers(trace).groupby("layer").fed.first().tolist() == [36] * 2 + [9] * 6 + [4] * 4


@torch.no_grad()
def test_packages_go_the_class_tokens_way(net):
    """Between two stages, tokens in front of the patches go through its linear layer; the patches do not notice them."""
    _, second, third = backbones.stages(net.vit)
    assert [stage.side for stage in backbones.stages(net.vit)] == [6, 3, 2]
    assert [list(stage.blocks) for stage in (second, third)] == [list(range(2, 8)), list(range(8, 12))]
    x = torch.randn(2, 1 + 36, 64)
    pooled = backbones.pool(second, x, 6)
    assert pooled.shape == (2, 1 + 9, 128)
    torch.testing.assert_close(pooled[:, 0], second.pooling.fc(x[:, 0]))
    conv = second.pooling.conv(x[:, 1:].mT.reshape(2, 64, 6, 6))
    torch.testing.assert_close(pooled[:, 1:], conv.flatten(2).mT)
    packages = torch.randn(2, 3, 64)
    wide = backbones.pool(second, torch.cat([x[:, :1], packages, x[:, 1:]], 1), 6, extra=4)
    torch.testing.assert_close(wide[:, [0, *range(4, 13)]], pooled)
    torch.testing.assert_close(wide[:, 1:4], second.pooling.fc(packages))


@torch.no_grad()
def test_a_plain_vit_is_one_stage():
    vit, x = backbones.create("micro_patch8", 10), torch.randn(1, 50, 64)
    (stage,) = backbones.stages(vit)
    assert (stage.side, list(stage.blocks), [*stage.blocks.values()]) == (7, [0, 1, 2, 3], [*vit.blocks])
    assert backbones.pool(stage, x, 7) is x


@torch.no_grad()
def test_driven_by_hand_it_answers_the_same(net):
    images = pictures(3)
    x, side = backbones.embed(net.vit, images), backbones.grid(net.vit)
    for stage in backbones.stages(net.vit):
        x, side = backbones.pool(stage, x, side), stage.side
        for block in stage.blocks.values():
            x = x + attention(block, *qkv(block, x))
            x = x + mlp(block, x)
    with by_the_book():
        assert torch.equal(backbones.head(net.vit, x), net(images))


def test_it_learns_with_all_it_has(net):
    net.train()
    for part in net.losses(pictures(2), torch.tensor([1, 2])):
        sum(part.values()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@torch.no_grad()
def test_saved_and_loaded_it_answers_the_same(net, tmp_path):
    vitlab.save(net, tmp_path / "net.safetensors")
    again, images = vitlab.load(tmp_path / "net.safetensors"), pictures(2)
    assert torch.equal(again(images), net(images))
    assert again.made == net.made


def test_it_is_trained_measured_and_explained(net, tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    data = vitlab.data.shapes("val", n=20)
    vitlab.fit(net, data, vitlab.Recipe(steps=1, batch=4))
    net.eval()
    answers = vitlab.answers(net, data)
    assert answers.tokens.eq(4).all()
    assert answers.gmacs.nunique() == 1
    frame = vitlab.measure.focus(net, data)
    assert sorted(frame.layer.unique()) == list(range(1, 13))
    image, mean = data.images([0])[0], torch.zeros(3, 56, 56)
    heat = attribution.integrated(net, image, target=3, steps=16)
    assert heat.shape == attribution.patches(net, image, target=3).shape == (6, 6)
    with torch.no_grad():
        said = net(torch.stack([image, mean]))[:, 3]
    assert heat.sum().item() == pytest.approx((said[0] - said[1]).item(), abs=0.02 * said.abs().max().item())


@torch.no_grad()
def test_it_is_exported_for_any_number_of_pictures(net):
    for part in net.vit.transformers:
        part.blocks = part.blocks[:1]                                      # quicker to trace
    program = torch.export.export(net, (pictures(3),), dynamic_shapes=({0: Dim("batch")},)).module()
    for count in (1, 5):
        images = pictures(count)
        torch.testing.assert_close(program(images), net(images), atol=1e-6, rtol=0)


def test_drop_path_and_weight_decay_are_timms():
    net = vitlab.create("dense", "pit_tiny", num_classes=10, image_size=56, drop_path=0.11)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for part in net.vit.transformers for block in part.blocks]
    assert rates == pytest.approx([0.01 * n for n in range(12)])
    assert net.vit.no_weight_decay() == {"pos_embed", "cls_token"}


@pytest.mark.parametrize(("call", "words"), [
    *((lambda name=name: vitlab.create(name, "pit_small", 10), "is a PiT, whose patch grid shrinks: dense and spvit alone run it")
      for name in ("supervit", "dvt", "adaptive_depth", "revit")),
    (lambda: vitlab.create("dense", "pit_small", grid=10), "grids of its own, 27, 14, 7 patches per side for 224 pixels"),
    (lambda: vitlab.create("dense", "pit_small", image_size=100), "which do not fill 100 pixels; choose image_size=96 or 104"),
    (lambda: vitlab.create("dense", "pit_small", image_size=9), "do not fill 9 pixels; choose image_size=16$"),
    (lambda: vitlab.create("dense", "pit_b_224", image_size=57), "patches of 14 pixels, 7 apart, .* image_size=56 or 63"),
    (lambda: vitlab.create("dense", "pit_s_distilled_224"), "is a PiT with a distillation token"),
    (lambda: vitlab.create("dense", "pit_small", image_size=56, pretrained=True), "weights for pictures of 224 pixels only"),
    (lambda: vitlab.Dense(timm.create_model("pit_ti_224", num_classes=0)), "says it has 0 classes"),
    (lambda: vitlab.Dense(timm.create_model("pit_ti_224", in_chans=1)), "not made for square pictures of 3 channels"),
    (lambda: vitlab.Dense(timm.create_model("pit_ti_224", img_size=(56, 64))), "not made for square pictures"),
])
def test_what_cannot_be_had_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_pretrained_weights_are_timms(monkeypatch):
    made, asked = timm.create_model("pit_ti_224", num_classes=10), []
    monkeypatch.setattr("timm.create_model", lambda *a, **k: asked.append((a, k)) or made)
    net = vitlab.create("dense", "pit_tiny", 10, pretrained=True)
    assert (net.vit, asked[0][0], asked[0][1]["pretrained"]) == (made, ("pit_ti_224",), True)
    assert net.made["preprocessing"]["crop"] == 0.9
