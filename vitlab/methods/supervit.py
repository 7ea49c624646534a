"""SuperViT, Lin et al., IJCV 2023 (arXiv 2205.11397): one ViT trained at every sequence length and keep rate.

An image is resized so that one shared patch embedding cuts it into length x length patches; at three blocks the patches that
the class token attends to least are dropped for good. Every (length, keep) pair is a sub-net of the same weights.

paper -> here:  P_g = 224 / length · eta = keep · a_cls = cls_attention · E_pos,g = position table of a length.
Where paper and official code differ we follow the code (its counts make the paper's FLOPs table):
  * tokens kept = ceil(keep * tokens), the class token counted (`count_cls=False`: patches only);
  * the whole image is resized, bilinear with aligned corners (`align="patch"`: each patch on its own, as the text says);
  * an LV-ViT's second head counts a quarter, where LV-ViT's own answer has a half of it.
Departures from both: positions and class token are not weight-decayed (the code means to, but misses the names); position
tables of shorter lengths start as the backbone's own table resampled (`resample=False`: each drawn anew, as in the code);
sub-nets are drawn from torch's seeded generator, not from an unseeded one; what the sub-nets of one length have in common, the
blocks before the first drop, is computed once in a step, so that they share its dropped paths and, in an LV-ViT's stem, one
update of its running means (`share_prefix=False`: each on its own, as in the code); for backbones of other depths than those in
`DROP_BLOCKS` the drop blocks stand at the same fractions of the depth, and for other grids than 14 the lengths at the same
fractions of the grid; every pass of an LV-ViT learns by its whole answer (in the code by the class token's part, but for the
first, which has the losses that `vitlab.backbones.lvvit` leaves out).
"""
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from math import ceil
from operator import attrgetter

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitlab.backbones import (
    LVViT,
    check_backbone,
    check_images,
    check_stem,
    embed,
    grid,
    head,
    image_size,
    read_after,
    resample_positions,
    tokens,
)
from vitlab.block import attention, cls_attention, mlp, qkv
from vitlab.forced import Orders
from vitlab.losses import cross_entropy, kl
from vitlab.method import own_point
from vitlab.numbers import flag, plain, several, whole, wholes
from vitlab.recipe import Recipe
from vitlab.tokens import take
from vitlab.trace import Judged, Trace, check_trace
from vitlab.words import one_of


@dataclass(frozen=True)
class Point:
    """One of the operating points of Table 1."""

    length: int | None = None   # patches per side; None: the largest
    keep: float = 1.0           # share of the tokens kept at every drop block

    def __post_init__(self):
        object.__setattr__(self, "length", plain(self.length))
        object.__setattr__(self, "keep", plain(self.keep))


