"""Does leaving early save time? DVT on T2T-ViT-12, two and three exits.  python benchmarks/dvt_speed.py [device] [precision]

Random weights; thresholds are set on the batch itself so that half of the images leave at each exit but the last. The cascade at
these thresholds races the cascade that runs every image to its last exit. Writes data/results/dvt_speed_<device>_<precision>.csv.
"""
import sys

import pandas as pd
import torch

import vitlab
from vitlab.cascade import confidence, stop_at
from vitlab.measure import race, write
from vitlab.measure.records import DATA

BATCH, ROUNDS = 128, 7
GRIDS = ((7, 14), (7, 10, 14))


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
    images, rows = torch.randn(BATCH, 3, 224, 224, device=device), []
    for grids in GRIDS:
        net = vitlab.create("dvt", "t2t_vit_12", grids=grids).to(device).eval()
        points = {"full": net.Point(stop_at(len(grids) - 1, len(grids))), "half leave": net.Point(halves(net, images))}
        cost = {name: vitlab.gmacs(net, images, point).mean() for name, point in points.items()}
        speed = race({name: (net, point) for name, point in points.items()}, images, precision=precision, rounds=ROUNDS)
        speed["gmacs"] = speed.name.map(cost)
        speed["gmacs_ratio"] = cost["full"] / speed.gmacs
        rows.append(speed.assign(grids=" -> ".join(map(str, grids)), backbone="t2t_vit_12"))
    table = pd.concat(rows, ignore_index=True)
    table["fulfilled"] = table.speed_up / table.gmacs_ratio
    write(table, DATA / "results" / f"dvt_speed_{device}_{precision}.csv", device)
    print(table[["grids", "name", "images_per_s", "speed_up", "gmacs_ratio", "fulfilled"]].round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
