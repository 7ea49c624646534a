"""What papers and their repositories publish: schedules, costs, accuracies, reported speeds, and where each stands."""
from pathlib import Path

import pandas as pd
from timm.models.vision_transformer import VisionTransformer

from vitlab.schedules.scheduled import Scheduled

FILE = Path(__file__).with_name("published.csv")
OPERATIONS = {"diffrate": "merge", "evit": "fuse", "tome": "merge", "dynamicvit": "predict"}


def published() -> pd.DataFrame:
    """A row per published schedule: method, backbone, label, top1 (percent, on ImageNet), gmacs, attended and fed (tokens of each
    block), operation, finetune_epochs, reported_speed, source. What is not published is NaN.

    DiffRate drops some tokens and merges others, and these are how many go in all: here all are merged, which is slower.
    """
    frame = pd.read_csv(FILE)
    for name in ("attended", "fed"):
        frame[name] = [tuple(map(int, row.split())) for row in frame[name]]
    return frame


def schedule(row: pd.Series, vit: VisionTransformer) -> Scheduled:
    """The net of one row, on a backbone of its name."""
    return Scheduled(vit, row.attended, row.fed, OPERATIONS[row.method])
