"""Badges that open the notebooks in Google's Colab, and the cell that installs vitlab there:  python notebooks/cloud.py

The address of the repository is written in one place, pyproject.toml:

    [project.urls]
    Repository = "https://github.com/OWNER/NAME"

This script carries it to where it is needed: a badge in the first cell of every notebook and in README's list of them, and the
address in the install cell. Colab opens what is public on GitHub. Without an address there are no badges, and who runs a
notebook where vitlab is not installed is asked for one by the install cell. At home that cell does nothing. Nothing is run:
stored outputs stay, only the cells behind a new install cell count one more. Run again, it changes nothing.
"""
import re
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

HERE = Path(__file__).resolve().parent
BRANCH = "main"
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
BADGE = re.compile(rf"\s*\[!\[[^]]*\]\({re.escape(IMAGE)}\)\]\([^)]*\)")
CELL = '''\
import importlib.util, os, subprocess, sys
if importlib.util.find_spec("vitlab") is None:              # in the cloud, once; at home this cell does nothing
    address = "{address}"
    assert address, "vitlab is not installed here: write the address of its repository between the quotes above"
    subprocess.run(["git", "clone", "--depth", "1", address, "checkout"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "./checkout"], check=True)
if os.path.isdir("checkout/notebooks"):
    os.chdir("checkout/notebooks")                          # where trained nets and results are found
if "google.colab" in sys.modules:
    importlib.import_module("google.colab.output").enable_custom_widget_manager()'''


def repository(pyproject: Path) -> str:
    """The address that pyproject.toml names, or ""; ValueError for one that Colab does not open."""
    address = tomllib.loads(pyproject.read_text())["project"].get("urls", {}).get("Repository", "").removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"Colab opens notebooks of GitHub, so Repository must be https://github.com/OWNER/NAME, not {address}")
    return address


def badge(address: str, name: str) -> str:
    """A picture that leads to a notebook in Colab; "" without an address."""
    page = f"{address.replace('https://github.com', 'https://colab.research.google.com/github')}/blob/{BRANCH}/notebooks"
    return f"[![Open {name[:2]} in Colab]({IMAGE})]({page}/{name}.ipynb)" if address else ""


def carry(path: Path, address: str) -> None:
    """The badge and the install cell of one notebook."""
    before = path.read_text()
    book = nbformat.reads(before, 4)
    first = book.cells[0]
    first.source = "\n\n".join(filter(None, (BADGE.sub("", first.source), badge(address, path.stem))))
    if not any(map(installs, book.cells)):
        for cell in book.cells:
            if cell.cell_type == "code":
                count(cell, 1)
        book.cells.insert(1, count(new_code_cell(id="cloud", metadata={"tags": ["cloud"]}), 1))
    next(filter(installs, book.cells)).source = CELL.format(address=address)
    after = nbformat.writes(book) + "\n"
    if after != before:
        path.write_text(after)


def installs(cell) -> bool:
    """Is it the install cell?"""
    return "cloud" in cell.metadata.get("tags", [])


def count(cell, more: int):
    """The cell, run so much later."""
    cell.execution_count = (cell.execution_count or 0) + more
    for output in cell.outputs:
        if "execution_count" in output:
            output["execution_count"] = cell.execution_count
    return cell


def listed(readme: str, address: str) -> str:
    """README with a badge in every row of its list of notebooks, or without."""
    return re.sub(r"^\| \[\d\d [^|]*\]\(notebooks/(\w+)\.ipynb\)[^|]*\|",
                  lambda row: BADGE.sub("", row[0]).removesuffix("|").rstrip() + f" {badge(address, row[1])}".rstrip() + " |",
                  readme, flags=re.M)


def main(root: Path = HERE.parent) -> None:
    address = repository(root / "pyproject.toml")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        carry(path, address)
    readme = root / "README.md"
    readme.write_text(listed(readme.read_text(), address))


if __name__ == "__main__":
    main()
