"""The folder of a run: what is kept at every epoch, and how the same run goes on from there.

last.safetensors, best.safetensors (highest val_top1), ema.safetensors: weights with their facts, for vitlab.load.
history.csv: the table that fit returns.
state.safetensors: weights, average, AdamW's moments by parameter name, and the progress: the seal. It is written before the
first step, which finds folders and disks that cannot be written, and last at every epoch. It alone says how far the run is.
.run.lock: held by the process that trains into the folder.
"""
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from tempfile import TemporaryFile

import pandas as pd
from accelerate.utils import gather_object
from filelock import FileLock, Timeout
from torch import Tensor
from torch.nn import Parameter

from vitlab import checkpoint
from vitlab.data.cache import checksum
from vitlab.train.identity import differences
from vitlab.train.run import Progress, Run

FILES = ("state.safetensors", "last.safetensors", "best.safetensors", "ema.safetensors", "history.csv")
LOCK = ".run.lock"


@contextmanager
def owned(run: Run) -> Iterator[None]:
    """Inside, the folder is this run's alone; ValueError, in every process of it, where another run holds it."""
    if run.out is None:
        yield
        return
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{run.out} cannot be made a folder ({error.strerror}); choose another one for out") from error
    lock, free = FileLock(run.out / LOCK), True
    if run.accelerator.is_main_process:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            free = not (run.out / LOCK).exists()        # else it could not be made there
        except OSError:                                 # a finished run can be read where nothing can be written
            pass
    try:
        if not all(gather_object([free])):
            raise ValueError(f"another run is training into {run.out}; wait until it has ended, or choose another folder for out")
        yield
    finally:
        lock.release()


def begin(run: Run, resume: bool, facts: dict) -> None:
    """Go on with the run that the folder holds, if its facts are these, or (`resume=False`) remove it."""
    run.facts = facts
    if resume:
        restore(run)
        run.accelerator.wait_for_everyone()             # nothing is removed before all have looked
    if run.progress.step < run.total:
        try:
            TemporaryFile(dir=run.out).close()
        except OSError as error:
            raise OSError(f"nothing can be written to {run.out} ({error.strerror}); choose another folder for out") from error
    if run.progress.step < run.total and run.accelerator.is_main_process:
        for draft in run.out.glob(f".*{checkpoint.DRAFT}"):     # of a process that was killed while it wrote
            draft.unlink(missing_ok=True)
        for name in FILES if not resume else ():        # the seal first
            (run.out / name).unlink(missing_ok=True)
        if run.progress.step == 0:
            seal(run)
    run.accelerator.wait_for_everyone()


def keep(run: Run, improved: bool = False) -> None:
    """Write the folder, from the main process; the others wait."""
    main = run.accelerator.is_main_process
    sums = merged(run)
    run.progress.open = sums if main else {}
    if run.out is not None and main:
        put_down(run, ["last.safetensors", *["best.safetensors"] * improved, *["ema.safetensors"] * (run.ema is not None),
                       "history.csv"])
        seal(run)
    run.accelerator.wait_for_everyone()


def put_down(run: Run, names: list[str]) -> None:
    """Write these files of the run as it is now."""
    progress = run.progress
    told = {name: fact for name, fact in run.facts.items() if name != "made"} | {
        "step": progress.step, "trained_on": progress.trained_on,
        "metrics": progress.rows[-1] if progress.rows else {}, "history": progress.rows}
    for name in names:
        if name == "history.csv":
            checkpoint.replace(run.out / name, table(run))
        else:
            checkpoint.save(run.ema.module if name == "ema.safetensors" else run.method, run.out / name, **told)


def seal(run: Run) -> None:
    """Write the state: from now on the run is as far as this."""
    checkpoint.write(run.out / "state.safetensors", tensors(run), run.facts | {"progress": asdict(run.progress)})


def table(run: Run) -> bytes:
    """The history as the file holds it."""
    return history(run).to_csv(index=False).encode()


def restore(run: Run) -> None:
    """What the folder holds, if anything; ValueError, in one sentence, if that is another run."""
    state, last = run.out / "state.safetensors", run.out / "last.safetensors"
    path = state if state.exists() else last
    if not path.exists():
        return
    facts, found = checkpoint.contents(path)
    if other := differences(facts, run.facts, getattr(run.method, "FREE_KNOBS", ())):
        raise ValueError(f"{run.out} holds another run ({other[0]}); choose another folder, or pass resume=False to "
                         "replace it")
    kept = {name.removeprefix("method/"): tensor for name, tensor in found.items()
            if path == last or name.startswith("method/")}
    if run.facts["weights"] not in (facts.get("weights"), checksum(kept)):
        raise ValueError(f"{run.out} holds a run that started from other weights than these; call torch.manual_seed before the "
                         "net is made, as then, or go on from vitlab.load of its last.safetensors, or choose another folder, "
                         "or pass resume=False to replace it")
    if path == last and facts["step"] < run.total:
        warnings.warn(f"{run.out} holds an unfinished run without its state.safetensors, so it starts again", stacklevel=4)
        return
    run.facts["weights"] = facts["weights"]             # of its start, if it goes on from its own
    if path == state:
        run.progress = Progress(**facts["progress"])
        put(run, found)
    else:
        run.progress = Progress(step=run.total, rows=facts["history"], trained_on=facts.get("trained_on", ""))
        checkpoint.fill(run.method, kept, path)
    mend(run, path == state)
    if not run.accelerator.is_main_process:
        run.progress.open = {}


