"""The house itself: who imports whom, what is listed once, and notebooks that can be read on the web."""
import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import vitlab

ROOT = Path(__file__).resolve().parents[1]
ROOM_MAY_IMPORT = {     # a room sees itself and these; nobody below methods knows a method by name
    "block": set(), "tokens": set(), "losses": set(), "recipe": set(), "data": set(), "checkpoint": set(), "backbones": set(),
    "evaluation": set(), "calibrated": set(), "threads": set(), "forced": set(),
    "numbers": set(), "words": set(), "pieces": set(),       # everyone may
    "trace": {"block", "tokens"},
    "packed": {"block"},
    "merging": {"tokens"},
    "cascade": {"trace"},
    "method": {"backbones", "block", "losses", "trace"},
    "train": {"recipe", "checkpoint", "data", "evaluation", "threads"},
    "measure": {"backbones", "block", "tokens", "trace", "cascade", "checkpoint", "data", "evaluation"},
    "methods": {"backbones", "block", "tokens", "packed", "merging", "losses", "recipe", "trace", "method", "checkpoint",
                "cascade", "data", "measure", "evaluation", "train", "calibrated", "forced"},
    "fixed": {"backbones"}, "compiled": {"backbones", "evaluation", "fixed"},
    "edge": {"backbones", "checkpoint", "data", "fixed", "measure"},
    "schedules": {"backbones", "block", "tokens", "merging", "losses", "trace"},
    "attribution": {"trace", "evaluation"},
    "official": {"methods", "checkpoint"}, "sharing": {"methods", "checkpoint", "data", "evaluation"},
    "governor": {"measure", "evaluation", "threads"}, "serving": {"backbones", "data", "evaluation"},
    "plots": {"trace", "data"}, "reporting": {"plots", "measure"},
    "widgets": {"plots", "reporting", "compiled", "measure", "attribution", "trace", "data", "backbones", "evaluation", "forced",
                "governor"},
}
HEAVY = {"plotly", "ipywidgets", "captum", "fvcore", "datasets", "kaleido", "anywidget", "matplotlib",
         "onnx", "onnxruntime", "onnxscript", "pycocotools"}
FREE_OF_HEAVY = set(ROOM_MAY_IMPORT) - {"plots", "reporting", "widgets"}     # at import; inside functions it is allowed
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def imports(path: Path, top_only: bool = False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module if node.module != "vitlab" else f"vitlab.{node.names[0].name}"


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "vitlab").parts[0].removesuffix(".py")


