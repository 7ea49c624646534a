"""What is known of the models before anything runs: names, colours, and numbers measured or printed elsewhere."""
from dataclasses import asdict, fields
from typing import Any

from pandas import DataFrame, isna
from torch import nn

from vitlab import measure
from vitlab.plots.theme import color_of
from vitlab.widgets.guests import is_guest, wanted


class Known:
    """Facts about the models of one panel, the classes of its images, and the sweep it was given."""

    def __init__(self, methods: dict[str, nn.Module], images, sweep: DataFrame | None):
        self.methods, self.sweep = methods, sweep
        self.classes = {name: wanted(method, images).classes for name, method in methods.items()}
        self.guests = {name for name, method in methods.items() if is_guest(method, images)}
        self.made = {name: getattr(method, "made", {}) for name, method in methods.items()}
        self.papers = {name: self.paper(name) for name in methods}

    def named(self, model: str, k: int) -> str:
        """A class's name."""
        return self.classes[model][k]

    def versus(self, model: str) -> str:
        """What the costliest point is called."""
        return "its costliest point" if self.methods[model].adaptive else "dense"

    def exits(self, model: str) -> tuple[str, ...]:
        """What a model calls its exits, such as "length 10"; () for numbers."""
        return getattr(self.methods[model], "exit_names", ())

    def hue(self, model: str) -> str:
        """A model's colour: its method's, or one of its own where two models are of one method."""
        kinds = {name: made.get("method", name) for name, made in self.made.items()}
        alone = list(kinds.values()).count(kinds[model]) == 1
        return color_of(kinds[model] if alone else model, tuple(kinds))

    def placed(self, name: str, place: Any, here: str) -> tuple[str, Any]:
        """(model, point) of a point of the model `here`, or of such a pair; ValueError for another thing, called `name`."""
        model, point = place if isinstance(place, tuple) and len(place) == 2 else (here, place)
        method = self.methods.get(model) if isinstance(model, str) else None
        if method is None or not isinstance(point, method.Point) or point not in method.points:
            raise ValueError(f"{name} must be an operating point of the model in view, such as net.points[0], or (model, point) "
                             f"of one of {', '.join(self.methods)}, not {place!r}")
        return model, point

    def place(self, model: str, point: Any) -> tuple[float, float] | None:
        """(gmacs, top1) of this point in the sweep; None where it has no such row. What a CSV holds as text is read as such."""
        if self.sweep is None:
            return None
        rows = self.sweep[self.sweep["source"] == "ours"] if "source" in self.sweep else self.sweep
        for name in (model,) if model in self.guests else (model, self.made[model].get("method")):
            found = rows[rows["method"] == name]
            for knob, value in asdict(point).items():
                same = [v == value or v == str(value) or value is None and isna(v) for v in found[knob]] if knob in found else []
                found = found[same] if knob in found else found[:0]
            if len(found):
                return float(found["gmacs"].iloc[0]), float(found["top1"].iloc[0])
        return None

    def point_at(self, gmacs: float, top1: float) -> tuple[str, Any] | None:
        """The model and its operating point that the sweep has at this place; None where it is nobody's."""
        for model, method in self.methods.items():
            for point in method.points:
                if self.place(model, point) == (gmacs, top1):
                    return model, point
        return None

    def paper(self, model: str) -> dict[Any, tuple[float, str]]:
        """Point -> (the speed-up over the costliest point that the paper prints, its device), where it prints one.

        The paper's rows of this backbone, or else of the first it names; none for a net whose costliest point is not the paper's,
        which its speed-ups are over.
        """
        made, knobs = self.made[model], [field.name for field in fields(self.methods[model].Point)]
        table = measure.paper()
        table = table[table.method == made.get("method", model)]
        if not knobs or not set(knobs) <= set(table):
            return {}
        table = table[table.images_per_s.notna() & table.variant.isna()].dropna(subset=knobs)
        nets = list(table.backbone)
        if not nets:
            return {}
        table = table[table.backbone == (made.get("backbone") if made.get("backbone") in nets else nets[0])]
        most = table.loc[table.gmacs.idxmax()]
        if self.methods[model].points[-1] != self.methods[model].Point(**{k: most[k] for k in knobs}):
            return {}
        dense = most["images_per_s"]
        return {self.methods[model].Point(**{k: row[k] for k in knobs}):
                (float(row["images_per_s"] / dense), row["device"]) for row in table.to_dict("records")}
