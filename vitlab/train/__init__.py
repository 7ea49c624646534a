"""Training: one loop for every method (`loop`), what a run is made of (`run`), its batches and its folder."""
from vitlab.train.loop import fit

__all__ = ["fit"]
