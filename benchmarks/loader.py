"""Do pictures come as fast as a net learns from them?  python benchmarks/loader.py [device]

Training batches alone, without a net, with several numbers of loading processes: 32-pixel pictures in memory, padded and cropped
a batch at once; the same by timm's transforms, picture by picture; and JPEG files of 256 pixels under DeiT's augmentation. Beside
it what a training step takes: SuperViT on the small net at 32 pixels, and on DeiT-S at 224. `feeds` is the one over the other:
above 1 the device never waits. Pictures are made up (`shapes`). Writes data/results/loader_<device>.csv.
"""
import os
import sys
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader

import vitlab
from vitlab.data import Augment, PaddedCrop
from vitlab.measure import write
from vitlab.measure.records import DATA
from vitlab.measure.speed import synchronise
from vitlab.train.batches import Batches

SECONDS, WARM, FILES = 4.0, 2, 512
DEIT = Augment(scale=(.08, 1.), auto_augment="rand-m9-mstd0.5-inc1", re_prob=.25)


def loaded(data, batch: int, workers: int) -> float:
    """Images per second of training's batches alone."""
    recipe = vitlab.Recipe(steps=10 ** 6, batch=batch, workers=workers)
    loader = iter(DataLoader(Batches(data, recipe, 0, 1), batch_size=None, sampler=range(10 ** 6), num_workers=workers))
    for _ in islice(loader, WARM * max(workers, 1)):
        pass
    begin, count = perf_counter(), 0
    while perf_counter() - begin < SECONDS:
        next(loader)
        count += batch
    return count / (perf_counter() - begin)


def learned(net, batch: int, size: int, device: str) -> float:
    """Images per second of training steps on a batch that is there already."""
    images, labels = torch.randn(batch, 3, size, size, device=device), torch.zeros(batch, dtype=torch.long, device=device)
    net.to(device).train()
    optimizer, took = torch.optim.AdamW(net.parameters(), 1e-5, fused=True), []
    while len(took) <= WARM or sum(took[WARM:]) < SECONDS:
        synchronise(torch.device(device))
        begin = perf_counter()
        for part in net.losses(images, labels):
            sum(part.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronise(torch.device(device))
        took.append(perf_counter() - begin)
    return batch * len(took[WARM:]) / sum(took[WARM:])


def files(folder: Path) -> None:
    """JPEG files in a folder per class."""
    pictures = vitlab.data.shapes("train", size=256, n=FILES)
    for index in range(len(pictures)):
        place = folder / pictures.classes[int(pictures.labels[index])]
        place.mkdir(exist_ok=True)
        Image.fromarray(pictures.picture(index)).save(place / f"{index}.jpg", quality=90)


def main(device: str = "cpu") -> None:
    torch.manual_seed(0)
    gpu, rows = torch.device(device).type == "cuda", []
    workers = [n for n in (0, 1, 2, 4, 8, 15) if n < max(os.cpu_count(), 3)]
    small = vitlab.data.shapes("train", size=32, n=20_000)
    with TemporaryDirectory() as folder:
        files(Path(folder))
        for what, data, batch, net, size in (
            ("32 px, a batch at once", small.changed(augment=PaddedCrop()), 256, ("supervit", "micro_patch4", 32), 32),
            ("32 px, by timm", small.changed(pictures=Pillow(small.pictures), augment=Augment()), 256,
             ("supervit", "micro_patch4", 32), 32),
            ("JPEG files, DeiT's augmentation", vitlab.data.load(folder, augment=DEIT), 128 if gpu else 8,
             ("supervit", "deit_small", 224), 224)):
            method, backbone, side = net
            speed = learned(vitlab.create(method, backbone, num_classes=10, image_size=side), batch, size, device)
            for count in workers:
                found = loaded(data, batch, count)
                rows.append({"what": what, "workers": count, "images_per_s": found, "net": f"{method} {backbone}", "batch": batch,
                             "net_images_per_s": speed, "feeds": found / speed})
                print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(device=device, precision="fp32")
    write(table, DATA / "results" / f"loader_{torch.device(device).type}.csv", device)


class Pillow:
    """Pictures in memory as a set of files gives them: one by one."""

    def __init__(self, pictures):
        self.pictures = pictures

    def __getitem__(self, rows):
        return [Image.fromarray(picture.numpy()) for picture in self.pictures[rows]]

    def __len__(self):
        return len(self.pictures)

    def take(self, rows):
        return Pillow(self.pictures[rows])

    def squared(self, size, wanted=None):
        return self.pictures


if __name__ == "__main__":
    main(*sys.argv[1:])
