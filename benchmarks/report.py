"""The numbers and figures of both READMEs, made from the saved results.  python benchmarks/report.py

Rewrites the tables between the markers of README.md and data/results/README.md, and the figures: speed, alone, tradeoff,
kept, governor and claims; the pictures of the explorers, figures/explorer_NN.png, are taken by tests/panels.py. Cost has one
unit, which each explains once: GFLOPs, 1e9 multiply-adds per picture, `gmacs` in the results.
"""
import re
from collections.abc import Iterable

import pandas as pd
import torch

from vitlab import Trace, checkpoint, data, load, plots
from vitlab.measure import paper
from vitlab.measure.records import DATA

RESULTS = DATA / "results"
PAGES = DATA.parent / "README.md", RESULTS / "README.md"
FRONT = {                                                   # of each paper: how fast it is, and how good
    "SuperViT": ("With half of the patches kept DeiT-S answers almost twice as many pictures in a second.",
                 "Dropping half of the patches at 14×14 costs no more than 0.6 points."),
    "DVT": ("The measured speed is what the FLOPs promise.", "Early exits save without loss against the single net."),
    "ReViT": ("The measured speed follows the FLOPs.", "Half of DeiT-S's time is saved for 0.1 points."),
    "SPViT": ("DeiT-S at 2.64 GFLOPs takes 60 ms of 113 for one picture.",
              "At three fifths of the cost DeiT-S loses no more than 0.46 points."),
    "SViT": ("SViT-S answers 47 % more pictures in a second than DeiT-S.", "SViT loses no more than 0.4 points."),
}


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
    body = ([str(v) for v in row] for row in frame.itertuples(index=False))
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gflops(cost: float) -> str:
    """A cost to three digits, from 0.00547 of a small net to 4.60 of DeiT-S."""
    return f"{cost:#.3g}"


def speed_table() -> str:
    rows = speed_rows()
    ours, printed = (rows[rows.source == "ours"], rows[rows.source != "ours"])
    both = ours.merge(printed[["length", "keep", "gmacs", "top1"]], on=["length", "keep"], suffixes=("", "_paper"))
    table = pd.DataFrame({
        "length": both.length.map(lambda n: f"{int(n)}×{int(n)}"), "keep": both.keep, "GFLOPs, paper": both.gmacs_paper,
        "ours": both.gmacs.map(gflops), "promised": both.flops_speed_up.map("{:.2f}×".format),
        "measured": both.speed_up.map("{:.2f}×".format), "A100, paper": both.paper_speed_up.map("{:.2f}×".format)})
    return f"{markdown(table)}\n\n{where(ours.iloc[0])}"


def sizes_table() -> str:
    """Measured over promised of all points, on three sizes of DeiT, and where timm's net and ours are compiled."""
    ways = {"deit_tiny": "", "deit_small": "", "deit_base": "", "deit_small, all compiled": "_compiled"}
    parts = [read(f"throughput_{net.split(',')[0]}_cpu_fp32{ending}").assign(net=net) for net, ending in ways.items()]
    rows = [{"net": part.net[0], "threads": part.threads[0], "timm's, images/s": f"{part.images_per_s[0]:.1f}",
             **{row["name"]: f"{row.speed_up:.2f}× of {row.flops_speed_up:.2f}×" for _, row in part.iterrows()
                if row["name"] in ("14, 1", "14, 0.5", "10, 0.7", "8, 0.5")},
             "least of the promise": f"{part.speed_up_over_flops[1:].min():.2f}"} for part in parts]
    one = parts[0].iloc[0]
    how = f"batch {one.batch}, {one.precision}, torch {one.torch}"
    return f"{markdown(pd.DataFrame(rows))}\n\n{one.hardware}, {how}, {one.date}."


def spread(values: pd.Series, digits: int = 1) -> str:
    """Mean ± standard deviation over the seeds; one seed has none."""
    return f"{values.mean():.{digits}f}" + (f" ± {values.std():.{digits}f}" if len(values) > 1 else "")


def small_table() -> str:
    rows = read("supervit_small_points")
    table = rows.groupby(["length", "keep", "training"]).top1.apply(spread).unstack().fillna("")
    table = table[["super", "alone, equal passes", "alone, equal steps", "plain"]].reset_index()
    return markdown(table.assign(length=table.length.map(lambda n: f"{n}×{n}")))


def shipped_table() -> str:
    table = read("supervit_shipped_points").groupby(["length", "keep"]).top1.apply(spread).unstack().reset_index()
    table = table.rename(columns={keep: f"keep {keep:g}" for keep in (0.5, 0.7, 1.0)})
    return markdown(table.assign(length=table.length.map(lambda n: f"{n}×{n}")))


def said(claim: str, digits: int = 2) -> str:
    rows = read("supervit_shipped_claims")
    return spread(rows[rows.claim == claim].value, digits)


