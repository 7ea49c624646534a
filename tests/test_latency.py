"""Latency: one picture at a time, everyone in turn, quantiles in milliseconds."""
import time

import numpy as np
import pandas as pd
import pytest
import torch
from samples import pictures
from torch import nn

import vitlab
from vitlab.measure import Latency, facts, latency, latency_race, write


class Waits(nn.Module):
    """A net that says whose turn it is and notes in which mode it was asked."""

    adaptive = False

    def __init__(self, name, calls):
        super().__init__()
        self.name, self.calls, self.weight = name, calls, nn.Parameter(torch.zeros(1))

    def forward(self, images, point=None):
        self.calls.append((self.name, point, self.training, len(images)))
        return images


class Answers:
    """What stands for a session."""

    device, precision, threads = "cpu", "int8", 3

    def __init__(self, calls):
        self.calls = calls

    def __call__(self, images):
        self.calls.append(("file", None, False, len(images)))


@pytest.fixture
def clock(monkeypatch):
    """A clock on which the k-th pass takes k milliseconds, in nets and files alike."""
    ticks = iter(step for k in range(1, 10 ** 6) for step in (k * (k - 1) / 2e3, k * (k + 1) / 2e3))
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))


def test_latency_counts_every_pass_but_the_first_of_a_turn(clock):
    calls = []
    seen = latency(Waits("net", calls), pictures(1, 8), "here")
    assert len(calls) == 120                                               # 20 turns of one pass and five
    milliseconds = [k for k in range(1, 121) if k % 6 != 1]
    middle, p90, p99 = np.percentile(milliseconds, [50, 90, 99])
    assert (seen.median_ms, seen.p90_ms, seen.p99_ms) == pytest.approx((middle, p90, p99))
    assert (seen.runs, seen.device, seen.precision, seen.threads) == (100, "cpu", "fp32", torch.get_num_threads())
    assert float(seen) == seen.median_ms
    assert set(calls) == {("net", "here", False, 1)}


def test_a_race_takes_turns_and_compares_round_by_round(clock):
    """On a clock that slows down, ratios within a round stay near 1; each row says how it was measured."""
    calls = []
    nets = [Waits(name, calls).train() for name in "ab"]
    table = latency_race({"a": (nets[0], "p"), "b": (nets[1], "q", "bf16"), "file": Answers(calls)}, pictures(1, 8), runs=101)
    assert [name for name, *_ in calls] == (["a"] * 6 + ["b"] * 6 + ["file"] * 6) * 21
    assert {call[:3] for call in calls} == {("a", "p", False), ("b", "q", False), ("file", None, False)}
    assert all(net.training for net in nets)
    assert table.columns.tolist() == ["name", "median_ms", "p90_ms", "p99_ms", "runs", "device", "precision", "threads",
                                      "speed_up"]
    assert table.name.tolist() == ["a", "b", "file"]
    assert table.precision.tolist() == ["fp32", "bf16", "int8"]
    assert table.threads.tolist() == [torch.get_num_threads()] * 2 + [3]
    assert set(table.runs) == {105}
    turn = [[18 * r + 6 * e + 4 for r in range(21)] for e in range(3)]     # a turn's median pass
    assert table.speed_up.tolist() == pytest.approx([np.median(np.divide(turn[0], own)) for own in turn])
    assert (table.median_ms <= table.p90_ms).all()
    assert (table.p90_ms <= table.p99_ms).all()


def test_a_net_with_fewer_tokens_is_faster(monkeypatch):
    monkeypatch.setitem(vitlab.backbones.micro.DEPTH, "micro_patch4", 2)
    net = vitlab.create("supervit", "micro_patch4", num_classes=10)
    table = latency_race({str(p): (net, p) for p in (net.Point(14), net.Point(8, 0.5))}, pictures(1)).set_index("name")
    assert table.speed_up.iloc[0] == 1
    assert table.speed_up.iloc[1] > 1
    assert (table.median_ms > 0).all()


def test_a_measurement_can_be_stopped_between_turns():
    calls = []
    net, stops = Waits("net", calls), iter([False, False, True])
    assert latency(net, pictures(1, 8), stop=lambda: next(stops)) is None
    assert len(calls) == 12
    assert latency_race({"net": (net, None)}, pictures(1, 8), stop=lambda: True) is None
    assert len(calls) == 12


def test_what_is_no_latency_gets_one_sentence():
    net, file, image = Waits("net", []), Answers([]), pictures(1, 8)
    for run, said in (
        (lambda: latency(net, pictures(2, 8)), r"that of one picture \[1, 3, S, S\], not of \[2, 3, 8, 8\]"),
        (lambda: latency(net, image[0]), "that of one picture"), (lambda: latency(net, "cat.jpg"), "that of one picture"),
        (lambda: latency(net, image, runs=20), "runs must be a whole number from 100 to 1000000, not 20"),
        (lambda: latency(net, image, precision="int4"), "precision must be one of fp32, bf16"),
        (lambda: latency(file, image, "here"), "a session has its own point and precision"),
        (lambda: latency(file, image, precision="fp32"), "a session has its own point and precision"),
        (lambda: latency(print, image), "not of a builtin_function_or_method"),
        (lambda: latency_race({}, image), "at least one entry"),
    ):
        with pytest.raises(ValueError, match=said):
            run()


def test_rows_keep_the_threads_they_ran_on(tmp_path):
    table = pd.read_csv(write(pd.DataFrame({"median_ms": [2.0, 1.0], "threads": [1, 2]}), tmp_path / "edge.csv"))
    assert table.threads.tolist() == [1, 2]
    assert set(facts()) < set(table.columns)
    assert pd.read_csv(write(pd.DataFrame({"x": [1]}), tmp_path / "x.csv")).threads[0] == torch.get_num_threads()


def test_latency_is_a_record_at_vitlabs_door():
    assert vitlab.latency is latency
    assert isinstance(latency(Waits("net", []), pictures(1, 8)), Latency)
