"""What `fit` asks of a net before any work: one sentence for each thing that would end in an error, or in wrong numbers."""
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vitlab import checkpoint
from vitlab.data.picture import USUAL
from vitlab.recipe import Recipe


def check_net(method: nn.Module, recipe: Recipe, teacher: nn.Module | None, processes: int) -> None:
    """ValueError, in one sentence, for a net that this recipe cannot train, or whose checkpoints could not be loaded.

    processes: how many share the images of a step.
    """
    checkpoint.check(method)
    if teacher is not None and not isinstance(teacher, nn.Module):
        raise TypeError(f"a teacher must be a trained net, not {teacher!r}")
    name = type(method).__name__
    if other := {p.dtype for p in method.parameters() if p.is_floating_point()} - {torch.float32}:
        raise ValueError(f"this {name} holds weights in {str(other.pop()).removeprefix('torch.')}, but training updates "
                         "float32; call float() on it, and use precision=\"bf16\" for speed")
    if not any(p.requires_grad for p in method.parameters()):
        raise ValueError(f"every parameter of this {name} is frozen, so there is nothing to train; call requires_grad_(True) "
                         "on the parts that are to learn")
    if recipe.batch == 1 and any(map(learns_statistics, method.modules())):
        raise ValueError(f"this {name} has BatchNorm, which learns from the images of a batch together; use a batch of at "
                         "least 2")
    if teacher is not None and not getattr(method, "uses_teacher", False):
        raise ValueError(f"a {name} learns from no teacher, so the one given would not be looked at; leave teacher out")
    if recipe.same_draw and (recipe.mixup or recipe.cutmix) and processes > 1:
        raise ValueError("mixup and cutmix pair the images of one process, so with same_draw two processes would not equal one "
                         "with twice the batch; leave out same_draw, or mixup and cutmix")


def check_teacher(method: nn.Module, made: dict, teacher: nn.Module) -> None:
    """ValueError, in one sentence, for a teacher of other classes or pictures than the net's, or one it cannot learn from.

    made: how the net was made, with the names of its classes.
    """
    other = getattr(teacher, "made", {})
    for name, what in (("num_classes", "classes"), ("image_size", "pixels")):
        if other.get(name, made[name]) != made[name]:
            raise ValueError(f"the teacher was made for {other[name]} {what} and this net for {made[name]}; give a teacher made "
                             "for the same")
    theirs = other.get("classes", made["classes"])
    if odd := [(there, here) for there, here in zip(theirs, made["classes"], strict=True) if there != here]:
        raise ValueError(f"the teacher's classes are others than this net's, or in another order, the first {odd[0][0]!r} "
                         f"for {odd[0][1]!r}; create both with classes=train.classes of one set")
    usual = USUAL.facts()
    if other.get("preprocessing", usual) != made.get("preprocessing", usual):
        raise ValueError("teacher and net want their pictures prepared in different ways (mean, spread, crop); give a teacher "
                         "that was trained on pictures prepared like the net's")
    if hasattr(method, "check_teacher"):
        method.check_teacher(teacher)


def learns_statistics(part: nn.Module) -> bool:
    """Is this a BatchNorm that is trained? A frozen one, as of an attached assigner, takes no part in a step."""
    return isinstance(part, _BatchNorm) and (part.weight is None or part.weight.requires_grad)
