"""ReViT, Zhou & Zhu, ECML-PKDD 2023 (arXiv 2307.02092; first version 2112.01686): one ViT for several token lengths.

Every length has its own patch embedding, positions and LayerNorms; all else is shared. The largest length teaches the
others. A small net, the Token-Length Assigner (TLA), then picks for each picture the length that will do.

paper -> here:  L = lengths · R of Algorithm 1 = their patch sizes (16 px is length 14) · M_li = at(images, li) ·
TAL-LN = LengthNorm · Eq. 1 = SelfDistillation.terms · Z_s, Z_t = logits in `said`, `lesson` · T = assigner.
There is no public code. Where the paper is silent or contradicts itself:
  * patches that do not divide the picture are padded with zeros on all sides (10x10: 23 pixels, padding 3), as in DVT;
  * lambda is never given, tau is 5 in the text and 0.5 or 0.9 in Table 2, where it acts as lambda would: tau=0.9,
    lambda_=0.5 (the other reading: tau=1, lambda_=0.9);
  * the KL divergence of Eq. 1 is KL(teacher || student), and no gradient reaches the teacher;
  * Eq. 1 has one student logit, the text adds a distillation token: `dist_token="none"` is Eq. 1; "deit" is DeiT's
    token at all lengths but the largest: it learns by KL, the class token by cross-entropy, the answer is their mean;
  * feature and attention transfer have no formula: see `feature_transfer`, `attention_transfer` (w_feat=w_attn=1: on);
  * Table 3 crosses what is *separate*; shared are `patch="shared_center"` and `positions="interp"` or "zeropad".
Departures: without an assigner `method(images)` runs the largest length, in evaluation only: in training a length is
stated. For grids other than 14 and 24 the lengths stand at the same fractions. All lengths share an LV-ViT's second head,
and what `vitlab.backbones.lvvit` leaves out is left out here. Video nets are not built.
"""
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import LVViT, check_backbone, check_images, grid, image_size, read_after, sibling
from vitlab.block import attention, cls_attention, mlp, qkv
from vitlab.losses import cross_entropy
from vitlab.method import own_point
from vitlab.methods.revit.assigner import TLA, choose, relative_cost
from vitlab.methods.revit.distillation import SelfDistillation
from vitlab.methods.revit.embed import LengthEmbed, copy_backbone, length_norms, norm_of
from vitlab.numbers import flag, plain, real, whole, wholes
from vitlab.recipe import Recipe
from vitlab.trace import Trace, check_trace
from vitlab.words import one_of

LENGTHS = {14: (14, 10, 7), 24: (24, 16, 12)}               # Sec. 4; Algorithm 1's 16, 24, 32 pixels at 384
LENGTHS_RULE = "lengths must be whole numbers of patches per side, the largest, which teaches, first, such as (14, 10, 7)"
COST_WEIGHTS = (2.0, 1.0, 0.5, 0.25, 0.0)                   # operating points with an assigner


@dataclass(frozen=True)
class Point:
    """One token length for all pictures, or None: the assigner chooses one for each."""

    length: int | None = None       # patches per side
    cost_weight: float = 0.0        # of the assigner: log p - cost_weight * cost relative to the largest length

    def __post_init__(self):
        object.__setattr__(self, "length", plain(self.length))
        object.__setattr__(self, "cost_weight", plain(self.cost_weight))


