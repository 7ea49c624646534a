"""Do mixed lengths save time? ReViT on DeiT-S with an assigner.  python benchmarks/revit_speed.py [device] [precision]

Random weights; the assigner's last layer is set so that it spreads the batch over the lengths about as SHARES says. Choosing and
running the mix races running every picture at the largest length. Writes data/results/revit_speed_<device>_<precision>.csv.
"""
import sys

import torch
from outsiders import pictures

import vitlab
from vitlab.measure import race, write
from vitlab.measure.records import DATA

BATCH, ROUNDS = 128, 7
SHARES = (0.6, 0.2, 0.2)                                    # of the lengths, the shortest first


@torch.no_grad()
def spread(tla: vitlab.TLA, images: torch.Tensor) -> None:
    """Make the assigner's logits differ by about 1, then shift its biases until each is chosen about as often as wished."""
    tla.net.classifier.weight.div_(tla(images).std(0).mean())
    wished = torch.tensor(SHARES, device=images.device)
    logits, bias = tla(images), tla.net.classifier.bias
    shift = torch.zeros_like(wished)
    for step in range(2000):
        got = (logits + shift).argmax(1).bincount(minlength=len(wished)) / len(images)
        shift += logits.std() / (1 + step / 20) * (wished - got)
    bias += shift


def rows(backbone: str, images: torch.Tensor, precision: str):
    """The mix against the largest length alone."""
    torch.manual_seed(0)
    net = vitlab.create("revit", backbone)
    net.attach(vitlab.TLA(len(net.lengths), images.shape[-1]))
    net = net.to(images.device).eval()
    spread(net.assigner, images)
    points = {"all largest": net.Point(net.lengths[0]), "assigned": net.Point(None)}
    chosen = net.choose(images, points["assigned"]).bincount(minlength=len(net.lengths)).tolist()
    cost = {name: vitlab.gmacs(net, images, point).mean() for name, point in points.items()}     # with the assigner's own
    table = race({name: (net, point) for name, point in points.items()}, images, precision=precision, rounds=ROUNDS)
    table["gmacs"] = table.name.map(cost)
    table["gmacs_ratio"] = cost["all largest"] / table.gmacs
    table["fulfilled"] = table.speed_up / table.gmacs_ratio
    table["assigned"] = " / ".join(f"{n}x{n}: {count}" for n, count in zip(net.lengths[::-1], chosen, strict=True))
    return table.assign(backbone=backbone)


def main(device: str = "cpu", precision: str = "fp32") -> None:
    torch.manual_seed(0)
    table = rows("deit_small", torch.randn(pictures(BATCH, device), 3, 224, 224, device=device), precision)
    write(table, DATA / "results" / f"revit_speed_{device}_{precision}.csv", device)
    print(table[["name", "assigned", "images_per_s", "speed_up", "gmacs_ratio", "fulfilled"]].round(3).to_string())


if __name__ == "__main__":
    main(*sys.argv[1:])
