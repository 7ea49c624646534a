"""By what score a method chose, and where the cut was: as a trace tells it, against the method's own scores sorted by hand."""
import pytest
import torch
from samples import pictures, sharpen

import vitlab
from vitlab.methods import tome
from vitlab.methods.spvit import prune
from vitlab.methods.svit import select
from vitlab.trace import Judged, Trace
from vitlab.widgets import life


def made(kind, backbone="micro_patch8", **knobs):
    torch.manual_seed(0)
    return sharpen(vitlab.create(kind, backbone, num_classes=10, **knobs)).eval()


@torch.no_grad()
def apart(net):
    """Selectors whose scores differ widely, as trained ones' do."""
    for selector in net.selectors:
        selector.readers[0].say[-1].weight.mul_(60)
    return net


@torch.no_grad()
def traced(net, images, point=None, watch=None):
    trace = Trace(watch=watch)
    net(images, point, trace)
    return trace.layers


def said(modules):
    """What these say from now on, by the module; all of it in order."""
    told = {module: [] for module in modules}
    for module in modules:
        module.register_forward_hook(lambda module, _, score: told[module].append(score.detach()))
    return told


def check(part, row, scores):
    """Scores {patch: score} of an image, sorted by hand, against what is told of each patch; who was not judged has no place."""
    order = sorted(scores.values(), reverse=True)
    for patch in range(part.attended.shape[1]):
        if patch in scores:
            score, place, count = part.judged.of(patch, row)
            assert (score, place) == (pytest.approx(scores[patch], abs=1e-5), pytest.approx(1 + order.index(scores[patch])))
            assert count == len(order)
        else:
            assert part.judged.of(patch, row) is None


@pytest.mark.parametrize("point", [vitlab.SuperViT.Point(7, 0.5), vitlab.SuperViT.Point(6, 0.7)])
def test_supervit_ranks_by_the_attention_of_the_class_token_and_cuts_at_its_schedule(point):
    net, images, seen = made("supervit"), pictures(2), []
    layers = traced(net, images, point, lambda part, told: seen.append((told.q, told.k, told.ids)))
    kept = net.schedule(point)
    for part, (q, k, ids) in zip(layers, seen, strict=True):
        assert (part.judged is not None) == (part.layer in kept)
        if part.judged is not None:
            looks = ((q[:, :, :1] @ k.mT) / q.shape[-1] ** 0.5).softmax(-1)[:, :, 0].mean(1)[:, 1:]
            assert part.judged.cut(1) == kept[part.layer]
            for row in range(2):
                check(part, row, dict(zip(ids[row].tolist(), looks[row].tolist(), strict=True)))
                stay = [patch for patch in range(part.fed.shape[1]) if part.fed[row, patch]]
                assert len(stay) == part.judged.cut()
                assert all(part.judged.of(patch, row)[1] <= part.judged.cut() for patch in stay)


@pytest.mark.parametrize("token_type", ["high", "80_20", "random"])
def test_where_others_than_the_least_attended_go_no_score_is_told(token_type):
    layers = traced(made("supervit", token_type=token_type), pictures(1), vitlab.SuperViT.Point(7, 0.5))
    assert all(part.judged is None for part in layers)


def test_spvit_ranks_by_its_selectors_and_keeps_the_number_that_its_budget_means():
    net, images = made("spvit", after=(1, 3)), pictures(2)
    told, point = said(net.selectors), net.points[0]
    layers = traced(net, images, point)
    for selector, layer in zip(net.selectors, net.after, strict=True):
        part, before, (value,) = layers[layer], layers[layer - 1], told[selector]
        assert part.judged.cut() == net.rule(net.check(point))[layer]
        for row in range(2):
            ids = part.judged.ids[row].tolist()
            assert sorted(ids) == before.attended[row].nonzero()[:, 0].tolist()
            check(part, row, dict(zip(ids, value[row, :len(ids)].tolist(), strict=True)))
            assert {patch for patch in ids if part.judged.of(patch, row)[1] <= part.judged.cut()} == {
                *part.attended[row].nonzero()[:, 0].tolist()}
    assert [part.judged is not None for part in layers] == [part.layer in net.after for part in layers]


