"""Layer-to-phase training (Sec. 4.4, Fig. 6, Table 8): where selectors are to stand, and how much each may drop.

From the last block to the first a selector is inserted and made to drop more, step by step, until accuracy on held-out pictures
falls noticeably; the last good net goes on. Neighbours that may drop about as much become a phase, of which the first selector
is kept. Where that costs more than the limit the later selectors drop more, where it costs less the first drops less.

paper -> here:  sparsity (Table 8) = 1 - keep, a share of all patches · layer (Table 8) = block, the selector stands behind it.
The paper says neither when accuracy falls noticeably (`tol`) nor which rates are similar (`near`), and divides its own rates by
eye: behind 3, 6 and 9, also 3, 6 and 3, 5, 7, 9 (Table 6). By `grouped` those from block 3 on give 3, 5, 7, 9 at near=0.1, 3, 5,
8 at 0.2 and 3, 6 at 0.26; no `near` gives 3, 6, 9.
Departures: a selector drops at most what the one behind it does, since what is dropped stays so; where one may drop nothing,
none stands before it. A selector that is to drop more is moved there by its bias and then trained, or short training would not
reach the share. Accuracy is that of nets whose images all keep the same number, with the tokens really gone.
"""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from math import log
from typing import Any

import pandas as pd
from scipy.optimize import brentq
from torch import nn

import vitlab
from vitlab.backbones import check_backbone
from vitlab.measure import answers
from vitlab.method import Dense
from vitlab.methods.spvit.limit import Work, solve
from vitlab.methods.spvit.spvit import RECIPE, SPViT
from vitlab.numbers import real
from vitlab.recipe import Recipe
from vitlab.train import fit

SHORT = replace(RECIPE, epochs=None, steps=20, batch=64, mixup=0.0, cutmix=0.0)      # of one step; the paper trains 25 epochs
FOUND = ("after", "keep", "latency", "factors")      # knobs that are looked for, or that contradict what is

Attempt = Callable[[Any, tuple[int, ...], tuple[float, ...]], tuple[Any, float]]    # net, after, keep -> another net, its top-1


def layer_to_phase(dense: Dense, train=None, val=None, *, budget: float | None = None, tol: float = 0.5, step: float = 0.05,
                   near: float = 0.1, recipe: Recipe = SHORT, learn: Callable[[SPViT], Any] | None = None,
                   score: Callable[[nn.Module], float] | None = None, **knobs) -> tuple[pd.DataFrame, dict[str, tuple]]:
    """Where selectors are to stand in a trained dense net, and what `vitlab.create("spvit", ...)` is to be told.

    train, val: ImageSets.  budget: GFLOPs that the plan is to cost (None: whatever it does).  tol: percent points of accuracy
    that one selector may cost.  step: what share of all patches it drops more at a time.  near: rates of one phase differ by
    less.  learn: trains a net in place (None: `fit` by the recipe, the dense net as teacher); score: percent right of a net
    (None: of `val`).  knobs: the other ones of "spvit", such as package.
    Returns a row per block, with attrs["dense"] the accuracy of the dense net: block (a selector stands behind it), keep (share
    of all patches), top1 (percent, with this selector and those behind it), phase (from 1, 0: none stands here). And the knobs
    `after` and `keep`. ValueError where nothing may be dropped, or for a budget that is out of reach.
    """
    check(dense, tol, step, near, knobs, data=(train, val), own=(learn, score))
    turns = count(recipe.seed)                          # every step sees other pictures
    learn = learn or (lambda net: fit(net, train, replace(recipe, seed=next(turns)), teacher=dense))
    score = score or (lambda net: 100 * float(answers(net, val).correct.mean()))

    def attempt(net: nn.Module, after: tuple[int, ...], keep: tuple[float, ...]) -> tuple[SPViT, float]:
        student = inserted(dense, net, after, keep, knobs)
        learn(student)
        return student, real(score(student.eval()), "the score of a net")

    first = real(score(dense), "the score of a net")
    table = search(attempt, dense, first, len(dense.vit.blocks), tol=tol, step=step)
    table["phase"] = grouped((1 - table.keep).tolist(), near)
    heads = table[table.phase > 0].drop_duplicates("phase")
    if heads.empty:
        raise ValueError(f"no selector may drop {step:.0%} of the patches at a loss of {tol:g} points; raise tol or train longer")
    after, keep = tuple(heads.block.tolist()), tuple(heads.keep.tolist())
    if budget is not None:
        work = inserted(dense, dense, after, keep, knobs).work
        keep = fitted(work, keep, real(budget, "budget"))
        after, keep = zip(*((b, share) for b, share in zip(after, keep, strict=True) if share < 1), strict=True)
    table.attrs["dense"] = first
    return table, {"after": after, "keep": keep}


