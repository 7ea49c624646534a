"""What is raced with methods and is none of ours: timm's own forward, and a release's evaluation; and how many pictures race."""
import torch
from torch import nn

GPU = {"fp32": 8, "bf16": 32}       # times as many pictures as on a CPU, so that a GPU is busy with their arithmetic


def pictures(batch: int, device: str, precision: str = "fp32") -> int:
    """So many in a batch."""
    return batch * (GPU[precision] if torch.device(device).type == "cuda" else 1)


class Timm(nn.Module):
    """timm's own forward, as a method."""

    adaptive, points = False, (None,)

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def check(self, point):
        return point

    def forward(self, images, point=None, trace=None):
        return self.vit(images)


class Official(nn.Module):
    """The released evaluation of an SPViT or SViT, which computes all tokens, as a method."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images, point=None, trace=None):
        return self.net.masked(images).logits
