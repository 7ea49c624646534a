"""Ways to go on with fewer tokens: drop, fuse, or drop as a small net says; merging is in `vitlab.merging`.

Letters as in vitlab: B images, T tokens, the class token first, H heads, d head width, D width.
"""
import torch
from torch import Tensor, nn

from vitlab.block import cls_attention
from vitlab.tokens import take


def best(x: Tensor, score: Tensor, count: int) -> Tensor:
    """The class token and the `count - 1` patches of the highest score [B, T - 1], in their order: [B, count, D]."""
    order = score.topk(count - 1, sorted=False).indices.sort().values + 1
    return take(x, torch.cat([order.new_zeros(len(x), 1), order], 1))


def fused(x: Tensor, q: Tensor, k: Tensor, count: int) -> Tensor:
    """EViT (Liang et al., ICLR 2022, Sec. 3.2): the patches that the class token looks at most, and one token that is the others'
    mean, weighted by that attention: [B, count, D].
    """
    score = cls_attention(q, k).mean(1)[:, 1:]                             # [B, T - 1]
    order = score.argsort(1, descending=True) + 1
    kept, rest = order[:, :count - 2], order[:, count - 2:]
    weight = score.gather(1, rest - 1)[..., None]                          # [B, R, 1]
    packed = (take(x, rest) * weight).sum(1, keepdim=True)
    return torch.cat([x[:, :1], take(x, kept), packed], 1)


class Predictor(nn.Module):
    """DynamicViT's (Rao et al., NeurIPS 2021, Eqs. 3-6): from each patch and the mean of all, whether it stays."""

    def __init__(self, width: int):
        super().__init__()
        self.inside = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.out = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width // 4), nn.GELU(),
                                 nn.Linear(width // 4, 2))

    def forward(self, patches: Tensor) -> Tensor:
        """Score [B, N] of patches [B, N, D]."""
        local, far = self.inside(patches).chunk(2, -1)
        return self.out(torch.cat([local, far.mean(1, keepdim=True).expand_as(local)], -1)).log_softmax(-1)[..., 0]


def predicted(x: Tensor, predictor: Predictor, count: int) -> Tensor:
    """The patches that a predictor scores highest, [B, count, D]."""
    return best(x, predictor(x[:, 1:]), count)
