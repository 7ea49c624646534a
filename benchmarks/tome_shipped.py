"""ToMe on the nets that come with vitlab, without any training, on hard `shapes`.  python benchmarks/tome_shipped.py

Each shipped net that is a plain ViT inside merges r patches in every block, from none to as many as can go. On the dense net also
what the parts of ToMe are worth (r falling from block to block; tokens of many patches looked at as if they were one), and the
other thing one can do to a net that has never missed a patch: drop those that its class token looks at least, at SuperViT's
places. SEEDS are of the test pictures, as nothing is learned; speeds of ToMe's schedules are benchmarks/published.py's.
Writes data/results/tome_shipped_points.csv, a row per net, way, point and seed, and tome_shipped_claims.csv.
"""
import numpy as np
import pandas as pd
import torch
from torch import nn

import vitlab
from vitlab.measure import write
from vitlab.measure.records import DATA

SEEDS, DIAL, TESTED = (0, 1, 2), 1.0, 1_000
NETS = ("dense", "supervit", "spvit", "svit")               # DVT's and ReViT's are no plain ViT at one length
RS = (0, 10, 20, 26, 31, 40, 60, 98)                        # 98: every block merges half of its patches
RATES, DROP_BLOCKS = (0.1, 0.3, 0.5, 0.7, 0.9), (1, 3, 5)   # of dropping, at the shipped SuperViT's blocks


def ways(name: str, vit: nn.Module) -> dict[str, tuple[nn.Module, list]]:
    """What is done to a net: name -> (method, its points)."""
    merging = vitlab.ToMe(vit)
    found = {"merge": (merging, [merging.Point(r) for r in RS])}
    if name == "dense":
        some = found["merge"][1][1:]
        dropping = vitlab.SuperViT(vit, (14,), rates=RATES, drop_blocks=DROP_BLOCKS)
        found |= {"merge, r falling": (vitlab.ToMe(vit, decreasing=True), some),
                  "merge, not proportional": (vitlab.ToMe(vit, proportional=False), some),
                  "drop": (dropping, [dropping.Point(14, rate) for rate in RATES])}
    return found


def row(method: nn.Module, point, test) -> dict:
    """One point on the test pictures."""
    found = vitlab.answers(method, test, point)
    return {"r": getattr(point, "r", None), "keep": getattr(point, "keep", None), "gmacs": found.gmacs.mean(),
            "top1": 100 * found.correct.mean()}


def at(rows: pd.DataFrame, cost) -> np.ndarray:
    """Accuracy of a way at these costs, read between its points."""
    rows = rows.sort_values("gmacs")
    return np.interp(cost, rows.gmacs, rows.top1)


def claims(rows: pd.DataFrame) -> list[dict]:
    """What the paper says of ToMe without training, in differences on one seed's pictures, in points."""
    ways_of = {way: part for way, part in rows[rows.net == "dense"].groupby("way")}
    merge, drop = ways_of["merge"].set_index("r"), ways_of["drop"]
    bare, falling = (ways_of[f"merge, {name}"].set_index("r").top1 for name in ("not proportional", "r falling"))
    cost = drop.gmacs[drop.gmacs >= merge.gmacs.min()]                          # what both can do
    return [{"claim": f"{name}, r {r}: less the net as it is", "value": net.top1[r] - net.top1[0]}
            for name in NETS for net in [rows[(rows.net == name) & (rows.way == "merge")].set_index("r")] for r in (26, 98)] + [
        {"claim": "merging less dropping, mean at equal GFLOPs", "value": (at(merge, cost) - at(drop, cost)).mean()},
        *({"claim": f"proportional attention less none, r {r}", "value": merge.top1[r] - bare[r]} for r in (26, 98)),
        {"claim": "r falling less constant, mean at equal GFLOPs", "value": (
            falling.to_numpy() - at(merge, ways_of["merge, r falling"].set_index("r").gmacs)).mean()}]


def main() -> None:
    torch.set_num_threads(1)
    rows, said = [], []
    nets = {name: vitlab.load(DATA / "checkpoints" / f"{name}_shapes.safetensors").eval().vit for name in NETS}
    for seed in SEEDS:
        test = vitlab.data.shapes("test", difficulty=DIAL, n=TESTED, seed=seed + 100)
        here = [{"seed": seed, "net": name, "way": way} | row(method, point, test)
                for name, vit in nets.items() for way, (method, points) in ways(name, vit).items() for point in points]
        rows += here
        said += [{"seed": seed} | claim for claim in claims(pd.DataFrame(here))]
        print(f"seed {seed} is done", flush=True)
    table, told = pd.DataFrame(rows).astype({"r": "Int64"}), pd.DataFrame(said)
    write(table, DATA / "results" / "tome_shipped_points.csv")
    write(told, DATA / "results" / "tome_shipped_claims.csv")
    per = table.groupby(["net", "way", "r", "keep"], sort=False, dropna=False)
    print(per[["gmacs", "top1"]].agg(["mean", "std"]).round(4).to_string(na_rep=""))
    print(told.groupby("claim", sort=False).value.agg(["mean", "std"]).round(2).to_string())


if __name__ == "__main__":
    main()
