"""DVT: the cascade (`dvt`), and what a stage reuses of the one before (`reuse`)."""
from vitlab.methods.dvt.dvt import DVT, RECIPE, Point, Stage

__all__ = ["DVT", "RECIPE", "Point", "Stage"]
