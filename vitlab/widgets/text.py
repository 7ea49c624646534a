"""The sentences of a panel, and its style sheet."""
import re
from collections.abc import Callable, Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from pandas import DataFrame

from vitlab.plots.theme import HERE, INK, color_of
from vitlab.widgets.records import Ask, Hand, Look, Slice, Taken, Timing, Upload
from vitlab.words import short

WIDE = 0.1          # a spread of the middle half of the passes, as a share of their median, that is worth a word

STYLE = f"""<style>.vl-panel {{ --vl-ink: {INK}; --vl-here: {HERE}; --vl-in: {color_of("supervit")};
  --vl-keep: {color_of("revit")}; --vl-drop: {color_of("dvt")}; }}
{Path(__file__).with_name("panel.css").read_text()}</style>"""


def answer(look: Look, named: Callable[[int], str], exits: Sequence[str] = ()) -> str:
    """The net's answer, the tokens it ended with and what that cost; `named` gives a class's name, `exits` are the exits'."""
    if look.right is None:
        verdict = escape(f"{look.subject.name} {look.subject.told}".strip())
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


def by_hand(hand: Hand, look: Look, free: Look, named: Callable[[int], str]) -> str:
    """What a person has forced, and what it changed: `free` is the same picture with nothing forced."""
    told = [f"{count} patch{'es' if count > 1 else ''} {word}" for count, word in (
        (len(hand.drop), "dropped"), (len(hand.keep), "kept")) if count]
    fine = percent(free.confidence) == percent(look.confidence)            # then a tenth of a percent may tell
    before, then = (percent(part.confidence, int(fine)) for part in (free, look))
    first = f"“{escape(named(free.prediction))}” {before}"
    then = then if look.prediction == free.prediction else f"“{escape(named(look.prediction))}” {then}"
    cost = ("as many multiply-adds" if abs(look.gmacs / free.gmacs - 1) < 5e-4 else
            f"{macs(look.gmacs, free.gmacs)} instead of {macs(free.gmacs)} multiply-adds")
    tokens = (f"{look.tokens} patches left as before" if look.tokens == free.tokens else
              f"{look.tokens} instead of {free.tokens} patches left")
    return f"<b>by hand</b>, {' and '.join(told)}: {first} → <b>{then}</b> · {cost} · {tokens}"


def macs(gmacs: float, beside: float | None = None) -> str:
    """A cost in millions or in billions of multiply-adds; without the unit where it stands beside another one."""
    large = (gmacs if beside is None else beside) >= 0.1
    number = f"{gmacs:.3g}" if large else f"{1000 * gmacs:.3g}"
    return number if beside is not None else f"{number} {'G' if large else 'M'}"


def knew(rows: DataFrame, look: Look, named: Callable[[int], str], exits: Sequence[str] = ()) -> str:
    """Since when the net leads with its answer, and what its exits said: rows of `measure.depth`."""
    places = [name for name in ("stage", "inner", "layer") if name in rows]
    led = rows.loc[rows.groupby(places, sort=False).probability.idxmax()].reset_index(drop=True)
    wrong = led.index[led["class"] != look.prediction]
    since = next(led.iloc[min(wrong.max() + 1, len(led) - 1) if len(wrong) else 0:].itertuples())
    several = led.stage.nunique() > 1

    def exit(stage: int) -> str:
        return escape(exits[stage]) if exits else f"exit {stage + 1}"

    stage = exit(since.stage) if exits else f"stage {since.stage + 1}"     # as the captions call where a layer is
    where = f"{stage}, layer {since.layer}" if several else f"layer {since.layer} of {led.layer.max()}"
    told = f"“{escape(named(look.prediction))}” leads from {where} on"
    for end in led[led.threshold.notna()].itertuples():
        told += f" · {exit(end.stage)} is {percent(end.score)} sure and needs {percent(end.threshold)}"
    return told


def speed(timing: Timing, ask: Ask, paper: tuple[float, str] | None, versus: str, exits: Sequence[str] = (),
          way: str | None = None) -> str:
    """How fast this point is here and now, `versus` the costliest point, the FLOPs' promise and the paper; way: its precision,
    where more is to be said of it."""
    if timing.speed_up is None:
        ratio = f"timing it against {versus} …"
    else:
        promises = [f"FLOPs promise {timing.promise:.2f}×"]
        if paper:
            promises.append(f"paper’s {escape(paper[1])} {paper[0]:.2f}×")
        ratio = f"<b>{timing.speed_up:.2f}×</b> {versus} ({', '.join(promises)})"
    how = f"median of {timing.runs}" if timing.runs > 1 else "first pass"
    how += f", whose middle half spreads over {percent(timing.spread)}" if timing.spread > WIDE else ""
    if timing.exits and exits:
        how += " · " + ", ".join(f"{count} at {escape(name)}" for count, name in zip(timing.exits, exits) if count)
    elif timing.exits:
        places = " / ".join(str(k + 1) for k in range(len(timing.exits)))
        how += f" · {' / '.join(map(str, timing.exits))} images leave at exit {places}"
    way = escape(way or ask.precision)
    if ask.fused:
        way += ", compiled" + (f" (which took {timing.compiling_s:.0f} s, once)" if timing.compiling_s else "")
    return (f'<b class="vl-number">{digits(timing.images_per_s)}</b> images/s now · {ratio} · '
            f'<span class="vl-fact">{escape(ask.device)}, {way}, batch {timing.batch}, {how}</span>')


