"""Pictures with patches dimmed or heated, as plain uint8 arrays: the one drawing that figures and widgets share."""
import base64
import io
from colorsys import hsv_to_rgb
from math import ceil

import numpy as np
from numpy import ndarray
from PIL import Image
from plotly.colors import sample_colorscale, sequential, unlabel_rgb
from torch import Tensor

from vitlab.data.picture import in_rgb, opened

DROPPED = np.array([122.0, 127.0, 136.0])           # the grey that dropped patches fade into
AGAINST, FOR = np.array([59.0, 130.0, 246.0]), np.array([239.0, 68.0, 45.0])
FADE = 0.8                                          # share of that grey in a dropped patch
PACKED, TINT = np.array([215.0, 115.0, 206.0]), (0.12, 0.68)     # SPViT's colour; its share at the least and the largest weight
TURN = 0.618034                                     # of the colour circle, from one token's border to the next one's
BACK = np.array([16.0, 185.0, 129.0])               # the frame of a patch that has come back
MINE, OTHERS = np.array([7.0, 130.0, 90.0]), np.array([237.0, 122.0, 7.0])      # stripes of patches that one of two sets has
HEAT = np.array([unlabel_rgb(c) for c in sample_colorscale(sequential.Inferno, np.linspace(0, 1, 256).tolist())])


def in_bytes(picture: ndarray) -> ndarray:
    """Any picture as uint8 [S, S, 3], by the one rule there is: floats are 0..1. ValueError for what is no picture."""
    if isinstance(picture, ndarray) and picture.dtype == np.uint8 and picture.size and picture.shape[2:] == (3,):
        return picture
    if not isinstance(picture, ndarray | Tensor | Image.Image):
        raise TypeError(f"a picture to draw on is an array [H, W, 3], such as an image set's picture(0), not {picture!r:.60}")
    return np.asarray(in_rgb(opened(picture)))


def enlarge(picture: ndarray, side: int = 224) -> ndarray:
    """A small picture, see `in_bytes`, repeated pixel by pixel to at least `side`; larger ones unchanged."""
    picture = in_bytes(picture)
    times = max(1, ceil(side / picture.shape[0]))
    return picture.repeat(times, 0).repeat(times, 1)


