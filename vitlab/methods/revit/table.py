"""What every token length of a ReViT says of every picture: one pass, from which labels and rivals are made."""
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitlab.cascade.budget import Exits
from vitlab.data.imageset import image_set
from vitlab.evaluation import beside, check_net, evaluating, in_evaluation, kind
from vitlab.measure import gmacs
from vitlab.numbers import batch_of


@dataclass(frozen=True, eq=False)
class LengthTable:
    """n pictures at k lengths, the shortest first."""

    lengths: tuple[int, ...]    # patches per side
    correct: Tensor             # [n, k] bool
    confidence: Tensor          # [n, k] the largest softmax probability
    gmacs: Tensor               # [k] multiply-adds / 1e9

    def top1(self) -> dict[int, float]:
        """Percent right of each length; on training and on held-out pictures it tells how far the labels are skewed."""
        return {n: 100 * part for n, part in zip(self.lengths, self.correct.double().mean(0).tolist())}

    def exits(self) -> Exits:
        """As a cascade of all lengths, for the thresholds of `vitlab.budget`: a picture that goes on pays again."""
        return Exits(self.confidence.T.numpy(), self.correct.T.numpy(), self.gmacs.cumsum(0).numpy())


def check_table(table: LengthTable) -> LengthTable:
    """TypeError for what is no table."""
    if not isinstance(table, LengthTable):
        raise TypeError(f"this needs what vitlab.lengths.length_table returns, not {kind(table)}")
    return table


@in_evaluation
@torch.inference_mode()
def length_table(method: nn.Module, data, *, batch: int = 250) -> LengthTable:
    """The evaluation view of an image set through every length of a ReViT.

    Raises ValueError for pictures of another size, or classes that it does not know.
    """
    if not hasattr(method, "lengths") or not hasattr(method, "at"):
        raise ValueError(f"a length table is that of a ReViT, not of a {type(method).__name__}")
    data, batch = image_set(data).for_net(method), batch_of(batch)
    lengths = method.lengths[::-1]
    correct, confidence = [], []
    for start in range(0, len(data), batch):
        index = list(range(start, min(start + batch, len(data))))
        images = beside(method, data.images(index))
        labels = data.labels[index].to(images.device)
        said = torch.stack([method(images, method.Point(n)).float().softmax(-1) for n in lengths], 1)      # [b, k, K]
        top = said.max(-1)
        correct.append((top.indices == labels[:, None]).cpu())
        confidence.append(top.values.cpu())
    cost = [gmacs(method, images[:1], method.Point(n))[0] for n in lengths]
    return LengthTable(lengths, torch.cat(correct), torch.cat(confidence), torch.tensor(cost))


@torch.inference_mode()
def logits_of(assigner: nn.Module, data, *, batch: int = 250) -> Tensor:
    """What an assigner says of an image set's evaluation view: [n, k]."""
    check_net(assigner)
    data, batch = image_set(data), batch_of(batch)
    parts = [range(start, min(start + batch, len(data))) for start in range(0, len(data), batch)]
    with evaluating(assigner):
        return torch.cat([assigner(beside(assigner, data.images(part))).float().cpu() for part in parts])
