"""What becomes of one patch: where it takes part, where it is left out, and how the class token looks at it."""
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import NamedTuple

from vitlab.trace import LayerTrace

HINT = "Click a patch, or choose one with the arrow keys, to see what becomes of it, what is read from it and whom it looks at."


class Moment(NamedTuple):
    """One patch in one layer. rank: its place among the patches in attention by the class token's attention, from 1."""

    layer: LayerTrace
    attended: bool
    fed: bool
    folded: float               # its weight in a package token that was made before this layer, 0 for none
    share: float                # of the class token's attention
    rank: int
    of: int
    joined: tuple[int, int] | None = None       # row and column of the patch that stands for its token, where that is another
    verdict: tuple[float, int, int] | None = None   # where the method judges it here: its score, its place by it, of how many

    @property
    def kind(self) -> str:
        """in, merged (into a token that another patch stands for), dropped (here, after attention), folded, or out."""
        return ("in" if self.fed else "merged" if self.joined else "dropped" if self.attended else
                "folded" if self.folded else "out")


def moments(layers: Sequence[LayerTrace], patch: Sequence[int], grid: int) -> list[Moment]:
    """The life of the patch [row, column] on grid x grid, through layers that may have other grids (row 0 of each record)."""
    found = []
    for part in layers:
        here = part.patch(*patch, grid)
        present, looks = part.attended[0], part.cls[0]
        stands = here if part.source is None else int(part.source[0, here])
        found.append(Moment(part, bool(present[here]), bool(part.fed[0, here]),
                            0.0 if part.folded is None else float(part.folded[0, here]), float(looks[here]),
                            1 + int((looks[present] > looks[here]).sum()), int(present.sum()),
                            None if stands in (here, -1) else divmod(stands, part.grid[1]), verdict(part, here)))
    return found


def verdict(part: LayerTrace, here: int) -> tuple[float, int, int] | None:
    """What the method's own score says of a patch in a layer in which somebody goes by it."""
    own = part.judged and part.judged.of(here)
    return own if own and (part.judged.stay is None or part.judged.cut() < own[2]) else None


def strip(life: Sequence[Moment], patch: Sequence[int], exits: Sequence[str] = (), hand: str = "") -> str:
    """The life as a row of squares, one per layer, and in a sentence; hand: "kept" or "dropped" where a person said so."""
    several, before, squares = staged(life), None, []
    for moment in life:
        if several and moment.layer.stages != before:
            before = moment.layer.stages
            squares.append(f'<span class="vl-fact">{escape(stage(moment, exits))}</span>')
        words = f"layer {moment.layer.layer + 1}: {DOES[moment.kind]}" + (
            f", {judged(moment)} by {moment.layer.judged.name}" if moment.verdict else
            f", rank {moment.rank} of {moment.of} in the class token's attention" if moment.attended and looked(moment) else "")
        squares.append(f'<span class="vl-moment vl-{moment.kind}" title="{escape(words)}"></span>')
    by_hand = f", {hand} by hand" if hand else ""
    told = f"<b>row {patch[0] + 1}, column {patch[1] + 1}</b>{by_hand} · {sentence(life, several, exits)}"
    told += verdicts(life, several, exits)
    return f'<span class="vl-squares" aria-hidden="true">{"".join(squares)}</span> {told}'


DOES = {"in": "takes part", "merged": "part of another token", "dropped": "dropped after attention",
        "folded": "folded into the package", "out": "left out"}


def sentence(life: Sequence[Moment], several: bool = False, exits: Sequence[str] = ()) -> str:
    """What happens to the patch, change by change."""
    where = partial(place, several=several, exits=exits)
    told, there = [], True
    for moment, last in zip(life, [None, *life[:-1]]):
        if last is not None and moment.layer.stages != last.layer.stages:
            there = True                                                   # a new net begins with every patch
        if moment.attended and not there:
            told.append(f"comes back in {where(moment)}")
        if moment.kind == "merged" and there:
            row, column = moment.joined
            told.append(f"joins the token of row {row + 1}, column {column + 1} in {where(moment)}" + rank(moment))
        elif moment.kind == "dropped":
            told.append(f"dropped in {where(moment)}" + rank(moment))
        elif moment.kind in ("folded", "out") and there and not (last is not None and last.kind == "dropped"):
            told.append(f"{DOES[moment.kind]} in {where(moment)}" + ("" if last is None or moment.verdict else rank(last)))
        there = moment.fed
    end = life[-1]
    if end.fed:
        told.append(f"in {where(end)}" + rank(end) + ", the last" if told else f"takes part to the end, {where(end)}" + rank(end))
    return "; ".join(told)


def staged(life: Sequence[Moment]) -> bool:
    """Does it lead through several nets?"""
    return len({moment.layer.stages for moment in life}) > 1


def place(moment: Moment, several: bool, exits: Sequence[str]) -> str:
    """Its layer, and its net where there are several."""
    return (f"{stage(moment, exits)}, " if several else "") + f"layer {moment.layer.layer + 1}"


def verdicts(life: Sequence[Moment], several: bool = False, exits: Sequence[str] = ()) -> str:
    """Where the patch stood at each drop, by the method's own score, and who stayed there; "" where no score is told."""
    told = [moment for moment in life if moment.verdict]
    each = "; ".join(f"{judged(moment)} in {place(moment, several, exits)}" for moment in told)
    return f" · by {told[0].layer.judged.name}: {each}" if told else ""


def judged(moment: Moment) -> str:
    """The patch's place by the method's own score, the score, and the cut."""
    score, place, count = moment.verdict
    held, cut = moment.layer.judged, moment.layer.judged.cut()
    if held.above is not None:
        return f"{score:.2f} where more than {cut:.2f} stays, rank {place} of {count}"
    return f"rank {place} of {count} ({score:.2g}), {cut} {'stay' if held.merge is None else 'pairs merge'}"


def rank(moment: Moment) -> str:
    """How the class token looks at the patch there, where it looks at all, and no score of the method's own is told."""
    if moment.verdict or not moment.attended or not looked(moment):
        return ""
    number = moment.layer.layer + 1
    return f" (rank {moment.rank} of {moment.of} in layer {number}'s class attention, {100 * moment.share:.1f} %)"


def looked(moment: Moment) -> bool:
    """Does the class token take part in this layer?"""
    return bool(moment.layer.cls[0].any())


def stage(moment: Moment, exits: Sequence[str]) -> str:
    """What its net is called, where there are several."""
    return exits[moment.layer.stage] if exits else f"stage {moment.layer.name}"