def taken(one: Taken, ask: Ask, versus: str) -> str:
    """What a picture takes alone, and a batch where the device tells."""
    told = [f'<b>{one.latency_ms:.3g}</b> ms for one picture alone · <b>{one.latency_speed_up:.2f}×</b> {versus}']
    if one.memory_mib is not None:
        told.append(f"<b>{one.memory_mib:.0f}</b> MiB at most")
    if one.joules is not None:
        told.append(f"<b>{one.joules:.2g}</b> joules a picture")
    batch = f", batch {ask.batch}" if len(told) > 1 else ""
    return " · ".join(told) + " · " + fact(f"9 of 10 within {one.latency_p90_ms:.3g} ms, median of {one.latency_runs}{batch}")


def digits(value: float) -> str:
    """A speed with three digits before it gets large: 4.12, 41.2, 412, 4120."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def sentence(error: Exception) -> str:
    """An error as one line for a person: our own ValueErrors are sentences already, others get their kind in front."""
    words = " ".join(str(error).split())
    return words if isinstance(error, ValueError) and words else f"{type(error).__name__}: {words}"


def fact(words: str) -> str:
    """A sentence that stands back."""
    return f'<span class="vl-fact">{escape(words)}</span>'


def code(ask: Ask, guest: bool = False) -> str:
    """The line that gives the logits of this point, and of what is forced; where pictures are walked through, of this one.

    guest: the net is made for other pictures than the set's.
    """
    net = f"vitlab.Forced(net, {ask.hand.code})" if ask.hand else "net"
    walked = ask.slice is not None and not isinstance(ask.image, Upload) and not guest
    images = f"data.for_net(net).images([{ask.image}])" if walked else "images"
    return f'{fact("in code:")} <code class="vl-code">logits = {net}({images}, net.{escape(short(ask.point))})</code>'


def walk(part: Slice, rows: Sequence[int], image: Any, classes: Sequence[str], of: int, size: int) -> str:
    """Where in a slice the picture in view is, how many pictures of the `of` that were asked about are in it, and what they have
    in common; size: of the whole set."""
    told = ", ".join(filter(None, (part.words, "" if part.label is None else f"of class “{classes[part.label]}”")))
    among = f"{of} pictures" + (f" (a sample of {size})" if of < size else "")
    if not rows:
        return f"<b>no picture</b> of {among} is in this slice: {escape(told)}; choose another slice"
    place = f"<b>{rows.index(image) + 1}</b> of {len(rows)}" if image in rows else "the picture in view is not in this slice"
    return f"{place} · {len(rows)} of {among}" + (f": {escape(told)}" if told else "")


def beside(ask: Ask, look: Look, other: Look, timing: Timing | None, named: Callable[[str, int], str]) -> str:
    """A table of what is pinned and what the controls say now; `named` gives a model's class's name."""
    then = None if timing is None else timing.beside
    now = None if timing is None or timing.speed_up is None else timing.images_per_s
    rows, waiting = [], "…" if timing is None or timing.speed_up is None else "not timed: it wants other pixels"
    for kind, one, seen, speed in (("pinned", ask.other, other, then), ("now", ask, look, now)):
        verdict = {True: "right", False: "wrong", None: ""}[seen.right]
        ratio = f" ({now / then:.2f}×)" if kind == "now" and now and then else ""
        cells = (f"{kind}: {one.title}", f"“{named(one.model, seen.prediction)}” {percent(seen.confidence)} {verdict}",
                 f"{seen.tokens} of {seen.patches}", f"{seen.gmacs:.3g}", digits(speed) + ratio if speed else waiting)
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    heads = "".join(f"<th>{head}</th>" for head in ("", "answer", "tokens at the end", "GFLOPs", "images/s, in turns"))
    legend = fact("rising stripes: a patch that is left here alone; falling ones: one that is left in the other alone")
    return f"<table><tr>{heads}</tr>{''.join(rows)}</table>{legend}"


def asking(part: Slice, count: int, of: int) -> str:
    """How far the answers are that a slice needs."""
    return fact(f"{part.words}: {count} of {of} pictures answered …")


def words(html: str) -> str:
    """HTML of ours without its tags."""
    return unescape(re.sub("<[^>]*>", "", html))


def note(words: str, wrong: bool) -> str:
    """A remark, or an error in red."""
    return f'<span class="{"vl-failed" if wrong else "vl-remark"}">{escape(words)}</span>'


def caption(words: str) -> str:
    """The line above a picture; where it is cut short, the pointer shows all of it."""
    return f'<p class="vl-caption" title="{escape(words)}">{escape(words)}</p>'
