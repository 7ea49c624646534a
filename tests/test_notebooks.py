"""What a notebook promises its reader: a whole text, one unit, exercises that check themselves, a ■ that ends one training."""
import ast
import contextlib
import dis
import io
import re
import signal
import warnings
from types import CodeType

import nbformat
import numpy as np
import pytest
from test_project import NOTEBOOKS, ROOT

import vitlab
from vitlab.train import loop

BOOKS = {path.stem: nbformat.read(path, 4).cells for path in NOTEBOOKS}
TRAINING = {name: cells for name, cells in BOOKS.items() if any("vitlab.fit(" in cell.source for cell in cells)}
every_book = pytest.mark.parametrize("name", BOOKS)
EASY, HARD = 100, 16                # pictures of a set, for a small net and for a long-trained one


def headings(cells):
    """Every heading of a notebook, in order; lines of code that begin with # are none."""
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ .+", re.sub(r"```.*?```", "", text, flags=re.S), re.M)


def exercises(cells):
    """Positions of the cells in which a function is left to the reader."""
    return [i for i, cell in enumerate(cells) if cell.cell_type == "code" and re.search(r"return \.\.\.$", cell.source, re.M)]


@every_book
def test_sections_are_numbered_without_a_gap(name):
    found = headings(BOOKS[name])
    numbers = [int(number) for number in re.findall(r"^## (\d+) ·", "\n".join(found), re.M)]
    assert len(numbers) >= 4 and numbers == list(range(1, len(numbers) + 1))
    assert found[0].startswith(f"# {name[:2]} · ") and BOOKS[name][0].source.startswith(found[0])
    assert [heading for heading in found if heading.startswith("## ") and " · " not in heading] == ["## What we learned"]


@every_book
def test_the_last_cell_says_what_was_learned_and_leads_on(name):
    last = BOOKS[name][-1].source
    assert last.startswith("## What we learned\n\n* ")
    assert re.search(r"^\*What this (reproduction )?does not show\*: \S", last, re.M)
    names = sorted(BOOKS)
    follower = names[(names.index(name) + 1) % len(names)]                      # the last one leads to the list in the first
    assert f"({follower}.ipynb)" in last.partition("**Next**: ")[2]


def test_the_first_notebook_and_the_readme_list_all_of_them():
    first, readme = BOOKS["00_start"][0].source, (ROOT / "README.md").read_text()
    for name in BOOKS:
        assert f"]({name}.ipynb)" in first or name == "00_start"
        assert f"](notebooks/{name}.ipynb)" in readme


@every_book
def test_cost_has_one_unit_and_it_is_explained_once(name):
    told = " ".join(cell.source for cell in BOOKS[name])
    assert not re.search(r"MFLOP|M multiply-adds|GMAC", told)
    assert len(re.findall("multiply-adds", told)) == len(re.findall(r"\*\*GFLOPs?\*\*", told)) == 1
    assert "`gmacs`" in told


@every_book
def test_an_exercise_is_a_function_to_fill_in_with_a_check_and_a_folded_solution(name):
    cells = BOOKS[name]
    section = next((i for i, cell in enumerate(cells) if "· Exercises" in cell.source), len(cells))
    tasks = re.findall(r"^(\d)\. \*\*", "\n".join(cell.source for cell in cells[section:] if cell.cell_type == "markdown"), re.M)
    assert tasks == [str(n) for n in range(1, len(tasks) + 1)]
    assert len(tasks) == len(exercises(cells)) and (tasks or name == "00_start")
    for place in exercises(cells):
        assert "check(" in cells[place].source
        assert re.search(r"^\d\. \*\*", cells[place - 1].source, re.M)
        assert cells[place + 1].source.startswith("<details><summary>Solution</summary>\n\n```python\n")


# What follows a training that was stopped: its cells and the exercises run here, with few pictures and after two steps

def names(cell):
    """(names that a cell reads from before, names that it gives a value)."""
    read, made = set(), set()

    def visit(code):
        for step in dis.get_instructions(code):
            if step.opname == "STORE_NAME":
                made.add(step.argval)
            elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL") and step.argval not in made:
                read.add(step.argval)
            elif isinstance(step.argval, CodeType):
                visit(step.argval)

    visit(compile(cell.source, "<cell>", "exec"))
    return read, made


def trains(cell):
    return "vitlab.fit(" in cell.source or "train_assigner(" in cell.source


def follows(cells):
    """Positions of the cells that train, of those that read what they leave, and of the exercises; live ones are left out."""
    learned, found = set(), set(exercises(cells))
    for place, cell in enumerate(cells):
        if cell.cell_type == "code":
            read, made = names(cell)
            if trains(cell):
                made |= set(re.findall(r"vitlab\.fit\((\w+)", cell.source))
            if trains(cell) or read & learned:
                learned |= made
                found.add(place)
            else:
                learned -= made
    panels = {place for place, cell in enumerate(cells) if "panel" in cell.source}
    return found - panels


