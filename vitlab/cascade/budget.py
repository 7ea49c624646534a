"""Thresholds of an early-exit cascade for a budget: where every image leaves, so that the mean cost fits.

An image leaves at the first exit that is sure enough of it; the last exit answers all the others. DVT (Wang et al.,
NeurIPS 2021, arXiv 2105.15075, Eq. 10) asks for the thresholds that answer most held-out images right at a mean cost
within the budget. Three ways to find them:
    geometric    MSDNet's rule (Huang et al., ICLR 2018), which the released code of DVT runs
    genetic      a genetic algorithm, which the paper of DVT names
    exhaustive   every combination of candidates, from cumulative tables (ours; the default)
They work for any cascade of K >= 2 exits. A threshold that was found lies midway between two scores, at a float32
number, so that a score which another batch size rounds differently still falls on its own side.
"""
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy.optimize import differential_evolution  # a maintained evolutionary optimiser, so none is written here

from vitlab.numbers import real, seed_of, several
from vitlab.words import one_of

RATIOS = np.arange(1, 60) / 20      # q = 0.05, 0.10, ..., 2.95 of the geometric rule, as in DVT's code
APART = 2.0 ** -23                  # two steps of float32 below 1: nearer scores count as the same score
GRID = {2: 400, 3: 100}             # candidate thresholds per exit, by the number of exits
LINE = 100                          # the same for more than three exits
STARTS, SWEEPS = 60, 3              # coordinate descent: solutions it goes on from, and times it visits every exit
GENERATIONS, PENALTY = 40, 10       # genetic algorithm: generations, and what a relative excess over the budget costs


@dataclass(frozen=True, eq=False)
class Exits:
    """What each of K exits says of n held-out images: one evaluation pass, which serves any number of budgets.

    score [K, n] in [0, 1] says how sure exit k is of image i, correct [K, n] bool whether it is right, and cost [K] how
    many multiply-adds / 1e9 an image has used when it leaves there (cumulative). Raises ValueError for anything else.
    """
    score: ndarray
    correct: ndarray
    cost: ndarray

    def __post_init__(self):
        object.__setattr__(self, "correct", np.asarray(self.correct))
        for name in ("score", "cost"):
            values = np.asarray(getattr(self, name))
            if values.dtype.kind not in "fiu":
                raise ValueError(f"{name} must be an array of numbers, not {getattr(self, name)!r}")
            object.__setattr__(self, name, values.astype(float))
        check_exits(self)


@dataclass(frozen=True)
class Outcome:
    """What thresholds lead to: K - 1 thresholds (none when exits are random), top-1 in percent, mean cost in
    multiply-adds / 1e9, the share of images that leaves at each of K exits, and the exit [n] of every image."""
    thresholds: tuple[float, ...]
    top1: float
    gmacs: float
    shares: tuple[float, ...]
    exit: ndarray = field(compare=False, repr=False)


class Front(NamedTuple):
    """Thresholds [M, K - 1] that no others beat, by rising mean cost [M] and number of right answers [M]."""
    thresholds: ndarray
    right: ndarray
    gmacs: ndarray


def simulate(exits: Exits, thresholds: Sequence[float]) -> Outcome:
    """Where images leave at these K - 1 thresholds, and what that gives.

    An image leaves at the first exit with score >= threshold. A threshold of 0 lets all leave and one of 1 nobody, not
    even an image with score 1. Raises ValueError for another number of thresholds or one outside [0, 1].
    """
    exit_count = len(checked(exits).cost)
    given = np.asarray(several(thresholds, f"{exit_count} exits need {exit_count - 1} thresholds in [0, 1]"), float)
    if given.shape != (exit_count - 1,) or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"{exit_count} exits need {exit_count - 1} thresholds in [0, 1], one for each exit but the "
                         f"last, but got {given.tolist()}")
    here = np.ones(exits.score.shape, bool)                             # [K, n]; all leave at the last exit
    for k, threshold in enumerate(given):
        here[k] = leaves(exits.score[k], threshold)
    return outcome_of(exits, here.argmax(0), given)


def solve(exits: Exits, budget: float, how: str = "exhaustive", seed: int = 0) -> Outcome:
    """The most accurate thresholds with a mean cost <= budget (multiply-adds / 1e9), the cheaper ones at a tie.

    how is "exhaustive", "geometric" or "genetic" (which alone uses the seed). Raises ValueError for another `how` or a
    budget below the first exit's cost; a budget above the last exit's cost is lowered to it, with a warning.
    """
    return curve(exits, [real(budget, "a budget")], how, seed)[0]


