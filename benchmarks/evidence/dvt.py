"""DVT's claims."""
import pandas as pd

from evidence import EASY, HARD, ZEROS, Evidence, by_seed, clock, gap, read, seeds, told


def costs() -> Evidence:
    rows = read("dvt_costs")
    figures = tuple((printed, ours, 2) for printed, ours in zip(rows.paper, rows.gmacs, strict=True))
    return Evidence(f"GFLOPs at {len(rows)} exits", figures, "figures", "GFLOPs", ZEROS, ("dvt_costs",))


def exit(better: str, worse: str, exit: str, steps: str = "1300") -> Evidence:
    one, other = (by_seed("dvt_small_exits", "top1", cascade=f"dvt, {kind}", exit=int(exit), steps=int(steps))
                  for kind in (better, worse))
    return seeds(f"reuse of {better} less {worse}, exit {exit}, {int(steps):,} steps", one - other, EASY, "dvt_small_exits")


def saving(study: str, claim: str, steps: str | None = None) -> Evidence:
    name = f"dvt_{study}_claims"
    return seeds(claim + ("" if steps is None else f", {int(steps):,} steps"), told(name, claim, steps),
                 HARD if study == "shipped" else EASY, name, unit="×")


def curve(cascade: str, criterion: str = "confidence") -> pd.DataFrame:
    """Top-1 against mean cost at the solved thresholds: a frame of seed, gmacs, top1."""
    return read("dvt_small_budgets").query("cascade == @cascade and criterion == @criterion and solver == 'exhaustive' "
                                           "and steps == 1300")[["seed", "gmacs", "top1"]]


def criterion(rival: str) -> Evidence:
    return seeds(f"leaving by confidence less by {rival}, at equal mean costs",
                 gap(curve("dvt, both"), curve("dvt, both", rival)), EASY, "dvt_small_budgets")


def over(rival: str) -> Evidence:
    return seeds(f"DVT with both kinds of reuse less {rival}, early exits, at equal mean costs",
                 gap(curve("dvt, both"), curve(rival)), EASY, "dvt_small_budgets")


def budgets(column: str, what: str) -> Evidence:
    """The largest budget of the long run less the smallest."""
    rows = read("dvt_shipped_budgets").sort_values("gmacs").groupby("seed")[column]
    scale = 1 if column == "top1" else 100
    return seeds(f"{what}: largest budget less smallest", (rows.last() - rows.first()) * scale, HARD, "dvt_shipped_budgets")


def speed(grids: str) -> Evidence:
    row = read("dvt_speed_cpu_fp32").query("backbone == 't2t_vit_12' and grids == @grids and name == 'half leave'")
    return clock(f"measured over promised, three T2T-ViT-12 at {grids}, half leave at each exit" if grids.count(">") > 1 else
                 f"measured over promised, two T2T-ViT-12 at {grids}, half leave", row.fulfilled, row, "dvt_speed_cpu_fp32")


def tokens_alone() -> Evidence:
    one, other = (by_seed("revit_small_points", "top1", backbone="micro_patch8", training="alone", length=n) for n in (7, 4))
    return seeds("a net at 7×7 less one at 4×4, each trained alone", one - other, EASY, "revit_small_points")
