"""`shapes`: pictures made by this file, of ten shapes whose number and size a difficulty dial sets.

One rule at every difficulty: **the answer is the shape seen most often**. An easy picture holds one bright
shape, a hard one a crowd in which the answer leads by a single object: its evidence lies on many tokens. All
shapes have equal area and a random turn, place and colour: neither colour nor area tells the class. Long
ellipses, of no class, distract.

A picture depends on (seed, split, its number, size, dial) alone: it is the same in a set of 100 and of 10000.
"""

from functools import partial
from hashlib import sha256
from math import log, tau
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from vitlab.data import cache, outlines
from vitlab.data.imageset import ImageSet
from vitlab.data.outlines import DISTRACTOR, OUTLINES, REACH, TILE, atlas
from vitlab.data.picture import Preprocessing, normalised
from vitlab.numbers import flag, real, seed_of, whole
from vitlab.words import one_of

CLASSES = list(OUTLINES)
SPLITS = {"train": 12_000, "val": 2_000, "test": 2_000}    # pictures of a set unless n says otherwise
WIDEST, LARGEST = 1024, 1_000_000    # pixels of a side, and pictures of a set that a person may ask for
BLOCK = 200    # pictures drawn from one generator and painted together; much larger is slower

# What the difficulty d of a picture means. Lengths in sides of the picture; a radius is the equal disc's.
ALONE = .3                # up to here there is one object, from large to small; above, a crowd
RADIUS = (.38, .14)       # of the one object at d = 0 and d = ALONE
CROWDS = ((2, 1), (2, 1, 1), (3, 2, 1), (3, 2, 2), (4, 3, 2))    # counts of the answer and its rivals
CROWD_RADIUS = (.125, .095)
DISTRACTORS, DISTRACTOR_RADIUS = 3, (.05, .09)
GAP = .01                 # wished between two objects
MOST = max(map(sum, CROWDS))
DARK, BRIGHT, TEXTURE = (.12, .42), (.65, 1.), .25


def shapes(split: str = "train", *, size: int = 56, difficulty: float = 0., n: int | None = None,
           seed: int = 0, augment: bool = False) -> ImageSet:
    """Made pictures of ten balanced classes, with masks and the columns size, difficulty and objects.

    difficulty: the dial in [0, 1]; a picture's own difficulty is uniform in [0, ALONE + (1 - ALONE) dial].
    augment: turn and mirror the pictures when they are drawn for training.
    """
    one_of(split, "split", SPLITS)
    size, difficulty, seed = whole(size, "size", 16, WIDEST), real(difficulty, "difficulty", 0, 1), seed_of(seed)
    n = whole(SPLITS[split] if n is None else n, "n", 1, LARGEST)
    source = b"".join(Path(file).read_bytes() for file in (__file__, outlines.__file__))    # of this code
    name = f"shapes-{split}-{size}px-dial{difficulty:g}-n{n}-seed{seed}-{sha256(source).hexdigest()[:8]}"
    made = cache.kept(name, partial(make, split, size, difficulty, n, seed))
    return ImageSet("shapes", CLASSES, made["labels"], made["pictures"], size, masks=made["masks"],
                    columns={column: made[column].numpy() for column in ("size", "difficulty", "objects")},
                    augment=turned if flag(augment, "augment") else None)


def turned(pictures: Tensor, size: int, wanted: Preprocessing) -> Tensor:
    """uint8 [n, S, S, 3] -> normalised float [n, 3, S, S], each in one of the eight ways to lay a square."""
    images = normalised(pictures, wanted)
    for change in (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.mT):
        rows = torch.rand(len(images)) < .5
        images[rows] = change(images[rows])
    return images


def make(split: str, size: int, dial: float, n: int, seed: int) -> dict[str, Tensor]:
    stream = (seed * len(SPLITS) + list(SPLITS).index(split)) * 100_003    # room for that many blocks
    blocks = []
    for start in range(0, n, BLOCK):
        generator = torch.Generator().manual_seed(stream + start // BLOCK)
        scene = draw(generator, dial)
        pictures, mask = paint(scene, size)
        blocks.append({"pictures": pictures, "masks": packed(mask), "labels": scene["label"],
                       "size": mask.float().mean((1, 2)), "difficulty": scene["difficulty"],
                       "objects": (scene["kind"] >= 0).sum(1) - DISTRACTORS})
    return {key: torch.cat([block[key] for block in blocks])[:n].contiguous() for key in blocks[0]}


def packed(mask: Tensor) -> Tensor:
    """numpy's packbits for each row: bool [B, S, S] -> uint8 [B, ceil(S * S / 8)]."""
    bits = mask.flatten(1).to(torch.uint8)
    bits = torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8)).unflatten(1, (-1, 8))
    return (bits << torch.arange(7, -1, -1, dtype=torch.uint8)).sum(2).to(torch.uint8)


