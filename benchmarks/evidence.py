"""What the saved results say of a claim: a function for each kind of claim. `claims.py` calls them by name.

Each reads the CSVs of data/results and returns an Evidence; none types a number of ours. Where a claim is about several points, a
seed's value is its least. Words that a function is given come from claims_of_papers.csv, as text.
"""
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from vitlab.measure import paper
from vitlab.measure.records import DATA

EASY, HARD = "shapes, easy end of the dial", "shapes, hard end of the dial"
RANDOM, OBJECTS, CIFAR = "random weights, 224 pixels", "made pictures of several objects", "CIFAR-10"
ZEROS = "one picture, 224 pixels"


@dataclass(frozen=True)
class Evidence:
    """what: is compared, in words. values: one for each of what `of` names (seeds, clock, figures).

    seeds: of a training. clock: times faster, measured in turns. figures: printed ones, (printed, ours, digits) for each.
    data: the pictures. sources: names of tables. spread: of the clock's passes, (slowest - fastest) / median. runs: passes.
    """
    what: str
    values: tuple
    of: str
    unit: str
    data: str
    sources: tuple[str, ...]
    spread: float | None = None
    runs: int | None = None


@cache
def read(name: str) -> pd.DataFrame:
    """A saved table; the same frame for all who ask, so nobody changes it."""
    return pd.read_csv(DATA / "results" / f"{name}.csv", dtype={"commit": str})


def seeds(what: str, values: pd.Series, data: str, *sources: str, unit: str = "points") -> Evidence:
    """A value for each seed; a seed without one (a cost that was never reached) has NaN."""
    return Evidence(what, tuple(values), "seeds", unit, data, sources)


def clock(what: str, ratios, rows: pd.DataFrame, *sources: str, data: str = RANDOM) -> Evidence:
    """Measured ratios; rows: of the race, for the number of passes and their spread."""
    spread = rows.spread.max() if "spread" in rows else None
    return Evidence(what, tuple(np.atleast_1d(ratios)), "clock", "×", data, sources, spread, int(rows.runs.min()))


def told(name: str, claim: str, steps: str | None = None) -> pd.Series:
    """A number that a script wrote under a name, by seed."""
    rows = read(name).query("claim == @claim")
    rows = rows if steps is None else rows[rows.steps == int(steps)]
    if rows.empty:
        raise ValueError(f"{name} has no claim {claim!r}")
    return rows.set_index("seed").value.sort_index()


def by_seed(name: str, column: str, **which) -> pd.Series:
    """A column of the rows that are meant, by seed."""
    rows = read(name)
    for key, value in which.items():
        rows = rows[rows[key] == value]
    if rows.empty or rows.seed.duplicated().any():
        raise ValueError(f"{name} has {len(rows)} rows for {which}, not one a seed")
    return rows.set_index("seed")[column].sort_index()


# counts --------------------------------------------------------------------------------------------------------------------

def costs(method: str, place: str, what: str = "GFLOPs") -> Evidence:
    rows = read("paper_costs").query("method == @method and place == @place and what == @what")
    return Evidence(f"{what} of {len(rows)} nets", tuple(zip(rows.printed, rows.ours, rows.digits, strict=True)), "figures", what,
                    ZEROS, ("paper_costs",))


def supervit_costs() -> Evidence:
    both = points().merge(printed_points(), on=["length", "keep"], suffixes=("", "_paper"))
    return Evidence(f"GFLOPs of {len(both)} points", tuple((p, c, 1) for p, c in zip(both.gmacs_paper, both.gmacs, strict=True)),
                    "figures", "GFLOPs", ZEROS, ("throughput_deit_small_cpu_fp32",))


def dvt_costs() -> Evidence:
    rows = read("dvt_costs")
    return Evidence(f"GFLOPs at {len(rows)} exits", tuple((p, c, 2) for p, c in zip(rows.paper, rows.gmacs, strict=True)),
                    "figures", "GFLOPs", ZEROS, ("dvt_costs",))


