"""DVT, Wang et al., NeurIPS 2021 (arXiv 2105.15075): a cascade of ViTs with more and more tokens, left as soon as one is sure.

Each stage is a net of its own on a finer patch grid. It reuses what the stage before it found: features, concatenated to the
input of every MLP, and relations, attention logits added to its own. An image that is confident leaves; its rows are gone.

paper -> here:  z_up = Reuse.features · A_up = Reuse.relations · f_l, E_l = Context · r_l = Relations · eta = thresholds.
Where paper and official code differ we follow the code (its counts make the paper's FLOPs table):
  * grids whose patches do not divide the picture are padded with zeros (10x10: patches of 23 pixels, padding 3);
  * logits are handed on with what was added to them, and gradients flow from a stage into the one before (`detach=True`: not);
  * upsampling is nearest to twice the upstream grid, then average pooling: two taps per axis, never bilinear.
Departures from both: rows really leave the batch (the code runs every stage and simulates exits afterwards); thresholds come
from `vitlab.budget`; the widened layers start as the backbone's own in the columns that were there; for narrower nets than
T2T-ViT-12 the context's 128 and 48 shrink with the width; for other grids than 14 the grids stand at the same fractions; class
tokens and positions are not weight-decayed (the code's list of them misses the names inside a cascade); the cosine of the
schedule runs over all 310 epochs (the code's over 300, then ten at the lowest rate); where fewer images are left than the
geometric rule means to let go, all of them leave (in the code none does).
The context of the last block of the last stage reaches patches that nobody reads: the paper counts it, and so do we, but it is
not computed (see `backbones.reading`).
"""
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab import cascade
from vitlab.backbones import check_backbone, check_images, embed, grid, head, image_size, read_after, sibling
from vitlab.block import mlp, qkv
from vitlab.cascade import CRITERIA, Point
from vitlab.losses import cross_entropy
from vitlab.method import own_point
from vitlab.methods.dvt.enlarge import Enlarge, Naive
from vitlab.methods.dvt.related import Handed, related
from vitlab.methods.dvt.reuse import Context, Relations, Reuse, check_widen, layers_of, start, widen
from vitlab.numbers import flag, plain, whole, wholes
from vitlab.pieces import at_once, in_pieces, watched
from vitlab.recipe import Recipe
from vitlab.trace import Trace
from vitlab.words import one_of


class Stage(nn.Module):
    """One Transformer of the cascade.

    hands_on: the blocks whose logits the next stage wants; layerwise: it wants every block's features, not the last one's;
    final: there is no next stage.
    """

    def __init__(self, vit: VisionTransformer, context: Context | None = None, relations: Relations | None = None,
                 hands_on: Sequence[int] = (), layerwise: bool = False, final: bool = False):
        super().__init__()
        self.vit, self.context, self.relations = vit, context, relations
        self.hands_on, self.layerwise, self.final = frozenset(hands_on), layerwise, final
        for layer in () if context is None else map(int, context.nets):
            widen(vit.blocks[layer], context.nets[str(layer)][-1].out_features)

    def forward(self, images: Tensor, up: Reuse | None, trace: Trace | None = None) -> tuple[Tensor, Reuse]:
        """Logits [b, K] of images [b, 3, S, S] and what the next stage may reuse (Eqs. 5 and 9)."""
        side, extra = grid(self.vit), self.vit.num_prefix_tokens
        ids = torch.arange(side * side, device=images.device).expand(images.shape[0], -1)
        low = None if self.relations is None else self.relations(up.relations)
        features, handed = [], Handed(len(self.hands_on))
        x = embed(self.vit, images)                                        # [b, P + N, D]
        for layer, block in enumerate(self.vit.blocks):
            some = read_after(self.vit, layer) if self.final and trace is None else None
            q, k, v = qkv(block, x, some)
            bias = None if low is None else self.relations.bias(layer, low, some)
            x = x[:, :some] + related(block, q, k, v, bias, handed if layer in self.hands_on else None)
            if trace is not None:
                trace.add(layer, (side, side), ids, q, k, extra=extra, mask=bias and bias())
            if self.context is not None and str(layer) in self.context.nets:
                x = x + mlp(block, torch.cat([x, self.context(layer, up.features, some)], -1))
            else:
                x = x + mlp(block, x)
            features.append(x)
        return head(self.vit, x), Reuse(features if self.layerwise else features[-1:], handed.all())


ROOM = 96 * 2 ** 20     # bytes of relations at a time: with more of them a CPU waits for memory
GRIDS_RULE = "grids must be at least two ascending numbers of patches per side, such as (7, 10, 14)"


