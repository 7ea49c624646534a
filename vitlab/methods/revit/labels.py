"""Token-length labels (Sec. 3.1): the smallest length with which ReViT is right, and the assigner that learns them."""
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from vitlab.data.imageset import image_set
from vitlab.evaluation import kind
from vitlab.methods.revit import assigner
from vitlab.methods.revit.table import length_table
from vitlab.numbers import real, seed_of, whole, wholes
from vitlab.recipe import Recipe, check_recipe
from vitlab.train import fit
from vitlab.words import one_of

MOST = 1 << 31      # pictures
NONE = -1           # label of a picture that no length solves, or that is left out


def min_correct(correct: Tensor) -> Tensor:
    """The smallest length that is right (the paper's rule): bool [n, k] -> [n], NONE where all are wrong."""
    return torch.where(correct.any(1), correct.int().argmax(1), NONE)


def suffix(correct: Tensor) -> Tensor:
    """The smallest length from which on all are right: bool [n, k] -> [n], NONE where the largest is wrong."""
    steady = correct.int().flip(1).cumprod(1).sum(1)                       # right in a row, from the largest down
    return torch.where(steady > 0, correct.shape[1] - steady, NONE)


RULES = {"min_correct": min_correct, "suffix": suffix}
UNSOLVED = ("largest", "smallest", "drop")
SPLITS = ("train", "heldout", "crossfit")


def labels_of(correct: Tensor, rule: str = "min_correct", unsolved: str = "largest") -> Tensor:
    """Labels [n] of a table of right answers [n, k], the shortest length first.

    unsolved: what a picture that the rule cannot label gets, "largest", "smallest" or, with "drop", NONE.
    """
    one_of(rule, "rule", RULES)
    one_of(unsolved, "unsolved", UNSOLVED)
    if not isinstance(correct, Tensor) or correct.dtype != torch.bool or correct.dim() != 2:
        raise ValueError(f"right answers are a tensor bool [n, k], such as a length table's .correct, not {kind(correct)}")
    found = RULES[rule](correct)
    instead = {"largest": correct.shape[1] - 1, "smallest": 0, "drop": NONE}[unsolved]
    return torch.where(found == NONE, instead, found)


def histogram(labels: Tensor, lengths: Sequence[int]) -> pd.DataFrame:
    """A row per length, the shortest first: length, images, share. Pictures left out do not count."""
    lengths = wholes(lengths, "lengths must be whole numbers")
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dim() != 1 or len(labels) and not (
            NONE <= int(labels.min()) <= int(labels.max()) < len(lengths)):
        raise ValueError(f"labels must be a tensor of positions from 0 to {len(lengths) - 1}, or {NONE}, not {kind(labels)}")
    kept = labels[labels != NONE]
    counts = kept.bincount(minlength=len(lengths)).tolist()
    frame = pd.DataFrame({"length": list(lengths), "images": counts})
    return frame.assign(share=frame.images / max(len(kept), 1))


def splits(n: int, label_split: str = "train", *, share: float = 0.2, folds: int = 2,
           seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Positions (to train ReViT on, to label) among n pictures.

    "train": all and all, as in the paper, whose labels lean to short lengths because ReViT has fitted the pictures;
    "heldout": a random `share` is only labelled; "crossfit": every fold is labelled by a ReViT trained on the others.
    """
    one_of(label_split, "label_split", SPLITS)
    n, share, folds, seed = whole(n, "n", 1, MOST), real(share, "share"), whole(folds, "folds", 2), seed_of(seed)
    if not 0 < share < 1 or folds > n and label_split == "crossfit":
        raise ValueError(f"share must be in (0, 1) and folds from 2 to {n}, not {share} and {folds}")
    if label_split == "train":
        return [(torch.arange(n), torch.arange(n))]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    cuts = [order[:max(1, round(share * n))]] if label_split == "heldout" else order.tensor_split(folds)
    inside = [torch.zeros(n, dtype=torch.bool).index_fill(0, cut, True) for cut in cuts]
    return [((~rows).nonzero()[:, 0], rows.nonzero()[:, 0]) for rows in inside]


def make_labels(data, trained: Callable[[object], nn.Module], *, label_split: str = "train", rule: str = "min_correct",
                unsolved: str = "largest", share: float = 0.2, folds: int = 2, seed: int = 0):
    """Pictures of an image set with token-length labels, an ImageSet of k classes in the set's order.

    trained: gives a ReViT in evaluation mode that was trained on the set it is called with, once per split.
    label_split, share, folds: see `splits`.  rule, unsolved: see `labels_of`.
    Warns, with the histogram, where all labels are equal; raises ValueError where none is left.
    """
    data = image_set(data)
    if not callable(trained) or isinstance(trained, nn.Module):
        raise TypeError(f"trained must be a function that trains a ReViT on the set it is called with, not {kind(trained)}")
    labels = torch.full((len(data),), NONE)
    for train_rows, rows in splits(len(data), label_split, share=share, folds=folds, seed=seed):
        net = trained(data.take(train_rows))
        if not hasattr(net, "lengths"):
            raise TypeError(f"trained must give a ReViT that was trained on the set it is called with, not {kind(net)}")
        table = length_table(net, data.take(rows))
        labels[rows] = labels_of(table.correct, rule, unsolved)
    kept = (labels != NONE).nonzero()[:, 0]
    if len(kept) == 0:
        raise ValueError("no length solves any picture, so none has a label; train ReViT first, or use "
                         'unsolved="largest"')
    if len(labels[kept].unique()) == 1:
        warnings.warn("all pictures have one label, so there is nothing for an assigner to learn:\n"
                      f"{histogram(labels, table.lengths).to_string(index=False)}", stacklevel=2)
    return data.for_net(net).take(kept).relabelled(labels[kept], [f"{n}x{n}" for n in table.lengths])


def train_assigner(labelled, recipe: Recipe = assigner.RECIPE, *, architecture: tuple | None = None, val=None,
                   out: str | Path | None = None) -> tuple[assigner.TLA, pd.DataFrame]:
    """A TLA for an image set of `make_labels`, its loss balanced over the lengths, and the history of `fit`.

    The recipe's seed decides its initial weights too, so that the same call goes on with the run in `out`.
    """
    labelled = image_set(labelled)
    check_recipe(recipe)
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        tla = assigner.TLA(len(labelled.classes), labelled.image_size, architecture)
    tla.weigh(labelled.labels)
    return tla, fit(tla, labelled, recipe, val=val, out=out)
