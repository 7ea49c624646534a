"""Released state dicts: the official code's names and shapes, written down from it, and its forward over a state dict alone.

Nothing here is taken from `vitlab.official.names`; sizes are small where the official code's rule for names is the same.
"""
from argparse import Namespace
from functools import partial
from itertools import chain
from math import prod

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from samples import pictures
from test_lvvit import official as lvvit_shapes
from test_lvvit import official_answer as lvvit_answer
from torch import nn

import vitlab
from vitlab import backbones, official
from vitlab.methods.supervit import Point

WIDTH, DEPTH, HEADS, CLASSES = 24, 4, 2, 5              # of the small nets


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """DeiT, T2T-ViT-12 and LV-ViT of four narrow blocks."""
    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **told: real(
        name, **told, **({"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS} if name.startswith("deit_") else {})))
    monkeypatch.setitem(backbones.t2t.SHAPES, "t2t_vit_12", (WIDTH, DEPTH, HEADS, 2))
    monkeypatch.setitem(backbones.lvvit.SHAPES, "lvvit_small", (WIDTH, DEPTH, HEADS, 2))


# Names and shapes of the official code

def both(name, *shape):
    """A layer's weight, and the bias that is as long as its first axis."""
    return (f"{name}.weight", shape), (f"{name}.bias", shape[:1])


def block(name, ratio=4, bias=True, more=0):
    """timm's block of 2021, in the code of DeiT, SuperViT, DVT, T2T-ViT and SPViT; more: channels that DVT's MLP reuses."""
    width = WIDTH
    qkv = both(f"{name}.attn.qkv", 3 * width, width)
    yield from chain(both(f"{name}.norm1", width), qkv if bias else qkv[:1], both(f"{name}.attn.proj", width, width),
                     both(f"{name}.norm2", width + more), both(f"{name}.mlp.fc1", ratio * width, width + more),
                     both(f"{name}.mlp.fc2", width, ratio * width))
    if more:                                                               # spelt so in the code
        yield from chain(both(f"{name}.feature_resuse_mlp.0", width), both(f"{name}.feature_resuse_mlp.1.fc1", 128, width),
                         both(f"{name}.feature_resuse_mlp.1.fc2", 48, 128))


def deit(prefix="", patch=16, tokens=197, more=0):
    """models.py of DeiT, models_deit.py of DVT."""
    yield from ((f"{prefix}cls_token", (1, 1, WIDTH)), (f"{prefix}pos_embed", (1, tokens, WIDTH)))
    yield from both(f"{prefix}patch_embed.proj", WIDTH, 3, patch, patch)
    yield from chain.from_iterable(block(f"{prefix}blocks.{i}", more=more) for i in range(DEPTH))
    yield from chain(both(f"{prefix}norm", WIDTH), both(f"{prefix}head", CLASSES, WIDTH))


def distilled():
    yield from deit(tokens=198)
    yield from chain([("dist_token", (1, 1, WIDTH))], both("head_dist", CLASSES, WIDTH))


def t2t(prefix="", kernel=7, tokens=197, more=0):
    """models/t2t_vit.py and token_performer.py of T2T-ViT and DVT."""
    yield from ((f"{prefix}cls_token", (1, 1, WIDTH)), (f"{prefix}pos_embed", (1, tokens, WIDTH)))
    for number, width in ((1, 3 * kernel ** 2), (2, 64 * 9)):
        name = f"{prefix}tokens_to_token.attention{number}"
        yield from chain([(f"{name}.w", (32, 64))], both(f"{name}.kqv", 192, width), both(f"{name}.proj", 64, 64),
                         both(f"{name}.norm1", width), both(f"{name}.norm2", 64), both(f"{name}.mlp.0", 64, 64),
                         both(f"{name}.mlp.2", 64, 64))
    yield from both(f"{prefix}tokens_to_token.project", WIDTH, 64 * 9)
    yield from chain.from_iterable(block(f"{prefix}blocks.{i}", ratio=2, bias=False, more=more) for i in range(DEPTH))
    yield from chain(both(f"{prefix}norm", WIDTH), both(f"{prefix}head", CLASSES, WIDTH))


def lvvit():
    return lvvit_shapes(WIDTH, DEPTH, classes=CLASSES)


def supervit(plain):
    """super_deit.py, super_lvvit.py: the backbone's, but for a list of position tables, of 128, 160, 192 and 224 pixels."""
    yield from ((name, shape) for name, shape in plain if name != "pos_embed")
    yield from ((f"pos_embed_list.{k}", (1, side ** 2 + 1, WIDTH)) for k, side in enumerate((8, 10, 12, 14)))


def dvt(stage, patches):
    """The cascade of three; the later two reuse features and relations."""
    channels = HEADS * DEPTH
    for number, (name, tokens) in enumerate((("less_less_token", 50), ("less_token", 101), ("normal_token", 197))):
        yield from stage(f"{name}.", patches[number], tokens, 48 if number else 0)
        if number:
            yield from chain(both(f"{name}.relation_reuse_conv.0", 3 * channels, channels, 1, 1),
                             both(f"{name}.relation_reuse_conv.2", channels, 3 * channels, 1, 1))


def spvit(plain, branch=True):
    """vit_l2_3keep_senet.py, lvvit_l2_3keep_senet.py; without `branch` vit_l2_3keep.py. Each head lists the shared selector."""
    yield from plain
    d = WIDTH // HEADS
    for name in (f"score_predictor.{s}" for s in range(3)):
        if branch:
            yield from chain(both(f"{name}.senet.0", HEADS // 2, HEADS), both(f"{name}.senet.2", HEADS, HEADS // 2))
        for head in range(HEADS):
            yield from chain(both(f"{name}.in_conv.{head}.0", d), both(f"{name}.in_conv.{head}.1", d, d),
                             both(f"{name}.out_conv.{head}.0", d // 2, d), both(f"{name}.out_conv.{head}.2", d // 4, d // 2),
                             both(f"{name}.out_conv.{head}.4", 2, d // 4))


def svit():
    """selective_vit.py: torch's own encoder layers, whose names torch gives, and a gate before each but the first quarter."""
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH)
    yield from ((name, shape) for name, shape in deit() if not name.startswith("blocks."))
    for i in range(DEPTH):
        yield from ((f"blocks.{i}.TransformerEncoderLayer.{name}", tuple(tensor.shape))
                    for name, tensor in layer.state_dict().items())
    for gate in (f"selective_modules.{g}" for g in range(DEPTH - DEPTH // 4)):
        yield from chain(both(f"{gate}.norm", WIDTH), both(f"{gate}.mlp.fc1", WIDTH // 4, WIDTH),
                         both(f"{gate}.mlp.fc2", 2, WIDTH // 4))


REUSED = {"reuse_hidden": 128, "reuse_dim": 48}         # the code's constants, which nets as narrow as these do not have
RELEASED = {    # method, backbone, knobs, names and shapes
    "deit": ("dense", "deit_small", {}, deit),
    "deit distilled": ("dense", "deit_small_distilled", {}, distilled),
    "t2t": ("dense", "t2t_vit_12", {}, t2t),
    "lvvit": ("dense", "lvvit_small", {}, lvvit),
    "supervit deit": ("supervit", "deit_small", {}, lambda: supervit(deit())),
    "supervit lvvit": ("supervit", "lvvit_small", {}, lambda: supervit(lvvit())),
    "dvt deit": ("dvt", "deit_small", REUSED, lambda: dvt(deit, (32, 23, 16))),
    "dvt t2t": ("dvt", "t2t_vit_12", REUSED, lambda: dvt(t2t, (14, 11, 7))),
    "spvit deit": ("spvit", "deit_tiny", {}, lambda: spvit(deit())),
    "spvit deit without branch": ("spvit", "deit_small", {}, lambda: spvit(deit(), branch=False)),
    "spvit lvvit": ("spvit", "lvvit_small", {}, lambda: spvit(lvvit())),
    "svit": ("svit", "deit_small", {}, svit),
}


def filled(shapes):
    """Random tensors, no two alike, with which a net answers in moderate numbers; shared ones are one."""
    found = {}
    for name, shape in shapes:
        if name.endswith("num_batches_tracked"):
            found[name] = torch.tensor(len(found))
        elif name.endswith("pos_embed") or "pos_embed_list" in name or name.endswith("_token"):
            found[name] = torch.randn(shape)
        elif len(shape) == 1:
            found[name] = torch.rand(shape) + 0.5 if name.endswith(("weight", "running_var")) else 0.3 * torch.randn(shape)
        else:
            found[name] = torch.randn(shape) * (2 / prod(shape[1:])) ** 0.5
    for name in found:
        part = name.split(".")
        if part[0] == "score_predictor" and part[2] in ("in_conv", "out_conv"):
            found[name] = found[".".join([*part[:3], "0", *part[4:]])]
    return found


@pytest.fixture
def release(tmp_path):
    """A released file of a kind: (method, backbone, knobs, its tensors, its path)."""
    def write(kind, wrap=lambda tensors: {"model": tensors}):
        torch.manual_seed(1)
        method, backbone, knobs, shapes = RELEASED[kind]
        tensors = filled(shapes())
        torch.save(wrap(tensors), tmp_path / "released.pth")
        return method, backbone, knobs, tensors, tmp_path / "released.pth"
    return write


def opened(released):
    method, backbone, knobs, tensors, path = released
    return official.load(method, path, backbone, **knobs), tensors


@pytest.mark.parametrize("kind", RELEASED)
def test_every_tensor_of_a_released_file_lands_once(release, kind):
    net, tensors = opened(release(kind))
    assert not net.training and net.made["num_classes"] == CLASSES
    there = [t for name, t in tensors.items() if not name.startswith("head_dist")]
    heads = {id(t): t for t in there}.values()                             # one selector that all heads list is one
    mine = sorted((tuple(t.shape), t.double().sum().item()) for t in net.state_dict().values())
    assert mine == sorted((tuple(t.shape), t.double().sum().item()) for t in heads)


def test_a_net_that_was_read_is_saved_and_opened_again(release, tmp_path):
    net, _ = opened(release("svit"))
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in net.state_dict().items())


REAL = {        # width, blocks, heads, and how many numbers the official code was found to have
    "deit": (384, 12, 6, 22_050_664), "deit distilled": (384, 12, 6, 22_436_432), "t2t": (256, 12, 4, 6_941_902),
    "lvvit": (384, 16, 6, 26_151_824), "supervit deit": (384, 12, 6, 22_170_088), "dvt deit": (384, 12, 6, 70_442_232),
    "dvt t2t": (256, 12, 4, 22_461_516), "spvit deit": (192, 12, 3, 5_738_236),
    "spvit deit without branch": (384, 12, 6, 22_071_454), "spvit lvvit": (384, 16, 6, 26_172_749),
    "svit": (384, 12, 6, 22_391_962),
}


@pytest.mark.parametrize("kind", REAL)
def test_at_their_real_sizes_the_names_shapes_and_counts_are_the_same(kind, monkeypatch):
    monkeypatch.undo()
    width, depth, heads, count = REAL[kind]
    for name, value in (("WIDTH", width), ("DEPTH", depth), ("HEADS", heads), ("CLASSES", 1000)):
        monkeypatch.setattr(f"{__name__}.{name}", value)
    method, backbone, _, shapes = RELEASED[kind]
    with torch.device("cpu" if method == "dvt" else "meta"):               # DVT looks at the weights that it widens
        net = vitlab.create(method, backbone, **official.names.as_released(method, dict(shapes())))
    theirs = {name: shape for name, shape in shapes()
              if not official.names.repeated(method, net, name) and not name.startswith("head_dist")}
    assert {official.names.official(method, net, name): tuple(t.shape) for name, t in net.state_dict().items()} == theirs
    counted = {name: shape for name, shape in shapes() if name in theirs or name.startswith("head_dist")}
    assert sum(prod(shape) for name, shape in counted.items() if ".bn" not in name or "weight" in name or "bias" in name) == count


# The official forward over a state dict

class Forward:
    """What the official code computes, of tensors by name."""

    def __init__(self, tensors, eps=1e-6):
        self.tensors, self.eps = tensors, eps

    def linear(self, x, name):
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, x, name, eps=None):
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], eps or self.eps)

    def attention(self, x, name, bias=0.0, scale=None):
        qkv = self.linear(self.norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        q, k, v = qkv.unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        logits = q @ k.mT * (scale or q.shape[-1] ** -0.5) + bias
        return x + self.linear((logits.softmax(-1) @ v).transpose(1, 2).flatten(2), f"{name}.attn.proj"), logits

    def mlp(self, x, name, reused=None):
        y = x if reused is None else torch.cat([x, reused], 2)
        return x + self.linear(F.gelu(self.linear(self.norm(y, f"{name}.norm2"), f"{name}.mlp.fc1")), f"{name}.mlp.fc2")

    def embed(self, images, prefix="", patch=16, padding=0, positions="pos_embed", extra=()):
        t = self.tensors
        x = F.conv2d(images, t[f"{prefix}patch_embed.proj.weight"], t[f"{prefix}patch_embed.proj.bias"], patch, padding)
        first = [t[f"{prefix}{name}"].expand(len(images), -1, -1) for name in ("cls_token", *extra)]
        return torch.cat([*first, x.flatten(2).mT], 1) + t[f"{prefix}{positions}"]

    def performer(self, x, name):
        k, q, v = self.linear(self.norm(x, f"{name}.norm1", 1e-5), f"{name}.kqv").split(64, -1)
        k, q = (torch.exp(u @ self.tensors[f"{name}.w"].T - (u * u).sum(-1, keepdim=True) / 2) / 32 ** 0.5 for u in (k, q))
        total = torch.einsum("bti,bi->bt", q, k.sum(1))[..., None]
        y = torch.einsum("bti,bni->btn", q, torch.einsum("bin,bim->bnm", v, k)) / (total + 1e-8)
        y = v + self.linear(y, f"{name}.proj")
        return y + self.linear(F.gelu(self.linear(self.norm(y, f"{name}.norm2", 1e-5), f"{name}.mlp.0")), f"{name}.mlp.2")

    def t2t(self, images, prefix="", cut=(7, 4, 2)):
        x, name = images, f"{prefix}tokens_to_token"
        for number, (kernel, stride, padding) in ((1, cut), (2, (3, 2, 1))):
            x = self.performer(F.unfold(x, kernel, 1, padding, stride).mT, f"{name}.attention{number}").mT
            x = x.unflatten(2, (int(x.shape[2] ** 0.5),) * 2)
        x = self.linear(F.unfold(x, 3, 1, 1, 2).mT, f"{name}.project")
        return torch.cat([self.tensors[f"{prefix}cls_token"].expand(len(x), -1, -1), x], 1) + self.tensors[f"{prefix}pos_embed"]

    def blocks(self, x, scale=None):
        for i in range(DEPTH):
            x = self.mlp(self.attention(x, f"blocks.{i}", scale=scale)[0], f"blocks.{i}")
        return x

    def answer(self, x, prefix=""):
        return self.linear(self.norm(x, f"{prefix}norm")[:, 0], f"{prefix}head")

    def stage(self, x, prefix, sides, up):
        """One model of a cascade: logits, its tokens after the last block, its attention logits."""
        old, new = sides
        bias, reused, relations = [0.0] * DEPTH, [None] * DEPTH, []
        if up is not None:
            low = torch.cat(up[1], 1)
            for layer, gelu in ((0, True), (2, False)):
                weight, shift = (self.tensors[f"{prefix}relation_reuse_conv.{layer}.{part}"] for part in ("weight", "bias"))
                low = F.conv2d(low, weight, shift)
                low = F.gelu(low) if gelu else low
            rows = self.enlarged(low, old, new)                            # keys, then queries
            bias = self.enlarged(rows.mT, old, new).mT.chunk(DEPTH, 1)
            for i in range(DEPTH):
                name = f"{prefix}blocks.{i}.feature_resuse_mlp"
                e = self.linear(F.gelu(self.linear(self.norm(up[0], f"{name}.0"), f"{name}.1.fc1")), f"{name}.1.fc2")
                e = self.enlarged(e.mT, old, new).mT
                reused[i] = torch.cat([torch.zeros_like(e[:, :1]), e[:, 1:]], 1)
        for i in range(DEPTH):
            x, logits = self.attention(x, f"{prefix}blocks.{i}", bias[i])
            x = self.mlp(x, f"{prefix}blocks.{i}", reused[i])
            relations.append(logits)
        return self.answer(x, prefix), (x, relations)

    def enlarged(self, x, old, new):
        """The last axis, a class entry and a grid, on a finer grid: nearest to the code's size, then average pooling."""
        cells = x[..., 1:].reshape(-1, 1, old, old)
        cells = F.adaptive_avg_pool2d(F.interpolate(cells, {7: (14, 14), 10: (20, 20)}[old], mode="nearest"), (new, new))
        return torch.cat([x[..., :1], cells.reshape(*x.shape[:-1], -1)], -1)


close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["deit", "deit distilled"])
@torch.no_grad()
def test_deit_answers_as_its_code(release, kind):
    net, tensors = opened(release(kind))
    theirs, images = Forward(tensors), pictures(2, 224)
    close(net(images), theirs.answer(theirs.blocks(theirs.embed(images, extra=("dist_token",) if "dist" in kind else ()))))


@pytest.mark.parametrize("scale", [None, WIDTH ** -0.5])
@torch.no_grad()
def test_t2t_vit_answers_as_its_code_with_either_of_its_scales(release, scale):
    method, backbone, knobs, tensors, path = release("t2t")
    theirs, images = Forward(tensors, eps=1e-5), pictures(2, 224)
    truth = theirs.answer(theirs.blocks(theirs.t2t(images), scale))
    close(official.load(method, path, backbone, qk_scale=scale)(images), truth)
    other = official.load(method, path, backbone, qk_scale=None if scale else WIDTH ** -0.5)(images)
    assert (other - truth).abs().max() > 0.01


@torch.no_grad()
def test_lv_vit_answers_as_its_code(release):
    net, tensors = opened(release("lvvit"))
    images = pictures(2, 224)
    close(net(images), lvvit_answer(tensors, images, DEPTH, HEADS, 2))


@torch.no_grad()
def test_supervit_answers_as_its_code_at_a_length_and_a_keep_rate(release):
    net, tensors = opened(release("supervit deit"))
    net.drop_blocks, theirs, images = (2, 3), Forward(tensors), pictures(2, 224)
    x = F.interpolate(images, (160, 160), mode="bilinear", align_corners=True)
    x = theirs.embed(x, positions="pos_embed_list.1")
    for i in range(DEPTH):
        x, logits = theirs.attention(x, f"blocks.{i}")
        if i + 1 in net.drop_blocks:
            count = -(-x.shape[1] // 2)                                    # half of all tokens, the class token too, rounded up
            best = logits.softmax(-1).mean(1)[:, 0, 1:].argsort(1, descending=True)[:, :count] + 1
            x = torch.stack([torch.cat([one[:1], one[rows]]) for one, rows in zip(x, best)])
        x = theirs.mlp(x, f"blocks.{i}")
    close(net(images, Point(10, 0.5)), theirs.answer(x))


@torch.no_grad()
def test_supervit_on_lv_vit_reads_each_lengths_table_and_half_the_second_head(release):
    net, tensors = opened(release("supervit lvvit"))
    assert net.vit.aux_weight == 0.25
    for length, number in ((8, 0), (10, 1), (12, 2)):
        assert torch.equal(net.pos[str(length)], tensors[f"pos_embed_list.{number}"])
    net.vit.aux_weight, images = 0.5, pictures(2, 224)
    whole = tensors | {"pos_embed": tensors["pos_embed_list.3"]}
    close(net(images, Point(14, 1.0)), lvvit_answer(whole, images, DEPTH, HEADS, 2))


@pytest.mark.parametrize("backbone", ["deit", "t2t"])
@torch.no_grad()
def test_every_exit_of_a_cascade_answers_as_its_code(release, backbone):
    net, tensors = opened(release(f"dvt {backbone}"))
    theirs, images, up = Forward(tensors, 1e-6 if backbone == "deit" else 1e-5), pictures(2, 224), None
    plans = (("less_less_token.", 7, (32, 0), (14, 8, 3)), ("less_token.", 10, (23, 3), (11, 6, 5)),
             ("normal_token.", 14, (16, 0), (7, 4, 2)))
    old = None
    for logits, (prefix, side, patch, cut) in zip(net.exits(images), plans, strict=True):
        x = theirs.embed(images, prefix, *patch) if backbone == "deit" else theirs.t2t(images, prefix, cut)
        truth, up = theirs.stage(x, prefix, (old, side), up)
        close(logits, truth)                                               # on DeiT the context's norms differ in their epsilon
        old = side


@torch.no_grad()
def test_spvits_selectors_say_what_their_code_says(release):
    net, tensors = opened(release("spvit deit"))
    theirs, x = Forward(tensors), torch.randn(2, 196, WIDTH)
    weight, share = [], []
    pooled = F.adaptive_avg_pool2d(x[:, None], (196, HEADS))[:, 0]
    for number in range(3):
        name = f"score_predictor.{number}"
        weight = theirs.linear(F.gelu(theirs.linear(pooled, f"{name}.senet.0")), f"{name}.senet.2").sigmoid()
        share = []
        for head, part in enumerate(x.split(WIDTH // HEADS, 2)):
            y = F.gelu(theirs.linear(theirs.norm(part, f"{name}.in_conv.{head}.0", 1e-5), f"{name}.in_conv.{head}.1"))
            local, other = y.chunk(2, 2)
            y = torch.cat([local, other.mean(1, keepdim=True).expand_as(local)], 2)
            for layer in (0, 2):
                y = F.gelu(theirs.linear(y, f"{name}.out_conv.{head}.{layer}"))
            share.append(theirs.linear(y, f"{name}.out_conv.{head}.4").softmax(-1)[..., 0])
        truth = (torch.stack(share, -1) * weight).sum(-1) / weight.sum(-1)
        others = vitlab.methods.spvit.selector.Others(lambda f: f.mean(1, keepdim=True).expand_as(f), None)
        close(net.selectors[number](x, others), truth)
    images = pictures(2, 224)
    close(net(images, net.points[-1]), theirs.answer(theirs.blocks(theirs.embed(images))))     # dense: nothing is dropped
    assert net.package.kind == "sum"


@torch.no_grad()
def test_spvit_may_have_been_trained_without_a_branch_or_with_a_selector_for_each_head(release, tmp_path):
    net, _ = opened(release("spvit deit without branch"))
    assert (net.package.kind, net.selectors[0].branch) == ("normalised", None)
    method, backbone, _, tensors, path = release("spvit deit")
    own = {name: t + name.count(".1.") if "_conv.1." in name else t for name, t in tensors.items()}
    torch.save(own, path)
    with pytest.raises(ValueError, match=r"selectors of their own \(score_predictor.0.in_conv.1.* give shared=False"):
        official.load(method, path, backbone)
    net = official.load(method, path, backbone, shared=False)
    assert torch.equal(net.selectors[0].readers[1].say[4].bias, own["score_predictor.0.out_conv.1.4.bias"])


@torch.no_grad()
def test_svits_blocks_and_gates_answer_as_their_code(release):
    net, tensors = opened(release("svit"))
    theirs, images = Forward(tensors), pictures(2, 224)
    x = theirs.embed(images)
    for i in range(DEPTH):
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", 1e-5, batch_first=True, norm_first=True).eval()
        start = f"blocks.{i}.TransformerEncoderLayer."
        layer.load_state_dict({name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)})
        if i >= DEPTH // 4:
            gate = f"selective_modules.{i - DEPTH // 4}"
            y = theirs.linear(theirs.norm(x, f"{gate}.norm", 1e-5), f"{gate}.mlp.fc1")
            keep, skip = theirs.linear(F.gelu(y), f"{gate}.mlp.fc2").log_softmax(-1).unbind(-1)
            close(net.gates[i - DEPTH // 4](x), keep - skip)
        x = layer(x)
    close(net(images, net.Point(1.0)), theirs.answer(x))      # the blocks' norms differ in their epsilon


# Files as they are found

def test_wrappers_and_prefixes_are_taken_off(release):
    tensors = release("deit")[3]
    other = {name: t + 1 for name, t in tensors.items()}
    for wrap, ema, truth in (
        (lambda t: t, False, tensors), (lambda t: {"state_dict": t}, False, tensors),
        (lambda t: {"model_state_dict": {f"module.{name}": x for name, x in t.items()}, "flops": [1.0, 2.0]}, False, tensors),
        (lambda t: {"model": t, "model_ema": other, "args": Namespace(lr=0.1), "epoch": 3}, False, tensors),
        (lambda t: {"model": t, "model_ema": other, "args": Namespace(lr=0.1), "epoch": 3}, True, other),
        (lambda t: {"state_dict": t, "state_dict_ema": other}, True, other), (lambda t: {"state_dict_ema": t}, False, tensors),
    ):
        method, backbone, _, _, path = release("deit", wrap)
        net = official.load(method, path, backbone, ema=ema)
        assert torch.equal(net.vit.head.weight, truth["head.weight"])
    with pytest.raises(ValueError, match="no moving average of the weights; leave ema out"):
        official.load("dense", release("deit")[-1], "deit_small", ema=True)


def test_safetensors_and_half_precision_are_read_and_names_are_given(release, tmp_path):
    tensors = release("deit")[3]
    save_file({name: t.half() for name, t in tensors.items()}, tmp_path / "net.safetensors")
    net = official.load("dense", tmp_path / "net.safetensors", "deit_small", classes=list("abcde"))
    assert net.made["classes"] == list("abcde") and net.vit.head.weight.dtype == torch.float32
    vitlab.save(net, tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match="was written by vitlab; open it with vitlab.load"):
        official.load("dense", tmp_path / "ours.safetensors", "deit_small")


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_a_file_with_code_in_it_is_refused_and_nothing_runs(release, tmp_path, capsys):
    path = tmp_path / "code.pth"
    torch.save({"model": release("deit")[3], "more": Code()}, path)
    with pytest.raises(ValueError, match=r"more than tensors and settings \(\S*print\), which could run code") as refused:
        official.load("dense", path, "deit_small")
    assert "\n" not in str(refused.value) and capsys.readouterr().out == ""


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04 cut", b"\x10\0\0\0\0\0\0\0{\"a"])
def test_what_is_no_file_of_tensors_gets_one_sentence(tmp_path, data):
    path = tmp_path / "bad.pth"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="cut short"):
        official.load("dense", path, "deit_small")
    for what, said in ((tmp_path, "is a folder"), (tmp_path / "none.pth", "there is no file")):
        with pytest.raises(FileNotFoundError, match=said):
            official.load("dense", what, "deit_small")


def test_what_does_not_fit_is_listed_by_its_official_name(release):
    method, backbone, _, tensors, path = release("deit")
    del tensors["blocks.2.mlp.fc1.bias"]
    torch.save(tensors | {"extra.weight": torch.zeros(2), "norm.bias": torch.zeros(7)}, path)
    with pytest.raises(ValueError) as refused:
        official.load(method, path, backbone)
    assert str(refused.value) == (
        f"{path} does not fit a dense on deit_small (5 classes, 224 px): of its tensors 1 missing (blocks.2.mlp.fc1.bias); "
        "1 left over (extra.weight); 1 of another shape (norm.bias [7] for [24])")
    with pytest.raises(ValueError, match=r"3 left over \(dist_token, head_dist.weight, head_dist.bias\); 1 of another shape"):
        official.load("dense", release("deit distilled")[-1], "deit_small")
    with pytest.raises(ValueError, match=r"66 missing \(.* and 56 more\); 48 left over \(.* and 38 more\)$"):
        official.load("svit", release("deit")[-1], "deit_small")


@pytest.mark.parametrize("wrong, said", [
    ({"head.weight": torch.zeros(2, 2)}, "no classifier normal_token.head.weight, but head.weight"),
    ({"epoch": 3}, "epoch is no tensor"), ({}, "no state dict"), ([1], "no state dict"),
    ({"normal_token.head.weight": torch.tensor([[float("nan")]])}, "NaN or infinity in normal_token.head.weight")])
def test_what_holds_no_such_net_is_said(tmp_path, wrong, said):
    torch.save(wrong, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=said):
        official.load("dvt", tmp_path / "a.pth", "deit_small")


def test_a_cascade_of_two_is_none_of_the_authors(release):
    with pytest.raises(ValueError, match="three stages, not 2; leave grids out"):
        official.load("dvt", release("dvt deit")[-1], "deit_small", grids=(7, 14), **REUSED)