SOURCES = sorted(p for p in (ROOT / "vitlab").rglob("*.py") if p != ROOT / "vitlab" / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_data_flows_one_way(path):
    room = room_of(path)
    seen = {name.split(".")[1] for name in imports(path) if name.startswith("vitlab.")}
    assert seen <= ROOM_MAY_IMPORT[room] | {room, "numbers", "words", "pieces"}
    if room in FREE_OF_HEAVY:
        assert not {name.split(".")[0] for name in imports(path, top_only=True)} & HEAVY


def test_no_method_imports_another():
    """A paper is a file of methods/ or a folder of it; its files import each other and nobody else's."""
    for path in (ROOT / "vitlab" / "methods").rglob("*.py"):
        own, *inside = path.relative_to(ROOT / "vitlab" / "methods").parts
        if own != "__init__.py":
            others = {name.split(".")[2] for name in imports(path) if name.startswith("vitlab.methods.")}
            assert others <= ({own} if inside else set()), path


def test_imports_run_in_no_circle():
    """Among the files of vitlab: an arrow is an import at the top of a file, and no arrow leads back."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}

    def home(name):
        return name if name in files else name.rpartition(".")[0]

    arrows: dict[str, set] = {}
    for name, path in files.items():
        seen = set()
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vitlab"):
                seen |= {home(f"{node.module}.{alias.name}") for alias in node.names}
        arrows[name] = (seen & files.keys()) - {name}
    done, open_now = set(), []

    def walk(name):
        assert name not in open_now, " -> ".join([*open_now[open_now.index(name):], name])
        if name not in done:
            open_now.append(name)
            for other in sorted(arrows[name]):
                walk(other)
            open_now.pop()
            done.add(name)

    for name in sorted(arrows):
        walk(name)


def test_dependencies_are_listed_once_each_with_a_reason():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    listed = [line for line in lines if re.match(r'\s+"[a-z.-]+([><=]|\[edge,dense,energy\])', line)]
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert len(listed) == len(PYPROJECT["project"]["dependencies"]) + sum(map(len, extras.values()))
    assert all(len(line.split("#", 1)[-1].strip()) > 10 and "#" in line for line in listed)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    names = [d for d in conda["dependencies"] if isinstance(d, str)]
    assert sorted(re.split(r"[><=]", n)[0] for n in names) == ["pip", "python"]
    assert f"python{PYPROJECT['project']['requires-python']}" in names
    assert conda["dependencies"][-1] == {"pip": ["-e .[test]"]}
    assert conda["name"] == PYPROJECT["project"]["name"]


def test_every_package_that_is_imported_is_listed():
    listed = {re.split(r"[><=]", d)[0] for d in PYPROJECT["project"]["dependencies"]}
    extras = PYPROJECT["project"]["optional-dependencies"]
    listed |= {"PIL" if d == "pillow" else d for d in listed}
    listed |= {"pynvml"} if any(d.startswith("nvidia-ml-py") for d in extras["energy"]) else set()
    standard = {"numpy", "huggingface_hub", "pyarrow"}      # come with timm and datasets, which need them
    used = {name.split(".")[0] for path in SOURCES for name in imports(path)} - {"vitlab"}
    import sys
    assert used - set(sys.stdlib_module_names) - {"IPython"} <= listed | standard


def test_ci_runs_readmes_second_command():
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"<!-- command (one|two) -->\n\n    (.+)\n\n<!-- end -->", readme)
    assert dict(commands)["one"].endswith("jupyter lab notebooks/02_supervit_training.ipynb")
    assert dict(commands)["two"].endswith("pytest -n 2 --nbval tests notebooks")
    assert "command two" in (ROOT / ".ci" / "run").read_text()


def test_what_readme_links_to_is_there():
    for page in ("README.md", "data/results/README.md"):
        links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text())
        assert len(links) > 1
        assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
class TestNotebook:
    def test_can_be_read_on_the_web(self, path):
        book = json.loads(path.read_text())
        assert path.stat().st_size < 1_000_000
        assert "widgets" not in book["metadata"]
        outputs = [output for cell in book["cells"] for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in outputs)
        assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        assert not [o for o in outputs if any("widget" in kind or "plotly" in kind for kind in o.get("data", {}))]

    def test_was_run_from_top_to_bottom(self, path):
        code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        counts = [c["execution_count"] for c in code]
        live = ["live" in c["metadata"].get("tags", []) for c in code]
        assert [n for n, is_live in zip(counts, live, strict=True) if not is_live] == [
            i for i, is_live in enumerate(live, 1) if not is_live]

    def test_cells_are_short_and_know_no_machine(self, path):
        text = path.read_text()
        assert not re.search(r"/(root|home|work|Users)/", text)
        for cell in json.loads(text)["cells"]:
            lines = "".join(cell["source"]).splitlines()
            if cell["cell_type"] == "code":
                assert len(lines) <= 20 and max(map(len, lines), default=0) <= 118     # what a laptop's window shows
                assert not (lines and lines[-1].rstrip().endswith(";"))

    def test_its_links_lead_somewhere(self, path):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                for link in re.findall(r"\]\((?!http)([^)#]+)\)", "".join(cell["source"])):
                    name = link.removeprefix("attachment:")
                    assert name in cell.get("attachments", {}) if name != link else (path.parent / link).exists(), link


def test_editors_see_every_name():
    """The stub that stands beside the lazy package has its names, from the places where they are."""
    stub = ast.parse((ROOT / "vitlab" / "__init__.pyi").read_text())
    told = {name.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for name in node.names}
    homes = vitlab.HOME | {name: path.rpartition(".")[0] for name, path in vitlab.ROOMS.items()}
    assert told == homes
    assert (ROOT / "vitlab" / "py.typed").exists()