def claims() -> str:
    """What the long run shows, in sentences."""
    facts, _ = checkpoint.read(DATA / "checkpoints" / "supervit_shapes.safetensors")
    low, random, high = (" / ".join(said(f"top1 at (14, {keep}), dropping {kind}", 1) for keep in (0.5, 0.3, 0.1))
                         for kind in ("low", "random", "high"))
    attention, chance, kept = (said(name) for name in (
        "class attention at the first drop: on the answer's objects", "chance of a patch to be the answer's",
        "patches kept at the end, keep 0.5: on the answer's objects"))
    easy, hard = (said(f"object's share of the picture, {kind}, one object") for kind in ("easy", "hard"))
    return f"""* **Keep rates.** At 14×14 and keep 0.5 / 0.3 / 0.1 (only the first was trained) top-1 is {low}
  when the least attended patches go, {random} when random ones go, {high} when the most attended go.
  At the trained rates dropping costs next to nothing on these pictures: compare the columns above.
* **Attention** at the first drop lies on the answer's objects with a share of {attention} (chance {chance});
  of the patches that are kept to the end at keep 0.5, {kept} are the objects'.
* **Hard images have smaller objects.** Where there is one object, it fills {easy} of the picture
  if the smallest point is right, {hard} if only the largest is.
* The net of the explorer learned for {facts["steps"]:,} steps at difficulty up to {facts["trained_difficulty"]:g}
  and is tested at {facts["difficulty"]:g}."""


def dvt_costs() -> str:
    table = read("dvt_costs")
    table["cost"] = table.gmacs.map("{:.2f}".format) + " (" + table.paper.map("{:.2f}".format) + ")"
    wide = table.pivot(index="reuse", columns="exit", values="cost").loc[["no reuse", "features", "relations", "both"]]
    return markdown(wide.rename(columns={1: "exit 1, 7×7", 2: "exit 2, 10×10", 3: "exit 3, 14×14"}).reset_index())


def where(one: pd.Series) -> str:
    """The machine of a measurement."""
    threads = "1 thread" if one.threads == 1 else f"{int(one.threads)} threads"
    return f"{one.hardware}, {threads}, batch {int(one.batch)}, {one.precision}, torch {one.torch}, {one.date}."


def dvt_speed() -> str:
    rows = read("dvt_speed_cpu_fp32").query("name == 'half leave'")
    table = pd.DataFrame({"cascade": rows.backbone + ", " + rows.grids, "promised": rows.gmacs_ratio.map("{:.2f}×".format),
                          "measured": rows.speed_up.map("{:.2f}×".format), "images/s": rows.images_per_s.map("{:.1f}".format)})
    return f"{markdown(table)}\n\n{where(rows.iloc[0])}"


def dvt_small() -> str:
    rows, claims = read("dvt_small_exits"), read("dvt_small_claims")
    table = rows.groupby(["steps", "cascade", "exit"]).top1.apply(spread).unstack().fillna("")
    cost = rows.groupby(["steps", "cascade", "exit"]).gmacs.mean().unstack().max(axis=1)

    def factor(kind: str) -> pd.Series:
        part = claims.assign(cascade=claims.claim.str.extract(f"{kind}, (.*)", expand=False)).dropna(subset="cascade")
        return part.groupby(["steps", "cascade"]).value.apply(
            lambda v: f"{spread(v)}×" if v.notna().all() else f"reached by {v.notna().sum()} of {len(v)}")

    table = table.rename(columns=lambda k: f"exit {k}").assign(**{
        "GFLOPs, last exit": cost.map(gflops), "saving, accuracy of the plain ViT": factor("at its accuracy"),
        "saving, own last exit − 0.5": factor("within half a point of it")})
    return markdown(table.fillna("").reset_index())


def dvt_shipped() -> str:
    exits, claims = read("dvt_shipped_exits"), read("dvt_shipped_claims")
    top1 = exits.pivot(index="seed", columns="exit", values="top1").map("{:.1f}".format)
    saving = claims.pivot(index="seed", columns="claim", values="value").map("{:.2f}×".format).replace("nan×", "not reached")
    told = {f"cost of {net} / cost within {part} points of it": f"saving, accuracy of {short} {minus}".strip()
            for net, short in (("the single net", "14×14 alone"), ("the last exit", "exit 3"))
            for part, minus in ((0, ""), (0.5, "− 0.5"), (1, "− 1"))}
    table = top1.rename(columns={"single net": "14×14 alone"}).join(saving[[n for n in told if n in saving]].rename(columns=told))
    return markdown(table.reset_index())


