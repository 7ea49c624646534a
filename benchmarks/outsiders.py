"""What is raced with methods and is none of ours: timm's own forward, and a release's evaluation."""
from torch import nn


class Timm(nn.Module):
    """timm's own forward, as a method."""

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, images, point=None, trace=None):
        return self.vit(images)


class Official(nn.Module):
    """The released evaluation of an SPViT or SViT, which computes all tokens, as a method."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images, point=None, trace=None):
        return self.net.masked(images).logits
