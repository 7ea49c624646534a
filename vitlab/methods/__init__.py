"""The papers, a file or a folder each, and the only registry."""
import inspect
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from vitlab import backbones, checkpoint
from vitlab.data.names import names
from vitlab.method import Dense
from vitlab.methods.adaptive_depth import AdaptiveDepth
from vitlab.methods.dvt import DVT
from vitlab.methods.revit import ReViT
from vitlab.methods.spvit import SPViT
from vitlab.methods.supervit import SuperViT
from vitlab.methods.svit import SViT
from vitlab.methods.tome import ToMe
from vitlab.numbers import plain, whole
from vitlab.words import one_of

METHODS = {"dense": Dense, "supervit": SuperViT, "dvt": DVT, "adaptive_depth": AdaptiveDepth, "revit": ReViT, "spvit": SPViT,
           "svit": SViT, "tome": ToMe}


def create(method: str, backbone: str, num_classes: int | None = None, *, classes: Sequence[str] | None = None,
           image_size: int | None = None, pretrained: bool = False, drop_path: float = 0.0, grid: int | None = None,
           **knobs) -> nn.Module:
    """A method on a named backbone, e.g. `create("supervit", "deit_small", classes=train.classes, rates=(0.5, 1.0))`.

    backbone: deit_tiny, deit_small, deit_base; t2t_vit_7, t2t_vit_10, t2t_vit_12, t2t_vit_14, t2t_vit_19, t2t_vit_24; lvvit_tiny,
    lvvit_small, lvvit_medium; pit_tiny, pit_xsmall, pit_small; small ones for 56 pixels, micro_patch8, micro_patch4,
    micro_plain8; without class token deit_tiny_gap, deit_small_gap, micro_patch8_gap, micro_patch4_gap, micro_plain8_gap; with a
    register deit_tiny_distilled, deit_small_distilled, deit_base_distilled (`vitlab.backbones` says more); or timm's name of a
    ViT or PiT.
    classes: their names, in the order of the logits; or only how many there are (None: 1000), until `fit` gives them names.
    grid: patches per side of the backbone (None: its own).  knobs are the method's own constructor keywords; what was asked for
    is kept in `.made`, so that a checkpoint can be rebuilt, with pretrained weights also how they want pictures prepared; and the
    names and shapes of its tensors in `.layout`.
    Raises ValueError for an unknown method, backbone or knob, ConnectionError when pretrained weights cannot be had.
    """
    one_of(method, "method", METHODS)
    if not isinstance(backbone, str):
        raise TypeError(f"backbone must be a name, such as deit_small, not {backbone!r}; give a net that is made to its method, "
                        "as in vitlab.SuperViT(vit)")
    allowed = list(inspect.signature(METHODS[method]).parameters)[1:]
    if unknown := [k for k in knobs if k not in allowed]:
        raise ValueError(f"{method} has no knob {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    num_classes, named = counted(num_classes, classes)
    knobs = {name: plain(value) for name, value in knobs.items()}
    vit = backbones.create(backbone, num_classes, image_size, pretrained, drop_path, grid)
    net = METHODS[method](vit, **knobs)
    net.layout = checkpoint.layout(net)
    net.made = {"method": method, "backbone": backbone, "num_classes": vit.made["num_classes"],
                "image_size": backbones.image_size(vit), "drop_path": vit.made["drop_path"],
                "knobs": knobs | getattr(net, "settled", {})}
    net.made |= {} if grid is None else {"grid": backbones.grid(vit)}
    net.made |= {} if named is None else {"classes": named}
    net.made |= {"preprocessing": backbones.preprocessing(vit)} if pretrained else {}
    return net


def counted(num_classes: int | None, classes: Sequence[str] | None) -> tuple[int, list[str] | None]:
    """How many classes there are, and their names where they have any; ValueError where the two do not agree."""
    if classes is None:
        return 1000 if num_classes is None else whole(num_classes, "num_classes"), None
    found = names(classes)
    if num_classes not in (None, len(found)):
        raise ValueError(f"num_classes is {num_classes} but there are {len(found)} names in classes; leave num_classes out")
    return len(found), found


def load(path: str | Path) -> nn.Module:
    """The method of a checkpoint written by `vitlab.save` or `vitlab.fit`, in evaluation mode; its facts are in `.facts`.

    Raises FileNotFoundError or ValueError, in one sentence, for a file that is missing, truncated, pickled or not ours.
    """
    facts, tensors = checkpoint.read(path)
    made = dict(facts["made"])
    if "classes" not in made and "data" in facts:                          # written before nets knew their classes' names
        names = facts["data"]["classes"]
        made |= {"classes": names} if len(names) == made["num_classes"] else {}
    net = again(made)
    checkpoint.fill(net, tensors, path)
    net.facts = facts
    return net.eval()


RECORD = {"method": str, "backbone": str, "num_classes": int, "image_size": int, "drop_path": int | float, "knobs": dict}
MORE = {"grid": int, "classes": list, "preprocessing": dict}            # what only some nets have


def again(made: dict) -> nn.Module:
    """A net made as a record of `create` says, with fresh weights. ValueError for a record that `create` did not write."""
    made = dict(made)
    wrong = [name for name, kind in RECORD.items() if not isinstance(made.get(name), kind)]
    wrong += [name for name in made if name not in RECORD and not isinstance(made[name], MORE.get(name, ()))]
    if wrong:
        raise ValueError(f"this checkpoint says that its net was made with {wrong[0]}={made.get(wrong[0])!r}, which "
                         "vitlab.create never notes; write it again with vitlab.save")
    knobs = {k: tupled(v) for k, v in made.pop("knobs").items()}
    told = {name: made.pop(name) for name in ("preprocessing",) if name in made}
    net = create(**made, **knobs)
    net.made |= told
    return net


def tupled(value):
    """JSON knows no tuples: lists, also lists of lists, as tuples."""
    return tuple(map(tupled, value)) if isinstance(value, list) else value
