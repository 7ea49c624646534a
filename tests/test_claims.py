"""data/claims.csv is what the saved results give, by one rule, and says where each number is from."""
import importlib
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from test_project import ROOT
from test_results import COMMIT

PAPERS = ["SuperViT", "DVT", "ReViT", "SPViT", "SViT"]
SAVED = pd.read_csv(ROOT / "data" / "claims.csv", dtype=str, keep_default_na=False)
TYPED = pd.read_csv(ROOT / "benchmarks" / "claims_of_papers.csv", dtype=str, keep_default_na=False)
MEASURED = SAVED[SAVED.measured != ""]


@pytest.fixture(scope="module")
def scripts():
    """benchmarks/claims.py and evidence/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return SimpleNamespace(claims=importlib.import_module("claims"), evidence=importlib.import_module("evidence"))


def test_remaking_it_from_the_results_gives_the_file_byte_for_byte(scripts):
    assert scripts.claims.text() == (ROOT / "data" / "claims.csv").read_bytes().decode()


def test_people_typed_the_papers_part_and_why_not_and_nothing_of_ours():
    assert list(TYPED) == ["paper", "place", "claim", "papers_figure", "above", "measure", "why"]
    assert ((TYPED.measure == "") == (TYPED.why != "")).all()
    assert (TYPED[["paper", "place", "claim", "papers_figure"]] != "").all(axis=None)
    assert pd.to_numeric(TYPED.above[TYPED.above != ""]).notna().all()
    assert not TYPED[TYPED.measure == ""].why.str.contains(r"\d+\.\d").any()


def test_every_paper_has_its_claims_and_every_claim_a_verdict_and_a_reason():
    assert len(SAVED) >= 40 and list(dict.fromkeys(SAVED.paper)) == PAPERS
    assert set(SAVED.verdict) == {"holds", "does not show", "cannot be tested here"}
    assert (SAVED.why.str.len() >= 10).all()
    assert (SAVED.verdict[SAVED.measured == ""] == "cannot be tested here").all()
    assert not SAVED.duplicated(["paper", "place", "claim", "measured"]).any()


WANTED = {"SuperViT": "Table 1, Table 3, Table 5, Table 6, Table 7, Table 8, Fig. 2, Fig. 4",
          "DVT": "Table 1, Table 5, Table 6, Table 7, Table 8, Table 9, Table 10, Fig. 10",
          "ReViT": "Table 2, Table 3, Fig. 5, Fig. 6, Fig. 7, Fig. 8",
          "SPViT": "Table 5, Table 6, Table 7, Table 10, Table 11, Table 12, Fig. 4, Fig. 6",
          "SViT": "Suppl. Table 1, Suppl. Table 2, Suppl. Fig. 1, Suppl. Fig. 2, Suppl. Fig. 3, Suppl. Fig. 4"}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_table_and_figure_that_compares_has_a_row(paper):
    places = {place.rstrip("abc") for place in SAVED.place[SAVED.paper == paper]}
    assert set(WANTED[paper].split(", ")) <= places


def test_every_number_says_where_it_is_from(scripts):
    assert (MEASURED[["data", "source", "script", "date", "commit"]] != "").all(axis=None)
    for row in MEASURED.itertuples():
        tables = [pd.read_csv(ROOT / name, dtype=str) for name in row.source.split("; ")]
        for told, column in ((row.commit, "commit"), (row.date, "date")):
            assert set(told.split("; ")) == {each for table in tables for each in table[column]}
        assert all(re.fullmatch(COMMIT, each) for each in row.commit.split("; "))
        for script in row.script.split("; "):
            assert (ROOT / script.split()[0]).exists()
    listed = scripts.claims.RACES + scripts.claims.SHORT + scripts.claims.LONG
    fed = {script.removeprefix("benchmarks/") for row in MEASURED.script for script in row.split("; ")}
    assert fed - set(listed) == {"side_by_side.py cifar10"}             # the command that remakes it runs all that feed it
    assert all((ROOT / "benchmarks" / script.split()[0]).exists() for script in listed)


def test_what_was_measured_has_a_number_and_several_seeds_a_spread():
    reached = MEASURED[~MEASURED.why.str.contains("never reached")]
    assert (reached.ours != "").all()
    assert ((reached.spread != "") | (reached.of != "seeds") | (reached.n == "1")).all()


def judged(scripts, of, values, above=0.0):
    found = scripts.evidence.Evidence("a less b", tuple(values), of, "points", "pictures", ("dvt_costs",))
    return scripts.claims.judge(found, above)["verdict"]


@pytest.mark.parametrize(("of", "values", "above", "verdict"), [
    ("seeds", (1.0, 1.2, 0.9), 0, "holds"), ("seeds", (1.0, 1.2, -0.1), 0, "does not show"),
    ("seeds", (0.01, 5.0, 0.02), 0, "does not show"),       # every seed agrees, but the spread is larger than the mean
    ("seeds", (-0.2, -0.1, -0.3), -0.6, "holds"), ("seeds", (-0.2, -0.1, -0.7), -0.6, "does not show"),
    ("seeds", (5.0, 5.1), 0, "cannot be tested here"), ("seeds", (2.0, 2.1, float("nan")), 1, "does not show"),
    ("clock", (1.95,), 1.94, "holds"), ("clock", (1.93,), 1.94, "does not show"), ("clock", (2.0, 0.9), 1, "does not show"),
    ("figures", ((1.83, 1.835136, 2), (3.3, 3.2364, 1)), 0, "holds"), ("figures", ((22.13, 22.0716, 2),), 0, "does not show")])
def test_the_rule(scripts, of, values, above, verdict):
    assert judged(scripts, of, values, above) == verdict


def test_a_verdict_follows_the_results(scripts, monkeypatch):
    typed = TYPED[TYPED.measure == "supervit.over_plain | 7 | 1.0"].iloc[0]
    assert scripts.claims.row(typed)["verdict"] == "holds"
    read = scripts.evidence.read("supervit_small_points")
    monkeypatch.setattr(scripts.evidence, "read", lambda name: read.assign(top1=100 - read.top1))
    upside_down = scripts.claims.row(typed)
    assert upside_down["verdict"] == "does not show" and upside_down["why"] == "above 0 points in 0 of 3 seeds"


def test_a_row_that_is_meant_and_not_there_is_an_error(scripts):
    with pytest.raises(ValueError, match="not one a seed"):
        scripts.evidence.by_seed("supervit_small_points", "top1", training="never")
    with pytest.raises(ValueError, match="has no claim 'never'"):
        scripts.evidence.told("dvt_small_claims", "never")


def test_the_command_runs_what_it_says_and_refuses_the_rest(scripts, monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(scripts.claims.subprocess, "run", lambda command, check: ran.append(command[1:]))
    monkeypatch.setattr(scripts.claims, "MADE", tmp_path / "claims.csv")
    scripts.claims.main("--quick")
    assert len(ran) == len(scripts.claims.RACES + scripts.claims.SHORT) and (tmp_path / "claims.csv").exists()
    ran.clear()
    scripts.claims.main("--cifar10", "pictures")
    assert ran[-1] == [str(ROOT / "benchmarks" / "side_by_side.py"), "cifar10", "0,1,2", "1", "pictures"]
    for wrong in (("--all",), ("--cifar10",), ("--quick", "pictures")):
        with pytest.raises(SystemExit, match="--quick"):
            scripts.claims.main(*wrong)
