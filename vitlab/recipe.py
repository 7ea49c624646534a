"""How a method is trained, as one record; the papers' recipes are constants of it, changed with `replace`."""
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import inf
from numbers import Integral, Real
from typing import Any

from vitlab.numbers import BATCH, flag, plain


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training run, numpy's too; ValueError, in one sentence, for one that makes no sense.

    AdamW and a cosine schedule, stepped at every update, are not a choice. A shorter run of a paper's recipe:
    `dataclasses.replace(RECIPE, steps=300, epochs=None)`.

    steps: Optimiser updates of the whole run. Give this or `epochs`.
    epochs: Passes over the training set; the last, incomplete batch of a pass is left out.
    batch: Images per process and update.
    lr: Learning rate after warm-up; it is not scaled with the batch.
    lr_backbone: Learning rate of the parameters under `vit.`; warm-up and decay in the same proportion. None: `lr`.
    weight_decay: AdamW's; never applied to biases, norms, class tokens and position tables.
    betas: AdamW's.
    warmup: Share of the run, in [0, 1), during which the rate rises linearly from 1e-6.
    min_lr: Where the cosine ends.
    clip: Largest norm of the whole gradient, clipped once per update.
    ema: Decay of a moving average of the weights, kept beside them; it warms up as 1 - step^(-2/3).
    mixup: Alpha of mixup; 0 is off. With mixup or cutmix the batch must be even.
    cutmix: Alpha of cutmix; with both on, each batch draws one of them.
    label_smoothing: Share of the label spread over all classes.
    precision: fp32, bf16 for mixed precision, or auto: what trains faster here, found out before the first step.
    seed: Of the order of the images and of all that is drawn in a step; the initial weights are the caller's.
    workers: Processes that load images; the batches do not depend on it.
    same_draw: All processes draw the same sub-nets, so that two equal one with twice the batch where no picture draws for
        itself. What is drawn picture by picture (crops, dropped paths) and BatchNorm's statistics stay each process's own;
        mixup and cutmix, which pair pictures within one process, are refused.
    log_every: Updates per row of the history. None: about 50 rows a run.
    """

    steps: int | None = None
    epochs: int | None = None
    batch: int = 64
    lr: float = 1e-3
    lr_backbone: float | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.05
    min_lr: float = 1e-5
    clip: float | None = None
    ema: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "fp32"
    seed: int = 0
    workers: int = 0
    same_draw: bool = False
    log_every: int | None = None

    def __post_init__(self):
        for field in fields(self):
            object.__setattr__(self, field.name, checked(field.name, plain(getattr(self, field.name)), field.default))
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs and leave the other None, such as Recipe(steps=600)")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr is {self.min_lr} but the cosine starts at lr = {self.lr}; lower min_lr")
        if (self.mixup or self.cutmix) and self.batch % 2:
            raise ValueError(f"mixup and cutmix pair images, so batch must be even, not {self.batch}")


def check_recipe(recipe: Any) -> None:
    """TypeError, in one sentence, for what is no recipe."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"training needs a vitlab.Recipe, such as Recipe(steps=600), not {recipe!r}")


LEAST = {"steps": 1, "epochs": 1, "batch": 1, "log_every": 1, "seed": 0, "workers": 0}     # of the whole numbers
MOST = {"steps": 10 ** 9, "epochs": 10 ** 6, "batch": BATCH, "seed": 2 ** 32 - 1, "workers": 256}
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {      # of the others
    **dict.fromkeys(("warmup", "label_smoothing", "ema"), ("in [0, 1)", lambda value: 0 <= value < 1)),
    **dict.fromkeys(("lr_backbone", "weight_decay", "min_lr"), ("of at least 0", lambda value: 0 <= value < inf)),
    **dict.fromkeys(("mixup", "cutmix"), ("of at least 0", lambda value: 0 <= value < inf)),
    **dict.fromkeys(("lr", "clip"), ("above 0", lambda value: 0 < value < inf)),
}


def checked(name: str, value, default):
    """The value of a field, whole numbers as int and others as float; ValueError, in one sentence, for one it cannot have."""
    if value is None and default is None:
        return None
    number = isinstance(value, Real) and not isinstance(value, bool)
    if name in LEAST and not (number and isinstance(value, Integral) and value >= LEAST[name]):
        raise ValueError(f"{name} must be a whole number of at least {LEAST[name]}, not {value!r}")
    if name in MOST and value > MOST[name]:
        raise ValueError(f"{name} must be at most {MOST[name]}, not {value!r}")
    if name in RANGES and not (number and RANGES[name][1](value)):
        raise ValueError(f"{name} must be a number {RANGES[name][0]}, not {value!r}")
    if name == "betas" and not (isinstance(value, tuple) and len(value) == 2 and all(map(decays, value))):
        raise ValueError(f"betas must be two numbers in [0, 1), not {value!r}")
    if name == "precision" and value not in ("fp32", "bf16", "auto"):
        raise ValueError(f"precision must be fp32, bf16 or auto, not {value!r}")
    if name in LEAST:
        return int(value)
    return float(value) if name in RANGES else flag(value, name) if name == "same_draw" else value


def decays(value) -> bool:
    """Is this a number in [0, 1)?"""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < 1
