"""One selector at work: which patches stay, and what of the others. Three ways, one for each use.

`by_score` lets every image keep what deserves it (tokens packed), `by_count` lets all keep the same number (a row each), and
`by_mask` removes nothing, so that gradients reach the decision (training). Letters: B images · T tokens · N patches · D width.
"""
from collections.abc import Callable
from functools import partial
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from vitlab.forced import Orders
from vitlab.methods.spvit.package import Package
from vitlab.methods.spvit.selector import Others
from vitlab.packed import Even, Packed
from vitlab.tokens import take
from vitlab.trace import Judged

PREFIX, PACKAGE = -2, -1                                # instead of a patch's number

Score = Callable[[Tensor, Others], Tensor]              # tokens [B, n, D], what is known of the others -> keep scores [B, n]


class Tokens(NamedTuple):
    """The tokens at one depth: x [B, T, D], or [1, T, D] packed; ids of the same first axes, patch numbers or the two above."""

    x: Tensor
    ids: Tensor
    rows: Even | Packed
    packages: int = 0                   # how many each image ends with, where all have the same number
    folded: Callable[[int], Tensor] | None = None       # N -> [B, N], what each patch counted in the package just made
    left: Tensor | None = None          # all patches as they were when last looked at, [B, N, D]; None where none are pooled
    worth: Tensor | None = None         # the scores of the patches that stayed, [B, n], where all images keep the same number
    patches: int = 0                    # how many there are on this grid, dropped ones too
    forced: Orders | None = None        # what a person says of them
    judged: Callable[[str], Judged] | None = None       # its name -> the score by which the selector before this block chose

    def seen(self) -> Tensor | None:
        """All patches [B, N, D]: those that are there as they are, the others as they were when they were dropped."""
        return None if self.left is None else self.by_patch(self.x, self.left.to(self.x.dtype))

    def by_patch(self, values: Tensor, room: Tensor) -> Tensor:
        """The tokens' values, shaped as the ids, further axes behind, at their patches in a copy of room [B, N, ...]."""
        batch, count = room.shape[:2]
        image = torch.arange(batch, device=room.device)[:, None] if isinstance(self.rows, Even) else self.rows.image[None]
        index = (image * count + self.ids).where(self.ids >= 0, batch * count)     # what is no patch goes to a spare place
        flat = room.flatten(0, 1)
        return torch.cat([flat, flat[:1]]).index_copy(0, index.flatten(), values.flatten(0, 1))[:-1].unflatten(0, (batch, count))

    def padded(self) -> tuple[Tensor, Tensor, Tensor]:
        """A row per image: x [B, n, D], ids [B, n], and which of these tokens there are, bool [B, n]."""
        if isinstance(self.rows, Even):
            return self.x, self.ids, torch.ones_like(self.ids, dtype=torch.bool)
        x, there = self.rows.padded(self.x)
        return x, self.rows.padded(self.ids, PACKAGE)[0], there


class Veiled(NamedTuple):
    """Tokens of which none is removed: x [B, P + N + packages, D], which patches are alive [B, N], packages filled, 0 or 1."""

    x: Tensor
    alive: Tensor
    filled: Tensor                      # [B, packages]
    left: Tensor | None = None          # as above

    def seen(self, prefix: int) -> Tensor | None:
        """As above; the decision to drop a patch learns from how much further it would have come."""
        if self.left is None:
            return None
        now = self.x[:, prefix:prefix + self.alive.shape[1]]
        alive = self.alive[..., None].to(now.dtype)
        return alive * now + (1 - alive) * self.left


