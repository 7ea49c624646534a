"""How long detectors take for a picture, the backbone by itself and the whole: fair races, picture by picture."""
from typing import Any

import pandas as pd
from torch import inference_mode

from vitlab.data.detection import DetectionSet
from vitlab.evaluation import evaluating
from vitlab.measure.speed import prepare
from vitlab.methods.svit.detection.detector import Detector
from vitlab.numbers import whole

WARM_UP = 2             # of the first passes are not counted


@inference_mode()
def pace(entries: dict[str, tuple[Detector, Any]], data: DetectionSet, *, runs: int = 50, batch: int = 1) -> pd.DataFrame:
    """Entries {name: (detector, point)} in turn on the same batches of `data`, one after another.

    A row per entry and part ("backbone", "whole"): name, part, milliseconds (median, of a batch), images_per_s, speed_up (median
    of the first entry's time / its own on the same pictures), batch, runs, device.
    """
    runs, batch = whole(runs, "runs"), whole(batch, "batch", 1, len(data))
    if not entries:
        raise ValueError("a race needs at least one entry {name: (detector, point)}")
    times: list[dict] = []
    with evaluating(*(detector for detector, _ in entries.values())):
        for turn in range(-WARM_UP, runs):
            rows = [(turn * batch + n) % len(data) for n in range(batch)]
            for name, (detector, point) in entries.items():
                images = data.for_net(detector).images(rows)
                for part, net in (("backbone", detector.net), ("whole", detector)):
                    seconds = prepare(net, images, point, "fp32")()
                    times += [{"name": name, "part": part, "turn": turn, "seconds": seconds}] if turn >= 0 else []
    table = pd.DataFrame(times).set_index(["part", "turn"])
    first = next(iter(entries))
    device = str(next(entries[first][0].parameters()).device)
    found = []
    for (name, part), rows in table.groupby(["name", "part"], sort=False):
        mine, theirs = rows.seconds.loc[part], table[table.name == first].seconds.loc[part]
        found.append({"name": name, "part": part, "milliseconds": 1000 * mine.median(), "images_per_s": batch / mine.median(),
                      "speed_up": (theirs / mine).median(), "batch": batch, "runs": runs, "device": device})
    return pd.DataFrame(found)
