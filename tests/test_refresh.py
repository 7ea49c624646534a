"""Stored notebooks: an explorer is kept as a picture that its live panel replaces, and nothing is shown twice."""
import base64
import importlib.util
import io
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def refresh():
    """notebooks/refresh.py as a module."""
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "notebooks" / "refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, refresh, monkeypatch):
    """A checkout with one notebook whose explorer is a widget, and no picture of it yet."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "figures").mkdir()
    monkeypatch.setattr(refresh, "HERE", tmp_path / "notebooks")
    monkeypatch.setattr(refresh, "FIGURES", tmp_path / "figures")
    source = "import ipywidgets\nipywidgets.IntSlider(3)"
    cells = [new_markdown_cell("# 9"), new_code_cell("6 * 7"), new_code_cell(source, metadata={"tags": ["live"]})]
    nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "09_nine.ipynb")
    return tmp_path


def test_a_refresh_stores_an_explorer_as_its_picture(folder, refresh):
    Image.new("RGB", (30, 20), "red").save(folder / "figures" / "explorer_09.png")
    refresh.main("09_nine")
    book = nbformat.read(folder / "notebooks" / "09_nine.ipynb", 4)
    nbformat.validate(book)
    assert book.cells[1].outputs[0].data["text/plain"] == "42"
    output, = book.cells[2].outputs
    assert output.output_type == "display_data"
    assert output.data["text/plain"].startswith("IntSlider(value=3")
    assert base64.b64decode(output.data["image/png"]) == (folder / "figures" / "explorer_09.png").read_bytes()
    assert set(output.data) == {"image/png", "text/plain"}
    assert "widgets" not in book.metadata


def test_a_refresh_without_the_picture_says_how_to_take_it_and_writes_nothing(folder, refresh):
    path = folder / "notebooks" / "09_nine.ipynb"
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="take it with: python tests/panels.py 09_nine"):
        refresh.main("09_nine")
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_explorer_is_stored_as_its_own_picture_and_shown_once(path, refresh):
    book = nbformat.read(path, 4)
    for cell in filter(refresh.is_live, book.cells):
        assert "nbval-ignore-output" in cell.metadata.tags                  # the panel is no picture
        output, = cell.outputs
        assert WIDGET not in output.data
        stored = base64.b64decode(output.data["image/png"])
        assert stored == refresh.panel_of(path, cell).read_bytes()
        assert Image.open(io.BytesIO(stored)).width > 900
    shown = [name for cell in book.cells for name in cell.get("attachments", {}) if name.startswith(("explorer", "governor_"))]
    assert not shown, "the picture stands in the explorer's cell already"


def test_every_picture_of_a_panel_is_a_notebooks(refresh):
    live = [refresh.panel_of(path, cell) for path in NOTEBOOKS for cell in filter(refresh.is_live, nbformat.read(path, 4).cells)]
    assert len(set(live)) == len(live)
    assert {path for kind in refresh.PANELS.values() for path in (ROOT / "figures").glob(f"{kind}_*.png")} == set(live)
