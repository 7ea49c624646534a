"""The two losses the papers share."""
import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy; labels are classes [B] or probabilities [B, K] (mixup, label smoothing)."""
    return F.cross_entropy(logits.float(), labels)


def kl(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) from logits [B, K], mean over images, times temperature²; no gradient reaches the teacher."""
    student = F.log_softmax(logits.float() / temperature, -1)
    target = F.log_softmax(teacher.detach().float() / temperature, -1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True) * temperature ** 2