# SuperViT ------------------------------------------------------------------------------------------------------------------

def points() -> pd.DataFrame:
    """The race of the twelve points against timm's dense net, with knobs."""
    rows = read("throughput_deit_small_cpu_fp32")
    rows = rows[rows.name.str.contains(",")]
    knobs = rows.name.str.split(", ", expand=True)
    return rows.assign(length=knobs[0].astype(int), keep=knobs[1].astype(float))


def printed_points() -> pd.DataFrame:
    rows = paper("supervit").query("backbone == 'deit_small' and variant.isna()")
    return rows[rows.source.str.endswith("Table 1")]


def supervit_speed(length: str, keep: str) -> Evidence:
    row = points().query(f"length == {length} and keep == {keep}")
    return clock(f"DeiT-S, {length}×{length}, keep {keep}, against timm's DeiT-S", row.speed_up, row,
                 "throughput_deit_small_cpu_fp32")


def supervit_speeds() -> Evidence:
    """Ours over the paper's, both over their dense net."""
    printed = printed_points()
    dense = paper("dense").query("backbone == 'deit_small'").images_per_s.iloc[0]
    both = points().merge(printed, on=["length", "keep"], suffixes=("", "_paper"))
    return clock("speed-up here over that on the paper's A100, twelve points", both.speed_up * dense / both.images_per_s_paper,
                 both, "throughput_deit_small_cpu_fp32")


def supervit_small(training: str, length: str, keep: str) -> pd.Series:
    return by_seed("supervit_small_points", "top1", training=training, length=int(length), keep=float(keep))


def supervit_over_plain(length: str, keep: str) -> Evidence:
    """The super-net at a point less the plain ViT at its own; 7×7 stands for the paper's 14×14."""
    gap = supervit_small("super", length, keep) - supervit_small("plain", "7", "1")
    return seeds(f"super-net at {length}×{length}, keep {keep}, less a plain ViT at 7×7, equal steps (the super-net's have four passes)", gap, EASY,
                 "supervit_small_points")


def gains(training: str) -> pd.DataFrame:
    """Super-net less every sub-net alone: a row a seed, a column a point."""
    wide = read("supervit_small_points").pivot(index="seed", columns=["training", "length", "keep"], values="top1")
    return (wide["super"] - wide[training]).dropna(axis=1)


def supervit_over_alone(training: str) -> Evidence:
    gap = gains(training)
    return seeds(f"inside the super-net less {training}, least of {gap.shape[1]} points", gap.min(axis=1), EASY,
                 "supervit_small_points")


def supervit_gains_by_rate() -> Evidence:
    gap = gains("alone, equal passes").T.groupby("keep").mean().T
    return seeds("gain over sub-nets alone at keep 0.5 less that at keep 1, mean of lengths", gap[0.5] - gap[1.0], EASY,
                 "supervit_small_points")


def supervit_between(better: str, worse: str) -> Evidence:
    """Two points of the long run, "length keep" each."""
    wide = read("supervit_shipped_points").pivot(index="seed", columns=["length", "keep"], values="top1")
    one, other = ((int(n), float(r)) for n, r in (point.split() for point in (better, worse)))
    return seeds(f"{one[0]}×{one[0]}, keep {one[1]:g}, less {other[0]}×{other[0]}, keep {other[1]:g}", wide[one] - wide[other],
                 HARD, "supervit_shipped_points")


def supervit_dropping(study: str, point: str, better: str, worse: str) -> Evidence:
    """The same net and number of tokens, others dropped at test time."""
    name = f"supervit_{study}_claims"
    gap = told(name, f"top1 at {point}, dropping {better}") - told(name, f"top1 at {point}, dropping {worse}")
    said = {"low": "the least attended", "high": "the most attended", "random": "any"}
    return seeds(f"at {point}: dropping {said[better]} less dropping {said[worse]}, at test time only", gap,
                 HARD if study == "shipped" else EASY, name)


