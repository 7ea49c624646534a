"""Does leaving early save time? DVT on T2T-ViT-12 and DeiT-S.  python benchmarks/dvt_speed.py [device] [precision]

Random weights; thresholds are set on the batch itself so that half of the images leave at each exit but the last. The cascade at
these thresholds races the one that runs every image to its last exit, the single net of the finest grid, and that net by timm's
own forward ("timm's"). `over_single` is the images/s over the single net's, `promised_single` what the multiply-adds say of it.
Writes data/results/dvt_speed_<device>_<precision>.csv.
"""
import sys

import pandas as pd
import torch
from outsiders import Timm, pictures

import vitlab
from vitlab.cascade import confidence, stop_at
from vitlab.measure import race, write
from vitlab.measure.records import DATA

ROUNDS = 7
CASCADES = (("t2t_vit_12", (7, 14), 128), ("t2t_vit_12", (7, 10, 14), 128), ("deit_small", (7, 10, 14), 32))


def halves(net: vitlab.DVT, images: torch.Tensor) -> tuple[float, ...]:
    """Thresholds, each at the median of the images that are still inside."""
    found, inside = [], torch.ones(len(images), dtype=torch.bool, device=images.device)
    with torch.inference_mode():
        for stage, logits in enumerate(list(net.exits(images))[:-1]):
            score = confidence(logits, images, stage)
            found.append(score[inside].double().quantile(0.5).item())
            inside &= score < found[-1]
    return tuple(found)


def main(device: str = "cpu", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    rows = []
    for backbone, grids, batch in CASCADES:
        images = torch.randn(pictures(batch, device), 3, 224, 224, device=device)
        net, single = vitlab.create("dvt", backbone, grids=grids).to(device).eval(), vitlab.create("dense", backbone).to(device)
        last = net.Point(stop_at(len(grids) - 1, len(grids)))
        entries = {"full": (net, last), "half leave": (net, net.Point(halves(net, images))), "single net": (single, None)}
        cost = {name: vitlab.gmacs(which, images, point).mean() for name, (which, point) in entries.items()}
        entries["timm's"], cost["timm's"] = (Timm(single.vit), None), cost["single net"]
        speed = race(entries, images, precision=precision, rounds=ROUNDS)
        speed["gmacs"] = speed.name.map(cost)
        speed["gmacs_ratio"] = cost["full"] / speed.gmacs
        speed["over_single"] = speed.images_per_s / speed.set_index("name").images_per_s["single net"]
        speed["promised_single"] = cost["single net"] / speed.gmacs
        rows.append(speed.assign(grids=" -> ".join(map(str, grids)), backbone=backbone))
    table = pd.concat(rows, ignore_index=True)
    table["fulfilled"] = table.speed_up / table.gmacs_ratio
    table["fulfilled_single"] = table.over_single / table.promised_single
    write(table, DATA / "results" / f"dvt_speed_{device}_{precision}.csv", device)
    print(table[["backbone", "grids", "name", "images_per_s", "speed_up", "gmacs_ratio", "fulfilled", "over_single",
                 "fulfilled_single"]].round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
