"""The pictures that a panel walks through: what each model answers to them, point by point, computed once and remembered."""
from collections.abc import Callable, Container, Iterator
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from pandas import DataFrame

from vitlab import measure
from vitlab.data.sampling import proportional
from vitlab.measure.answers import in_batches
from vitlab.measure.slices import ORDERED
from vitlab.measure.speed import PRECISIONS
from vitlab.widgets.engine import GATE, Engine
from vitlab.widgets.records import Ask, Slice, titled

MOST = 500                                  # pictures of a larger set that are asked about: of each class its share
BATCH = 10                                  # pictures between two looks for a newer request


class Slices:
    """Slices of an image set, by rows; a request that was given up is gone on with where it stopped."""

    def __init__(self, engine: Engine, images):
        self.engine, self.images = engine, images
        self.known: dict[tuple, DataFrame] = {}                                # of a model, point, device and precision
        self.begun: dict[tuple, tuple[Iterator[list[DataFrame]], list[DataFrame]]] = {}
        self.slice: tuple | None = None                                        # whose rows are held, see `key`
        self.rows: list[int] = []
        self.refused: str | None = None                                        # why there are none
        self.place = 0                                                         # where among them the walk has come to

    @cached_property
    def pool(self) -> list[int]:
        """The pictures that are asked about, by number."""
        return proportional(self.images.labels, MOST).tolist()

    def key(self, ask: Ask) -> tuple:
        """What the rows depend on."""
        return ask.slice, ask.device, ask.precision

    def find(self, ask: Ask, stale: Callable[[], bool], report: Callable[[int], None]) -> list[int] | None:
        """The rows of the slice asked for, in the order to walk them; None when a newer request came in.

        report(count) is told how many pictures have been answered. ValueError where all pictures cost the same and the dearest
        are asked for.
        """
        part = ask.slice
        check(part, self.engine.methods, self.engine.guests)
        tables = [place and self.answers(place, ask, stale, report) for place in (part.at, part.beside)]
        if any(place and table is None for place, table in zip((part.at, part.beside), tables, strict=True)):
            return None
        own, other = (None if table is None else self.placed(table) for table in tables)
        own = self.placed(DataFrame(index=range(len(self.pool)))) if own is None else own
        return measure.pick(own, part.how, beside=other, label=part.label)

    def placed(self, table: DataFrame) -> DataFrame:
        """A table whose images and classes are numbered as in the whole set, whatever net has answered."""
        return table.assign(image=self.pool, label=self.images.labels[self.pool].numpy())

    def answers(self, place: tuple[str, Any], ask: Ask, stale: Callable[[], bool], report: Callable[[int], None]
                ) -> DataFrame | None:
        """What a model answers at a point, on the device and in the precision asked for; None when a newer request came in."""
        model, key = place[0], (*place, ask.device, ask.precision)
        if key in self.known:
            return self.known[key]
        method, data = self.engine.methods[model], self.engine.sets[model]
        if key not in self.begun:
            data = data if len(self.pool) == len(data) else data.take(self.pool)
            self.begun[key] = in_batches(method, data, [place[1]], BATCH), []
        steps, parts = self.begun[key]
        device, kind = torch.device(ask.device).type, PRECISIONS[ask.precision]
        try:
            while (count := sum(map(len, parts))) < len(self.pool):
                if stale():
                    return None
                report(count)
                with (GATE.look(f"the answers of {titled(*place)}"),
                      torch.autocast(device, kind, enabled=ask.precision != "fp32")):
                    method.to(ask.device)
                    parts += next(steps)
        except BaseException:
            del self.begun[key]                                                # whoever asks again begins anew
            raise
        del self.begun[key]
        self.known[key] = pd.concat(parts, ignore_index=True)
        return self.known[key]

    def hold(self, ask: Ask, rows: list[int], refused: str | None = None) -> Any:
        """Hold the rows of a slice that was asked for, or why there are none; the picture to look at from now on.

        A new slice is walked from its first picture, unless the one in view is of it and it has no order.
        """
        anew = self.slice is None or self.slice[0] != ask.slice
        self.slice, self.rows, self.refused, self.place = self.key(ask), rows, refused, 0
        stays = ask.image in rows and ask.slice.how not in ORDERED
        return rows[0] if anew and rows and not stays else ask.image

    def step(self, rows: list[int], image: int, by: int) -> int:
        """The row so many after an image, round and round; after one that is not among them, counted from the last that was."""
        self.place = ((rows.index(image) if image in rows else self.place) + by) % len(rows)
        return rows[self.place]

    def forget(self) -> None:
        """Hold none: what is asked for next begins anew."""
        self.slice = None


def check(part: Slice, methods: dict[str, Any], guests: Container[str] = ()) -> None:
    """One sentence for a slice that says nothing."""
    for place in (part.at, part.beside) if part.how in ("wrong", "lost") else ():
        if place and place[0] in guests:
            raise ValueError(f"{place[0]} knows none of these pictures' classes, so it is neither right nor wrong about them; "
                             "choose the least sure, or another net")
    if part.how == "lost" and part.at == part.beside:
        raise ValueError(f"no picture is wrong and right at once at {titled(*part.at)}; choose another point on one side")
    if part.how == "dear" and not methods[part.at[0]].adaptive:
        raise ValueError(f"at {titled(*part.at)} all pictures cost the same, so none is the dearest; choose the least sure, or a "
                         "net whose cost depends on the picture")