def with_what_they_need(cells, wanted):
    """The wanted cells and those before that give a value to what they read, in order."""
    missing, found = set(), []
    for place in range(len(cells) - 1, -1, -1):
        if cells[place].cell_type == "code":
            read, made = names(cells[place])
            if place in wanted or made & missing and "live" not in cells[place].metadata.get("tags", []):
                missing = (missing - made) | read
                found.append(cells[place])
    return found[::-1]


def said(source, space):
    """What a piece of code prints."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(compile(source, "<cell>", "exec"), space)
    return told.getvalue()


@pytest.fixture
def stopped_after_two_steps(monkeypatch):
    """Every training ends as by a ■ pressed in its second step; every set is small."""
    update, shapes, sweep = loop.update, vitlab.data.shapes, vitlab.measure.sweep

    def pressed(run, *rest):
        if run.progress.step == 1:
            signal.raise_signal(signal.SIGINT)
        return update(run, *rest)

    def few(split="train", **asked):
        return shapes(split, **asked | {"n": HARD if asked.get("difficulty") and split != "train" else EASY})

    monkeypatch.setattr(loop, "update", pressed)
    monkeypatch.setattr(vitlab.data, "shapes", few)
    monkeypatch.setattr(vitlab.measure, "sweep", lambda net, data, points=None, **_: sweep(net, data, points, batch=4, rounds=1))
    monkeypatch.chdir(ROOT / "notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_a_stopped_training_stops_nothing_else_and_the_solutions_are_right(stopped_after_two_steps, name):
    cells, space = TRAINING[name], {}
    chosen = with_what_they_need(cells, follows(cells))
    claims = [cell for cell in cells if cell.cell_type == "code" and "if finished" in cell.source]
    assert claims and all(cell in chosen for cell in claims)
    tasks = {cells[place].source: cells[place + 1].source for place in exercises(cells)}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "all pictures have one label")        # of a net that has learned nothing
        for cell in chosen:
            told = said(cell.source, space)
            assert "vitlab.fit(" not in cell.source or "note" not in cell.source or "stopped by Ctrl-C after step 2" in told
            assert cell.source not in tasks or "not done yet" in told
        for task, solution in tasks.items():
            assert "right" in said(solved(task, solution), space).splitlines()


def solved(task, solution):
    """The code of an exercise with the functions of its folded solution in the place of its own."""
    answer = re.search(r"```python\n(.*?)```", solution, re.S)[1]
    functions = [node for node in ast.parse(answer).body if isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)]
    given = {node.name for node in functions if isinstance(node, ast.FunctionDef)}
    rest = [node for node in ast.parse(task).body if getattr(node, "name", None) not in given]
    assert len(rest) < len(ast.parse(task).body), "the solution solves another exercise"
    return ast.unparse(ast.Module(functions + rest, []))


def test_readmes_code_runs_on_held_out_pictures(monkeypatch, tmp_path):
    """On a small set, with small nets, for one step."""
    pictures = vitlab.data.shapes("val", n=120)
    monkeypatch.setattr(vitlab.data, "load", lambda name, split, image_size: pictures)
    monkeypatch.chdir(tmp_path)
    source = re.search(r"## In code\n\n```python\n(.*?)\npath = vitlab.export", (ROOT / "README.md").read_text(), re.S)[1]
    instead = {"epochs=10, batch=64": "steps=1, batch=8", "deit_small": "micro_patch4", "t2t_vit_12": "micro_patch4",
               "budget=1.5": "budget=0.1", "vitlab.explore(": "panel = vitlab.explore("}
    for ours, small in instead.items():
        assert ours in source
        source = source.replace(ours, small)
    space = {}
    said(source, space)
    space["panel"].close()
    assert space["net"].made["classes"] == pictures.classes and (tmp_path / "runs" / "cifar").is_dir()
    assert len(space["some"]) == len(space["held"]) == 10 and len(space["train"]) == 110
    assert space["logits"].shape == (2, 10)


@pytest.mark.parametrize("name", TRAINING)
def test_a_wrong_answer_is_told_what_is_wrong_with_it(name):
    space = {"np": np}
    said(next(cell.source for cell in TRAINING[name] if "def check(" in cell.source), space)
    check = space["check"]
    assert check({"first": (1, 1), "second": (..., 2)}) == "not done yet"
    assert check({"first": ([1, 2], [1, 2]), "second": (3, 4)}) == "second: yours is 3, should be 4"
    assert check({"first": ([1, 2, 3], [1, 2])}) == "first: yours is [1, 2, 3], should be [1, 2]"
    assert check({"first": (0.1 + 0.2, 0.3)}) == "right"