def revit_table() -> str:
    """Tables 2 and 3 on the small nets."""
    rows = read("revit_small_points")
    names = ["alone", "no distillation", "separate, distilled", "distilled, tau 5", "distilled, token and transfers",
             "longer, no distillation", "longer, distilled", "shared LayerNorms", "shared positions", "picture resized",
             "shared kernel"]
    table = rows.groupby(["backbone", "training", "length"]).top1.apply(spread).unstack()[[7, 5, 4]]
    table = table.loc[[(net, name) for net in ("micro_patch8", "micro_plain8") for name in names if (net, name) in table.index]]
    return markdown(table.rename(columns=lambda n: f"{n}×{n}" if isinstance(n, int) else n).reset_index())


def revit_assigners() -> str:
    """How the assigner chooses, beside random choices with equal shares."""
    rows = read("revit_small_assigners")
    wide = rows[rows.kind.isin(("TLA", "random"))].pivot(index=["cost_weight", "seed"], columns="kind", values="top1")
    per = rows[rows.kind == "TLA"].groupby("cost_weight")
    table = pd.DataFrame({
        "GFLOPs": per.gmacs.mean().map(gflops), "top-1": per.top1.apply(spread),
        "random, equal shares": wide["random"].groupby("cost_weight").apply(spread),
        "gain": (wide["TLA"] - wide["random"]).groupby("cost_weight").apply(lambda v: spread(v, 2)),
        **{f"at {n}×{n}": per[f"share_{n}"].mean().map("{:.0%}".format) for n in (4, 5, 7)},
        **{f"object at {n}×{n}": per[f"size_{n}"].mean().map("{:.3f}".format).replace("nan", "") for n in (4, 5, 7)}})
    table.index = table.index.map("{:g}".format)
    alone = rows[rows.kind.isin(("fixed", "oracle"))].groupby("assigner", sort=False)
    said = {f"always {n}": f"always {n}×{n}" for n in (4, 5, 7)}
    beside = "; ".join(f"{said.get(name, name)} {spread(part.top1)} % at {gflops(part.gmacs.mean())} GFLOPs"
                       for name, part in alone)
    return f"{markdown(table.reset_index(names='cost weight'))}\n\nBeside it: {beside}."


def revit_speed() -> str:
    rows = read("revit_speed_cpu_fp32")
    table = pd.DataFrame({"pictures": rows.name, "at each length": rows.assigned.where(rows.name == "assigned", "all at 14x14"),
                          "promised": rows.gmacs_ratio.map("{:.2f}×".format), "measured": rows.speed_up.map("{:.2f}×".format),
                          "images/s": rows.images_per_s.map("{:.1f}".format)})
    return f"{markdown(table)}\n\n{where(rows.iloc[0])}"


def revit_training() -> str:
    """Fig. 7: a row per way to train, a column per number of lengths."""
    rows = read("revit_training_cpu_fp32")
    told = rows.seconds_ratio.map("{:.2f}".format) + " of " + rows.gmacs_ratio.map("{:.2f}".format)
    told = rows.assign(told=told).pivot(index="training", columns="lengths", values="told")
    told = told[sorted(told, key=len)[1:]].assign(**{
        "parameters, most lengths (M)": rows.groupby("training").parameters.max().div(1e6).map("{:.1f}".format)})
    return f"{markdown(told.reset_index())}\n\n{where(rows.iloc[0])}"


def revit_shipped() -> str:
    rows = read("revit_shipped_assigners").set_index("assigner")
    alone = ", ".join(f"{rows.top1[f'always {n}']:.1f} % at {n}×{n}" for n in (14, 10, 7))
    tla, lots = rows[rows.kind == "TLA"], rows[rows.kind == "random"]
    gain = tla.top1.to_numpy() - lots.top1.to_numpy()
    enough = tla[tla.top1 >= rows.top1["always 14"] - 0.5].gmacs
    saved = (f"Its cheapest point within half a point of 14×14 costs 1/{rows.gmacs['always 14'] / enough.min():.2f} of it."
             if len(enough) else "No point of it comes within half a point of 14×14.")
    return (f"The ReViT of notebook 04 (hard end of the dial, one seed; `python benchmarks/revit_shipped.py`) has {alone}.\n"
            f"Its assigner is {gain.min().round(1) + 0.0:+.1f} to {gain.max():+.1f} points from random choices with equal "
            f"shares, depending on the cost weight. {saved}")


SPVIT = {"dense": "dense", "selector": "SPViT", "drawn to the end": "decisions drawn to the end", "random": "random scores",
         "structured": "narrower net"}
PARTS = {"dense": "dense", "selector": "SPViT", "random": "random scores", "no package": "no package",
         "single head": "one selector head"}
POOLED = {"dense": "dense, no class token", "selector": "SPViT", "no package": "no package"}
SVIT = {"dense": "dense", "return": "SViT", "drawn to the end": "decisions drawn to the end", "inherit": "none comes back",
        "fixed rate": "shares of every image", "random": "random gates"}          # variant -> what a reader calls it

DETECTORS = {"dense": "dense", "return": "SViT", "inherit": "none comes back", "fixed rate": "shares of every image",
             "random": "random gates", "discard": "gone from the map", "return, frozen": "SViT, gates alone learn",
             "random, frozen": "random gates, nothing learns"}


