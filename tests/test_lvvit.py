"""LV-ViT: the official net's names, sizes and costs; two heads of which one looks at the patches that are there."""
import pytest
import torch
import torch.nn.functional as F
from samples import pictures, sharpen
from torch.export import Dim

import vitlab
from vitlab import backbones
from vitlab.block import attention, mlp, qkv
from vitlab.methods.revit import Point as Length
from vitlab.methods.supervit import Point

# width, blocks, divisor, parameters, GFLOPs with and without the second head
NETS = {"lvvit_tiny": (240, 12, 1, 8_534_720, 2.8680, 2.8210), "lvvit_small": (384, 16, 2, 26_151_824, 6.5515, 6.4762),
        "lvvit_medium": (512, 20, 2, 55_830_544, 12.6780, 12.5780)}
SMALL = {  # SuperViT's Table 1 (G), and the count without and with the second head to four digits
    (8, 0.5): (1.1, 1.1117, 1.1151), (8, 0.7): (1.4, 1.3927, 1.4019), (8, 1.0): (2.0, 2.0270, 2.0516),
    (10, 0.5): (1.7, 1.7318, 1.7372), (10, 0.7): (2.2, 2.1706, 2.1848), (10, 1.0): (3.3, 3.1980, 3.2364),
    (12, 0.5): (2.5, 2.4925, 2.4998), (12, 0.7): (3.2, 3.1334, 3.1534), (12, 1.0): (4.7, 4.6724, 4.7277),
    (14, 0.5): (3.4, 3.4215, 3.4315), (14, 0.7): (4.3, 4.2925, 4.3194), (14, 1.0): (6.6, 6.4762, 6.5515)}
TINY = {(8, 0.5): 0.6483, (8, 0.7): 0.7277, (8, 1.0): 0.8927, (10, 0.5): 1.0155, (10, 0.7): 1.1408, (10, 1.0): 1.4115,
        (12, 0.5): 1.4707, (12, 0.7): 1.6559, (12, 1.0): 2.0659, (14, 0.5): 2.0225, (14, 0.7): 2.2773, (14, 1.0): 2.8680}
IMAGE = torch.zeros(1, 3, 224, 224)


@pytest.fixture
def little(monkeypatch):
    """`lvvit_tiny` of two narrow blocks and a thin stem, divided by 2 as the larger ones are."""
    monkeypatch.setitem(backbones.lvvit.SHAPES, "lvvit_tiny", (48, 2, 4, 2))
    monkeypatch.setattr(backbones.lvvit, "CHANNELS", 8)


@pytest.fixture(scope="module")
def supervits():
    torch.manual_seed(0)
    return {name: vitlab.create("supervit", name).eval() for name in ("lvvit_tiny", "lvvit_small")}


def official(width, depth, classes=1000, channels=64):
    """Names and shapes of the official code's state dict, written down from it."""
    yield from (("cls_token", (1, 1, width)), ("pos_embed", (1, 197, width)))
    for number, shape in ((1, (channels, 3, 7, 7)), (2, (channels, channels, 3, 3)), (3, (channels, channels, 3, 3))):
        yield f"patch_embed.conv{number}.weight", shape
        yield from ((f"patch_embed.bn{number}.{name}", (channels,)) for name in ("weight", "bias", "running_mean", "running_var"))
        yield f"patch_embed.bn{number}.num_batches_tracked", ()
    yield from (("patch_embed.proj.weight", (width, channels, 8, 8)), ("patch_embed.proj.bias", (width,)))
    for block in (f"blocks.{i}." for i in range(depth)):
        yield from ((f"{block}{norm}.{name}", (width,)) for norm in ("norm1", "norm2") for name in ("weight", "bias"))
        yield f"{block}attn.qkv.weight", (3 * width, width)
        for layer, out, into in (("attn.proj", width, width), ("mlp.fc1", 3 * width, width), ("mlp.fc2", width, 3 * width)):
            yield from ((f"{block}{layer}.weight", (out, into)), (f"{block}{layer}.bias", (out,)))
    yield from (("norm.weight", (width,)), ("norm.bias", (width,)))
    for head in ("head", "aux_head"):
        yield from ((f"{head}.weight", (classes, width)), (f"{head}.bias", (classes,)))


