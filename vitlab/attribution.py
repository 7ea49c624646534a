"""Attribution: which patches speak for a class, by captum, at any operating point of any method.

Relevance is taken where the tokens enter the first block, after positions are added, so it exists on the patch grid of every
sequence length, and a patch that is dropped later still counts for what it said before it went. Of a method that exits, the
exit that answered is explained, with the exits switched off: whatever is looked at on the way goes where the picture went.
On a net with random weights the maps are noise.
"""
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.evaluation import beside, in_evaluation
from vitlab.numbers import whole
from vitlab.trace import Trace

MOST = 10_000           # passes of integrated gradients


def patches(method: nn.Module, image: Tensor, point: Any = None, target: int | None = None) -> Tensor:
    """Gradient x activation of every patch for class `target` (None: the predicted one): float [h, w], positive for it.

    Only how strongly a patch matters is to be trusted, not its sign: where the patches that speak most for the answer are greyed,
    the logit falls less than where those most against it are (`tests/test_attribution.py`). `integrated` is right about both.
    image [3, S, S] (or [1, 3, S, S]), normalised. One forward and one backward pass; the method's own gradients stay
    untouched. Of a cascade of several nets, the patches of the one that answered.
    """
    from captum.attr import LayerGradientXActivation

    def last_only(path: Callable[[Tensor], Tensor], doors: list[nn.Module], image: Tensor, target: int) -> list[Tensor]:
        return [LayerGradientXActivation(path, doors[-1]).attribute(image, target)]

    return explain(method, image, point, target, last_only)


def integrated(method: nn.Module, image: Tensor, point: Any = None, target: int | None = None, *, steps: int = 32) -> Tensor:
    """Integrated gradients from the mean-colour picture: float [h, w], in `steps` passes, and complete.

    Complete means that the patches sum to logit(image) - logit(mean colour), both by the path that the image took: its exit,
    its length. That is exact where no token is dropped; dropping makes the logit jump along the way, and the jumps are not
    counted. What patches of a coarser net before the one that answered said is shared out over the same area.
    """
    from captum.attr import LayerIntegratedGradients

    steps = whole(steps, "steps", 1, MOST)

    def all_doors(path: Callable[[Tensor], Tensor], doors: list[nn.Module], image: Tensor, target: int) -> list[Tensor]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Multiple layers")       # one could feed another; here all see the picture
            return LayerIntegratedGradients(path, doors).attribute(image, 0.0, target, n_steps=steps, internal_batch_size=8)

    return explain(method, image, point, target, all_doors)


@in_evaluation
def explain(method: nn.Module, image: Tensor, point: Any, target: int | None, how: Callable[..., list[Tensor]]) -> Tensor:
    """Run how(path, doors, image [1, 3, S, S], target), which gives relevance [1, P + N, D] at the last doors; sum to [h, w]."""
    image = beside(method, image)
    image = image[None] if image.dim() == 3 else image
    if image.dim() != 4 or len(image) != 1:
        raise ValueError(f"attribution explains one image [3, S, S] at a time, not {tuple(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"attribution needs normalised floats, not {image.dtype}; give an image set's images([n])")
    with torch.no_grad():
        trace = Trace()
        logits = method(image, point, trace)
    if target is None:
        target = int(logits.argmax())
    target = whole(target, "target, the number of a class,", 0, logits.shape[1] - 1)
    last = trace.layers[-1]
    path = partial(method, point=point) if trace.exit is None else method.through(last.stages)
    with torch.enable_grad():
        tokens = how(path, entrances(method, path, image), image, target)
    entered: dict[tuple, tuple] = {}                                       # the grid of each net's first block: a PiT's shrinks
    for part in trace.layers:
        if part.stages[:-1] == last.stages[:-1]:
            entered.setdefault(part.stages, part.grid)
    grids = list(entered.values())
    maps = [on_grid(said.detach()[0], grid) for said, grid in zip(tokens, grids[-len(tokens):], strict=True)]
    return sum(shared_out(part, grids[-1]) for part in maps)


def on_grid(relevance: Tensor, grid: tuple[int, int]) -> Tensor:
    """The patches' relevance, summed over its width: tokens [T, D], or the map [D, h, w] that enters a PiT -> [h, w]."""
    return relevance.sum(0) if relevance.dim() == 3 else relevance.sum(-1)[-grid[0] * grid[1]:].reshape(grid)


@torch.no_grad()
def entrances(method: nn.Module, path: Callable[[Tensor], Tensor], image: Tensor) -> list[nn.Module]:
    """Where tokens enter the nets that this path runs through, in order; what else a method holds is not on it."""
    seen: list[nn.Module] = []
    doors = [net.pos_drop for net in method.modules() if isinstance(net, VisionTransformer | PoolingVisionTransformer)]
    hooks = [door.register_forward_hook(lambda door, _, __: seen.append(door)) for door in doors]
    try:
        path(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def shared_out(relevance: Tensor, grid: tuple[int, int]) -> Tensor:
    """A map [n, m] on another grid [h, w]: every patch is shared out over those it overlaps, by area, so that the sum stays."""
    rows, columns = (overlap(old, new).to(relevance) for old, new in zip(relevance.shape, grid, strict=True))
    return rows @ relevance @ columns.mT


def overlap(old: int, new: int) -> Tensor:
    """The share of each of `old` even parts of a line that lies in each of `new` ones: [new, old], each column sums to 1."""
    here, there = torch.arange(new)[:, None] * old, torch.arange(old) * new        # where parts start, in 1 / (old * new)
    return (torch.minimum(here + old, there + new) - torch.maximum(here, there)).clamp(min=0) / new
