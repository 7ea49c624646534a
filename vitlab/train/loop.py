"""The loop: what `method.losses` yields is backpropagated, the rest is the recipe's.

A run that stopped anywhere goes on to the same weights as one that did not, and two processes equal one with
twice the batch, up to what is drawn or counted within a process (see `Recipe.same_draw`).
"""
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from accelerate.utils import reduce as over_processes
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from vitlab.checkpoint import hardware
from vitlab.evaluation import evaluating
from vitlab.numbers import flag
from vitlab.recipe import Recipe, check_recipe
from vitlab.threads import as_pays
from vitlab.train import folder
from vitlab.train.batches import DRAWS, Shares, own_randomness, seed_all
from vitlab.train.door import check_net, check_teacher
from vitlab.train.identity import identity
from vitlab.train.passes import passes
from vitlab.train.precision import settle
from vitlab.train.processes import processes, visiting
from vitlab.train.replicas import Replicas, reduce, statistics
from vitlab.train.run import Run, check, meet, mixer, prepare, trained
from vitlab.train.watch import together
from vitlab.words import path_of

ROWS = 50                                               # of a history, unless the recipe says otherwise


def fit(method: nn.Module, train, recipe: Recipe, *, val=None, teacher: nn.Module | None = None,
        out: str | Path | None = None, resume: bool = True,
        replicas: Sequence[Sequence[int]] | None = None) -> pd.DataFrame:
    """Train a method in place, on the device that accelerate finds; it comes back to its own, in evaluation mode.

    train, val: ImageSets, whose classes meet the method's by name (see `ImageSet.for_net`); a method without names gets the
    training set's. Returns a row per log interval: step, epoch, lr, seconds, images_per_s, loss and its terms;
    where an epoch ends also val_top1 (percent, dense point) and, with `recipe.ema`, val_top1_ema. The method keeps
    the raw weights, which `best` goes by; the averaged ones are out/ema.safetensors.
    teacher: for a method that `uses_teacher`.
    out: a folder written at every epoch (see vitlab.train.folder). With `resume` the same run (see vitlab.train.identity)
    goes on where it stopped, and a finished one is only read, with a warning that says so. Ctrl-C ends the step, keeps it,
    and returns the history so far; what happened is in `.attrs["note"]`. On a CPU a step uses as many threads as pay, at most
    torch's: torch.set_num_threads(1) makes runs equal bit for bit however busy the machine is (see vitlab.threads).
    The same call in several processes (torchrun, accelerate's notebook_launcher) shares the images of every step among them or,
    with `replicas`, its token lengths (see
    vitlab.train.replicas): ((14,), (10, 7)) is two processes for a ReViT. One that dies or hangs ends the others (see
    vitlab.train.watch). Raises ValueError for a net, data, recipe, folder or processes that do not go together,
    FloatingPointError for a loss that is not finite, RuntimeError where another process has ended, OSError where the folder
    cannot be written.
    """
    method = getattr(method, "_orig_mod", method)       # what torch.compile wraps is trained: `losses` is not compiled
    resume, out = flag(resume, "resume"), None if out is None else path_of(out, "out")
    check_recipe(recipe)
    accelerator = processes()                           # bf16 is set in `passes`
    check_net(method, recipe, teacher, accelerator.num_processes if replicas is None else 1)
    spread = None if replicas is None else Replicas(replicas, method, accelerator)
    made, train, val = meet(method, train, val)
    if teacher is not None:
        check_teacher(method, made, teacher)
    check(train, recipe, accelerator.num_processes if spread is None else 1)
    method.made, device = made, accelerator.device
    with together(accelerator), visiting(device, method, teacher), own_randomness(device), \
            ctrl_c(accelerator.num_processes) as asked:
        run = prepare(accelerator, method, train, recipe, out, spread)
        with folder.owned(run):
            if run.out is not None:
                folder.begin(run, resume, identity(run, val, teacher))
            start = run.progress.step
            if start < run.total:
                settle(run, teacher)
                advance(run, val, teacher, asked)
    frame = folder.history(run)
    frame.attrs["note"] = note(run, start)
    if start == run.total and accelerator.is_main_process:
        warnings.warn(frame.attrs["note"], stacklevel=2)
    return frame