def official_answer(tensors, images, depth, heads, divisor):
    """The official forward in evaluation, written over a state dict alone."""
    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-5)

    def linear(x, name):
        return F.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    x = images
    for number, stride, padding in ((1, 2, 3), (2, 1, 1), (3, 1, 1)):
        bn = f"patch_embed.bn{number}"
        x = F.conv2d(x, tensors[f"patch_embed.conv{number}.weight"], None, stride, padding)
        x = F.batch_norm(x, *(tensors[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))).relu()
    x = F.conv2d(x, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], 8).flatten(2).mT
    x = torch.cat([tensors["cls_token"].expand(len(x), -1, -1), x], 1) + tensors["pos_embed"]
    for block in (f"blocks.{i}." for i in range(depth)):
        q, k, v = linear(norm(x, block + "norm1"), block + "attn.qkv").unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        weights = ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), block + "attn.proj") / divisor
        x = x + linear(F.gelu(linear(norm(x, block + "norm2"), block + "mlp.fc1")), block + "mlp.fc2") / divisor
    x = norm(x, "norm")
    return linear(x[:, 0], "head") + 0.5 * linear(x[:, 1:], "aux_head").max(1)[0]


# The official net

@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_an_official_state_dict_loads_as_it_is(name):
    width, depth, *_ = NETS[name]
    with torch.device("meta"):
        vit, tensors = backbones.lvvit.lvvit(name, 1000), {key: torch.empty(shape) for key, shape in official(width, depth)}
    vit.load_state_dict(tensors, strict=True, assign=True)
    assert vitlab.measure.parameters(vit) == NETS[name][3]


@torch.no_grad()
def test_loaded_it_answers_as_the_official_code(monkeypatch):
    monkeypatch.setitem(backbones.lvvit.SHAPES, "lvvit_tiny", (48, 3, 4, 2))
    tensors = {key: torch.randn(shape) / max(shape[-1:] or (1,)) ** 0.5 if shape else torch.tensor(7)
               for key, shape in official(48, 3, classes=5)}
    tensors |= {key: tensor.abs() + 0.5 for key, tensor in tensors.items() if key.endswith("running_var")}
    net, images = vitlab.create("dense", "lvvit_tiny", num_classes=5).eval(), pictures(2, 224)
    net.vit.load_state_dict(tensors, strict=True)
    torch.testing.assert_close(net(images), official_answer(tensors, images, 3, 4, 2), atol=1e-4, rtol=1e-4)


def test_the_medium_nets_costs_are_the_papers_too():
    with torch.device("meta"):
        net = vitlab.SuperViT(backbones.lvvit.lvvit("lvvit_medium", 1000)).eval()
        for keep, cost in ((1.0, 12.678), (0.7, 7.391), (0.5, 5.367)):
            assert vitlab.gmacs(net, torch.zeros(1, 3, 224, 224), Point(14, keep))[0] == pytest.approx(cost, abs=6e-4)


@pytest.mark.parametrize("name", ["lvvit_tiny", "lvvit_small"])
@torch.no_grad()
def test_dense_has_the_papers_parameters_and_costs(name):
    width, depth, divisor, count, with_head, without = NETS[name]
    net = vitlab.create("dense", name).eval()
    vit, audit = net.vit, vitlab.measure.audit(net, IMAGE)
    assert (vitlab.measure.parameters(net), len(vit.blocks), vit.embed_dim) == (count, depth, width)
    assert {getattr(block.ls1, "divisor", 1) for block in vit.blocks} == {divisor}
    assert (vit.norm.eps, vit.blocks[0].norm1.eps, vit.blocks[0].attn.qkv.bias) == (1e-5, 1e-5, None)
    assert vitlab.gmacs(net, IMAGE)[0] == pytest.approx(with_head, abs=6e-5)
    assert vitlab.gmacs(net, IMAGE)[0] - 196 * width * 1000 / 1e9 == pytest.approx(without, abs=3e-4)
    assert audit["core"] == pytest.approx(with_head, abs=6e-5)
    if name == "lvvit_small":
        assert audit["total"] == pytest.approx(6.5688, abs=6e-5)


