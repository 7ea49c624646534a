"""Pictures of the notebooks' panels, for README and for the notebooks:  python tests/panels.py [02_supervit_training ...]

Runs the cells a panel needs in JupyterLab in a Chromium, as the browser test does, and writes figures/explorer_NN.png, and
governor_NN.png where a governor is at work.
`notebooks/refresh.py` stores the picture in its notebook.
"""
import sys
import tempfile
from itertools import product
from pathlib import Path

import nbformat
from browser import ROOT, browser, jupyter, missing
from excerpt import explorer_part, is_live
from page import FILLED, SETTLED, handle, knobs, opened, run, until

WIDTH, SCALE = 1400, 1.5                    # of the window, in pixels; pixels of the picture per pixel of the window


def main(*names: str) -> None:
    """Take the pictures of these notebooks, or of all that have a panel."""
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
            for name, (tag, (kind, take)) in product(names or books, PANELS.items()):
                if any(is_live(cell, tag) for cell in books[name].cells):
                    nbformat.write(explorer_part(books[name], tag), served / f"{name}.ipynb")
                    page = opened(window, lab.page(name), WIDTH, SCALE)
                    run(page, minutes=20)
                    (ROOT / "figures" / f"{kind}_{name[:2]}.png").write_bytes(take(page))
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


def governed(page) -> bytes:
    """The governor at work: alone, beside another process, and alone again."""
    panel = page.locator(".vl-governor").first
    panel.scroll_into_view_if_needed()
    panel.get_by_role("button", name="run", exact=True).click()
    for seconds in (9, 9, 7):
        page.wait_for_timeout(1000 * seconds)
        if seconds != 7:
            panel.get_by_role("button", name="another process").click()
    page.evaluate("() => document.activeElement.blur()")
    page.mouse.move(0, 0)
    return panel.screenshot()


PANELS = {"live": ("explorer", picture), "governor": ("governor", governed)}        # tag of the cell -> its file, its picture


if __name__ == "__main__":
    main(*sys.argv[1:])
