"""Claims that the study side by side can judge: every net from nothing, equal training passes, three seeds."""
import pandas as pd

from evidence import CIFAR, EASY, Evidence, gap, read, seeds

PICTURES = {"shapes": EASY, "cifar10": CIFAR}
NAMES = {"supervit": "SuperViT", "supervit + exits": "SuperViT with early exits", "dvt": "DVT", "revit": "ReViT",
         "spvit": "SPViT", "svit": "SViT", "adaptive_depth": "exits along the depth of one net"}
EQUAL = {"shapes": "equal passes over made pictures", "cifar10": "equal passes over photographs"}


def rows(study: str, words: str) -> tuple[pd.DataFrame, str]:
    """The rows of "method" or "method, column=value, ...", and these words for a reader; `none` is a value that is not there.

    share: of the cost of the dense net of the largest grid.
    """
    table = read(f"side_by_side_{study}_points")
    whole = table[table.method.str.startswith("dense")].groupby("seed").gmacs.max()
    if "budget" in table:
        table = table.assign(share=(table.budget / table.seed.map(whole)).round(2))
    method, *knobs = words.split(", ")
    found = table[table.method == method]
    for knob in knobs:
        column, value = knob.split("=")
        found = found[found[column].isna() if value == "none" else found[column].astype(str).isin({value, f"{value}.0"})]
    if found.empty:
        raise ValueError(f"the study on {study} has no {words!r}")
    return found, ", ".join([NAMES.get(method, method.replace("dense", "the dense net at").replace("x", "×")), *(
        knob.replace("share=", "share of the cost ").replace("=", " ") for knob in knobs if not knob.endswith("=none"))])


def top1(study: str, words: str) -> tuple[pd.Series, str]:
    """One point's, by seed."""
    found, said = rows(study, words)
    if found.seed.duplicated().any():
        raise ValueError(f"{words!r} are {len(found)} rows of the study on {study}, not one a seed")
    return found.set_index("seed").top1.sort_index(), said


def less(study: str, better: str, worse: str) -> Evidence:
    """Of one point and of another."""
    (one, said), (other, beside) = (top1(study, words) for words in (better, worse))
    return seeds(f"{said}, less {beside}, {EQUAL[study]}", one - other, PICTURES[study], f"side_by_side_{study}_points")


def over(study: str, better: str, worse: str) -> Evidence:
    """Of one curve and of another."""
    (one, said), (other, beside) = (rows(study, words) for words in (better, worse))
    return seeds(f"{said}, less {beside}, at equal mean costs, {EQUAL[study]}", gap(one, other), PICTURES[study],
                 f"side_by_side_{study}_points")


def saving(study: str, method: str, dense: str) -> Evidence:
    """The dense net's cost over that of the cheapest point that is as accurate."""
    (points, said), (whole, beside) = (rows(study, words) for words in (method, dense))
    whole = whole.set_index("seed").sort_index()
    cheapest = points[points.top1 >= points.seed.map(whole.top1)].groupby("seed").gmacs.min()
    return seeds(f"cost of {beside} over {said}'s at its accuracy, {EQUAL[study]}", (whole.gmacs / cheapest).reindex(whole.index),
                 PICTURES[study], f"side_by_side_{study}_points", unit="×")
