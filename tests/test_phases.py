"""Layer-to-phase training: what it looks for, how neighbours become a phase, and how a plan meets its budget."""
import pytest
import torch
from samples import pictures

import vitlab
from vitlab.methods.spvit.phases import fitted, grouped, layer_to_phase, parts, search

TABLE_8 = (.15, .17, .39, .47, .64, .71, .77, .85, .89, .92, .93)      # sparsity behind layers 1 to 11
PAPERS = (3, 6, 9)


def dense(backbone="micro_patch8"):
    torch.manual_seed(0)
    return vitlab.create("dense", backbone, num_classes=10).eval()


def may_drop(limits, cost=5.0):
    """Real nets that lose `cost` points once the selector behind a block drops more than its limit {block: rate}."""
    def score(net):
        if isinstance(net, vitlab.Dense):
            return 80.0
        return 80.0 - cost * any(1 - share > limits[block] + 1e-9 for block, share in zip(net.after, net.keep))
    return score


# grouping ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("near, first", ((0.1, (3, 5, 7, 9)), (0.2, (3, 5, 8)), (0.26, (3, 6)), (0.55, (3,)),
                                         (0.0, tuple(range(3, 12)))))
def test_the_papers_rates_give_these_phases(near, first):
    """From block 3 on: at 1 and 2 the paper's own accuracy falls by two points. Of its three plans 3-6-9 does not come out."""
    phases = grouped(TABLE_8[2:], near)
    assert tuple(3 + phases.index(n) for n in sorted(set(phases))) == first


def test_all_eleven_rates_give_two_phases_more_in_front():
    assert grouped(TABLE_8, 0.1) == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5]


def test_a_selector_that_drops_nothing_is_in_no_phase():
    assert grouped((0.0, 0.0, 0.3, 0.35, 0.9), 0.1) == [0, 0, 1, 1, 2]
    assert grouped((0.0, 0.0), 0.1) == [0, 0]


def test_a_difference_of_exactly_near_begins_a_phase_whatever_the_rounding():
    assert all(grouped((n / 20, (n + 2) / 20), 0.1) == [1, 2] for n in range(1, 18))


# searching --------------------------------------------------------------------------------------------------------------

def test_every_selector_drops_as_much_as_it_may_from_the_last_to_the_first():
    limits = dict(zip(range(1, 12), (0.1, 0.15, 0.4, 0.45, 0.65, 0.7, 0.75, 0.85, 0.9, 0.9, 0.95)))
    asked = []

    def attempt(net, after, keep):
        asked.append((net, after, keep))
        return (after[0], keep), 80 - 3.0 * (1 - keep[0] > limits[after[0]] + 1e-9)

    table = search(attempt, "dense", 80.0, 12, tol=1.0, step=0.05)
    assert table.block.tolist() == list(range(1, 12)) and (table.top1 == 80.0).all()
    assert (1 - table.keep).tolist() == pytest.approx(list(limits.values()))
    assert asked[0] == ("dense", (11,), (0.95,))
    for net, after, keep in asked[1:]:
        good = net if net != "dense" else (12, ())
        assert len(after) == len(keep) == 12 - after[0] and list(keep) == sorted(keep)[::-1]
        assert 1 - good[1][0] <= limits[good[0]] + 1e-9 if good[1] else True       # begins with what was good
        assert keep[len(keep) - len(good[1]) + (after[0] == good[0]):] == good[1][after[0] == good[0]:]


def test_a_small_loss_is_taken_each_time_and_measured_from_what_went_before():
    table = search(lambda net, after, keep: (None, net_top1(after, keep)), None, 80.0, 4, tol=0.5, step=0.25)
    assert table.keep.tolist() == [0.25, 0.25, 0.25]
    assert table.top1.tolist() == pytest.approx([78.8, 79.2, 79.6])


def net_top1(after, keep):
    """0.4 points for each selector."""
    return 80 - 0.4 * len(after)


