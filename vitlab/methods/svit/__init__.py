"""SViT: gates that leave tokens out of a block and let them come back (`svit`), and its parts.

`gates` ask each token, `select` leads those that take part through a block, `calibrate` finds what decides at test time.
"""
from vitlab.methods.svit.calibrate import calibrate
from vitlab.methods.svit.svit import RECIPE, Masked, Point, SViT

__all__ = ["RECIPE", "Masked", "Point", "SViT", "calibrate"]
