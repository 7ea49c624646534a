"""Usage: how many blocks each patch takes part in, which come back after they were left out, where on the picture they lie."""
from functools import cache
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.data.detection import any_set
from vitlab.evaluation import beside, in_evaluation
from vitlab.measure.focus import on_patches
from vitlab.numbers import batch_of
from vitlab.trace import Trace, recorded


def taken(trace: Trace) -> Tensor:
    """Who took part in which block: bool [L, B, N]. ValueError unless all blocks of the pass are of one net and one grid."""
    layers = recorded(trace)
    if len({(part.stages, part.grid) for part in layers}) > 1:
        raise ValueError("these blocks are of several nets or grids, whose patches are not the same; usage is told of one net")
    return torch.stack([part.attended for part in layers])


def used(trace: Trace) -> Tensor:
    """How many blocks, gated or not, each patch took part in: int [B, N]."""
    return taken(trace).sum(0)


def fate(trace: Trace) -> pd.DataFrame:
    """A row per block: layer, left_out (share of all patches of the batch) and of those the shares that came back in the next
    block (next), after some more (later) or not at all (never); NaN where none was left out.
    """
    there = taken(trace)
    again = there.int().flip(0).cummax(0).values.flip(0).bool()                         # here or in any block behind
    nobody, rows = torch.zeros_like(there[0]), []
    for place, part in enumerate(trace.layers):
        out = ~there[place]
        soon, ever = (there[place + 1], again[place + 1]) if place + 1 < len(there) else (nobody, nobody)
        shares = {"next": soon, "later": ever & ~soon, "never": ~ever}
        count = out.sum().item()
        rows.append({"layer": part.layer + 1, "left_out": out.float().mean().item(),
                     **{name: (out & which).sum().item() / count if count else float("nan") for name, which in shares.items()}})
    return pd.DataFrame(rows)


def overlap(trace: Trace) -> pd.DataFrame:
    """A row per two neighbouring blocks: layer and following, overlap (patches in both / in any of them, mean over images) and
    chance, what random sets of the same sizes would have. Images of which neither block takes a patch do not count.
    """
    there, rows = taken(trace), []
    for one, two, first, second in zip(there[:-1], there[1:], trace.layers[:-1], trace.layers[1:]):
        both, either = (one & two).sum(1), (one | two).sum(1)
        seen = either > 0
        sizes = zip(one.sum(1)[seen].tolist(), two.sum(1)[seen].tolist())
        chances = [by_chance(a, b, one.shape[1]) for a, b in sizes]
        rows.append({"layer": first.layer + 1, "following": second.layer + 1,
                     "overlap": (both[seen] / either[seen]).mean().item(),
                     "chance": sum(chances) / len(chances) if chances else float("nan")})
    return pd.DataFrame(rows)


@cache
def by_chance(a: int, b: int, among: int) -> float:
    """The mean overlap of two random sets of a and b of `among` patches: what they share is hypergeometric."""
    from scipy.stats import hypergeom

    shared = range(max(0, a + b - among), min(a, b) + 1)
    return sum(float(hypergeom.pmf(n, among, a, b)) * n / (a + b - n) for n in shared)


@in_evaluation
@torch.inference_mode()
def by_region(method: nn.Module, data, point: Any = None, *, batch: int = 50) -> pd.DataFrame:
    """A row per picture: image, used (blocks a patch took part in, mean), used_object and used_background (the same of the
    patches that are the objects', and of the others, NaN where there are none), object (the share that is the objects').

    data: an ImageSet or a DetectionSet that knows where objects are; a fact of its pictures, such as their difficulty, joins by
    `image`: `frame.join(pandas.DataFrame(data.columns), on="image")`. ValueError for a set without masks.
    """
    data, batch = any_set(data).for_net(method), batch_of(batch)
    if data.mask(0) is None:
        raise ValueError(f"{data.name} does not know where its objects are; use vitlab.data.shapes or vitlab.data.objects")
    parts = []
    for start in range(0, len(data), batch):
        index, trace = range(start, min(start + batch, len(data))), Trace()
        images = beside(method, data.images(index))
        method(images, point, trace)
        blocks = used(trace).double()
        mine = on_patches(torch.stack([torch.from_numpy(data.mask(i)) for i in index]).to(images.device), trace.layers[0].grid)
        parts.append(pd.DataFrame({
            "image": list(index), "used": blocks.mean(1).cpu(), "used_object": (blocks * mine).sum(1).div(mine.sum(1)).cpu(),
            "used_background": (blocks * ~mine).sum(1).div((~mine).sum(1)).cpu(), "object": mine.double().mean(1).cpu()}))
    return pd.concat(parts, ignore_index=True)
