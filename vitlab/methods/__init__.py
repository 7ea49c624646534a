"""The five papers, one file each, and the only registry."""
import inspect
from pathlib import Path

from torch import nn

from vitlab import backbones, checkpoint
from vitlab.method import Dense
from vitlab.methods.adaptive_depth import AdaptiveDepth
from vitlab.methods.dvt import DVT
from vitlab.methods.revit import ReViT
from vitlab.methods.supervit import SuperViT
from vitlab.numbers import plain

METHODS = {"dense": Dense, "supervit": SuperViT, "dvt": DVT, "adaptive_depth": AdaptiveDepth, "revit": ReViT}


def create(method: str, backbone: str, num_classes: int = 1000, *, image_size: int | None = None, pretrained: bool = False,
           drop_path: float = 0.0, grid: int | None = None, **knobs) -> nn.Module:
    """A method on a named backbone, e.g. `create("supervit", "deit_small", num_classes=10, rates=(0.5, 1.0))`.

    grid: patches per side of the backbone (None: its own).  knobs are the method's own constructor keywords; what was asked for
    is kept in `.made`, so that a checkpoint can be rebuilt.
    Raises ValueError for an unknown method, backbone or knob, ConnectionError when pretrained weights cannot be had.
    """
    if method not in METHODS:
        raise ValueError(f"no method is called {method!r}; choose one of {', '.join(METHODS)}")
    allowed = list(inspect.signature(METHODS[method]).parameters)[1:]
    if unknown := [k for k in knobs if k not in allowed]:
        raise ValueError(f"{method} has no knob {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    knobs = {name: plain(value) for name, value in knobs.items()}
    vit = backbones.create(backbone, num_classes, image_size, pretrained, drop_path, grid)
    net = METHODS[method](vit, **knobs)
    net.made = {"method": method, "backbone": backbone, "num_classes": vit.made["num_classes"],
                "image_size": backbones.image_size(vit), "drop_path": vit.made["drop_path"], "knobs": knobs}
    net.made |= {} if grid is None else {"grid": backbones.grid(vit)}
    return net


def load(path: str | Path) -> nn.Module:
    """The method of a checkpoint written by `vitlab.save` or `vitlab.fit`, in evaluation mode; its facts are in `.facts`.

    Raises FileNotFoundError or ValueError, in one sentence, for a file that is missing, truncated, pickled or not ours.
    """
    facts, tensors = checkpoint.read(path)
    made = dict(facts["made"])
    knobs = {k: tupled(v) for k, v in made.pop("knobs").items()}
    net = create(**made, **knobs)
    checkpoint.fill(net, tensors, path)
    net.facts = facts
    return net.eval()


def tupled(value):
    """JSON knows no tuples: lists, also lists of lists, as tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value
