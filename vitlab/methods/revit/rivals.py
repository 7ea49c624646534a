"""Six ways to choose a length for every picture, compared offline on one table of answers.

The assigner and its cost-aware form are `learned`; the others say what it is worth: `oracle` knows the answer,
`random` takes as many pictures at each length without looking, `fixed` one length for all, `confidence` goes on until
it is sure.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from vitlab import cascade
from vitlab.cascade.budget import simulate
from vitlab.evaluation import kind
from vitlab.methods.revit.assigner import choose
from vitlab.methods.revit.labels import labels_of
from vitlab.methods.revit.table import LengthTable, check_table
from vitlab.numbers import real, seed_of, whole


@dataclass(frozen=True, eq=False)
class Choice:
    """Which length answers each of n pictures, and what that costs."""

    chosen: Tensor      # [n] position among the lengths, the shortest first
    gmacs: Tensor       # [n] multiply-adds / 1e9, with what choosing costs


def check_choice(choice: Choice) -> Choice:
    """TypeError for what is no choice."""
    if not isinstance(choice, Choice):
        raise TypeError(f"this needs a choice of lengths, as vitlab.lengths.fixed gives one, not {kind(choice)}")
    return choice


def at_cost(table: LengthTable, chosen: Tensor, extra: float = 0.0) -> Choice:
    """Each picture runs once, at its length; `extra` is what choosing costs."""
    return Choice(chosen, table.gmacs[chosen] + extra)


def fixed(table: LengthTable, length: int) -> Choice:
    """One length for all."""
    if whole(length, "length") not in check_table(table).lengths:
        raise ValueError(f"length {length} is not in the table; choose from {table.lengths}")
    return at_cost(table, torch.full((len(table.correct),), table.lengths.index(length)))


def oracle(table: LengthTable, unsolved: str = "smallest") -> Choice:
    """The smallest length that is right: as many right answers as there are pictures that any length solves."""
    return at_cost(table, labels_of(check_table(table).correct, "min_correct", unsolved))


def random(table: LengthTable, like: Choice, seed: int = 0) -> Choice:
    """As many pictures at each length as in `like`, drawn without looking."""
    order = torch.randperm(len(check_choice(like).chosen), generator=torch.Generator().manual_seed(seed_of(seed)))
    return at_cost(check_table(table), like.chosen[order])


def learned(table: LengthTable, logits: Tensor, cost_weight: float = 0.0, *, gmacs: float = 0.0) -> Choice:
    """What an assigner with these logits [n, k] chooses (`logits_of`); gmacs: what it costs itself per picture."""
    count = len(check_table(table).lengths)
    if not isinstance(logits, Tensor) or logits.shape != (len(table.correct), count) or not logits.isfinite().all():
        raise ValueError(f"logits must be finite numbers [{len(table.correct)}, {count}], as vitlab.lengths.logits_of gives "
                         f"them, not {kind(logits)}")
    cost_weight, gmacs = real(cost_weight, "cost_weight"), real(gmacs, "gmacs")
    return at_cost(table, choose(logits, table.gmacs / table.gmacs[-1], cost_weight), gmacs)


def confidence(table: LengthTable, thresholds: Sequence[float] | float) -> Choice:
    """From the shortest length on, stop at the first that is this sure; each length that was run is paid for."""
    exits = check_table(table).exits()
    stops = simulate(exits, cascade.check(thresholds, len(table.lengths))).exit
    return Choice(torch.from_numpy(stops), torch.from_numpy(exits.cost[stops]))


def compare(table: LengthTable, choices: dict[str, Choice]) -> pd.DataFrame:
    """A row per choice: assigner, top1 (percent), gmacs (mean), and the share of pictures at each length."""
    check_table(table)
    if not isinstance(choices, dict) or not choices:
        raise ValueError("there is nothing to compare; give choices by name, such as {\"fixed\": fixed(table, 7)}")
    rows = []
    for name, choice in choices.items():
        check_choice(choice)
        right = table.correct.gather(1, choice.chosen[:, None]).double().mean().item()
        shares = (choice.chosen.bincount(minlength=len(table.lengths)) / len(choice.chosen)).tolist()
        rows.append({"assigner": name, "top1": 100 * right, "gmacs": choice.gmacs.mean().item(),
                     **{f"share_{n}": share for n, share in zip(table.lengths, shares)}})
    return pd.DataFrame(rows)
