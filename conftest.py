"""For tests and notebooks alike: one thread a process and nothing from a hub; two workers begin with the longest files.

What a training step frees stays with its process (glibc's MALLOC_ settings, elsewhere without effect): a sixth of its time is
else spent on giving memory back and asking for it again.

`pytest -n 2` gives each worker a file at a time, in the order of the items. Threads that wait spin, so two processes of two
threads each are slower on two cores than two of one.
"""
import gc
import os
import random

KEPT = {"MALLOC_MMAP_THRESHOLD_": str(4 << 30), "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}      # bytes
for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **KEPT}.items():
    os.environ.setdefault(name, value)      # before torch is imported; workers and kernels inherit it


def pytest_collection_modifyitems(config, items):
    """The browser first, then the notebooks, then files with slow tests, then the others: what is short fills the end.

    VITLAB_ORDER: "reversed", or a number by which tests are shuffled, files and all; notebooks keep the order of their cells.
    """
    if order := os.environ.get("VITLAB_ORDER"):
        cells = [item for item in items if item.path.suffix == ".ipynb"]
        tests = [item for item in items if item.path.suffix != ".ipynb"]
        tests.reverse() if order == "reversed" else random.Random(int(order)).shuffle(tests)
        items[:] = cells + tests
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (item.get_closest_marker("browser") is None, item.path.suffix != ".ipynb",
                                     item.path not in slow))


def pytest_collection_finish(session):
    """What is loaded by now stays, and need not be searched for garbage again and again: else a tenth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
