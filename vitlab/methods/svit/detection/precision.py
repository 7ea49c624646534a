"""Average precision of boxes and masks as COCO reckons it, by pycocotools (the extra `dense`)."""
import io
from contextlib import redirect_stdout
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitlab.data.detection import DetectionSet
from vitlab.evaluation import beside
from vitlab.numbers import batch_of

KINDS = {"box": "bbox", "mask": "segm"}                 # ours, COCO's
COLUMNS = ("ap", "ap50", "ap75")                        # the first of COCOeval's numbers
MASK = 0.5                                              # what a pixel of a mask must exceed


def average_precision(detector, data: DetectionSet, point: Any = None, *, batch: int = 16) -> pd.DataFrame:
    """How well a detector finds and cuts out what is in `data`, at one point: see `precision`."""
    needed()
    return precision(detections(detector, data, point, batch=batch), data.labelled(detector.classes))


@torch.inference_mode()
def detections(detector, data: DetectionSet, point: Any = None, *, batch: int = 16) -> list[dict[str, Tensor]]:
    """What a detector finds in each picture, see `Detector.forward`; masks are bool [n, S, S]. On the CPU."""
    data, found = data.for_net(detector), []
    for start in range(0, len(data), batch_of(batch)):
        for each in detector(beside(detector, data.images(slice(start, start + batch))), point):
            found.append({name: tensor.cpu() for name, tensor in each.items()} | {"masks": (each["masks"][:, 0] > MASK).cpu()})
    return found


def precision(found: list[dict[str, Tensor]], data: DetectionSet) -> pd.DataFrame:
    """A row for boxes and one for masks: kind, ap (mean over overlaps of .5 to .95), ap50, ap75, in percent, and n pictures.

    found: for each picture boxes [n, 4], labels [n] from 1, scores [n], masks [n, S, S] bool. ValueError unless there is one for
    each picture, ImportError without the extra `dense`.
    """
    if len(found) != len(data):
        raise ValueError(f"{data.name} has {len(data)} pictures but {len(found)} were looked at; give what was found in each")
    coco, rows = needed("coco"), []
    with redirect_stdout(io.StringIO()):                                   # it tells its progress
        truth = coco.COCO()
        truth.dataset = {"info": {}, "images": [{"id": n, "height": data.image_size, "width": data.image_size}
                                                for n in range(len(data))],
                         "categories": [{"id": n, "name": name} for n, name in enumerate(data.classes, 1)],
                         "annotations": [{**each, "id": n, "iscrowd": 0} for n, each in enumerate(true_ones(data), 1)]}
        truth.createIndex()
        for kind, name in KINDS.items():
            said = list(told(found, kind))
            scores = scored(truth, truth.loadRes(said), name) if said else [0.0] * len(COLUMNS)
            rows.append({"kind": kind, **dict(zip(COLUMNS, scores)), "n": len(data)})
    return pd.DataFrame(rows)


def scored(truth, said, name: str) -> list[float]:
    """COCO's first numbers in percent; NaN where nothing was to be found."""
    judge = needed("cocoeval").COCOeval(truth, said, name)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return [100 * value if value >= 0 else np.nan for value in judge.stats[:len(COLUMNS)].tolist()]


def true_ones(data: DetectionSet):
    """What is in the pictures, in COCO's words."""
    for number in range(len(data)):
        target = data.target(number)
        for box, label, mask in zip(target["boxes"].tolist(), target["labels"].tolist(), runs(target["masks"]), strict=True):
            yield {"image_id": number, "category_id": label, "bbox": wide(box), "area": int(needed("mask").area(mask)),
                   "segmentation": mask}


def told(found: list[dict[str, Tensor]], kind: str):
    """What was found, in COCO's words: it takes the area of a box where there is one, so a mask comes without."""
    for number, each in enumerate(found):
        what = [{"bbox": wide(box)} for box in each["boxes"].tolist()] if kind == "box" else [
            {"segmentation": mask} for mask in runs(each["masks"])]
        for shape, label, score in zip(what, each["labels"].tolist(), each["scores"].tolist(), strict=True):
            yield {"image_id": number, "category_id": label, "score": score, **shape}


def runs(masks: Tensor) -> list[dict]:
    """Masks [n, S, S] as COCO packs them."""
    return needed("mask").encode(np.asfortranarray(masks.permute(1, 2, 0).numpy().astype(np.uint8))) if len(masks) else []


def wide(box: list[float]) -> list[float]:
    """Left, top, width, height of left, top, right, bottom."""
    left, top, right, bottom = box
    return [left, top, right - left, bottom - top]


def needed(part: str = "mask") -> ModuleType:
    """A part of pycocotools; ImportError, in one sentence, where it is absent."""
    try:
        return import_module(f"pycocotools.{part}")
    except ModuleNotFoundError as error:
        raise ImportError(f"{error.name} is not installed; what reckons COCO's average precision comes with "
                          'pip install -e ".[dense]"', name=error.name) from error
