"""ReViT: one net for several token lengths (`revit`), and all that belongs to it alone.

`embed` and `stems` are its patches, positions and norms per length, `distillation` its losses; `assigner` is the net that
picks the length, `labels` what it learns from, `rivals` and `table` what it is compared with (`lengths` gathers these three).
"""
from vitlab.methods.revit.revit import COST_WEIGHTS, LENGTHS, PAPER, RECIPE, Point, ReViT, serial

__all__ = ["COST_WEIGHTS", "LENGTHS", "PAPER", "RECIPE", "Point", "ReViT", "serial"]