def resize(images: Tensor, size: int, *, mode: str = "bilinear", align_corners: bool = True) -> Tensor:
    """The whole picture to size x size pixels (the official code): [B, 3, S, S] -> [B, 3, size, size]."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode=mode, align_corners=align_corners)


def resize_patches(images: Tensor, size: int, *, patch: int, mode: str = "bilinear") -> Tensor:
    """Every patch of the picture to patch x patch pixels on its own (Sec. 3.2.1): [B, 3, S, S] -> [B, 3, size, size]."""
    length, pixels = size // patch, images.shape[-1]
    if pixels % length:
        raise ValueError(f'{length} patches do not divide {pixels} pixels; use align="image_ac" or "image" for this length')
    step = pixels // length
    cut = images.unfold(2, step, step).unfold(3, step, step)               # [B, 3, n, n, step, step]
    small = F.interpolate(cut.flatten(0, 1).flatten(0, 2)[:, None], (patch, patch), mode=mode)
    rows = small.view(*cut.shape[:4], patch, patch).transpose(3, 4)        # [B, 3, n, patch, n, patch]
    return rows.reshape(*images.shape[:2], size, size)


ALIGN = {
    "image_ac": resize,
    "image": partial(resize, align_corners=False),
    "patch": resize_patches,
}


def lowest(score: Tensor, count: int) -> Tensor:
    """The method: keep the `count` patches with the highest score, so the least attended go. [B, N] -> [B, count]."""
    return score.topk(count, sorted=False).indices


def highest(score: Tensor, count: int) -> Tensor:
    """For comparison: drop the most attended."""
    return score.topk(count, largest=False, sorted=False).indices


def random(score: Tensor, count: int) -> Tensor:
    """For comparison: drop at random."""
    return torch.rand_like(score).topk(count, sorted=False).indices


def four_to_one(score: Tensor, count: int) -> Tensor:
    """Table 5: of the dropped tokens, a fifth are the most attended and the rest the least attended."""
    top = round(0.2 * (score.shape[1] - count))
    return score.topk(top + count).indices[:, top:]


TOKEN_TYPES = {"low": lowest, "80_20": four_to_one, "random": random, "high": highest}


LENGTHS_RULE = "lengths must be ascending whole numbers of patches per side, such as (8, 10, 12, 14)"
RATES_RULE = "rates must be different numbers in (0, 1], such as (0.5, 0.7, 1.0)"


DROP_BLOCKS = dict.fromkeys((12, 16, 20), (4, 7, 10))        # Sec. 4.1: the same for DeiT and LV-ViT, however deep
AUX_WEIGHT = 0.25                                           # of an LV-ViT's second head: half of LV-ViT's own, as in the code


class SuperViT(nn.Module):
    """One ViT for every pair of `lengths` and `rates`.

    vit: a timm VisionTransformer with a class token, made for square images.
    lengths: patches per side, ascending (None: 8, 10, 12, 14, scaled to the backbone's grid).
    rates: keep rates, each in (0, 1].  drop_blocks: 1-based, as in the paper (None: `DROP_BLOCKS`, else the same
    fractions of the depth as 4, 7, 10 of 12).
    subnets: "four" per step (Sec. 3.3) or "all".  objective: "ce_kl" (Eq. 10) or "ce" (Fig. 4b).
    token_type: which tokens go, "low" (the method), "80_20" (Table 5), "random" or "high".
    align, mode: how the picture is resized (Table 8).  embedding: "shared" or "individual" patch embeddings (Table 8).
    share_prefix: a step computes the blocks before the first drop once for each length: faster, and larger in memory.
    Only sizes, only rates (Fig. 4a) and individually trained sub-nets (Table 3) are `rates=(1.0,)`, `lengths=(14,)` and
    one value of each. Raises ValueError for a knob that makes no sense.
    """

    Point = Point
    adaptive = False
    forced: Orders | None = None            # see `vitlab.Forced`

    def __init__(self, vit: VisionTransformer, lengths: tuple[int, ...] | None = None, rates: tuple[float, ...] = (0.5, 0.7, 1.0),
                 drop_blocks: tuple[int, ...] | None = None, *, subnets: str = "four", objective: str = "ce_kl",
                 token_type: str = "low", count_cls: bool = True, align: str = "image_ac", mode: str = "bilinear",
                 embedding: str = "shared", resample: bool = True, share_prefix: bool = True):
        super().__init__()
        check_backbone(vit)
        self.vit, side, depth = vit, grid(vit), len(vit.blocks)
        self.lengths = tuple(sorted({max(round(n * side / 14), 1) for n in (8, 10, 12, 14)})) if lengths is None else (
            wholes(lengths, LENGTHS_RULE))
        self.rates = tuple(sorted(several(rates, RATES_RULE)))
        scaled = DROP_BLOCKS.get(depth) or tuple(sorted({n * depth // 4 + 1 for n in (1, 2, 3)}))
        self.drop_blocks = scaled if drop_blocks is None else (
            wholes(drop_blocks, f"drop_blocks must be ascending block numbers from 1 to {depth}"))
        self.subnets, self.objective, self.token_type, self.embedding = subnets, objective, token_type, embedding
        self.align, self.mode, self.count_cls = align, mode, flag(count_cls, "count_cls")
        self.share_prefix = flag(share_prefix, "share_prefix")
        self.check_knobs()
        if isinstance(vit, LVViT):
            vit.aux_weight = AUX_WEIGHT
        self.points = tuple(Point(n, r) for n in self.lengths for r in self.rates)
        self.make_positions(flag(resample, "resample"))
        self.patch_embeds = nn.ModuleDict(
            {str(n): self.own_embedding(n) for n in self.lengths if embedding == "individual" and n != side})
        if self.patch_embeds and getattr(vit, "made", {}).get("pretrained"):
            warnings.warn('the pretrained patch embedding serves the largest length alone: with embedding="individual" those of '
                          'the others start anew; use embedding="shared" to keep it', stacklevel=3)
        vit.patch_embed.strict_img_size = False                            # the stem sees every length's size
        for n in self.lengths:
            own = str(n) in self.patch_embeds
            check_stem(self.patch_embeds[str(n)] if own else vit.patch_embed, vit.cls_token,
                       image_size(vit) if own else self.pixels(n), n)

    def check_knobs(self) -> None:
        """Fail at the door: one sentence for each knob that makes no sense."""
        depth, blocks = len(self.vit.blocks), self.drop_blocks
        if not self.lengths or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"{LENGTHS_RULE}, not {self.lengths}")
        if not self.rates or len(set(self.rates)) != len(self.rates) or not all(0 < r <= 1 for r in self.rates):
            raise ValueError(f"{RATES_RULE}, not {self.rates}")
        if not blocks or list(blocks) != sorted(set(blocks)) or blocks[-1] > depth:
            raise ValueError(f"drop_blocks must be ascending block numbers from 1 to {depth}, not {blocks}")
        for name, value, choices in (
            ("subnets", self.subnets, ("four", "all")), ("objective", self.objective, ("ce_kl", "ce")),
            ("token_type", self.token_type, TOKEN_TYPES), ("align", self.align, ALIGN),
            ("mode", self.mode, ("bilinear", "bicubic")), ("embedding", self.embedding, ("shared", "individual")),
        ):
            one_of(value, name, choices)
        if self.align == "patch" and (bad := [n for n in self.lengths if image_size(self.vit) % n]):
            raise ValueError(f'align="patch" needs lengths that divide {image_size(self.vit)} pixels, {bad} do not; '
                             'use align="image_ac"')

    def make_positions(self, resample: bool) -> None:
        """One position table per length (Eq. 7); the largest stays where timm has it, so its weights load unchanged."""
        tables = {n: resample_positions(self.vit, n) for n in self.lengths}
        if not resample:
            tables = {n: t if n == grid(self.vit) else trunc_normal_(torch.empty_like(t), std=0.02) for n, t in tables.items()}
        self.vit.pos_embed = nn.Parameter(tables.pop(self.lengths[-1]).clone())
        self.pos = nn.ParameterDict({str(n): nn.Parameter(t) for n, t in tables.items()})

    def own_embedding(self, length: int) -> nn.Module:
        """A patch embedding of its own for one length (Table 8): kernel = stride = floor(S / length), no padding."""
        step = image_size(self.vit) // length
        return nn.Conv2d(3, self.vit.embed_dim, step, step)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the DeiT recipe does not decay."""
        return {"vit.pos_embed", "vit.cls_token"} | {f"pos.{n}" for n in self.pos}

    def check(self, point: Point | None) -> Point:
        """The point, the largest length for None; ValueError for a length that was not trained or a keep rate outside (0, 1]."""
        point = own_point(point, self)
        length = self.lengths[-1] if point.length is None else whole(point.length, "length")
        if length not in self.lengths:
            raise ValueError(f"length {length} was not trained; choose from {self.lengths}")
        if type(point.keep) not in (int, float) or not 0 < point.keep <= 1:
            raise ValueError(f"keep must be in (0, 1], not {point.keep!r}; 1.0 keeps every token")
        return Point(length, point.keep)

    def schedule(self, point: Point) -> dict[int, int]:
        """Drop block (0-based) -> number of patches kept there; plain numbers, known before the pass (Sec. 3.2.2)."""
        point, kept = self.check(point), {}
        patches = point.length ** 2
        for block in self.drop_blocks if point.keep < 1 or self.forced else ():
            patches = min(ceil(round(point.keep * (patches + self.count_cls), 9)), patches)
            kept[block - 1] = patches
        return kept

    def patchify(self, images: Tensor, length: int) -> Tensor:
        """Images [B, 3, S, S] -> tokens [B, P + length², D], positions added."""
        positions = self.pos[str(length)] if str(length) in self.pos else self.vit.pos_embed
        if str(length) in self.patch_embeds:
            return tokens(self.vit, self.patch_embeds[str(length)](images).flatten(2).mT, positions)
        extra = {"patch": image_size(self.vit) // grid(self.vit)} if self.align == "patch" else {}
        small = ALIGN[self.align](images, self.pixels(length), mode=self.mode, **extra)
        return embed(self.vit, small, positions)

    def pixels(self, length: int) -> int:
        """Pixels per side to which the picture is resized for a length; on the backbone's own grid it stays as it is."""
        size, side = image_size(self.vit), grid(self.vit)
        return size if length == side else length * (size // side)

    def forward(self, images: Tensor, point: Point | None = None, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S] at one operating point; dropped tokens are really gone."""
        point = self.check(point)
        check_images(images, image_size(self.vit), self.vit.cls_token)
        check_trace(trace)
        return self.run(self.patchify(images, point.length), self.numbers(images, point.length), point, trace=trace)

    def run(self, x: Tensor, ids: Tensor, point: Point, first: int = 0, trace: Trace | None = None) -> Tensor:
        """Logits [B, K] of the tokens [B, P + n, D] that come to block `first`, 0-based; ids [B, n]: their patches."""
        length, extra, kept = point.length, self.vit.num_prefix_tokens, self.schedule(point)
        for layer, block in enumerate(self.vit.blocks[first:], first):
            some = None if trace is not None else read_after(self.vit, layer)
            q, k, v = qkv(block, x, some)
            x = x[:, :some] + attention(block, q, k, v)
            here, score = ids, None
            if layer in kept and some is None:
                score = self.score(q, k)
                x, ids = self.drop(x, ids, score, kept[layer], length)
            if trace is not None:
                judged = self.judged(score, here, kept.get(layer))
                trace.add(layer, (length, length), here, q, k, fed=ids, extra=extra, judged=judged)
            x = x + mlp(block, x)
        return head(self.vit, x)

    def numbers(self, images: Tensor, length: int) -> Tensor:
        """The patches, row by row: [B, length²]."""
        return torch.arange(length ** 2, device=images.device).expand(images.shape[0], -1)

    def score(self, q: Tensor, k: Tensor) -> Tensor:
        """Eq. 5: what the class token looks at, mean over heads, [B, n]."""
        return cls_attention(q, k).mean(1)[:, self.vit.num_prefix_tokens:]

    def drop(self, x: Tensor, ids: Tensor, score: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
        """The tokens that stay, prefix first, [B, P + count, D], and their numbers [B, count]."""
        choose, extra = TOKEN_TYPES[self.token_type], self.vit.num_prefix_tokens
        top = choose(score, count) if self.forced is None else self.forced.pick(choose, score, count, ids, length)
        prefix = torch.arange(extra, device=x.device).expand(x.shape[0], -1)
        return take(x, torch.cat([prefix, top + extra], 1)), take(ids, top)

    def judged(self, score: Tensor | None, ids: Tensor, count: int | None) -> Judged | None:
        """What a trace is told of a drop: None where there was none, and where others than the least attended go."""
        if score is None or self.token_type != "low":
            return None
        return Judged("the class token's attention", score, ids, stay=count)

    def together(self, images: Tensor, points: Sequence[Point | None]) -> Iterator[Tensor]:
        """Logits [B, K] at each of the points; what one length has in common, up to the first drop, is computed once."""
        check_images(images, image_size(self.vit), self.vit.cls_token)
        first = min(self.drop_blocks[0], len(self.vit.blocks) - 1) - 1
        block = self.vit.blocks[first]
        for length, same in groupby(map(self.check, points), attrgetter("length")):
            x, ids = self.vit.blocks[:first](self.patchify(images, length)), self.numbers(images, length)
            q, k, v = qkv(block, x)
            x = x + attention(block, q, k, v)
            for point in same:
                kept = self.schedule(point).get(first)
                y, there = (x, ids) if kept is None else self.drop(x, ids, self.score(q, k), kept, length)
                yield self.run(y + mlp(block, y), there, point, first + 1)

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """Eq. 10: CE at full keeping, KL to the same length's full keeping below it.

        With `share_prefix` the sub-nets of a length are one graph and their terms one dict, those of the same name added up.
        """
        for length, rates in self.passes():
            terms = self.terms(images, labels, [Point(length, rate) for rate in rates])
            if self.share_prefix:
                yield summed(terms)
            else:
                yield from ({name: term} for name, term in terms)

    def terms(self, images: Tensor, labels: Tensor, points: Sequence[Point]) -> Iterator[tuple[str, Tensor]]:
        """The losses of one length's sub-nets, by name, full keeping first."""
        full, length = None, points[0].length
        for logits in self.together(images, points) if self.share_prefix else map(partial(self, images), points):
            if full is None or self.objective == "ce":
                yield f"ce_{length}", cross_entropy(logits, labels)
            else:
                yield f"kl_{length}", kl(logits, full)
            full = logits if full is None else full

    def passes(self) -> list[tuple[int, tuple[float, ...]]]:
        """The sub-nets of one step: (length, keep rates from full downwards).

        "four": the largest length and one other drawn at random, each at full keeping and at one drawn lower rate.
        """
        *lower, full = self.rates
        if self.subnets == "all":
            return [(n, (full, *reversed(lower))) for n in reversed(self.lengths)]
        *smaller, largest = self.lengths
        lengths = [largest] + ([smaller[int(torch.randint(len(smaller), ()))]] if smaller else [])
        return [(n, (full, lower[int(torch.randint(len(lower), ()))]) if lower else (full,)) for n in lengths]


def summed(terms: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Losses by name, those of one name added up."""
    total: dict[str, Tensor] = {}
    for name, term in terms:
        total[name] = total[name] + term if name in total else term
    return total


RECIPE = Recipe(epochs=300, batch=1024, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), warmup=5 / 300, min_lr=1e-5,
                mixup=0.8, cutmix=1.0, label_smoothing=0.1, ema=0.99996)   # Sec. 4.1: DeiT's recipe; drop_path=0.1 goes to create
