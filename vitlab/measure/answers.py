"""Answers: what a method says of every image, and how a method does at every operating point."""
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.data.imageset import ImageSet, image_set
from vitlab.evaluation import beside, check_net, in_evaluation
from vitlab.measure.cost import from_trace, gmacs
from vitlab.measure.latency import latency_race
from vitlab.measure.resources import joules, peak_memory
from vitlab.measure.speed import MOST, check_precision, race
from vitlab.numbers import batch_of, flag, whole
from vitlab.trace import Trace, recorded


def answers(method: nn.Module, data, point: Any = None, *, batch: int = 50) -> pd.DataFrame:
    """A row per image of an image set: image, label, prediction, confidence, correct, exit, tokens, gmacs.

    label and prediction number the net's classes, whose names are in `.attrs["classes"]`; tokens = patches that reach the last
    MLP; exit = the stage that answered, 0 without a cascade.
    Raises ValueError for pictures of another size, classes that the net does not know, or logits that are not finite.
    """
    return at_points(method, data, [point], batch)[0]


@in_evaluation
@torch.inference_mode()
def at_points(method: nn.Module, data, points: Sequence[Any], batch: int = 50) -> list[pd.DataFrame]:
    """What `answers` says at each of several points. Methods that can compute them together do (`together`, `outcomes`)."""
    data = image_set(data).for_net(method)
    parts = zip(*in_batches(method, data, points, batch_of(batch)), strict=True)
    tables = [pd.concat(part, ignore_index=True) for part in parts]
    for table in tables:
        table.attrs["classes"] = data.classes
    return tables


@torch.inference_mode()
def in_batches(method: nn.Module, data: ImageSet, points: Sequence[Any], batch: int) -> Iterator[list[pd.DataFrame]]:
    """The same batch by batch, for whoever may stop: a table for each point. The net is in evaluation mode and `data` is as it
    wants them (see `ImageSet.for_net`)."""
    known, way = [{} for _ in points], adaptive if method.adaptive else alike
    if method.adaptive == "exit" and hasattr(method, "outcomes") and len(points) > 1:
        way = by_exit
    for start in range(0, len(data), batch):
        tables = []
        index = list(range(start, min(start + batch, len(data))))
        images = beside(method, data.images(index))
        labels = data.labels[index].to(images.device)
        for logits, told in way(method, images, points, known):
            check_logits(logits, index)
            confidence, prediction = logits.float().softmax(-1).max(-1)
            tables.append(pd.DataFrame({
                "image": index, "label": labels.cpu(), "prediction": prediction.cpu(), "confidence": confidence.cpu(),
                "correct": (prediction == labels).cpu(), **told}))
        yield tables


def adaptive(method: nn.Module, images: Tensor, points: Sequence[Any], known: list[dict]) -> Iterator[tuple[Tensor, dict]]:
    """Logits [B, K] at each point, and exit, tokens and gmacs of each image; `known` remembers the costs."""
    for point, costs in zip(points, known, strict=True):
        trace = Trace()
        logits = method(images, point, trace)
        yield logits, {**way_of(trace), "gmacs": from_trace(method, images, point, trace, costs)}


def alike(method: nn.Module, images: Tensor, points: Sequence[Any], known: list[dict]) -> Iterator[tuple[Tensor, dict]]:
    """The same of a method whose images all cost the same: one is looked at, once."""
    for point, told in zip(points, known, strict=True):
        if not told:
            trace = Trace()
            method(images[:1], point, trace)
            told |= {name: column[0] for name, column in way_of(trace).items()}
            told |= {"gmacs": from_trace(method, images[:1], point, trace, {})[0]}
    together = getattr(method, "together", None) or (lambda images, points: (method(images, point) for point in points))
    yield from zip(together(images, points), known, strict=True)


def by_exit(method: nn.Module, images: Tensor, points: Sequence[Any], known: list[dict]) -> Iterator[tuple[Tensor, dict]]:
    """The same of a method whose images differ by their exit alone: all exits are run once, and one image of each looked at."""
    logits, which = method.outcomes(images)
    logits, places = torch.stack(logits), torch.arange(len(images), device=images.device)
    for point, told in zip(points, known, strict=True):
        exits = which(point)
        for number in set(exits.tolist()) - told.keys():
            told |= seen_alone(method, images[exits == number], point, number)
        if set(exits.tolist()) <= told.keys():
            columns = {name: np.array([told[number][name] for number in exits.tolist()]) for name in ("exit", "tokens", "gmacs")}
            yield logits[exits, places], columns
        else:
            yield from adaptive(method, images, [point], [{}])


def seen_alone(method: nn.Module, images: Tensor, point: Any, number: int) -> dict[int, dict]:
    """What it costs to leave at an exit, from the first of the images that does so alone: rounding may carry one past it."""
    for image in images.split(1):
        trace = Trace()
        method(image, point, trace)
        if int(trace.exit) == number:
            gmacs = from_trace(method, image, point, trace, {})[0]
            return {number: {**{name: column[0] for name, column in way_of(trace).items()}, "gmacs": gmacs}}
    return {}