def supervit_exits() -> Evidence:
    """Costs at which the two cascades are as accurate as the plain ViT."""
    one, other = (told("dvt_small_claims", f"cost of the plain ViT / cost at its accuracy, {name}", "1300")
                  for name in ("supervit", "dvt, both"))
    return seeds("DVT's cost over SuperViT's with early exits at a plain ViT's accuracy, equal steps (SuperViT's have four passes)",
                 one / other, EASY, "dvt_small_claims", unit="×")


def supervit_training_time() -> Evidence:
    rows = read("supervit_training_cpu_fp32").query("what == 'step'").set_index("name")
    twelve = points().gmacs.sum() / points().gmacs.max()
    step = rows.ratio["four sub-nets"]
    what = "a step of twelve DeiT-S alone, as their GFLOPs say, over a measured step of one SuperViT"
    return Evidence(what, (twelve / step,), "clock", "×", RANDOM, ("supervit_training_cpu_fp32", "throughput_deit_small_cpu_fp32"))


def cifar_between(better: str, worse: str) -> Evidence:
    wide = read("cifar10_points").query("method == 'supervit'").pivot(index="seed", columns=["length", "keep"], values="top1")
    one, other = ((int(n), float(r)) for n, r in (point.split() for point in (better, worse)))
    return seeds(f"{one[0]}×{one[0]}, keep {one[1]:g}, less {other[0]}×{other[0]}, keep {other[1]:g}", wide[one] - wide[other],
                 CIFAR, "cifar10_points")


# DVT -----------------------------------------------------------------------------------------------------------------------

def dvt_exit(better: str, worse: str, exit: str, steps: str = "1300") -> Evidence:
    one, other = (by_seed("dvt_small_exits", "top1", cascade=f"dvt, {kind}", exit=int(exit), steps=int(steps))
                  for kind in (better, worse))
    return seeds(f"reuse of {better} less {worse}, exit {exit}, {int(steps):,} steps", one - other, EASY, "dvt_small_exits")


def dvt_saving(study: str, claim: str, steps: str | None = None) -> Evidence:
    name = f"dvt_{study}_claims"
    return seeds(claim + ("" if steps is None else f", {int(steps):,} steps"), told(name, claim, steps),
                 HARD if study == "shipped" else EASY, name, unit="×")


def curve(cascade: str, criterion: str = "confidence") -> pd.DataFrame:
    """Top-1 against mean cost at the solved thresholds: a frame of seed, gmacs, top1."""
    return read("dvt_small_budgets").query("cascade == @cascade and criterion == @criterion and solver == 'exhaustive' "
                                           "and steps == 1300")[["seed", "gmacs", "top1"]]


def gap(one: pd.DataFrame, other: pd.DataFrame, at: int = 50) -> pd.Series:
    """By seed: the mean difference of two curves over the costs that both have, read between their points."""
    found = {}
    for seed, mine in one.groupby("seed"):
        mine, theirs = (part.groupby("gmacs").top1.mean() for part in (mine, other[other.seed == seed]))
        costs = np.linspace(max(mine.index.min(), theirs.index.min()), min(mine.index.max(), theirs.index.max()), at)
        found[seed] = np.mean(np.interp(costs, mine.index, mine) - np.interp(costs, theirs.index, theirs))
    return pd.Series(found)


def dvt_criterion(rival: str) -> Evidence:
    return seeds(f"leaving by confidence less by {rival}, at equal mean costs", gap(curve("dvt, both"), curve("dvt, both", rival)),
                 EASY, "dvt_small_budgets")


def dvt_over(rival: str) -> Evidence:
    return seeds(f"DVT with both kinds of reuse less {rival}, early exits, at equal mean costs",
                 gap(curve("dvt, both"), curve(rival)), EASY, "dvt_small_budgets")