def test_a_calibrated_spvit_keeps_of_an_image_what_its_scores_add_up_to():
    net, images = apart(made("spvit", after=(1, 3))), pictures(4)
    net.set_factors([[net.budget, 0.9, 0.6]])
    told, point = said(net.selectors), vitlab.SPViT.Point(net.budget)
    layers, cuts = traced(net, images, point), set()
    for selector, factor, layer in zip(net.selectors, (0.9, 0.6), net.after, strict=True):
        part, before, (value,) = layers[layer], layers[layer - 1], told[selector]
        start = 0
        for row in range(4):
            ids = before.attended[row].nonzero()[:, 0].tolist()            # in their order, packages behind them
            scores = value[0, start:start + len(ids)].tolist()
            start += len(ids) + int(before.extra[row]) - 1
            assert part.judged.cut(row) == max(round(factor * sum(scores)), 1) == int(part.attended[row].sum())
            check(part, row, dict(zip(ids, scores, strict=True)))
            cuts.add(part.judged.cut(row))
    assert len(cuts) > 2, "images differ"


def test_svit_ranks_by_the_log_odds_of_its_gates():
    net, images = made("svit"), pictures(2)
    told, point = said(net.gates), net.Point(0.6)
    layers = traced(net, images, point)
    for layer, gate in net.at.items():
        part, (odds,) = layers[layer], told[net.gates[gate]]
        assert part.judged.cut() == net.counts(0.6)[gate]
        asked = odds.shape[1] - 49                                         # the last one asks the class token, too
        assert asked == (layer == 3)
        for row in range(2):
            scores = {patch - asked: score for patch, score in enumerate(odds[row].tolist())}
            check(part, row, scores)
            there = {patch for patch in range(49) if part.judged.of(patch, row)[1] <= part.judged.cut()}
            assert there == {*part.attended[row].nonzero()[:, 0].tolist()}


@pytest.mark.parametrize("pruned", ["return", "inherit"])
def test_a_calibrated_svit_asks_for_log_odds_above_a_threshold(pruned):
    net, images = made("svit", pruned=pruned), pictures(3)
    net.set_thresholds([[0.7, *(0.02 * gate for gate in range(len(net.at)))]])
    told, point = said(net.gates), net.Point(0.7)
    layers, alive = traced(net, images, point), torch.ones(3, 49, dtype=torch.bool)
    for part in layers:
        gate = net.at.get(part.layer)
        assert (part.judged is None) == (gate is None)
        if gate is not None:
            assert part.judged.cut() == net.thresholds.at(0.7, 1e-3)[gate] == pytest.approx(0.02 * gate)
            (odds,) = told[net.gates[gate]]
            asked = odds.shape[1] - 49
            for row in range(3):
                scores = {patch - asked: score for patch, score in enumerate(odds[row].tolist())
                          if patch < asked or alive[row, patch - asked]}
                check(part, row, scores)
                for patch in range(49):
                    own = part.judged.of(patch, row)
                    assert bool(part.attended[row, patch]) == (own is not None and own[0] > part.judged.cut())
            alive = alive if pruned == "return" else part.attended


def test_tome_ranks_pairs_by_the_likeness_of_their_keys_and_merges_r():
    net, images, seen = made("tome"), pictures(2), []
    point, both = net.Point(6), set()
    layers = traced(net, images, point, lambda part, told: seen.append((told.k, told.ids)))
    for part, (k, ids), gone in zip(layers[:-1], seen, net.schedule(point), strict=False):
        assert part.judged.cut() == gone == 6
        key = torch.nn.functional.normalize(k.mean(1), dim=-1)[:, 1:]
        for row in range(2):
            first, second = ids[row, 1::2].tolist(), ids[row, 0::2].tolist()       # the class token stands before them
            alike = (key[row, 1::2] @ key[row, 0::2].mT)
            best = {patch: (float(line.max()), second[int(line.argmax())]) for patch, line in zip(first, alike)}
            order = sorted((score for score, _ in best.values()), reverse=True)
            for patch in range(49):
                own = [score for one, (score, other) in best.items() if patch in (one, other)]
                told = part.judged.of(patch, row)
                assert (told is None) == (not own)
                if own:
                    assert told[0] == pytest.approx(max(own), abs=1e-6) and told[2] == len(order)
                    assert order[told[1] - 1] == pytest.approx(max(own), abs=1e-6)
                if int(part.source[row, patch]) != patch and part.attended[row, patch]:
                    assert told[1] <= gone, "who joins another is in one of the pairs that merge"
                    both.add(patch in first)
    assert both == {True, False}, "either may be the one that stands for both"