class DVT(nn.Module):
    """The cascade on any backbone that `backbones.create` makes.

    vit: the net of the last stage, or of its kind.  grids: patches per side of each stage, ascending (None: 7, 10, 14, scaled).
    features, relations: reuse them or not (Table 6).  feature_layers: "all", "first", "shallow", "deep" (Tables 7, 11).
    feature_source: "final" or "layerwise"; reuse_cls, feature_norm (Table 7).  relation_source: "all", "same", "final",
    "shallow", "deep" upstream blocks (Tables 8, 13); relation_layers: "all", "shallow", "deep" downstream (Table 12);
    relation_net: "mlp" or "linear"; upsample: "grid", "naive" (Table 8), or "official", the slow twin of "grid".
    criterion: what makes an exit sure, "confidence", "entropy" or "random" (Table 9).  reuse_hidden, reuse_dim: 128 and 48.
    zero_relations: the relation MLP starts silent.  thresholds: operating points (see `set_thresholds`); training does not look
    at them.
    Raises ValueError for a knob that makes no sense.
    """

    Point = Point
    FREE_KNOBS = ("thresholds",)                          # no weight depends on them
    adaptive = "exit"

    def __init__(self, vit: VisionTransformer, grids: tuple[int, ...] | None = None, features: bool = True,
                 relations: bool = True, *, feature_layers: str = "all", feature_source: str = "final", reuse_cls: bool = False,
                 feature_norm: bool = True, relation_source: str = "all", relation_layers: str = "all",
                 relation_net: str = "mlp", upsample: str = "grid", criterion: str = "confidence", detach: bool = False,
                 zero_relations: bool = False, reuse_hidden: int | None = None, reuse_dim: int | None = None,
                 thresholds: Sequence[Sequence[float]] | None = None):
        super().__init__()
        check_backbone(vit)
        features, relations, reuse_cls = flag(features, "features"), flag(relations, "relations"), flag(reuse_cls, "reuse_cls")
        feature_norm, zero_relations = flag(feature_norm, "feature_norm"), flag(zero_relations, "zero_relations")
        if features:
            check_widen(vit)
        self.grids = tuple(sorted({max(round(n * grid(vit) / 14), 1) for n in (7, 10, 14)})) if grids is None else (
            wholes(grids, GRIDS_RULE))
        self.criterion, self.detach = criterion, flag(detach, "detach")
        self.check_knobs(feature_layers, feature_source, relation_source, relation_layers, relation_net, upsample)
        depth, heads, width = len(vit.blocks), vit.blocks[0].attn.num_heads, vit.embed_dim
        hidden = min(128, width // 2) if reuse_hidden is None else whole(reuse_hidden, "reuse_hidden")
        out = min(48, 3 * width // 16) if reuse_dim is None else whole(reuse_dim, "reuse_dim")
        enlarge = Naive if upsample == "naive" else partial(Enlarge, how=upsample)
        stages = []
        for number, side in enumerate(self.grids):
            net = vit if side == grid(vit) else sibling(vit, side)
            finer = number and enlarge(self.grids[number - 1], side, net.num_prefix_tokens)
            stages.append(Stage(
                net,
                Context(width, hidden, out, layers_of(feature_layers, depth), finer, norm=feature_norm, reuse_cls=reuse_cls)
                if number and features else None,
                Relations(heads, depth, relation_source, layers_of(relation_layers, depth), relation_net, finer, zero_relations)
                if number and relations else None,
                layers_of(relation_source, depth) if relations and side != self.grids[-1] else (),
                feature_source == "layerwise", final=side == self.grids[-1]))
        self.stages = nn.ModuleList(stages)
        self.set_thresholds(thresholds)

    def check_knobs(self, feature_layers, feature_source, relation_source, relation_layers, relation_net, upsample) -> None:
        """Fail at the door: one sentence for each knob that makes no sense."""
        if len(self.grids) < 2 or list(self.grids) != sorted(set(self.grids)):
            raise ValueError(f"{GRIDS_RULE}, not {self.grids}")
        for name, value, choices in (
            ("feature_layers", feature_layers, ("all", "first", "shallow", "deep")),
            ("feature_source", feature_source, ("final", "layerwise")),
            ("relation_source", relation_source, ("all", "same", "final", "shallow", "deep")),
            ("relation_layers", relation_layers, ("all", "shallow", "deep")), ("relation_net", relation_net, ("mlp", "linear")),
            ("upsample", upsample, ("grid", "official", "naive")), ("criterion", self.criterion, CRITERIA),
        ):
            one_of(value, name, choices)
        if relation_source == "same" and relation_layers != "all":
            raise ValueError('relation_source="same" pairs every block with its upstream twin; use relation_layers="all"')

    @property
    def vit(self) -> VisionTransformer:
        """The net of the last stage."""
        return self.stages[-1].vit

    def set_thresholds(self, thresholds: Sequence[Sequence[float]] | Sequence[float] | float | None) -> None:
        """The operating points that sweeps and sliders offer, cheapest first; None: one threshold for all exits.

        thresholds: a row of points, each with a threshold for every exit but the last, [(0.4, 0.6), (0.7, 0.9)]. One point may
        stand alone: (0.4, 0.9), or 0.7 for all exits. A cascade of two exits may have a row of numbers, each a point.
        Points that always leave at the first exit and that never leave early are added at the two ends.
        """
        exits, given = len(self.grids), plain(thresholds)
        if not isinstance(given, tuple | None):
            given = (given,)
        elif given and exits > 2 and not any(isinstance(t, tuple) for t in given):
            given = (given,)
        found = [cascade.check(t, exits) for t in (cascade.EVEN if given is None else given)]
        ends = cascade.stop_at(0, exits), cascade.stop_at(exits - 1, exits)
        self.points = tuple(Point(t) for t in dict.fromkeys([ends[0], *(t for t in found if t not in ends), ends[1]]))
        if hasattr(self, "made"):
            self.made["knobs"] = {**self.made["knobs"], "thresholds": tuple(found)}

    def init_from(self, vit: VisionTransformer) -> None:
        """Start every stage from one plain backbone's weights, such as DeiT's; ValueError where they do not fit.

        Positions and patch kernels are resampled to each grid; what a stage reads of the one before stays as it was drawn.
        """
        for stage in self.stages:
            start(stage.vit, vit)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the DeiT recipe does not decay."""
        return {f"stages.{i}.vit.{name}" for i in range(len(self.stages)) for name in ("pos_embed", "cls_token")}

    def check(self, point: Point | None) -> Point:
        """The point with a threshold for each exit but the last; ValueError for another method's or a wrong number of them."""
        return Point(cascade.check(own_point(point, self).thresholds, len(self.stages)))

    def steps(self) -> list[cascade.Stage]:
        """The stages as functions of the pictures and of what the stage before hands on."""
        return [partial(self.step, stage) for stage in self.stages]

    def step(self, stage: Stage, images: Tensor, up: Reuse | None, trace: Trace | None) -> tuple[Tensor, Reuse]:
        """One stage; `detach` cuts the gradient to the one before."""
        return stage(images, up.detach() if up is not None and self.detach else up, trace)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]; None runs every image to the last exit (Sec. 3.3)."""
        thresholds = self.check(point).thresholds
        check_images(images, image_size(self.vit), self.vit.cls_token)
        answer = partial(cascade.run, self.steps(), thresholds=thresholds, trace=trace, criterion=self.criterion)
        if trace is not None or at_once(images) or watched(self):
            return answer(images)
        return in_pieces(answer, images, self.handed(), ROOM)

    def handed(self) -> int:
        """Bytes of the largest relations that a stage hands on of one image."""
        return max(4 * len(stage.hands_on) * stage.vit.blocks[0].attn.num_heads * (
            grid(stage.vit) ** 2 + stage.vit.num_prefix_tokens) ** 2 for stage in self.stages)

    def exits(self, images: Tensor) -> Iterator[Tensor]:
        """Logits [B, K] of every exit, no image leaving."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        return cascade.run_all(self.steps(), images)

    def outcomes(self, images: Tensor) -> tuple[list[Tensor], Callable[[Point], Tensor]]:
        """Logits [B, K] of every exit, no image leaving, and a function: at which one each image [B] leaves at a point."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        logits, which = cascade.outcomes(self.steps(), images, self.criterion)
        return logits, lambda point: which(self.check(point).thresholds)

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Images -> logits [B, K] with the exits switched off: all leave at this one."""
        return partial(cascade.straight, self.steps(), stages[0])

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Eq. 1: cross-entropy at every exit, of equal weight; one graph, because later stages reuse earlier ones."""
        yield {f"ce_{side}": cross_entropy(logits, labels) for side, logits in zip(self.grids, self.exits(images), strict=True)}


RECIPE = Recipe(epochs=310, batch=1024, lr=2e-3, weight_decay=0.03, betas=(0.9, 0.999), warmup=20 / 310, min_lr=1e-5,
                mixup=0.8, cutmix=1.0, label_smoothing=0.1, ema=0.99996)   # the code's for T2T-ViT-12; drop_path=0.1 to create
