"""What makes two calls of `fit` the same run: whatever the weights depend on that can be told from outside.

The net: how it was made (but not the knobs in its FREE_KNOBS, on which no weight depends), the weights it starts from, and
which of them are frozen. The recipe, but for FREE. The processes. The pictures and labels of training and validation, whole
up to the bound in vitlab.data.fingerprint, and how training changes pictures, by its `repr`. The teacher's weights.

A fresh net starts from the same weights only where torch.manual_seed stands before it is made. A net that has already learned
is the same run's only as that run left it: in last.safetensors, or in a notebook that runs the cell again.
"""
import json
import re
from dataclasses import asdict

from torch import nn

from vitlab import checkpoint
from vitlab.data.cache import checksum
from vitlab.data.fingerprint import fingerprint
from vitlab.train.run import Run

FREE = ("recipe/workers", "recipe/log_every")           # no weight depends on them
PARTS = ("made", "recipe", "data", "val", "teacher", "frozen parameters", "processes", "replicas")
UNSAID = ("labels", "pictures", "teacher")              # checksums, which tell a reader nothing


def identity(run: Run, val, teacher: nn.Module | None) -> dict:
    """The facts, as JSON gives them back; to be asked before the first step."""
    method = run.method
    facts = {"made": method.made, "recipe": asdict(run.recipe), "data": described(run.data),
             "val": described(val), "weights": weights(method),
             "teacher": None if teacher is None else weights(teacher),
             "frozen parameters": [name for name, p in method.named_parameters() if not p.requires_grad],
             "processes": run.accelerator.num_processes, "replicas": None if run.replicas is None else run.replicas.split}
    return json.loads(checkpoint.text(facts))


def weights(net: nn.Module) -> str:
    """A checksum of the state dict."""
    return checksum(checkpoint.weights(net))


def described(data) -> dict:
    """An image set, or None, in a few facts. An augmentation is its `repr`, without addresses in memory."""
    if data is None:
        return {"name": None}
    augment = getattr(data, "augment", None)
    return {"name": data.name, "images": len(data), "classes": list(data.classes), "labels": checksum({"": data.labels}),
            "pictures": fingerprint(data.pictures),
            "augmentation": None if augment is None else re.sub(r" at 0x[0-9a-fA-F]+", "", repr(augment))}


def differences(there: dict, here: dict, free_knobs: tuple[str, ...] = ()) -> list[str]:
    """In which facts two runs differ, in words; the weights they start from are not compared."""
    free = {*FREE, *(f"made/knobs/{name}" for name in free_knobs)}
    then, now = ({name: value for part in PARTS if part in facts for name, value in flat(part, facts[part])}
                 for facts in (there, here))
    return [told(name, then, now) for name in then | now
            if name not in free and (name not in then or name not in now or then[name] != now[name])]


def flat(name: str, value):
    """A fact, or the facts in it, as pairs of path and value."""
    if not isinstance(value, dict):
        yield name, value
    else:
        for key, inner in value.items():
            yield from flat(f"{name}/{key}", inner)


def told(path: str, then: dict, now: dict) -> str:
    """One difference in words."""
    part, name = path.partition("/")[0], path.rpartition("/")[2]
    said = {"val/name": "val"}.get(path, f"val's {name}" if part == "val" else name)
    if path not in then:
        return f"{said} was not noted, is {now[path]}"
    if name in UNSAID or any(isinstance(facts.get(path), list) for facts in (then, now)):
        return f"other {said}"
    return f"{said} was {then[path]}, is {now.get(path, 'not given')}"
