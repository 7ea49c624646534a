"""What a net's assigner says of a picture, and what is made of it: heard while it runs, never asked again."""
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import ipywidgets as W
from torch import Tensor, nn

from vitlab.widgets.records import Verdict
from vitlab.widgets.text import digits, fact, percent

BAR = 90                                    # pixels of a certain one


@contextmanager
def heard(method: nn.Module) -> Iterator[list[Tensor]]:
    """What a method's `assigner` says meanwhile, logits [B, k]: nothing where there is none, or where nobody asks it."""
    said, assigner = [], getattr(method, "assigner", None)
    if not isinstance(assigner, nn.Module):
        yield said
        return
    hook = assigner.register_forward_hook(lambda _, given, logits: said.append(logits.detach()))
    try:
        yield said
    finally:
        hook.remove()


def verdict(method: nn.Module, point: Any, said: Sequence[Tensor]) -> Verdict | None:
    """The word on the first picture, of what was heard; None where nothing was."""
    if not said:
        return None
    return Verdict(tuple(said[0][0].float().softmax(-1).tolist()), tuple(method.cost.tolist()), point.cost_weight)


class Assigned:
    """The table, as `root`; hidden for nets without an assigner."""

    def __init__(self):
        self.root = W.HTML(layout=W.Layout(display="none")).add_class("vl-told").add_class("vl-assigned")

    def show(self, method: nn.Module, word: Verdict | None, chosen: int | None, exits: Sequence[str]) -> None:
        """What was said, and what was chosen, a position among the exits; None where nobody asked."""
        able = isinstance(getattr(method, "assigner", None), nn.Module)
        self.root.layout.display = "flex" if able else "none"
        self.root.value = "" if not able else table(word, chosen, exits) if word else fact(
            f"{exits[chosen]} is stated for every picture: the assigner is not asked" if chosen is not None and exits else
            "the assigner is not asked")


def table(word: Verdict, chosen: int, exits: Sequence[str]) -> str:
    """The word as a table: a row for each exit, a bar for its probability, and the one that runs by name."""
    rows = []
    for number, (share, cost, score) in enumerate(zip(word.share, word.cost, word.score, strict=True)):
        bar = f'<span class="vl-bar" aria-hidden="true" style="width: {round(BAR * share)}px"></span>'
        cells = (escape(exits[number] if exits else f"exit {number + 1}"), f"{bar} {percent(share, 1)}", digits(cost),
                 f"{score:.2f}".replace("-", "−"), "✓ runs" if number == chosen else "")
        kind = " class=vl-runs" if number == chosen else ""
        rows.append(f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    likely = max(range(len(word.share)), key=word.share.__getitem__)
    told = ("the likeliest one runs" if likely == chosen else
            f"{exits[likely] if exits else f'exit {likely + 1}'} is likelier, but what it costs decides against it")
    heads = "".join(f"<th>{head}</th>" for head in (
        "", "the assigner says", "costs", f"log p − {word.weight:g} · cost", ""))
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>{fact(told)}"
