"""What a person takes away from a panel: what is shown as a page or a picture, and the sweep as a page with its plots."""
from io import BytesIO
from pathlib import Path

import ipywidgets as W
from PIL import Image

from vitlab.plots.files import write
from vitlab.reporting import report
from vitlab.widgets import text
from vitlab.widgets.leaf import leaf
from vitlab.widgets.view import PICTURES
from vitlab.words import path_of

KINDS = {   # file -> its button's words, icon and what it is
    "panel.html": ("page", "file-text-o", "what is shown, as a page of HTML that needs no kernel"),
    "panel.png": ("pictures", "picture-o", "the three pictures, side by side, as a PNG"),
    "sweep.html": ("sweep", "table", "the sweep's table and plots, as a page of HTML that needs no kernel"),
}
NO_SWEEP = "there is no sweep to take away; open the panel with sweep=vitlab.sweep(net, data)"
GAP = 8                                     # pixels between two pictures


class Away:
    """The buttons, by the file that they write, and the line that says what was written; `root` holds them."""

    def __init__(self, swept: bool):
        self.buttons = {file: W.Button(description=words, icon=icon, tooltip=f"take away {what}",
                                       layout=W.Layout(width="auto")) for file, (words, icon, what) in KINDS.items()}
        if not swept:
            self.buttons["sweep.html"].disabled, self.buttons["sweep.html"].tooltip = True, NO_SWEEP
        self.told = W.HTML().add_class("vl-told")
        label = W.HTML(text.fact("take away:")).add_class("vl-told")
        self.root = W.HBox([label, *self.buttons.values(), W.VBox([self.told]).add_class("vl-sentences")]).add_class("vl-row")


class Taking:
    """The part of a `Panel` that writes files."""

    def save(self, path: str | Path) -> Path:
        """Write what is shown as a page of HTML that needs no kernel and no network, or its pictures as a PNG; returns its path.

        Raises ValueError for a name that ends in neither .html nor .png, and before anything is shown; OSError where nothing can
        be written.
        """
        path = path_of(path)
        if path.suffix not in (".html", ".png"):
            raise ValueError(f"a panel is saved as a page or as pictures, such as panel.html or panel.png, not as {path.name}")
        if self.asked is None:
            raise ValueError("this panel shows nothing yet; .wait() for it")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            write(path, side_by_side([self.view.pictures[kind].value for kind in PICTURES]))
        else:
            walk = self.walk.told.value if self.asked.slice else ""
            write(path, leaf(self.view, self.twin, self.gaze, self.assigned.root.value, self.asked, walk).encode())
        return path

    def report(self, path: str | Path) -> Path:
        """Write the sweep that the panel was opened with as `vitlab.report` does; returns its path. ValueError without one."""
        if self.known.sweep is None:
            raise ValueError(NO_SWEEP)
        return report(self.known.sweep, path, title=f"{', '.join(self.methods)} on {self.images.name}")

    def take(self, file: str) -> None:
        """A button was pressed: its file is written where the notebook runs."""
        self.away.told.value = ""
        path = self.report(file) if file == "sweep.html" else self.save(file)
        size = path.stat().st_size
        told = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
        self.away.told.value = text.fact(f"{path.name} is written, {told}, in the folder where this notebook runs")


def side_by_side(pictures: list[bytes]) -> bytes:
    """Pictures as one PNG."""
    parts = [Image.open(BytesIO(picture)).convert("RGB") for picture in pictures]
    whole = Image.new("RGB", (sum(part.width for part in parts) + GAP * (len(parts) - 1), max(part.height for part in parts)),
                      "white")
    left = 0
    for part in parts:
        whole.paste(part, (left, 0))
        left += part.width + GAP
    into = BytesIO()
    whole.save(into, "PNG")
    return into.getvalue()
