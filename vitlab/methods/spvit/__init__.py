"""SPViT: selectors that fold weak tokens into a package (`spvit`), and its parts.

`selector` scores tokens, `package` folds them, `prune` takes them away in three ways, `stages` leads them through the poolings of
a PiT; `limit` turns a budget, or a latency by `clock`, into the `shares` to keep, `objective` trains for them, `calibrate` finds
what decides at test time.
"""
from vitlab.methods.spvit.calibrate import calibrate
from vitlab.methods.spvit.spvit import RECIPE, Masked, Point, SPViT

__all__ = ["RECIPE", "Masked", "Point", "SPViT", "calibrate"]
