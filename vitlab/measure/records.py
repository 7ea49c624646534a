"""Records: the papers' numbers, the facts of this machine, and results written as CSV."""
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import timm
import torch

import vitlab
from vitlab.checkpoint import commit, hardware
from vitlab.words import one_of, path_of

PAPER = Path(__file__).with_name("paper.csv")
DATA = Path(vitlab.__file__).parent.parent / "data"     # of the checkout: an installed vitlab has none
DIGITS = 12                                             # of a commit in a table


def paper(method: str | None = None) -> pd.DataFrame:
    """The papers' printed numbers in the columns of `sweep`; `source` names paper and table. None: every method's."""
    frame = pd.read_csv(PAPER)
    if method is not None:
        one_of(method, "method", frame.method.unique())
    return frame if method is None else frame[frame.method == method].reset_index(drop=True)


def facts(device: str = "cpu") -> dict[str, str]:
    """Where, when and with what: date (UTC), processor or GPU, torch threads, versions of Python, torch, timm and vitlab, commit.

    The commit is the checkout's, with -dirty where files differ from it; "unknown" where vitlab does not run from one.
    """
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "hardware": hardware(str(device)),
            "threads": str(torch.get_num_threads()), "python": platform.python_version(), "torch": torch.__version__,
            "timm": timm.__version__, "vitlab": vitlab.__version__, "commit": commit(DIGITS) or "unknown"}


def write(frame: pd.DataFrame, path: str | Path, device: str = "cpu") -> Path:
    """Write a result as CSV with the machine's facts as columns; the old file stays until the new one is whole.

    A frame that has a column `threads` says itself how many each row ran on.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"what is written as CSV is a frame, not a {type(frame).__name__}; give what sweep or race returned")
    told, path = facts(device), path_of(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name the file in it, such as {path / 'sweep.csv'}")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = {"threads": frame.threads} if "threads" in frame else {}
        frame.assign(**told | own).to_csv(part, index=False, float_format="%.6g")
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path} could not be written ({error.strerror}); nothing there was changed, free some space or choose "
                      "another folder") from error
    finally:
        if part.exists():
            part.unlink()
    return path