def curve(exits: Exits, budgets: Sequence[float], how: str = "exhaustive", seed: int = 0) -> list[Outcome]:
    """solve for each of the budgets; unless `how` is "genetic", candidates are evaluated once for all of them."""
    one_of(how, "how, the solver,", (*FRONTS, "genetic"))
    seed = seed_of(seed)
    budgets = [affordable(checked(exits), budget) for budget in several(budgets, "budgets must be a row of numbers")]
    if how == "genetic":
        return [evolve(exits, budget, seed) for budget in budgets]
    front = FRONTS[how](exits)
    return [best(exits, front, budget) for budget in budgets]


def geometric(exits: Exits, budget: float) -> Outcome:
    """MSDNet's rule: exit k gets a share of images proportional to q^k, the best of 59 values of q wins."""
    return solve(exits, budget, "geometric")


def exhaustive(exits: Exits, budget: float) -> Outcome:
    """The best combination of candidates: up to 400 for two exits, 100 x 100 for three, both exact.

    For more exits, coordinate descent over 100 candidates per exit from the geometric solutions. Never worse than
    geometric on the same images, and never less accurate at a larger budget.
    """
    return solve(exits, budget, "exhaustive")


def genetic(exits: Exits, budget: float, seed: int = 0) -> Outcome:
    """Differential evolution from the geometric solutions; what exceeds the budget is punished, never returned."""
    return solve(exits, budget, "genetic", seed)


def random_like(exits: Exits, outcome: Outcome, seed: int = 0) -> Outcome:
    """Images that leave at random, as many at each exit as in the outcome (DVT, Table 9).

    The outcome may come from other images: its shares are then met to within one image. Raises ValueError when it has
    another number of exits.
    """
    if not isinstance(outcome, Outcome):
        raise TypeError(f"this needs the Outcome of a search, not a {type(outcome).__name__}")
    seed = seed_of(seed)
    if len(outcome.shares) != len(checked(exits).cost):
        raise ValueError(f"the outcome has {len(outcome.shares)} exits but the images were answered by "
                         f"{len(exits.cost)}; take an outcome of the same cascade")
    n = exits.score.shape[1]
    ends = np.cumsum(outcome.shares)[:-1]
    ordered = np.searchsorted(ends, (np.arange(n) + 0.5) / n)           # half an image off the ends, where rounding is
    return outcome_of(exits, np.random.default_rng(seed).permutation(ordered), ())


def check_exits(exits: Exits) -> None:
    """One sentence for records that no cascade can have made."""
    score, correct, cost = exits.score, exits.correct, exits.cost
    if score.ndim != 2 or len(score) < 2 or score.shape[1] < 1:
        raise ValueError(f"score has shape {score.shape}; give [exits, images] with at least two exits and one image")
    if correct.shape != score.shape or correct.dtype != bool:
        raise ValueError(f"correct is {correct.dtype} of shape {correct.shape}; give booleans of shape {score.shape}")
    if cost.shape != score.shape[:1]:
        raise ValueError(f"cost has shape {cost.shape}; give one cumulative cost for each of the {len(score)} exits")
    if not np.isfinite(score).all():
        raise ValueError(f"{(~np.isfinite(score)).sum()} scores are not finite; check the logits of the net for NaN or overflow")
    if score.min() < 0 or score.max() > 1:
        raise ValueError(f"scores run from {score.min():g} to {score.max():g}; scale them to [0, 1], as a softmax does")
    if not np.isfinite(cost).all() or cost[0] <= 0 or (np.diff(cost) <= 0).any():
        raise ValueError(f"costs {cost.tolist()} must be positive and strictly increasing; "
                         "give what an image has used in total when it leaves at each exit")


def checked(exits: Exits) -> Exits:
    """TypeError for what is no record of exits."""
    if not isinstance(exits, Exits):
        raise TypeError(f"this needs what vitlab.measure.exits returns, not a {type(exits).__name__}")
    return exits


