"""`load`: an official state dict into a net of ours, every tensor once, or one sentence that lists what does not fit."""
from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor, nn

from vitlab import checkpoint, methods
from vitlab.numbers import flag, real
from vitlab.official.names import RELEASED, as_released, aside, head_of, official, repeated
from vitlab.official.reading import read
from vitlab.words import one_of

LISTED = 10             # names of each kind that an error lists; of more it says how many


def load(method: str, path: str | Path, backbone: str, *, classes: Sequence[str] | None = None, image_size: int | None = None,
         ema: bool = False, qk_scale: float | None = None, **knobs) -> nn.Module:
    """A net of ours with an official file's weights, in evaluation mode: `load("dvt", "deit.pth", "deit_small")`.

    method: dense, supervit, dvt, spvit or svit.  path: what torch.save wrote, or safetensors; a state dict alone, or in a wrapper
    such as {"model": ...}.  backbone, image_size, knobs: as in `vitlab.create`; the number of classes is the file's, `classes`
    their names.  ema: the moving average of the weights, where a file holds both.  qk_scale: what the official net was made with
    where attention logits are not divided by the square root of a head's width; it is put into the weights.
    Nothing in a file is run. Raises ValueError, in one sentence, for a file with more in it than tensors and settings, or where
    names or shapes differ: missing, left over and of another shape, each listed.
    """
    one_of(method, "method", RELEASED)
    ema = flag(ema, "ema")
    scale = None if qk_scale is None else real(qk_scale, "qk_scale")
    tensors = read(path, ema)
    head = head_of(method)
    if head not in tensors or tensors[head].dim() != 2:
        raise ValueError(f"{path} is no official {method}: it has no classifier {head}, but {listed(tensors)}")
    net = methods.create(method, backbone, len(tensors[head]), classes=classes, image_size=image_size,
                         **{**as_released(method, tensors), **knobs})
    names = {ours: official(method, net, ours) for ours in net.state_dict()}
    check_fit(method, net, path, tensors, names)
    net.load_state_dict({ours: tensors[theirs] for ours, theirs in names.items()})
    if scale is not None:
        fold(net, scale)
    return net.eval()


def check_fit(method: str, net: nn.Module, path: str | Path, tensors: dict[str, Tensor], names: dict[str, str]) -> None:
    """ValueError, listing names, unless a file has the tensors that the net wants, in their shapes, and no others."""
    twins = {name: first for name in tensors if (first := repeated(method, net, name))}
    if apart := [name for name, first in twins.items() if first in tensors and not tensors[name].equal(tensors[first])]:
        raise ValueError(f"the heads of {path} have selectors of their own ({apart[0]} is not {twins[apart[0]]}); "
                         "give shared=False")
    shapes = checkpoint.layout(net)
    wanted = {theirs: shapes[ours] for ours, theirs in names.items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name not in twins and not aside(net, name)}
    wrong = {"missing": [name for name in wanted if name not in given],
             "left over": [name for name in given if name not in wanted],
             "of another shape": [f"{name} {list(shape)} for {list(wanted[name])}" for name, shape in given.items()
                                  if name in wanted and shape != wanted[name]]}
    if any(wrong.values()):
        told = "; ".join(f"{len(found)} {kind} ({listed(found)})" for kind, found in wrong.items() if found)
        raise ValueError(f"{path} does not fit a {checkpoint.label(net.made)}: of its tensors {told}")


def listed(names: Collection[str]) -> str:
    """Names in a sentence, the first ten of them."""
    rest = len(names) - LISTED
    return ", ".join(list(names)[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def fold(net: nn.Module, scale: float) -> None:
    """Attention logits were to be q k times `scale`; blocks divide by the root of a head's width, so the queries are scaled."""
    for part in net.modules():
        if hasattr(part, "qkv") and hasattr(part, "scale"):
            width = part.qkv.in_features
            part.qkv.weight.data[:width] *= scale / part.scale
            if part.qkv.bias is not None:
                part.qkv.bias.data[:width] *= scale / part.scale