def worth(file: str, names: dict[str, str], own: str) -> str:
    """What the parts of a method are worth on the small net; names: of the variants, own: the method's."""
    rows = read(file)
    gain = rows.pivot(index="seed", columns="variant", values="top1")
    better, gain, per = f"{names[own]} better by", gain.rsub(gain[own], axis=0), rows.groupby("variant")
    table = pd.DataFrame({"GFLOPs": per.gmacs.mean().map("{:.4f}".format), "top-1": per.top1.apply(spread),
                          better: gain.apply(lambda v: spread(v, 2)), "same number for all": per.top1_fixed.apply(spread),
                          "drawn and masked": per.top1_drawn.apply(spread)})
    table = table.loc[[name for name in names if name in table.index]].replace({"nan": "", "nan ± nan": ""})
    table.loc[own, better] = ""
    return markdown(table.rename(index=names).reset_index(names="variant"))


def token_speed(file: str, left: str) -> str:
    """A race of ways to leave tokens out against timm's net; left: what the range of counts is called."""
    rows = read(file).query("name != 'timm'")
    table = pd.DataFrame({"net": rows.name, "GFLOPs": rows.gmacs.map("{:.2f}".format),
                          "promised": rows.gmacs_ratio.map("{:.2f}×".format), "measured": rows.speed_up.map("{:.2f}×".format),
                          left: [f"{least:.0f} to {most:.0f}" if least == least else ""
                                 for least, most in zip(rows.tokens_least, rows.tokens_most)]})
    return f"{markdown(table.replace({'nan': '', 'nan×': ''}))}\n\n{where(rows.iloc[0])}"


def svit_batch(file: str) -> str:
    rows = read(file).query("name == 'svit'")
    table = pd.DataFrame({"batch": rows.batch, "promised": rows.gmacs_ratio.map("{:.2f}×".format),
                          "measured": rows.speed_up.map("{:.2f}×".format), "images/s": rows.images_per_s.map("{:,.1f}".format)})
    return markdown(table)


def svit_shipped() -> str:
    rows = read("svit_shipped_points")
    table = pd.DataFrame({"k": rows.keep.map("{:g}".format), "GFLOPs": rows.gmacs.map("{:.4f}".format),
                          "top-1": rows.top1.map("{:.1f}".format), "same number for all": rows.top1_fixed.map("{:.1f}".format)})
    return markdown(table)


def svit_dense() -> str:
    """Average precision of a detector, with what its backbone spends."""
    per = read("svit_dense_points").groupby("variant", sort=False)
    table = pd.DataFrame({"backbone GFLOPs": per.gmacs.mean().map("{:.4f}".format), "box AP": per.box_ap.apply(spread),
                          "mask AP": per.mask_ap.apply(spread), "blocks used by objects": per.used_object.apply(spread, digits=2),
                          "by the rest": per.used_background.apply(spread, digits=2)})
    return markdown(table.rename(index=DETECTORS).reset_index(names="variant"))


def edge() -> str:
    """One picture at a time on ONNX Runtime, against the dense net on the same engine."""
    rows = read("edge_cpu").query("engine == 'onnxruntime' and name != 'dense'")
    table = pd.DataFrame({"net": rows.backbone + ", " + rows.name, "threads": rows.threads, "numbers": rows.precision,
                          "promised": rows.gmacs_ratio.map("{:.2f}×".format), "measured": rows.speed_up.map("{:.2f}×".format),
                          "against the dense net in PyTorch": rows.speed_up_over_torch.map("{:.2f}×".format),
                          "median": rows.median_ms.map("{:.1f} ms".format)})
    own, first = rows.name.str.startswith("spvit"), rows.iloc[0]
    return f"{markdown(table[own])}\n\n{first.hardware}, ONNX Runtime {first.onnxruntime}, torch {first.torch}, {first.date}."


def spvit_latency() -> str:
    rows = read("spvit_latency_cpu_fp32")
    table = pd.DataFrame({"net": rows.backbone, "of the dense net's time, asked": rows.asked_share.map("{:.0%}".format),
                          "measured": rows.measured_share.map("{:.0%}".format), "off by": rows.off.map("{:+.0%}".format),
                          "dense": rows.dense_ms.map("{:.1f} ms".format), "this net": rows.measured_ms.map("{:.1f} ms".format),
                          "GFLOPs": rows.gmacs.map("{:.2f}".format)})
    return f"{markdown(table)}\n\n{where(rows.assign(batch=1, precision='fp32').iloc[0])}"