def affordable(exits: Exits, budget: float) -> float:
    """The budget, at most the last exit's cost; a ValueError where no thresholds meet it."""
    cheapest, dearest, budget = float(exits.cost[0]), float(exits.cost[-1]), real(budget, "a budget")
    if not budget >= cheapest:
        raise ValueError(f"a budget of {budget:g} GFLOPs cannot be met; "
                         f"the cheapest possible cost is {cheapest:g}")
    if budget > dearest:
        warnings.warn(f"a budget of {budget:g} GFLOPs is more than the last exit costs; "
                      f"{dearest:g} is used instead", stacklevel=4)
    return min(float(budget), dearest)


def leaves(score: ndarray, threshold: float) -> ndarray:
    """Which images [n] leave at an exit: the rule of the cascade."""
    return (score >= threshold) & (threshold < 1)


def outcome_of(exits: Exits, exit: ndarray, thresholds: Sequence[float]) -> Outcome:
    """The outcome when image i leaves at exit[i]."""
    n = len(exit)
    shares = np.bincount(exit, minlength=len(exits.cost)) / n
    right = exits.correct[exit, np.arange(n)].sum()
    return Outcome(tuple(float(t) for t in thresholds), float(100 * right / n), float(mean_cost(shares, exits.cost)),
                   tuple(shares.tolist()), exit)


def mean_cost(shares: Sequence, cost: ndarray):
    """Sum of share x cost, always in this order, so that one outcome never has two costs that differ by rounding."""
    total = 0.0
    for share, each in zip(shares, cost):
        total = total + share * each
    return total


def midpoints(score: ndarray) -> ndarray:
    """Rising thresholds midway between neighbouring distinct scores, at numbers that float32 can hold."""
    values = np.unique(score)
    middle = ((values[1:] + values[:-1]) / 2).astype(np.float32).astype(float)
    return middle[np.diff(values) >= APART]


def candidates(score: ndarray, most: int) -> ndarray:
    """At most `most` rising thresholds for the scores [n] of an exit: 0, midpoints near their quantiles, 1."""
    middle = midpoints(score)
    if len(middle) > most - 2:
        quantiles = np.quantile(score, np.linspace(0, 1, most)[1:-1])
        middle = middle[np.unique(np.searchsorted(middle, quantiles).clip(max=len(middle) - 1))]
    return np.concatenate([[0.0], middle, [1.0]])


def cut(score: ndarray, count: int) -> float:
    """The midpoint that lets the `count` surest of these scores leave, and those that tie with the last of them."""
    count = min(count, len(score))
    if count == 0:
        return 1.0
    below = midpoints(score)
    below = below[below < np.sort(score)[-count]]
    return float(below[-1]) if len(below) else 0.0


def walk(exits: Exits, leavers: Callable[[int, ndarray], int]) -> list[float]:
    """K - 1 thresholds, exit by exit: leavers(k, scores of the images that reach exit k) says how many leave there."""
    thresholds, reach = [], np.ones(exits.score.shape[1], bool)
    for k, score in enumerate(exits.score[:-1]):
        thresholds.append(cut(score[reach], leavers(k, score[reach])))
        reach &= ~leaves(score, thresholds[-1])
    return thresholds


def shared_out(exits: Exits, ratio: float) -> list[float]:
    """Thresholds with which shares proportional to ratio^k of all images leave at exit k = 1, ..., K."""
    shares = ratio ** np.arange(1, len(exits.cost) + 1)
    counts = np.floor(exits.score.shape[1] * shares / shares.sum()).astype(int)
    return walk(exits, lambda k, score: counts[k])


def geometric_front(exits: Exits) -> Front:
    """The best of the geometric rule's solutions, and of all images leaving at the first exit."""
    thresholds = np.array([[0.0] * (len(exits.cost) - 1), *(shared_out(exits, ratio) for ratio in RATIOS)])
    return rated(exits, thresholds)


def rated(exits: Exits, thresholds: ndarray) -> Front:
    """The front of thresholds [M, K - 1] that are simulated one by one."""
    outcomes = [simulate(exits, each) for each in thresholds]
    right = np.array([exits.correct[o.exit, np.arange(len(o.exit))].sum() for o in outcomes], float)
    return front_of(thresholds, right, np.array([o.gmacs for o in outcomes]))


def exhaustive_front(exits: Exits) -> Front:
    """The best combinations of candidates: of all for two and three exits, else of those that the descent visits."""
    start = geometric_front(exits)
    marks = [candidates(score, GRID.get(len(exits.cost), LINE)) for score in exits.score[:-1]]
    return merged([start, grid(exits, marks)]) if len(exits.cost) in GRID else descend(exits, start, marks)


