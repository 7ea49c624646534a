"""Focus: do class attention and the kept tokens lie on the object? Needs an image set that knows where its objects are."""
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.data.imageset import image_set
from vitlab.evaluation import beside, in_evaluation
from vitlab.numbers import batch_of
from vitlab.trace import Trace

COVERED = 0.25      # a patch is the object's when more than this share of it is covered


@in_evaluation
@torch.inference_mode()
def focus(method: nn.Module, data, point: Any = None, *, batch: int = 250) -> pd.DataFrame:
    """A row per image and block it went through: image, stage, layer, attention, kept, chance, attention_gain, kept_gain.

    attention: share of the class token's attention to patches that falls on the object's; kept: share of the patches fed to
    the MLP that are the object's; chance: share of all patches that are. The gains are ratios to chance.
    stage counts the nets of a cascade from 0 (`inner` those within a stage that is a cascade itself), layer from 1.
    Images whose object covers no patch are left out. Raises ValueError for a set without masks.
    """
    data, batch = image_set(data).for_net(method), batch_of(batch)
    if data.mask(0) is None:
        raise ValueError(f"{data.name} does not know where its objects are; use vitlab.data.shapes")
    rows = []
    for start in range(0, len(data), batch):
        index = range(start, min(start + batch, len(data)))
        trace = Trace()
        images = beside(method, data.images(index))
        method(images, point, trace)
        masks = torch.stack([torch.from_numpy(data.mask(i)) for i in index]).to(images.device)
        for layer in trace.layers:
            here = shares(layer, on_patches(masks, layer.grid)).assign(image=list(index))
            rows.append(here[layer.attended.any(1).cpu().numpy()])
    frame = pd.concat(rows, ignore_index=True)
    frame = frame[frame.chance > 0].assign(attention_gain=lambda f: f.attention / f.chance, kept_gain=lambda f: f.kept / f.chance)
    return frame.sort_values(["image", *trace.layers[0].place], ignore_index=True)


def on_patches(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which patches are the object's: bool [B, S, S] -> bool [B, h*w]."""
    return F.adaptive_avg_pool2d(masks[:, None].float(), grid).flatten(1) > COVERED


def shares(layer, mine: Tensor) -> pd.DataFrame:
    """One block: the object's share of the class attention, of the patches that are fed on, and of all patches."""
    attention = (layer.cls * mine).sum(1) / layer.cls.sum(1)
    kept = (layer.fed & mine).sum(1) / layer.fed.sum(1)
    return pd.DataFrame({**layer.place, "attention": attention.float().cpu(), "kept": kept.cpu(),
                         "chance": mine.float().mean(1).cpu()})