def dvt_budgets(column: str, what: str) -> Evidence:
    """The largest budget of the long run less the smallest."""
    rows = read("dvt_shipped_budgets").sort_values("gmacs").groupby("seed")[column]
    scale = 1 if column == "top1" else 100
    return seeds(f"{what}: largest budget less smallest", (rows.last() - rows.first()) * scale, HARD, "dvt_shipped_budgets")


def dvt_speed(grids: str) -> Evidence:
    row = read("dvt_speed_cpu_fp32").query("backbone == 't2t_vit_12' and grids == @grids and name == 'half leave'")
    return clock(f"measured over promised, three T2T-ViT-12 at {grids}, half leave at each exit" if grids.count(">") > 1 else
                 f"measured over promised, two T2T-ViT-12 at {grids}, half leave", row.fulfilled, row, "dvt_speed_cpu_fp32")


def tokens_alone() -> Evidence:
    one, other = (by_seed("revit_small_points", "top1", backbone="micro_patch8", training="alone", length=n) for n in (7, 4))
    return seeds("a net at 7×7 less one at 4×4, each trained alone", one - other, EASY, "revit_small_points")


# ReViT ---------------------------------------------------------------------------------------------------------------------

def revit(better: str, worse: str, length: str, backbone: str = "micro_patch8") -> Evidence:
    one, other = (by_seed("revit_small_points", "top1", backbone=backbone, training=name, length=int(length))
                  for name in (better, worse))
    beside = "" if backbone == "micro_patch8" else f", {backbone}"
    return seeds(f"{better} less {worse}, at {length}×{length} of 4, 5, 7{beside}", one - other, EASY, "revit_small_points")


def revit_least(better: str, worse: str) -> Evidence:
    wide = read("revit_small_points").query("backbone == 'micro_patch8'")
    wide = wide.pivot(index="seed", columns=["training", "length"], values="top1")
    return seeds(f"{better} less {worse}, least of three lengths", (wide[better] - wide[worse]).min(axis=1), EASY,
                 "revit_small_points")


def assigners(kind: str, **which) -> pd.DataFrame:
    rows = read("revit_small_assigners").query("kind == @kind")
    for key, value in which.items():
        rows = rows[rows[key] == value]
    return rows


def revit_assigned(weight: str) -> Evidence:
    one, other = (assigners("TLA", cost_weight=float(weight)), assigners("fixed", assigner="always 7"))
    share = (one.gmacs.mean() / other.gmacs.mean())
    return seeds(f"assigned lengths at {share:.0%} of the cost less always 7×7", one.set_index("seed").top1 -
                 other.set_index("seed").top1, EASY, "revit_small_assigners")


def revit_shipped_assigned() -> Evidence:
    rows = read("revit_shipped_assigners")
    fixed = rows[rows.assigner == "always 14"].iloc[0]
    best = rows[rows.kind == "TLA"].sort_values("top1").iloc[-1]
    return seeds(f"assigned lengths at {best.gmacs / fixed.gmacs:.0%} of the cost, the most accurate of the cost weights, "
                 "less always 14×14", pd.Series([best.top1 - fixed.top1]), HARD, "revit_shipped_assigners")


def revit_over_random(weight: str) -> Evidence:
    one, other = (assigners(kind, cost_weight=float(weight)).set_index("seed").top1 for kind in ("TLA", "random"))
    return seeds(f"the assigner less random choices with equal shares, cost weight {weight}", one - other, EASY,
                 "revit_small_assigners")


def revit_over_confidence() -> Evidence:
    return seeds("the assigner less leaving by confidence, the same net, at equal mean costs",
                 gap(assigners("TLA"), assigners("confidence")), EASY, "revit_small_assigners")


def revit_object_size() -> Evidence:
    gap = told("revit_small_claims", "object's share of the picture, 4x4 assigned - 5x5 assigned, cost weight 1")
    return seeds("objects' share of pictures sent to 4×4 less that of pictures sent to 5×5", 100 * gap, EASY, "revit_small_claims")


