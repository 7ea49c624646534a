"""README's numbers are those of the saved results, in one unit."""
import re
import runpy

import pytest
from test_project import ROOT

PAGES = [(ROOT / name).read_text() for name in ("README.md", "data/results/README.md")]
REPORT = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))


def test_every_generated_part_is_what_the_results_give_now():
    assert REPORT["filled"](PAGES) == PAGES


@pytest.mark.parametrize("page", PAGES, ids=("front", "results"))
def test_cost_has_one_unit_and_it_is_explained_once(page):
    assert not re.search(r"[MT]FLOP|GMAC|[MG] multiply-adds", page)
    assert re.findall(r"multiply-adds?", page) == ["multiply-adds"]
    assert re.search(r"Cost is in GFLOPs[a-z ]*: billions of multiply-adds per picture", page)


def test_the_front_door_is_short():
    assert len(PAGES[0].splitlines()) <= 120


def test_a_cost_has_three_digits_however_small():
    assert [REPORT["gflops"](cost) for cost in (4.5989, 0.7424, 0.01278, 0.006)] == ["4.60", "0.742", "0.0128", "0.00600"]
