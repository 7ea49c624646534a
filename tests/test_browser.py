"""The notebooks in a real JupyterLab in a real browser: they run, the explorer's sliders move, and its numbers follow.

Screenshots are left in pytest's temporary folder, or in the folder that VITLAB_SCREENSHOTS names.
"""
import os
import shutil
from pathlib import Path

import nbformat
import pytest
from browser import ROOT, browser, jupyter, missing

pytestmark = pytest.mark.browser
NOTEBOOKS = ("00_start", "01_what_a_token_costs", "02_supervit_training", "03_dvt_cascade", "04_revit_token_length")
THERE = [name for name in NOTEBOOKS if (ROOT / "notebooks" / f"{name}.ipynb").exists()]
MINUTES = 20                                # for all cells of one notebook on a busy machine
SMALL = """
import torch, vitlab
torch.set_num_threads(1)
net = vitlab.create("supervit", "micro_patch8", num_classes=10)
panel = vitlab.explore(net, vitlab.data.shapes("val", n=64))
panel
"""
READY = """() => { const k = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
                   return k?.connectionStatus === 'connected' && k?.status === 'idle'; }"""
RUN = "() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
DONE = """() => { const w = window.jupyterapp.shell.currentWidget;
                  const code = [...w.content.model.cells].filter(c => c.type === 'code' && c.sharedModel.source.trim());
                  return code.every(c => c.executionCount !== null) && w.sessionContext.session.kernel.status === 'idle'; }"""