def test_initial_weights_are_the_official_ones(little):
    vit = backbones.create("lvvit_tiny", num_classes=2000)
    for tensor in (vit.head.weight, vit.aux_head.weight, vit.blocks[0].mlp.fc1.weight, vit.pos_embed):
        assert tensor.std().item() == pytest.approx(0.02, rel=0.05)
    assert 0.01 < vit.cls_token.std() < 0.03
    assert vit.aux_head.bias.eq(0).all()


# Two heads

def patch_part(vit, x):
    """The best of each class among the patches of one picture: [n, D] -> [K]."""
    return 0.5 * vit.aux_head(vit.norm(x)).max(0).values


@torch.no_grad()
def test_padding_never_wins_and_never_matters(little):
    vit = backbones.create("lvvit_tiny", num_classes=10).eval()
    x, counts = torch.randn(3, 9, 48), (8, 3, 0)
    valid = torch.arange(9) <= torch.tensor(counts)[:, None]
    x[~valid] *= 1e4
    logits = backbones.head(vit, x, valid)
    for row, count in enumerate(counts):
        cls = vit.head(vit.norm(x[row, 0]))
        torch.testing.assert_close(logits[row], cls + patch_part(vit, x[row, 1:count + 1]) if count else cls)
        if count:
            torch.testing.assert_close(backbones.head(vit, x[row:row + 1, :count + 1])[0], logits[row])
    x[~valid] = float("nan")
    assert torch.equal(backbones.head(vit, x, valid), logits)
    plain = backbones.create("micro_patch8", num_classes=10).eval()        # a class token alone answers: padding is nothing to it
    x = torch.randn(2, 5, 64)
    assert torch.equal(backbones.head(plain, x, torch.tensor([[True, False] + [True] * 3] * 2)), backbones.head(plain, x))


def test_padding_gets_no_gradient(little):
    vit = backbones.create("lvvit_tiny", num_classes=10)
    x = torch.randn(2, 6, 48, requires_grad=True)
    valid = torch.tensor([[True] * 6, [True] + [False] * 5])
    backbones.head(vit, x, valid).sum().backward()
    assert x.grad[~valid].eq(0).all()
    assert x.grad[0].abs().sum(1).gt(0).sum() > 1
    assert vit.aux_head.weight.grad.isfinite().all()


@torch.no_grad()
def test_the_patches_answer_only_while_they_are_there(little):
    method = sharpen(vitlab.create("supervit", "lvvit_tiny", num_classes=10, image_size=112, drop_blocks=(1,))).eval()
    images, trace = pictures(2, 112), vitlab.Trace()
    logits, x, vit = method(images, Point(7, 0.5), trace), method.patchify(images, 7), method.vit
    kept = trace.layers[0].fed
    for row in range(2):
        mine = x[row:row + 1]
        for layer, block in enumerate(vit.blocks):
            mine = mine + attention(block, *qkv(block, mine))
            mine = mine[:, torch.cat([torch.tensor([True]), kept[row]])] if layer == 0 else mine
            mine = mine + mlp(block, mine)
        answer = vit.head(vit.norm(mine[0, 0])) + 0.5 * patch_part(vit, mine[0, 1:])       # SuperViT's code has a quarter
        torch.testing.assert_close(logits[row], answer, atol=1e-5, rtol=1e-4)


def test_other_classes_change_both_heads(little):
    vit = backbones.create("lvvit_tiny", num_classes=10)
    vit.reset_classifier(3)
    backbones.check_backbone(vit)
    assert vit.eval()(pictures(1, 224)).shape == (1, 3)
    vit.aux_head = torch.nn.Linear(48, 4)
    with pytest.raises(ValueError, match="it has 3 classes but its head is .*out_features=4"):
        vitlab.Dense(vit)


# The methods on it

