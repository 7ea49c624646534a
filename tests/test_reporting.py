"""A sweep as one page: it holds the sweep's numbers, and in a browser that has no network and no server it draws its plots."""
import os
import re
from contextlib import suppress
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from browser import browser, missing

import vitlab
from vitlab import measure, plots

PLOTTED = "() => [...document.querySelectorAll('.js-plotly-plot')].map(p => p.querySelectorAll('.scatterlayer .point').length)"


@pytest.fixture(scope="module")
def table():
    net = vitlab.create("supervit", "micro_patch8", num_classes=10).eval()
    return vitlab.sweep(net, vitlab.data.shapes("val", n=12), net.points[::5], batch=2, rounds=1, resources=True)


@pytest.fixture(scope="module")
def page(table, tmp_path_factory):
    more = {"Exits & more": plots.exits(pd.DataFrame({"gmacs": [1.0, 2.0], "exit1": [0.5, 0.2], "exit2": [0.5, 0.8]}))}
    return vitlab.report(table, tmp_path_factory.mktemp("report") / "new" / "one.html", title="SuperViT <here>", figures=more)


def told(page: Path) -> str:
    """Its text without plotly and without tags."""
    html = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return unescape(re.sub("<[^>]*>", "\n", html))


def test_the_table_holds_every_row_and_number_of_the_sweep(table, page):
    rows, text = re.findall("<tr>(.*?)</tr>", page.read_text()), told(page)
    assert len(rows) == 1 + len(table) == 4
    for row, point in zip(rows[1:], table.itertuples()):
        assert f'<th scope="row">{point.point}</th>' in row
        for value in (point.top1, point.gmacs, point.images_per_s, point.speed_up, point.latency_ms):
            assert f"<td>{value:.4g}</td>" in row
    assert all(f'<th scope="col">{words}</th>' in rows[0] for words in ("top-1 accuracy (%)", "ms per picture, alone"))
    assert "MiB" not in text, "a column that the device left blank is left out"


def test_machine_versions_date_and_commit_are_told_once(page):
    text, now = told(page), measure.facts()
    for value in (*now.values(), "supervit", "micro_patch8", "shapes", "fp32", "cpu"):
        assert f"\n{value}\n" in text, value
    assert "Of the machine that wrote this page" in text


def test_what_a_csv_says_of_its_machine_is_not_replaced_by_this_one(table, tmp_path):
    saved = pd.read_csv(measure.write(table, tmp_path / "sweep.csv")).assign(commit="abc123", hardware="another <machine>")
    text = told(vitlab.report(saved, tmp_path / "old.html"))
    assert "abc123" in text and "another <machine>" in text and "As they were written beside the numbers." in text
    assert measure.facts()["hardware"] not in text


def test_headings_are_in_order_and_every_plot_has_words(page):
    html = page.read_text()
    assert re.findall(r"<h(\d)>(.*?)</h\1>", html) == [("1", "SuperViT &lt;here&gt;"), *(("2", name) for name in (
        "Accuracy and cost", "Accuracy and speed", "Is a saved FLOP a saved moment?", "Exits &amp; more", "Table",
        "Where, when and with what"))]
    assert len(re.findall('role="img" aria-label="[^"]{20,}"', html)) == 4
    assert html.count("<html lang=") == html.count("<caption>") == 1


def test_it_is_one_file_that_asks_for_nothing(page):
    html = page.read_text()
    assert [file.name for file in page.parent.iterdir()] == ["one.html"]
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", html)
    assert html.count("plotly.js v") >= 1 and page.stat().st_size < 8_000_000


def test_papers_rows_without_a_speed_are_plotted_by_their_cost_alone(tmp_path):
    rows = measure.paper("supervit")[["method", "backbone", "length", "keep", "gmacs", "top1", "source"]]
    html = vitlab.report(rows, tmp_path / "paper.html").read_text()
    assert "Accuracy and cost" in html and "Accuracy and speed" not in html


def test_a_page_that_cannot_be_written_leaves_the_old_one(table, tmp_path, monkeypatch):
    page = vitlab.report(table, tmp_path / "a.html")
    before = page.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"a\.html could not be written \(No space left on device\); choose another folder"):
        vitlab.report(table, page)
    assert page.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.browser
def test_opened_from_the_disk_without_a_network_it_draws_its_plots(page):
    if reason := missing():
        (pytest.fail if os.environ.get("VITLAB_REQUIRE_BROWSER") == "1" else pytest.skip)(f"no browser test: {reason}")
    with browser() as window:
        context = window.new_context(offline=True, viewport={"width": 700, "height": 1000})
        view, complaints = context.new_page(), []
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        view.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith(("http", "ws")) else None)
        view.goto(page.as_uri())
        with suppress(Exception):
            view.wait_for_function(f"() => ({PLOTTED})().filter(Boolean).length >= 3", timeout=30_000)
        assert [count > 0 for count in view.evaluate(PLOTTED)][:3] == [True] * 3
        assert view.evaluate("document.documentElement.scrollWidth") <= 700
        assert complaints == []
        for theme in ("light", "dark") if "VITLAB_SCREENSHOTS" in os.environ else ():
            view.emulate_media(color_scheme=theme)
            view.screenshot(path=Path(os.environ["VITLAB_SCREENSHOTS"]) / f"report-{theme}.png", full_page=True)
