"""What the fault scripts share: functions run in processes that may be killed, the small run they train, a verdict."""
import os
import pickle
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["TQDM_DISABLE"] = "1"

import torch  # noqa: E402
from test_train import EVERYTHING, blobs, coin  # noqa: E402

from vitlab import checkpoint  # noqa: E402
from vitlab.train import fit  # noqa: E402
from vitlab.train.folder import LOCK  # noqa: E402

torch.set_num_threads(1)                                # a process that has begun other threads cannot be forked
HANGS = 60                                              # seconds after which a process is taken to hang


@dataclass
class End:
    """How a process ended: by itself with a value or an error, or by a signal; seconds, and MB that it grew by at most."""

    value: Any = None
    error: str = ""
    signal: int = 0
    seconds: float = 0.0
    grown: float = 0.0


def forked(function, *inputs, kill_after=None) -> End:
    """function(*inputs) in a fork of this process, killed after so many seconds if it is not done by then."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        before, end = peak(), End()
        try:
            end.value = function(*inputs)
        except BaseException as error:
            end.error = f"{type(error).__name__}: {error}"
            if not isinstance(error, ValueError | OSError):
                end.error += "\n" + traceback.format_exc()
        end.seconds, end.grown = time.monotonic() - begin, peak() - before
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(end, pipe)
        os._exit(0)
    os.close(writer)
    deadline = begin + (HANGS if kill_after is None else kill_after)
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.0005)
    if done == (0, 0):
        os.kill(child, signal.SIGKILL)
        done = os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    if os.WIFSIGNALED(done[1]):
        hung = kill_after is None and os.WTERMSIG(done[1]) == signal.SIGKILL and time.monotonic() > deadline
        return End(signal=os.WTERMSIG(done[1]), error="it hung" if hung else "", seconds=time.monotonic() - begin)
    return pickle.loads(told)


def peak() -> float:
    """The most memory this process has held, in MB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / 2 ** 20 if sys.platform == "darwin" else held / 2 ** 10


def train(folder: Path) -> None:
    """The run of all these trials, in this folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(coin(), blobs(24), EVERYTHING, val=blobs(8), out=folder)


def undisturbed() -> tuple[dict, float]:
    """How the run ends where nothing goes wrong, and how many seconds it takes."""
    def alone() -> dict:
        net = coin()
        fit(net, blobs(24), EVERYTHING, val=blobs(8))
        return {name: tensor.numpy() for name, tensor in net.state_dict().items()}

    end = forked(alone)
    return {name: torch.from_numpy(values) for name, values in end.value.items()}, end.seconds


def wrong(folder: Path, truth: dict) -> str:
    """What is not as it should be in the folder of a finished run; nothing if all is."""
    names = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
    if names != ["best.safetensors", "ema.safetensors", "history.csv", "last.safetensors", "state.safetensors"]:
        return f"the folder holds {', '.join(names)}"
    found = checkpoint.contents(folder / "last.safetensors")[1]
    if found.keys() != truth.keys() or any(not torch.equal(found[name], truth[name]) for name in truth):
        return "the weights are others"
    steps = checkpoint.contents(folder / "state.safetensors")[0]["progress"]["step"]
    return "" if steps == EVERYTHING.steps else f"it ended at step {steps}"


def report(what: str, outcomes: list[str]) -> int:
    """Print how the trials went, an empty word for each that went well; how many did not."""
    bad = [word for word in outcomes if word]
    print(f"{what}: {len(outcomes)} tried, {len(bad)} fell")
    for word in bad[:20]:
        print("   ", word)
    return len(bad)


def asked(usual: int) -> int:
    """How many trials the command line asks for."""
    random.seed(0)
    return int(sys.argv[1]) if len(sys.argv) > 1 else usual


__all__ = ["End", "asked", "blobs", "coin", "forked", "report", "train", "undisturbed", "wrong"]