def spread(patches: ndarray, grid: tuple[int, int], size: tuple[int, int]) -> ndarray:
    """Values per patch [h*w, ...] over the pixels they cover: [height, width, ...]."""
    rows, columns = (np.arange(n) * g // n for n, g in zip(size, grid, strict=True))
    return patches.reshape(*grid, *patches.shape[1:])[rows][:, columns]


def grey(picture: ndarray) -> ndarray:
    """The picture without colour, float [S, S, 1]."""
    return picture.astype(float) @ np.array([[0.299], [0.587], [0.114]])


def dimmed(picture: ndarray, alive: ndarray, grid: tuple[int, int]) -> ndarray:
    """The picture with the patches that are not alive [h*w] (bool) faded to grey; uint8 [S', S', 3]."""
    big = enlarge(picture)
    gone = FADE * DROPPED + (1 - FADE) * grey(big)
    return np.where(spread(alive, grid, big.shape[:2])[..., None], big, gone).astype(np.uint8)


def returned(picture: ndarray, alive: ndarray, back: ndarray, grid: tuple[int, int]) -> ndarray:
    """As `dimmed`, with a frame round every patch that is back [h*w] (bool)."""
    big = dimmed(picture, alive, grid)
    inside = [np.arange(n) * g % n for n, g in zip(big.shape[:2], grid, strict=True)]      # how far into its patch, in patch / n
    width = max(1, min(big.shape[:2]) // 110)                              # pixels
    rim = [(part < width * g) | (part >= n - width * g) for part, n, g in zip(inside, big.shape[:2], grid, strict=True)]
    framed = spread(back, grid, big.shape[:2]) & (rim[0][:, None] | rim[1])
    return np.where(framed[..., None], BACK, big).astype(np.uint8)


def marked(picture: ndarray, patch: int, grid: tuple[int, int]) -> ndarray:
    """The picture uint8 [S', S', 3] with a frame round one patch, white within and dark without, to be seen on any colour."""
    big = picture.copy()
    (top, left), (height, width) = divmod(patch, grid[1]), big.shape[:2]
    edges = [(-(-n * size // count), -(-(n + 1) * size // count)) for n, size, count in (
        (top, height, grid[0]), (left, width, grid[1]))]
    line = max(1, min(height, width) // 110)                               # pixels
    for grow, colour in ((line, 20), (0, 255)):
        rows, columns = (slice(max(first - grow, 0), last + grow) for first, last in edges)
        inner = [slice(max(first - grow, 0) + line, last + grow - line) for first, last in edges]
        kept = big[inner[0], inner[1]].copy()
        big[rows, columns] = colour
        big[inner[0], inner[1]] = kept
    return big


def compared(picture: ndarray, alive: ndarray, grid: tuple[int, int], others: ndarray, other_grid: tuple[int, int]) -> ndarray:
    """As `dimmed`, beside another set of patches, others [h*w] (bool) on other_grid: where only these are alive stripes rise to
    the right, where only the others are stripes fall. uint8 [S', S', 3].
    """
    big = dimmed(picture, alive, grid)
    mine, other = spread(alive, grid, big.shape[:2]), spread(others, other_grid, big.shape[:2])
    rows, columns = np.indices(big.shape[:2])
    step = max(4, big.shape[0] // 28)                                      # pixels from stripe to stripe
    for where, place, colour in ((mine & ~other, rows + columns, MINE), (other & ~mine, rows - columns, OTHERS)):
        big[where & (place % step < max(1, step // 4))] = colour
    return big


def in_tokens(picture: ndarray, token: ndarray, grid: tuple[int, int]) -> ndarray:
    """The picture as its tokens, much as in ToMe's figures: patches of one number [h*w] in the mean of their colours, with a thin
    border, whose colour tells which of those that lie apart belong together; a patch alone as it is. uint8 [S', S', 3].
    """
    big, count = enlarge(picture), int(token.max()) + 1
    number = spread(token, grid, big.shape[:2])                            # [S', S']
    sums = [np.bincount(number.ravel(), big[..., channel].ravel(), count) for channel in range(3)]
    mean = np.stack(sums, 1) / np.bincount(number.ravel(), minlength=count).clip(1)[:, None]
    border = 255 * np.array([hsv_to_rgb(TURN * n % 1, 0.8, 0.95) for n in range(count)])
    edge = np.zeros(number.shape, bool)
    for one, other in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        apart = number[one] != number[other]
        edge[one] |= apart
        edge[other] |= apart
    several = (np.bincount(token, minlength=count) > 1)[number][..., None]
    return np.where(several, np.where(edge[..., None], border[number], mean[number]), big).astype(np.uint8)


def heated(picture: ndarray, weight: ndarray, alive: ndarray, grid: tuple[int, int], most: float | None = None) -> ndarray:
    """Non-negative weights [h*w] as heat over the grey picture, the largest one, or `most`, brightest; absent patches faded."""
    big = enlarge(picture)
    level = (255 * weight / max(float(weight.max() if most is None else most), 1e-12)).astype(int)
    hot = 0.72 * spread(HEAT[level], grid, big.shape[:2]) + 0.28 * grey(big)
    return np.where(spread(alive, grid, big.shape[:2])[..., None], hot, FADE * DROPPED + (1 - FADE) * grey(big)).astype(np.uint8)


def folded(picture: ndarray, weight: ndarray, alive: ndarray, grid: tuple[int, int]) -> ndarray:
    """The picture with what was folded into a package tinted by its weight [h*w], the largest one fully, and alive ones clear.

    Patches that are neither went earlier, and are dark.
    """
    big = enlarge(picture)
    share = spread(weight / max(float(weight.max()), 1e-12), grid, big.shape[:2])[..., None]
    strength = TINT[0] + (TINT[1] - TINT[0]) * share
    held = (1 - strength) * (0.6 * grey(big) + 30) + strength * PACKED
    gone = 0.18 * grey(big) + 14
    rest = np.where(spread(alive, grid, big.shape[:2])[..., None], big, gone)
    return np.where(share > 0, held, rest).astype(np.uint8)


def signed(picture: ndarray, relevance: ndarray) -> ndarray:
    """Relevance [h, w] over the grey picture: red speaks for the class, blue against it, the strongest patch fully."""
    big = enlarge(picture)
    share = spread(relevance.reshape(-1), relevance.shape, big.shape[:2])[..., None] / max(float(np.abs(relevance).max()), 1e-12)
    strength = 0.9 * np.abs(share)
    return ((1 - strength) * (0.55 * grey(big) + 40) + strength * np.where(share > 0, FOR, AGAINST)).astype(np.uint8)


def png(picture: ndarray) -> bytes:
    """A uint8 picture as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def source(picture: ndarray) -> str:
    """A uint8 picture as the data address that plotly's Image takes: a tenth of the raw pixels' size."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()