def by_count(t: Tokens, score: Score, count: int, prefix: int, package: Package) -> Tokens:
    """The `count` patches of highest score stay in every image; their number is known before, so it can be exported."""
    body, ids = t.x[:, prefix:], t.ids[:, prefix:]
    patches = body.shape[1] - t.packages
    value = score(body, Others(t.rows.mean, partial(beside, ids, t.rows, t.patches)))[:, :patches]     # [B, n]
    top = highest(value, count) if t.forced is None else t.forced.pick(highest, value, count, ids[:, :patches], isqrt(t.patches))
    if t.forced is not None and top.shape[1] == patches:
        return t                                                           # a person may have left the selector nothing to drop
    weight = package.weights(value, torch.ones_like(value).scatter(1, top, 0.0))
    x, kept = [t.x[:, :prefix], take(body, top), body[:, patches:]], [t.ids[:, :prefix], take(ids, top), ids[:, patches:]]
    if package.made:
        new = package.folded((body[:, :patches] * weight[..., None]).sum(1), weight.sum(1))[:, None].to(body.dtype)
        if package.merge and t.packages:
            x[2] = x[2] + new
        else:
            x, kept = [*x, new], [*kept, torch.full_like(ids[:, :1], PACKAGE)]
    kept = torch.cat(kept, 1)
    return t._replace(x=torch.cat(x, 1), ids=kept, packages=kept.shape[1] - prefix - top.shape[1], left=t.seen(),
                      folded=partial(spread, ids[:, :patches], weight), worth=value.gather(1, top),
                      judged=partial(Judged, score=value, ids=ids[:, :patches], stay=count))


def highest(score: Tensor, count: int) -> Tensor:
    """Positions of the `count` highest scores, [B, n] -> [B, count]."""
    return score.topk(count, sorted=False).indices


def by_score(t: Tokens, score: Score, factor: float, prefix: int, package: Package) -> Tokens:
    """As many patches of each image stay as its scores add up to, times a factor: the best ones, and at least one."""
    if isinstance(t.rows, Even):                                           # the first selector: images begin to differ
        rows = Packed([t.x.shape[1]] * len(t.x), t.x.device)
        t = t._replace(x=t.x.flatten(0, 1)[None], ids=t.ids.flatten()[None], rows=rows)
    x, ids, owner = t.x[0], t.ids[0], t.rows.image
    inner = Packed([n - prefix for n in t.rows.lengths], x.device)         # without the prefix tokens
    body = torch.arange(len(inner.image), device=x.device) + prefix * (inner.image + 1)
    others = Others(inner.mean, partial(beside, ids[None, body], inner, t.patches))
    value, patch = score(x[None, body], others)[0], ids[body] >= 0
    count = deserved(inner.sum((value * patch)[None]), factor)
    ranks = inner.rank(value.where(patch, float("-inf"))[None])[0]
    stays = ranks < count[inner.image]
    if t.forced is not None:
        stays = t.forced.over(stays, ids[body], isqrt(t.patches), inner.image, len(inner.lengths))
    stays = stays | ~patch
    weight = package.weights(value, (~stays).to(value.dtype))
    there = torch.ones_like(ids, dtype=torch.bool).index_copy(0, body, stays)
    lengths = t.rows.sum(there[None].long())
    if package.made:
        total = inner.sum((x[body] * weight[:, None])[None])
        new = package.folded(total, inner.sum(weight[None])).to(x.dtype)   # [B, D]
        filled = inner.sum((~stays)[None].long()) > 0
        if package.merge:
            x = x + (ids == PACKAGE)[:, None] * new[owner]
            filled = filled & (t.rows.sum((ids == PACKAGE)[None].long()) == 0)
        x, ids = torch.cat([x, new]), torch.cat([ids, torch.full_like(ids[:len(new)], PACKAGE)])
        owner, there = torch.cat([owner, torch.arange(len(new), device=x.device)]), torch.cat([there, filled])
        lengths = lengths + filled
    lengths = lengths.tolist()                                             # waits for the device, once a selector
    order = owner.where(there, len(lengths)).argsort(stable=True)[:sum(lengths)]     # each image's package behind its patches
    return t._replace(x=x[None, order], ids=ids[None, order], rows=Packed(lengths, x.device), left=t.seen(),
                      folded=partial(unpacked, inner, t.ids[:, body], weight[None]),
                      judged=partial(ragged, inner, t.ids[:, body], value[None], count))


def deserved(total: Tensor, factor: float) -> Tensor:
    """How many patches an image keeps whose scores add up to `total` [B]: what drawing keeps on average, times the factor."""
    return (factor * total).round().clamp(min=1)


def best(score: Tensor, alive: Tensor, factor: float) -> Tensor:
    """Who stays, as `by_score` decides for packed tokens: scores [B, N] and who is alive -> 0 or 1."""
    ranks = score.where(alive > 0, float("-inf")).argsort(dim=1, descending=True, stable=True).argsort(1)
    return (ranks < deserved((score * alive).sum(1), factor)[:, None]).to(alive.dtype) * alive


