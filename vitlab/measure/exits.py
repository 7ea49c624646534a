"""What every exit of a cascade says of every image: one pass, from which thresholds for any budget are found."""
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitlab.cascade import CRITERIA, stop_at
from vitlab.cascade.budget import Exits
from vitlab.data.imageset import image_set
from vitlab.evaluation import beside, in_evaluation
from vitlab.measure.answers import check_logits
from vitlab.measure.cost import gmacs
from vitlab.numbers import batch_of
from vitlab.trace import Trace
from vitlab.words import one_of


@in_evaluation
@torch.inference_mode()
def exits(method: nn.Module, data, *, criterion: str | None = None, batch: int = 50) -> Exits:
    """Score and correctness [exits, images] of an image set, and the cumulative cost of each exit in 1e9 multiply-adds.

    criterion: "confidence", "entropy" or "random" (None: the method's own). Hand the result to `vitlab.budget`.
    Raises ValueError for a method without exits, pictures of another size, classes that the net does not know, or logits
    that are not finite.
    """
    if not hasattr(method, "exits"):
        raise ValueError(f"{type(method).__name__} has no early exits; use dvt, adaptive_depth or vitlab.EarlyExit")
    data, batch = image_set(data).for_net(method), batch_of(batch)
    sure = CRITERIA[getattr(method, "criterion", "confidence") if criterion is None else one_of(criterion, "criterion", CRITERIA)]
    score, correct = [], []
    for start in range(0, len(data), batch):
        index = range(start, min(start + batch, len(data)))
        images = beside(method, data.images(index))
        labels = data.labels[list(index)].to(images.device)
        logits = list(method.exits(images))
        for part in logits:
            check_logits(part, index)
        score.append(torch.stack([sure(part, images, stage) for stage, part in enumerate(logits)]).cpu())
        correct.append(torch.stack([part.argmax(-1) == labels for part in logits]).cpu())
    count = len(logits)
    cost = [gmacs(method, images[:1], method.Point(stop_at(stage, count)))[0] for stage in range(count)]
    return Exits(torch.cat(score, 1).numpy(), torch.cat(correct, 1).numpy(), np.array(cost))


@in_evaluation
@torch.inference_mode()
def leaving(method: nn.Module, images: Tensor, point: Any) -> tuple[int, ...]:
    """How many of the images [B, 3, S, S] leave at each exit that any of them reaches; ValueError for a net without exits."""
    trace = Trace()
    method(beside(method, images), point, trace)
    if trace.exit is None:
        raise ValueError(f"{type(method).__name__} has no early exits; use dvt, adaptive_depth or vitlab.EarlyExit")
    return at_each(method, trace)


def at_each(method: nn.Module, trace: Trace) -> tuple[int, ...]:
    """The same of a pass whose trace is known."""
    most = max(len(getattr(method, "exit_names", ())), 1 + max(part.stage for part in trace.layers))
    return tuple(torch.bincount(trace.exit, minlength=most).tolist())