def grid(exits: Exits, marks: Sequence[ndarray]) -> Front:
    """The front of every combination of rising candidate thresholds, marks[k] for exit k, each rated in O(1).

    An image's level at an exit is the number of candidates it passes; candidate g lets levels above g leave. So those
    that leave at exit k are, in a table of images by level at exits 1 to k, all levels <= g before k and > g at k.
    """
    exit_count, n = exits.score.shape
    right, shares, place, sizes = 0.0, [], np.zeros(n, int), []
    for k in range(exit_count):
        if k < exit_count - 1:
            sizes.append(len(marks[k]))
            place = place * (sizes[k] + 1) + np.searchsorted(marks[k][marks[k] < 1], exits.score[k], "right")
        spread = [*sizes, *[1] * (exit_count - 1 - len(sizes))]         # broadcasts over the exits after k
        right = right + leaving(place, exits.correct[k], sizes, k).reshape(spread)
        shares.append(leaving(place, np.ones(n), sizes, k).reshape(spread) / n)
    thresholds = np.stack(np.meshgrid(*marks, indexing="ij"), -1).reshape(-1, exit_count - 1)
    return front_of(thresholds, right.ravel(), mean_cost(shares, exits.cost).ravel())


def leaving(place: ndarray, weight: ndarray, sizes: Sequence[int], k: int) -> ndarray:
    """Summed weight [n] of the images that leave at exit k, for all candidates of the exits up to k, [*sizes]."""
    levels = [size + 1 for size in sizes]
    table = np.bincount(place, weight, int(np.prod(levels))).reshape(levels)
    for axis, size in enumerate(sizes):
        passed = np.cumsum(table, axis)
        if axis == k:
            passed = passed.take([-1], axis) - passed
        table = passed.take(range(size), axis)
    return table


def descend(exits: Exits, front: Front, marks: Sequence[ndarray]) -> Front:
    """Coordinate descent for all budgets at once: solutions spread over the front try all candidates of one exit."""
    for _ in range(SWEEPS):
        before = front
        for k in range(len(marks)):
            spread = np.unique(np.linspace(0, len(front.gmacs) - 1, STARTS).astype(int))
            lines = []
            for thresholds in front.thresholds[spread]:
                line = [thresholds[j:j + 1] if j != k else marks[k] for j in range(len(marks))]
                lines.append(grid(exits, line))
            front = merged([front, *lines])
        if np.array_equal(before.thresholds, front.thresholds):
            break
    return front


def front_of(thresholds: ndarray, right: ndarray, gmacs: ndarray) -> Front:
    """Those of M solutions that answer more images right than all that cost no more; the first of equals."""
    order = np.lexsort((-right, gmacs))
    rising = right[order]
    record = np.maximum.accumulate(rising)
    kept = order[np.concatenate([[True], rising[1:] > record[:-1]])]
    return Front(thresholds[kept], right[kept], gmacs[kept])


def merged(fronts: Sequence[Front]) -> Front:
    """One front of several."""
    return front_of(*(np.concatenate(parts) for parts in zip(*fronts)))


def best(exits: Exits, front: Front, budget: float) -> Outcome:
    """On a front the dearest solution that fits is the most accurate one."""
    return simulate(exits, front.thresholds[np.searchsorted(front.gmacs, budget, "right") - 1])


def evolve(exits: Exits, budget: float, seed: int) -> Outcome:
    """The best outcome within the budget that differential evolution meets, its thresholds moved to midpoints.

    Where two scores are too near for a midpoint the move lets more images leave, so the budget still holds.
    """
    found = best(exits, geometric_front(exits), budget)

    def loss(genes: ndarray) -> float:
        nonlocal found
        outcome = simulate(exits, genes)
        if outcome.gmacs <= budget and (outcome.top1, -outcome.gmacs) > (found.top1, -found.gmacs):
            found = outcome
        return PENALTY * max(0.0, outcome.gmacs / budget - 1) - outcome.top1 / 100

    population = [shared_out(exits, ratio) for ratio in RATIOS]
    differential_evolution(loss, [(0, 1)] * (len(exits.cost) - 1), init=np.array(population), maxiter=GENERATIONS,
                           tol=0, polish=False, rng=seed)
    return simulate(exits, walk(exits, lambda k, score: leaves(score, found.thresholds[k]).sum()))


FRONTS = {"exhaustive": exhaustive_front, "geometric": geometric_front}
