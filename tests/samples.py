"""What tests are made of: random pictures, and nets whose attention is peaked."""
import torch


def sharpen(method, factor: float = 5.0):
    """At initialisation the class attention is almost uniform; larger query and key weights make it peaked."""
    with torch.no_grad():
        for block in method.vit.blocks:
            block.attn.qkv.weight.mul_(factor)
    return method


def pictures(n: int, size: int = 56) -> torch.Tensor:
    """Random normalised images [n, 3, size, size]."""
    return torch.randn(n, 3, size, size)
