"""Does it pay here? What a net's blocks take at fewer tokens on this device, and what leaving tokens out takes itself.

A saved FLOP is a saved moment only where matrices are large enough to keep the device busy: with one picture on a GPU, or on a
small net, fewer tokens may gain nothing, and choosing them costs more than they would have.
"""
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from time import perf_counter

import torch
from pandas import DataFrame
from torch import Tensor, nn

from vitlab.backbones import blocks, grid, prefix_tokens, stages
from vitlab.block import attention, cls_attention, macs, mlp, qkv
from vitlab.evaluation import check_net, evaluating
from vitlab.measure.rounds import in_turns
from vitlab.measure.speed import MOST, PRECISIONS, check_precision, check_stop, synchronise
from vitlab.numbers import BATCH, whole, wholes
from vitlab.tokens import take

SHARES = (1.0, 0.9, 0.75, 0.6, 0.45, 0.3, 0.2, 0.1)       # of all tokens, where nobody says how many


def pays(method: nn.Module, tokens: Sequence[int] | None = None, batches: Sequence[int] = (1, 8, 32), *, precision: str = "fp32",
         rounds: int = 5, stop: Callable[[], bool] | None = None) -> DataFrame | None:
    """A row per batch size and number of tokens (prefix tokens counted): the blocks of a method's backbone, all in turns.

    ms: milliseconds of one picture in all blocks, when each of them has so many tokens; drop_ms: of ranking all tokens by the
    class token's attention and keeping so many, once. speed_up: of all tokens' time over both; promised: of their multiply-adds;
    gmacs: of the blocks. Medians over `rounds`, speed_up round by round. tokens: None is eight shares of all.
    None as soon as `stop()` says so. Raises ValueError for a backbone whose grid shrinks, or more tokens than it has.
    """
    check_net(method)
    check_precision(precision)
    check_stop(stop)
    vit, rounds = method.vit, whole(rounds, "rounds", 1, MOST)
    if len(stages(vit)) > 1:
        raise ValueError("this backbone's grid shrinks from stage to stage, so its blocks never have equally many tokens; "
                         "take a ViT, such as deit_small")
    every = prefix_tokens(vit) + grid(vit) ** 2
    sizes = [whole(batch, "a batch", 1, BATCH) for batch in wholes(batches, "batches must be whole numbers, such as (1, 8, 32)")]
    counts = counted(every, prefix_tokens(vit) + 1, tokens)
    if not sizes:
        raise ValueError("batches must hold at least one size")
    jobs = {}
    with torch.inference_mode(), evaluating(method):
        for batch in sizes:
            x = torch.randn(batch, every, vit.embed_dim, generator=torch.Generator().manual_seed(0)).to(vit.pos_embed)
            q, k, _ = qkv(blocks(vit)[0], x)
            for n in (every, *counts):
                jobs[batch, n, "ms"] = partial(run, blocks(vit), x[:, :n].contiguous())
                jobs[batch, n, "drop_ms"] = partial(drop, x, q, k, n)
        device = vit.pos_embed.device
        with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
            found = in_turns({name: partial(timed, job, device) for name, job in jobs.items()}, rounds, device, stop=stop)
    if found is None:
        return None
    times, threads = found
    cost = {n: sum(macs(block, n) for block in blocks(vit)) / 1e9 for n in (every, *counts)}
    told = {"device": str(device), "precision": precision, "runs": rounds, "threads": threads}
    rows = []
    for batch in sizes:
        for n in counts:
            alone, chosen = times[batch, n, "ms"], times[batch, n, "drop_ms"] if n < every else [0.0] * rounds      # seconds
            gain = [full / (a + b) for full, a, b in zip(times[batch, every, "ms"], alone, chosen, strict=True)]
            rows.append({"batch": batch, "tokens": n, "ms": 1e3 * median(alone) / batch, "drop_ms": 1e3 * median(chosen) / batch,
                         "speed_up": median(gain), "promised": cost[every] / cost[n], "gmacs": cost[n], **told})
    return DataFrame(rows)


def counted(every: int, least: int, tokens: Sequence[int] | None) -> tuple[int, ...]:
    """Different numbers of tokens, falling; ValueError for one that there cannot be."""
    rule = f"tokens must be whole numbers from {least} to {every}"
    found = wholes(tokens, rule) if tokens is not None else [max(round(share * every), least) for share in SHARES]
    if not found or min(found) < least or max(found) > every:
        raise ValueError(f"{rule}, not {tokens!r}")
    return tuple(sorted(set(found), reverse=True))


def run(all_blocks: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Blocks one after another, as a pass runs them: a block run again and again would find its weights in the cache."""
    for block in all_blocks:
        x = x + attention(block, *qkv(block, x))
        x = x + mlp(block, x)
    return x


def drop(x: Tensor, q: Tensor, k: Tensor, n: int) -> Tensor:
    """The n tokens that the class token looks at most: [B, T, D] -> [B, n, D]."""
    return take(x, cls_attention(q, k).mean(1).topk(n, sorted=False).indices)


def timed(job: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds that a job takes on its device."""
    synchronise(device)
    begin = perf_counter()
    job()
    synchronise(device)
    return perf_counter() - begin
