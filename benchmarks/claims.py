"""What the five papers claim, beside what shows here.  python benchmarks/claims.py [--quick | --cifar10 PATH]

Remakes data/claims.csv from data/results and prints it. `--quick` first runs the scripts behind it on the default data: counts
and races, minutes each, and the short trainings, hours where runs/ does not hold them yet. `--cifar10 PATH` (a hub name or a
folder of parquet files) runs those, the long trainings and the study on CIFAR-10. claims_of_papers.csv holds what people typed:
paper, place, claim and figure; `above`, what ours must exceed (empty: 0, only the direction is claimed); `measure`, a function of
evidence/ with its words; and where there is nothing to measure `why`. The rest is computed, verdicts by `judge`.
"""
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
from evidence import Evidence, read

from vitlab.measure.records import DATA

HERE = Path(__file__).parent
TYPED, MADE = HERE / "claims_of_papers.csv", DATA / "claims.csv"
HOLDS, NOT_SHOWN, CANNOT = "holds", "does not show", "cannot be tested here"
SEEDS = 3                                                   # fewer have no spread worth the name
RACES = ("paper_costs.py", "dvt_costs.py", "throughput.py", "dvt_speed.py", "revit_speed.py", "spvit_speed.py", "svit_speed.py",
         "spvit_latency.py", "edge.py 100", "revit_training.py", "supervit_training.py")
SHORT = ("supervit_small.py", "dvt_small.py", "revit_small.py", "spvit_small.py settled", "spvit_small.py drawn",
         "spvit_pooled.py", "svit_small.py", "svit_dense.py", "side_by_side.py shapes")
LONG = ("supervit_shipped.py", "dvt_shipped.py", "revit_shipped.py", "spvit_shipped.py", "svit_shipped.py")
WRITERS = {                                                 # of tables that are not called like their script
    "throughput_deit_small": "throughput.py", "spvit_small": "spvit_small.py settled", "spvit_drawn": "spvit_small.py drawn",
    "svit_batch": "svit_speed.py", "edge": "edge.py 100", "side_by_side_shapes": "side_by_side.py shapes",
    "side_by_side_cifar10": "side_by_side.py cifar10",
}


def writer(table: str) -> str:
    """The script, with its arguments, that writes a table."""
    for start, script in WRITERS.items():
        if table.startswith(start):
            return script
    return next(script.name for script in sorted(HERE.glob("*.py"), key=lambda path: -len(path.stem))
                if table.startswith(script.stem))


def judge(found: Evidence, above: float) -> dict:
    """Ours, its spread, how many of what, the verdict and why.

    A training's difference holds if in every seed it is above the bound and if the mean is by more than the standard deviation
    over the seeds; fewer than SEEDS seeds decide nothing. A measured ratio holds if all of it reaches the bound. Printed figures
    hold if ours are all within one unit of the last printed digit.
    """
    if found.of == "seeds":
        return by_seeds(pd.Series(found.values), above, found.unit)
    return by_clock(found, above) if found.of == "clock" else by_figures(found)


def by_seeds(values: pd.Series, above: float, unit: str) -> dict:
    agree, never = int((values > above).sum()), int(values.isna().sum())
    mean, spread = (float("nan"),) * 2 if never else (values.mean(), values.std())
    beyond = f"above {above:g} {unit}".replace(" ×", "×")
    if len(values) < SEEDS:
        verdict, why = CANNOT, f"{len(values)} of the {SEEDS} seeds that a verdict takes"
    elif agree == len(values) and mean - above > spread:
        verdict, why = HOLDS, f"{beyond} in every seed, the mean by more than the spread"
    else:
        verdict, why = NOT_SHOWN, f"{beyond} in {agree} of {len(values)} seeds"
        why += ", the mean by no more than the spread" if agree == len(values) else ""
    why += f", never reached in {never}" if never else ""
    return {"ours": mean, "spread": spread, "n": len(values), "of": "seeds", "verdict": verdict, "why": why}


def by_clock(found: Evidence, above: float) -> dict:
    least, most, n = min(found.values), max(found.values), len(found.values)
    reached = sum(value >= above for value in found.values)
    why = f"{least:.2f}×, {'at least' if reached == n else 'below'} {above:g}×"
    why = why if n == 1 else f"{reached} of {n} at least {above:g}×, {least:.2f}× to {most:.2f}×"
    why += "" if found.runs or found.spread is not None else "; no spread was saved"
    return {"ours": least, "spread": found.spread, "n": found.runs, "of": "passes" if found.runs else None,
            "verdict": HOLDS if reached == n else NOT_SHOWN, "why": why}


def by_figures(found: Evidence) -> dict:
    off = [(abs(ours - printed) * 10 ** digits, f"{ours:.{digits + 1}f} for {printed:.{digits}f}")
           for printed, ours, digits in found.values]
    right, (_, furthest) = sum(units <= 1 for units, _ in off), max(off)
    return {"ours": right, "spread": None, "n": len(off), "of": "figures",
            "verdict": HOLDS if right == len(off) else NOT_SHOWN,
            "why": f"{right} of {len(off)} within one unit of the last printed digit, furthest {furthest}"}


def row(typed: pd.Series) -> dict:
    """One line of the table."""
    one = {"paper": typed.paper, "place": typed.place, "claim": typed.claim, "papers_figure": typed.papers_figure}
    if not typed.measure:
        return one | {"verdict": CANNOT, "why": typed.why}
    name, *words = typed.measure.split(" | ")
    module, _, function = name.partition(".")
    found = getattr(import_module(f"evidence.{module}"), function)(*words)
    tables = [read(source) for source in found.sources]
    told = {key: "; ".join(sorted({str(each) for table in tables for each in table[key].unique()})) for key in ("date", "commit")}
    return one | {"measured": found.what, **judge(found, float(typed.above or 0)), "promised": found.promised,
                  "unit": found.unit, "data": found.data,
                  "source": "; ".join(f"data/results/{name}.csv" for name in found.sources),
                  "script": "; ".join(dict.fromkeys(f"benchmarks/{writer(name)}" for name in found.sources)), **told}


def made() -> pd.DataFrame:
    """The whole table, from what is typed and what is saved."""
    typed = pd.read_csv(TYPED, dtype=str, keep_default_na=False)
    columns = ["paper", "place", "claim", "papers_figure", "measured", "ours", "spread", "promised", "n", "of", "unit", "data",
               "verdict", "why", "source", "script", "date", "commit"]
    table = pd.DataFrame([row(each) for _, each in typed.iterrows()])[columns]
    return table.assign(n=table.n.astype("Int64"))


def run(scripts: tuple[str, ...]) -> None:
    for script in scripts:
        name, *arguments = script.split()
        subprocess.run([sys.executable, str(HERE / name), *arguments], check=True)


def text() -> str:
    """data/claims.csv, as it should be now."""
    return made().to_csv(index=False, float_format="%.4g", lineterminator="\n")


def main(how: str | None = None, path: str | None = None) -> None:
    if how not in (None, "--quick", "--cifar10") or (how == "--cifar10") != (path is not None):
        raise SystemExit("python benchmarks/claims.py [--quick | --cifar10 PATH]")
    if how:
        run(RACES + SHORT)
    if path:
        run(LONG)
        subprocess.run([sys.executable, str(HERE / "side_by_side.py"), "cifar10", "0,1,2", "1", path], check=True)
    MADE.write_text(text())
    print(pd.read_csv(MADE)[["paper", "place", "claim", "ours", "spread", "n", "unit", "verdict"]].to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
