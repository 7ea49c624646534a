"""Is a latency that is asked for met?  python benchmarks/spvit_latency.py [device] [threads]

For DeiT-T and DeiT-S, 60, 70 and 80 % of the dense net's milliseconds for one picture are asked for. Blocks are timed once
(`clock`), the shares to keep solved for on that table as `SPViT(latency=...)` does, and the nets that come out are timed against
the dense one, all in turns. What is compared is the share of the dense time: milliseconds drift with whatever else a machine
does between the table and the race. Writes data/results/spvit_latency_<device>_fp32.csv.
"""
import sys

import pandas as pd
import torch

import vitlab
from vitlab.measure import latency_race, write
from vitlab.measure.records import DATA
from vitlab.methods.spvit import Point
from vitlab.methods.spvit.clock import clock
from vitlab.methods.spvit.limit import solve
from vitlab.methods.spvit.shares import geometric

BACKBONES, SHARES, RUNS = ("deit_tiny", "deit_small"), (0.6, 0.7, 0.8), 200


def rows(backbone: str, device: str) -> list[dict]:
    """Every share of one backbone."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, 224, 224, device=device)
    dense = vitlab.create("dense", backbone).to(device).eval()
    probe = vitlab.create("spvit", backbone).to(device).eval()
    table = clock(probe.vit, probe.after, probe.selectors, 3)
    nets = {}
    for share in SHARES:
        keep = solve(table, share * table.dense, geometric(table))
        nets[share] = vitlab.create("spvit", backbone, keep=keep).to(device).eval()
    race = latency_race({"dense": dense} | {share: (net, Point(fixed=True)) for share, net in nets.items()}, image, runs=RUNS)
    race = race.set_index("name")
    took = (1 / race.speed_up).to_dict()                    # of the dense net's time, round by round
    return [{"backbone": backbone, "asked_share": share, "measured_share": took[share], "off": took[share] / share - 1,
             "asked_ms": share * table.dense, "measured_ms": race.median_ms[share], "dense_ms": race.median_ms["dense"],
             "dense_ms_by_table": table.dense, "gmacs": net.budget, "kept": " ".join(f"{k:.3f}" for k in net.keep)}
            for share, net in nets.items()]


def main(device: str = "cpu", threads: str = "1") -> None:
    torch.set_num_threads(int(threads))
    table = pd.DataFrame([row for backbone in BACKBONES for row in rows(backbone, device)])
    write(table, DATA / "results" / f"spvit_latency_{device}_fp32.csv", device)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