def way_of(trace: Trace) -> dict[str, np.ndarray]:
    """At which exit each image answered, 0 without a cascade, and how many of its patches reached the last MLP: [B] each."""
    fed = torch.stack([layer.fed.sum(1) for layer in trace.layers])        # [layers, B]
    last = len(fed) - 1 - (fed.flip(0) > 0).int().argmax(0)                # the last block an image reached
    exits = torch.zeros_like(last) if trace.exit is None else trace.exit
    return {"exit": exits.cpu().numpy(), "tokens": fed.gather(0, last[None])[0].cpu().numpy()}


def check_logits(logits: Tensor, index: Sequence[int]) -> None:
    """One sentence where the logits [B, K] of these images hold a number that is none."""
    if logits.isfinite().all():
        return
    way = (f"{logits.dtype} holds none above 65504, so they may have overflowed; use float() or bfloat16()"
           if logits.dtype == torch.float16 else "check the weights and the pixels")
    raise ValueError(f"logits of images {index[0]} to {index[-1]} are not finite; {way}")


def sweep(method: nn.Module, data, points: Sequence[Any] | None = None, *, batch: int = 32, precision: str = "fp32",
          rounds: int = 5, baseline: nn.Module | None = None, resources: bool = False) -> pd.DataFrame:
    """A row per operating point: method, backbone, point, its knobs, top1 (%), gmacs, images_per_s, speed_up, gmacs_ratio, ...

    Accuracy is over all of `data`; speed is measured on a sample of `batch` of its images, the points taking turns. speed_up and
    gmacs_ratio compare with `baseline` (a method at its headline point; None: the most expensive of the points, which is 1.00 of
    itself, whatever noise there is). With `resources`
    also what one picture takes, latency_ms (median) and latency_p99_ms, and what a batch does where the device tells, memory_mib
    (see `peak_memory`) and joules an image (see `joules`).
    """
    check_net(method)
    data, batch, points = image_set(data).for_net(method), batch_of(batch), asked(method, points)
    if baseline is not None:
        check_net(baseline)
    check_precision(precision)
    rounds, resources = whole(rounds, "rounds", 1, MOST), flag(resources, "resources")
    table = at_points(method, data, points)
    cost = [t.gmacs.mean() for t in table]
    images = data.sample(batch).images(slice(None))
    names, most = [str(i) for i in range(len(points))], int(np.argmax(cost))
    yard = (method, points[most]) if baseline is None else (baseline, None)
    entries = {names[most] if baseline is None else "yardstick": yard}     # a race's first entry is what it compares with
    entries |= {n: (method, p) for n, p in zip(names, points)}
    speed = race(entries, images, precision=precision, rounds=rounds)
    speed = speed.set_index("name").loc[names]
    dense = gmacs(yard[0], images, yard[1]).mean()
    made = getattr(method, "made", {})
    more = taken(method, images, points, precision) if resources else [{}] * len(points)
    return pd.DataFrame([{
        "method": made.get("method", type(method).__name__.lower()), "backbone": made.get("backbone", ""), "point": str(point),
        **asdict(point), "top1": 100 * t.correct.mean(), "gmacs": c, "images_per_s": s.images_per_s, "speed_up": s.speed_up,
        "gmacs_ratio": dense / c, "batch": s.batch, "device": s.device, "precision": s.precision, "n": len(data),
        "data": data.name, "source": "ours", **told,
    } for point, t, c, s, told in zip(points, table, cost, speed.itertuples(), more)])


def taken(method: nn.Module, images: Tensor, points: Sequence[Any], precision: str) -> list[dict[str, float]]:
    """Latency, memory and energy at each point."""
    waited = latency_race({str(n): (method, point, precision) for n, point in enumerate(points)}, images[:1])
    return [{"latency_ms": row.median_ms, "latency_p99_ms": row.p99_ms,
             "memory_mib": peak_memory(method, images, point, precision=precision),
             "joules": joules(method, images, point, precision=precision)} for row, point in zip(waited.itertuples(), points)]


def asked(method: nn.Module, points: Sequence[Any] | None) -> list[Any]:
    """The operating points to measure, None being all of them; one sentence for what is no row of this method's points."""
    if points is None:
        return list(method.points)
    if not isinstance(points, list | tuple) or not points:
        raise ValueError(f"points must be a list of at least one operating point, such as net.points[:3], not {points!r}")
    if strange := [point for point in points if not isinstance(point, method.Point)]:
        raise ValueError(f"{strange[0]!r} is no operating point of {type(method).__name__}; take some of its `points`, or make "
                         f"one with {type(method).__name__}.Point")
    return list(points)


def layers(trace: Trace) -> pd.DataFrame:
    """A row per image, stage and block: image, stage, layer (1-based, as papers count), attended and fed (patches).

    `inner` stands beside stage where a stage is a cascade itself.
    """
    return pd.DataFrame([
        {"image": image, **part.place, "attended": a, "fed": f}
        for part in recorded(trace)
        for image, (a, f) in enumerate(zip(part.attended.sum(1).tolist(), part.fed.sum(1).tolist()))
    ])
