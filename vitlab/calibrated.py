"""What decides at test time, found on held-out pictures for several operating points: rows of numbers, and lines between them."""
from collections.abc import Sequence


class Calibrated:
    """Rows of a setting, such as a budget, and the numbers found for it; ascending.  what, unit: how people call the setting."""

    def __init__(self, rows: Sequence[Sequence[float]], what: str, unit: str = ""):
        self.rows = tuple(sorted(tuple(map(float, row)) for row in rows))
        self.what, self.unit = what, unit and f" {unit}"

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def settings(self) -> tuple[float, ...]:
        """What is known."""
        return tuple(row[0] for row in self.rows)

    def at(self, setting: float, same: float) -> tuple[float, ...]:
        """The numbers for a setting, on a straight line between its neighbours'; ValueError for one beyond the ends.

        same: relative distance at which two settings are one.
        """
        low, high = self.settings[0], self.settings[-1]
        if not low * (1 - same) <= setting <= high * (1 + same):
            raise ValueError(f"this net is calibrated from {low:.4g} to {high:.4g}{self.unit}, not for {setting:.4g}; choose "
                             f"another {self.what}, calibrate this one too, or use Point(..., fixed=True)")
        nearest = min(self.rows, key=lambda row: abs(row[0] - setting))
        if abs(nearest[0] / setting - 1) <= same:
            return nearest[1:]
        below = max(row for row in self.rows if row[0] <= setting)
        above = min(row for row in self.rows if row[0] >= setting)
        part = (setting - below[0]) / (above[0] - below[0])
        return tuple(a + part * (b - a) for a, b in zip(below[1:], above[1:], strict=True))
