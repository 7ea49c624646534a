"""The figures of README and of the notebooks' margins, drawn from the saved results.  python benchmarks/figures.py

Writes figures/speed.png, figures/alone.png and figures/tradeoff.png; figures/explorer.png is a screenshot that the browser test
takes when VITLAB_SCREENSHOTS names a folder.
"""
import pandas as pd

from vitlab import plots
from vitlab.measure import paper
from vitlab.measure.records import DATA

RESULTS = DATA / "results"


def speed() -> pd.DataFrame:
    """Ours and the paper's rows of DeiT-S, each with its dense yardstick."""
    ours = pd.read_csv(RESULTS / "throughput_deit_small_cpu_fp32.csv")
    points = ours[ours.name.str.contains(",")]
    knobs = points.name.str.split(", ", expand=True)
    ours = points.assign(length=knobs[0].astype(int), keep=knobs[1].astype(float), method="supervit", source="ours")
    printed = paper("supervit").query("backbone == 'deit_small' and variant.isna()")
    return pd.concat([ours, printed[printed.source.str.endswith("Table 1")]], ignore_index=True)


def main() -> None:
    plots.save(plots.speed(speed()), "speed")
    alone = pd.read_csv(RESULTS / "supervit_small_points.csv")
    alone = alone[alone.training != "plain"].assign(length=lambda f: f.length.map(lambda n: f"{n}×{n}"))
    plots.save(plots.by_group(alone, x=("length", "keep"), color="training"), "alone")
    shipped = pd.read_csv(RESULTS / "supervit_shipped_points.csv").groupby(["length", "keep"], as_index=False).mean(numeric_only=True)
    plots.save(plots.tradeoff(shipped.assign(method="supervit", source="ours")), "tradeoff")


if __name__ == "__main__":
    main()