def serial(lesson: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """What the largest length taught in this process, unchanged; ValueError if it did not run."""
    if lesson is None:
        raise ValueError("a shorter length learns from the largest, which is not among these lengths; add it, or give "
                         "`exchange`, as vitlab.train.replicas does")
    return lesson


class ReViT(nn.Module):
    """One ViT for all `lengths`, patches per side, descending (None: 14, 10, 7, scaled to the backbone's grid).

    vit: a backbone for the largest length; if its grid is another one, a fresh sibling of it is taken.
    patch: "separate" embeddings, "shared_center" (one kernel, Table 3) or "resize" (one embedding, the picture resized
    as in SuperViT).  positions: "separate" tables, or one that is "interp"olated or "zeropad"ded (Table 3).
    norm: "tal" or "shared".  stem: "patch" or "conv" (Xiao et al., for 384 pixels).  dist_token: "none" or "deit".
    tau, lambda_, teacher, w_feat, w_attn: see `SelfDistillation`.  head_per_length: the classifier is not shared.
    assigner: the Architecture of a TLA, for checkpoints; use `attach` otherwise.
    Raises ValueError for a knob that makes no sense.
    """

    Point = Point

    def __init__(self, vit: VisionTransformer, lengths: tuple[int, ...] | None = None, *, patch: str = "separate",
                 positions: str = "separate", norm: str = "tal", stem: str = "patch", dist_token: str = "none",
                 tau: float = 0.9, lambda_: float = 0.5, teacher: str = "soft", w_feat: float = 0.0,
                 w_attn: float = 0.0, head_per_length: bool = False, assigner: tuple | None = None):
        super().__init__()
        check_backbone(vit)
        side = grid(vit)
        scaled = LENGTHS.get(side) or tuple(sorted({max(round(n * side / 14), 1) for n in LENGTHS[14]}, reverse=True))
        self.lengths = scaled if lengths is None else wholes(lengths, LENGTHS_RULE)
        self.distillation = SelfDistillation(tau, lambda_, teacher, w_feat, w_attn)
        self.check_knobs(norm, dist_token)
        largest, *shorter = self.lengths
        self.vit = vit = vit if side == largest else sibling(vit, largest)
        self.embed = LengthEmbed(vit, self.lengths, patch, positions, stem, dist_token == "deit")
        if norm == "tal":
            length_norms(vit, [n ** 2 + self.embed.prefix(n) for n in self.lengths])
        own_heads = shorter if flag(head_per_length, "head_per_length") else ()
        self.heads = nn.ModuleDict({str(n): deepcopy(vit.head) for n in own_heads})
        if self.embed.dist_token is not None:
            self.head_dist = nn.Linear(vit.embed_dim, vit.num_classes)
            trunc_normal_(self.head_dist.weight, std=0.02)
            nn.init.zeros_(self.head_dist.bias)
        self.assigner = None
        self.points = tuple(Point(n) for n in reversed(self.lengths))
        if assigner is not None:
            self.attach(TLA(len(self.lengths), image_size(vit), assigner))

    @property
    def adaptive(self) -> bool | str:
        """With an assigner a picture's cost depends on its length, which the trace notes as its exit."""
        return "exit" if self.assigner is not None else False

    @property
    def exit_names(self) -> tuple[str, ...]:
        """What the exits in its traces are."""
        return tuple(f"length {n}" for n in reversed(self.lengths)) if self.adaptive else ()

    def check_knobs(self, norm: str, dist_token: str) -> None:
        """Fail at the door: one sentence for each knob that makes no sense."""
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths), reverse=True):
            raise ValueError(f"{LENGTHS_RULE}, not {self.lengths}")
        for name, value, choices in (("norm", norm, ("tal", "shared")), ("dist_token", dist_token, ("none", "deit"))):
            one_of(value, name, choices)
        if dist_token == "deit" and self.distillation.lambda_ == 0:
            raise ValueError('dist_token="deit" learns from the teacher alone; give lambda_ above 0, or "none"')

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the DeiT recipe does not decay."""
        ends = ("pos_embed", "cls_token", "dist_token")
        return {name for name, _ in self.named_parameters() if name.endswith(ends) or name.startswith("embed.pos.")}

    def init_from(self, vit: VisionTransformer) -> None:
        """Start every length from one plain backbone's weights, such as DeiT's; ValueError where they do not fit.

        Blocks are taken as they are, LayerNorms and the heads of all lengths copied, positions and patch kernels resampled.
        """
        copy_backbone(vit, self.vit)
        for own in self.heads.values():
            own.load_state_dict(vit.head.state_dict())
        self.embed.init_from(vit)

    def attach(self, assigner: TLA) -> None:
        """Let a trained assigner choose the lengths from now on; it is frozen, and saved with the net."""
        size = image_size(self.vit)
        assigner.check(len(self.lengths), size)
        self.assigner = assigner.to(self.vit.cls_token).requires_grad_(False).train(self.training)
        fixed = tuple(Point(n) for n in reversed(self.lengths))
        picture = self.vit.cls_token.new_zeros(1, 3, size, size)
        self.register_buffer("cost", relative_cost(self, fixed, picture), persistent=False)
        self.points = tuple(Point(None, weight) for weight in COST_WEIGHTS) + fixed
        if hasattr(self, "made"):
            self.made = {**self.made, "knobs": {**self.made["knobs"], "assigner": assigner.architecture}}

    def check(self, point: Point | None) -> Point:
        """The point, None being Point(), which without an assigner is the largest length; ValueError for any other."""
        point = own_point(point, self)
        if point.length is not None and whole(point.length, "length") not in self.lengths:
            raise ValueError(f"length {point.length} was not trained; choose from {self.lengths}")
        real(point.cost_weight, "cost_weight")
        if point.length is None and not self.adaptive:
            if point.cost_weight:
                raise ValueError("cost_weight steers an assigner and this net has none; attach one, or choose a length")
            return Point(self.lengths[0])
        return point

    def run(self, images: Tensor, length: int, trace: Trace | None = None, whole: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """M_li: the tokens [B, T, D] after the last block, only the head's if not `whole`; its queries and keys [B, H, T, d]."""
        extra = self.embed.prefix(length)
        ids = torch.arange(length ** 2, device=images.device).expand(images.shape[0], -1)
        x = self.embed(self.vit, images, length)                           # [B, T, D]
        for layer, block in enumerate(self.vit.blocks):
            some = None if whole else read_after(self.vit, layer, extra)
            q, k, v = qkv(block, x, some)
            x = x[:, :some] + attention(block, q, k, v)
            if trace is not None:
                trace.add(layer, (length, length), ids, q, k, extra=extra)
            x = x + mlp(block, x, norm_of(block.norm2, length ** 2 + extra))
        return x, q, k

    def logits(self, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Tokens -> logits [B, K] of the class token and of the distillation token; without one the same twice."""
        x = norm_of(self.vit.norm, length ** 2 + self.embed.prefix(length))(x)
        head = self.heads[str(length)] if str(length) in self.heads else self.vit.head
        cls, extra = head(self.vit.forward_head(x, pre_logits=True)), self.embed.prefix(length)
        if isinstance(self.vit, LVViT):
            cls = cls + self.vit.best(x[:, extra:])
        if extra == self.vit.num_prefix_tokens:
            return cls, cls
        return cls, self.head_dist(self.vit.head_drop(x[:, self.vit.num_prefix_tokens]))

    def at(self, images: Tensor, length: int, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of one length: the class token's, or the mean of its and the distillation token's."""
        cls, dist = self.logits(self.run(images, length, trace, whole=trace is not None)[0], length)
        return cls if dist is cls else (cls + dist) / 2

    def choose(self, images: Tensor, point: Point) -> Tensor:
        """Which length answers each image, as a position among the ascending lengths: [B]."""
        if point.length is None:
            return choose(self.assigner(images), self.cost, point.cost_weight)
        return torch.full((images.shape[0],), self.lengths[::-1].index(point.length), device=images.device)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]; images of one length run together.

        With an assigner `trace.exit` [B] is the position of the length among the ascending ones.
        """
        if self.training and own_point(point, self).length is None:
            raise ValueError(f"in training mode state a length, such as Point({self.lengths[0]}), or call eval() first")
        point = self.check(point)
        check_images(images, image_size(self.vit), self.vit.cls_token)
        check_trace(trace)
        if point.length is not None and (trace is None or not self.adaptive):   # an assigner's trace notes the length
            return self.at(images, point.length, trace)
        chosen = self.choose(images, point)                                # [B]
        order, sizes = chosen.argsort(stable=True), chosen.bincount(minlength=len(self.lengths)).tolist()
        groups = []
        for stage, (length, rows) in enumerate(zip(reversed(self.lengths), order.split(sizes), strict=True)):
            if len(rows):
                record = None if trace is None else trace.part()
                groups.append(self.at(images[rows], length, record))
                if trace is not None:
                    trace.join(record, stage, rows, len(images))
        if trace is not None:
            trace.exit = chosen
        return torch.cat(groups)[order.argsort()]

    def outcomes(self, images: Tensor) -> tuple[list[Tensor], Callable[[Point], Tensor]]:
        """Logits [B, K] of every length, ascending, and a function: which one answers each image [B] at a point."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        said = self.assigner(images)

        def which(point: Point) -> Tensor:
            point = self.check(point)
            return choose(said, self.cost, point.cost_weight) if point.length is None else self.choose(images, point)

        return [self.at(images, length) for length in reversed(self.lengths)], which

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Images -> logits [B, K] of one length, a position among the ascending ones: nobody chooses."""
        return partial(self.at, length=self.lengths[::-1][stages[0]])

    def answer(self, images: Tensor, length: int) -> dict[str, Tensor]:
        """One pass, as `SelfDistillation` wants it."""
        x, q, k = self.run(images, length, whole=bool(self.distillation.w_feat or self.distillation.w_attn))
        extra, (cls, dist) = self.embed.prefix(length), self.logits(x, length)
        said = {"logits": cls, "dist": dist}
        if self.distillation.w_feat:
            said["features"] = x[:, extra:].mT.unflatten(2, (length, length))
        if self.distillation.w_attn:
            said["attention"] = cls_attention(q, k).mean(1)[:, extra:].unflatten(1, (length, length))
        return said

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None, *,
               lengths: Sequence[int] | None = None,
               exchange: Callable[[dict | None], dict] = serial) -> Iterator[dict[str, Tensor]]:
        """Algorithm 1, the largest length first; it is the teacher, another one is not looked at.

        lengths: only these (None: all).  exchange: called once, with what the largest length taught, or None where it
        did not run; gives what the shorter ones learn from.
        """
        check_images(images, image_size(self.vit), self.vit.cls_token)
        lesson = None
        for length in lengths or self.lengths:
            said = self.answer(images, length)
            if length == self.lengths[0]:
                lesson = exchange({name: value.detach() for name, value in said.items() if name != "dist"})
                yield {f"ce_{length}": cross_entropy(said["logits"], labels)}
            else:
                lesson = lesson or exchange(None)
                terms = self.distillation.terms(said, lesson, labels)
                yield {f"{name}_{length}": term for name, term in terms.items()}


PAPER = {"dist_token": "deit", "w_feat": 1.0, "w_attn": 1.0}    # knobs: what Secs. 3.2 and 4 add to Eq. 1 in words
RECIPE = Recipe(epochs=300, batch=1024, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), warmup=5 / 300, min_lr=1e-5,
                mixup=0.8, cutmix=1.0, label_smoothing=0.1, ema=0.99996)    # DeiT's (Sec. 4); give create drop_path=0.1
