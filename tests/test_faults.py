"""The scripts of tests/faults, a few trials each; by hand they run longer, such as `python tests/faults/kills.py 60`."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPTS = {"kills": 4, "flips": 24, "disks": 7, "uploads": 20, "ranks": 2}     # trials of the short form


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, and killed, as on Unix")
@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_lost_and_nothing_let_in(name):
    script = Path(__file__).parent / "faults" / f"{name}.py"
    done = subprocess.run([sys.executable, script, str(SCRIPTS[name])], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
