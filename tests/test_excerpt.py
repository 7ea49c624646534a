"""The cells that the browser runs of a notebook are those its explorer needs, and no others."""
import ast
from pathlib import Path

import nbformat
import pytest
from excerpt import bound, explorer_part, is_live, needed, on_few, unrun
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PICTURE = new_output("display_data", {"image/png": "AAAA", "text/plain": "explore()"})


def book(*sources: str, live: str) -> nbformat.NotebookNode:
    cells = [new_code_cell(source, execution_count=1, outputs=[new_output("stream", text="said")]) for source in sources]
    last = [new_code_cell(live, metadata={"tags": ["live"]}, outputs=[PICTURE]), new_code_cell("after = panel")]
    return new_notebook(cells=[new_markdown_cell("# A"), *cells, *last])


def kept(made: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in explorer_part(made).cells]


def test_only_what_the_explorer_needs_is_kept_in_order():
    setup = ["import vitlab", "data = vitlab.shapes()", "net = vitlab.create(data)", "vitlab.fit(net)", "other = 1"]
    assert kept(book(*setup, live="panel = vitlab.explore(net)\npanel")) == [*setup[:3], "panel = vitlab.explore(net)\npanel"]


def test_the_last_binding_before_the_need_counts():
    setup = ["net = 1", "size = net", "net = 2", "def f():\n    net = 3", "[net for net in (4,)]"]
    assert kept(book(*setup, live="explore(size, net)")) == ["net = 1", "size = net", "net = 2", "explore(size, net)"]


@pytest.mark.parametrize(("source", "binds", "needs"), [
    ("import a.b, c as d\nfrom e import f as g", {"a", "d", "g"}, set()),
    ("def f(x, *y, z=k, **w):\n    q = x + m\n    return q", {"f"}, {"k", "m"}),
    ("class C(B):\n    v = u", {"C"}, {"B", "u"}),
    ("a, (b, *c) = d\nfor i in r:\n    with o as e:\n        t = i", {"a", "b", "c", "i", "e", "t"}, {"d", "r", "o"}),
    ("s = sum(n * k for n in xs)\ng = lambda p: p + h", {"s", "g"}, {"sum", "k", "xs", "h"}),
    ("t['x'] = u.v\nif (w := f()):\n    w", {"w"}, {"t", "u", "f"})])
def test_names_bound_and_needed(source, binds, needs):
    assert (set(bound(ast.parse(source))), needed(source)) == (binds, needs)


def test_only_the_explorers_picture_is_kept_from_an_earlier_run():
    made = unrun(book("a = 1", live="panel"))
    assert [cell.get("outputs") for cell in made.cells] == [None, [], [PICTURE], []]
    assert not any(cell.get("execution_count") for cell in made.cells)
    assert made.metadata.kernelspec.name == "python3"


def test_few_pictures_are_fewer_and_a_training_keeps_its_own():
    made = on_few(book("a = sweep(net, test.first(400), batch=64, rounds=3)", "b = shapes(n=150), net.first(8)",
                       "fit(net, Recipe(batch=64), val=test.first(500))", live="panel"))
    assert [cell.source for cell in made.cells[1:4]] == [
        "a = sweep(net, test.first(32), batch=8, rounds=1)", "b = shapes(n=150), net.first(8)",
        "fit(net, Recipe(batch=64), val=test.first(500))"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_explorers_need_no_training(path):
    written = nbformat.read(path, 4)
    calls = [cell for cell in written.cells if cell.cell_type == "code" and "explore(" in cell.source]
    assert calls == [cell for cell in written.cells if is_live(cell)], "the cell that calls explore carries the tag live"
    assert len(calls) <= 1, "one explorer a notebook: it has one picture"
    sources = [cell.source for cell in explorer_part(written).cells] if calls else []
    assert any("vitlab.load(" in source for source in sources) or not calls
    assert not any("fit(" in source for source in sources)
