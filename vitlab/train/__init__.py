"""Training: one loop for every method (`loop`), what a run is made of (`run`), its batches and its folder.

`replicas` spreads the token lengths of one net over processes; `training_cost` says what that is worth.
"""
from vitlab.train.loop import fit
from vitlab.train.replicas import balanced, training_cost

__all__ = ["balanced", "fit", "training_cost"]
