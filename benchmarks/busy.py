"""Training beside a process that keeps all cores busy: on all threads, on one, and on as many as pay.

    python benchmarks/busy.py                writes data/results/busy.csv; the machine should have nothing else to do

Rounds in turn: each way trains alone, then beside the other process, seconds per step. `slowdown` is the median over rounds of
the busy seconds / those of the fastest way alone; the first steps, in which fit finds out, are counted. All threads take a sixth
of the steps: beside the other process they are that slow.
"""
import subprocess
import sys
from argparse import ArgumentParser
from contextlib import contextmanager
from functools import partial
from statistics import median
from time import perf_counter
from unittest import mock

import pandas as pd
import torch

import vitlab
from vitlab import threads
from vitlab.measure.records import DATA, write
from vitlab.train import loop

NETS = {"supervit": {}, "dvt": {"grids": (4, 5, 7)}, "revit": {}, "spvit": {}, "svit": {}}
HOG = "import torch; torch.set_num_threads({n}); x = torch.rand(1500, 1500)\nwhile True: x @ x"


@contextmanager
def hog(count: int):
    """Another process that multiplies matrices on so many threads."""
    with subprocess.Popen([sys.executable, "-c", HOG.format(n=count)]) as other:
        try:
            yield
        finally:
            other.kill()


def seconds(name: str, steps: int, most: int, fixed: bool) -> float:
    """Seconds per step of training, on these threads or on as many of them as pay."""
    torch.manual_seed(0)
    net = vitlab.create(name, "micro_patch8", 10, **NETS[name])
    torch.set_num_threads(most)
    with mock.patch.object(loop, "as_pays", partial(threads.as_pays, fixed=fixed)):
        begin = perf_counter()
        vitlab.fit(net, TRAIN, vitlab.Recipe(steps=steps, batch=32))
        return (perf_counter() - begin) / steps


def measured(name: str, steps: int, rounds: int, most: int) -> pd.DataFrame:
    """A row per way: quiet_s and busy_s (medians of seconds per step), slowdown."""
    ways = {f"{most}": (steps // 6, most, True), "1": (steps, 1, True), "as many as pay": (steps, most, False)}
    quiet, busy = {way: [] for way in ways}, {way: [] for way in ways}
    for _ in range(rounds):
        for way, how in ways.items():
            quiet[way].append(seconds(name, *how))
        with hog(most):
            for way, how in ways.items():
                busy[way].append(seconds(name, *how))
    best = [min(each) for each in zip(*quiet.values())]
    return pd.DataFrame([{
        "method": name, "backbone": "micro_patch8", "ways": way, "steps": steps, "quiet_s": median(quiet[way]),
        "busy_s": median(busy[way]), "slowdown": median(b / q for b, q in zip(busy[way], best)), "rounds": rounds}
        for way in ways])


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    TRAIN, most = vitlab.data.shapes("train", n=2_000), torch.get_num_threads()
    if most == 1:
        sys.exit("torch has one thread here, so there is nothing to find out; unset OMP_NUM_THREADS")
    table = pd.concat([measured(name, asked.steps, asked.rounds, most) for name in NETS], ignore_index=True)
    print(table.round(2).to_string(index=False))
    print("written to", write(table, DATA / "results" / "busy.csv"))