def advance(run: Run, val, teacher: nn.Module | None, asked: list) -> None:
    """Step after step to the end, or to the end of the step in which Ctrl-C was pressed."""
    progress, recipe, device = run.progress, run.recipe, run.accelerator.device
    progress.trained_on = hardware(device)
    loader = DataLoader(run.batches, batch_size=None, sampler=range(progress.step, run.total),
                        num_workers=recipe.workers, pin_memory=device.type == "cuda")
    mix, every = mixer(recipe, run.method.made["num_classes"]), recipe.log_every or max(1, run.total // ROWS)
    for parameter in trained(run.method):
        parameter.grad = torch.zeros_like(parameter)    # zero, not None, where a drawn sub-net has no part
    if teacher is not None:
        teacher.eval()
    run.method.train()
    with bar(run) as shown, as_pays(device, run.accelerator.num_processes) as run.threads:
        clock = perf_counter()
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with run.threads.step():
                loss, stop = update(run, mix, images, labels, teacher, asked)
            progress.seconds += perf_counter() - clock
            ended = progress.step % run.batches.per_epoch == 0 or progress.step == run.total
            if ended or progress.step % every == 0:
                progress.rows.append(folder.row(run, folder.merged(run)))
                progress.open = {}
            if ended:
                improved = evaluate(run, val)
            if ended or stop:
                folder.keep(run, improved=ended and improved)
            shown.set_postfix(caption(run, loss), refresh=False)
            shown.update()
            if stop:
                break
            clock = perf_counter()
    run.optimizer.zero_grad()


def update(run: Run, mix: Callable, images: Tensor, labels: Tensor, teacher: nn.Module | None,
           asked: list) -> tuple[float, bool]:
    """One step on this process's images [B, 3, S, S]: the mean loss of all processes, and whether any is to stop."""
    accelerator, method, recipe, progress = run.accelerator, run.method, run.recipe, run.progress
    run.scheduler.step_update(progress.step)
    alike = recipe.same_draw or run.replicas is not None
    seed_all(recipe.seed, DRAWS, progress.step, 0 if alike else accelerator.process_index)
    images, labels = mix(images, labels)
    terms: list[tuple[str, Tensor]] = []
    own = {}
    if run.replicas is not None:
        seed_all(recipe.seed, DRAWS, progress.step, accelerator.process_index)     # no two lengths drop the same paths
        own = run.replicas.step(method, images, labels)
    for part in passes(method.losses(images, labels, teacher, **own), accelerator.device, run.precision):
        sum(part.values()).backward()                   # gradients accumulate; only one graph is alive
        terms += part.items()
    names, values = [name for name, _ in terms], torch.stack([term.detach().float() for _, term in terms]).tolist()
    together = average if run.replicas is None else run.replicas.total
    loss, stop = together(accelerator, method, [math.fsum(values), float(bool(asked))])
    norm = nn.utils.clip_grad_norm_(trained(method), recipe.clip or math.inf).item()
    if not (math.isfinite(loss) and math.isfinite(norm)):       # the same in every process
        raise FloatingPointError(broken(run, names, values, norm))
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=False)
    progress.step += 1
    if run.ema is not None:
        run.ema.update(method, progress.step)
    for name, value in zip(["loss", *names], [loss, *values], strict=True):
        total, times = progress.open.get(name, (0.0, 0))
        progress.open[name] = [total + value, times + 1]
    return loss, stop > 0


def average(accelerator: PartialState, method: nn.Module, numbers: list[float]) -> list[float]:
    """Mean over processes, in one message, of gradients and running statistics (in place) and of some numbers."""
    if accelerator.num_processes == 1:
        return numbers
    told = torch.tensor(numbers, device=accelerator.device)
    reduce([p.grad for p in trained(method)] + statistics(method) + [told], "mean")
    return told.tolist()


def evaluate(run: Run, val) -> bool:
    """Note the accuracies in the last row; is this the best so far?"""
    if val is None:
        return False
    scores = {"val_top1": top1(run, run.method, val)}
    if run.ema is not None:
        scores["val_top1_ema"] = top1(run, run.ema.module, val)
    run.progress.rows[-1] |= scores
    improved = scores["val_top1"] > run.progress.best
    run.progress.best = max(run.progress.best, scores["val_top1"])
    return improved


