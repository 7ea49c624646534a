"""README's numbers are those of the saved results, in one unit."""
import re
import runpy

from test_project import ROOT

README = (ROOT / "README.md").read_text()
REPORT = runpy.run_path(str(ROOT / "benchmarks" / "report.py"))


def test_every_generated_part_is_what_the_results_give_now():
    assert REPORT["filled"](README) == README


def test_cost_has_one_unit_and_it_is_explained_once():
    assert not re.search(r"[MT]FLOP|GMAC|[MG] multiply-adds", README)
    assert re.findall(r"multiply-adds?", README) == ["multiply-adds"]
    assert re.search(r"Cost is in GFLOPs everywhere: billions of multiply-adds per picture", README)


def test_a_cost_has_three_digits_however_small():
    assert [REPORT["gflops"](cost) for cost in (4.5989, 0.7424, 0.01278, 0.006)] == ["4.60", "0.742", "0.0128", "0.00600"]