def schedules() -> str:
    """What others publish, raced here."""
    rows = read("published_cpu_fp32").query("method != 'dense'")
    table = pd.DataFrame({"schedule": rows.method + ", " + rows.label.astype(str), "net": rows.backbone,
                          "GFLOPs": rows.gmacs.map("{:.2f}".format), "top-1, published": rows.top1.map("{:.1f}".format),
                          "promised": rows.gmacs_ratio.map("{:.2f}×".format), "measured": rows.speed_up.map("{:.2f}×".format),
                          "of the promise": rows.kept.map("{:.0%}".format),
                          "beside timm's dense": rows.kept_of_timms.map("{:.0%}".format)})
    base = rows[rows.backbone == "deit_base"].iloc[0]
    return f"{markdown(table.replace('nan', ''))}\n\n{where(rows.iloc[0])} DeiT-B: batch {base.batch}."


def tome_shipped() -> str:
    """Accuracy of the shipped nets without training: merged at each r, and the differences that the paper speaks of."""
    rows, said = read("tome_shipped_points"), read("tome_shipped_claims")
    merge, drop = (rows[rows.way == way] for way in ("merge", "drop"))
    table = merge.groupby(["r", "net"], sort=False).top1.apply(spread).unstack()[list(merge.net.unique())]
    table.insert(0, "GFLOPs", merge.groupby("r").gmacs.mean().map("{:.4f}".format))
    per = drop.groupby("keep")
    dropped = ", ".join(f"{spread(part.top1)} % at keep {keep:g} ({part.gmacs.mean():.4f} GFLOPs)" for keep, part in per)
    table = table.reset_index().assign(r=lambda t: t.r.astype(int)).rename(columns={"r": "r, merged per block"})
    told = said.groupby("claim", sort=False).value.apply(lambda v: spread(v, 2)).reset_index(name="points")
    return f"{markdown(table)}\n\nThe dense net with patches dropped instead: {dropped}.\n\n{markdown(told)}"


def headline() -> str:
    """One line for each method: a point of its paper, what the multiply-adds promise, what the clock says."""
    points, cascades, lengths = speed_rows().query("source == 'ours'"), read("dvt_speed_cpu_fp32"), read("revit_speed_cpu_fp32")
    spvit, svit = (read(f"{name}_speed_cpu_fp32") for name in ("spvit", "svit"))
    rows = [("SuperViT", "DeiT-S, 14×14 patches, keep rate 0.5", points.query("length == 14 and keep == 0.5")),
            ("SuperViT", "DeiT-S, 8×8 patches, keep rate 0.5", points.query("length == 8 and keep == 0.5")),
            ("DVT", "three T2T-ViT-12, half leave at each exit, against all going through",
             cascades.query("backbone == 't2t_vit_12' and grids == '7 -> 10 -> 14' and name == 'half leave'")),
            ("ReViT", "DeiT-S, 7×7, 10×10 and 14×14 patches to 77, 25 and 26 of 128 pictures", lengths[lengths.gmacs_ratio > 1]),
            ("SPViT", "DeiT-S, a budget of 2.64 GFLOPs", spvit[spvit.name.str.startswith("2.64 GFLOPs")]),
            ("SViT", "DeiT-S, k = 0.7", svit[svit.name.str.startswith("keep 0.7")])]
    first = [(method, what, part.iloc[0]) for method, what, part in rows]
    return markdown(pd.DataFrame([{
        "method": method, "net": what, "GFLOPs": gflops(row.gmacs),
        "promised": f"{row.flops_speed_up if 'flops_speed_up' in row else row.gmacs_ratio:.2f}×",
        "measured": f"{row.speed_up:.2f}×"} for method, what, row in first]))


def supervit_training() -> str:
    """A step and an evaluation, relative to the dense net's."""
    rows = read("supervit_training_cpu_fp32")
    table = pd.DataFrame({"what": rows.what, "net": rows["name"], "seconds": rows.seconds.map("{:.2f}".format),
                          "of the dense net's": rows.ratio.map("{:.2f}×".format),
                          "by the count": rows.gmacs_ratio.map("{:.2f}×".format).replace("nan×", "")})
    return f"{markdown(table)}\n\n{where(rows.iloc[0])}"


def governor() -> str:
    """How much of a promise is kept, quiet and loaded, with the accuracy of what answered."""
    rows = read("governor_cpu")
    per = rows.groupby(["who", "load"], sort=False)
    table = pd.DataFrame({"answered, mean": per.held.mean().map("{:.0%}".format),
                          "least window": per.held.min().map("{:.0%}".format),
                          "top-1 of the points used": per.top1.mean().map("{:.1f}".format)}).reset_index()
    one = rows[rows.who == "governor"].iloc[0]
    return f"{markdown(table)}\n\nThe governor switched {int(one.switches)} times. {one.hardware}, torch {one.torch}, {one.date}."


