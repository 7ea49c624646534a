"""README's numbers and figures, made from the saved results.  python benchmarks/report.py

Rewrites the tables between README's markers and figures/speed.png, alone.png and tradeoff.png; figures/explorer.png is a
screenshot that the browser test takes when VITLAB_SCREENSHOTS names a folder.
"""
import re

import pandas as pd

from vitlab import checkpoint, plots
from vitlab.measure import paper
from vitlab.measure.records import DATA

RESULTS, README = DATA / "results", DATA.parent / "README.md"


def read(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def speed_rows() -> pd.DataFrame:
    """Ours and the paper's rows of DeiT-S."""
    ours = read("throughput_deit_small_cpu_fp32")
    ours = ours[ours.name.str.contains(",")]
    knobs = ours.name.str.split(", ", expand=True)
    ours = ours.assign(length=knobs[0].astype(int), keep=knobs[1].astype(float), method="supervit", source="ours")
    printed = paper("supervit").query("backbone == 'deit_small' and variant.isna()")
    return pd.concat([ours, printed[printed.source.str.endswith("Table 1")]], ignore_index=True)


def markdown(frame: pd.DataFrame) -> str:
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *([str(v) for v in row] for row in frame.itertuples(index=False))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed_table() -> str:
    rows = speed_rows()
    ours, printed = (rows[rows.source == "ours"], rows[rows.source != "ours"])
    both = ours.merge(printed[["length", "keep", "gmacs", "top1"]], on=["length", "keep"], suffixes=("", "_paper"))
    table = pd.DataFrame({
        "length": both.length.map(lambda n: f"{n}×{n}"), "keep": both.keep, "GFLOPs, paper": both.gmacs_paper,
        "ours": both.gmacs.map("{:.2f}".format), "promised": both.flops_speed_up.map("{:.2f}×".format),
        "measured": both.speed_up.map("{:.2f}×".format), "A100, paper": both.paper_speed_up.map("{:.2f}×".format)})
    one = ours.iloc[0]
    return markdown(table) + f"\n\n{one.hardware}, {one.threads} threads, batch {one.batch}, {one.precision}, torch {one.torch}, {one.date}."


def spread(values: pd.Series, digits: int = 1) -> str:
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def small_table() -> str:
    rows = read("supervit_small_points")
    table = rows.groupby(["length", "keep", "training"]).top1.apply(spread).unstack().fillna("")
    table = table[["super", "alone, equal passes", "alone, equal steps", "plain"]].reset_index()
    return markdown(table.assign(length=table.length.map(lambda n: f"{n}×{n}")))


def shipped_table() -> str:
    table = read("supervit_shipped_points").groupby(["length", "keep"]).top1.apply(spread).unstack().reset_index()
    return markdown(table.assign(length=table.length.map(lambda n: f"{n}×{n}")).rename(columns=lambda c: f"keep {c}" if c != "length" else c))


def said(study: str, claim: str, digits: int = 2) -> str:
    rows = read(f"supervit_{study}_claims")
    return spread(rows[rows.claim == claim].value, digits)


def claims() -> str:
    facts, _ = checkpoint.read(DATA / "checkpoints" / "supervit_shapes.safetensors")
    drop = {kind: " / ".join(said("shipped", f"top1 at (14, {keep}), dropping {kind}", 1) for keep in (0.5, 0.3, 0.1))
            for kind in ("low", "random", "high")}
    return "\n".join([
        f"* **Keep rates.** At the trained rates dropping costs almost nothing here; at 14×14 and keep 0.5 / 0.3 / 0.1 (the last two never "
        f"trained) top-1 is {drop['low']} when the least attended patches go, {drop['random']} when random ones go, and {drop['high']} when "
        f"the most attended go.",
        f"* **Attention** at the first drop lies on the answer's objects with a share of "
        f"{said('shipped', 'class attention at the first drop: on the answer' + chr(39) + 's objects')} (chance "
        f"{said('shipped', 'chance of a patch to be the answer' + chr(39) + 's')}); of the patches kept to the end at keep 0.5, "
        f"{said('shipped', 'patches kept at the end, keep 0.5: on the answer' + chr(39) + 's objects')} are the objects'.",
        f"* **Hard images have smaller objects.** Where there is one object, it fills "
        f"{said('shipped', 'object' + chr(39) + 's share of the picture, easy, one object')} of the picture if the smallest point is right, "
        f"{said('shipped', 'object' + chr(39) + 's share of the picture, hard, one object')} if only the largest is.",
        f"* The shipped net learned for {facts['steps']:,} steps on difficulty up to {facts['trained_difficulty']} and is tested at {facts['difficulty']:g}.",
    ])


def main() -> None:
    plots.save(plots.speed(speed_rows()), "speed")
    alone = read("supervit_small_points").query("training != 'plain'").assign(length=lambda f: f.length.map(lambda n: f"{n}×{n}"))
    plots.save(plots.by_group(alone, x=("length", "keep"), color="training"), "alone")
    shipped = read("supervit_shipped_points").groupby(["length", "keep"], as_index=False).mean(numeric_only=True)
    plots.save(plots.tradeoff(shipped.assign(method="supervit", source="ours")), "tradeoff")
    text = README.read_text()
    for name, part in (("speed", speed_table()), ("small", small_table()), ("shipped", shipped_table()), ("claims", claims())):
        text, found = re.subn(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, part=part: f"{m[1]}\n{part}\n\n{m[2]}", text, flags=re.S)
        if found != 1:
            raise ValueError(f"README.md needs one pair of markers <!-- {name} --> and <!-- end -->, it has {found}")
    README.write_text(text)


if __name__ == "__main__":
    main()