def closed_form(method, length, kept=()):
    """Multiply-adds / 1e9 of `length` x `length` patches: stem, 4nD² + 2n²D + 6n'D² per block, both heads, the ranking rows.

    kept: drop block (0-based) -> patches left.
    """
    vit, kept, half = method.vit, dict(kept), method.pixels(length) // 2 if hasattr(method, "pixels") else 112
    width, n = vit.embed_dim, length ** 2 + 1
    total = half ** 2 * 64 * (3 * 49 + 2 * 64 * 9) + length ** 2 * (-(-half // length)) ** 2 * 64 * width
    for layer in range(len(vit.blocks)):
        total += 4 * n * width ** 2 + 2 * n ** 2 * width
        if layer in kept:
            total += n * width
            n = kept[layer] + 1
        total += 6 * n * width ** 2
    return (total + n * width * vit.num_classes) / 1e9


@pytest.mark.parametrize("point", list(SMALL), ids=str)
def test_supervits_costs_are_table_1(supervits, point):
    method, (paper, without, with_head) = supervits["lvvit_small"], SMALL[point]
    cost, kept = vitlab.gmacs(method, IMAGE, Point(*point))[0], method.schedule(Point(*point))
    left = list(kept.values())[-1] if kept else point[0] ** 2
    assert cost == pytest.approx(closed_form(method, point[0], kept), rel=1e-6)
    assert cost == pytest.approx(with_head, abs=3e-4)                      # the rows that rank the tokens are not in the spec's
    assert cost - left * 384 * 1000 / 1e9 == pytest.approx(without, abs=3e-4)
    assert abs(cost - paper) < 0.07                                        # the paper's own counts agree with no single rule
    tiny = vitlab.gmacs(supervits["lvvit_tiny"], IMAGE, Point(*point))[0]
    assert tiny == pytest.approx(TINY[point], abs=2e-4)
    assert point != (14, 1.0) or (round(cost, 1), round(tiny, 1)) == (6.6, 2.9)


def test_the_papers_counter_agrees(supervits):
    method, point = supervits["lvvit_small"], Point(14, 0.7)
    audit = vitlab.measure.audit(method, IMAGE, point)
    assert audit["core"] == pytest.approx(vitlab.gmacs(method, IMAGE, point)[0], rel=1e-6)


def test_supervits_parameters_and_drop_blocks_are_the_papers(supervits):
    assert {name: vitlab.measure.parameters(method) for name, method in supervits.items()} == {
        "lvvit_tiny": 8_609_360, "lvvit_small": 26_271_248}
    with torch.device("meta"):
        medium = vitlab.SuperViT(backbones.lvvit.lvvit("lvvit_medium", 10))
    assert [method.drop_blocks for method in (*supervits.values(), medium)] == [(4, 7, 10)] * 3
    assert vitlab.create("supervit", "micro_patch8", num_classes=10).drop_blocks == (2, 3, 4)


@pytest.mark.parametrize("name", ["lvvit_tiny", "lvvit_small"])
def test_revit_has_stem_positions_and_norms_for_each_length(name):
    method, (width, depth, _, count, *_) = vitlab.create("revit", name).eval(), NETS[name]
    for length, patch in ((10, 12), (7, 16)):
        assert method.embed.stems[str(length)].proj.kernel_size == (patch, patch)
        stem = 64 * (3 * 49 + 2 * 9 * 64 + 3 * 2) + (64 * patch ** 2 + 1) * width
        count += stem + (length ** 2 + 1) * width + (2 * depth + 1) * 2 * width
    assert vitlab.measure.parameters(method) == count
    for length in (14, 10, 7):
        assert vitlab.gmacs(method, IMAGE, Length(length))[0] == pytest.approx(closed_form(method, length), rel=1e-6)


@torch.no_grad()
def test_revit_starts_from_a_dense_nets_weights(little):
    method, plain = (make("lvvit_tiny", num_classes=10, image_size=112) for make in (
        lambda *a, **k: vitlab.create("revit", *a, **k), backbones.create))
    plain.patch_embed.bn2.running_mean.normal_()
    method.init_from(plain)
    images = pictures(2, 112)
    assert torch.equal(method.eval()(images), plain.eval()(images))
    short = method.embed.stems["5"]
    assert torch.equal(short.bn2.running_mean, plain.patch_embed.bn2.running_mean)
    even = short(torch.full((1, 3, 112, 112), 0.3))[0, 12], plain.patch_embed(torch.full((1, 3, 112, 112), 0.3))[0, 24]
    torch.testing.assert_close(*even, atol=0.02, rtol=0.1)                 # resampled kernels see the same flat picture


@torch.no_grad()
def test_a_distillation_token_is_no_patch(little):
    method = vitlab.create("revit", "lvvit_tiny", num_classes=10, image_size=112, dist_token="deit").eval()
    x, _, _ = method.run(pictures(1, 112), 4)
    cls, dist = method.logits(x, 4)
    vit, normed = method.vit, method.vit.norm(x)[0]
    torch.testing.assert_close(cls[0], vit.head(normed[0]) + 0.5 * vit.aux_head(normed[2:]).max(0).values)
    torch.testing.assert_close(dist[0], method.head_dist(normed[1]))


# Sizes, grids, saving, exporting

@pytest.mark.parametrize(("size", "grid"), [(64, None), (112, None), (224, 10), (224, 7), (56, 4)])
@torch.no_grad()
def test_other_sizes_and_grids_work(little, size, grid):
    net, images = vitlab.create("dense", "lvvit_tiny", num_classes=10, image_size=size, grid=grid).eval(), pictures(2, size)
    trace = vitlab.Trace()
    assert torch.equal(net(images, None, trace), net.vit(images))
    assert trace.layers[0].grid == (grid or size // 16,) * 2


@pytest.mark.parametrize(("call", "words"), [
    (lambda: backbones.create("lvvit_small", pretrained=True), "lvvit_small has no pretrained weights on the hub"),
    (lambda: backbones.create("lvvit_tiny", image_size=100), "patches of 16 pixels, .* choose image_size=96 or 112"),
    (lambda: backbones.create("lvvit_tiny", grid=9), "cannot cut 224 pixels evenly into 9x9 patches; .* such as 14"),
    (lambda: backbones.create("lvvit_tiny", grid=100), "cannot cut 224 pixels evenly into 100x100"),
    (lambda: backbones.create("lvvit"), "no backbone is called 'lvvit'; .*lvvit_tiny, lvvit_small, lvvit_medium"),
])
def test_what_cannot_be_made_gets_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_dropped_paths_are_divided_alike(little):
    net = vitlab.create("dense", "lvvit_tiny", num_classes=10, drop_path=0.5)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in net.vit.blocks]
    assert rates == [0.0, 0.5]
    block, x = net.vit.blocks[1].train(), torch.randn(64, 5, 48)
    update = mlp(block, x)
    gone = update.flatten(1).eq(0).all(1)
    assert 10 < gone.sum() < 54
    torch.testing.assert_close(update[~gone], block.mlp(block.norm2(x))[~gone] / 2 / 0.5)


@torch.no_grad()
def test_saved_statistics_come_back(little, tmp_path):
    net, images = vitlab.create("dense", "lvvit_tiny", num_classes=10, image_size=64), pictures(4, 64)
    net.train()(images)                                                    # moves the stem's statistics
    vitlab.save(net.eval(), tmp_path / "net.safetensors")
    assert torch.equal(vitlab.load(tmp_path / "net.safetensors")(images), net(images))
    assert not net.vit.patch_embed.bn1.running_mean.eq(0).all()


def test_it_trains_but_not_on_single_pictures(little, tmp_path, monkeypatch):
    monkeypatch.setenv("VITLAB_DATA", str(tmp_path))
    data, net = vitlab.data.shapes("val", n=20, size=64), vitlab.create("dense", "lvvit_tiny", num_classes=10, image_size=64)
    with pytest.raises(ValueError, match="has BatchNorm, which learns from the images of a batch together"):
        vitlab.fit(net, data, vitlab.Recipe(steps=1, batch=1))
    before = net.vit.aux_head.weight.clone()
    vitlab.fit(net, data, vitlab.Recipe(steps=2, batch=4, lr=1e-2))
    assert not torch.equal(net.vit.aux_head.weight, before)


@torch.no_grad()
def test_it_is_exported_for_any_number_of_pictures(little):
    net = vitlab.create("dense", "lvvit_tiny", num_classes=10, image_size=64).eval()
    program = torch.export.export(net, (pictures(3, 64),), dynamic_shapes=({0: Dim("batch")},)).module()
    for count in (1, 2, 5):
        images = pictures(count, 64)
        torch.testing.assert_close(program(images), net(images), atol=1e-6, rtol=0)
