"""`objects`: made pictures of several objects each, with boxes, classes and masks, to detect and cut out.

One to four objects of random class, size, turn, place and colour lie on the ground of `shapes`, over its long ellipses of no
class. What is drawn later hides what lies below; masks are of what is seen, and an object that is hidden too much is left out.
A picture depends on (seed, split, its number, size, classes) alone: it is the same in a set of 100 and of 1000.
"""
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from vitlab.data import cache, outlines, scenes
from vitlab.data.detection import DetectionSet
from vitlab.data.names import names
from vitlab.data.scenes import BLOCK, CLASSES, DISTRACTORS, LARGEST, WIDEST, coverage, packed, paint
from vitlab.numbers import seed_of, whole
from vitlab.words import one_of

USUAL = ("square", "triangle", "cross", "ring")
SPLITS = {"train": 2_000, "val": 400, "test": 400}      # pictures of a set unless n says otherwise
MOST = 4                # objects of a picture
RADIUS = (.08, .26)     # of the disc of equal area, in sides of the picture; all sizes between, small ones more often
SEEN = .6               # the least share of an object that nothing may hide


def objects(split: str = "train", *, size: int = 96, n: int | None = None, seed: int = 0,
            classes: Sequence[str] = USUAL) -> DetectionSet:
    """Made pictures of 1 to 4 objects each, with the columns objects, size (share of the picture that is theirs) and smallest
    (the least of any one). classes: two or more outlines of `shapes`.
    """
    one_of(split, "split", SPLITS)
    size, n = whole(size, "size", 32, WIDEST), whole(SPLITS[split] if n is None else n, "n", 1, LARGEST)
    seed, classes = seed_of(seed), known(classes)
    source = b"".join(Path(file).read_bytes() for file in (__file__, scenes.__file__, outlines.__file__))
    mark = sha256(source + " ".join(classes).encode()).hexdigest()[:8]
    made = cache.kept(f"objects-{split}-{size}px-n{n}-seed{seed}-{mark}", partial(make, split, size, n, seed, classes))
    return DetectionSet("objects", classes, made["pictures"], made["objects"], made["labels"], made["masks"],
                        columns={name: made[name].numpy() for name in ("objects", "size", "smallest")})


def known(classes: Sequence[str]) -> list[str]:
    """Names of outlines; ValueError, in one sentence, for others."""
    classes = names(classes)
    if len(set(classes)) < max(2, len(classes)) or set(classes) - set(CLASSES):
        raise ValueError(f"classes must be two or more of {', '.join(CLASSES)}, each once, not {classes}")
    return classes


def make(split: str, size: int, n: int, seed: int, classes: list[str]) -> dict[str, Tensor]:
    stream = (seed * len(SPLITS) + list(SPLITS).index(split)) * 100_003     # room for that many blocks
    blocks = [block(torch.Generator().manual_seed(stream + number), size, classes) for number in range(-(-n // BLOCK))]
    made = {key: torch.cat([each[key] for each in blocks]) for key in blocks[0]}
    count = int(made["objects"][:n].sum())
    return {key: values[:count if key in ("labels", "masks") else n].contiguous() for key, values in made.items()}


def block(generator: torch.Generator, size: int, classes: list[str]) -> dict[str, Tensor]:
    """BLOCK pictures, and what is in them."""
    scene = draw(generator, classes)
    masks, there = seen(scene, size)                                       # [B, MOST, S, S], [B, MOST]
    scene["kind"][:, DISTRACTORS:][~there] = -1
    pictures, _ = paint(scene, size)
    number = torch.tensor([classes.index(name) if name in classes else -1 for name in CLASSES])
    areas = masks.float().mean((2, 3))
    return {"pictures": pictures, "objects": there.sum(1), "labels": number[scene["kind"][:, DISTRACTORS:][there]],
            "masks": packed(masks[there]), "size": areas.sum(1), "smallest": areas.where(there, torch.inf).amin(1)}


def draw(generator: torch.Generator, classes: list[str]) -> dict[str, Tensor]:
    """BLOCK random scenes as those of `shapes` (see `scenes.draw`), other objects in the place of theirs."""
    scene = scenes.draw(generator, 0.)
    for key in ("kind", "radius", "turn", "colour", "centre"):
        scene[key] = scene[key][:, :DISTRACTORS + MOST].clone()
    count = torch.randint(1, MOST + 1, (BLOCK, 1), generator=generator)
    which = torch.randint(len(classes), (BLOCK, MOST), generator=generator)
    kind = torch.tensor([CLASSES.index(name) for name in classes])[which]
    radius = RADIUS[0] * (RADIUS[1] / RADIUS[0]) ** torch.rand(BLOCK, MOST, generator=generator)
    margin = 1.1 * radius[..., None]
    scene["kind"][:, DISTRACTORS:] = kind.where(torch.arange(MOST) < count, -1)
    scene["radius"][:, DISTRACTORS:] = radius
    scene["centre"][:, DISTRACTORS:] = margin + (1 - 2 * margin) * torch.rand(BLOCK, MOST, 2, generator=generator)
    return scene


def seen(scene: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """What is seen of each object, bool [B, MOST, S, S], and which are seen enough, bool [B, MOST]: the last one always is.

    From the front to the back: what is left out hides nothing.
    """
    hidden = torch.zeros(BLOCK, size, size, dtype=torch.bool)
    masks, there = torch.zeros(BLOCK, MOST, size, size, dtype=torch.bool), torch.zeros(BLOCK, MOST, dtype=torch.bool)
    for slot in reversed(range(MOST)):
        place = DISTRACTORS + slot
        rows = (scene["kind"][:, place] >= 0).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        told = (scene[key][rows, place] for key in ("kind", "radius", "centre", "turn"))
        whole_ = coverage(*told, size) > .5
        open_ = whole_ & ~hidden[rows]
        enough = open_.sum((1, 2)) >= SEEN * whole_.sum((1, 2))
        there[rows, slot] = enough
        masks[rows, slot] = open_ & enough[:, None, None]
        hidden[rows] |= whole_ & enough[:, None, None]
    return masks, there
