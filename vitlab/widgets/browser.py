"""The panel's two widgets of our own: what the browser does for it, in JavaScript beside this file."""
from pathlib import Path

import anywidget
from traitlets import Bool, Dict, Int, List, Unicode

HERE = Path(__file__).parent
LIMIT, SIDE = 8_000_000, 1024               # bytes of a file as it is (a message may have 10 MB); pixels of one made smaller


class Aide(anywidget.AnyWidget):
    """Names for screen readers, keys that stay in the panel, and patches to point at: `patch` is [row, column] or []."""

    _esm = HERE / "aide.js"
    grid = Int(1).tag(sync=True)            # patches per side of the layer in view
    patch = List(Int()).tag(sync=True)
    pictures = Int(3).tag(sync=True)        # that the panel has
    figure = Unicode().tag(sync=True)       # what its figure shows, for those who do not see it
    forcing = Bool().tag(sync=True)         # does a click, or Enter, turn a patch on: free, kept, dropped?
    turn = List(Int()).tag(sync=True)       # [row, column, which click], the patch that was turned
    keep, drop = List(Int()).tag(sync=True), List(Int()).tag(sync=True)        # patches forced, by number on hand x hand
    hand = Int(1).tag(sync=True)


class Picker(anywidget.AnyWidget):
    """A button that sends one file: `file` holds its name and content; `refused` begins with why one was not sent."""

    _esm = HERE / "upload.js"
    limit, side = Int(LIMIT).tag(sync=True), Int(SIDE).tag(sync=True)
    hint = Unicode(f"a picture; one of more than {LIMIT // 10 ** 6} MB is made smaller first").tag(sync=True)
    file = Dict().tag(sync=True)
    refused = List().tag(sync=True)