def draw(generator: torch.Generator, dial: float) -> dict[str, Tensor]:
    """BLOCK random scenes: label, difficulty [B], the background's ground [B, 3, 1, 1] and noise; per slot
    (distractors, then objects) kind (-1: none), radius, turn [B, M], centre [B, M, 2], colour [B, M, 3]."""
    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(BLOCK, *shape, generator=generator)

    def colour(values, *shape):
        """Random hues and saturations, the brightest channel within `values`: [B, *shape, 3]."""
        hue = torch.rand(BLOCK, *shape, 3, generator=generator)
        hue = hue / hue.amax(-1, keepdim=True)
        return uniform(*values, *shape, 1) * (1 - uniform(0, 1, *shape, 1) * (1 - hue))

    slots = DISTRACTORS + MOST
    difficulty = uniform(0, 1) * (ALONE + (1 - ALONE) * dial)
    label = torch.randperm(BLOCK, generator=generator) % len(CLASSES)
    rivals = uniform(0, 1, len(CLASSES) - 1).argsort(1) + 1
    names = torch.cat([label[:, None], (label[:, None] + rivals) % len(CLASSES)], 1)
    names = torch.nn.functional.pad(names, (0, 1), value=-1)
    hard = ((difficulty - ALONE) / (1 - ALONE)).clamp(min=0)
    level = torch.where(difficulty < ALONE, 0, (hard * len(CROWDS)).long().clamp(max=len(CROWDS) - 1) + 1)
    kind = torch.cat([torch.full((BLOCK, DISTRACTORS), DISTRACTOR), names.gather(1, seats()[level])], 1)
    alone = (difficulty / ALONE * log(RADIUS[1] / RADIUS[0])).exp() * RADIUS[0]
    crowd = CROWD_RADIUS[0] + (CROWD_RADIUS[1] - CROWD_RADIUS[0]) * hard
    radius = torch.where(level == 0, alone, crowd)[:, None].expand(BLOCK, MOST)
    radius = torch.cat([uniform(*DISTRACTOR_RADIUS, DISTRACTORS), radius], 1)
    tries = uniform(0, 1, slots, 16, 2)
    return {"label": label, "difficulty": difficulty, "kind": kind, "radius": radius,
            "centre": placed(tries, radius, kind), "turn": uniform(0, tau, slots),
            "colour": colour(BRIGHT, slots), "ground": colour(DARK)[..., None, None],
            **{f"noise{cells}": uniform(-.5, .5, 3, cells, cells) for cells in (4, 8, 16)}}


def seats() -> Tensor:
    """Who sits in an object's slot: 0 the answer, 1 to 9 a rival, 10 nobody: [1 + crowds, MOST]."""
    rows = [[rank for rank, count in enumerate(crowd) for _ in range(count)] for crowd in ((1,), *CROWDS)]
    return torch.tensor([row + [len(CLASSES)] * (MOST - len(row)) for row in rows])


def placed(tries: Tensor, radius: Tensor, kind: Tensor) -> Tensor:
    """For each slot the first of its tries that clears the objects before it, or the best: [B, M, 2]."""
    margin = (1.1 * radius).clamp(max=.5)[..., None, None]
    tries = margin + (1 - 2 * margin) * tries                                              # [B, M, tries, 2]
    rows, centre = torch.arange(len(tries)), tries[:, :, 0].clone()
    for slot in range(DISTRACTORS + 1, tries.shape[1]):
        before = slice(DISTRACTORS, slot)
        distance = (tries[:, slot, :, None] - centre[:, None, before]).norm(dim=-1)       # [B, tries, before]
        gap = distance - 1.2 * (radius[:, None, before] + radius[:, slot, None, None])
        gap = gap.masked_fill(kind[:, None, before] < 0, 1.).amin(2).clamp(max=GAP)
        best = (gap - 1e-6 * torch.arange(gap.shape[1])).argmax(1)
        centre[:, slot] = tries[rows, slot, best]
    return centre


def paint(scene: dict[str, Tensor], size: int) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [B, size, size, 3] and where the answer's objects are, bool [B, size, size]."""
    ground = scene["ground"].expand(BLOCK, 3, size, size).clone()
    for weight, cells in ((.5, 4), (.3, 8), (.2, 16)):
        noise = interpolate(scene[f"noise{cells}"], (size, size), mode="bilinear", align_corners=False)
        ground += 2 * TEXTURE * weight * noise
    mask = torch.zeros(BLOCK, size, size, dtype=torch.bool)
    for slot in range(scene["kind"].shape[1]):
        rows = (scene["kind"][:, slot] >= 0).nonzero()[:, 0]
        if len(rows):
            kind = scene["kind"][rows, slot]
            cover = coverage(kind, *(scene[key][rows, slot] for key in ("radius", "centre", "turn")), size)
            ground[rows] += cover[:, None] * (scene["colour"][rows, slot, :, None, None] - ground[rows])
            answers = (kind == scene["label"][rows])[:, None, None]
            mask[rows] = torch.where(cover > .5, answers, mask[rows])
    return (ground.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous(), mask


def coverage(kind: Tensor, radius: Tensor, centre: Tensor, turn: Tensor, size: int) -> Tensor:
    """Share of each pixel an object covers, from its distance to the outline: [n] each -> [n, size, size]."""
    rotation = torch.stack([turn.cos(), turn.sin(), -turn.sin(), turn.cos()], -1).unflatten(-1, (2, 2))
    rotation = rotation / (REACH * radius)[:, None, None]
    theta = torch.cat([rotation / 2, rotation @ (.5 - centre)[..., None]], 2)    # picture's [-1, 1] -> tile's
    where = affine_grid(theta, (len(kind), 1, size, size), align_corners=False)
    tiles, inside = atlas(), 1 - 1 / TILE
    where[..., 1] = (where[..., 1].clamp(-inside, inside) + 2 * kind[:, None, None] + 1) / len(tiles) - 1
    column = tiles.view(1, 1, -1, TILE).expand(len(kind), 1, -1, TILE)    # one column of tiles, shared by all
    distance = grid_sample(column, where, padding_mode="border", align_corners=False)[:, 0]
    return (.5 - distance * (radius * size)[:, None, None]).clamp(0, 1)
