"""Attribution: which patches speak for a class, by captum, at any operating point of any method.

Relevance is taken where the tokens enter the first block, after positions are added, so it exists on the patch grid of every
sequence length, and a patch that is dropped later still counts for what it said before it went. On a net with random weights
the maps are noise.
"""
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.trace import Trace


def patches(method: nn.Module, image: Tensor, point: Any = None, target: int | None = None) -> Tensor:
    """Gradient x activation of every patch for class `target` (None: the predicted one): float [h, w], positive speaks for it.

    image [3, S, S] (or [1, 3, S, S]), normalised. One forward and one backward pass; the method's own gradients stay untouched.
    """
    from captum.attr import LayerGradientXActivation

    return explain(method, image, point, target, LayerGradientXActivation)


def integrated(method: nn.Module, image: Tensor, point: Any = None, target: int | None = None, *, steps: int = 32) -> Tensor:
    """Integrated gradients from the mean-colour picture: float [h, w], slow (`steps` passes) and complete.

    Complete means that the patches sum to logit(image) - logit(mean colour). That is exact where no token is dropped; dropping
    makes the logit jump along the way, and the jumps are not counted. Not for an image that goes through several stages of a
    cascade: each has tokens of its own.
    """
    from captum.attr import LayerIntegratedGradients

    return explain(method, image, point, target, LayerIntegratedGradients, baselines=0.0, n_steps=steps, internal_batch_size=8)


def explain(method: nn.Module, image: Tensor, point: Any, target: int | None, how: type, **settings) -> Tensor:
    """Run one of captum's layer methods on the embedded tokens; sum over channels and lay the patches out on their grid."""
    image = image if image.dim() == 4 else image[None]
    if image.dim() != 4 or len(image) != 1:
        raise ValueError(f"attribution explains one image [3, S, S] at a time, not {tuple(image.shape)}")
    training = method.training
    method.eval()
    try:
        with torch.no_grad():
            trace = Trace()
            logits = method(image, point, trace)
        if trace.layers[-1].stage and "n_steps" in settings:
            raise ValueError("this image goes through several stages; explain the method of one of them instead")
        if target is None:
            target = int(logits.argmax())
        if not 0 <= target < logits.shape[1]:
            raise ValueError(f"the net has classes 0 to {logits.shape[1] - 1}, not {target}")
        with torch.enable_grad():
            tokens = how(method, answering(method, trace).pos_drop).attribute(
                image, target=target, additional_forward_args=(point,), **settings)              # [1, P + N, D]
    finally:
        method.train(training)
    grid = next(part.grid for part in trace.layers if part.stage == trace.layers[-1].stage)      # of the stage that answered
    return tokens.detach().sum(-1)[0, -grid[0] * grid[1]:].reshape(grid)


def answering(method: nn.Module, trace: Trace) -> VisionTransformer:
    """The net that gave the answer: a method with several holds one per stage, in order."""
    nets = [part for part in method.modules() if isinstance(part, VisionTransformer)]
    return nets[trace.layers[-1].stage] if len(nets) > 1 else nets[0]
