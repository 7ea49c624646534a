"""One image looked at from inside: where its patches lie, and what watches the blocks that it goes through."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vitlab.backbones import blocks
from vitlab.evaluation import beside, check_net
from vitlab.numbers import whole
from vitlab.trace import LayerTrace, Told, Trace

MOST = 1024             # patches per side


def one_image(method: nn.Module, image: Tensor, who: str) -> Tensor:
    """One image [1, 3, S, S], where the net is; ValueError for several, in the words of whoever looks at it."""
    check_net(method)
    image = beside(method, image)
    image = image[None] if image.dim() == 3 else image
    if image.dim() != 4 or len(image) != 1:
        raise ValueError(f"{who} looks at one image [3, S, S] at a time, not at {list(image.shape)}; give images[0]")
    return image


def place_of(layers: Sequence[LayerTrace], patch: int, grid: int | None) -> list[int]:
    """The number of a patch in each block, on whose grid there may be more or fewer."""
    side = layers[0].grid[0] if grid is None else whole(grid, "grid, the patches per side,", 1, MOST)
    row, column = divmod(whole(patch, "patch", 0, side ** 2 - 1), side)
    return [part.patch(row, column, side) for part in layers]


@contextmanager
def hooked(method: nn.Module, of_block: Callable[[nn.Module], Iterable[RemovableHandle]],
           of_net: Callable[[nn.Module], Iterable[RemovableHandle]] = lambda _: ()) -> Iterator[None]:
    """Hooks in every block of every net that a method has, and in those nets; afterwards they are gone."""
    nets = [net for net in method.modules() if isinstance(net, VisionTransformer | PoolingVisionTransformer)]
    hooks = [hook for net in nets for block in blocks(net) for hook in of_block(block)]
    hooks += [hook for net in nets for hook in of_net(net)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Step(NamedTuple):
    """The tokens of one block, [B, n, D] each, in the order in which it works on them."""

    attended: Tensor        # after attention
    fed: Tensor             # after the MLP, those that reach it


@contextmanager
def steps(method: nn.Module) -> Iterator[list[Step]]:
    """The tokens of each block that runs meanwhile, in their order."""
    done, now = [], {}

    def begin(part: nn.Module, given: tuple) -> None:
        now.clear()
        now["x"] = given[0]

    def attended(part: nn.Module, given: tuple, update: Tensor) -> None:
        now["attended"] = now["x"] + update

    def reach(part: nn.Module, given: tuple) -> None:
        now.setdefault("reach", given[0][..., :now["x"].shape[-1]])        # a DVT's MLP reads its context beside the token

    def end(part: nn.Module, given: tuple, update: Tensor) -> None:
        done.append(Step(now["attended"], now["reach"] + update))

    with hooked(method, lambda block: (
            block.norm1.register_forward_pre_hook(begin), block.drop_path1.register_forward_hook(attended),
            *(norm.register_forward_pre_hook(reach) for norm in block.norm2.modules()),    # a ReViT's picks one itself
            block.drop_path2.register_forward_hook(end))):
        yield done


class Pass(NamedTuple):
    """One pass of one image, with what its blocks were made of: an entry for each."""

    trace: Trace
    told: list[Told]
    steps: list[Step]


def watched(method: nn.Module, image: Tensor, point: Any) -> Pass:
    """The pass of one image [1, 3, S, S]; it holds all queries, keys and tokens as long as somebody holds it."""
    told = []
    trace = Trace(watch=lambda _, said: told.append(said))
    with steps(method) as done:
        method(image, point, trace)
    return Pass(trace, told, done)
