"""The notebooks in a real JupyterLab in a real browser: they run, the explorer's sliders move, and its numbers follow.

Two notebooks run whole, with ■ pressed in their trainings, of the others what their explorer needs, with brief measurements; all
on few pictures: nbval runs everything as it is. Both themes of JupyterLab are tried on three panels, and on all where screenshots
are wanted.
Screenshots are left in pytest's temporary folder, or in the folder that VITLAB_SCREENSHOTS names.
"""
import os
import re
import time
from pathlib import Path

import nbformat
import pytest
from browser import ROOT, browser, jupyter, missing
from excerpt import explorer_part, is_live, on_few, unrun
from nbformat.v4 import new_code_cell, new_notebook
from page import FAILED, FILLED, SETTLED, changed, handle, knobs, opened, run, run_impatiently, until

from vitlab.widgets.text import digits

pytestmark = pytest.mark.browser
WHOLE = ("00_start", "02_supervit_training")
THEMED = ("small", *WHOLE)
BOOKS = {path.stem: nbformat.read(path, 4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
EXPLORERS = [name for name, book in BOOKS.items() if any(map(is_live, book.cells)) and name not in WHOLE]
MINUTES = 20                                # for all cells of one notebook on a busy machine
SMALL = """
import torch, vitlab
net = vitlab.create("supervit", "micro_patch8", num_classes=10)
panel = vitlab.explore(net, vitlab.data.shapes("val", n=64))
panel
"""
GOVERNED = """
import torch, vitlab
net = vitlab.create("supervit", "micro_patch8", num_classes=10)
panel = vitlab.govern(net, vitlab.data.shapes("val", n=64), batch=4)
panel.wait(120)
panel
"""
ANSWERED = "images => document.querySelector('.vl-panel .vl-speed')?.textContent.includes(` of ${images} images/s`)"
FILLED_LINE = "() => document.querySelector('.vl-panel .js-plotly-plot .scatterlayer .js-line') !== null"
PRESSED = "() => document.querySelector('.vl-panel button[title^=run]').getAttribute('aria-pressed')"
NOW = "import os, time; _ = open('failed', 'w').write(str(time.time()))"
BROKEN = """
import torch, vitlab
net = vitlab.create("dense", "micro_patch8", num_classes=10)
_ = torch.nn.init.constant_(net.vit.head.bias, float("nan"))
vitlab.explore(net, vitlab.data.shapes("val", n=12))
"""
BRIEF = """
from vitlab.widgets import engine
engine.SECONDS = 0.1
"""
FOREVER = "import time; time.sleep(3600)"
OTHER_ANSWER = "before => document.querySelector('.vl-panel .vl-answer').textContent !== before"
NO_TOKEN_GONE = """() => ['196 of 196', '49 of 49'].some(
    all => document.querySelector('.vl-panel .vl-answer').textContent.includes(all))"""
OUTPUTS = """() => { const cell = document.querySelector('.jp-OutputArea:has(.vl-panel)');
    return [cell.querySelectorAll('.jp-OutputArea-output').length, cell.querySelectorAll('.jp-RenderedImage').length]; }"""
NAMELESS = """() => [...document.querySelectorAll('.vl-panel :is(select, input, button, img, .noUi-handle)')]
    .filter(node => node.offsetParent && !node.getAttribute('aria-label') && !node.alt).map(node => node.outerHTML)"""
MARKED = """() => [...document.querySelectorAll('.vl-panel .vl-picture')].every(frame => {
    const mark = frame.querySelector('.vl-mark').getBoundingClientRect();
    const picture = frame.querySelector('img').getBoundingClientRect();
    return mark.width > 3 && mark.left > picture.left + 5 && mark.right < picture.right - 5 && mark.top > picture.top + 5; })"""
ACTIVE = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
TOLD = "words => document.querySelector('.vl-panel .vl-life').textContent.includes(words)"
BY_HAND = """() => {                        // from a click or key to the first frame that says what the hand has changed
    const said = () => document.querySelector('.vl-panel .vl-hand').textContent, before = said();
    const begin = performance.now();
    window.vlHand = null;
    const look = () => said() !== before ? window.vlHand = performance.now() - begin : requestAnimationFrame(look);
    look(); }"""
INSIDE = """() => {                         // from a click to the frames that show the strip of another patch, and its row
    const [strip, row] = ['.vl-life', '.vl-gazed img'].map(kind => document.querySelector(`.vl-panel ${kind}`));
    const [said, drawn, begin] = [strip.textContent, row.src, performance.now()], seen = window.vlSeen = [null, null];
    const look = () => {
        if (strip.textContent !== said) seen[0] ??= performance.now() - begin;
        if (row.src !== drawn) seen[1] ??= performance.now() - begin;
        if (seen.includes(null)) requestAnimationFrame(look); };
    look(); }"""
NEW_ROW = """before => document.querySelector('.vl-panel .vl-gazed img').src !== before
    && !document.querySelector('.vl-panel .vl-gaze').classList.contains('vl-old')"""
MARKS = """() => {                          // where the marks of the right half of the figure are, in pixels; not the papers'
    const plot = document.querySelector('.vl-panel .vl-view .js-plotly-plot'), box = plot.getBoundingClientRect();
    const { xaxis2: across, yaxis2: up } = plot._fullLayout, marks = [];
    for (const { xaxis, name, mode, x, y, marker } of plot._fullData)
        if (xaxis === 'x2' && mode?.includes('markers') && name !== 'here')
            [...x].forEach((value, n) => {
                const symbol = Array.isArray(marker.symbol) ? marker.symbol[n] : marker.symbol;
                if (value !== null && !symbol.endsWith('-open'))
                    marks.push([box.left + across._offset + across.d2p(value), box.top + up._offset + up.d2p(y[n]), value]); });
    return marks; }"""
RING = """() => {                           // how far to the right the ring is: the cost of the point in view; null for none
    const plot = document.querySelector('.vl-panel .vl-view .js-plotly-plot');
    return plot._fullData.find(trace => trace.name === 'here').x[0] ?? null; }"""
RINGED = f"cost => Math.abs(({RING})() - cost) < 0.03 * cost"      # a point visited by hand costs a little less than without
STANDS = "() => [...document.querySelectorAll('.vl-panel .vl-knobs .widget-readout')].map(node => node.textContent)"
JUMPED = """() => {                         // from a click on a mark to the first frame in which a slider stands elsewhere
    const stands = () => document.querySelector('.vl-panel .vl-knobs').textContent, before = stands();
    const begin = performance.now();
    window.vlJump = null;
    const look = () => stands() !== before ? window.vlJump = performance.now() - begin : requestAnimationFrame(look);
    look(); }"""
SAVE = """async path => {                   // in the kernel, as a cell would
    const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
    const code = `from vitlab.widgets.door import LIVE
shown = [*LIVE.values()][-1]
assert shown.wait()
shown.save(${JSON.stringify(path)})`;
    return (await kernel.requestExecute({ code }).done).content.status; }"""
LOADED = """() => [...document.images].every(image => image.complete && image.naturalWidth > 3)
    && document.querySelectorAll('.js-plotly-plot .scatterlayer .point').length > 0"""
FORCED = "kinds => String(['keep', 'drop'].map(k => document.querySelectorAll(`.vl-panel .vl-${k}`).length)) === String(kinds)"
WALKED = "words => document.querySelector('.vl-panel .vl-walk').textContent.includes(words)"
PLACED = "place => document.querySelector('.vl-panel .vl-walk').textContent.startsWith(`${place} of `)"     # 1, and not 11
ALONE = """() => { const told = document.querySelector('.vl-panel .vl-taken');
    return told?.textContent.includes('for one picture alone') && !told.classList.contains('vl-old'); }"""
FASTEST = "() => document.querySelector('.vl-panel .vl-speed').textContent.includes('the fastest; ')"
TWO = """() => { const table = document.querySelector('.vl-panel .vl-beside table');       // both are told, and timed
    return table?.rows.length === 3 && !table.textContent.includes('…'); }"""
APART = """() => { const table = document.querySelector('.vl-panel .vl-beside table');     // and of two operating points
    const [one, two] = [1, 2].map(row => table?.rows[row].cells[0].textContent.split(': ')[1]);
    return one !== two && !table.textContent.includes('…'); }"""
DEEP = "() => document.querySelectorAll('.vl-panel .vl-depth .scatterlayer .point').length > 3"
WATCH = """() => {                          // from the key's arrival to the first frame that shows another number
    const number = () => document.querySelector('.vl-panel .vl-number')?.textContent;
    window.vlDelay = null;
    window.addEventListener('keydown', () => {
        const begin = window.vlBegin = performance.now(), before = number();
        const look = () => number() !== before ? window.vlDelay = performance.now() - begin : requestAnimationFrame(look);
        look();
    }, {capture: true, once: true}); }"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(a JupyterLab that serves what is to be run, a browser, the folder it serves, the folder for screenshots)."""
    if reason := missing():
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_BROWSER") == "1" else pytest.skip)(f"no browser test: {reason}")
    base = tmp_path_factory.mktemp("lab")
    served = base / "served"
    served.mkdir()
    for folder in ("data", "figures"):                                     # what notebooks read beside them, as in a checkout
        (base / folder).symlink_to(ROOT / folder)
    shots = Path(os.environ.get("VITLAB_SCREENSHOTS", base / "screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    with jupyter(served, base / "home") as server, browser() as window:
        yield server, window, served, shots


@pytest.fixture(scope="module")
def pages():
    """The page that is open, for the next notebook."""
    return []


@pytest.fixture
def open_page(lab, pages):
    """Opens a notebook; its kernel is shut down when the test ends. The page is kept unless something in it has failed."""
    server, window, served, _ = lab

    def open_page(name, book):
        nbformat.write(unrun(book), served / f"{name}.ipynb")
        pages[:] = [changed(pages[0], name) if pages else opened(window, server.page(name))]
        return pages[0]
    yield open_page
    if not pages or pages[0].evaluate(FAILED) or pages[0].spoilt:
        while pages:
            pages.pop().close()
    server.end_kernels()
    assert server.kernels() == []


def test_there_are_notebooks_to_run():
    assert set(WHOLE) <= set(BOOKS)
    assert EXPLORERS
    nameless = [name for name, book in BOOKS.items() if "kernelspec" not in book.metadata]
    assert not nameless, "JupyterLab would ask for a kernel"


@pytest.mark.parametrize("name", ["small", *WHOLE, *EXPLORERS])
def test_a_notebook_runs_in_the_browser_and_its_explorer_answers(lab, open_page, name):
    *_, shots = lab
    book = BOOKS.get(name) or new_notebook(cells=[new_code_cell(SMALL.strip(), metadata={"tags": ["live"]})])
    book = on_few(book if name in WHOLE else explorer_part(book))
    book.cells[:0] = [new_code_cell(BRIEF.strip())] if name in EXPLORERS else []
    page = open_page(name, book)
    try:
        print(f"{name}: {run_impatiently(page, MINUTES)} trainings ended by ■")
        drive(page, shots / name, brief=name in EXPLORERS)
        if name in THEMED or "VITLAB_SCREENSHOTS" in os.environ:
            change_themes(page, shots / name)
        assert page.evaluate(OUTPUTS) == [1, 0], "the panel takes the place of the stored picture"
        assert page.complaints == []
    except BaseException:
        page.spoilt = True
        page.screenshot(path=shots / f"{name}-failed.png")
        raise


@pytest.mark.parametrize(("fails", "words"), [
    ("raise ValueError('on purpose')", "cell 1: ValueError: on purpose"), ("os._exit(1)", "the kernel died")])
def test_a_failing_cell_ends_the_waiting_at_once_with_its_error(lab, open_page, fails, words):
    _, _, served, _ = lab
    page = open_page("fails", new_notebook(cells=[new_code_cell(source) for source in ("x = 1", f"{NOW}\n{fails}", FOREVER)]))
    with pytest.raises(RuntimeError, match=words):
        run(page, MINUTES)
    assert time.time() - float((served / "failed").read_text()) < 10


def test_a_red_panel_ends_the_waiting_too(open_page):
    page = open_page("red", new_notebook(cells=[new_code_cell(BROKEN.strip()), new_code_cell(FOREVER)]))
    with pytest.raises(RuntimeError, match="the panel says: the logits are not finite: vit.head.bias holds NaN"):
        run(page, MINUTES)


def test_a_governor_is_watched_in_the_browser(lab, open_page):
    *_, shots = lab
    page = open_page("governed", new_notebook(cells=[new_code_cell(GOVERNED.strip())]))
    run(page, MINUTES)
    panel = page.locator(".vl-governor")
    panel.get_by_role("button", name="run").click()
    until(page, FILLED_LINE)
    until(page, f"() => ({PRESSED})() === 'true'")
    assert page.evaluate(NAMELESS) == []
    panel.get_by_role("button", name="another process").click()
    until(page, "() => document.querySelectorAll('.vl-panel .js-plotly-plot .shapelayer path').length > 0")
    handle(panel, "images per second").focus()
    page.keyboard.press("Home")                                            # the slowest that can be asked for
    least = panel.locator(".widget-hslider .widget-readout").inner_text()
    until(page, ANSWERED, arg=digits(int(least)))
    for theme in ("Light", "Dark"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_timeout(800)
        panel.screenshot(path=shots / f"governed-{theme.lower()}.png")
    panel.get_by_role("button", name="run").click()
    until(page, "() => document.querySelector('.vl-panel .vl-answer').textContent.includes('nobody answers now')")
    until(page, f"() => ({PRESSED})() === 'false'")
    assert page.complaints == []


def drive(page, shot, brief=False):
    """Move sliders by keyboard and by mouse; the tokens and the number must follow, before a measurement that takes long ends.

    With first slider and keep rate at their ends every patch stays to the last block. The keep rate, or the first slider where
    there is none, changes every answer; any other slider is moved as well.
    """
    panel = page.locator(".vl-panel").first
    panel.scroll_into_view_if_needed()
    until(page, SETTLED)
    until(page, FILLED)
    panel.screenshot(path=f"{shot}-panel.png")
    serve_a_person(page, panel)
    look_inside(page, panel, shot)
    force(page, panel, shot)
    walk(page, panel, shot)
    if not brief:
        read_out(page, panel, shot)
    pin(page, panel, shot)

    first, *others = knobs(panel)
    last = "keep rate" if "keep rate" in others else first
    handle(panel, first).focus()
    page.keyboard.press("End")
    page.wait_for_timeout(500)                                             # the key has been answered, if it changes anything
    until(page, SETTLED)
    tokens = panel.locator(".vl-answer")
    handle(panel, last).focus()
    page.keyboard.press("End")                                             # wherever the notebook left it
    page.wait_for_timeout(500)
    until(page, NO_TOKEN_GONE)
    until(page, SETTLED)
    before = tokens.inner_text()
    page.keyboard.press("Home")
    until(page, OTHER_ANSWER, arg=before, polling="raf")
    until(page, SETTLED)
    if not brief:
        delay(page, ("ArrowRight", "ArrowLeft"))
    if last == first:
        page.keyboard.press("Home")
        until(page, SETTLED)
        for label in others:                                               # such as what cost weighs for an assigner
            handle(panel, label).focus()
            page.keyboard.press("Home")
            page.wait_for_timeout(500)
            until(page, SETTLED)
            page.keyboard.press("End")
            page.wait_for_timeout(500)
            until(page, SETTLED)
        page.wait_for_timeout(1500)                                        # all of that has reached the screen, and been answered
        until(page, SETTLED)
        handle(panel, first).focus()
        before = tokens.inner_text()
        page.keyboard.press("End")
        until(page, OTHER_ANSWER, arg=before, polling="raf")               # not what was settled before the key arrived
        until(page, SETTLED)

    before, box = tokens.inner_text(), handle(panel, first).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(x - 30 * step, y)
    page.mouse.up()
    until(page, OTHER_ANSWER, arg=before, polling="raf")
    until(page, SETTLED)
    until(page, FILLED)
    assert panel.locator(".vl-note").inner_text() == ""
    until(page, MARKED)                                                    # the patch that was chosen, after all of that
    jump(page, panel)
    take_away(page, panel, shot)


def jump(page, panel):
    """A mark of the figure is clicked, the one farthest from the ring: the sliders go there, and the ring follows."""
    plot = panel.locator(".vl-view .vl-plots")
    plot.scroll_into_view_if_needed()
    before = page.evaluate(STANDS)
    for _ in range(5):                                                     # a figure that is just drawn anew hears no click,
        here = page.evaluate(RING)                                         # and its ring may still be where it was before
        x, y, cost = max(page.evaluate(MARKS), key=lambda mark: abs(mark[2] - (here or 0)))
        assert cost != here
        page.mouse.move(x - 8, y - 8)
        page.mouse.move(x, y)
        page.wait_for_timeout(300)                                         # plotly has seen what is under the mouse
        page.evaluate(JUMPED)
        page.mouse.click(x, y)
        page.wait_for_timeout(2000)
        if page.evaluate("window.vlJump !== null"):
            break
    until(page, "() => window.vlJump !== null", polling="raf", seconds=20)
    print(f"from a mark to the sliders: {page.evaluate('window.vlJump'):.0f} ms")
    until(page, RINGED, arg=cost)
    until(page, SETTLED)
    assert page.evaluate(STANDS) != before
    assert panel.locator(".vl-note").inner_text() == ""


def take_away(page, panel, shot):
    """The panel is written as a page, which opens from the disk, without a server or a network, and shows what was shown."""
    path = shot.with_suffix(".html").resolve()
    assert page.evaluate(SAVE, str(path)) == "ok"
    until(page, SETTLED)
    alone = page.context.browser.new_context(offline=True).new_page()
    complaints = []
    alone.on("pageerror", lambda error: complaints.append(str(error)))
    alone.on("request", lambda each: None if each.url.split(":")[0] in ("file", "data", "blob") else complaints.append(each.url))
    alone.goto(path.as_uri())
    alone.wait_for_function(LOADED, timeout=60_000)
    for kind in (".vl-answer", ".vl-speed"):
        assert " ".join(alone.locator(kind).inner_text().split()) == " ".join(panel.locator(kind).inner_text().split())
    assert complaints == []
    if "VITLAB_SCREENSHOTS" in os.environ:
        alone.screenshot(path=f"{shot}-leaf.png", full_page=True)
    alone.context.close()


def change_themes(page, shot):
    """Light and dark, with a picture of each."""
    panel = page.locator(".vl-panel").first
    for theme in ("Light", "Dark"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_timeout(800)
        panel.screenshot(path=f"{shot}-{theme.lower()}.png")
        page.screenshot(path=f"{shot}-{theme.lower()}-page.png")


def serve_a_person(page, panel):
    """Whatever can be used has a name; keys stay in the panel; a patch that is clicked, and its neighbour by a key, is told."""
    page.wait_for_timeout(200)                                             # names follow what is drawn
    assert page.evaluate(NAMELESS) == []
    panel.locator("select").nth(1).focus()                                 # the device: on most machines there is one
    cell = page.evaluate(ACTIVE)
    page.keyboard.press("ArrowDown")
    assert page.evaluate(ACTIVE) == cell
    picture = panel.locator(".vl-picture img").first
    box = picture.bounding_box()
    page.mouse.click(box["x"] + 0.01 * box["width"], box["y"] + 0.01 * box["height"])
    until(page, TOLD, arg="row 1, column 1 ", polling="raf")
    page.keyboard.press("ArrowRight")
    until(page, TOLD, arg="row 1, column 2 ", polling="raf")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    until(page, MARKED)                                                    # inside the picture, on all three
    until(page, SETTLED)


def look_inside(page, panel, shot):
    """A click on a patch shows what is read from it and whom it looks at; another row and head by keys. Then the middle again."""
    picture, row = panel.locator(".vl-picture img").first, panel.locator(".vl-gazed img")
    box, delays = picture.bounding_box(), []
    for share in (0.2, 0.8, 0.35):
        page.evaluate(INSIDE)
        page.mouse.click(box["x"] + share * box["width"], box["y"] + share * box["height"])
        until(page, "() => window.vlSeen.every(ms => ms !== null)", polling="raf")
        delays.append("{:.0f}/{:.0f}".format(*page.evaluate("window.vlSeen")))
        until(page, SETTLED)
    print(f"from a click to the strip and to the row: {', '.join(delays)} ms")
    assert "read alone" in panel.locator(".vl-read").inner_text()
    for label, key in (("attention of", "ArrowDown"), ("head", "ArrowDown")):
        before = row.get_attribute("src")
        panel.locator(f".vl-gaze select[aria-label='{label}']").focus()
        page.keyboard.press(key)
        until(page, NEW_ROW, arg=before, polling="raf")
    page.wait_for_timeout(200)                                             # names follow what is drawn
    assert page.evaluate(NAMELESS) == []
    assert re.search("head 1: attention of .*: .*(goes to patches|takes no part)", row.get_attribute("alt"))
    photograph(page, panel, f"{shot}-inside")
    box = picture.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    until(page, MARKED)
    until(page, SETTLED)


def force(page, panel, shot):
    """What if: a click keeps a patch, Enter drops it, the answer follows at once; a button clears. Then along the depth."""
    mode = panel.get_by_role("button", name="what if")
    if mode.is_enabled():
        mode.click()
        page.wait_for_timeout(300)
        picture, delays = panel.locator(".vl-picture img").first, []
        box = picture.bounding_box()
        for turn, kinds in ((lambda: page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"]), (3, 0)),
                            (lambda: page.keyboard.press("Enter"), (0, 3)), (lambda: page.keyboard.press(" "), (0, 0)),
                            (lambda: page.keyboard.press("Enter"), (3, 0)), (lambda: page.keyboard.press("Enter"), (0, 3))):
            page.evaluate(BY_HAND)
            picture.focus()
            turn()
            until(page, FORCED, arg=list(kinds), polling="raf")            # on all three pictures
            until(page, "() => window.vlHand !== null", seconds=60)
            delays.append(page.evaluate("window.vlHand"))
            until(page, SETTLED)
        print(f"from a patch to the answer by hand: {', '.join(f'{ms:.0f}' for ms in delays)} ms")
        assert min(delays) <= 500
        assert "1 patch dropped" in panel.locator(".vl-hand").inner_text()
        assert "vitlab.Forced(net, drop=[" in panel.locator(".vl-code").inner_text()
    panel.get_by_role("button", name="along the depth").click()
    until(page, DEEP, polling="raf")
    assert "leads from" in panel.locator(".vl-depth .vl-life").inner_text()
    until(page, SETTLED)
    for theme in ("Dark", "Light"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_timeout(800)
        if mode.is_enabled():
            until(page, MARKED)
        panel.screenshot(path=f"{shot}-hand-{theme.lower()}.png")
    panel.get_by_role("button", name="along the depth").click()
    if mode.is_enabled():
        panel.get_by_role("button", name="clear").click()
        until(page, "() => document.querySelector('.vl-panel .vl-hand').textContent === ''")
        mode.click()
    until(page, SETTLED)


def walk(page, panel, shot):
    """A slice of the pictures is chosen, the least sure first; the arrow keys step through it and the picture follows."""
    switch, number = panel.get_by_role("button", name="walk a slice"), panel.locator(".vl-row input[type=number]").first
    switch.click()
    until(page, WALKED, arg="of ", polling="raf")
    panel.locator(".vl-slice select").first.select_option(label="least sure first")
    until(page, WALKED, arg="least sure", polling="raf")
    until(page, PLACED, arg=1, polling="raf")
    until(page, SETTLED)
    assert page.evaluate(NAMELESS) == []
    least = number.input_value()
    panel.locator(".vl-slice .vl-next:enabled").focus()
    page.keyboard.press("ArrowRight")
    until(page, PLACED, arg=2, polling="raf")
    assert number.input_value() != least
    page.keyboard.press("ArrowLeft")
    until(page, PLACED, arg=1, polling="raf")
    assert number.input_value() == least
    assert f"images([{least}])" in panel.locator(".vl-code").inner_text()
    until(page, SETTLED)
    panel.locator(".vl-slice select").first.select_option(label="wrong here, right there")
    until(page, WALKED, arg="right at ", polling="raf")
    until(page, SETTLED)
    photograph(page, panel, f"{shot}-slice")
    switch.click()
    until(page, "() => document.querySelector('.vl-panel .vl-slice').offsetParent === null")
    until(page, SETTLED)


def read_out(page, panel, shot):
    """Latency on demand, the fastest precision, and the page of what is shown, by the keyboard."""
    switch, precision = panel.get_by_role("button", name="latency"), panel.get_by_label("precision")
    switch.focus()
    page.keyboard.press("Enter")
    until(page, ALONE)
    before = precision.input_value()
    precision.select_option("auto")
    until(page, FASTEST)
    until(page, ALONE)
    panel.get_by_role("button", name="page", exact=True).focus()
    page.keyboard.press("Enter")
    until(page, "() => document.querySelector('.vl-panel').textContent.includes('panel.html is written')")
    assert page.evaluate(NAMELESS) == []
    photograph(page, panel, f"{shot}-readouts")
    precision.select_option(before)
    until(page, "() => !document.querySelector('.vl-panel .vl-speed').textContent.includes('the fastest')")
    switch.click()
    until(page, "() => document.querySelector('.vl-panel .vl-taken').offsetParent === null")
    until(page, SETTLED)


def pin(page, panel, shot):
    """Two at once: what is shown is pinned, a slider moves, both stand side by side and are timed in turns."""
    switch = panel.get_by_role("button", name="pin", exact=True)
    handle(panel, knobs(panel)[-1]).focus()
    page.keyboard.press("End")
    page.wait_for_timeout(500)
    until(page, SETTLED)
    switch.click()
    until(page, TWO)
    handle(panel, knobs(panel)[-1]).focus()
    page.keyboard.press("Home")
    until(page, APART)
    until(page, SETTLED)
    assert page.evaluate(NAMELESS) == []
    assert panel.locator(".vl-twin img").count() == 2
    photograph(page, panel, f"{shot}-pinned")
    switch.click()
    until(page, "() => document.querySelector('.vl-panel .vl-beside').offsetParent === null")
    until(page, SETTLED)


def photograph(page, panel, shot):
    """Narrow and wide, dark and light, where the pictures are wanted."""
    for width in (700, 1400) if "VITLAB_SCREENSHOTS" in os.environ else ():
        page.set_viewport_size({"width": width, "height": 3000 if width < 1000 else 1600})
        for theme in ("Dark", "Light"):
            page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
            page.wait_for_timeout(800)
            panel.screenshot(path=f"{shot}-{width}-{theme.lower()}.png")


def delay(page, keys, tries=4):
    """A key press shows another number on the screen well before the measurement behind it has ended. The other core may be busy,
    so one press of several must do; a panel that waited for its whole measurement would show nothing earlier, every time."""
    shares = []
    while not shares or min(shares) > 0.7 and len(shares) < tries:
        page.evaluate(WATCH)
        page.keyboard.press(keys[len(shares) % len(keys)])
        until(page, "() => window.vlDelay !== null", seconds=60)
        until(page, SETTLED)
        first, all_of_it = page.evaluate("() => [window.vlDelay, performance.now() - window.vlBegin]")
        shares.append(first / all_of_it)
        print(f"key to number: {first:.0f} ms, to the last of its measurement: {all_of_it:.0f} ms")
    assert min(shares) <= 0.7
