"""SPViT's claims."""
import pandas as pd

from evidence import HARD, RANDOM, Evidence, by_seed, raced, read, seeds, told

STUDIES = {"settled": "spvit_small_points", "drawn": "spvit_drawn_points", "pooled": "spvit_pooled_points"}
SETTLE = {"settled": "decisions settle", "drawn": "drawn to the end", "pooled": "no class token, drawn to the end"}


def less(study: str, better: str, worse: str) -> Evidence:
    one, other = (by_seed(STUDIES[study], "top1", variant=name) for name in (better, worse))
    names = {"selector": "SPViT", "random": "random scores", "structured": "a narrower net", "dense": "the dense net"}
    cost = read(STUDIES[study]).groupby("variant").budget.mean()
    return seeds(f"{names.get(better, better)} less {names.get(worse, worse)}, {SETTLE[study]}, "
                 f"{cost['selector'] / cost['dense']:.0%} of the dense cost", one - other, HARD, STUDIES[study])


def package_without_class_token() -> Evidence:
    """What a package adds without a class token, less what it adds with one."""
    without, beside = ((by_seed(STUDIES[s], "top1", variant="selector") - by_seed(STUDIES[s], "top1", variant="no package"))
                       for s in ("pooled", "drawn"))
    return seeds("worth of the package without class token less with one", without - beside, HARD, "spvit_pooled_points",
                 "spvit_drawn_points")


def own_number() -> Evidence:
    rows = read("spvit_small_points").query("variant == 'selector'").set_index("seed")
    return seeds("each picture its own number of patches less the same number for all", rows.top1 - rows.top1_fixed, HARD,
                 "spvit_small_points")


def shipped(share: str) -> Evidence:
    rows = read("spvit_shipped_points")
    rows = rows.assign(share=(rows.budget / rows.budget.max()).round(2))
    row = rows[rows.share == float(share)].iloc[0]
    dense = by_seed("spvit_small_points", "top1", variant="dense")[0]
    return seeds(f"SPViT at {float(share):.0%} of the dense cost less the dense net it comes from", pd.Series([row.top1 - dense]),
                 HARD, "spvit_shipped_points", "spvit_small_points")


def objects() -> Evidence:
    one, other = (told("spvit_small_claims", f"patches kept by selector {k}: on the answer's objects") for k in (3, 1))
    return seeds("share of the kept patches on the answer's objects: third selector less first", 100 * (one - other), HARD,
                 "spvit_small_claims")


def edge(backbone: str, budget: str) -> Evidence:
    rows = read("edge_cpu").query("engine == 'onnxruntime' and precision == 'fp32' and threads == 1 and backbone == @backbone")
    row = rows[rows["name"] == f"spvit {budget} GFLOPs"]
    return raced(f"{backbone} at {budget} GFLOPs against the dense net, one picture, ONNX Runtime, one thread", row, "edge_cpu")


def latency() -> Evidence:
    rows = read("spvit_latency_cpu_fp32")
    what = f"milliseconds asked for over measured, {len(rows)} nets, as shares of the dense net's"
    return Evidence(what, tuple(rows.asked_share / rows.measured_share), "clock", "×", RANDOM, ("spvit_latency_cpu_fp32",))
