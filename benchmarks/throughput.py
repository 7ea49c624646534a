"""Is SuperViT really as fast as its FLOPs promise?  python benchmarks/throughput.py [deit_small] [32] [fp32] [cpu] [9] [eager]

All points of an untrained SuperViT (speed does not depend on the weights) and timm's own dense model take turns on the same
batch of pictures; medians over interleaved rounds; on a GPU also the memory and energy of each. The last word says how all
of them run: eager, as graphs (recorded as CUDA graphs) or compiled (by torch.compile, on a GPU recorded, too). Writes
data/results/throughput_<backbone>_<device>_<precision>.csv, and ..._graphs.csv or ..._compiled.csv.
"""
import sys

import pandas as pd
import torch
from outsiders import Timm

import vitlab
from vitlab.measure import gmacs, joules, paper, peak_memory, race, write
from vitlab.measure.records import DATA

HOW = {"eager": lambda net: net, "graphs": lambda net: vitlab.Compiled(net, kernels=False, graphs=True),
       "compiled": lambda net: vitlab.Compiled(net)}


def main(backbone: str = "deit_small", batch: str = "32", precision: str = "fp32", device: str = "cpu",
         rounds: str = "9", how: str = "eager") -> pd.DataFrame:
    torch.manual_seed(0)
    net = vitlab.create("supervit", backbone).to(device).eval()
    images = vitlab.data.shapes("val", size=net.made["image_size"], n=int(batch)).images(range(int(batch))).to(device)
    dense = Timm(vitlab.backbones.create(backbone)).to(device).eval()
    names = {f"{p.length}, {p.keep:g}": p for p in net.points}
    runs = {"timm dense": (HOW[how](dense), None), **{name: (HOW[how](net), p) for name, p in names.items()}}
    table = race(runs, images, precision=precision, rounds=int(rounds))
    promise = gmacs(dense, images)[0]
    cost = {"timm dense": promise, **{name: gmacs(net, images[:1], p)[0] for name, p in names.items()}}
    table = table.assign(
        backbone=backbone, how=how, gmacs=table.name.map(cost), flops_speed_up=promise / table.name.map(cost),
        speed_up_over_flops=lambda t: t.speed_up / t.flops_speed_up, paper_speed_up=table.name.map(printed(backbone)))
    if torch.device(device).type == "cuda":
        table["memory_mib"] = [peak_memory(run, images, point, precision=precision) for run, point in runs.values()]
        table["joules"] = [joules(run, images, point, precision=precision, seconds=0.5) for run, point in runs.values()]
    kind, ending = torch.device(device).type, "" if how == "eager" else f"_{how}"
    write(table, DATA / "results" / f"throughput_{backbone}_{kind}_{precision}{ending}.csv", device)
    return table


def printed(backbone: str) -> dict[str, float]:
    """The paper's speed-ups over its dense net, by what the points are called here; none where it has not timed this backbone."""
    rows = paper("supervit").query("backbone == @backbone and variant.isna() and source.str.endswith('Table 1')")
    yardstick = paper("dense").set_index("backbone").images_per_s.get(backbone, float("nan"))
    return {f"{r.length:g}, {r.keep:g}": round(r.images_per_s / yardstick, 3) for r in rows.itertuples()}


if __name__ == "__main__":
    print(main(*sys.argv[1:]).drop(columns=["date", "python"], errors="ignore").to_string())