def mend(run: Run, sealed: bool) -> None:
    """Write again what is missing or damaged and follows from the state; ValueError, in one sentence, for what does not."""
    scored = any("val_top1" in row for row in run.progress.rows)
    averaged = run.ema is not None and run.progress.step > 0
    wanted = {"best.safetensors": scored, "ema.safetensors": averaged}
    lost = [name for name, due in wanted.items() if due and not whole(run, name)]
    if gone := [name for name in lost if name == "best.safetensors" or not sealed]:
        raise ValueError(f"{run.out / gone[0]} is missing or damaged, and cannot be made from the rest of the run; copy it back, "
                         "or pass resume=False to train again")
    if run.progress.step < run.total:
        return                                          # the rest is written at the next epoch
    lost += [] if whole(run, "last.safetensors") else ["last.safetensors"]
    csv = run.out / "history.csv"
    lost += [] if csv.exists() and csv.read_bytes() == table(run) else ["history.csv"]
    if lost and run.accelerator.is_main_process:
        warnings.warn(f"{', '.join(lost)} in {run.out}: missing or damaged, written again from the rest of it", stacklevel=5)
        put_down(run, lost)
    run.accelerator.wait_for_everyone()


def whole(run: Run, name: str) -> bool:
    """Is a file of the run there, as it was written?"""
    try:
        checkpoint.read(run.out / name)
    except (FileNotFoundError, ValueError):
        return False
    return True


def tensors(run: Run) -> dict[str, Tensor]:
    """All that a run needs to go on, by kind and name: method/…, ema/…, exp_avg/…, exp_avg_sq/…, step/…"""
    found = {f"method/{name}": tensor for name, tensor in checkpoint.weights(run.method).items()}
    if run.ema is not None:
        found |= {f"ema/{name}": tensor for name, tensor in checkpoint.weights(run.ema.module).items()}
    for name, parameter in parameters_of(run).items():
        found |= {f"{kind}/{name}": tensor for kind, tensor in run.optimizer.state.get(parameter, {}).items()}
    return found


def parameters_of(run: Run) -> dict[str, Parameter]:
    """The parameters by the names they have in a checkpoint."""
    return {checkpoint.own_name(name): parameter for name, parameter in run.method.named_parameters()}


def put(run: Run, found: dict[str, Tensor]) -> None:
    """The opposite of `tensors`."""
    kinds: dict[str, dict[str, Tensor]] = {}
    for name, tensor in found.items():
        kind, name = name.split("/", 1)
        kinds.setdefault(kind, {})[name] = tensor
    checkpoint.fill(run.method, kinds.pop("method"), run.out)
    if run.ema is not None:
        checkpoint.fill(run.ema.module, kinds.pop("ema"), run.out)
    parameters = parameters_of(run)
    for kind, named in kinds.items():
        for name, tensor in named.items():
            device = "cpu" if kind == "step" else parameters[name].device      # AdamW counts on the CPU
            run.optimizer.state[parameters[name]][kind] = tensor.to(device)


def merged(run: Run) -> dict[str, list]:
    """The open sums of all processes."""
    total: dict[str, list] = {}
    for one in gather_object([run.progress.open]):
        for name, (value, times) in one.items():
            before = total.get(name, [0.0, 0])
            total[name] = [before[0] + value, before[1] + times]
    return total


def row(run: Run, sums: dict[str, list]) -> dict:
    """The next row of the history: the mean of each loss over the steps, and processes, in which it occurred."""
    progress = run.progress
    before = progress.rows[-1] if progress.rows else {"step": 0, "seconds": 0.0}
    images = (progress.step - before["step"]) * run.recipe.batch * run.batches.processes
    return {"step": progress.step, "epoch": progress.step / run.batches.per_epoch,
            "lr": run.optimizer.param_groups[0]["lr"], "seconds": progress.seconds,
            "images_per_s": images / (progress.seconds - before["seconds"]),
            **{name: value / times for name, (value, times) in sums.items()}}


def history(run: Run) -> pd.DataFrame:
    """The rows so far, a begun one included; columns: the run's, the losses by name, the evaluations."""
    progress = run.progress
    frame = pd.DataFrame(progress.rows + ([row(run, progress.open)] if progress.open else []))
    first, last = ["step", "epoch", "lr", "seconds", "images_per_s", "loss"], ["val_top1", "val_top1_ema"]
    terms = sorted(set(frame.columns) - {*first, *last})
    return frame[[name for name in [*first, *terms, *last] if name in frame.columns]]