def gpu_points() -> str:
    """SuperViT's points in batches, and one picture at a time with and without CUDA graphs."""
    columns, hows, said = {}, {}, []
    for precision in ("fp32", "bf16"):
        rows = read(f"throughput_deit_small_cuda_{precision}").set_index("name")
        batch = f"{precision}, batch {int(rows.batch.iloc[0]):,}"
        columns |= {"promised": rows.flops_speed_up, batch: rows.speed_up,
                    f"its energy, {precision}": rows.joules["timm dense"] / rows.joules}
        if (RESULTS / f"throughput_deit_small_cuda_{precision}_graphs.csv").exists():
            graphs = read(f"throughput_deit_small_cuda_{precision}_graphs").set_index("name")
            columns[f"{batch}, as CUDA graphs"] = graphs.images_per_s / rows.images_per_s["timm dense"]
        alone = read(f"latency_deit_small_cuda_{precision}")
        one, alone = alone.iloc[0], alone.pivot(index="name", columns="how", values="median_ms")
        kept, share = rows.speed_up_over_flops.drop("timm dense"), alone.graphs / alone.eager
        took = 1000 * rows.batch / rows.images_per_s
        said.append(f"In {precision} the points reach {kept.min():.2f} to {kept.max():.2f} of their promise: timm's pass takes "
                    f"{took['timm dense']:.0f} ms, theirs {took.drop('timm dense').min():.0f} to {took.max():.0f}; "
                    f"as a CUDA graph one picture takes {share.min():.0%} to {share.max():.0%} of the time.")
        hows |= {f"one picture, {precision}": alone.eager, "as a CUDA graph" + " " * len(hows): alone.graphs}
    table = pd.DataFrame({name: values.map("{:.2f}×".format) for name, values in columns.items()}).join(
        pd.DataFrame({name: values.map("{:.1f} ms".format) for name, values in hows.items()}))
    said += [f"Batches: {where(rows.iloc[0])} One picture: torch {one.torch}, {one.date}."]
    return f"{markdown(table.reset_index(names='length, keep'))}\n\n{' '.join(said)}"


def gpu_methods() -> str:
    """The other methods' speed-ups in batches."""
    parts, base = [], {"spvit_speed": "timm", "svit_speed": "timm", "dvt_speed": "full", "revit_speed": "all largest"}
    for name, first in base.items():
        for precision in ("fp32", "bf16"):
            if (RESULTS / f"{name}_cuda_{precision}.csv").exists():
                rows = read(f"{name}_cuda_{precision}").query("name not in [@first, 'dense', 'masked']")
                kind = "" if "grids" not in rows else ", " + rows.backbone + " " + rows.grids
                parts.append(pd.DataFrame({
                    "net": name.removesuffix("_speed") + kind + ", " + rows.name, "against": first, "numbers": precision,
                    "batch": rows.batch, "promised": rows.gmacs_ratio.map("{:.2f}×".format),
                    "measured": rows.speed_up.map("{:.2f}×".format), "images/s": rows.images_per_s.map("{:,.0f}".format)}))
    return f"{markdown(pd.concat(parts))}\n\n{where(rows.iloc[0])}"


def gpu_race() -> str:
    """What others publish, in both precisions: how much of the promise is there."""
    kept = {f"{precision}, {column}": read(f"published_cuda_{precision}").query("method != 'dense'")
            .set_index(["method", "backbone", "label"])[column]
            for precision in ("fp32", "bf16") for column in ("speed_up", "kept")}
    gain = read("published_cuda_fp32").query("method != 'dense'").set_index(["method", "backbone", "label"]).gmacs_ratio
    table = pd.DataFrame({"promised": gain.map("{:.2f}×".format),
                          **{name: values.map(("{:.2f}×" if "speed" in name else "{:.0%}").format)
                             for name, values in kept.items()}}).reset_index()
    table.insert(0, "schedule", table.method + ", " + table.label.astype(str))
    return markdown(table.drop(columns=["method", "label"]).rename(columns=lambda n: n.replace("speed_up", "measured").replace(
        "kept", "of the promise")))


def loader() -> str:
    """Pictures that come, beside pictures that are learned from."""
    rows = read("loader_cpu")
    table = pd.DataFrame({"pictures": rows.what, "processes": rows.workers,
                          "come, images/s": rows.images_per_s.map("{:,.0f}".format),
                          "learned from, images/s": rows.net + ", " + rows.net_images_per_s.map("{:,.0f}".format),
                          "feeds": rows.feeds.map("{:.0f}×".format)})
    one = rows.iloc[0]
    return f"{markdown(table)}\n\n{one.hardware}, torch {one.torch}, {one.date}."