ERRORS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].flatMap((c, i) => c.type !== 'code' ? []
    : c.outputs.toJSON().filter(o => o.output_type === 'error').map(o => `cell ${i}: ${o.ename}: ${o.evalue}`))"""
OTHER_ANSWER = "before => document.querySelector('.vl-panel .vl-answer').textContent !== before"
SETTLED = """() => { const s = document.querySelector('.vl-panel .vl-speed');
                     return s && s.textContent.includes('median of') && !s.classList.contains('vl-old'); }"""
WATCH = """() => {                          // from the key's arrival to the first frame that shows another number
    const number = () => document.querySelector('.vl-panel .vl-number')?.textContent;
    window.vlDelay = null;
    window.addEventListener('keydown', () => {
        const begin = performance.now(), before = number();
        const look = () => number() !== before ? window.vlDelay = performance.now() - begin : requestAnimationFrame(look);
        look();
    }, {capture: true, once: true}); }"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(page maker, screenshot folder) of a JupyterLab that serves copies of the notebooks."""
    if reason := missing():
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_BROWSER") == "1" else pytest.skip)(f"no browser test: {reason}")
    base = tmp_path_factory.mktemp("lab")
    served = base / "served"
    served.mkdir()
    for name in THERE:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", served)
    for folder in ("data", "figures"):                                     # what notebooks read beside them, as in a checkout
        if (ROOT / folder).exists():
            (base / folder).symlink_to(ROOT / folder)
    small = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SMALL.strip())])
    small.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(small, served / "small.ipynb")
    shots = Path(os.environ.get("VITLAB_SCREENSHOTS", base / "screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    with jupyter(served, base / "home") as (address, token), browser() as window:
        yield lambda name: opened(window, f"{address}/lab/tree/{name}.ipynb?token={token}&reset"), shots


def opened(window, address):
    """A page with the notebook open and its kernel idle; it collects what the page complains of."""
    page = window.new_page(viewport={"width": 1400, "height": 1000})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(f"page error: {error}"))
    page.on("request", lambda r: None if r.url.split(":")[0] in ("data", "blob", "attachment") or "//127.0.0.1" in r.url
            else page.complaints.append(f"request to {r.url}"))
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_function(READY, timeout=90_000)
    return page


def test_there_are_notebooks_to_run():
    assert THERE, f"none of {', '.join(NOTEBOOKS)} is in notebooks/"


@pytest.mark.parametrize("name", ["small", *THERE])
def test_a_notebook_runs_in_the_browser_and_its_explorer_answers(lab, name):
    open_page, shots = lab
    if name in THERE:
        written = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
        assert "kernelspec" in written.metadata, f"{name} names no kernel, so JupyterLab would ask for one"
    page = open_page(name)
    try:
        page.evaluate(RUN)
        page.wait_for_function(DONE, timeout=MINUTES * 60_000, polling=200)
        assert page.evaluate(ERRORS) == []
        if name == "small" or "explore(" in (ROOT / "notebooks" / f"{name}.ipynb").read_text():
            drive(page, shots / name)
        else:
            page.screenshot(path=shots / f"{name}.png")
        assert page.complaints == []
    except BaseException:
        page.screenshot(path=shots / f"{name}-failed.png")
        raise
    finally:
        page.close()


def drive(page, shot):
    """Move sliders by keyboard and by mouse; the tokens and the number must follow.

    With first slider and keep rate at their ends every patch stays to the last block. The keep rate, or the first slider where
    there is none, changes every answer; any other slider is moved as well.
    """
    panel = page.locator(".vl-panel").first
    panel.scroll_into_view_if_needed()
    page.wait_for_function(SETTLED, timeout=120_000)
    page.wait_for_selector(".vl-panel .js-plotly-plot .main-svg")
    panel.screenshot(path=f"{shot}-panel.png")

    first, *others = [label for label in panel.locator(".widget-hslider:visible > label").all_inner_texts() if label != "layer"]
    last = "keep rate" if "keep rate" in others else first
    handle(panel, first).focus()
    page.keyboard.press("End")
    page.wait_for_function(SETTLED, timeout=120_000)
    tokens = panel.locator(".vl-answer")
    handle(panel, last).focus()
    page.keyboard.press("End")                                             # wherever the notebook left it
    page.wait_for_function("() => document.querySelector('.vl-panel .vl-answer').textContent.includes('196 of 196')"
                           " || document.querySelector('.vl-panel .vl-answer').textContent.includes('49 of 49')")
    page.wait_for_function(SETTLED, timeout=120_000)
    before = tokens.inner_text()
    page.keyboard.press("Home")
    page.wait_for_function(OTHER_ANSWER, arg=before, polling="raf")
    page.wait_for_function(SETTLED, timeout=120_000)
    assert delay(page, ["ArrowRight", "ArrowLeft", "ArrowRight"]) < 1000
    if last == first:
        page.keyboard.press("Home")
        page.wait_for_function(SETTLED, timeout=120_000)
        for label in others:                                               # such as what cost weighs for an assigner
            handle(panel, label).focus()
            page.keyboard.press("Home")
            page.wait_for_timeout(500)
            page.wait_for_function(SETTLED, timeout=120_000)
            delay(page, ["End"])
        page.wait_for_timeout(1500)                                        # all of that has reached the screen, and been answered
        page.wait_for_function(SETTLED, timeout=120_000)
        handle(panel, first).focus()
        before = tokens.inner_text()
        page.keyboard.press("End")
        page.wait_for_function(OTHER_ANSWER, arg=before, polling="raf")    # not what was settled before the key arrived
        page.wait_for_function(SETTLED, timeout=120_000)

    before, box = tokens.inner_text(), handle(panel, first).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(x - 30 * step, y)
    page.mouse.up()
    page.wait_for_function(OTHER_ANSWER, arg=before, polling="raf")
    page.wait_for_function(SETTLED, timeout=120_000)
    assert panel.locator(".vl-note").inner_text() == ""
    for theme in ("Light", "Dark"):
        page.evaluate(f"() => window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
        page.wait_for_timeout(800)
        panel.screenshot(path=f"{shot}-{theme.lower()}.png")
        page.screenshot(path=f"{shot}-{theme.lower()}-page.png")


def handle(panel, label):
    """The handle of the slider with this label."""
    return panel.locator(f".widget-hslider:visible:has(label:text-is('{label}')) .noUi-handle")


def delay(page, keys):
    """Milliseconds from a key press to another number on the screen, the best of several: the machine is shared."""
    times = []
    for key in keys:
        page.evaluate(WATCH)
        page.keyboard.press(key)
        page.wait_for_function("() => window.vlDelay !== null", timeout=60_000)
        times.append(page.evaluate("() => window.vlDelay"))
        page.wait_for_function(SETTLED, timeout=120_000)
    print(f"key to number: {', '.join(f'{t:.0f}' for t in times)} ms")
    return min(times)
