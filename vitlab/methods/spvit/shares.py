"""Where selectors stand and which shares of the patches they keep, as it is asked for or, if nobody says, as published."""
from collections.abc import Callable, Sequence

from timm.models.vision_transformer import VisionTransformer

from vitlab.backbones import stages
from vitlab.methods.spvit.limit import Work, solve
from vitlab.numbers import real, several, wholes

KEEP = 0.627                                            # k of the shares k, k², k³: DeiT-S at 2.64 GFLOPs, Table 2


def places(vit: VisionTransformer, after: Sequence[int] | None) -> tuple[int, ...]:
    """Behind how many blocks each selector stands (None: as published); ValueError, in one sentence, for what makes no sense."""
    usual, depth = published(vit), sum(len(stage.blocks) for stage in stages(vit))
    rule = f"after must be ascending numbers of blocks from 1 to {depth - 1}, such as {usual}"
    found = usual if after is None else wholes(after, rule)
    if not found or list(found) != sorted(set(found)) or found[-1] >= depth:
        raise ValueError(f"{rule}, not {found}")
    return found


def published(vit: VisionTransformer) -> tuple[int, ...]:
    """3, 6, 9 of 12 blocks, 4, 8, 12 of 16, 5, 10, 15 of 20: the quarters. In a PiT the middle of each stage: 1, 5, 10."""
    first, *more = stages(vit)
    depth = len(first.blocks)
    found = {n * depth // 4 for n in (1, 2, 3)}
    if more:
        found = {min(stage.blocks) + len(stage.blocks) // 2 for stage in (first, *more)}
    return tuple(sorted(found - {0}))


def geometric(work: Work, k: float = 0.5) -> tuple[float, ...]:
    """Shares k, k², k³, …, from k again where all patches are back; where a limit is to be met, `solve` finds their power."""
    shares: list[float] = []
    for fresh in work.fresh:
        shares.append(k if fresh else k * shares[-1])
    return tuple(shares)


def asked_for(work: Work, budget: float | None, keep: Sequence[float] | None, latency: float | None,
              timed: Callable[[], Work]) -> tuple[float, ...]:
    """The shares to keep, given in one of three ways (Eq. 10); `timed` takes the times that a latency is reckoned with."""
    if sum(limit is not None for limit in (budget, keep, latency)) > 1:
        raise ValueError("budget, keep and latency say one thing in three ways; give one of them")
    if keep is not None:
        where = "" if all(work.fresh[1:]) or not any(work.fresh[1:]) else " in its stage"
        rule = f"keep must be {len(work.before)} shares in (0, 1], one for each selector, none above the one before it{where}"
        found = several(keep, rule)
        if len(found) != len(work.before) or not all(0 < share <= before for share, before in zip(found, work.coming(found))):
            raise ValueError(f"{rule}, not {found}")
        return tuple(map(float, found))
    if budget is not None:
        return solve(work, real(budget, "budget"), geometric(work))
    if latency is None:
        return geometric(work, KEEP)
    latency = real(latency, "latency")
    return solve(timed(), latency, geometric(work))
