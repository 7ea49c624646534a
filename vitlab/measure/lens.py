"""The logit lens on one patch: what the net would answer from its token alone, as it was when it left."""
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.evaluation import in_evaluation
from vitlab.measure.inside import Pass, hooked, one_image, place_of, watched

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
    image = one_image(method, image, "lens")
    return answer(method, image, point, watched(method, image, point), patch, grid)


def answer(method: nn.Module, image: Tensor, point: Any, seen: Pass, patch: int, grid: int | None) -> pd.DataFrame:
    """The same of a pass that was watched already: one pass more."""
    trace = seen.trace
    where = place_of(trace.layers, patch, grid)
    for part, here, said, step in reversed(list(zip(trace.layers, where, seen.told, seen.steps, strict=True))):
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
