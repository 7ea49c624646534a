"""What becomes of one patch: where it takes part, where it is left out, and how the class token looks at it."""
from collections.abc import Sequence
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
                            None if stands in (here, -1) else divmod(stands, part.grid[1])))
    return found


def strip(life: Sequence[Moment], patch: Sequence[int], exits: Sequence[str] = (), hand: str = "") -> str:
    """The life as a row of squares, one per layer, and in a sentence; hand: "kept" or "dropped" where a person said so."""
    several, before, squares = len({moment.layer.stages for moment in life}) > 1, None, []
    for moment in life:
        if several and moment.layer.stages != before:
            before = moment.layer.stages
            squares.append(f'<span class="vl-fact">{escape(stage(moment, exits))}</span>')
        words = f"layer {moment.layer.layer + 1}: {DOES[moment.kind]}" + (
            f", rank {moment.rank} of {moment.of} in the class token's attention" if moment.attended and looked(moment) else "")
        squares.append(f'<span class="vl-moment vl-{moment.kind}" title="{escape(words)}"></span>')
    by_hand = f", {hand} by hand" if hand else ""
    told = f"<b>row {patch[0] + 1}, column {patch[1] + 1}</b>{by_hand} · {sentence(life, several, exits)}"
    return f'<span class="vl-squares" aria-hidden="true">{"".join(squares)}</span> {told}'


DOES = {"in": "takes part", "merged": "part of another token", "dropped": "dropped after attention",
        "folded": "folded into the package", "out": "left out"}


def sentence(life: Sequence[Moment], several: bool = False, exits: Sequence[str] = ()) -> str:
    """What happens to the patch, change by change."""
    def where(moment: Moment) -> str:
        return (f"{stage(moment, exits)}, " if several else "") + f"layer {moment.layer.layer + 1}"

    told, there = [], True
    for moment, last in zip(life, [None, *life[:-1]]):
        if last is not None and moment.layer.stages != last.layer.stages:
            there = True                                                   # a new net begins with every patch
        if moment.attended and not there:
            told.append(f"comes back in {where(moment)}")
        if moment.kind == "merged" and there:
            row, column = moment.joined
            told.append(f"joins the token of row {row + 1}, column {column + 1} in {where(moment)}"
                        + (rank(moment) if moment.attended else ""))
        elif moment.kind == "dropped":
            told.append(f"dropped in {where(moment)}" + rank(moment))
        elif moment.kind in ("folded", "out") and there and not (last is not None and last.kind == "dropped"):
            told.append(f"{DOES[moment.kind]} in {where(moment)}" + (rank(last) if last is not None and last.attended else ""))
        there = moment.fed
    end = life[-1]
    if end.fed:
        told.append(f"in {where(end)}" + rank(end) + ", the last" if told else f"takes part to the end, {where(end)}" + rank(end))
    return "; ".join(told)


def rank(moment: Moment) -> str:
    """How the class token looks at the patch there, where it looks at all."""
    if not looked(moment):
        return ""
    number = moment.layer.layer + 1
    return f" (rank {moment.rank} of {moment.of} in layer {number}'s class attention, {100 * moment.share:.1f} %)"


def looked(moment: Moment) -> bool:
    """Does the class token take part in this layer?"""
    return bool(moment.layer.cls[0].any())


def stage(moment: Moment, exits: Sequence[str]) -> str:
    """What its net is called, where there are several."""
    return exits[moment.layer.stage] if exits else f"stage {moment.layer.name}"
