"""The sentences under the pictures, and how the panel is laid out."""
from collections.abc import Callable, Sequence
from html import escape

from vitlab.plots.theme import HERE, INK
from vitlab.widgets.records import Ask, Look, Timing

WIDE = 0.3          # a spread of passes, as a share of their median, that is worth a word

STYLE = f"""<style>
.vl-panel {{ max-width: 1500px; padding: 4px 2px; overflow: visible; }}
.vl-panel .vl-row {{ flex-flow: row wrap; align-items: center; gap: 2px 8px; overflow: visible; }}
.vl-panel .vl-knobs {{ gap: 2px 24px; }}
.vl-panel .vl-view {{ flex-flow: row wrap; align-items: flex-start; gap: 8px 12px; overflow: visible; margin: 4px 0 2px; }}
.vl-panel .vl-picture {{ flex: 1 1 170px; min-width: 150px; max-width: 250px; overflow: hidden; }}
.vl-panel .vl-picture img {{ width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px; }}
.vl-panel .vl-plots {{ flex: 2 1 390px; min-width: 380px; overflow: hidden; }}
.vl-panel .vl-plots > * {{ flex: 1 1 100%; min-width: 0; }}
.vl-panel .vl-picture .widget-html-content {{ min-width: 0; width: 100%; overflow: hidden; }}
.vl-panel .vl-caption {{ color: var(--jp-ui-font-color2, {INK}); font-size: 12px; line-height: 18px; margin: 0;
                         white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
.vl-panel .vl-sentences {{ overflow: visible; }}
.vl-panel .vl-status {{ color: var(--jp-ui-font-color1, {INK}); font-size: 15px; line-height: 24px; margin: 0 2px;
                        height: auto; }}
.vl-panel .vl-status .widget-html-content {{ line-height: inherit; }}
.vl-panel .vl-status b {{ font-weight: 600; font-variant-numeric: tabular-nums; }}
.vl-panel .vl-fact {{ color: var(--jp-ui-font-color2, {INK}); }}
.vl-panel .vl-old {{ opacity: 0.45; }}
.vl-panel .vl-right {{ color: #1f9d55; }}
.vl-panel .vl-wrong, .vl-panel .vl-remark {{ color: #d9822b; }}
.vl-panel .vl-failed {{ color: {HERE}; }}
.vl-panel .jupyter-button {{ padding: 0 9px; text-overflow: clip; }}
.vl-panel .vl-small i {{ margin: 0; }}
.vl-panel .widget-hslider .widget-readout {{ max-width: none; width: auto; flex: none; }}
</style>"""


def answer(look: Look, named: Callable[[int], str], exits: Sequence[str] = ()) -> str:
    """The net's answer, the tokens it ended with and what that cost; `named` gives a class's name, `exits` are the exits'."""
    if look.right is None:
        verdict = escape(look.subject.name)
    elif look.right:
        verdict = '<span class="vl-right">right</span>'
    else:
        verdict = f'<span class="vl-wrong">it is “{escape(named(look.subject.label))}”</span>'
    saved = 1 - look.gmacs / look.dense
    exit = "" if look.exit is None else (f"<b>{escape(exits[look.exit])}</b> · " if exits else
                                         f"left at exit <b>{look.exit + 1}</b> · ")
    return (f"<b>“{escape(named(look.prediction))}”</b> {percent(look.confidence)} ({verdict}) · {exit}"
            f"<b>{look.tokens}</b> of {look.patches} tokens at the end · "
            f"{look.gmacs:.3g} GFLOPs" + (f" (−{percent(saved)})" if saved > 0.005 else ""))


def speed(timing: Timing, ask: Ask, paper: tuple[float, str] | None, versus: str, exits: Sequence[str] = ()) -> str:
    """How fast this point is here and now, `versus` the costliest point, the FLOPs' promise and the paper."""
    if timing.speed_up is None:
        ratio = f"timing it against {versus} …"
    else:
        promises = [f"FLOPs promise {timing.promise:.2f}×"]
        if paper:
            promises.append(f"paper’s {escape(paper[1])} {paper[0]:.2f}×")
        ratio = f"<b>{timing.speed_up:.2f}×</b> {versus} ({', '.join(promises)})"
    how = f"median of {timing.runs}" if timing.runs > 1 else "first pass"
    how += f", which spread over {percent(timing.spread)}" if timing.spread > WIDE else ""
    if timing.exits and exits:
        how += " · " + ", ".join(f"{count} at {escape(name)}" for count, name in zip(timing.exits, exits) if count)
    elif timing.exits:
        places = " / ".join(str(k + 1) for k in range(len(timing.exits)))
        how += f" · {' / '.join(map(str, timing.exits))} images leave at exit {places}"
    return (f'<b class="vl-number">{digits(timing.images_per_s)}</b> images/s now · {ratio} · '
            f'<span class="vl-fact">{escape(ask.device)}, {escape(ask.precision)}, batch {timing.batch}, {how}</span>')


def digits(value: float) -> str:
    """A speed with three digits before it gets large: 4.12, 41.2, 412, 4120."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def sentence(error: Exception) -> str:
    """An error as one line for a person: our own ValueErrors are sentences already, others get their kind in front."""
    words = " ".join(str(error).split())
    return words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"


def note(words: str, wrong: bool) -> str:
    """A remark, or an error in red."""
    return f'<span class="{"vl-failed" if wrong else "vl-remark"}">{escape(words)}</span>'


def caption(words: str) -> str:
    """The line above a picture; where it is cut short, the pointer shows all of it."""
    return f'<p class="vl-caption" title="{escape(words)}">{escape(words)}</p>'
