"""A notebook open in JupyterLab: run its cells, wait for something to hold, and know at once when something has failed."""
import math
import time

READY = """() => { const k = window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel;
                   return k?.connectionStatus === 'connected' && k?.status === 'idle'; }"""
RUN = """() => { window.vlDied = null;
    window.jupyterapp.shell.currentWidget.sessionContext.statusChanged.connect((_, status) => {
        if (['autorestarting', 'restarting', 'terminating', 'dead'].includes(status)) window.vlDied = status; });
    window.jupyterapp.commands.execute('notebook:run-all-cells'); }"""
CHANGE = """async path => { const { shell, commands } = window.jupyterapp, old = [...shell.widgets('main')];
    await commands.execute('docmanager:open', { path });
    old.forEach(widget => widget.close()); }"""
CLEAN = "() => { window.jupyterapp.shell.currentWidget.context.model.dirty = false; }"
DONE = """() => { const w = window.jupyterapp.shell.currentWidget;
                  const code = [...w.content.model.cells].filter(c => c.type === 'code' && c.sharedModel.source.trim());
                  return code.every(c => c.executionCount !== null) && w.sessionContext.session.kernel.status === 'idle'; }"""
FAILED = """() => { const failed = [];
    [...window.jupyterapp.shell.currentWidget.content.model.cells].forEach((c, i) => {
        for (let n = 0; c.type === 'code' && n < c.outputs.length; n++)
            if (c.outputs.get(n).type === 'error') {
                const { ename, evalue } = c.outputs.get(n).toJSON();
                failed.push(`cell ${i}: ${ename}: ${evalue}`); } });
    if (window.vlDied) failed.push(`the kernel died (${window.vlDied})`);
    for (const note of document.querySelectorAll('.vl-panel .vl-failed')) failed.push(`the panel says: ${note.textContent}`);
    return failed; }"""
RUNNING = """() => { const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];   // the cell that runs now
    return cells.findIndex(c => c.type === 'code' && c.sharedModel.source.trim() && c.executionCount === null); }"""
SOURCE = "i => window.jupyterapp.shell.currentWidget.content.model.cells.get(i).sharedModel.source"
ENOUGH = 5              # seconds of a training after which a person presses ■
STOP = "[data-command='notebook:interrupt-kernel']:visible"
SETTLED = """() => { const s = document.querySelector('.vl-panel .vl-speed');
                     return s && s.textContent.includes('median of') && !s.classList.contains('vl-old'); }"""
FILLED = "() => document.querySelector('.vl-panel .js-plotly-plot .scatterlayer .point') !== null"


def opened(window, address: str, width: int = 1400, scale: float = 1):
    """A page with the notebook open and its kernel idle; it collects what the page complains of."""
    page = window.new_page(viewport={"width": width, "height": 1000}, device_scale_factor=scale)
    page.complaints, page.spoilt = [], False
    page.on("pageerror", lambda error: page.complaints.append(f"page error: {error}"))
    page.on("request", lambda r: None if r.url.split(":")[0] in ("data", "blob", "attachment") or "//127.0.0.1" in r.url
            else page.complaints.append(f"request to {r.url}"))
    page.goto(address)
    return ready(page)


def changed(page, notebook: str):
    """The same page with this notebook in the place of the one that was open, its kernel idle; it complains of nothing yet.

    As whoever clicks on another file: JupyterLab itself, which takes seconds, is not loaded again.
    """
    page.evaluate(CLEAN)                                                   # else it would ask whether to save what has run
    page.complaints.clear()
    page.evaluate(CHANGE, f"{notebook}.ipynb")
    return ready(page)


def ready(page):
    """The page once its notebook is drawn and its kernel idle."""
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
    page.wait_for_function(READY, timeout=90_000)
    return page


def run(page, minutes: float) -> None:
    """Run all cells to their end."""
    page.evaluate(RUN)
    until(page, DONE, seconds=60 * minutes)


def run_impatiently(page, minutes: float) -> int:
    """The same, but whoever sees a training for some seconds presses ■: how many were ended so. The rest goes on with what was
    learned; what is over sooner is let be."""
    page.evaluate(RUN)
    ended, end = 0, time.monotonic() + 60 * minutes
    here, since = -1, time.monotonic()
    while not page.evaluate(DONE):
        if failed := page.evaluate(FAILED):
            raise RuntimeError("; ".join(failed))
        if time.monotonic() > end:
            raise TimeoutError(f"the cells have not run to their end within {minutes} minutes")
        if (now := page.evaluate(RUNNING)) != here:
            here, since = now, time.monotonic()
        elif here >= 0 and "vitlab.fit(" in page.evaluate(SOURCE, here) and time.monotonic() - since > ENOUGH:
            page.locator(STOP).first.click()
            ended, since = ended + 1, math.inf
        page.wait_for_timeout(200)
    if failed := page.evaluate(FAILED):
        raise RuntimeError("; ".join(failed))
    return ended


def handle(panel, label: str):
    """The handle of the slider with this label."""
    return panel.locator(f".widget-hslider:visible:has(label:text-is('{label}')) .noUi-handle")


def knobs(panel) -> list[str]:
    """The labels of the sliders that choose an operating point."""
    return [label for label in panel.locator(".widget-hslider:visible > label").all_inner_texts() if label != "layer"]


def until(page, condition: str, *, arg=None, seconds: float = 120, polling: str | int = 100) -> None:
    """Wait until a condition, a JavaScript function of `arg`, holds.

    RuntimeError as soon as a cell has failed, the kernel has died or the panel is red: what is waited for will not come.
    """
    page.wait_for_function(f"arg => ({FAILED})().length > 0 || ({condition})(arg)", arg=arg, timeout=1000 * seconds,
                           polling=polling)
    if failed := page.evaluate(FAILED):
        raise RuntimeError("; ".join(failed))