def test_no_selector_drops_more_than_the_one_behind_it_and_none_stands_before_one_that_drops_nothing():
    limits = {11: 0.3, 10: 0.9, 9: 0.0, 8: 0.9}
    tried = []

    def attempt(net, after, keep):
        tried.append(after[0])
        return None, 80 - 3.0 * (1 - keep[0] > limits[after[0]] + 1e-9)

    table = search(attempt, None, 80.0, 12, tol=1.0, step=0.1).set_index("block")
    assert table.keep[11] == pytest.approx(0.7) and table.keep[10] == pytest.approx(0.7)
    assert (table.keep[:9] == 1).all() and set(tried) == {11, 10, 9}


# fitting ----------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def work():
    """DeiT-S with selectors behind 3, 6 and 9."""
    return vitlab.create("spvit", "deit_small").work


def test_the_papers_own_rates_are_cheaper_than_its_budget_so_the_first_selector_is_relaxed(work):
    keep = tuple(1 - TABLE_8[block - 1] for block in PAPERS)               # .61, .29, .11
    assert work(keep) == pytest.approx(2.36, abs=0.03)                     # by the specification
    found = fitted(work, keep, 2.64)
    assert work(found) == pytest.approx(2.64, abs=1e-9)
    assert found[1:] == keep[1:] and keep[0] < found[0] < 1


def test_of_a_plan_that_is_too_dear_the_later_selectors_drop_more(work):
    keep = (0.61, 0.5, 0.4)
    found = fitted(work, keep, 2.5)
    assert work(found) == pytest.approx(2.5, abs=1e-9) and found[0] == 0.61
    assert 0 < found[2] < found[1] < 0.5
    assert torch.tensor(found[1:]).log().div(torch.tensor(keep[1:]).log()).diff().abs() < 1e-5     # one power


def test_where_the_later_ones_cannot_save_enough_all_drop_more(work):
    found = fitted(work, (0.99, 0.98, 0.97), 1.6)
    assert work(found) == pytest.approx(1.6, abs=1e-9) and found[0] < 0.99


def test_a_first_selector_that_need_drop_nothing_goes(work):
    found = fitted(work, (0.61, 0.29, 0.11), 3.2)
    assert found[0] == 1.0 and 0.29 < found[1] < 1 and found[2] == 0.11
    assert work(found) == pytest.approx(3.2, abs=1e-9)


@pytest.mark.parametrize("limit, words", ((4.7, "needs no selector"), (0.5, "out of reach")))
def test_a_limit_out_of_reach_gets_one_sentence(work, limit, words):
    with pytest.raises(ValueError, match=words):
        fitted(work, (0.6, 0.3, 0.1), limit)


# all of it, on real nets ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("part, after", ((0.75, (1, 2)), (0.8, (1, 2)), (0.9, (2,))))
def test_what_it_returns_makes_a_net_of_that_budget(part, after):
    net, learned = dense(), []
    budget = part * vitlab.gmacs(net, pictures(1))[0]
    table, knobs = layer_to_phase(net, budget=budget, learn=learned.append, score=may_drop({1: 0.2, 2: 0.6, 3: 0.6}), step=0.2)
    assert list(table.columns) == ["block", "keep", "top1", "phase"] and table.attrs["dense"] == 80.0
    assert table.keep.tolist() == pytest.approx([0.8, 0.4, 0.4]) and table.phase.tolist() == [1, 2, 2]
    assert [part.after for part in learned] == [(3,)] * 4 + [(2, 3)] * 3 + [(1, 2, 3)] * 2
    found = vitlab.create("spvit", "micro_patch8", num_classes=10, **knobs)
    assert found.budget == pytest.approx(budget, rel=1e-9)
    assert knobs["after"] == after and max(knobs["keep"]) < 1              # a selector that need not drop is left out


def test_without_a_budget_the_first_selector_of_each_phase_keeps_its_share():
    _, knobs = layer_to_phase(dense(), learn=lambda net: None, score=may_drop({1: 0.2, 2: 0.6, 3: 0.6}), step=0.2)
    assert knobs == {"after": (1, 2), "keep": (pytest.approx(0.8), pytest.approx(0.4))}


