"""Memory and energy are told where the device tells them, and are NaN elsewhere."""
import sys
from math import isnan
from types import SimpleNamespace

import pytest
import torch
from samples import pictures

import vitlab
from vitlab.measure import joules, peak_memory, resources


@pytest.fixture
def net():
    return vitlab.create("supervit", "micro_patch8", num_classes=10).eval()


def test_a_cpu_tells_neither(net):
    assert isnan(peak_memory(net, pictures(2))) and isnan(joules(net, pictures(2)))
    assert resources.counter(torch.device("cpu")) is None


def test_joules_are_the_counters_difference_over_the_images(net, monkeypatch):
    time = iter(range(100))
    spent = iter((50.0, 80.0))
    monkeypatch.setattr(resources, "counter", lambda device: lambda: next(spent))
    monkeypatch.setattr(resources, "perf_counter", lambda: next(time))
    assert joules(net, pictures(4), seconds=6) == 30 / (5 * 4)      # begun at 0, passes at 1 to 5


@pytest.mark.parametrize("broken", ["no package", "no driver"])
def test_without_package_or_driver_there_is_no_counter(broken, monkeypatch):
    class NVMLError(Exception):
        pass

    def refuse():
        raise NVMLError("driver not loaded")

    monkeypatch.setitem(sys.modules, "pynvml", None if broken == "no package" else SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=refuse))
    assert resources.counter(torch.device("cuda", 0)) is None


def test_the_counter_is_this_cards_in_joules(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=f"uuid-{device.index}"))
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda card: 12_500))
    assert resources.counter(torch.device("cuda", 1))() == 12.5
    assert asked == ["GPU-uuid-1"]


def test_the_package_has_what_is_asked_of_it():
    pynvml = pytest.importorskip("pynvml")
    assert issubclass(pynvml.NVMLError, Exception)
    assert all(callable(getattr(pynvml, name)) for name in ("nvmlInit", "nvmlDeviceGetHandleByUUID",
                                                            "nvmlDeviceGetTotalEnergyConsumption"))


def test_a_sweep_tells_what_a_point_takes_where_it_is_asked(net):
    data = vitlab.data.shapes("val", n=8)
    plain = vitlab.sweep(net, data, net.points[:2], batch=4, rounds=1)
    more = vitlab.sweep(net, data, net.points[:2], batch=4, rounds=1, resources=True)
    assert list(more.columns) == [*plain.columns, "latency_ms", "latency_p99_ms", "memory_mib", "joules"]
    assert (more.latency_ms > 0).all() and (more.latency_p99_ms >= more.latency_ms).all()
    assert more.memory_mib.isna().all() and more.joules.isna().all()
