"""What tests are made of: random pictures, small nets with peaked attention, thresholds that rounding cannot cross."""
import timm
import torch

FIXED = {   # two blocks and, of a cascade, two stages: what all runs through, and is quick to trace
    "dense": ({}, ()), "supervit": ({}, (4, 0.5)), "dvt": ({"grids": (4, 7)}, ((1.0,),)),
    "adaptive_depth": ({"exits": (1,)}, ((1.0,),)), "revit": ({"dist_token": "deit"}, (4,)),
    "spvit": ({"after": (1,)}, (None, True)), "svit": ({"first": 2}, (None, True)), "tome": ({}, (6,)),
}


def sharpen(method, factor: float = 5.0):
    """At initialisation the class attention is almost uniform; larger query and key weights make it peaked."""
    with torch.no_grad():
        for name, weight in method.named_parameters():
            if name.endswith("attn.qkv.weight"):
                weight.mul_(factor)
    return method


def small_pit(monkeypatch):
    """Makes every PiT a net of 2, 3 and 2 blocks of width 16, 32 and 64; on 56 pixels they have 6x6, 3x3 and 2x2 patches."""
    real = timm.create_model
    small = {"base_dims": (8, 8, 8), "depth": (2, 3, 2)}
    monkeypatch.setattr(timm, "create_model", lambda name, **told: real(name, **told, **(small if "pit_" in name else {})))


def pictures(n: int, size: int = 56) -> torch.Tensor:
    """Random normalised images [n, 3, size, size]."""
    return torch.randn(n, 3, size, size)


def between(values) -> float:
    """The middle of the widest gap among the middle half of the values: rounding moves none of them across it."""
    values = torch.as_tensor(values).double().sort().values
    low, high = len(values) // 4, len(values) - len(values) // 4
    gaps = values[low:high].diff()
    return (values[low:high - 1] + gaps / 2)[gaps.argmax()].item()
