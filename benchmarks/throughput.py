"""Is SuperViT really as fast as its FLOPs promise?  python benchmarks/throughput.py [deit_small] [32] [fp32] [cpu]

All points of an untrained SuperViT (speed does not depend on the weights) and timm's own dense model take turns on the same
batch of pictures; medians over interleaved rounds. Writes data/results/throughput_<backbone>_<device>_<precision>.csv.
"""
import sys

import pandas as pd
import torch
from torch import nn

import vitlab
from vitlab.measure import gmacs, paper, race, write


class Timm(nn.Module):
    """timm's untouched forward behind the protocol's signature."""

    adaptive = False

    def __init__(self, vit):
        super().__init__()
        self.vit = vit

    def forward(self, images, point=None, trace=None):
        return self.vit(images)


def main(backbone: str = "deit_small", batch: str = "32", precision: str = "fp32", device: str = "cpu",
         rounds: str = "9") -> pd.DataFrame:
    torch.manual_seed(0)
    net = vitlab.create("supervit", backbone).to(device)
    images = vitlab.data.shapes("val", size=net.made["image_size"], n=int(batch)).images(range(int(batch))).to(device)
    dense = Timm(vitlab.backbones.create(backbone)).to(device)
    names = {f"{p.length}, {p.keep:g}": p for p in net.points}
    table = race({"timm dense": (dense, None), **{name: (net, p) for name, p in names.items()}}, images,
                 precision=precision, rounds=int(rounds))
    promise = gmacs(dense, images)[0]
    cost = {"timm dense": promise, **{name: gmacs(net, images[:1], p)[0] for name, p in names.items()}}
    printed = paper("supervit").query("backbone == @backbone and variant.isna() and source.str.endswith('Table 1')")
    yardstick = paper("dense").set_index("backbone").images_per_s.get(backbone, float("nan"))
    printed = printed.assign(paper_speed_up=printed.images_per_s / yardstick)
    printed = {f"{r.length}, {r.keep:g}": round(r.paper_speed_up, 3) for r in printed.itertuples()}
    table = table.assign(
        backbone=backbone, gmacs=table.name.map(cost), flops_speed_up=promise / table.name.map(cost),
        speed_up_over_flops=lambda t: t.speed_up / t.flops_speed_up, paper_speed_up=table.name.map(printed))
    name = f"throughput_{backbone}_{torch.device(device).type}_{precision}.csv"
    write(table, vitlab.measure.records.DATA / "results" / name, device)
    return table


if __name__ == "__main__":
    print(main(*sys.argv[1:]).to_string())
