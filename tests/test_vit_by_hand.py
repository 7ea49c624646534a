"""Notebook 01 writes a whole ViT by hand; its check is one that a mistake fails."""
import re

import nbformat
import pytest
import timm
import torch
from test_project import ROOT

BOOK = nbformat.read(ROOT / "notebooks" / "01_what_a_token_costs.ipynb", 4)
CELLS = [cell.source for cell in BOOK.cells if cell.cell_type == "code"]
PARTS = [source for source in CELLS if re.match(r"class (PatchEmbedding|SelfAttention|ViTBlock|ViT)\(", source)]
CHECK = next(source for source in CELLS if "timm.create_model" in source)
IMPORTS = "import torch\nimport vitlab\nfrom torch import nn\n"
MISTAKES = {                                                    # what is typed -> what somebody might type instead
    " / q.shape[-1] ** 0.5": "",                                # logits not scaled
    ".softmax(-1)": ".softmax(-2)",                             # over the queries
    "(3, self.heads, -1)": "(3, -1, self.heads)",               # heads and channels mixed up
    "x + self.attn(": "self.attn(",                             # no way past attention
    "self.mlp(self.norm2(x))": "self.mlp(x)",                   # a norm forgotten
    "1e-6": "1e-3",                                             # LayerNorm's other default
    "nn.GELU()": "nn.ReLU()",
    "x + self.pos_embed": "x",                                  # no positions
    "self.norm(x[:, 0])": "self.norm(x[:, 1])",                 # reads a patch, not the class token
    ".flatten(1), self.proj.bias": ".transpose(2, 3).flatten(1), self.proj.bias",       # pixels in columns, not rows
}


def made(source: str = "\n\n".join(PARTS)) -> dict:
    """The names that the four cells give."""
    space: dict = {}
    torch.manual_seed(0)
    exec(IMPORTS + source, space)
    return space


def test_it_is_a_screenful():
    assert len(PARTS) == 4
    assert sum(len(source.splitlines()) for source in PARTS) <= 60


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_finds_a_mistake(mistake):
    source = "\n\n".join(PARTS)
    assert mistake in source
    with pytest.raises(AssertionError):
        exec(CHECK, made(source.replace(mistake, MISTAKES[mistake])))


@pytest.mark.parametrize("name, shape", {
    "deit_tiny_patch16_224": dict(width=192, heads=3),
    "vit_small_patch32_224": dict(side=7, patch=32),
    "vit_tiny_patch16_384": dict(side=24, width=192, heads=3)}.items())
def test_it_is_timms_at_other_sizes_too(name, shape):
    theirs, mine = timm.create_model(name, num_classes=7).eval(), made()["ViT"](classes=7, **shape).eval()
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.05)
    assert not any(mine.load_state_dict(theirs.state_dict()))                       # no key is missing, none is left
    images = torch.randn(2, 3, *theirs.patch_embed.img_size)
    with torch.no_grad():
        wanted = theirs(images)
        torch.testing.assert_close(mine(images), wanted, rtol=0, atol=1e-5 * float(wanted.std()))


def test_its_gradients_are_timms():
    theirs = timm.create_model("deit_tiny_patch16_224", num_classes=7, depth=2)
    mine = made()["ViT"](width=192, heads=3, depth=2, classes=7)
    mine.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 224, 224)
    for net in (theirs, mine):
        net(images).square().sum().backward()
    wanted = dict(theirs.named_parameters())
    for name, weight in mine.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name].grad, rtol=1e-3, atol=1e-5)
