"""Figures on disk: `save` is the only function of the project that writes into figures/."""
import os
import warnings
from pathlib import Path
from uuid import uuid4

import plotly.graph_objects as go

from vitlab.words import path_of


def save(figure: go.Figure, name: str, folder: str | Path = "figures") -> Path:
    """Write a figure as folder/name and return the path; `name` ends in .png, .svg or .html (no ending: .png).

    PNG and SVG need kaleido and a Chrome or Chromium; without one the figure becomes a web page instead, and a warning says
    so. The file appears complete or not at all. Raises ValueError for another ending.
    """
    if not isinstance(figure, go.Figure):
        raise TypeError(f"only a plotly figure is saved, not a {type(figure).__name__}")
    name, folder = path_of(name, "name"), path_of(folder, "folder")
    if name.name in ("", ".."):
        raise ValueError(f"name must be a file's, such as tradeoff.png, not {str(name)!r}")
    path = folder / (name if name.suffix else f"{name}.png")
    if path.suffix not in (".png", ".svg", ".html"):
        raise ValueError(f"a figure is saved as .png, .svg or .html, not {path.suffix}; rename {name}")
    content = None if path.suffix == ".html" else drawn(figure, path.suffix[1:])
    if content is None:
        if path.suffix != ".html":
            warnings.warn(f"no working Chrome or Chromium was found, so {path.name} was saved as a web page (.html); "
                          "install one, or run plotly_get_chrome, for pictures", stacklevel=2)
        path = path.with_suffix(".html")
        content = figure.to_html(include_plotlyjs=True).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror}); choose another folder") from error
    return path


def drawn(figure: go.Figure, format: str) -> bytes | None:
    """The figure as PNG or SVG bytes; None where no kaleido or no working browser is installed."""
    try:
        size = {"width": figure.layout.width, "height": figure.layout.height}       # plotly 6 does not look there itself
        return figure.to_image(format=format, scale=2, **size)
    except RuntimeError:                                    # plotly's, kaleido's and choreographer's word for "no browser"
        return None


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step; whoever may read new files here may read it."""
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
