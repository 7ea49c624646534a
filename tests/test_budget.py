"""Budget: what is simulated is what a loop over images does, and every solver keeps what it promises."""
from itertools import product

import numpy as np
import pytest

from vitlab import budget
from vitlab.cascade.budget import Exits, curve, exhaustive, genetic, geometric, random_like, simulate, solve

COST = [0.47, 1.15, 3.5, 5.0]


def cascade(exits: int = 3, images: int = 300, seed: int = 0, decimals: int | None = None) -> Exits:
    """A cascade as they are: hard images are hard at every exit, later exits know more, sure exits are mostly right.

    decimals rounds the scores, so that many images tie and some reach exactly 0 or 1.
    """
    rng = np.random.default_rng(seed)
    ability = 1.2 + 0.5 * np.arange(exits)[:, None]
    margin = ability - 2 * rng.normal(size=images) + 0.7 * rng.normal(size=(exits, images))
    correct = margin + rng.logistic(scale=0.6, size=margin.shape) > 0
    score = (1 / (1 + np.exp(-margin))).astype(np.float32)
    return Exits(score if decimals is None else score.round(decimals), correct, COST[:exits])


def budgets(exits: Exits, count: int) -> np.ndarray:
    return np.linspace(exits.cost[0], exits.cost[-1], count)


def loop(exits: Exits, thresholds) -> tuple[list[int], float, float]:
    """Exits, top-1 and mean cost, one image at a time."""
    left, last = [], len(exits.cost) - 1
    for i in range(exits.score.shape[1]):
        k = 0
        while k < last and not (thresholds[k] < 1 and exits.score[k, i] >= thresholds[k]):
            k += 1
        left.append(k)
    right = [exits.correct[k, i] for i, k in enumerate(left)]
    return left, 100 * sum(right) / len(right), sum(exits.cost[k] for k in left) / len(left)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("exit_count", [2, 3, 4])
def test_simulation_is_a_loop_over_images(exit_count, decimals):
    exits = cascade(exit_count, 200, decimals=decimals)
    choices = [0, 0.3, 0.5, float(exits.score[0, 7]), 0.9, 1]
    for thresholds in product(choices, repeat=exit_count - 1):
        outcome = simulate(exits, thresholds)
        left, top1, gmacs = loop(exits, thresholds)
        assert outcome.exit.tolist() == left
        assert outcome.thresholds == thresholds
        assert (outcome.top1, outcome.gmacs) == pytest.approx((top1, gmacs))
        assert sum(outcome.shares) == pytest.approx(1)
        assert outcome.gmacs == pytest.approx(np.dot(outcome.shares, exits.cost))
        assert outcome.shares == pytest.approx([left.count(k) / 200 for k in range(exit_count)])


def test_nobody_leaves_at_a_threshold_of_one_and_all_do_at_zero():
    exits = Exits([[1.0, 0.0], [1.0, 1.0]], np.ones((2, 2), bool), [1, 2])
    assert simulate(exits, [1]).shares == (0, 1)
    assert simulate(exits, [0]).shares == (1, 0)
    assert simulate(exits, [0.5]).exit.tolist() == [0, 1]


@pytest.mark.parametrize("exit_count", [2, 3, 4])
def test_shares_of_the_geometric_rule_are_in_ratio(exit_count):
    exits, tied = cascade(exit_count, 500), cascade(exit_count, 500, decimals=1)
    ranks = exits.score.argsort(1).argsort(1)
    exits = Exits((ranks + 0.5) / 500, exits.correct, exits.cost)       # no two images tie
    for ratio in budget.RATIOS[::6]:
        wanted = ratio ** np.arange(exit_count)
        wanted = np.floor(500 * wanted / wanted.sum())[:-1]
        shares = simulate(exits, budget.shared_out(exits, ratio)).shares
        assert np.multiply(shares, 500)[:-1] == pytest.approx(wanted)
        threshold = budget.shared_out(tied, ratio)[0]
        surest = np.sort(tied.score[0])[::-1]
        assert wanted[0] == 0 or (surest >= threshold).sum() == (surest >= surest[int(wanted[0]) - 1]).sum()


