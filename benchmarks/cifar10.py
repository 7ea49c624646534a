"""SuperViT on real pictures in a few minutes on a CPU.  python benchmarks/cifar10.py [hub name | folder with parquet files]

32-pixel CIFAR-10 pictures, 8x8 patches of 4 pixels, all twelve points of one net. Writes data/results/cifar10_points.csv.
"""
import sys

import torch
from finish import finish

import vitlab
from vitlab.measure import write
from vitlab.measure.records import DATA

RECIPE = vitlab.Recipe(steps=1000, batch=64, lr=2e-3, betas=(0.9, 0.99), clip=1.0, label_smoothing=0.1)


def main(source: str = "uoft-cs/cifar10") -> None:
    torch.manual_seed(0)
    train, test = (vitlab.data.load(source, split, image_size=32) for split in ("train", "test"))
    net = vitlab.create("supervit", "micro_patch4", num_classes=10, image_size=32)
    history = finish(net, train, RECIPE, "runs/cifar10")
    table = vitlab.sweep(net, test).assign(steps=RECIPE.steps, train_seconds=history.seconds.iloc[-1], seed=0, data="cifar10")
    write(table, DATA / "results" / "cifar10_points.csv")
    print(table[["length", "keep", "top1", "gmacs", "images_per_s", "speed_up", "gmacs_ratio"]].round(3).to_string())
    print(f"trained for {history.seconds.iloc[-1]:.0f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