@torch.no_grad()
def top1(run: Run, method: nn.Module, data) -> float:
    """Percent right at the dense point; every image is looked at once, by one of the processes."""
    accelerator, device, shares = run.accelerator, run.accelerator.device, Shares(data, run.recipe.batch)
    mine = range(accelerator.process_index, len(shares), accelerator.num_processes)
    right = torch.zeros((), dtype=torch.long, device=device)
    with evaluating(method), torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bf16"):
        for images, labels in DataLoader(shares, batch_size=None, sampler=mine, num_workers=run.recipe.workers):
            right += (method(images.to(device)).argmax(1) == labels.to(device)).sum()
    return 100 * over_processes(right, "sum").item() / len(data)


@contextmanager
def ctrl_c(processes: int) -> Iterator[list]:
    """A list that Ctrl-C makes true, so that a step ends before anything stops; a second Ctrl-C stops at once.

    With several processes only the first counts: a launcher hands the terminal's signal on a second time. SIGTERM, with which
    machines are cleared, does the same; when all is kept the process ends as it was told to.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked                                     # signals reach the main thread only
        return

    def ask(number, frame):
        if asked and processes == 1:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if signal.SIGTERM in asked:
            signal.raise_signal(signal.SIGTERM)


def bar(run: Run) -> tqdm:
    """A progress bar over steps, in the main process; TQDM_DISABLE=1 in the environment hides it (in notebooks, too, where tqdm
    itself does not read it). Twice a second: each change is three messages to a notebook, and 2,000 unread ones get lost."""
    if not run.accelerator.is_main_process or os.environ.get("TQDM_DISABLE") == "1":
        return tqdm(disable=True)
    made = run.method.made
    return tqdm(total=run.total, initial=run.progress.step, desc=f"{made['method']} {made['backbone']}", unit="step",
                mininterval=0.5)


def caption(run: Run, loss: float) -> dict[str, str]:
    """What stands beside the bar: this step's loss, the last accuracy, and on how many threads it runs now."""
    scores = [row["val_top1"] for row in run.progress.rows if "val_top1" in row]
    threads = {} if run.threads.fixed else {"threads": f"{run.threads.now}/{run.threads.most}"}
    return {"loss": f"{loss:.3f}"} | ({"val_top1": f"{scores[-1]:.1f} %"} if scores else {}) | threads


def note(run: Run, start: int) -> str:
    """What a call of fit did, in one sentence."""
    step = run.progress.step
    if start == run.total:
        return f"finished before, so nothing was trained: weights and history come from {run.out}"
    began = f"went on from step {start}, " if start else ""
    where = "in memory only, as no folder was given" if run.out is None else f"kept in {run.out}"
    where += "" if run.recipe.precision != "auto" else f", in {run.precision}, which is faster here"
    where += "" if run.threads.fixed else f", at last on {run.threads.now} of {run.threads.most} threads"
    if step == run.total:
        return f"{began}finished all {step} steps, {where}"
    again = "" if run.out is None else "; the same call goes on from there"
    return f"{began}stopped by Ctrl-C after step {step} of {run.total}, {where}{again}"


def broken(run: Run, names: list[str], values: list[float], norm: float) -> str:
    """The sentence for a step whose loss or gradient (of this norm) is not finite, in whichever process."""
    here = [f"loss {name} became {value}" for name, value in zip(names, values, strict=True)
            if not math.isfinite(value)]
    bad = (gather_object(here) or [f"the norm of the gradient became {norm}"])[0]
    per_epoch = run.batches.per_epoch
    kept = [row["step"] for row in run.progress.rows if row["step"] % per_epoch == 0]
    where = f"; the checkpoint of step {kept[-1]} in {run.out} is kept" if run.out is not None and kept else ""
    change = ", set clip, or use precision=\"fp32\"" if run.precision == "bf16" else " or set clip"
    return f"{bad} at step {run.progress.step + 1}: lower lr{change}{where}"
