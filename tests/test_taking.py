"""What is taken away from a panel: its files hold what it shows, and the sweep's page is the library's report."""
import io

import numpy as np
import pytest
from desk import QUICK, images, net, short  # noqa: F401
from PIL import Image

import vitlab
from vitlab.widgets import explore, taking
from vitlab.widgets.view import PICTURES


@pytest.fixture
def swept(net, images):  # noqa: F811
    return vitlab.sweep(net, images, net.points[::5], batch=2, rounds=1)


@pytest.fixture
def panel(net, images, swept, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    made = explore({"one": net}, images, batch=2, sweep=swept)
    assert made.wait(QUICK), made.last_error
    yield made
    made.close()


def test_each_button_writes_its_file_where_the_notebook_runs_and_says_so(panel, tmp_path):
    for file, button in panel.away.buttons.items():
        button.click()
        assert (tmp_path / file).stat().st_size > 1000 and f"{file} is written" in panel.away.told.value
        assert ", 0.0 MB" not in panel.away.told.value and ", 0 kB" not in panel.away.told.value
    assert panel.last_error is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["panel.html", "panel.png", "sweep.html"]


def test_the_sweeps_page_is_the_report_of_the_sweep(panel, swept, tmp_path):
    page = panel.report(tmp_path / "mine.html").read_text()
    assert "<title>one on shapes</title>" in page
    assert all(f'<th scope="row">{point}</th>' in page for point in swept.point)


def test_the_png_is_the_three_pictures_side_by_side(panel, tmp_path):
    shown = [np.asarray(Image.open(io.BytesIO(panel.view.pictures[kind].value)).convert("RGB")) for kind in PICTURES]
    whole, left = np.asarray(Image.open(panel.save(tmp_path / "a.png"))), 0
    for part in shown:
        assert np.array_equal(whole[:part.shape[0], left:left + part.shape[1]], part)
        left += part.shape[1] + taking.GAP
    assert whole.shape[1] == left - taking.GAP


def test_without_a_sweep_its_button_rests_and_says_what_to_do(net, images, tmp_path):  # noqa: F811
    made = explore(net, images, batch=1)
    assert made.wait(QUICK)
    button = made.away.buttons["sweep.html"]
    assert button.disabled and button.tooltip == taking.NO_SWEEP
    with pytest.raises(ValueError, match="open the panel with sweep="):
        made.report(tmp_path / "no.html")
    assert list(tmp_path.iterdir()) == []
    made.close()


def test_what_cannot_be_written_is_one_red_sentence(panel, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    panel.away.buttons["sweep.html"].click()
    assert "sweep.html could not be written (No space left on device)" in panel.last_error
    assert panel.away.told.value == ""
