"""What is read after a block. After the last one the head reads the class token alone: the others need not be computed there.

That is exact and saves 6.9 % of a DeiT-S. The papers count the last block for all tokens, and so do we: who counts does it
`by_the_book`, where everything is computed in the papers' way.
"""
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from timm.models.pit import PoolingVisionTransformer
from timm.models.vision_transformer import VisionTransformer

from vitlab.backbones.ends import blocks, pooled
from vitlab.backbones.lvvit import LVViT

ONE_AT_A_TIME = RLock()
book = False            # does somebody count? Of the whole process, so that a graph of torch.compile can depend on it


def read_after(vit: VisionTransformer | PoolingVisionTransformer, layer: int, first: int | None = None) -> int | None:
    """How many tokens, from the first on, the head reads after a block, 0-based; None: all are read, by somebody.

    first: how many a head reads that reads no patch (None: 1). Who says so chooses the norms of a net with one for each number of
    tokens; for others such a net (`norm.by_count`, see ReViT) needs all of them to choose by.
    """
    if first is None and getattr(vit.norm, "by_count", False):
        return None
    if book or layer < len(blocks(vit)) - 1 or pooled(vit) or isinstance(vit, LVViT):
        return None
    return first or 1


@contextmanager
def by_the_book() -> Iterator[None]:
    """Every token is computed in every block, and by the operations that are counted."""
    global book
    with ONE_AT_A_TIME:
        before, book = book, True
        try:
            yield
        finally:
            book = before


def counting() -> bool:
    """Is something run by the book?"""
    return book
