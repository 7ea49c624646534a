"""One image looked at from inside: where its patches lie, and what watches the blocks that it goes through."""
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vitlab.backbones import blocks
from vitlab.evaluation import beside, check_net
from vitlab.numbers import whole
from vitlab.trace import LayerTrace

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
