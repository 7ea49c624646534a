"""Does the governor hold a throughput while another process comes and goes?  python benchmarks/governor.py

The shipped SuperViT answers pictures that come at a steady rate, nine tenths of what its dense point reaches on a quiet machine.
After a while another process keeps all cores busy, then goes. Once with the governor, once at the dense point throughout. What
counts is the share of the pictures that came in each WINDOW that was answered in it. Writes data/results/governor_cpu.csv, a row
per second; the machine should have nothing else to do.
"""
import sys
from time import perf_counter, sleep

import pandas as pd
import torch
from busy import hog

import vitlab
from vitlab.governor import Governor
from vitlab.measure.records import DATA, write

BATCH, QUIET, LOADED, WINDOW, SHARE = 16, 20, 25, 3.0, 0.9  # pictures; seconds; of the dense point's quiet speed


class Fixed:
    """Who does not adapt, for comparison."""

    def __init__(self, net, point):
        self.net, self.point = net, point

    @torch.inference_mode()
    def __call__(self, images):
        return self.net(images, self.point)


def serve(who, images, rate: float, seconds: float, load: str, begun: float) -> list[dict]:
    """Batches are answered as they come: a row per batch, with the time since `begun`."""
    rows, begin, count = [], perf_counter(), 0
    while (now := perf_counter() - begin) < seconds:
        if (wait := count / rate - now) > 0:
            sleep(wait)
        who(images)
        count += BATCH
        rows.append({"seconds": perf_counter() - begun, "images": BATCH, "point": str(who.point), "load": load})
        if count / rate < now - WINDOW:                     # who is hopelessly late starts anew with what comes now
            count = int(rate * now)
    return rows


def run(who, images, rate: float) -> pd.DataFrame:
    """Quiet, loaded, quiet: a row per second of pictures answered, how many came, at which point, beside what."""
    begun, rows = perf_counter(), []
    rows += serve(who, images, rate, QUIET, "quiet", begun)
    with hog(torch.get_num_threads()):
        rows += serve(who, images, rate, LOADED, "loaded", begun)
    rows += serve(who, images, rate, QUIET, "quiet again", begun)
    table = pd.DataFrame(rows)
    table["window"] = (table.seconds // WINDOW).astype(int)
    found = table.groupby("window").agg(images=("images", "sum"), point=("point", lambda p: p.mode()[0]),
                                        load=("load", lambda p: p.mode()[0]), first=("seconds", "min"), last=("seconds", "max"))
    found["images_per_s"] = found.images / WINDOW
    switches = (table.point != table.point.shift()).sum() - 1
    return found.iloc[:-1].reset_index().assign(target=rate, held=lambda t: t.images_per_s / rate, switches=switches)


def main() -> None:
    net = vitlab.load(DATA / "checkpoints" / "supervit_shapes.safetensors")
    test = vitlab.data.shapes("test", difficulty=net.facts["difficulty"], n=300)
    table = vitlab.sweep(net, test, batch=BATCH, rounds=9)
    images = test.sample(BATCH).images(slice(None))
    dense = table.set_index("point").loc[str(net.points[-1])]
    rate = SHARE * dense.images_per_s
    governor = Governor(net, table, images_per_s=rate)
    parts = [run(who, images, rate).assign(who=name)
             for name, who in (("governor", governor), ("fixed", Fixed(net, net.points[-1])))]
    accuracy = table.set_index("point").top1
    found = pd.concat(parts, ignore_index=True).assign(top1=lambda t: t.point.map(accuracy))
    write(found, DATA / "results" / "governor_cpu.csv")
    print(found[["who", "window", "load", "point", "images_per_s", "held", "top1"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
