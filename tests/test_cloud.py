"""The install cell does nothing at home and installs elsewhere; badges lead to one address, or there are none."""
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types

import nbformat
import pytest
from test_project import NOTEBOOKS, PYPROJECT, ROOT
from test_refresh import refresh  # noqa: F401

ADDRESS = "https://github.com/someone/vitlab"
every_book = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def cloud():
    """notebooks/cloud.py as a module."""
    spec = importlib.util.spec_from_file_location("cloud", ROOT / "notebooks" / "cloud.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the script reads and writes."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("__pycache__", "runs", ".*"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def texts(root):
    return {path.name: path.read_text() for path in [*sorted((root / "notebooks").glob("*.ipynb")), root / "README.md"]}


@every_book
def test_every_notebook_begins_with_the_install_cell(path, cloud):
    cells = nbformat.read(path, 4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert code[0] is cells[1] and [cell for cell in code if cloud.installs(cell)] == code[:1]
    assert code[0].source == cloud.CELL.format(address=PYPROJECT["project"].get("urls", {}).get("Repository", ""))
    assert code[0].id == "cloud" and not code[0].outputs


def test_what_is_stored_is_what_the_script_writes(cloud, checkout):
    before = texts(checkout)
    cloud.main(checkout)
    assert texts(checkout) == before


def test_an_address_in_one_place_gives_all_badges_and_none_takes_them_away(cloud, checkout):
    before, pyproject = texts(checkout), (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(pyproject + f'\n[project.urls]\nRepository = "{ADDRESS}.git"\n')
    cloud.main(checkout)
    cloud.main(checkout)                                                                    # twice is once
    for name, text in texts(checkout).items():
        pages = re.findall(r"\]\((https://colab\.research\.google\.com/github/[^)]*)\)", text)
        books = [name] if name != "README.md" else [path.name for path in NOTEBOOKS]
        assert pages == [f"https://colab.research.google.com/github/someone/vitlab/blob/main/notebooks/{book}" for book in books]
        assert name == "README.md" or f'address = \\"{ADDRESS}\\"' in text
    assert len(texts(checkout)["README.md"].splitlines()) == len(before["README.md"].splitlines())
    (checkout / "pyproject.toml").write_text(pyproject)
    cloud.main(checkout)
    assert texts(checkout) == before


def test_a_notebook_without_the_cell_gets_it_and_stays_as_it_was_run(cloud, checkout):
    path = checkout / "notebooks" / "00_start.ipynb"
    stored = path.read_text()
    book = nbformat.reads(stored, 4)
    book.cells = [cell for cell in book.cells if not cloud.installs(cell)]
    for cell in book.cells:
        if cell.cell_type == "code":
            cloud.count(cell, -1)
    nbformat.write(book, path)
    assert path.read_text() != stored
    cloud.main(checkout)
    assert path.read_text() == stored


@pytest.mark.parametrize("address", ["https://example.org/vitlab", "git@github.com:someone/vitlab", "https://github.com/someone"])
def test_an_address_that_colab_does_not_open_is_refused(cloud, checkout, address):
    with (checkout / "pyproject.toml").open("a") as file:
        file.write(f'\n[project.urls]\nRepository = "{address}"\n')
    with pytest.raises(ValueError, match="Repository must be https://github.com/OWNER/NAME"):
        cloud.main(checkout)


def never(*asked, **_):
    raise AssertionError(f"ran {asked}")


def test_at_home_the_cell_does_nothing(cloud, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", never)
    exec(cloud.CELL.format(address=ADDRESS), {})
    assert os.getcwd() == str(tmp_path) and not list(tmp_path.iterdir())


def test_elsewhere_it_fetches_installs_and_goes_where_the_notebooks_are(cloud, monkeypatch, tmp_path):
    """From a repository on this disk; pip is only asked."""
    source, there, real, asked = tmp_path / "source", tmp_path / "cloud", subprocess.run, []
    (source / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copy(NOTEBOOKS[0], source / "notebooks")
    git = ["git", "-C", str(source), "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        real([*git, *words], check=True)
    there.mkdir()
    monkeypatch.chdir(there)

    def run(command, **how):
        asked.append(command)
        return real(command, **how) if command[0] == "git" else None

    widgets = []
    google = types.SimpleNamespace(enable_custom_widget_manager=lambda: widgets.append(True))
    with monkeypatch.context() as bare:
        bare.setattr(subprocess, "run", run)
        bare.setattr(importlib.util, "find_spec", lambda name: None)
        for name in ("google", "google.colab", "google.colab.output"):
            bare.setitem(sys.modules, name, google)
        exec(cloud.CELL.format(address=source.as_uri()), {})
    assert [command[:4] for command in asked][1] == [sys.executable, "-m", "pip", "install"] and asked[1][-1] == "./checkout"
    assert os.getcwd() == str(there / "checkout" / "notebooks") and os.path.exists(NOTEBOOKS[0].name) and widgets == [True]
    os.chdir(there)                                                     # the kernel is started again: vitlab is installed now
    with monkeypatch.context() as again:
        again.setattr(subprocess, "run", never)
        exec(cloud.CELL.format(address=source.as_uri()), {})
    assert os.getcwd() == str(there / "checkout" / "notebooks")


def test_elsewhere_without_an_address_it_says_what_to_do(cloud, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", never)
    with pytest.raises(AssertionError, match="write the address of its repository between the quotes above"):
        exec(cloud.CELL.format(address=""), {})


def test_a_refresh_keeps_the_cells_names(cloud, refresh, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(refresh, "HERE", tmp_path)
    path = tmp_path / "00_zero.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# 0"), nbformat.v4.new_code_cell("6 * 7")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    cloud.carry(path, "")
    refresh.main("00_zero")
    book = nbformat.read(path, 4)
    assert [cell.id for cell in book.cells] == ["c01", "cloud", "c02"]
    assert [cell.execution_count for cell in book.cells[1:]] == [1, 2]