def test_geometric_takes_the_best_of_its_ratios():
    exits = cascade()
    tried = [simulate(exits, [0, 0])] + [simulate(exits, budget.shared_out(exits, ratio)) for ratio in budget.RATIOS]
    assert len(tried) == 60
    for limit in budgets(exits, 9):
        best = max((o for o in tried if o.gmacs <= limit), key=lambda o: (o.top1, -o.gmacs))
        outcome = geometric(exits, limit)
        assert (outcome.top1, outcome.gmacs) == (best.top1, best.gmacs)


@pytest.mark.parametrize("decimals", [None, 2, 1])
@pytest.mark.parametrize("exit_count", [2, 3, 4])
def test_exhaustive_is_never_worse_than_geometric_and_gains_with_the_budget(exit_count, decimals):
    exits = cascade(exit_count, seed=exit_count, decimals=decimals)
    limits = budgets(exits, 25)
    best, rule = curve(exits, limits), curve(exits, limits, "geometric")
    for limit, ours, theirs in zip(limits, best, rule):
        assert max(ours.gmacs, theirs.gmacs) <= limit
        assert (ours.top1, -ours.gmacs) >= (theirs.top1, -theirs.gmacs)
    assert (np.diff([o.top1 for o in best]) >= 0).all()
    assert decimals or sum(o.top1 for o in best) > sum(o.top1 for o in rule)
    assert best[0].gmacs == exits.cost[0]


@pytest.mark.parametrize("exit_count, images, decimals", [(2, 200, None), (2, 200, 1), (3, 40, None), (3, 150, 1)])
def test_exhaustive_is_brute_force_over_its_candidates(exit_count, images, decimals):
    exits = cascade(exit_count, images, decimals=decimals)
    marks = [budget.candidates(score, budget.GRID[exit_count]) for score in exits.score[:-1]]
    tried = [*product(*marks), *(budget.shared_out(exits, ratio) for ratio in budget.RATIOS)]
    tried = [simulate(exits, thresholds) for thresholds in tried]
    for limit in budgets(exits, 12):
        best = max((o for o in tried if o.gmacs <= limit), key=lambda o: (o.top1, -o.gmacs))
        outcome = exhaustive(exits, limit)
        assert (outcome.top1, outcome.gmacs) == (best.top1, best.gmacs)


def test_the_grid_is_right_for_any_number_of_exits():
    exits = cascade(4, 80, decimals=1)
    marks = [np.array([0, 0.45, 0.65, 0.95, 1]), np.array([0.75]), np.array([0.05, 0.55, 1])]
    tried = [simulate(exits, thresholds) for thresholds in product(*marks)]
    front = budget.grid(exits, marks)
    assert len(front.gmacs) > 3
    for gmacs, right, thresholds in zip(front.gmacs, front.right, front.thresholds):
        outcome = simulate(exits, thresholds)
        assert (outcome.gmacs, outcome.top1) == (gmacs, 100 * right / 80)
        assert outcome.top1 == max(o.top1 for o in tried if o.gmacs <= gmacs)


@pytest.mark.parametrize("how", ["geometric", "exhaustive"])
def test_a_curve_is_its_budgets_one_by_one(how):
    exits = cascade(3)
    limits = budgets(exits, 4)
    assert curve(exits, limits, how) == [solve(exits, limit, how) for limit in limits]
    assert curve(exits, []) == []


def test_candidates_are_quantiles_between_the_ends():
    score = cascade(images=2000).score[0]
    marks = budget.candidates(score, 100)
    assert marks[0] == 0 and marks[-1] == 1 and len(marks) == 100
    assert np.diff([(score < mark).mean() for mark in marks]).max() < 0.012
    assert budget.candidates(np.array([0.5, 0.5]), 100).tolist() == [0, 1]
    assert budget.candidates(np.array([0.25, 0.75]), 100).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("how", ["geometric", "exhaustive", "genetic"])
