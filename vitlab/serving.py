"""From pictures as people have them to names: what a program around a net needs."""
import os
from collections.abc import Iterable
from typing import Any

import torch
from pandas import DataFrame
from PIL import Image
from torch import Tensor, nn

from vitlab.backbones import image_size
from vitlab.data.picture import USUAL, Preprocessing, normalised, opened, squared
from vitlab.evaluation import beside, in_evaluation
from vitlab.numbers import batch_of, whole

ONE = str | bytes | bytearray | os.PathLike | Image.Image


@in_evaluation
@torch.inference_mode()
def predict(method: nn.Module, pictures: Any, point: Any = None, *, top: int = 1, batch: int = 32) -> DataFrame:
    """What a method says of pictures: a row per picture and rank with picture (its place), rank, label, name and confidence.

    pictures: paths, bytes of files, Pillow images or arrays [H, W] or [H, W, 3], as many as you like; one may stand alone. They
    are prepared as the net was trained to see them. top: so many answers for each. name is the class's, or its number where the
    net has no names. Raises ValueError, naming the picture, for one that cannot be read.
    """
    made = getattr(method, "made", {})
    wanted = Preprocessing(**made["preprocessing"]) if made.get("preprocessing") else USUAL
    many, batch = listed(pictures), batch_of(batch)
    rows = []
    for start in range(0, len(many), batch):
        pixels = torch.stack([prepared(one, start + n, image_size(method.vit), wanted)
                              for n, one in enumerate(many[start:start + batch])])
        share = method(beside(method, normalised(pixels, wanted)), point).float().softmax(-1)
        best = share.topk(min(whole(top, "top"), share.shape[1]))
        rows += [{"picture": start + n, "rank": rank + 1, "label": label, "name": named(made, label), "confidence": sure}
                 for n, (labels, values) in enumerate(zip(best.indices.tolist(), best.values.tolist(), strict=True))
                 for rank, (label, sure) in enumerate(zip(labels, values, strict=True))]
    return DataFrame(rows)


def listed(pictures: Any) -> list:
    """One picture, or several, as a list; ValueError where there is none."""
    if isinstance(pictures, ONE) or hasattr(pictures, "shape") and len(pictures.shape) in (2, 3):
        return [pictures]
    if not isinstance(pictures, Iterable) or isinstance(pictures, dict):
        raise TypeError(f"pictures must be paths, bytes, Pillow images or arrays, not a {type(pictures).__name__}")
    if not (found := list(pictures)):
        raise ValueError("there is no picture; give at least one")
    return found


def prepared(picture: Any, place: int, size: int, wanted: Preprocessing) -> Tensor:
    """One picture as uint8 [size, size, 3]; what is wrong with it names its place."""
    try:
        return squared(opened(picture), size, wanted)
    except (ValueError, TypeError, FileNotFoundError) as error:
        raise type(error)(f"picture {place}: {error}") from error


def named(made: dict, label: int) -> str:
    """A class's name, or its number."""
    return made["classes"][label] if made.get("classes") else str(label)
