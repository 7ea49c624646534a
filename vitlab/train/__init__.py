"""Training: one loop for every method (`loop`), what it asks of a net (`door`), what a run is made of (`run`), what makes two
calls the same run (`identity`), its batches, its folder and its processes.

`replicas` spreads the token lengths of one net over processes; `training_cost` says what that is worth.
"""
from vitlab.train.loop import fit
from vitlab.train.replicas import balanced, training_cost

__all__ = ["balanced", "fit", "training_cost"]
