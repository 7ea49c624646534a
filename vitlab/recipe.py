"""How a method is trained, as one record; the papers' recipes are constants of it, changed with `replace`."""
from dataclasses import dataclass
from numbers import Real


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training run; ValueError, in one sentence, for one that makes no sense.

    AdamW and a cosine schedule, stepped at every update, are not a choice. A shorter run of a paper's recipe:
    `dataclasses.replace(RECIPE, steps=300, epochs=None)`.
    """

    steps: int | None = None
    """Optimiser updates of the whole run. Give this or `epochs`."""
    epochs: int | None = None
    """Passes over the training set; the last, incomplete batch of a pass is left out."""
    batch: int = 64
    """Images per process and update."""
    lr: float = 1e-3
    """Learning rate after warm-up; it is not scaled with the batch."""
    lr_backbone: float | None = None
    """Learning rate of the parameters under `vit.`; warm-up and decay in the same proportion. None: `lr`."""
    weight_decay: float = 0.05
    """AdamW's; never applied to biases, norms, class tokens and position tables."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    warmup: float = 0.05
    """Share of the run, in [0, 1), during which the rate rises linearly from 1e-6."""
    min_lr: float = 1e-5
    """Where the cosine ends."""
    clip: float | None = None
    """Largest norm of the whole gradient, clipped once per update."""
    ema: float | None = None
    """Decay of a moving average of the weights, kept beside them; it warms up as 1 - step^(-2/3)."""
    mixup: float = 0.0
    """Alpha of mixup; 0 is off. With mixup or cutmix the batch must be even."""
    cutmix: float = 0.0
    """Alpha of cutmix; with both on, each batch draws one of them."""
    label_smoothing: float = 0.0
    """Share of the label spread over all classes."""
    precision: str = "fp32"
    """fp32, or bf16 for mixed precision."""
    seed: int = 0
    """Of the order of the images and of all that is drawn in a step; the initial weights are the caller's."""
    workers: int = 0
    """Processes that load images; the batches do not depend on it."""
    same_draw: bool = False
    """All processes draw alike (sub-nets, mixup), so that two of them equal one with twice the batch."""
    log_every: int | None = None
    """Updates per row of the history. None: about 50 rows a run."""

    def __post_init__(self):
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs and leave the other None, such as Recipe(steps=600)")
        for name in ("steps", "epochs", "batch", "log_every"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        for name in ("seed", "workers"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, not {value!r}")
        for name, low, high in (("warmup", 0, 1), ("label_smoothing", 0, 1), ("ema", 0, 1)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and low <= value < high):
                raise ValueError(f"{name} must be a number in [0, 1), not {value!r}")
        for name in ("lr_backbone", "weight_decay", "min_lr", "mixup", "cutmix"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and 0 <= value < float("inf")):
                raise ValueError(f"{name} must be a number of at least 0, not {value!r}")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, Real) and 0 < value < float("inf")):
                raise ValueError(f"{name} must be a number above 0, not {value!r}")
        if self.lr is None or self.min_lr > self.lr:
            raise ValueError(f"min_lr is {self.min_lr} but the cosine starts at lr = {self.lr}; lower min_lr")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), not {self.betas!r}")
        if (self.mixup or self.cutmix) and self.batch % 2:
            raise ValueError(f"mixup and cutmix pair images, so batch must be even, not {self.batch}")
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision!r}")
