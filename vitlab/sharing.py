"""A trained net as a folder that others can use, on this machine or on the Hugging Face hub: `push` writes it, `pull` reads it.

net.safetensors: the weights and all facts, as `vitlab.save` writes them; nothing else is needed to open the net.
card.json: the facts alone, for programs. README.md: the same for people, with the header that the hub reads.
"""
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pandas import DataFrame
from torch import nn

from vitlab import checkpoint, methods
from vitlab.data.hub import reachable
from vitlab.data.picture import USUAL
from vitlab.evaluation import check_net
from vitlab.numbers import flag
from vitlab.words import path_of

NET, CARD, PAGE = "net.safetensors", "card.json", "README.md"
HUB = "hf://"                                           # before the name of a place on the hub
WRITTEN = ("made", "checksum", "classes", "preprocessing", "points", "licence")     # facts that are the net's own
COLUMNS = {"point": "point", "top1": "top-1 (%)", "gmacs": "GFLOPs", "images_per_s": "images/s"}     # of a sweep, on the page


def push(method: nn.Module, to: str | Path, *, metrics: DataFrame | Mapping | None = None, licence: str = "mit",
         private: bool = True, **facts) -> str:
    """Write a net, and a card that says what it is, into a folder, or to the hub as "hf://owner/name"; where it is now.

    metrics: what was measured, such as a `vitlab.sweep`.  licence: of the weights, in the hub's words.  private: on the hub,
    until you show it.  facts: more of what JSON can hold; what a training or a file said of the net (`.facts`) is kept.
    Raises ValueError for what cannot be written, OSError for a folder, ConnectionError or PermissionError for a hub that cannot.
    """
    check_net(method)
    if not isinstance(licence, str) or not licence:
        raise ValueError(f"licence must be a word, such as mit, not {licence!r}")
    private, told = flag(private, "private"), card(method, metrics, licence, facts)
    place = str(path_of(to, "the place to push to"))
    if not str(to).startswith(HUB):
        write(method, Path(place), told)
        return place
    with TemporaryDirectory() as folder:
        write(method, Path(folder), told)
        return str(uploaded(str(to).removeprefix(HUB), folder, private))


def pull(source: str | Path) -> nn.Module:
    """The net of a folder that `push` wrote, or of "hf://owner/name" on the hub, in evaluation mode; its card is in `.facts`.

    Raises FileNotFoundError or ValueError for what is no such folder, ConnectionError where the hub cannot be reached.
    """
    folder = path_of(source, "the place to pull from")
    if str(source).startswith(HUB):
        folder = Path(downloaded(str(source).removeprefix(HUB)))
    if not (folder / NET).is_file():
        raise FileNotFoundError(f"{folder} holds no {NET}; give a folder that vitlab.push wrote, or {HUB}owner/name")
    return methods.load(folder / NET)


def card(method: nn.Module, metrics: Any, licence: str, facts: dict) -> dict:
    """What is told of a net beside how it was made."""
    made = getattr(method, "made", {})
    if taken := [name for name in WRITTEN if name in facts]:
        raise ValueError(f"{taken[0]} is told by the net itself; give yours another name")
    before = {name: fact for name, fact in getattr(method, "facts", {}).items() if name not in WRITTEN}
    own = {"classes": made.get("classes"), "preprocessing": made.get("preprocessing") or USUAL.facts(), "licence": licence,
           "points": [{"name": str(point), **asdict(point)} for point in method.points]}
    return before | facts | own | ({} if metrics is None else {"metrics": listed(metrics)})


def listed(metrics: Any) -> Any:
    """A table as rows, a missing number as None."""
    if isinstance(metrics, DataFrame):
        return metrics.astype(object).where(metrics.notna(), None).to_dict("records")
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be a table, such as a vitlab.sweep, or a dict, not a {type(metrics).__name__}")
    return dict(metrics)


def write(method: nn.Module, folder: Path, told: dict) -> None:
    """The three files."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; name a folder")
    checkpoint.save(method, folder / NET, **told)
    whole = {"made": method.made, **checkpoint.origin(), **told}
    checkpoint.replace(folder / CARD, json.dumps(json.loads(checkpoint.text(whole)), indent=1).encode())
    checkpoint.replace(folder / PAGE, page(whole).encode())


def page(told: dict) -> str:
    """The card in words."""
    made, rows = told["made"], told.get("metrics")
    rows = rows if isinstance(rows, list) else [{"point": point["name"]} for point in told["points"]]
    shown = {name: title for name, title in COLUMNS.items() if name in rows[0]}
    table = [f"| {' | '.join(shown.values())} |", f"|{'---|' * len(shown)}"]
    table += [f"| {' | '.join(f'{row[name]:.4g}' if isinstance(row[name], float) else str(row[name]) for name in shown)} |"
              for row in rows]
    names = told["classes"]
    lines = {"Classes": ", ".join(names) if names else f"{made['num_classes']}, without names", "Pictures": told["preprocessing"],
             "Made with": made["knobs"] or "the paper's knobs", "Recipe": told.get("recipe", "not told"),
             "Measured": told["metrics"] if isinstance(told.get("metrics"), dict) else None,
             "Code": f"vitlab {told['versions']['vitlab']}, commit {told.get('commit', 'unknown')}", "Licence": told["licence"]}
    header = ["---", f"license: {told['licence']}", "library_name: vitlab", "pipeline_tag: image-classification",
              f"tags: [vitlab, {made['method']}, dynamic-vision-transformer]", "---", ""]
    said = [f"* {name}: {checkpoint.text(value) if isinstance(value, dict) else value}" for name, value in lines.items() if value]
    return "\n".join([*header, f"# {checkpoint.label(made)}", "", *table, "", *said, "", "```python", "import vitlab",
                      'net = vitlab.pull("this folder")        # or hf:// and its name on the hub', "```", ""])


def uploaded(name: str, folder: str, private: bool) -> str:
    """Put a folder on the hub; its address."""
    import huggingface_hub as hub

    if hub.constants.HF_HUB_OFFLINE or not reachable():
        raise ConnectionError(f"the Hugging Face hub cannot be reached, so nothing was pushed to {name}; push to a folder, and "
                              "again when you are online")
    try:
        address = hub.HfApi().create_repo(name, private=private, exist_ok=True)
        hub.HfApi().upload_folder(repo_id=name, folder_path=folder, commit_message="A net of vitlab")
        return address
    except hub.errors.HFValidationError as error:
        raise ValueError(f"{name!r} is no name on the hub; give owner/name") from error
    except (hub.errors.HfHubHTTPError, hub.errors.LocalTokenNotFoundError) as error:
        raise PermissionError(f"you may not write to {name} ({str(error).splitlines()[0]}); sign in with `hf auth login` as "
                              "somebody who may") from error


def downloaded(name: str) -> str:
    """A folder of the hub on this machine, from its cache where the hub is out of reach."""
    import huggingface_hub as hub

    online = not hub.constants.HF_HUB_OFFLINE and reachable()
    try:
        return hub.snapshot_download(name, allow_patterns=[NET, CARD, PAGE], local_files_only=not online)
    except hub.errors.HFValidationError as error:
        raise ValueError(f"{name!r} is no name on the hub; give owner/name") from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.LocalEntryNotFoundError) as error:
        if online:
            raise FileNotFoundError(f"there is no public {name} on the hub; check the name, or sign in with `hf auth login` if "
                                    "it is private") from error
        raise ConnectionError(f"{name} is not in the cache and the Hugging Face hub cannot be reached; go online once, or pull "
                              "from a folder") from error
