"""How long does one picture take?  python benchmarks/latency.py [deit_small] [cpu] [fp32] [eager,graphs]

timm's own dense net and all points of an untrained SuperViT take turns on one picture, and once more recorded as CUDA graphs or
compiled, whichever ways are named. Writes data/results/latency_<backbone>_<device>_<precision>.csv.
"""
import sys

import torch
from outsiders import Timm
from throughput import HOW

import vitlab
from vitlab.measure import gmacs, latency_race, write
from vitlab.measure.records import DATA

RUNS = 200


def main(backbone: str = "deit_small", device: str = "cpu", precision: str = "fp32", ways: str = "eager"):
    torch.manual_seed(0)
    net, dense = vitlab.create("supervit", backbone).to(device).eval(), Timm(vitlab.backbones.create(backbone)).to(device).eval()
    image = torch.randn(1, 3, net.made["image_size"], net.made["image_size"], device=device)
    points = {"timm dense": (dense, None), **{f"{p.length}, {p.keep:g}": (net, p) for p in net.points}}
    entries = {(name, how): (HOW[how](which), point, precision) for how in ways.split(",")
               for name, (which, point) in points.items()}
    table = latency_race(entries, image, runs=RUNS)
    cost = {name: gmacs(which, image, point)[0] for name, (which, point) in points.items()}
    table["how"] = [how for _, how in table.name]
    table["name"] = [name for name, _ in table.name]
    table["gmacs"] = table.name.map(cost)
    table["flops_speed_up"] = cost["timm dense"] / table.gmacs
    table = table.assign(backbone=backbone, batch=1)
    write(table, DATA / "results" / f"latency_{backbone}_{torch.device(device).type}_{precision}.csv", device)
    return table


if __name__ == "__main__":
    print(main(*sys.argv[1:]).to_string())