def revit_speed() -> Evidence:
    row = read("revit_speed_cpu_fp32").query("name == 'assigned'")
    return clock("measured over promised, DeiT-S, lengths 7, 10, 14 assigned, the assigner's work included", row.fulfilled, row,
                 "revit_speed_cpu_fp32")


def revit_step(slow: str, fast: str) -> Evidence:
    """Seconds of a training step over another's, "training, at lengths" each."""
    rows = read("revit_training_cpu_fp32").set_index(["training", "lengths"])
    one, other = (tuple(name.rsplit(" at ", 1)) for name in (slow, fast))
    return Evidence(f"a step of {slow} over one of {fast}", (rows.seconds[one] / rows.seconds[other],), "clock", "×", RANDOM,
                    ("revit_training_cpu_fp32",))


def revit_memory() -> Evidence:
    rows = read("revit_training_cpu_fp32").query("lengths in ('14', '14+10+7')").set_index(["training", "lengths"]).parameters
    alone = rows["a net per length", "14"]
    more = rows["DVT", "14+10+7"] - alone, rows["ReViT, one process", "14+10+7"] - alone
    return Evidence("parameters that lengths 10 and 7 add to DVT over those they add to ReViT", (more[0] / more[1],), "clock", "×",
                    RANDOM, ("revit_training_cpu_fp32",), spread=0.0)


# SPViT ---------------------------------------------------------------------------------------------------------------------

STUDIES = {"settled": "spvit_small_points", "drawn": "spvit_drawn_points", "pooled": "spvit_pooled_points"}
SETTLE = {"settled": "decisions settle", "drawn": "drawn to the end", "pooled": "no class token, drawn to the end"}


def spvit(study: str, better: str, worse: str) -> Evidence:
    one, other = (by_seed(STUDIES[study], "top1", variant=name) for name in (better, worse))
    names = {"selector": "SPViT", "random": "random scores", "structured": "a narrower net", "dense": "the dense net"}
    return seeds(f"{names.get(better, better)} less {names.get(worse, worse)}, {SETTLE[study]}, 40 % of the dense cost",
                 one - other, HARD, STUDIES[study])


def spvit_package_without_class_token() -> Evidence:
    """What a package adds without a class token, less what it adds with one."""
    without, beside = ((by_seed(STUDIES[s], "top1", variant="selector") - by_seed(STUDIES[s], "top1", variant="no package"))
                       for s in ("pooled", "drawn"))
    return seeds("worth of the package without class token less with one", without - beside, HARD, "spvit_pooled_points",
                 "spvit_drawn_points")


def spvit_own_number() -> Evidence:
    rows = read("spvit_small_points").query("variant == 'selector'").set_index("seed")
    return seeds("each picture its own number of patches less the same number for all", rows.top1 - rows.top1_fixed, HARD,
                 "spvit_small_points")


def spvit_shipped(share: str) -> Evidence:
    rows = read("spvit_shipped_points")
    rows = rows.assign(share=(rows.budget / rows.budget.max()).round(2))
    row = rows[rows.share == float(share)].iloc[0]
    dense = by_seed("spvit_small_points", "top1", variant="dense")[0]
    return seeds(f"SPViT at {float(share):.0%} of the dense cost less the dense net it comes from", pd.Series([row.top1 - dense]),
                 HARD, "spvit_shipped_points", "spvit_small_points")


def spvit_objects() -> Evidence:
    one, other = (told("spvit_small_claims", f"patches kept by selector {k}: on the answer's objects") for k in (3, 1))
    return seeds("share of the kept patches on the answer's objects: third selector less first", 100 * (one - other), HARD,
                 "spvit_small_claims")