def by_mask(t: Veiled, score: Score, decide: Callable[[Tensor, Tensor], Tensor], prefix: int, package: Package) -> Veiled:
    """Nothing is removed; what is dropped is no longer alive, and there is a package more, or more in it.

    decide: scores [B, N] and who is alive -> who stays, 0 or 1.
    """
    x, alive, filled = t.x, t.alive, t.filled
    body, count = x[:, prefix:], alive.shape[1]
    there = torch.cat([alive, filled], 1)
    places = torch.arange(body.shape[1], device=x.device)
    places = places.where(places < count, PACKAGE).expand(len(x), -1)
    value = score(body, Others(partial(Even().mean, weight=there), partial(beside, places, Even(), count, there=there)))
    keep = decide(value[:, :count], alive) * alive
    weight = package.weights(value[:, :count], alive - keep)
    if package.made:
        new = package.folded((body[:, :count] * weight[..., None]).sum(1), weight.sum(1))[:, None].to(x.dtype)
        some = ((alive - keep).sum(1, keepdim=True) > 0).to(filled.dtype)
        if package.merge and filled.shape[1]:                              # what an empty one has become is not in it
            x = torch.cat([x[:, :-1], x[:, -1:] * filled[..., None].to(x.dtype) + new], 1)
            filled = torch.maximum(filled, some)
        else:
            x, filled = torch.cat([x, new], 1), torch.cat([filled, some], 1)
    return Veiled(x, keep, filled, t.seen(prefix))


def asked(t: Tokens, ask: Score, prefix: int) -> Tensor:
    """What is said of each token, shaped as the ids, further axes behind; 1 for prefix tokens."""
    if isinstance(t.rows, Even):
        value = ask(t.x[:, prefix:], Others(t.rows.mean, partial(beside, t.ids[:, prefix:], t.rows, t.patches)))
        return torch.cat([torch.ones_like(value[:, :1]).expand(-1, prefix, *value.shape[2:]), value], 1)
    body = (t.ids[0] != PREFIX).nonzero()[:, 0]
    inner = Packed([n - prefix for n in t.rows.lengths], t.x.device)
    value = ask(t.x[:, body], Others(inner.mean, partial(beside, t.ids[:, body], inner, t.patches)))
    return value.new_ones(1, t.ids.shape[1], *value.shape[2:]).index_copy(1, body, value)


def beside(ids: Tensor, rows: Even | Packed, patches: int, x: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Of values x, shaped as ids and further axes behind, those of the patch before and the one after; zeros where none is.

    patches: how many the grid has; there [B, n]: which of the tokens are, where some of them are only masked.
    """
    x = x if there is None else x * there.reshape(*there.shape, *[1] * (x.dim() - 2)).to(x.dtype)
    batch = ids.shape[0] if isinstance(rows, Even) else len(rows.lengths)
    image = torch.arange(batch, device=x.device)[:, None] if isinstance(rows, Even) else rows.image[None]
    wide, patch = patches + 3, ids >= 0                                    # zeros at both ends, and room for what is no patch
    place = (image * wide + (ids + 1).where(patch, wide - 1)).flatten()
    room = x.new_zeros(batch * wide, *x.shape[2:]).index_copy(0, place, x.flatten(0, 1))
    sides = [room[(image * wide + (ids + step).where(patch, 0)).flatten()].view_as(x) for step in (0, 2)]
    return sides[0], sides[1]


def spread(ids: Tensor, values: Tensor, patches: int) -> Tensor:
    """Values [B, n] by patch number, 0 where there is none and for negative ids: [B, patches]."""
    room = values.new_zeros(ids.shape[0], patches + 1)
    return room.scatter(1, ids.where(ids >= 0, patches), values)[:, :-1]


def unpacked(rows: Packed, ids: Tensor, values: Tensor, patches: int) -> Tensor:
    """The same of packed ids and values, both [1, T]."""
    return spread(rows.padded(ids, PACKAGE)[0], rows.padded(values)[0], patches)


def ragged(rows: Packed, ids: Tensor, values: Tensor, count: Tensor, name: str) -> Judged:
    """How packed scores [1, T] decided, of which image how many [B] stay."""
    ids, score = rows.padded(ids, PACKAGE)[0], rows.padded(values)[0]
    patch = ids >= 0
    return Judged(name, score.where(patch, float("nan")), ids, stay=torch.minimum(count, patch.sum(1)).long())
