"""Two processes train together and one of them is killed, or stopped: the other one ends within 30 seconds, with a sentence.

    python tests/faults/ranks.py [4]         so many: the second killed, the second stopped, the first killed, the first stopped
"""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from forks import asked, report

WITHIN = 30             # seconds
SAID = ("another process of this training has ended", "of this training has not answered for")
KINDS = ((1, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGKILL), (0, signal.SIGSTOP))
CHILD = """
import sys
sys.path.insert(0, {tests!r})
import torch
from dataclasses import replace
from test_train import EVERYTHING, blobs, coin
from vitlab.train import fit
torch.set_num_threads(1)
fit(coin(), blobs(64), replace(EVERYTHING, steps=10_000_000), out={out!r})
"""


def started(rank: int, port: int, out: Path) -> subprocess.Popen:
    """One of two processes, as a script starts them by hand."""
    told = {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    child = CHILD.format(tests=str(Path(__file__).parents[1]), out=str(out))
    with open(out.parent / f"said{rank}", "w") as said:
        return subprocess.Popen([sys.executable, "-c", child], env=os.environ | told, stdout=said, stderr=said)


def trial(which: int, how: signal.Signals) -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "run"
        both = [started(rank, port, out) for rank in (0, 1)]
        try:
            deadline = time.monotonic() + 120
            while not (out / "last.safetensors").exists():                 # an epoch is done
                if time.monotonic() > deadline or any(each.poll() is not None for each in both):
                    return f"it did not start: {(Path(place) / 'said0').read_text()[-500:]}"
                time.sleep(0.05)
            both[which].send_signal(how)
            begin = time.monotonic()
            try:
                both[1 - which].wait(2 * WITHIN)
            except subprocess.TimeoutExpired:
                return f"{how.name} of {which}: the other one goes on"
            seconds = time.monotonic() - begin
            said = (Path(place) / f"said{1 - which}").read_text().strip().splitlines()[-1]
            print(f"{how.name} of process {which}: {seconds:.1f} s: {said}")
            if not any(words in said for words in SAID) or both[1 - which].returncode == 0:
                return f"{how.name} of {which}: it said {said!r} and ended with {both[1 - which].returncode}"
            return "" if seconds < WITHIN else f"{how.name} of {which}: {seconds:.0f} s"
        finally:
            for each in both:
                each.kill()
                each.wait()


def main() -> int:
    with ThreadPoolExecutor(2) as pool:                                    # one waits for a silent process while another starts
        return report("processes lost", list(pool.map(lambda n: trial(*KINDS[n % len(KINDS)]), range(asked(4)))))


if __name__ == "__main__":
    sys.exit(main() > 0)