def side_by_side(name: str) -> str:
    """Everybody's best point, and the cheapest within a point of it, at equal passes; over the seeds where there are several."""
    rows, told = read(f"side_by_side_{name}_points"), []
    for method, own in rows.groupby("method", sort=False):
        seeds = [part for _, part in own.groupby("seed")]
        best = pd.DataFrame([part.loc[part.top1.idxmax()] for part in seeds])
        near = pd.DataFrame([part[part.top1 >= part.top1.max() - 1].sort_values("gmacs").iloc[0] for part in seeds])
        told.append({"method": method, "passes": int(best.passes.iloc[0]), "top-1, best": spread(best.top1),
                     "GFLOPs": gflops(best.gmacs.mean()), "points": len(seeds[0]),
                     "cheapest within a point": f"{near.top1.mean():.1f} at {gflops(near.gmacs.mean())}"})
    one, seeds = rows.iloc[0], rows.seed.nunique()
    first = "One seed" if seeds == 1 else f"Mean ± standard deviation of {seeds} seeds"
    trained = f"Trained on {'; '.join(rows.trained_on.unique())}. Judged on" if "trained_on" in rows else "Trained and judged on"
    return (f"{markdown(pd.DataFrame(told))}\n\n{first}, {one.n:,} test pictures each: half a point is chance. {trained} "
            f"{one.hardware}, {one.date}.")


def busy() -> str:
    """Training beside a process that keeps all cores busy."""
    rows = read("busy")
    seconds = {column: rows[f"{column}_s"].map("{:.3f} s".format) for column in ("quiet", "busy")}
    table = pd.DataFrame({"net": rows.method, "threads": rows.ways, "a step, alone": seconds["quiet"],
                          "beside it": seconds["busy"], "slower than the fastest alone": rows.slowdown.map("{:.2f}×".format)})
    one = rows.iloc[0]
    return f"{markdown(table)}\n\n{one.hardware}, {one.rounds} rounds in turns, torch {one.torch}, {one.date}."


def photos() -> str:
    """The nets for photographs: what each reaches at every point, and what its training took."""
    told = []
    for name in ("dense", "adaptive_depth", "supervit", "dvt", "revit", "spvit", "svit"):
        own = read(f"cifar10_{name}_points")
        one = own.iloc[-1]
        every = ", ".join(f"{row.top1:.1f} at {gflops(row.gmacs)}" for row in own.itertuples())
        told.append({"net": name, "top-1, largest point": f"{one.top1:.1f}", "GFLOPs": gflops(one.gmacs), "every point": every,
                     "passes": f"{one.passes} of {one.batch}", "minutes": f"{one.seconds / 60:.0f}",
                     "on": "a GPU" if "NVIDIA" in one.trained_on else "one thread"})
    places = pd.concat([read(f"cifar10_{row['net']}_points") for row in told]).trained_on.unique()
    return (f"{markdown(pd.DataFrame(told))}\n\nOne seed, {one.n:,} test pictures. Trained on: {'; '.join(places)}. Minutes "
            "on one thread are by the clock, on a machine that did other things at times and nothing at others.")


def verdicts() -> str:
    """How many claims of each paper hold, do not show, or cannot be tested here."""
    rows = pd.read_csv(DATA / "claims.csv")
    counts = pd.crosstab(rows.paper, rows.verdict).reindex(rows.paper.unique())
    table = pd.DataFrame({"paper": counts.index, "claims": counts.sum(axis=1), "hold": counts["holds"],
                          "do not show": counts["does not show"], "cannot be tested here": counts["cannot be tested here"]})
    return markdown(table)


def ours(row: pd.Series) -> str:
    """What shows here of one claim: what was compared, the number, of how many, on which pictures; or why nothing was."""
    if pd.isna(row.measured):
        return row.why
    if row.of == "figures":
        return f"{row.measured}: {row.ours:.0f} of {row.n:.0f} as printed"
    many = "" if pd.isna(row.n) else f"{row.n:.0f} {row.of.removesuffix('s') if row.n == 1 else row.of}, "
    return f"{row.measured}: {number(row, 2)} ({many}{row.data})"


def number(row: pd.Series, digits: int) -> str:
    """What shows here of one claim, with its spread and unit, and beside a speed what the FLOPs promise."""
    if pd.isna(row.ours):
        return "not reached"
    told = f"{row.ours:.2f}" if row.unit == "×" else f"{row.ours:+.{digits}f}"
    told += f" ± {row.spread:.{2 if row.unit == '×' else digits}f}" if row.of == "seeds" and pd.notna(row.spread) else ""
    told = f"{told} {row.unit}".replace(" ×", "×")
    return told if pd.isna(row.promised) else f"{told}, the FLOPs promise {row.promised:.2f}×"


def front() -> str:
    """The main claims of each paper, a line each, all that decided about it in one cell."""
    rows, told = pd.read_csv(DATA / "claims.csv"), []
    for who, claims in FRONT.items():
        for claim in claims:
            own = rows[(rows.paper == who) & (rows.claim == claim) & (rows.verdict != "cannot be tested here")]
            if own.empty:
                raise ValueError(f"no verdict was reached on {who}: {claim}")
            told.append({"where": f"{who}, {own.place.iloc[0]}", "claim": claim, "paper": own.papers_figure.iloc[0],
                         "ours": "; ".join(own.apply(short, axis=1)),
                         "verdict": "; ".join(own.verdict if own.verdict.nunique() > 1 else own.verdict[:1])})
    count = rows.verdict.value_counts()
    return (f"{markdown(pd.DataFrame(told))}\n\nThese and the others: of {len(rows)} claims {count['holds']} hold, "
            f"{count['does not show']} do not show, {count['cannot be tested here']} cannot be tested here.")


