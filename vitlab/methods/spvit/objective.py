"""SPViT's training (Secs. 4.2, 4.4): decisions that are drawn and differentiable, attention that they gate, and Eqs. 11-12."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vitlab.methods.spvit.selector import LEAST

LEAK = 1e-10                                            # of attention to a dropped token: without it its decision learns nothing


def gumbel(score: Tensor) -> Tensor:
    """Keep or prune, drawn from keep probabilities [B, N]: 0 or 1, with the gradient of the soft draw (Eq. 7, tau = 1)."""
    return F.gumbel_softmax((torch.stack([score, 1 - score], -1) + LEAST).log(), hard=True)[..., 0]


def certain(stays: Tensor, score: Tensor) -> Tensor:
    """A decision [B, N], 0 or 1, with the gradient of its keep probabilities: Eq. 7 without its noise."""
    return stays + (score - score.detach())


def policy_bias(stays: Tensor) -> Tensor:
    """What attention adds to its logits so that nobody attends to what is dropped, but itself: [B, T] 0 or 1 -> [B, 1, T, T].

    A logarithm, not -inf or a clamp: those have no gradient to the decision where it is 0.
    """
    own = torch.eye(stays.shape[1], device=stays.device, dtype=stays.dtype)
    keys = stays[:, None, None]
    return (keys + (1 - keys) * own + LEAK).log()


def by_softmax(q: Tensor, k: Tensor, v: Tensor, stays: Tensor) -> Tensor:
    """What fused attention with `policy_bias` must equal: the official code's softmax that is gated, [B, H, T, d]."""
    own = torch.eye(stays.shape[1], device=stays.device, dtype=stays.dtype)
    keys = stays[:, None, None]
    logits = (q * q.shape[-1] ** -0.5) @ k.mT
    weights = (logits - logits.amax(-1, keepdim=True)).exp() * (keys + (1 - keys) * own)
    return weights / weights.sum(-1, keepdim=True) @ v


def off_target(kept: Sequence[Tensor], keep: Sequence[float], ratio: str) -> Tensor:
    """Eq. 11: squared distance of the shares kept [B, N] from what was asked, over the "batch" or for each "image"."""
    terms = []
    for stays, share in zip(kept, keep, strict=True):
        found = stays.mean() if ratio == "batch" else stays.mean(1)
        terms.append((found - share).square().mean())
    return torch.stack(terms).mean()


def apart(tokens: Tensor, lesson: Tensor, stays: Tensor) -> Tensor:
    """Mean squared distance between the tokens [B, N, D] of student and teacher, over those that stayed to the end [B, N]."""
    there = (stays > 0.5).to(tokens.dtype)
    return ((tokens.float() - lesson.float()).square().mean(-1) * there).sum() / there.sum().clamp(min=1)
