"""Where dropping tokens pays: what is measured adds up, and the figures show it."""
import pandas as pd
import pytest
import torch
from samples import small_pit

import vitlab
from vitlab import plots
from vitlab.block import macs
from vitlab.measure import pays
from vitlab.measure.records import DATA


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return vitlab.create("dense", "micro_patch4", 10).eval()


@pytest.fixture(scope="module")
def table(net):
    return pays(net, (197, 99, 25), (1, 16), rounds=5)


def test_there_is_a_row_per_batch_and_number_of_tokens(net, table):
    assert table[["batch", "tokens"]].values.tolist() == [[1, 197], [1, 99], [1, 25], [16, 197], [16, 99], [16, 25]]
    block, depth = net.vit.blocks[0], len(net.vit.blocks)
    assert table.gmacs.tolist()[:3] == pytest.approx([depth * macs(block, n) / 1e9 for n in (197, 99, 25)])
    assert table.promised.tolist()[:3] == pytest.approx([macs(block, 197) / macs(block, n) for n in (197, 99, 25)])
    assert (table.ms > 0).all()
    assert set(table.device) == {"cpu"}


def test_all_tokens_are_the_yardstick_and_dropping_costs_something(table):
    whole, fewer = table[table.tokens == 197], table[table.tokens < 197]
    assert whole.speed_up.tolist() == [1.0, 1.0]
    assert whole.drop_ms.tolist() == [0.0, 0.0]
    assert (fewer.drop_ms > 0).all()
    large = table[table.batch == 16].set_index("tokens")
    assert large.ms[25] < large.ms[197]                                    # eight times the work: no clock is that wrong
    assert large.speed_up[25] > 1


def test_what_is_left_out_is_chosen():
    net = vitlab.create("dense", "micro_patch8", 10)
    found = pays(net, batches=(2,), rounds=1)
    assert found.tokens.tolist() == [50, 45, 38, 30, 22, 15, 10, 5]
    assert net.training                                                    # it is as it was
    assert pays(net, (50, 10), (1,), stop=lambda: True) is None


def test_what_makes_no_sense_is_said(net, monkeypatch):
    for tokens, sizes, words in (((198,), (1,), "from 2 to 197"), ((1,), (1,), "from 2 to 197"), ((), (1,), "from 2 to 197"),
                                 ((5,), (), "at least one size"), ((5,), (0,), "batches must be whole numbers")):
        with pytest.raises(ValueError, match=words):
            pays(net, tokens, sizes)
    small_pit(monkeypatch)
    with pytest.raises(ValueError, match="grid shrinks"):
        pays(vitlab.create("dense", "pit_tiny", 10, image_size=56))


def test_the_figure_has_a_line_per_batch_the_promise_and_the_marks(table):
    figure = plots.pays(table, marks={"supervit keep 0.5": 60, "svit": 120.5})
    names = [line.name for line in figure.data]
    assert names == ["batch 1", "batch 16", "promised by the FLOPs"]
    assert list(figure.data[1].x) == [25, 99, 197]
    assert list(figure.data[1].y) == table[table.batch == 16].sort_values("tokens").speed_up.tolist()
    assert [note.text for note in figure.layout.annotations] == ["supervit keep 0.5", "svit"]
    with pytest.raises(ValueError, match="marks must be numbers of tokens by name"):
        plots.pays(table, marks={"a": "b"})


def test_a_promise_under_load_has_a_line_each_and_the_time_of_the_load_is_marked():
    rows = pd.DataFrame({"who": ["governor"] * 3 + ["fixed"] * 3, "window": [0, 1, 2] * 2,
                         "load": ["quiet", "loaded", "quiet"] * 2, "first": [0.1, 3.1, 6.1] * 2, "last": [2.9, 5.9, 8.9] * 2,
                         "held": [1, 0.97, 1, 1, 0.5, 0.9], "point": "a"})
    figure = plots.held(rows)
    assert [line.name for line in figure.data] == ["governor", "fixed"]
    assert list(figure.data[1].y) == [100, 50, 90]
    load, band = figure.layout.shapes
    assert (load.x0, load.x1, band.y0, band.y1) == (3.1, 5.9, 85, 115)


def test_published_schedules_stand_at_their_accuracy_and_the_speed_measured():
    data = pd.read_csv(DATA / "results" / "published_cpu_fp32.csv").query("backbone == 'deit_small'")
    figure = plots.schedules(data)
    shown = data.dropna(subset=["top1"])
    assert {line.name for line in figure.data} == set(shown.method)
    assert sum(len(line.x) for line in figure.data) == len(shown)
    evit = next(line for line in figure.data if line.name == "evit")
    assert sorted(evit.y, reverse=True) == sorted(data[data.method == "evit"].top1, reverse=True)
    with pytest.raises(ValueError, match="no row has both"):
        plots.schedules(data.assign(top1=float("nan")))
