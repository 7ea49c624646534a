"""From how many tokens on does dropping pay on this device?  python benchmarks/pays.py [device] [precision]

All blocks at fewer tokens, once the choice of these tokens, at several batch sizes: of the small net of the notebooks and of
DeiT-S at 224 pixels. Writes data/results/pays_<device>_<precision>.csv; the machine should have nothing else to do.
"""
import sys

import pandas as pd
import torch

import vitlab
from vitlab.measure import pays, write
from vitlab.measure.records import DATA

BATCHES = {"micro_patch4": (1, 8, 32), "deit_small": (1, 8, 32)}
ROUNDS = {"micro_patch4": 25, "deit_small": 5}


def main(device: str = "cpu", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    parts = []
    for backbone, batches in BATCHES.items():
        net = vitlab.create("dense", backbone).to(device).eval()
        parts.append(pays(net, None, batches, precision=precision, rounds=ROUNDS[backbone]).assign(backbone=backbone))
        print(parts[-1][["backbone", "batch", "tokens", "ms", "drop_ms", "speed_up", "promised"]].round(3).to_string(index=False),
              flush=True)
    write(pd.concat(parts, ignore_index=True), DATA / "results" / f"pays_{device}_{precision}.csv", device)


if __name__ == "__main__":
    main(*sys.argv[1:])
