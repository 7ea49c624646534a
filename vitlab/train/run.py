"""What a training run is made of: the recipe turned into optimiser, schedule and average by timm's factories."""
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast
from timm.data.mixup import Mixup, mixup_target
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from vitlab.data.imageset import ImageSet, image_set
from vitlab.data.picture import USUAL
from vitlab.recipe import Recipe
from vitlab.threads import Threads
from vitlab.train.batches import Batches
from vitlab.train.replicas import Replicas

POSITIONS = ("pos", "pos[._]*", "*.pos", "*.pos[._]*")  # position tables, whatever a method calls them exactly
FIRST_LR = 1e-6                                         # where warm-up begins (DeiT)


@dataclass
class Progress:
    """How far a run is: all of it that is no tensor."""

    step: int = 0
    seconds: float = 0.0                                # of training, without evaluating and writing
    best: float = -1.0                                  # highest val_top1
    rows: list[dict] = field(default_factory=list)      # the history
    open: dict[str, list] = field(default_factory=dict)     # loss -> [sum, times] since the last row
    precision: str = ""                                 # what a recipe's "auto" was found to be
    trained_on: str = ""                                # the machine that took the last step


@dataclass
class Run:
    """One training run, as one process sees it."""

    accelerator: PartialState
    method: nn.Module
    data: object                                        # the training ImageSet
    recipe: Recipe
    batches: Batches
    total: int                                          # steps
    optimizer: Optimizer
    scheduler: CosineLRScheduler
    ema: ModelEmaV3 | None
    out: Path | None
    replicas: Replicas | None = None                    # None: the processes share the images of a step
    facts: dict = field(default_factory=dict)           # what makes it this run: filled where there is a folder
    progress: Progress = field(default_factory=Progress)
    threads: Threads | None = None                      # once it trains

    @property
    def precision(self) -> str:
        """Of the numbers that a step computes with: fp32 or bf16."""
        return self.progress.precision or self.recipe.precision


def prepare(accelerator: PartialState, method: nn.Module, data, recipe: Recipe, out: str | Path | None,
            replicas: Replicas | None = None) -> Run:
    """The method, which is on its device, alike in every process, with all that trains it."""
    if accelerator.num_processes > 1:
        for tensor in method.state_dict().values():
            tensor.copy_(broadcast(tensor))
    own = (accelerator.process_index, accelerator.num_processes) if replicas is None else (0, 1)
    batches = Batches(data, recipe, *own)
    total = recipe.steps or recipe.epochs * batches.per_epoch
    optimizer = create_optimizer_v2(parameter_groups(method, recipe), "adamw", lr=recipe.lr,
                                    betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    warmup = int(recipe.warmup * total)                 # less than total
    scheduler = CosineLRScheduler(optimizer, total - warmup, lr_min=recipe.min_lr, warmup_t=warmup,
                                  warmup_lr_init=min(FIRST_LR, recipe.lr), warmup_prefix=True, t_in_epochs=False)
    ema = None if recipe.ema is None else ModelEmaV3(method, recipe.ema, use_warmup=True)
    return Run(accelerator, method, data, recipe, batches, total, optimizer, scheduler, ema,
               out, replicas)


def parameter_groups(method: nn.Module, recipe: Recipe) -> list[dict]:
    """Groups for AdamW: decayed or not, and at `lr` or, for what belongs to a timm net, at `lr_backbone`."""
    still = {*POSITIONS, *getattr(method, "no_weight_decay", set)(),
             *(f"vit.{name}" for name in (method.vit.no_weight_decay() if hasattr(method, "vit") else ()))}
    groups = param_groups_weight_decay(method, recipe.weight_decay, no_weight_decay_list=still)
    if recipe.lr_backbone is None:
        return groups
    inside = getattr(method, "is_backbone", lambda name: "vit" in name.split(".")[:-1])
    backbone = {id(p) for name, p in method.named_parameters() if inside(name)}
    scales = ((False, 1.0), (True, recipe.lr_backbone / recipe.lr))
    split = [{**group, "params": [p for p in group["params"] if (id(p) in backbone) == slow], "lr_scale": scale}
             for slow, scale in scales for group in groups]
    return [group for group in split if group["params"]]


def mixer(recipe: Recipe, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What happens to images [B, 3, S, S] and labels [B] on the device: labels [B, K] where anything is mixed."""
    if recipe.mixup or recipe.cutmix:
        return Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.label_smoothing, num_classes=classes)
    if recipe.label_smoothing:
        return lambda images, labels: (images, mixup_target(labels, classes, smoothing=recipe.label_smoothing))
    return lambda images, labels: (images, labels)


def trained(method: nn.Module) -> list[nn.Parameter]:
    """The parameters that are not frozen."""
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def meet(method: nn.Module, train, val) -> tuple[dict, ImageSet, ImageSet | None]:
    """How the method was made, with the names of its classes, and both sets as it wants them; ValueError where it cannot be.

    A method without class names gets the training set's, and learns on pictures prepared as that set says.
    """
    if not hasattr(method, "made"):
        raise ValueError(f"this {type(method).__name__} does not say how it was made; make it with vitlab.create")
    made, train = dict(method.made), image_set(train)
    if "preprocessing" not in made and train.preprocessing != USUAL:
        made["preprocessing"] = train.preprocessing.facts()
    train = train.for_made(made)
    made["classes"] = train.classes
    return made, train, None if val is None else image_set(val).for_made(made)


def check(train: ImageSet, recipe: Recipe, processes: int) -> None:
    """Fail at the door where data and recipe do not go together."""
    if recipe.batch * processes > len(train):
        raise ValueError(f"a step takes {recipe.batch * processes} images but {train.name} holds {len(train)}; "
                         "lower batch")
