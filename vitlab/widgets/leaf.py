"""What a panel shows as one page of HTML, which opens from a disk: no kernel, no network."""
import base64
from html import escape

import plotly.graph_objects as go

from vitlab.plots.theme import FONT
from vitlab.widgets import text
from vitlab.widgets.gaze import Gaze
from vitlab.widgets.records import Ask
from vitlab.widgets.twin import KINDS, Twin
from vitlab.widgets.view import PICTURES, View

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
{style}<style>body {{ font: 15px/1.5 {font}; color: #222; max-width: 1100px; margin: 24px auto; padding: 0 12px; }}
.vl-row {{ display: flex; flex-wrap: wrap; gap: 12px; }} .vl-picture {{ flex: 1 1 200px; max-width: 250px; }}</style></head>
<body data-jp-theme-light="true"><h1>{title}</h1><div class="vl-panel">
<p class="vl-answer">{answer}</p><p class="vl-speed">{speed}</p>{hand}{assigned}{walk}<div class="vl-row">{pictures}</div>
{beside}<p class="vl-life">{life}</p>{inside}
<p>{code}</p></div>{figure}{depth}</body></html>
"""


def leaf(view: View, twin: Twin, gaze: Gaze, assigned: str, ask: Ask, walk: str = "") -> str:
    """The page: answer, speed, pictures, what is pinned, a patch's life and what it looks at, the line of code, and the figures,
    which can still be zoomed.

    assigned, walk: what an assigner said, and what is said of the slice that is walked through, if there is one.
    """
    pictures = "".join(pictured(view.captions[kind].value, view.pictures[kind].value) for kind in PICTURES)
    twins = "".join(pictured(twin.captions[kind].value, twin.pictures[kind].value) for kind in KINDS)
    open = view.depth.layout.display != "none"
    return PAGE.format(title=escape(ask.title), style=text.STYLE, font=FONT, answer=view.answer.value, speed=view.speed.value,
                       hand=f'<p class="vl-hand">{view.hand.value}</p>' if view.hand.value else "",
                       walk=f'<p class="vl-life">{walk}</p>' if walk else "",
                       beside=f'<div class="vl-row">{twins}{twin.table.value}</div>' if twin.seen else "",
                       pictures=pictures, life=view.life.value, code=view.code.value, inside=inside(gaze),
                       assigned=told("assigned", assigned) if assigned else "",
                       figure=drawn(view.figure, True),
                       depth=f'<p class="vl-life">{view.knew.value}</p>{drawn(view.deep, False)}' if open else "")


def inside(gaze: Gaze) -> str:
    """What is read of the patch that is chosen, and whom it looks at; nothing where none is."""
    if gaze.drawing is None:
        return ""
    return (f'<p class="vl-read">{gaze.read.value}</p><div class="vl-row">'
            f'{pictured(gaze.caption.value, gaze.picture.value)}{told("told", gaze.told.value)}</div>')


def told(kind: str, html: str) -> str:
    """A sentence or a table in its own style."""
    return f'<div class="vl-{kind}">{html}</div>'


def pictured(caption: str, picture: bytes) -> str:
    """A picture as HTML, below its caption."""
    return (f'<div class="vl-picture">{caption}<img alt="{escape(text.words(caption))}" '
            f'src="data:image/png;base64,{base64.b64encode(picture).decode()}"></div>')


def drawn(figure: go.FigureWidget, library: bool) -> str:
    """A figure as HTML, with plotly's own code or after it."""
    return go.Figure(figure.to_dict()).update_layout(autosize=True, width=None).to_html(
        full_html=False, include_plotlyjs=library, config={"responsive": True})
