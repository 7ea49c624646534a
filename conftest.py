"""For tests and notebooks alike: one thread a process and nothing from a hub; two workers begin with the longest files.

`pytest -n 2` gives each worker a file at a time, in the order of the items. Threads that wait spin, so two processes of two
threads each are slower on two cores than two of one.
"""
import os

for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(name, value)      # before torch is imported; workers and kernels inherit it


def pytest_collection_modifyitems(config, items):
    """The browser first, then the notebooks, then the other files: what is short fills the end."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (item.get_closest_marker("browser") is None, item.path.suffix != ".ipynb"))