def short(row: pd.Series) -> str:
    """The number of one claim and, where it was trained, on what."""
    if row.measured.startswith("measured over promised"):
        return f"{row.ours:.2f} of the promise"
    on = {"shapes, easy end of the dial": " (easy shapes)", "shapes, hard end of the dial": " (hard shapes)",
          "random weights, 224 pixels": ""}
    return number(row, 1) + on.get(row.data, f" ({row.data})")


def claims_table() -> str:
    rows = pd.read_csv(DATA / "claims.csv")
    return markdown(pd.DataFrame({"where": rows.paper + ", " + rows.place, "claim": rows.claim, "paper": rows.papers_figure,
                                  "here": rows.apply(ours, axis=1), "verdict": rows.verdict}))


def kept():
    """Which patches of one picture three nets compute with, block by block, at about half of the dense cost."""
    points = {"supervit": lambda net: net.Point(14, 0.7), "spvit": lambda net: net.points[2], "svit": lambda net: net.points[1]}
    nets = {name: load(DATA / "checkpoints" / f"{name}_shapes.safetensors") for name in points}
    pictures = data.shapes("test", difficulty=nets["spvit"].facts["difficulty"], n=4)
    traces = {name: Trace() for name in nets}
    with torch.inference_mode():
        for name, net in nets.items():
            net(pictures.images([3]), points[name](net), traces[name])
    return plots.kept_by(pictures.picture(3), traces)


def main() -> None:
    plots.save(plots.speed(speed_rows()), "speed")
    alone = read("supervit_small_points").query("training != 'plain'").assign(length=lambda f: f.length.map(lambda n: f"{n}×{n}"))
    plots.save(plots.by_group(alone, x=("length", "keep"), color="training"), "alone")
    shipped = read("supervit_shipped_points").groupby(["length", "keep"], as_index=False).mean(numeric_only=True)
    plots.save(plots.tradeoff(shipped.assign(method="supervit", source="ours")), "tradeoff")
    plots.save(kept(), "kept")
    plots.save(plots.held(read("governor_cpu")), "governor")
    plots.save(plots.claims(pd.read_csv(DATA / "claims.csv")), "claims")
    for page, text in zip(PAGES, filled(page.read_text() for page in PAGES)):
        page.write_text(text)


def filled(texts: Iterable[str]) -> list[str]:
    """Pages with their generated parts, each between its markers, as the saved results have them now."""
    texts = list(texts)
    parts = {"front": front(), "headline": headline(), "speed": speed_table(), "sizes": sizes_table(), "small": small_table(),
             "shipped": shipped_table(),
             "claims": claims(), "dvt costs": dvt_costs(), "dvt speed": dvt_speed(),
             "dvt small": dvt_small(), "dvt shipped": dvt_shipped(),
             "revit speed": revit_speed(), "revit training": revit_training(), "revit": revit_table(),
             "revit assigners": revit_assigners(), "revit shipped": revit_shipped(),
             "spvit speed": token_speed("spvit_speed_cpu_fp32", "patches left"), "spvit latency": spvit_latency(),
             "spvit small": worth("spvit_small_points", SPVIT, "selector"),
             "spvit parts": worth("spvit_drawn_points", PARTS, "selector"),
             "spvit pooled": worth("spvit_pooled_points", POOLED, "selector"), "edge": edge(), "svit dense": svit_dense(),
             "svit speed": token_speed("svit_speed_cpu_fp32", "tokens in a block, mean"),
             "svit batch": svit_batch("svit_batch_cpu_fp32"),
             "svit small": worth("svit_small_points", SVIT, "return"), "svit shipped": svit_shipped(),
             "schedules": schedules(), "tome shipped": tome_shipped(), "supervit training": supervit_training(),
             "governor": governor(), "gpu points": gpu_points(), "gpu methods": gpu_methods(),
             "gpu batch": svit_batch("svit_batch_cuda_bf16"),
             "gpu race": gpu_race(), "side by side": side_by_side("cifar10"),
             "side by side shapes": side_by_side("shapes"), "photos": photos(), "busy": busy(), "loader": loader(),
             "verdicts": verdicts(), "claims table": claims_table()}
    for name, part in parts.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        done = [between.subn(lambda m, part=part: f"{m[1]}\n{part}\n\n{m[2]}", text) for text in texts]
        texts = [text for text, _ in done]
        if (found := sum(count for _, count in done)) != 1:
            raise ValueError(f"the pages need one pair of markers <!-- {name} --> and <!-- end -->, they have {found}")
    return texts


if __name__ == "__main__":
    main()
