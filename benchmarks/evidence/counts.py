"""Printed costs and parameters, beside ours: the lines of paper_costs.py's table."""
from evidence import ZEROS, Evidence, read


def printed(method: str, place: str, what: str = "GFLOPs") -> Evidence:
    rows = read("paper_costs").query("method == @method and place == @place and what == @what")
    figures = tuple(zip(rows.printed, rows.ours, rows.digits, strict=True))
    return Evidence(f"{what} of {len(rows)} net{'s' if len(rows) > 1 else ''}", figures, "figures", what, ZEROS, ("paper_costs",))
