"""SViT's gates: before a block each token is asked, by itself, whether it takes part."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

NARROWER = 4                                            # the hidden layer has a quarter of the width
KINDS = ("mlp", "linear", "global", "random")


class Gate(nn.Module):
    """How much each token wants to take part, [B, n, D] -> [B, n]: the log-odds of keep against skip.

    kind: "mlp", the paper's two layers; "linear", one; "global", the same two layers for a token beside the mean of all that are
    asked, as DynamicViT does; "random", which looks at nothing and learns nothing.
    """

    def __init__(self, width: int, kind: str = "mlp"):
        super().__init__()
        self.kind, hidden = kind, width // NARROWER
        if kind == "random":
            return
        self.norm = nn.LayerNorm(width)
        if kind == "linear":
            self.fc2 = nn.Linear(width, 2)
        else:
            self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, n, D] -> log-odds [B, n], in float32."""
        if self.kind == "random":
            return torch.rand(x.shape[:-1], device=x.device).logit()
        x = self.norm(x)
        if self.kind != "linear":
            x = self.act(self.fc1(x))
        if self.kind == "global":
            half = x.shape[-1] // 2
            x = torch.cat([x[..., :half], x[..., half:].mean(1, keepdim=True).expand(*x.shape[:-1], -1)], -1)
        keep, skip = self.fc2(x).float().unbind(-1)
        return keep - skip


def drawn(odds: Tensor) -> Tensor:
    """Take part or not, drawn from log-odds [B, n]: 0 or 1, with the gradient of the soft draw (Gumbel-Softmax, tau = 1)."""
    logits = torch.stack([F.logsigmoid(odds), F.logsigmoid(-odds)], -1)
    return F.gumbel_softmax(logits, hard=True)[..., 0]


def most(odds: Tensor, may: Tensor, share: float, rate: str) -> Tensor:
    """Take part or not, as a threshold decides that `share` of the log-odds [B, n] exceeds, of the "batch" or of each "image".

    0 or 1, with the gradient of the probability: the draw without its noise. Only who may (> 0) takes part.
    """
    soft, known = odds.sigmoid(), odds.detach().where(may > 0, float("-inf")).view(1 if rate == "batch" else len(odds), -1)
    hard = torch.zeros_like(known).scatter(1, known.topk(round(share * known.shape[1]), 1).indices, 1.0).view_as(odds)
    return hard * may + (soft - soft.detach())


def off_target(drawn: list[Tensor], keep: tuple[float, ...], rate: str) -> Tensor:
    """Squared distance of the shares that took part, from [B, n] of each gate, to those asked: of the "batch" or each "image"."""
    terms = []
    for stays, share in zip(drawn, keep, strict=True):
        found = stays.mean() if rate == "batch" else stays.mean(1)
        terms.append((found - share).square().mean())
    return torch.stack(terms).mean()
