"""What the ReViT benchmarks measure of an assigner and its rivals."""
import pandas as pd
import torch

import vitlab
from vitlab import lengths

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)         # of the cost
SURE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)      # thresholds of the cascade
DRAWS = 20                                                  # of the random assigner


def judge(net: vitlab.ReViT, tla: vitlab.TLA, test) -> pd.DataFrame:
    """A row per way to choose: kind, assigner, cost_weight, top1, gmacs, share_<length>, size_<length> (of the objects).

    Each row of the assigner is followed by the mean of DRAWS random choices with as many pictures at each length.
    """
    table, logits = lengths.length_table(net, test), lengths.logits_of(tla, test)
    extra, size = vitlab.gmacs(tla, test.images([0]))[0], torch.tensor(test.columns["size"])
    rows = []

    def told(kind: str, name: str, choice: lengths.Choice, **more) -> dict:
        numbers = lengths.compare(table, {name: choice}).iloc[0]
        part = {f"size_{n}": size[choice.chosen == k].mean().item() for k, n in enumerate(table.lengths)}
        return {"kind": kind, **numbers, **part, **more}

    for n in table.lengths:
        rows.append(told("fixed", f"always {n}", lengths.fixed(table, n)))
    for weight in WEIGHTS:
        choice = lengths.learned(table, logits, weight, gmacs=extra)
        rows.append(told("TLA", f"TLA, cost weight {weight:g}", choice, cost_weight=weight))
        lots = pd.DataFrame([told("", "", lengths.random(table, choice, seed)) for seed in range(DRAWS)])
        rows.append({"kind": "random", "assigner": f"random, as TLA at {weight:g}", "cost_weight": weight,
                     **lots.mean(numeric_only=True)})
    rows.append(told("oracle", "oracle", lengths.oracle(table)))
    for sure in SURE:
        rows.append(told("confidence", f"cascade, sure at {sure:g}", lengths.confidence(table, sure), threshold=sure))
    return pd.DataFrame(rows)
