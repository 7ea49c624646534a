"""ReViT's claims."""
import pandas as pd

from evidence import EASY, HARD, RANDOM, Evidence, by_seed, clock, gap, read, seeds, told


def less(better: str, worse: str, length: str, backbone: str = "micro_patch8") -> Evidence:
    one, other = (by_seed("revit_small_points", "top1", backbone=backbone, training=name, length=int(length))
                  for name in (better, worse))
    beside = "" if backbone == "micro_patch8" else f", {backbone}"
    return seeds(f"{better} less {worse}, at {length}×{length} of 4, 5, 7{beside}", one - other, EASY, "revit_small_points")


def least(better: str, worse: str) -> Evidence:
    wide = read("revit_small_points").query("backbone == 'micro_patch8'")
    wide = wide.pivot(index="seed", columns=["training", "length"], values="top1")
    return seeds(f"{better} less {worse}, least of three lengths", (wide[better] - wide[worse]).min(axis=1), EASY,
                 "revit_small_points")


def assigners(kind: str, **which) -> pd.DataFrame:
    rows = read("revit_small_assigners").query("kind == @kind")
    for key, value in which.items():
        rows = rows[rows[key] == value]
    return rows


def assigned(weight: str) -> Evidence:
    one, other = (assigners("TLA", cost_weight=float(weight)), assigners("fixed", assigner="always 7"))
    share = (one.gmacs.mean() / other.gmacs.mean())
    return seeds(f"assigned lengths at {share:.0%} of the cost less always 7×7", one.set_index("seed").top1 -
                 other.set_index("seed").top1, EASY, "revit_small_assigners")


def shipped_assigned() -> Evidence:
    rows = read("revit_shipped_assigners")
    fixed = rows[rows.assigner == "always 14"].iloc[0]
    best = rows[rows.kind == "TLA"].sort_values("top1").iloc[-1]
    return seeds(f"assigned lengths at {best.gmacs / fixed.gmacs:.0%} of the cost, the most accurate of the cost weights, "
                 "less always 14×14", pd.Series([best.top1 - fixed.top1]), HARD, "revit_shipped_assigners")


def over_random(weight: str) -> Evidence:
    one, other = (assigners(kind, cost_weight=float(weight)).set_index("seed").top1 for kind in ("TLA", "random"))
    return seeds(f"the assigner less random choices with equal shares, cost weight {weight}", one - other, EASY,
                 "revit_small_assigners")


def over_confidence() -> Evidence:
    return seeds("the assigner less leaving by confidence, the same net, at equal mean costs",
                 gap(assigners("TLA"), assigners("confidence")), EASY, "revit_small_assigners")


def object_size() -> Evidence:
    share = told("revit_small_claims", "object's share of the picture, 4x4 assigned - 5x5 assigned, cost weight 1")
    return seeds("objects' share of pictures sent to 4×4 less that of pictures sent to 5×5", 100 * share, EASY,
                 "revit_small_claims")


def speed() -> Evidence:
    row = read("revit_speed_cpu_fp32").query("name == 'assigned'")
    return clock("measured over promised, DeiT-S, lengths 7, 10, 14 assigned, the assigner's work included", row.fulfilled, row,
                 "revit_speed_cpu_fp32")


def step(slow: str, fast: str) -> Evidence:
    """Seconds of a training step over another's, "training, at lengths" each."""
    rows = read("revit_training_cpu_fp32").set_index(["training", "lengths"])
    one, other = (tuple(name.rsplit(" at ", 1)) for name in (slow, fast))
    return Evidence(f"a step of {slow} over one of {fast}", (rows.seconds[one] / rows.seconds[other],), "clock", "×", RANDOM,
                    ("revit_training_cpu_fp32",))


def memory() -> Evidence:
    rows = read("revit_training_cpu_fp32").query("lengths in ('14', '14+10+7')").set_index(["training", "lengths"]).parameters
    alone = rows["a net per length", "14"]
    more = rows["DVT", "14+10+7"] - alone, rows["ReViT, one process", "14+10+7"] - alone
    what = "parameters that lengths 10 and 7 add to DVT over those they add to ReViT"
    return Evidence(what, (more[0] / more[1],), "clock", "×", RANDOM, ("revit_training_cpu_fp32",), spread=0.0)