def check(dense: nn.Module, tol: float, step: float, near: float, knobs: dict, data: tuple, own: tuple) -> None:
    """Fail at the door: one sentence for each argument that makes no sense."""
    if not isinstance(dense, Dense) or not hasattr(dense, "made"):
        raise ValueError('selectors are put into a trained dense net; give one made with vitlab.create("dense", ...)')
    check_backbone(dense.vit)                           # no PiT: after each pooling all its patches are there again
    if taken := [name for name in FOUND if name in knobs]:
        raise ValueError(f"{taken[0]} follows from layer-to-phase training; leave it out, or make the net with vitlab.create")
    if missing := [name for name, given, mine in zip(("train", "val"), data, own, strict=True) if given is None and mine is None]:
        raise ValueError(f"{missing[0]} is missing: give an ImageSet, or a function of your own instead")
    real(tol, "tol"), real(near, "near", 0, 1)
    if not 0 < real(step, "step", 0, 1) < 1:
        raise ValueError(f"step must lie between 0 and 1, not {step!r}")


def search(attempt: Attempt, net: Any, top1: float, depth: int, *, tol: float, step: float) -> pd.DataFrame:
    """From the last block to the first: a row for each block (block, keep, top1), the first block first.

    net, top1: what is begun with, and its accuracy. Each attempt begins with the last good net.
    """
    rows, shares = [], ()
    for block in range(depth - 1, 0, -1):
        before, keep = top1, 1.0
        if len(shares) == len(rows):                    # all behind it drop something
            for share in falling(step, shares[0] if shares else 0.0):
                tried, found = attempt(net, tuple(range(block, depth)), (share, *shares))
                if found < before - tol:
                    break
                net, top1, keep = tried, found, share
            shares = (keep, *shares) if keep < 1 else shares
        rows.append({"block": block, "keep": keep, "top1": top1})
    return pd.DataFrame(rows[::-1])


def falling(step: float, least: float) -> Iterator[float]:
    """Shares to keep: 1 - step, 1 - 2 step, ... above 0 and not below the least."""
    for turn in count(1):
        share = round(1 - turn * step, 9)
        if share <= 0 or share < least:
            return
        yield share


def grouped(rates: Sequence[float], near: float) -> list[int]:
    """The phase of each selector, from 1, by its rate of pruning, which rises with the blocks; 0 where it drops nothing.

    In a phase all rates differ from the first one's by less than `near`.
    """
    phases, first = [], None
    for rate in rates:
        if rate > 0 and (first is None or round(rate - first, 9) >= near):
            phases.append(max(phases, default=0) + 1)
            first = rate
        else:
            phases.append(phases[-1] if rate > 0 else 0)
    return phases


def fitted(work: Work, keep: Sequence[float], limit: float) -> tuple[float, ...]:
    """Shares that cost the limit. Of a plan that is too cheap the first selector drops less; if it need not drop at all its share
    is 1, and the next one drops less. Of one that is too dear the later selectors drop more, all to one power, and if that is
    not enough all of them do. ValueError for a limit that is out of reach.
    """
    if limit >= work.dense:
        raise ValueError(f"a limit of {limit:.4g} {work.unit} needs no selector: this net takes {work.dense:.4g} {work.unit} "
                         "with all its tokens; choose a lower one")
    if work(keep) <= limit:
        return relaxed(work, keep, limit)
    least = 1 / work.patches

    def at(power: float) -> list[float]:
        return [keep[0], *(max(share ** power, least) for share in keep[1:])]

    end = 1 + log(least) / log(keep[0])                                    # at which each of the later ones leaves one patch
    if work(at(end)) > limit:
        return solve(work, limit, keep)
    return tuple(at(brentq(lambda power: work(at(power)) - limit, 1, end, xtol=1e-12)))


def relaxed(work: Work, keep: Sequence[float], limit: float) -> tuple[float, ...]:
    """The same of a plan that is not too dear."""
    def at(place: int, share: float) -> float:
        return work([*[1.0] * place, share, *keep[place + 1:]])

    place = next(n for n in range(len(keep)) if at(n, 1.0) > limit)        # with all shares at 1 it is the dense net
    share = brentq(lambda share: at(place, share) - limit, keep[place], 1 - 1e-9, xtol=1e-12)
    return (*[1.0] * place, share, *keep[place + 1:])


def inserted(dense: Dense, net: nn.Module, after: tuple[int, ...], keep: tuple[float, ...], knobs: dict) -> SPViT:
    """An SPViT on the dense net's backbone that goes on from a net: dense, or with selectors behind the last of these blocks."""
    told = {name: value for name, value in dense.made.items() if name not in ("method", "knobs", "preprocessing")}
    student = vitlab.create("spvit", **told, after=after, keep=keep, **knobs)
    student.made |= {name: dense.made[name] for name in ("preprocessing",) if name in dense.made}
    student.init_from(net.vit)
    if isinstance(net, SPViT):
        known = (student.selectors, net.selectors, parts(student.keep), parts(net.keep))
        for selector, trained, share, before in zip(*map(reversed, known)):        # the last ones are the same
            selector.load_state_dict(trained.state_dict())
            selector.move(before, share)
    return student.to(net.vit.pos_embed.device)


def parts(keep: Sequence[float]) -> list[float]:
    """What each selector keeps of the patches that come to it."""
    return [share / before for share, before in zip(keep, (1.0, *keep))]
