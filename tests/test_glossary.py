"""The glossary at the end of notebook 00: twenty words, each used in the notebook that it names, and as that notebook uses it."""
import re

import pytest
from test_notebooks import BOOKS
from test_project import ROOT

import vitlab

SECTION = next(cell.source for cell in BOOKS["00_start"] if cell.source.startswith("## 5 · Twenty words"))
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| \[(\d\d)\]\((\w+)\.ipynb\) \|$", SECTION, re.M)
MEANINGS = {word: meaning for word, meaning, _, _ in ROWS}


def test_there_are_twenty_each_once_in_the_order_of_the_notebooks():
    assert len(ROWS) == len(MEANINGS) == 20 == len(SECTION.partition("|---|---|---|\n")[2].splitlines())
    met = [name for *_, name in ROWS]
    assert met == sorted(met) and all(name.startswith(number) for _, _, number, name in ROWS)


@pytest.mark.parametrize("word, name", [(word, name) for word, *_, name in ROWS], ids=lambda value: value)
def test_the_notebook_that_it_names_uses_the_word(word, name):
    told = " ".join(cell.source for cell in BOOKS[name] if cell.cell_type == "markdown" and cell.source != SECTION)
    assert re.search(rf"\b{re.escape(word.removesuffix('s'))}s?\b", told.replace("\n", " "), re.I)


@pytest.mark.parametrize("word", MEANINGS)
def test_a_meaning_is_one_or_two_plain_sentences(word):
    assert MEANINGS[word].endswith(".") and 1 <= len(re.findall(r"\.(?= |$)", MEANINGS[word])) <= 2
    assert len(MEANINGS[word]) <= 180


def test_a_reader_is_led_there():
    assert "explained in section 5" in BOOKS["00_start"][0].source
    assert "(00_start.ipynb)" in BOOKS["01_what_a_token_costs"][0].source
    assert "glossary" in (ROOT / "README.md").read_text()


def test_what_the_meanings_say_of_vitlab_is_so():
    net = vitlab.create("supervit", "deit_small")
    assert "`Point(length=14, keep=0.5)`" in MEANINGS["operating point"] and net.Point(length=14, keep=0.5) in net.points
    assert "14×14" in MEANINGS["patch"] and net.vit.patch_embed.patch_size == (16, 16)
    kept = list(net.schedule(net.Point(length=14, keep=0.5)).values())
    assert "an eighth" in MEANINGS["keep rate"] and len(kept) == 3 and round(196 / kept[-1]) in (7, 8)
    small = vitlab.create("dense", "micro_patch8", num_classes=10)
    columns = vitlab.sweep(small, vitlab.data.shapes("val", n=2), rounds=1).columns
    assert "`images_per_s`" in MEANINGS["throughput"] and "images_per_s" in columns
