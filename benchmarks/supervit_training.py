"""What a step of four sub-nets costs, and what twelve points cost to judge.  python benchmarks/supervit_training.py [device]
[precision]

DeiT-S at 224 pixels, random weights, all in turns: a training step (with AdamW) of timm's dense net, of SuperViT, and of one
that shares nothing between the sub-nets of a length, with the same draws; and a pass of the dense net, of all twelve points
together, and of the twelve one by one. Each relative to the dense net, beside what the multiply-adds say. Writes
data/results/supervit_training_<device>_<precision>.csv; the machine should have nothing else to do.
"""
import sys
from functools import partial
from statistics import median

import pandas as pd
import torch
from outsiders import Timm, pictures

import vitlab
from vitlab.losses import cross_entropy
from vitlab.measure import write
from vitlab.measure.cost import counted
from vitlab.measure.pays import timed
from vitlab.measure.records import DATA
from vitlab.measure.rounds import in_turns
from vitlab.measure.speed import PRECISIONS, synchronise
from vitlab.train.passes import passes

STEP, PASS, ROUNDS = 16, 32, 5              # pictures of a step, of a pass


def step(net, optimizer, losses, precision: str) -> torch.Tensor:
    """One update."""
    torch.manual_seed(turn[0])                              # the sub-nets that this round draws
    for part in passes(losses(), next(net.parameters()).device, precision):
        sum(part.values()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return next(net.parameters())


turn = [0]


def main(device: str = "cpu", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    whole, part = pictures(PASS, device, precision), pictures(STEP, device, precision)
    images, labels = torch.randn(whole, 3, 224, 224, device=device), torch.arange(whole, device=device)
    few, some = images[:part], labels[:part]
    dense = Timm(vitlab.backbones.create("deit_small")).to(device)
    nets = {"dense": dense, **{name: vitlab.create("supervit", "deit_small", share_prefix=share).to(device)
                               for name, share in (("four sub-nets", True), ("four sub-nets, nothing shared", False))}}
    losses = {name: partial(net.losses, few, some) for name, net in nets.items() if name != "dense"}
    losses["dense"] = lambda: ({"ce": cross_entropy(dense(few), some)} for _ in range(1))     # when asked for, under autocast
    jobs = {name: partial(step, net, torch.optim.AdamW(net.parameters(), 1e-5), losses[name], precision)
            for name, net in nets.items()}

    def round_of(name, job):
        turn[0] += name == "dense"                          # everybody's draws are the round's
        if torch.device(device).type == "cuda":
            job()                                           # a GPU loads the kernels of a new shape when they are first used
        return timed(job, torch.device(device))

    times, threads = in_turns({name: partial(round_of, name, job) for name, job in jobs.items()}, ROUNDS, torch.device(device))
    rows = [{"what": "step", "name": name, "batch": part, "seconds": median(own), "threads": threads,
             "ratio": median(a / b for a, b in zip(own, times["dense"]))} for name, own in times.items()]
    net = nets["four sub-nets"].eval()
    dense.eval()
    passes = {"dense": lambda: dense(images), "twelve points": lambda: [*net.together(images, net.points)][-1],
              "twelve points, one by one": lambda: [net(images, point) for point in net.points][-1]}
    with torch.inference_mode(), torch.autocast(torch.device(device).type, PRECISIONS[precision], precision != "fp32"):
        times, threads = in_turns({name: partial(timed, job, torch.device(device)) for name, job in passes.items()}, 3,
                                  torch.device(device))
        one = torch.zeros(1, 3, 224, 224, device=device)
        cost = {"dense": counted(lambda: dense(one)), "twelve points": counted(lambda: [*net.together(one, net.points)]),
                "twelve points, one by one": counted(lambda: [net(one, point) for point in net.points])}
    rows += [{"what": "evaluation", "name": name, "batch": whole, "seconds": median(own), "threads": threads,
              "ratio": median(a / b for a, b in zip(own, times["dense"])), "gmacs_ratio": cost[name] / cost["dense"]}
             for name, own in times.items()]
    synchronise(torch.device(device))
    table = pd.DataFrame(rows).assign(device=device, precision=precision, backbone="deit_small")
    write(table, DATA / "results" / f"supervit_training_{device}_{precision}.csv", device)
    print(table[["what", "name", "seconds", "ratio", "gmacs_ratio", "threads"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
