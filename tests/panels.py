"""Pictures of the notebooks' explorers, for README and for the notebooks:  python tests/panels.py [02_supervit_training ...]

Runs the cells an explorer needs in JupyterLab in a Chromium, as the browser test does, and writes figures/explorer_NN.png.
`notebooks/refresh.py` stores the picture in its notebook.
"""
import sys
import tempfile
from pathlib import Path

import nbformat
from browser import ROOT, browser, jupyter, missing
from excerpt import explorer_part, is_live
from page import FILLED, SETTLED, handle, knobs, opened, run, until

WIDTH, SCALE = 1400, 1.5                    # of the window, in pixels; pixels of the picture per pixel of the window


def main(*names: str) -> None:
    """Take the pictures of these notebooks, or of all that have an explorer."""
    if reason := missing():
        raise SystemExit(f"no pictures can be taken: {reason}")
    books = {path.stem: nbformat.read(path, 4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    if strange := set(names) - set(books):
        raise SystemExit(f"there is no notebook {', '.join(strange)}; choose from {', '.join(books)}")
    with tempfile.TemporaryDirectory() as base:
        served = Path(base) / "served"
        served.mkdir()
        (Path(base) / "data").symlink_to(ROOT / "data")
        with jupyter(served, Path(base) / "home") as lab, browser() as window:
            for name in names or [name for name, book in books.items() if any(map(is_live, book.cells))]:
                nbformat.write(explorer_part(books[name]), served / f"{name}.ipynb")
                page = opened(window, lab.page(name), WIDTH, SCALE)
                run(page, minutes=20)
                (ROOT / "figures" / f"explorer_{name[:2]}.png").write_bytes(picture(page))
                page.close()
                lab.end_kernels()


def picture(page) -> bytes:
    """The panel in use, all sliders at their first value and measured."""
    panel = page.locator(".vl-panel").first
    panel.scroll_into_view_if_needed()
    until(page, SETTLED)
    for label in knobs(panel):
        handle(panel, label).focus()
        page.keyboard.press("Home")
        page.wait_for_timeout(2000)         # the key has been answered, if it changes anything
        until(page, SETTLED)
    until(page, FILLED)
    page.evaluate("() => document.activeElement.blur()")
    return panel.screenshot()


if __name__ == "__main__":
    main(*sys.argv[1:])