def test_rounding_cannot_move_an_image(how, decimals):
    exits = cascade(decimals=decimals)
    for outcome in curve(exits, [0.8, 2.0], how):
        for threshold, score in zip(outcome.thresholds, exits.score):
            inside = 0 < threshold < 1
            assert not inside or np.abs(score - threshold).min() >= budget.APART / 4
        narrow = Exits(np.nextafter(exits.score.astype(np.float32), np.float32(0.5)), exits.correct, exits.cost)
        assert (simulate(narrow, outcome.thresholds).exit == outcome.exit).all()
        assert outcome.thresholds == tuple(float(np.float32(t)) for t in outcome.thresholds)


def test_scores_too_near_for_a_float32_between_them_leave_together():
    one = np.float32(1)
    near = [one, np.nextafter(one, np.float32(0)), 0.5]
    exits = Exits([near, near], np.ones((2, 3), bool), [1, 2])
    assert budget.midpoints(exits.score[0]).tolist() == [0.75]
    assert budget.cut(exits.score[0], 1) == 0.75
    assert {o.shares[0] for o in (simulate(exits, [t]) for t in budget.candidates(exits.score[0], 9))} == {0, 2 / 3, 1}


@pytest.mark.parametrize("exit_count", [2, 3, 4])
def test_genetic_is_near_exhaustive_and_always_within_the_budget(exit_count):
    exits = cascade(exit_count, 400)
    for limit in budgets(exits, 4):
        best, found = exhaustive(exits, limit), genetic(exits, limit, seed=1)
        assert found.gmacs <= limit
        assert found.top1 > best.top1 - 0.5
        assert found.top1 >= geometric(exits, limit).top1


def test_genetic_repeats_with_its_seed():
    exits = cascade(3, 100)
    assert genetic(exits, 1.5, seed=3) == genetic(exits, 1.5, seed=3) == solve(exits, 1.5, "genetic", seed=3)


def test_random_exits_have_the_same_shares_and_know_less():
    exits = cascade(3, 1000)
    outcome = solve(exits, 1.2)
    draws = [random_like(exits, outcome, seed) for seed in range(20)]
    assert all(draw.shares == outcome.shares and draw.gmacs == outcome.gmacs for draw in draws)
    assert not (draws[0].exit == draws[1].exit).all()
    assert draws[0].thresholds == ()
    assert draws[0].exit.tolist() == random_like(exits, outcome, 0).exit.tolist()
    assert max(draw.top1 for draw in draws) < outcome.top1
    elsewhere = random_like(cascade(3, 333, seed=5), outcome)
    assert elsewhere.shares == pytest.approx(outcome.shares, abs=1 / 333)


@pytest.mark.parametrize("how", ["geometric", "exhaustive", "genetic"])
@pytest.mark.parametrize("exit_count", [2, 4])
def test_a_single_image_leaves_where_it_is_right(exit_count, how):
    correct = np.arange(exit_count)[:, None] == exit_count - 1
    exits = Exits(np.full((exit_count, 1), 0.7), correct, COST[:exit_count])
    assert solve(exits, exits.cost[-1], how).top1 == 100
    assert solve(exits, exits.cost[-1] - 0.01, how).top1 == 0
    assert solve(exits, exits.cost[0], how).shares == (1, *[0] * (exit_count - 1))


@pytest.mark.parametrize("how", ["geometric", "exhaustive", "genetic"])
def test_budgets_out_of_reach(how):
    exits = cascade(3, 50)
    for hopeless in (0.46, 0):
        with pytest.raises(ValueError, match="cheapest possible cost is 0.47"):
            solve(exits, hopeless, how)
    with pytest.warns(UserWarning, match="3.5 is used instead") as caught:
        outcome = solve(exits, 9, how)
    assert len(caught) == 1
    assert outcome == solve(exits, 3.5, how)


@pytest.mark.parametrize("thresholds", [
    [], [0.5], [0.5] * 3, [[0.5, 0.5]], [0.5, 1.1], [-0.1, 0.5], [0.5, float("nan")],
])
def test_other_thresholds_are_refused(thresholds):
    with pytest.raises(ValueError, match="3 exits need 2 thresholds"):
        simulate(cascade(3, 10), thresholds)


