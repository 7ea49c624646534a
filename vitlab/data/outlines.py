"""Ten outlines of equal area as one atlas of signed distances, so that any turn and size has a clean edge.

An outline is a list of closed loops; a point inside an odd number of them is inside (the ring has two).
"""

from functools import lru_cache
from math import atan2, cos, hypot, pi, sin

import torch
from torch import Tensor

REACH = 2.5    # half the side of a tile, in radii of the disc of the same area
TILE = 128     # pixels of a tile's side
LONG = 4       # length : width of the ellipse that only distracts


def circle(radius: float = 1., x: float = 0., start=0., stop=2 * pi, stretch: float = 1.) -> list:
    """Points of an arc, counted from `start` to `stop`, `stretch`ed along x."""
    turns = torch.linspace(start, stop, 49)[:-1].tolist()
    return [(x + stretch * radius * cos(a), radius * sin(a)) for a in turns]


def star(points: int = 5, inner: float = .45) -> list:
    turns = [(k * pi / points, inner if k % 2 else 1.) for k in range(2 * points)]
    return [(r * cos(a), r * sin(a)) for a, r in turns]


def cross(arm: float = .34) -> list:
    quarter = [(1., -arm), (1., arm), (arm, arm)]
    turned = []
    for _ in range(4):
        turned += quarter
        quarter = [(-y, x) for x, y in quarter]
    return turned


def heart() -> list:
    turns = torch.linspace(0, 2 * pi, 65)[:-1].tolist()
    return [(16 * sin(a) ** 3, 13 * cos(a) - 5 * cos(2 * a) - 2 * cos(3 * a) - cos(4 * a)) for a in turns]


def crescent(horn: float = .75, shift: float = .5) -> list:
    """The unit disc without a disc about (shift, 0); their circles meet at the angles +-horn of the first."""
    x, y = cos(horn) - shift, sin(horn)
    angle = atan2(y, x)
    bite = circle(hypot(x, y), shift, start=2 * pi - angle, stop=angle)
    return circle(start=horn, stop=2 * pi - horn) + bite


OUTLINES = {
    "circle": [circle()],
    "square": [[(1, 1), (-1, 1), (-1, -1), (1, -1)]],
    "triangle": [[(cos(a), sin(a)) for a in (0, 2 * pi / 3, 4 * pi / 3)]],
    "star": [star()],
    "cross": [cross()],
    "ring": [circle(), circle(.58)],
    "heart": [heart()],
    "crescent": [crescent()],
    "arrow": [[(1, 0), (.1, .8), (.1, .3), (-1, .3), (-1, -.3), (.1, -.3), (.1, -.8)]],
    "hourglass": [[(1, 1), (.18, 0), (1, -1), (-1, -1), (-.18, 0), (-1, 1)]],
}
DISTRACTOR = len(OUTLINES)    # the atlas row after the ten classes: a long ellipse, of no class


def moments(loops: list) -> tuple[float, float, float]:
    """Area and centroid of an outline (shoelace); loops after the first are holes."""
    area = x = y = 0.
    for number, loop in enumerate(loops):
        (x0, y0), (x1, y1) = torch.tensor(loop).double().T, torch.tensor(loop).double().roll(-1, 0).T
        cross = x0 * y1 - x1 * y0
        sign = cross.sum().sign() * (1 if number == 0 else -1)
        area += (sign * cross.sum() / 2).item()
        x += (sign * ((x0 + x1) * cross).sum() / 6).item()
        y += (sign * ((y0 + y1) * cross).sum() / 6).item()
    return area, x / area, y / area


def signed_distance(loops: list, points: Tensor) -> Tensor:
    """Distance of each point to the outline, negative inside: [n, 2] -> [n]."""
    start = torch.cat([torch.tensor(loop).double() for loop in loops])
    stop = torch.cat([torch.tensor(loop).double().roll(-1, 0) for loop in loops])
    edge, away = stop - start, points[:, None] - start                               # [e, 2], [n, e, 2]
    along = ((away * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    distance = (away - along[..., None] * edge).norm(dim=-1).amin(1)
    (x, y), (x0, y0), (x1, y1) = points.T[..., None], start.T, stop.T
    rise = (y1 - y0).where(y1 != y0, 1.)    # a level edge is never crossed
    crossed = ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / rise + x0)
    return torch.where(crossed.sum(1) % 2 == 1, -distance, distance)


@lru_cache
def atlas() -> Tensor:
    """Signed distances of the ten outlines and the distractor, a tile each, in radii: [11, TILE, TILE]."""
    line = (torch.arange(TILE).double() + .5) / TILE * 2 * REACH - REACH
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).flatten(0, 1)
    tiles = []
    for loops in [*OUTLINES.values(), [circle(stretch=LONG)]]:
        area, x, y = moments(loops)
        scale = (pi / area) ** .5
        loops = [[(scale * (a - x), scale * (b - y)) for a, b in loop] for loop in loops]
        tiles.append(signed_distance(loops, points).view(TILE, TILE))
    return torch.stack(tiles).float()
