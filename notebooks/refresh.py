"""Run notebooks and store their outputs, ready to be read on the web:  python notebooks/refresh.py [02_supervit_training ...]

Plotly figures are stored as PNG, because web viewers show no plotly (needs a Chrome for kaleido). A panel's cell, tagged `live`
(an explorer) or `governor`, is stored with its picture, figures/explorer_NN.png or governor_NN.png (taken by tests/panels.py):
a widget is dead without its kernel, and when the cell runs the panel takes the picture's place. Cell ids and metadata are made
regular, so that a refresh changes only what a run changed. A notebook is written only if it ran to its end without an error.
"""
import base64
import io
import itertools
import os
import re
import sys
from pathlib import Path

import nbformat
import plotly.io
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parent
FIGURES = HERE.parent / "figures"
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
PANELS = {"live": "explorer", "governor": "governor"}       # tag of a panel's cell -> what its pictures are called
SCALE = 1.5             # pixels of the PNG per pixel of the figure


def refresh(path: Path) -> None:
    """Execute one notebook in its own folder and rewrite it."""
    book = nbformat.read(path, 4)
    for panel in (panel_of(path, cell) for cell in book.cells if is_live(cell)):
        if not panel.exists():
            raise FileNotFoundError(f"there is no {panel}; take it with: python tests/panels.py {path.stem}")
    numbers = itertools.count(1)
    for cell in book.cells:                             # the install cell of notebooks/cloud.py counts for none
        cell["id"] = "cloud" if "cloud" in cell.metadata.get("tags", []) else f"c{next(numbers):02d}"
        cell.metadata = nbformat.from_dict({"tags": sorted(cell.metadata.get("tags", []))} if cell.metadata.get("tags") else {})
    book.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}})
    NotebookClient(book, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(HERE)}},
                   store_widget_state=False, record_timing=False).execute()
    for cell in book.cells:
        if is_live(cell):
            still(cell, panel_of(path, cell))
        elif cell.cell_type == "code":
            tidy(cell)
        else:
            attach(cell)
    book.metadata = nbformat.from_dict({k: v for k, v in book.metadata.items() if k != "widgets"})
    book.metadata["language_info"] = {"name": "python"}
    draft = path.with_suffix(".part")
    nbformat.write(book, draft)
    os.replace(draft, path)


def is_live(cell) -> bool:
    """Does this cell show a panel?"""
    return cell.cell_type == "code" and bool(PANELS.keys() & cell.metadata.get("tags", []))


def panel_of(path: Path, cell) -> Path:
    """The picture of a notebook's panel."""
    kind = next(PANELS[tag] for tag in cell.metadata.tags if tag in PANELS)
    return FIGURES / f"{kind}_{path.stem[:2]}.png"


def still(cell, panel: Path) -> None:
    """A panel as a picture, with the text that stands for it where there are no pictures."""
    text = next((output.data["text/plain"] for output in cell.outputs if "text/plain" in output.get("data", {})), "the panel")
    picture = base64.b64encode(panel.read_bytes()).decode()
    cell.outputs = [nbformat.v4.new_output("display_data", {"image/png": picture, "text/plain": text})]


def tidy(cell) -> None:
    """Keep what a reader can see and nbval can compare."""
    cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]     # progress bars
    for output in cell.outputs:
        if PLOTLY in output.get("data", {}):
            figure = plotly.io.from_json(plotly.io.json.to_json_plotly(output.data.pop(PLOTLY)))
            figure.update_layout(paper_bgcolor="white", plot_bgcolor="white")
            drawn = figure.to_image("png", scale=SCALE, width=figure.layout.width, height=figure.layout.height)
            output.data["image/png"] = base64.b64encode(fewer_colours(drawn)).decode()
            output.data.pop("text/html", None)


def attach(cell) -> None:
    """Put the figures a text shows into its cell: JupyterLab, opened on a notebook, serves nothing outside its folder."""
    names = re.findall(r"\(attachment:([^)]+)\)", cell.source)
    if names:
        cell["attachments"] = {name: {"image/png": base64.b64encode((FIGURES / name).read_bytes()).decode()}
                               for name in names}


def fewer_colours(png: bytes) -> bytes:
    """The same PNG with a palette of 256 colours, about a third of the size."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


def main(*names: str) -> None:
    os.environ["TQDM_DISABLE"] = "1"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for path in sorted(HERE.glob("*.ipynb")):
        if not names or path.stem in names:
            refresh(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
