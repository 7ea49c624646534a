"""One bit flipped in a checkpoint, in a run's state or in the data cache: none goes unnoticed.

    python tests/faults/flips.py [300]       so many in all
"""
import os
import random
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import torch
from forks import asked, blobs, coin, report

import vitlab
from vitlab.data import cache
from vitlab.train import fit


def flip(path: Path) -> int:
    """Flip one random bit; which."""
    data, bit = bytearray(path.read_bytes()), random.randrange(8 * path.stat().st_size)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return bit


def weights(folder: Path) -> str:
    """A checkpoint is refused in one sentence."""
    bit = flip(folder / "net.safetensors")
    try:
        vitlab.load(folder / "net.safetensors")
    except ValueError as error:
        return "" if "\n" not in str(error) else f"bit {bit} of a checkpoint: {error}"
    return f"bit {bit} of a checkpoint was not noticed"


def state(folder: Path) -> str:
    """A run whose state is damaged is not gone on with."""
    bit = flip(folder / "run" / "state.safetensors")
    try:
        fit(coin(), blobs(24), vitlab.Recipe(steps=3, batch=8), out=folder / "run")
    except ValueError as error:
        return "" if "\n" not in str(error) else f"bit {bit} of a state: {error}"
    return f"bit {bit} of a state was not noticed"


def data(folder: Path) -> str:
    """A made set is made again."""
    bit = flip(folder / "set.safetensors")
    os.environ["VITLAB_DATA"] = str(folder)
    found = cache.kept("set", lambda: {"x": torch.arange(64)})
    return "" if torch.equal(found["x"], torch.arange(64)) and made_again(folder) else f"bit {bit} of the cache was not noticed"


def made_again(folder: Path) -> bool:
    """Is the file whole now?"""
    return cache.read(folder / "set.safetensors") is not None


def main() -> int:
    count, kinds, outcomes = asked(300), (weights, state, data), []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = Path(place) / "whole"
        whole.mkdir()
        vitlab.save(vitlab.create("supervit", "micro_patch8", 10), whole / "net.safetensors")
        fit(coin(), blobs(24), vitlab.Recipe(steps=3, batch=8), out=whole / "run")
        cache.write(whole / "set.safetensors", {"x": torch.arange(64)})
        for number in range(count):
            shutil.copytree(whole, trial := Path(place) / "trial")
            outcomes.append(kinds[number % len(kinds)](trial))
            shutil.rmtree(trial)
    return report("bits flipped", outcomes)


if __name__ == "__main__":
    sys.exit(main() > 0)