def test_each_step_goes_on_from_the_last_good_net_and_forgets_a_bad_one():
    net, seen = dense(), []
    limits = {1: 0.0, 2: 0.25, 3: 0.5}

    def learn(student):
        seen.append((student.after, student.keep, student.vit.head.bias[0].item(),
                     [s.readers[0].say[0].bias[0].item() for s in student.selectors]))
        with torch.no_grad():
            student.vit.head.bias[0] += 1
            for selector in student.selectors:
                selector.readers[0].say[0].bias[0] += 1

    start = net.vit.head.bias[0].item()
    layer_to_phase(net, learn=learn, score=may_drop(limits), step=0.25)
    assert [(after, keep) for after, keep, *_ in seen] == [
        ((3,), (0.75,)), ((3,), (0.5,)), ((3,), (0.25,)),
        ((2, 3), (0.75, 0.5)), ((2, 3), (0.5, 0.5)), ((1, 2, 3), (0.75, 0.75, 0.5))]
    assert [round(bias - start) for _, _, bias, _ in seen] == [0, 1, 2, 2, 3, 3]       # 0.25 was bad, and so was (0.5, 0.5)
    last = [biases[-1] for *_, biases in seen]
    assert [round(bias - last[0]) for bias in last] == [0, 1, 2, 2, 3, 3]
    assert net.vit.head.bias[0].item() == start


def test_a_selector_that_is_to_drop_more_is_moved_there():
    net, kept = dense("micro_patch4"), []

    def learn(student):
        with torch.no_grad():
            kept.append((student.keep, [k.mean().item() for k in student.train().masked(pictures(6)).kept]))

    layer_to_phase(net, learn=learn, score=may_drop({5: 0.6, 4: 0.3, 3: 0, 2: 0, 1: 0}), step=0.3)
    assert len(kept) == 6
    for asked, found in kept:
        assert found == pytest.approx(asked, abs=0.06)


def test_shares_of_all_and_of_what_comes_are_told_apart():
    assert parts((0.8, 0.4, 0.4)) == pytest.approx([0.8, 0.5, 1.0])


def test_by_itself_it_trains_with_fit_and_looks_at_held_out_pictures():
    pics = vitlab.data.shapes("train", n=100)
    recipe = vitlab.Recipe(steps=1, batch=8, min_lr=1e-6, lr=5e-4, lr_backbone=5e-6)
    table, knobs = layer_to_phase(dense(), pics.take(slice(60)), pics.take(slice(60, 70)), tol=100.0, step=0.6, recipe=recipe)
    assert table.keep.tolist() == pytest.approx([0.4] * 3) and table.phase.tolist() == [1, 1, 1]
    assert ((0 <= table.top1) & (table.top1 <= 100)).all()
    assert knobs == {"after": (1,), "keep": (pytest.approx(0.4),)}


@pytest.mark.parametrize("given, words", (
    ({"net": "spvit"}, "trained dense net"), ({"keep": (0.5,)}, "keep follows from layer"), ({"latency": 3.0}, "latency follows"),
    ({"step": 0}, "step must lie"), ({"step": 1}, "step must lie"), ({"tol": -1}, "tol must be"), ({"near": 2}, "near must be"),
    ({"learn": None}, "train is missing"), ({"score": None}, "val is missing"),
    ({"score": lambda net: float("nan")}, "the score"),
    ({"score": lambda net: 80.0 * isinstance(net, vitlab.Dense)}, "no selector may drop"), ({"budget": 9.9}, "needs no selector"),
    ({"package": "box"}, "package must be one of"),
))
def test_bad_input_gets_one_sentence(given, words):
    net = vitlab.create(given.get("net", "dense"), "micro_patch8", num_classes=10)
    wanted = {"learn": lambda net: None, "score": may_drop({1: 0.2, 2: 0.6, 3: 0.6}), "step": 0.4} | given
    wanted.pop("net", None)
    with pytest.raises(ValueError, match=words) as error:
        layer_to_phase(net, **wanted)
    assert "\n" not in str(error.value)


def test_a_pit_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="is a PiT"):
        layer_to_phase(vitlab.create("dense", "pit_tiny", num_classes=10, image_size=64), learn=id, score=id)
