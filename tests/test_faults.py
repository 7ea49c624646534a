"""The scripts of tests/faults, a few trials each; by hand they run longer, such as `python tests/faults/kills.py 60`."""
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPTS = {"kills": 4, "flips": 24, "disks": 7, "uploads": 20, "ranks": 2}     # trials of the short form
WAITS = "ranks"                                                # for processes that are silent: the others run meanwhile


def begun(name: str) -> subprocess.Popen:
    """A script, at the head of a group of its own."""
    script = Path(__file__).parent / "faults" / f"{name}.py"
    return subprocess.Popen([sys.executable, script, str(SCRIPTS[name])], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, start_new_session=True)


def end(script: subprocess.Popen) -> None:
    """With all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(script.pid, signal.SIGKILL)
    script.wait()
    script.stdout.close()


@pytest.fixture(scope="module")
def waiting():
    """The script that mostly waits, begun with the first test."""
    script = begun(WAITS)
    yield script
    end(script)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, and killed, as on Unix")
@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_lost_and_nothing_let_in(waiting, name):
    script = waiting if name == WAITS else begun(name)
    try:
        said, _ = script.communicate(timeout=600)
    finally:
        end(script)
    assert script.returncode == 0, said
