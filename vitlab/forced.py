"""What if: a method with some patches kept or dropped by hand, whatever its scores say.

A method that drops patches has an attribute `forced`, None, and asks it where scores become choices: `pick` where as many patches
stay as its schedule says, `over` where each picture has a number of its own. `Forced` is a method around such a method, or around
a cascade of it, and fills the attribute while it runs; so whatever measures, draws or explains a method does the same with it.
Letters: B images · n patches that are still there · N of the grid.
"""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from vitlab.numbers import plain, whole

MOST = 1024             # patches per side
FREE, KEEP, DROP = 1, 0, 2                              # also the order in which `pick` lines them up


class Orders:
    """What a person has said of some patches. ValueError, in one sentence, for what no grid has or contradicts itself.

    keep, drop: patches by number, row by row, the same of every image; or bool, [N] or one row for each image, [B, N].
    grid: patches per side of the grid that the numbers count; on another grid, what lies there (None: the grid they come to).
    """

    def __init__(self, keep: Any = (), drop: Any = (), grid: int | None = None):
        side = None if grid is None else whole(grid, "grid, the patches per side,", 1, MOST)
        told = {"keep": read(keep, "keep"), "drop": read(drop, "drop")}
        for name, said in told.items():
            if isinstance(said, Tensor):
                own = isqrt(said.shape[1])
                if own ** 2 != said.shape[1] or side not in (None, own):
                    raise ValueError(f"{name} says yes or no of {said.shape[1]} patches, which is no square grid"
                                     f"{'' if side is None else f' of {side}x{side}'}; give one for each patch of the grid")
                side = own
        self.keep, self.drop, self.grid = told["keep"], told["drop"], side
        self.seen: int | None = None                    # the grid that numbers came to in this pass
        if side is not None:
            self.on(side)                               # refused here, not in the first pass
        elif isinstance(self.keep, tuple) and isinstance(self.drop, tuple):
            check_apart(sorted({*self.keep} & {*self.drop}))

    def __bool__(self) -> bool:
        return any(bool(said.any()) if isinstance(said, Tensor) else bool(said) for said in (self.keep, self.drop))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={'[B, N]' if isinstance(part, Tensor) else list(part)}" for name, part in (
            ("keep", self.keep), ("drop", self.drop)) if isinstance(part, Tensor) or part)
        return said + ("" if self.grid is None or isinstance(self.keep, Tensor) else f", grid={self.grid}")

    def on(self, side: int) -> Tensor:
        """What is said of each patch of side x side, `KEEP`, `DROP` or `FREE`: [1, N], or [B, N] where images differ."""
        if self and self.grid is None and self.seen not in (None, side):
            raise ValueError(f"patches {self!r} are numbered on one grid, but this net has {self.seen}x{self.seen} and then "
                             f"{side}x{side} patches; say which with grid={self.seen}")
        self.seen, own = side, self.grid or side
        kept, dropped = (moved(mask(said, own, name), own, side) for name, said in (("keep", self.keep), ("drop", self.drop)))
        where = f", once it lies on {side}x{side} patches" if own != side else ""
        check_apart((kept & dropped).any(0).nonzero()[:, 0].tolist(), where)
        if bool((dropped.sum(1) == side ** 2).any()):
            raise ValueError(f"all {side ** 2} patches are dropped by hand, and nothing is left to look at; leave at least one")
        return FREE - kept.long() * (FREE - KEEP) + dropped.long() * (DROP - FREE)

    def of(self, ids: Tensor, side: int, owner: Tensor | None = None, batch: int | None = None) -> Tensor:
        """The same by patch numbers [B, n], negative for what is no patch; or [T] of all images of a batch, owner [T] says whose.
        """
        said = self.on(side).to(ids.device)
        batch = len(ids) if batch is None else batch
        if len(said) > 1 and len(said) != batch:
            raise ValueError(f"keep and drop tell {len(said)} images apart, but {batch} came here; in a cascade, and where cost "
                             "is counted, give the same patches of all images, or one image at a time")
        rows = torch.arange(len(ids), device=ids.device)[:, None] if owner is None else owner
        return said[rows if len(said) > 1 else torch.zeros_like(rows), ids.clamp(0)].where(ids >= 0, FREE)

    def pick(self, rule: Callable[[Tensor, int], Tensor], score: Tensor, count: int, ids: Tensor, side: int) -> Tensor:
        """Positions of the `count` that stay, [B, count], of those with score and ids [B, n] on a grid of side x side.

        Those that are kept by hand stay, and of those of whom nothing is said as many as there is room for, chosen by
        rule(score, count): who is forced in pushes out the weakest of the others, who is forced out lets the next one in.
        Only where more are dropped by hand than `count` leaves room for do fewer stay.
        """
        said = self.of(ids, side)
        kept, gone = (said == KEEP).sum(1).tolist(), (said == DROP).sum(1).tolist()
        if max(kept) > count:
            raise ValueError(f"{max(kept)} patches are kept by hand where {count} of {score.shape[1]} stay; keep fewer, or "
                             "choose a point at which more stay")
        stay = {min(count, score.shape[1] - some) for some in gone}
        if len(stay) > 1:
            raise ValueError(f"of one image {min(stay)} patches would stay and of another {max(stay)}, where all have the same "
                             "number; drop as many of each, or give one image at a time")
        if min(stay) < 1:
            raise ValueError("all patches that are still there are dropped by hand, and nothing is left to look at; leave at "
                             "least one of them")
        if len(set(kept)) * len(set(gone)) > 1:                             # another number in each
            return torch.cat([self.picked(rule, *row) for row in zip(
                score.split(1), said.split(1), kept, gone, [*stay] * len(kept), strict=True)])
        return self.picked(rule, score, said, kept[0], gone[0], *stay)

    def picked(self, rule: Callable[[Tensor, int], Tensor], score: Tensor, said: Tensor, kept: int, gone: int,
               stay: int) -> Tensor:
        """The same where as many of each image are kept and gone."""
        order = said.argsort(dim=1, stable=True)
        free = order[:, kept:score.shape[1] - gone]
        return torch.cat([order[:, :kept], free.gather(1, rule(score.gather(1, free), stay - kept))], 1)

    def over(self, stays: Tensor, ids: Tensor, side: int, owner: Tensor | None = None, batch: int | None = None) -> Tensor:
        """Who stays, bool and shaped as the ids (see `of`), as the method says it of each and then as the person does: nobody
        else's fate changes, so an image has more or fewer patches than it would have had."""
        said = self.of(ids, side, owner, batch)
        return (stays | (said == KEEP)) & (said != DROP)


