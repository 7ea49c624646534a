"""A sweep as one page of HTML, with its plots: it opens from a disk and needs no kernel, no network and no other file."""
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from pandas import DataFrame, isna

from vitlab import measure, plots
from vitlab.plots.files import write
from vitlab.plots.rows import sources
from vitlab.plots.theme import FONT, title_of
from vitlab.words import path_of

FACTS = {"hardware": "processor or GPU", "threads": "threads of torch", "date": "date", "python": "Python", "torch": "torch",
         "timm": "timm", "vitlab": "vitlab", "commit": "commit"}                # of `measure.facts`, as people call them
CONDITIONS = {"method": "method", "backbone": "backbone", "data": "pictures", "n": "how many pictures", "batch": "batch",
              "device": "device", "precision": "precision", "source": "source"}     # told once where all rows have the same
HEADS = {"latency_ms": "ms per picture, alone", "latency_p99_ms": "ms per picture, alone, 99 of 100", "memory_mib": "MiB at most",
         "joules": "joules per picture", "gmacs_ratio": "fewer GFLOPs (×)", "n": "pictures"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title}</title>
<style>:root {{ color-scheme: light dark; --line: #8886; }}
body {{ font: 15px/1.5 {font}; color: #222; background: #fff; max-width: 1000px; margin: 24px auto; padding: 0 16px; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e4e6ea; background: #16181c; }} }}
figure {{ margin: 0 0 28px; }} figcaption {{ margin: 0 0 6px; }} .scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }} caption {{ text-align: left; padding: 0 0 6px; }}
th, td {{ text-align: right; padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); vertical-align: bottom; }}
th[scope=row], .word {{ text-align: left; }} th[scope=row] {{ white-space: nowrap; }} th {{ font-weight: 600; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 2px 20px; }} dt {{ font-weight: 600; }} dd {{ margin: 0; }}
</style></head><body><main><h1>{title}</h1>
{figures}
<h2>Table</h2>
{table}
<h2>Where, when and with what</h2>
<p>{when}</p>
<dl>{facts}</dl></main></body></html>
"""


def report(table: DataFrame, path: str | Path, *, title: str = "Operating points",
           figures: Mapping[str, go.Figure] | None = None) -> Path:
    """Write a sweep as a page of HTML that needs no kernel, no network and no other file; returns its path.

    table: rows of `vitlab.sweep`, of several put together, or of a CSV of `measure.write`, whose machine, date and commit are
    told then; else those of now. The page has the plots that the columns allow: accuracy over cost and over speed, speed-up
    measured over promised. path: a name that ends in .html; the file appears complete or not at all. figures: more of plotly's,
    by their headings. ValueError for other rows, names or figures, OSError where nothing can be written.
    """
    path = path_of(path)
    if path.suffix != ".html":
        raise ValueError(f"a report is a web page, such as report.html, not {path.name or str(path)!r}")
    if not isinstance(table, DataFrame) or not {"gmacs", "top1"} <= set(table) or not len(table):
        raise ValueError("table must be rows of vitlab.sweep, with gmacs and top1, not "
                         + (f"a frame of {', '.join(map(str, table)) or 'nothing'}" if isinstance(table, DataFrame)
                            else f"a {type(table).__name__}"))
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title must be the page's heading, not {title!r}")
    shown = drawn(table, figures)
    told, when = facts(table)
    page = PAGE.format(title=escape(title), font=FONT, when=escape(when), table=tabled(table, title),
                       figures="\n".join(framed(*each, first=not n) for n, each in enumerate(shown)),
                       facts="".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told.items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, page.encode())
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror}); choose another folder") from error
    return path


def drawn(table: DataFrame, more: Mapping[str, go.Figure] | None) -> list[tuple[str, str, go.Figure]]:
    """Heading, caption and figure of each plot."""
    shown = [("Accuracy and cost", "Top-1 accuracy over GFLOPs per picture: up and to the left is better.",
              plots.tradeoff(table))]
    mine = table[sources(table) == "ours"] if "images_per_s" in table else table[:0]
    if len(timed := mine.dropna(subset=["images_per_s"]) if len(mine) else mine):
        shown.append(("Accuracy and speed", "Top-1 accuracy over pictures per second, measured: up and to the right is better.",
                      plots.tradeoff(timed, x="images_per_s")))
    if len(timed) > 1:
        shown.append(("Is a saved FLOP a saved moment?", "The speed-up that was measured over the one that the GFLOPs promise: "
                      "above the dashed line more was gained than promised.", plots.speed(timed)))
    if more is not None and not (isinstance(more, Mapping) and all(
            isinstance(name, str) and isinstance(figure, go.Figure) for name, figure in more.items())):
        raise ValueError("figures must be plotly's by their headings, such as {\"Exits\": plots.exits(table)}, or None")
    return shown + [(name, "", figure) for name, figure in (more or {}).items()]


def framed(heading: str, caption: str, figure: go.Figure, first: bool) -> str:
    """A figure below its heading; the first one brings plotly's own code."""
    html = go.Figure(figure).update_layout(autosize=True, width=None).to_html(
        full_html=False, include_plotlyjs=first, config={"responsive": True, "displaylogo": False})
    told = f"{heading}. {caption}".strip() + " The numbers are in the table below."
    return (f'<h2>{escape(heading)}</h2><figure><figcaption>{escape(caption)}</figcaption>'
            f'<div role="img" aria-label="{escape(told)}">{html}</div></figure>')


def tabled(table: DataFrame, title: str) -> str:
    """All rows as a table of HTML, without what is told beside it; its first column names the row."""
    shown = [name for name in table if name not in FACTS and not (name in CONDITIONS and same(table, name))
             and not table[name].isna().all()]
    shown.sort(key=lambda name: name != "point")
    heads = "".join(f'<th scope="col"{word(table, name)}>{escape(HEADS.get(name) or title_of(str(name)))}</th>' for name in shown)
    rows = "".join(f'<tr><th scope="row">{escape(cell(row[0]))}</th>' + "".join(
        f"<td{word(table, name)}>{escape(cell(value))}</td>" for name, value in zip(shown[1:], row[1:], strict=True)) + "</tr>"
        for row in table[shown].itertuples(index=False, name=None))
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><caption>{escape(title)}: '
            f"{len(table)} operating points</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>")


def same(table: DataFrame, name: str) -> bool:
    """Has a column one value in all rows?"""
    return table[name].astype(str).nunique() == 1


def word(table: DataFrame, name: str) -> str:
    """The class of a column of words."""
    return "" if table[name].dtype.kind in "biuf" else ' class="word"'


def cell(value: Any) -> str:
    """A value as people read it; nothing where there is none."""
    if isinstance(value, float):
        return "" if isna(value) else f"{value:.4g}"
    return "" if value is None else str(value)


def facts(table: DataFrame) -> tuple[dict[str, str], str]:
    """What all rows have in common, machine and versions, as words; and of when they are."""
    told = {words: cell(table[name].iloc[0]) for name, words in CONDITIONS.items() if name in table and same(table, name)}
    if set(FACTS) <= set(table):
        rows = table[table.commit.notna()]
        return told | {words: ", ".join(dict.fromkeys(map(cell, rows[name]))) for name, words in FACTS.items()}, \
            "As they were written beside the numbers."
    devices = table["device"].dropna().astype(str) if "device" in table else ()
    now = measure.facts(next((name for name in devices if name.startswith("cuda")), "cpu"))
    return told | {words: now[name] for name, words in FACTS.items()}, "Of the machine that wrote this page, when it did."
