"""Published accuracy against speed measured here: every schedule of vitlab.schedules beside the dense net of its backbone.

    python benchmarks/published.py [deit_tiny,deit_small,deit_base] [rounds] [device] [precision]

Writes data/results/published_<device>_<precision>.csv.

Random weights, on which speed does not depend. All of a backbone take turns, so what slows one down slows the others too; `kept`
is how much of the speed-up that the multiply-adds promise is there, beside the dense net of vitlab, and `kept_of_timms` beside
timm's own forward pass of it, which is slower on a CPU.
"""
import sys

import pandas as pd
import torch
from outsiders import Timm, pictures

import vitlab
from vitlab.measure import gmacs, race, write
from vitlab.measure.records import DATA
from vitlab.schedules import published, schedule

BATCH = {"deit_tiny": 32, "deit_small": 32, "deit_base": 8}
DENSE_TOP1 = {"deit_tiny": 72.2, "deit_small": 79.8, "deit_base": 81.8}     # DeiT, Table 5


def entries(backbone: str) -> tuple[dict, pd.DataFrame]:
    """Who runs, {name: (net, None)}, the dense net first, and what is published of them."""
    torch.manual_seed(0)
    rows = published().query("backbone == @backbone")
    dense = pd.Series({"method": "dense", "backbone": backbone, "label": "", "top1": DENSE_TOP1[backbone],
                       "source": "DeiT, Table 5"})
    who = {"dense": (vitlab.create("dense", backbone).eval(), None)}
    for _, row in rows.iterrows():
        who[f"{row.method} {row.label}"] = schedule(row, vitlab.backbones.create(backbone)).eval(), None
    return who, pd.concat([dense.to_frame().T, rows], ignore_index=True)


def main(backbones: str = ",".join(BATCH), rounds: str = "5", device: str = "cpu", precision: str = "fp32") -> None:
    parts = []
    for backbone in backbones.split(","):
        who, told = entries(backbone)
        who = {name: (net.to(device), point) for name, (net, point) in who.items()}
        images = torch.randn(pictures(BATCH[backbone], device, precision), 3, 224, 224, device=device)
        with torch.inference_mode():
            cost = [gmacs(net, images[:1])[0] for net, _ in who.values()]
        timms = Timm(vitlab.backbones.create(backbone)).to(device).eval(), None
        speed = race({**who, "timm": timms}, images, precision=precision, rounds=int(rounds)).set_index("name")
        own, speed = speed.images_per_s["timm"], speed.drop(index="timm").reset_index()
        part = told[["method", "backbone", "label", "top1", "reported_speed", "source"]]
        part = part.assign(gmacs=cost, gmacs_ratio=cost[0] / pd.Series(cost))
        part = part.join(speed[["images_per_s", "speed_up", "batch", "device", "precision", "runs", "spread"]])
        parts.append(part.assign(kept=part.speed_up / part.gmacs_ratio, timms_images_per_s=own,
                                 kept_of_timms=part.images_per_s / own / part.gmacs_ratio))
        shown = parts[-1][["method", "label", "top1", "gmacs", "speed_up", "gmacs_ratio", "kept", "kept_of_timms"]]
        print(shown.round(3).to_string(index=False), flush=True)
    name = f"published_{device}_{precision}.csv"
    print("written to", write(pd.concat(parts, ignore_index=True), DATA / "results" / name, device))


if __name__ == "__main__":
    main(*sys.argv[1:])
