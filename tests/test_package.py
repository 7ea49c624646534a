"""What a plain `pip install .` puts on a machine is enough: no file of the checkout is missed where there is no checkout."""
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PROGRAM = """
import sys, pathlib, vitlab
assert pathlib.Path(vitlab.__file__).parents[1] == pathlib.Path(sys.argv[1]), vitlab.__file__
assert len(vitlab.measure.paper()) > 100
vitlab.explore(vitlab.create("supervit", "micro_patch8", num_classes=10), vitlab.data.shapes("val", n=12), batch=1).close()
"""


def installed() -> list[Path]:
    """The files of vitlab that setuptools installs: modules, and what is listed as their packages' data."""
    assert SETTINGS["packages"]["find"] == {"include": ["vitlab*"]}        # folders with an __init__.py
    packages = [path.parent for path in (ROOT / "vitlab").rglob("__init__.py")]
    data = {ROOT.joinpath(*name.split(".")): patterns for name, patterns in SETTINGS["package-data"].items()}
    assert set(data) <= set(packages)
    listed = [path for folder in packages for path in folder.glob("*.py")]
    for folder, patterns in data.items():
        for pattern in patterns:
            found = sorted(folder.glob(pattern))
            assert found, f"{pattern} of {folder} is not there"
            listed += found
    return listed


def test_every_file_of_the_package_is_installed():
    there = {path for path in (ROOT / "vitlab").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert there == set(installed())


@pytest.mark.slow
def test_the_explorer_runs_from_another_folder_without_a_checkout(tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in installed():
        copy = site / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    ended = subprocess.run([sys.executable, "-c", PROGRAM, site], cwd=elsewhere, capture_output=True, text=True, timeout=300,
                           env={**os.environ, "PYTHONPATH": str(site), "VITLAB_DATA": str(tmp_path / "made")})
    assert ended.returncode == 0, ended.stderr
