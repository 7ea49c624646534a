"""SuperViT's claims."""
import pandas as pd

from evidence import EASY, HARD, RANDOM, ZEROS, Evidence, by_seed, clock, raced, read, seeds, told
from vitlab.measure import paper


def points() -> pd.DataFrame:
    """The race of the twelve points against timm's dense net, with knobs."""
    rows = read("throughput_deit_small_cpu_fp32")
    rows = rows[rows.name.str.contains(",")]
    knobs = rows.name.str.split(", ", expand=True)
    return rows.assign(length=knobs[0].astype(int), keep=knobs[1].astype(float))


def printed_points() -> pd.DataFrame:
    rows = paper("supervit").query("backbone == 'deit_small' and variant.isna()")
    return rows[rows.source.str.endswith("Table 1")]


def costs() -> Evidence:
    both = points().merge(printed_points(), on=["length", "keep"], suffixes=("", "_paper"))
    figures = tuple((printed, ours, 1) for printed, ours in zip(both.gmacs_paper, both.gmacs, strict=True))
    return Evidence(f"GFLOPs of {len(both)} points", figures, "figures", "GFLOPs", ZEROS, ("throughput_deit_small_cpu_fp32",))


def speed(length: str, keep: str) -> Evidence:
    row = points().query(f"length == {length} and keep == {keep}")
    return raced(f"DeiT-S, {length}×{length}, keep {keep}, against timm's DeiT-S", row, "throughput_deit_small_cpu_fp32")


def speeds() -> Evidence:
    """Ours over the paper's, both over their dense net."""
    printed = printed_points()
    dense = paper("dense").query("backbone == 'deit_small'").images_per_s.iloc[0]
    both = points().merge(printed, on=["length", "keep"], suffixes=("", "_paper"))
    return clock("speed-up here over that on the paper's A100, twelve points", both.speed_up * dense / both.images_per_s_paper,
                 both, "throughput_deit_small_cpu_fp32")


def small(training: str, length: str, keep: str) -> pd.Series:
    return by_seed("supervit_small_points", "top1", training=training, length=int(length), keep=float(keep))


def over_plain(length: str, keep: str) -> Evidence:
    """The super-net at a point less the plain ViT at its own; 7×7 stands for the paper's 14×14."""
    gap = small("super", length, keep) - small("plain", "7", "1")
    return seeds(f"super-net at {length}×{length}, keep {keep}, less a plain ViT at 7×7, equal steps (the super-net's have four "
                 "passes)", gap, EASY, "supervit_small_points")


def gains(training: str) -> pd.DataFrame:
    """Super-net less every sub-net alone: a row a seed, a column a point."""
    wide = read("supervit_small_points").pivot(index="seed", columns=["training", "length", "keep"], values="top1")
    return (wide["super"] - wide[training]).dropna(axis=1)


def over_alone(training: str) -> Evidence:
    gap = gains(training)
    return seeds(f"inside the super-net less {training}, least of {gap.shape[1]} points", gap.min(axis=1), EASY,
                 "supervit_small_points")


def gains_by_rate() -> Evidence:
    gap = gains("alone, equal passes").T.groupby("keep").mean().T
    return seeds("gain over sub-nets alone at keep 0.5 less that at keep 1, mean of lengths", gap[0.5] - gap[1.0], EASY,
                 "supervit_small_points")


def between(better: str, worse: str) -> Evidence:
    """Two points of the long run, "length keep" each."""
    wide = read("supervit_shipped_points").pivot(index="seed", columns=["length", "keep"], values="top1")
    one, other = ((int(n), float(r)) for n, r in (point.split() for point in (better, worse)))
    return seeds(f"{one[0]}×{one[0]}, keep {one[1]:g}, less {other[0]}×{other[0]}, keep {other[1]:g}", wide[one] - wide[other],
                 HARD, "supervit_shipped_points")


def dropping(study: str, point: str, better: str, worse: str) -> Evidence:
    """The same net and number of tokens, others dropped at test time."""
    name = f"supervit_{study}_claims"
    gap = told(name, f"top1 at {point}, dropping {better}") - told(name, f"top1 at {point}, dropping {worse}")
    said = {"low": "the least attended", "high": "the most attended", "random": "any"}
    return seeds(f"at {point}: dropping {said[better]} less dropping {said[worse]}, at test time only", gap,
                 HARD if study == "shipped" else EASY, name)


def exits() -> Evidence:
    """Costs at which the two cascades are as accurate as the plain ViT."""
    one, other = (told("dvt_small_claims", f"cost of the plain ViT / cost at its accuracy, {name}", "1300")
                  for name in ("supervit", "dvt, both"))
    return seeds("DVT's cost over SuperViT's with early exits at a plain ViT's accuracy, equal steps (SuperViT's have four "
                 "passes)", one / other, EASY, "dvt_small_claims", unit="×")


def training_time() -> Evidence:
    rows = read("supervit_training_cpu_fp32").query("what == 'step'").set_index("name")
    twelve = points().gmacs.sum() / points().gmacs.max()
    step = rows.ratio["four sub-nets"]
    what = "a step of twelve DeiT-S alone, as their GFLOPs say, over a measured step of one SuperViT"
    sources = "supervit_training_cpu_fp32", "throughput_deit_small_cpu_fp32"
    return Evidence(what, (twelve / step,), "clock", "×", RANDOM, sources)
