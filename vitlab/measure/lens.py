"""The logit lens on one patch: what the net would answer from its token alone, as it was when it left."""
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.evaluation import in_evaluation
from vitlab.measure.inside import hooked, one_image, place_of
from vitlab.trace import Trace

COLUMNS = ["stage", "layer", "after", "class", "logit", "probability"]


@in_evaluation
@torch.inference_mode()
def lens(method: nn.Module, image: Tensor, patch: int, point: Any = None, *, grid: int | None = None) -> pd.DataFrame:
    """What the net would answer from one patch (the logit lens): a row per class: stage, layer (from 1), after, class, logit,
    probability.

    Read is the patch's token as it was when it left: in the last block in which it took part, after "attention" where it was
    dropped or merged there, else after the "mlp"; of a patch that stayed, after the last block. It is read by the net's own last
    norm and head, in the place of every token that they read: the class token, a distillation token, the patches of a pooled
    answer or of a second head. Of a cascade the last stage that the image went through reads it, by its own classifier.
    Without a row: the patch never took part, or was gone before a PiT widened its tokens, and no head takes such a token.
    image [3, S, S] or [1, 3, S, S], normalised. patch: a number, row by row, on grid x grid patches (None: those of the first
    block); on another grid, what lies in its middle. Two passes. Raises ValueError for more than one image, or no such patch.
    """
    image, trace, told = one_image(method, image, "lens"), Trace(), []
    trace.watch = lambda _, said: told.append(said)
    with steps(method) as done:
        method(image, point, trace)
    where = place_of(trace.layers, patch, grid)
    for part, here, said, step in reversed(list(zip(trace.layers, where, told, done, strict=True))):
        if (place := said.attending(here)) is not None:
            break
    else:
        return pd.DataFrame(columns=COLUMNS)
    fed = said.reaching(here)
    token = (step.attended if fed is None else step.fed)[0, said.own(place if fed is None else fed)]
    path = partial(method, point=point) if trace.exit is None else method.through(part.stages)
    with everywhere(method, token) as refused:
        logits = path(image)[0].float().cpu()
    if refused:
        return pd.DataFrame(columns=COLUMNS)
    return pd.DataFrame({**part.place, "after": "attention" if fed is None else "mlp", "class": range(len(logits)),
                         "logit": logits, "probability": logits.softmax(-1)})


class Step(NamedTuple):
    """The tokens of one block, [B, n, D] each, in the order in which it works on them."""

    attended: Tensor        # after attention
    fed: Tensor             # after the MLP, those that reach it


@contextmanager
def steps(method: nn.Module) -> Iterator[list[Step]]:
    """The tokens of each block that runs meanwhile, in their order."""
    done, now = [], {}

    def begin(part: nn.Module, given: tuple) -> None:
        now.clear()
        now["x"] = given[0]

    def attended(part: nn.Module, given: tuple, update: Tensor) -> None:
        now["attended"] = now["x"] + update

    def reach(part: nn.Module, given: tuple) -> None:
        now.setdefault("reach", given[0][..., :now["x"].shape[-1]])        # a DVT's MLP reads its context beside the token

    def end(part: nn.Module, given: tuple, update: Tensor) -> None:
        done.append(Step(now["attended"], now["reach"] + update))

    with hooked(method, lambda block: (
            block.norm1.register_forward_pre_hook(begin), block.drop_path1.register_forward_hook(attended),
            *(norm.register_forward_pre_hook(reach) for norm in block.norm2.modules()),    # a ReViT's picks one itself
            block.drop_path2.register_forward_hook(end))):
        yield done


@contextmanager
def everywhere(method: nn.Module, token: Tensor) -> Iterator[list[int]]:
    """Meanwhile whatever is read at the end is this token [D]: after every block of its width, and before the last norm.

    Gives the widths that a last norm wanted instead: none where the token could be read.
    """
    now, refused = {}, []

    def begin(part: nn.Module, given: tuple) -> None:
        now["x"] = given[0]

    def fill(part: nn.Module, given: tuple, update: Tensor) -> Tensor | None:
        return token - now["x"][:, :update.shape[1]] if update.shape[-1] == len(token) else None

    def silent(part: nn.Module, given: tuple, update: Tensor) -> Tensor | None:
        return torch.zeros_like(update) if update.shape[-1] == len(token) else None

    def last(part: nn.Module, given: tuple) -> tuple | None:
        if given[0].shape[-1] != len(token):
            refused.append(given[0].shape[-1])
            return None
        return (token.to(given[0].dtype).expand_as(given[0]), *given[1:])

    with hooked(method, lambda block: (
            block.norm1.register_forward_pre_hook(begin), block.drop_path1.register_forward_hook(fill),
            block.drop_path2.register_forward_hook(silent)),
            lambda net: [norm.register_forward_pre_hook(last) for norm in net.norm.modules()]):     # a ReViT's picks one itself
        yield refused
