"""`explore` and `govern`: the doors to the panels, and the list by which a notebook cell runs again and leaves nothing behind."""
import hashlib
from collections.abc import Callable

import torch
from pandas import DataFrame
from torch import nn

from vitlab.data.imageset import image_set
from vitlab.evaluation import check_net
from vitlab.governor import known
from vitlab.numbers import flag, whole
from vitlab.widgets.controls import AUTO
from vitlab.widgets.engine import devices, precisions
from vitlab.widgets.governed import Governed
from vitlab.widgets.guests import wanted
from vitlab.widgets.panel import Panel
from vitlab.widgets.pool import after_cells, give_back
from vitlab.words import one_of

MOST = 4096                                 # images at once

LIVE: dict[str, Panel | Governed] = {}      # the panel of each notebook cell, closed when the cell runs again


def explore(methods: nn.Module | dict[str, nn.Module], images, *, sweep: DataFrame | None = None, device: str = "cpu",
            precision: str = "fp32", compiled: bool = False, batch: int = 32, name: str | None = None) -> Panel:
    """A live panel over one method, or over several by name, and an image set; show it as the last expression of a cell.

    sweep: rows of `vitlab.sweep` (with the papers', if you like) for the trade-off picture. precision: "fp32", "bf16", on a GPU
    "fp16", or "auto", the fastest by measuring. compiled: is what is timed compiled (see `vitlab.Compiled`)? name: panels of one
    name replace each other (None: the notebook cell's own, so running a cell again leaves nothing behind). The panel works on
    copies. A net whose classes are all others than the pictures' is asked all the same, at its own size; it is neither right nor
    wrong.
    Raises ValueError, in one sentence, where methods and images do not go together.
    """
    images = image_set(images)
    methods = dict(methods) if isinstance(methods, dict) else {title(methods): methods}
    if not methods:
        raise ValueError("there is nothing to explore; give a method, or a dict of methods by name")
    for label, method in methods.items():
        if not isinstance(method, nn.Module) or not hasattr(method, "points") or not hasattr(method, "Point"):
            raise ValueError(f"{label} is a {type(method).__name__}, not a method with operating points; "
                             "make one with vitlab.create")
        try:
            wanted(method, images)
        except ValueError as error:
            raise ValueError(f"{label}: {error}") from None
        if kinds := {p.dtype for p in method.parameters()} - {torch.float32}:
            raise ValueError(f"{label} has {' and '.join(map(str, kinds))} weights but the panel looks in float32; give it "
                             "net.float(), and choose the precision in the panel")
    device = one_of(str(device), "device", devices())
    one_of(precision, "precision", [*precisions(), AUTO])
    compiled, batch = flag(compiled, "compiled"), whole(batch, "batch", 1, MOST)
    if sweep is not None and (not isinstance(sweep, DataFrame) or not {"gmacs", "top1"} <= set(sweep)):
        raise ValueError(f"sweep must be rows of vitlab.sweep, with gmacs and top1, or None, not a {type(sweep).__name__}")
    return alone(name, lambda: Panel(methods, images, sweep=sweep, device=device, precision=precision, batch=batch,
                                     compiled=compiled))


def govern(method: nn.Module, data, *, table: DataFrame | None = None, batch: int = 16, name: str | None = None) -> Governed:
    """A live panel of a `vitlab.Governor` at work; show it as the last expression of a cell.

    Pictures of `data` come in batches, so many a second as its slider says; *another process* keeps cores busy beside it. The
    figure shows how many are answered, and which point answers. Nothing runs before *run* is pressed.
    table: what the points reach, `vitlab.sweep(method, data, batch=batch)` (None: the panel measures it, in some seconds or,
    for large nets, minutes). name: panels of one name replace each other (None: the notebook cell's own). The panel works on a
    copy. Raises ValueError, in one sentence, where method, data and table do not go together.
    """
    check_net(method)
    data, batch = image_set(data), whole(batch, "batch", 1, MOST)
    data.for_net(method)
    if table is not None:
        known(method, table)
    return alone(name, lambda: Governed(method, data, table, batch))


def alone(name: str | None, make: Callable[[], Panel | Governed]) -> Panel | Governed:
    """A new panel in the place of the one of this name, or of this notebook cell."""
    if name is not None and not isinstance(name, str):
        raise ValueError(f"name must be text or None, not {name!r}")
    key = name or cell()
    if key in LIVE:
        LIVE.pop(key).close()
    panel = make()
    give_back()                                                                # or the panel measures at half speed
    after_cells()
    if key:
        LIVE[key] = panel
    return panel


def title(method: nn.Module) -> str:
    """A method's name in the model list."""
    return " · ".join(filter(None, (type(method).__name__, getattr(method, "made", {}).get("backbone"))))


def cell() -> str | None:
    """A key for the notebook cell that is running: its id, or else its text; None outside notebooks."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    if not hasattr(shell, "get_parent"):
        return None
    request = shell.get_parent()
    code = request.get("content", {}).get("code", "")
    return request.get("metadata", {}).get("cellId") or hashlib.sha1(code.encode()).hexdigest()