@pytest.mark.parametrize("change, message", [
    ({"score": np.zeros(4)}, "at least two exits and one image"),
    ({"score": np.zeros((1, 4))}, "at least two exits and one image"),
    ({"score": np.zeros((2, 0))}, "at least two exits and one image"),
    ({"score": np.zeros((2, 5))}, r"booleans of shape \(2, 5\)"),
    ({"correct": np.ones((3, 4), bool)}, r"booleans of shape \(2, 4\)"),
    ({"correct": np.ones((2, 4))}, "correct is float64"),
    ({"score": np.full((2, 4), np.nan)}, "8 scores are not finite; check the logits"),
    ({"score": np.full((2, 4), np.inf)}, "not finite"),
    ({"score": np.full((2, 4), 1.5)}, "run from 1.5 to 1.5; scale them"),
    ({"score": np.full((2, 4), -0.5)}, "scale them"),
    ({"cost": [1.0]}, "cumulative cost for each of the 2 exits"),
    ({"cost": [1.0, 2.0, 3.0]}, "cumulative cost for each of the 2 exits"),
    ({"cost": [1.0, 1.0]}, "strictly increasing"),
    ({"cost": [2.0, 1.0]}, "strictly increasing"),
    ({"cost": [0.0, 1.0]}, "positive"),
    ({"cost": [1.0, np.nan]}, "strictly increasing"),
])
def test_records_that_no_cascade_made_are_refused(change, message):
    good = {"score": np.full((2, 4), 0.5), "correct": np.ones((2, 4), bool), "cost": [1.0, 2.0]}
    Exits(**good)
    with pytest.raises(ValueError, match=message):
        Exits(**{**good, **change})


def test_other_solvers_and_other_cascades_are_refused():
    exits = cascade(3, 10)
    with pytest.raises(ValueError, match="the solver, must be one of .*exhaustive.*geometric.*genetic"):
        solve(exits, 1, "gradient")
    with pytest.raises(ValueError, match="same cascade"):
        random_like(exits, simulate(cascade(2, 10), [0.5]))


def test_candidates_end_below_the_surest_however_many_tie_there():
    score = np.concatenate([np.linspace(0, 0.9, 200), np.ones(50)])
    marks = budget.candidates(score, 100)
    assert marks[-2] == pytest.approx(0.95) and marks[-1] == 1 and len(marks) <= 100
    assert budget.candidates(1 - score, 100)[1] == pytest.approx(0.05)


@pytest.mark.parametrize("seed", range(3))
def test_with_four_exits_no_other_candidate_of_one_exit_is_better(seed):
    exits = cascade(4, 60, seed, decimals=1)
    marks = [budget.candidates(score, budget.LINE) for score in exits.score[:-1]]
    for limit in budgets(exits, 6):
        found = exhaustive(exits, limit)
        for k, line in enumerate(marks):
            for mark in line:
                other = simulate(exits, [*found.thresholds[:k], mark, *found.thresholds[k + 1:]])
                assert other.gmacs > limit or (other.top1, -other.gmacs) <= (found.top1, -found.gmacs)


@pytest.mark.parametrize(("exit_count", "combined"), [(2, True), (3, True), (4, False)])
def test_candidates_of_all_exits_are_combined_only_where_they_are_few(monkeypatch, exit_count, combined):
    sizes, grid = [], budget.grid
    monkeypatch.setattr(budget, "grid", lambda exits, marks: sizes.append(list(map(len, marks))) or grid(exits, marks))
    exits = cascade(exit_count, 60)
    exhaustive(exits, exits.cost[-1])
    assert (len(sizes) == 1 and min(sizes[0]) > 1) == combined
    assert combined or all(sorted(size)[:-1] == [1] * (exit_count - 2) for size in sizes)


def test_the_descent_goes_on_until_nothing_changes():
    exits = cascade(4, 60, seed=3, decimals=1)                              # one round of all exits is not enough here
    marks = [budget.candidates(score, budget.LINE) for score in exits.score[:-1]]
    front = budget.exhaustive_front(exits)
    assert np.array_equal(budget.descend(exits, front, marks).thresholds, front.thresholds)
