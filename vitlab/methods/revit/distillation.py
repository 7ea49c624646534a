"""Self-distillation between the token lengths of one net (TLSD, ReViT Sec. 3.2): the shorter learn from the largest.

A pass is a dict of tensors: "logits" [B, K]; "dist" [B, K], the distillation token's or the same; and, where they are
weighed, "features" [B, D, n, n] and "attention" [B, n, n], the last block's patches and the class token's look at them.
"""
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from vitlab.losses import cross_entropy, kl
from vitlab.numbers import real


def feature_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared distance of patch features [B, D, n, n] under a LayerNorm each, the teacher's pooled to n x n."""
    pair = (student, F.adaptive_avg_pool2d(teacher.detach(), student.shape[-1]))
    return F.mse_loss(*(F.layer_norm(x.movedim(1, 3).float(), x.shape[1:2]) for x in pair))


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of attention maps [B, n, n] that are made to sum to 1, the teacher's pooled to n x n."""
    pair = (student, F.adaptive_avg_pool2d(teacher.detach(), student.shape[-1]))
    log_student, log_teacher = (x.flatten(1).clamp(min=1e-12).log().log_softmax(1) for x in pair)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


@dataclass(frozen=True)
class SelfDistillation:
    """The numbers of Eq. 1 and of the transfers; ValueError, in one sentence, for one that makes no sense."""

    tau: float = 0.9
    """Temperature of both softmaxes."""
    lambda_: float = 0.5
    """Weight of the teacher in [0, 1]; 0 is training without it."""
    teacher: str = "soft"
    """Learn its probabilities, or ("hard", as DeiT) the class it names."""
    w_feat: float = 0.0
    """Weight of the feature transfer."""
    w_attn: float = 0.0
    """Weight of the attention transfer."""

    def __post_init__(self):
        for name in ("tau", "lambda_", "w_feat", "w_attn"):
            object.__setattr__(self, name, real(getattr(self, name), name))
        if self.tau == 0:
            raise ValueError("tau must be a temperature above 0, such as 0.9, not 0")
        if self.lambda_ > 1:
            raise ValueError(f"lambda_ must be in [0, 1], not {self.lambda_}; 0 is training without self-distillation")
        if self.teacher not in ("soft", "hard"):
            raise ValueError(f"teacher must be soft or hard, not {self.teacher!r}")

    def terms(self, said: dict[str, Tensor], lesson: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """A shorter length's losses, weighed (Eq. 1 = ce + kl); terms of weight 0 are left out."""
        found = {}
        if self.lambda_ < 1:
            found["ce"] = (1 - self.lambda_) * cross_entropy(said["logits"], labels)
        if self.lambda_ > 0 and self.teacher == "soft":
            found["kl"] = self.lambda_ * kl(said["dist"], lesson["logits"], self.tau)
        if self.lambda_ > 0 and self.teacher == "hard":
            found["hard"] = self.lambda_ * cross_entropy(said["dist"], lesson["logits"].argmax(-1))
        if self.w_feat:
            found["feat"] = self.w_feat * feature_transfer(said["features"], lesson["features"])
        if self.w_attn:
            found["attn"] = self.w_attn * attention_transfer(said["attention"], lesson["attention"])
        return found
