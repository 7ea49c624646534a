"""What happened to every token, recorded only when asked: `method(images, point, trace=Trace())`."""
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitlab.block import cls_attention
from vitlab.tokens import put


@dataclass
class LayerTrace:
    """One block of one pass, for all B images; patches are numbered row by row on `grid`."""

    stage: int                  # which net of a cascade, 0 for the first
    layer: int                  # block, 0-based
    grid: tuple[int, int]       # the patch grid of this pass, e.g. (14, 14)
    attended: Tensor            # [B, h*w] bool: patches that took part in attention
    fed: Tensor                 # [B, h*w] bool: patches that reached the MLP
    cls: Tensor                 # [B, h*w] attention of the class token, mean over heads, 0 where absent
    extra: int                  # prefix (and package) tokens beside the patches


@dataclass
class Trace:
    """The record of one forward call: `layers` in order of execution, `exit` [B] = the stage that answered, or None."""

    layers: list[LayerTrace] = field(default_factory=list)
    exit: Tensor | None = None

    def add(self, layer: int, grid: tuple[int, int], ids: Tensor, q: Tensor, k: Tensor, *,
            fed: Tensor | None = None, extra: int = 1, mask: Tensor | None = None) -> None:
        """Record one block.

        ids [B, n]: patch numbers of the tokens in attention; fed [B, m]: of those that reach the MLP (default: the same);
        q, k [B, H, extra + n, d]: this block's queries and keys; mask [B, H, T, T]: what it adds to its logits.
        """
        weight = cls_attention(q, k, None if mask is None else mask[:, :, :1]).mean(1)[:, extra:].detach()
        empty = torch.zeros(len(ids), grid[0] * grid[1], device=ids.device)
        attended = put(empty, ids, torch.ones_like(weight)).bool()
        reached = attended if fed is None else put(empty, fed, torch.ones_like(fed, dtype=empty.dtype)).bool()
        self.layers.append(LayerTrace(0, layer, grid, attended, reached, put(empty, ids, weight), extra))

    def join(self, record: "Trace", stage: int, rows: Tensor, batch: int) -> None:
        """Append the layers of one stage of a cascade, which saw only the images `rows` [b] of a batch of `batch`.

        The other images stay empty there: no patch attended, none fed.
        """
        for part in record.layers:
            spread = (torch.zeros(batch, *t.shape[1:], dtype=t.dtype, device=t.device).index_copy(0, rows, t)
                      for t in (part.attended, part.fed, part.cls))
            self.layers.append(LayerTrace(stage, part.layer, part.grid, *spread, part.extra))
