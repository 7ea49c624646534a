"""Threads that OpenMP keeps for a Python thread, and who gives them back when."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_project import ROOT

MAPS = Path("/proc/self/maps")
COUNTED = pytest.mark.skipif(not MAPS.exists() or "libgomp" not in MAPS.read_text(),
                             reason="torch has no GNU OpenMP here: another one does not count threads")
START = """
import os, threading, time, torch
from vitlab.widgets import pool
torch.set_num_threads(2)
one = torch.rand(2000, 2000)
compute = lambda: (one + one).sum().item()

def threads():
    return len(os.listdir("/proc/self/task"))

def soon(count):
    end = time.monotonic() + 20
    while threads() != count and time.monotonic() < end:
        time.sleep(0.01)
    return threads()
"""
OWN = """
before = threads()
compute()
assert pool.runtimes() and threads() == before + 1, (before, threads())
pool.give_back()
assert soon(before) == before
compute()
assert threads() == before + 1                      # they come back
other = threading.Thread(target=pool.give_back)
other.start(), other.join()
assert soon(before + 1) == before + 1               # nobody gives back what is another's
"""
WORKER = """
from vitlab.widgets.worker import LatestWorker
before, seen = threads(), []
worker = LatestWorker(lambda request, turn: seen.append((compute(), threads())), seen.append)
worker.submit(None)
assert worker.wait(60) and seen[0][1] == before + 2, seen       # its own and OpenMP's
assert soon(before + 1) == before + 1
"""
CELL = """
from IPython.core.interactiveshell import InteractiveShell
import vitlab
shell = InteractiveShell.instance()
net = vitlab.create("supervit", "micro_patch8", num_classes=10)
for _ in range(2):
    panel = vitlab.explore(net, vitlab.data.shapes("val", n=12), name="one")
assert shell.events.callbacks["post_run_cell"].count(pool.give_back) == 1
assert panel.wait(60)
shell.user_ns["compute"] = compute
result = shell.run_cell("compute()")
result.raise_error()
before = threads()
pool.give_back()
assert soon(before) == before                       # the cell's end has left nothing to give back
panel.close()
"""


@COUNTED
@pytest.mark.parametrize("rest", [OWN, WORKER, CELL], ids=["own", "worker", "cell"])
def test_threads_are_given_back_by_those_who_have_them(rest):
    """In a Python of their own: here other tests' threads come and go."""
    done = subprocess.run([sys.executable, "-c", START + rest], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr


def test_where_threads_are_not_counted_nothing_is_done(monkeypatch):
    from vitlab.widgets import pool

    def nowhere(*_):
        raise FileNotFoundError("/proc/self/maps")
    pool.runtimes.cache_clear()
    monkeypatch.setattr(Path, "read_text", nowhere)
    try:
        assert pool.runtimes() == () and pool.give_back() is None
    finally:
        pool.runtimes.cache_clear()