def edge(backbone: str, budget: str) -> Evidence:
    rows = read("edge_cpu").query("engine == 'onnxruntime' and precision == 'fp32' and threads == 1 and backbone == @backbone")
    row = rows[rows["name"] == f"spvit {budget} GFLOPs"]
    return clock(f"{backbone} at {budget} GFLOPs against the dense net, one picture, ONNX Runtime, one thread", row.speed_up, row,
                 "edge_cpu")


def spvit_latency() -> Evidence:
    rows = read("spvit_latency_cpu_fp32")
    what = f"milliseconds asked for over measured, {len(rows)} nets, as shares of the dense net's"
    return Evidence(what, tuple(rows.asked_share / rows.measured_share), "clock", "×", RANDOM, ("spvit_latency_cpu_fp32",))


# SViT ----------------------------------------------------------------------------------------------------------------------

def svit_speed(keep: str) -> Evidence:
    row = read("svit_speed_cpu_fp32")
    row = row[row["name"] == f"keep {keep}, each its own"]
    return clock(f"DeiT-S, k = {keep}, each picture its own tokens, against timm's DeiT-S", row.speed_up, row,
                 "svit_speed_cpu_fp32")


def batches() -> pd.DataFrame:
    return read("svit_batch_cpu_fp32").query("name == 'svit'").set_index("batch").sort_index()


def svit_batches() -> Evidence:
    rows = batches()
    return clock(f"speed-up at batch {rows.index[-1]} over that at batch {rows.index[0]}",
                 rows.speed_up.iloc[-1] / rows.speed_up.iloc[0], rows.iloc[[0, -1]], "svit_batch_cpu_fp32")


def svit_small_batch() -> Evidence:
    one = batches().iloc[:1]
    return clock(f"promised over measured speed-up at batch {one.index[0]}", one.gmacs_ratio / one.speed_up, one,
                 "svit_batch_cpu_fp32")


def svit(better: str, worse: str) -> Evidence:
    names = {"return": "SViT", "inherit": "none comes back", "random": "random gates", "fixed rate": "shares of every image",
             "dense": "the dense net", "drawn to the end": "decisions drawn to the end"}
    one, other = (by_seed("svit_small_points", "top1", variant=name) for name in (better, worse))
    return seeds(f"{names[better]} less {names[worse]}, k = 0.5", one - other, HARD, "svit_small_points")


def svit_boxes(better: str, worse: str) -> Evidence:
    names = {"return": "SViT", "inherit": "none comes back", "random": "random gates", "discard": "gone from the map",
             "fixed rate": "shares of every image", "dense": "dense"}
    one, other = (by_seed("svit_dense_points", "box_ap", variant=name) for name in (better, worse))
    return seeds(f"box AP of a detector: {names[better]} less {names[worse]}, k = 0.3", one - other, OBJECTS, "svit_dense_points")


def svit_shipped(keep: str) -> Evidence:
    row = read("svit_shipped_points").query(f"keep == {keep}").iloc[0]
    dense = by_seed("svit_small_points", "top1", variant="dense")[0]
    return seeds(f"SViT at k = {keep} less the dense net it comes from", pd.Series([row.top1 - dense]), HARD, "svit_shipped_points",
                 "svit_small_points")


def svit_back() -> Evidence:
    return seeds("of the tokens left out, those that come back", 100 * told("svit_small_claims", "tokens left out that come back"),
                 HARD, "svit_small_claims", unit="percent")


def svit_blocks() -> Evidence:
    one, other = (told("svit_small_claims", f"blocks used by {who}") for who in ("a patch of the answer's objects",
                                                                                 "any other patch"))
    return seeds("blocks used by a patch of the answer's objects less those of any other", one - other, HARD, "svit_small_claims",
                 unit="blocks")


def svit_blocks_of_boxes() -> Evidence:
    one, other = (by_seed("svit_dense_points", column, variant="return") for column in ("used_object", "used_background"))
    return seeds("detector: blocks used by patches of objects less those of background", one - other, OBJECTS,
                 "svit_dense_points", unit="blocks")
