"""`pytest --nbval notebooks`: run every notebook from top to bottom and compare what can be compared.

Cells whose outputs depend on training or timing carry the tag nbval-ignore-output: they must run, and their asserts must hold.
"""


def pytest_configure(config):
    if hasattr(config.option, "nbval_cell_timeout"):
        config.option.nbval_current_env = True         # the kernel is this Python, whatever kernels a user has installed
        config.option.nbval_cell_timeout = 900


def pytest_collectstart(collector):
    """Pictures are there for the reader; figures hold floats to the last digit."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("application/vnd.plotly.v1+json", "image/png", "text/html", "stderr")