def test_a_cascade_tells_of_each_stage_what_it_decided_and_of_nobody_who_was_not_there():
    net, images = made("supervit"), pictures(3)
    cascade = vitlab.EarlyExit(net, (net.Point(4, 0.5), net.Point(7, 0.5))).eval()
    with torch.no_grad():
        sure = net(images, net.Point(4, 0.5)).softmax(-1).amax(-1).sort().values
    layers = traced(cascade, images, cascade.Point(float(sure[:2].mean())))
    second = [part for part in layers if part.stage == 1 and part.judged]
    own = [part for part in traced(net, images, net.Point(7, 0.5)) if part.judged]
    there = second[0].attended.any(1).tolist()
    assert sum(there) == 1
    for part, alone in zip(second, own, strict=True):
        for row in range(3):
            for patch in range(49):
                told = part.judged.of(patch, row)
                assert told == (pytest.approx(alone.judged.of(patch, row), abs=1e-5) if there[row] and alone.judged.of(patch, row)
                                else None)


def test_nobody_who_does_not_look_pays(monkeypatch):
    def paid(*_, **__):
        raise AssertionError("computed for nobody")

    for place, name in ((select, "said"), (prune, "ragged"), (tome, "pairs")):
        monkeypatch.setattr(place, name, paid)
    ragged = made("spvit")
    ragged.set_factors([[ragged.budget, *[0.9] * len(ragged.after)]])
    for net in (made("svit"), ragged, made("tome")):
        with torch.no_grad():
            net(pictures(1))
        with pytest.raises(AssertionError, match="for nobody"):
            traced(net, pictures(1))


def test_by_hand_the_score_and_the_cut_stay_the_methods_own():
    net, images, point = made("supervit"), pictures(1), vitlab.SuperViT.Point(7, 0.5)
    free = next(part for part in traced(net, images, point) if part.judged)
    first = next(patch for patch in range(49) if free.judged.of(patch)[1] == 1)
    forced = next(part for part in traced(vitlab.Forced(net, drop=[first]), images, point) if part.judged)
    assert forced.judged.of(first) == free.judged.of(first) and forced.judged.cut() == free.judged.cut()
    assert free.fed[0, first] and not forced.fed[0, first]


@pytest.mark.parametrize(("kind", "point", "words"), [
    ("supervit", (7, 0.5), "by the class token's attention: rank {place} of {count} ({score:.2g}), {cut} stay in layer {layer}"),
    ("spvit", (), "by its selector's score: rank {place} of {count} ({score:.2g}), {cut} stay in layer {layer}"),
    ("svit", (0.6,), "by its gate's log-odds: rank {place} of {count} ({score:.2g}), {cut} stay in layer {layer}"),
    ("tome", (6,), "by how alike the keys are: rank {place} of {count} ({score:.2g}), {cut} pairs merge in layer {layer}")])
def test_the_strip_says_it_of_the_first_place_that_judges(kind, point, words):
    net = made(kind)
    layers = traced(net, pictures(1), net.Point(*point))
    part = next(part for part in layers if part.judged)
    for patch in range(0, 49, 5):
        told = life.strip(life.moments(layers, divmod(patch, 7), 7), divmod(patch, 7))
        if own := part.judged.of(patch):
            assert words.format(place=own[1], count=own[2], score=own[0], cut=part.judged.cut(), layer=part.layer + 1) in told
        assert "class attention" not in told.split(" · by ")[0] or "dropped" not in told


def test_a_threshold_is_told_as_one_and_where_nobody_goes_nothing_is():
    net = made("svit")
    net.set_thresholds([[0.7, *[0.02] * len(net.at)]])
    layers = traced(net, pictures(1), net.Point(0.7))
    part = next(part for part in layers if part.judged)
    score, place, count = part.judged.of(3)
    told = life.strip(life.moments(layers, (0, 3), 7), (0, 3))
    assert f"by its gate's log-odds: {score:.2f} where more than 0.02 stays, rank {place} of {count} in layer" in told
    dense = life.strip(life.moments(traced(net, pictures(1), net.Point(1.0)), (0, 3), 7), (0, 3))
    assert "log-odds" not in dense
    assert all(part.judged is None for part in traced(made("dense"), pictures(1)))


def test_ties_share_a_place():
    told = Judged("a score", torch.tensor([[0.5, 0.7, 0.5, float("nan")]]), torch.tensor([[4, 2, 0, 1]]), stay=torch.tensor([2]))
    assert [told.of(patch) and told.of(patch)[1:] for patch in (4, 2, 0, 1, 3)] == [(2, 3), (1, 3), (2, 3), None, None]
    assert told.cut() == 2
