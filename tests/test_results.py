"""Results say where they come from."""
import csv
import re
import runpy
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import vitlab
from vitlab import checkpoint
from vitlab.measure import facts, records, write

ROOT = Path(__file__).resolve().parents[1]
TABLES = sorted((ROOT / "data" / "results").glob("*.csv"))
COMMIT = r"[0-9a-f]{12,40}(-dirty)?"


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_carries_its_commit(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert not [row for row in rows if not re.fullmatch(COMMIT, row["commit"])]


def test_there_are_results_to_look_at():
    assert len(TABLES) > 20


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_what_is_written_carries_the_checkouts_commit(tmp_path):
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    path = write(pd.DataFrame({"value": [1, 2]}), tmp_path / "table.csv")
    told = pd.read_csv(path, dtype={"commit": str}).commit
    assert {each.removesuffix("-dirty") for each in told} == {head[:12]}
    assert checkpoint.origin()["commit"].removesuffix("-dirty") == head


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch):
    monkeypatch.setattr(records, "commit", lambda digits: None)
    assert facts()["commit"] == "unknown"


def test_the_papers_speed_ups_stand_beside_the_points_that_have_them(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    printed = runpy.run_path(str(ROOT / "benchmarks" / "throughput.py"))["printed"]
    points = vitlab.create("supervit", "deit_small").points
    assert set(printed("deit_small")) == {f"{p.length}, {p.keep:g}" for p in points}
    assert (printed("deit_small")["8, 0.5"], printed("deit_small")["14, 1"]) == (5.505, 1.0)
    assert printed("micro_patch8") == {}