class Forced(nn.Module):
    """A method that keeps and drops the patches a person says, e.g. `Forced(net, keep=[3, 17], drop=[4])`; all else as it does.

    keep, drop: patches by number, row by row, the same of every image; or bool, [N] or one row for each image, [B, N]. At every
    place where the method drops, those that are kept stay and those that are dropped go. Where a schedule says how many stay, so
    many stay: who is forced in pushes out the weakest of the others, who is forced out lets the next one in, and only if a person
    drops more than it leaves room for do fewer stay. Where each image has a number of its own, it has one more or less.
    grid: patches per side of the grid that the numbers count; on another grid, what lies there (None: the grid they come to).
    It owns no parameters of its own; training forces nothing, and no file is exported of it. Raises ValueError, in one sentence,
    for a method that drops no patch, for a patch that the grid lacks, for one that is kept and dropped, and for more than there
    is room for.
    """

    def __init__(self, method: nn.Module, keep: Sequence[int] | Tensor = (), drop: Sequence[int] | Tensor = (),
                 grid: int | None = None):
        super().__init__()
        if not hasattr(method, "points") or not hasattr(method, "Point"):
            raise ValueError(f"patches are forced in a method, not in a {type(method).__name__}; make one with vitlab.create")
        if already(method):
            raise ValueError("patches of this net are forced already, and nobody could tell whose word counts; say all of it in "
                             "one Forced(net, keep, drop)")
        if not can_be(method):
            raise ValueError(f"{type(method).__name__} leaves no patch out, or has no attribute `forced` to ask where its scores "
                             "become choices; take a net that drops patches, such as SuperViT, SPViT or SViT, or see "
                             "help('vitlab.forced')")
        self.method, self.vit, self.Point = method, method.vit, method.Point
        self.orders = Orders(keep, drop, grid)
        for name in ("made", "check", "token_macs", "exit_names", "criterion"):
            if hasattr(method, name):
                setattr(self, name, getattr(method, name))
        for name in ("exits", "outcomes", "together"):                     # what else runs the method runs it by hand, too
            if hasattr(method, name):
                setattr(self, name, partial(self.by_hand, name))

    def extra_repr(self) -> str:
        return repr(self.orders)

    @property
    def points(self) -> Sequence[Any]:
        """The method's."""
        return self.method.points

    @property
    def adaptive(self) -> bool | str:
        """As the method is."""
        return self.method.adaptive

    def forward(self, images: Tensor, point: Any = None, trace: Any = None) -> Tensor:
        """Logits [B, K] of normalised images [B, 3, S, S]."""
        with self.forcing():
            logits = self.method(images, point, trace)
            if self.orders and self.orders.seen is None:
                raise ValueError(f"on the way to this answer nothing is dropped, so {self.orders!r} has no place; choose a later "
                                 "exit, or another point")
        return logits

    def through(self, stages: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """Images -> logits [B, K] as if all went where one image did, some patches by hand."""
        return partial(self.straight, stages)

    def straight(self, stages: Sequence[int], images: Tensor) -> Tensor:
        """The same, of these images."""
        with self.forcing():
            return self.method.through(stages)(images)

    def losses(self, images: Tensor, labels: Tensor, teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """The method's own: nothing is forced in training."""
        yield from self.method.losses(images, labels, teacher)

    @contextmanager
    def forcing(self) -> Iterator[None]:
        """What is said holds, in all parts of the method that drop patches."""
        parts = places(self.method)
        before = [part.forced for part in parts]
        self.orders.seen = None
        for part in parts:
            part.forced = self.orders
        try:
            yield
        finally:
            for part, orders in zip(parts, before, strict=True):
                part.forced = orders

    def by_hand(self, name: str, *given: Any) -> Any:
        """A function of the method, run with what is said; an iterator is gone through at once."""
        with self.forcing():
            found = getattr(self.method, name)(*given)
            return iter([*found]) if isinstance(found, Iterator) else found


def places(method: nn.Module) -> list[nn.Module]:
    """The parts of a method that drop patches and ask whom they may."""
    return [part for part in method.modules() if hasattr(part, "forced")]


def already(method: nn.Module) -> bool:
    """Does somebody have a say in this method already?"""
    return any(isinstance(part, Forced) for part in method.modules())


def can_be(method: nn.Module) -> bool:
    """Can patches of this method be forced to stay or to go?"""
    return bool(places(method)) and not already(method)


def read(said: Any, name: str) -> tuple[int, ...] | Tensor:
    """Patch numbers as a tuple, ascending, each once; or bool [1, N] or [B, N]. ValueError for anything else."""
    found = plain(said)
    rule = f"{name} must be patch numbers, such as [3, 17], or yes and no for every patch, [N] or [B, N]"
    if not isinstance(found, tuple):
        raise ValueError(f"{rule}, not {said!r}")
    if found and isinstance(found[0], tuple):
        if len({len(row) if isinstance(row, tuple) else -1 for row in found}) > 1 or not all(
                isinstance(each, bool) for row in found for each in row) or not found[0]:
            raise ValueError(f"{rule}, not rows of anything else")
        return torch.tensor(found)
    if found and all(isinstance(each, bool) for each in found):
        return torch.tensor([found])
    return tuple(sorted({whole(each, f"a patch in {name}", 0) for each in found}))


def check_apart(both: list[int], where: str = "") -> None:
    """ValueError for patches that are kept and dropped."""
    if both:
        named = f"patch{'es' if len(both) > 1 else ''} {', '.join(map(str, both[:5]))}{' …' if len(both) > 5 else ''}"
        raise ValueError(f"{named} cannot be kept and dropped at once{where}; choose one of the two")


def mask(said: tuple[int, ...] | Tensor, side: int, name: str) -> Tensor:
    """What `read` found, as bool [B, N] or [1, N] on side x side; ValueError for a patch that this grid lacks."""
    if isinstance(said, Tensor):
        return said
    if said and said[-1] >= side ** 2:
        raise ValueError(f"{name} names patch {said[-1]}, but the grid has {side}x{side} patches, 0 to {side ** 2 - 1}")
    found = torch.zeros(1, side ** 2, dtype=torch.bool)
    found[0, list(said)] = True
    return found


def moved(said: Tensor, own: int, side: int) -> Tensor:
    """Bool [B, own²] on another grid, [B, side²]: a finer patch is what it lies in, a coarser one what any in it is."""
    if own == side:
        return said
    many, few = max(own, side), min(own, side)
    line = ((torch.arange(many) + 0.5) / many * few).long()
    home = (line[:, None] * few + line).flatten()                          # of each finer patch: the coarser one it lies in
    return said[:, home] if side > own else torch.zeros(len(said), side ** 2).index_add(1, home, said.float()) > 0
