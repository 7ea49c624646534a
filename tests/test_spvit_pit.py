"""SPViT on PiT: dropped patches come back in every stage, or stay away (`persist`); its three ways of dropping are still one."""
from itertools import product

import numpy as np
import pytest
import timm
import torch
from samples import between, pictures, sharpen, small_pit

import vitlab
from vitlab import backbones
from vitlab.backbones import by_the_book
from vitlab.block import macs
from vitlab.measure.cost import count
from vitlab.methods.spvit import Point, calibrate, objective, stages
from vitlab.methods.spvit.clock import clock
from vitlab.methods.spvit.maps import by_head
from vitlab.methods.spvit.prune import Veiled, best
from vitlab.packed import Packed

VARIANTS = ({}, {"persist": True}, {"merge": False}, {"package": "none"}, {"package": "sum", "persist": True},
            {"after": (2, 3, 4)}, {"after": (1,), "persist": True}, {"after": (1, 5), "merge": False, "persist": True})


@pytest.fixture
def make(monkeypatch):
    """Makes an SPViT on a tiny PiT with what trained nets have: peaked attention, biases, selectors whose scores differ."""
    small_pit(monkeypatch)

    @torch.no_grad()
    def made(**knobs):
        torch.manual_seed(0)
        net = sharpen(vitlab.create("spvit", "pit_tiny", num_classes=10, image_size=56, **knobs).eval(), 3.0)
        for name, p in net.named_parameters():
            if name.endswith("bias") and not name.startswith("selectors"):
                p.normal_(std=0.3)
        images = pictures(8)
        for step, selector in enumerate(net.selectors):
            last = selector.readers[0].say[-1]
            last.weight.mul_(10)
            last.bias.zero_()
            t, score = net.asked(images, (0.8,) * step)
            last.bias.copy_(-3 * score[t.ids >= 0].median().logit() * torch.tensor([1.0, -1.0]))
            last.weight.mul_(6)
        return net

    return made


@pytest.fixture
def tight(monkeypatch):
    """Masked attention without the leak through which decisions learn; where attention is peaked it shows, up to 1e-4."""
    monkeypatch.setattr(objective, "LEAK", 0.0)


@torch.no_grad()
def settled(net, images):
    """The net with factors that keep about half, and that rounding cannot make a patch more or less of for these images."""
    factors = []
    for _ in net.after:
        t, score = net.asked(images, factors)
        score = score.where(t.ids >= 0, 0.0)
        total = t.rows.sum(score) if isinstance(t.rows, Packed) else score.sum(1)
        tried = torch.linspace(0.5, 1.1, 61) * (t.ids >= 0).sum() / total.sum() / 1.6
        wanted = tried[:, None] * total
        factors.append(tried[(wanted.frac() - 0.5).abs().amin(1).argmax()].item())
    net.set_factors([(net.budget, *factors)])
    return net


def came(part):
    """Which patches came to a block, before a selector took some away."""
    return part.attended if part.folded is None else part.attended | (part.folded > 0)


def by_factors(net):
    """What is decided at test time, for a masked pass."""
    factors = net.factors.at(net.budget, 1e-3)
    return lambda step, score, alive: best(score, alive, factors[step])


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# what the paper prints --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("backbone, total", (("pit_small", 1.530), ("pit_xsmall", 0.753), ("pit_tiny", 0.381)))
def test_the_least_is_what_the_specification_counts(backbone, total):
    """By fvcore, with the norms and nothing kept but the package: compared without the one patch that stays here."""
    net = vitlab.create("spvit", backbone)
    grids, there = (729, 729, *[196] * 6, *[49] * 4), backbones.blocks(net.vit)
    tokens = [1 + (layer > 0) + (grids[layer] if layer in (0, 2, 3, 4, 8, 9) else 0) for layer in range(12)]
    spare = sum(macs(there[n], 3) - macs(there[n], 2) for n in range(12) if tokens[n] == 2)
    width = net.vit.embed_dim
    norms = sum(10 * there[n].attn.qkv.in_features * tokens[n] for n in range(12)) + 5 * width
    norms += sum(5 * width // 2 ** (2 - stage) * n for stage, n in enumerate((729, 197, 50)))       # of the selectors
    assert net.after == (1, 5, 10)
    assert net.work.floor(net.keep) + (norms - spare) / 1e9 == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("backbone, budget, k, knobs", (
    ("pit_small", 2.58, (.784,) * 3, {}), ("pit_small", 1.42, (.583, .340, .198), {"persist": True}),
    ("pit_xsmall", 0.72, (.595, .354, .211), {"persist": True})))
def test_a_budget_of_the_paper_is_met_with_the_shares_that_reproduce_it(backbone, budget, k, knobs):
    """The specification's shares are those of a count with norms, which is 0.2 % more."""
    net = vitlab.create("spvit", backbone, budget=budget, **knobs).eval()
    assert vitlab.gmacs(net, pictures(1, 224))[0] == pytest.approx(budget, rel=0.01)
    assert net.keep == pytest.approx(k, abs=0.006)


@pytest.mark.parametrize("backbone, budget", (("pit_small", 1.42), ("pit_xsmall", 0.72)))
def test_what_the_published_placement_cannot_reach_is_refused(backbone, budget):
    with pytest.raises(ValueError, match="out of reach.*one patch left.*choose from .*, or persist=True"):
        vitlab.create("spvit", backbone, budget=budget)


def test_what_nothing_can_reach_names_no_way_out():
    with pytest.raises(ValueError, match="out of reach") as error:
        vitlab.create("spvit", "pit_tiny", budget=0.01)
    assert "persist" not in str(error.value)


# three ways of dropping are one -----------------------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize("knobs", VARIANTS, ids=str)
def test_masked_is_gathered_and_a_batch_is_its_images_one_by_one(make, tight, knobs):
    images, trace = pictures(7), vitlab.Trace()
    net = settled(make(**knobs), images)
    packed, masked = net(images, None, trace), net.masked(images, by_factors(net))
    close(masked.logits, packed)
    close(torch.cat([net(image[None]) for image in images]), packed)
    for block, kept in zip(net.after, masked.kept, strict=True):
        assert torch.equal(trace.layers[block].attended, kept.bool())
    assert torch.equal(trace.layers[-1].attended, masked.alive.bool())
    assert any(len(set(part.attended.sum(1).tolist())) > 1 for part in trace.layers)


@torch.no_grad()
@pytest.mark.parametrize("knobs", VARIANTS, ids=str)
def test_the_same_number_for_all_is_the_highest_scores(make, tight, monkeypatch, knobs):
    net, images, trace = make(**knobs), pictures(3), vitlab.Trace()
    logits = net(images, None, trace)
    assert all(len(set(part.attended.sum(1).tolist())) == 1 for part in trace.layers)
    stay = net.rule(net.check(None))

    def top(step, score, alive):
        best = score.masked_fill(alive == 0, -1).topk(stay.get(net.after[step], int(alive[0].sum()))).indices
        return torch.zeros_like(score).scatter(1, best, 1.0)

    begins = iter((trace.layers[2], trace.layers[5]))                       # a mask does not know how many cells are to stay
    monkeypatch.setattr(stages, "any_input", lambda alive, stage: came(next(begins)).float())
    close(net.masked(images, top).logits, logits)


@torch.no_grad()
@pytest.mark.parametrize("persist", (False, True))
def test_everything_kept_is_the_dense_net(make, persist):
    net, images = make(keep=(1.0, 1.0, 1.0), persist=persist), pictures(2)
    dense = vitlab.Dense(net.vit).eval()
    with by_the_book():
        assert torch.equal(net(images), dense(images))
    assert vitlab.gmacs(net, images).tolist() == vitlab.gmacs(dense, images).tolist()
    torch.testing.assert_close(net.masked(images, lambda step, score, alive: alive).logits, net(images), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("adaptive", (False, True))
def test_what_is_pooled_of_a_dropped_patch_is_what_was_dropped(make, adaptive):
    images, trace, pooled = pictures(3), vitlab.Trace(), []
    net = settled(make(), images) if adaptive else make()
    stage = backbones.stages(net.vit)[1]
    stage.pooling.conv.register_forward_hook(lambda _, inputs, __: pooled.append(inputs[0].flatten(2).mT))
    came = net.tokens(images, None, {}, stop=1).x[:, 1:]                    # to the first selector
    net(images, None, trace)
    gone = trace.layers[1].folded > 0
    assert gone.any(1).all() and torch.equal(gone, ~trace.layers[1].attended)
    assert torch.equal(pooled[0][gone], came[gone])
    assert (pooled[0][~gone] != came[~gone]).any(-1).all()                  # these went through a block more


# persist ----------------------------------------------------------------------------------------------------------------

def window(patches, i, j):
    """The patches, on their grid, of which a cell is made."""
    return patches[max(2 * i - 1, 0):2 * i + 2, max(2 * j - 1, 0):2 * j + 2]


@torch.no_grad()
def test_a_cell_persists_if_one_of_its_patches_does(make):
    images, trace = pictures(9), vitlab.Trace()
    net = settled(make(persist=True), images)
    net(images, None, trace)
    dead = 0
    for last, first in ((1, 2), (4, 5)):
        before, after = (trace.layers[n].attended.unflatten(1, trace.layers[n].grid) for n in (last, first))
        for image, i, j in product(range(len(images)), *map(range, after.shape[1:])):
            alive = window(before[image], i, j).any()
            assert after[image, i, j] == alive
            dead += not alive
    assert dead


@torch.no_grad()
def test_without_it_all_cells_are_there(make):
    images, trace = pictures(9), vitlab.Trace()
    net = settled(make(), images)
    net(images, None, trace)
    assert all(trace.layers[n].attended.all() for n in (0, 2, 5)) and not any(trace.layers[n].attended.all() for n in (1, 3, 6))


@torch.no_grad()
def test_where_the_number_is_fixed_the_share_persists_and_the_cells_with_the_best_patches(make):
    net, images, trace = make(persist=True, keep=(0.4, 0.4, 0.4)), pictures(9), vitlab.Trace()
    net(images, None, trace)
    assert [part.attended[0].sum().item() for part in trace.layers] == [36, *[14], *[4] * 3, *[2] * 2]
    t, score = net.asked(images)
    alive = trace.layers[1].attended * score[:, 1:]
    for image, first in zip(alive.unflatten(1, (6, 6)), trace.layers[2].attended, strict=True):
        mean = torch.stack([window(image, i, j).mean() for i, j in product(range(3), range(3))])
        assert torch.equal(first, mean >= mean.sort(descending=True).values[3])


@pytest.mark.parametrize("sides", ((27, 14), (14, 7), (6, 3), (3, 2)))
def test_a_cell_learns_from_each_patch_that_would_have_kept_it(sides):
    side, cells = sides
    stage = backbones.Stage(cells, {}, timm.models.pit.Pooling(4, 8, 2))
    none = torch.zeros(1, side * side, requires_grad=True)
    alive = stages.any_input(none, stage)
    assert alive.shape == (1, cells * cells) and not alive.any()
    alive.sum().backward()
    assert (none.grad > 0).all()
    for there in (1, side * side // 3, side * side):                        # there are always as many as are to stay
        patches = torch.zeros(64, side * side)
        patches.scatter_(1, torch.rand_like(patches).topk(there).indices, 1.0)
        patches[0] = (torch.arange(side * side) < there).float()
        assert stages.any_input(patches, stage).sum(1).min() >= stages.surviving(there, side * side, cells)


# cost -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("knobs", (VARIANTS[1], VARIANTS[5], VARIANTS[7]), ids=str)
def test_the_cost_of_every_image_follows_from_its_trace(make, knobs):
    images = pictures(3)
    net = settled(make(**knobs), images)
    counted = [count(net, image[None], None) / 1e9 for image in images]
    assert vitlab.gmacs(net, images) == pytest.approx(counted, rel=1e-6)
    with torch.no_grad():
        net(images, None, trace := vitlab.Trace())
    assert (net.token_macs(trace) / 1e9 + net.work.ends).tolist() == pytest.approx(counted, rel=1e-6)     # poolings and all
    assert len(set(counted)) > 1


@pytest.mark.parametrize("knobs", ({}, {"persist": True}, {"after": (1, 3, 4), "merge": False}), ids=str)
def test_the_closed_form_is_what_is_counted(make, knobs):
    net = make(**knobs)
    stay, patches = net.rule(net.check(None)), dict(enumerate((36, 36, 9, 9, 9, 4, 4)))
    keep = tuple(stay[block] / patches[block] if block in stay else 1.0 for block in net.after)
    if not net.persist:                                                     # else cells are rounded as well
        assert vitlab.gmacs(net, pictures(1))[0] == pytest.approx(net.work(keep), rel=1e-9)
    assert vitlab.gmacs(net, pictures(1), net.points[-1])[0] == pytest.approx(net.work.dense, rel=1e-9)


def test_an_early_exit_over_it_is_reckoned_too(make):
    images = pictures(4)
    net = settled(make(persist=True), images)
    both = vitlab.EarlyExit(net, (Point(), net.points[-1])).eval()
    with torch.no_grad():
        point = both.Point(between(net(images).softmax(-1).amax(1)))
    counted = [count(both, image[None], point) / 1e9 for image in images]
    assert vitlab.gmacs(both, images, point) == pytest.approx(counted, rel=1e-6)
    assert max(counted) > net.work.dense > min(counted)


@pytest.mark.parametrize("persist", (False, True))
def test_a_calibrated_budget_is_met_by_the_mean_image(make, persist):
    net, pics = make(persist=persist), vitlab.data.shapes("test", n=100).take(slice(32))
    calibrate(net, pics, [net.budget])
    assert vitlab.answers(net, pics).gmacs.mean() == pytest.approx(net.budget, rel=0.01)


def test_a_budget_that_no_factors_meet_is_said_and_nothing_changes(make):
    """One patch that persists is up to four cells."""
    net = make(persist=True)
    least = 1.001 * net.work.floor(net.keep)
    with pytest.raises(ValueError, match="no factors let the mean picture cost"):
        calibrate(net, vitlab.data.shapes("test", n=100).take(slice(8)), [least])
    assert not net.factors


@pytest.mark.parametrize("score", ("selector", "random"))
def test_a_latency_is_taken_stage_by_stage(make, score):
    net = make(score=score)
    work = clock(net.vit, net.after, [net.scorer(block) for block in net.after], 1, runs=3, points=3)
    assert (work.unit, work.depth, list(work.pools)) == ("ms", 7, [2, 5])
    assert [pool.patches for pool in work.pools.values()] == [9, 4]
    assert all(pool.cost(2) > 0 for pool in work.pools.values()) and work.dense > work.stem > 0


def test_a_latency_becomes_shares(monkeypatch, make):
    from vitlab.methods.spvit import limit, spvit

    def told(vit, after, scorers, packages, persist):
        assert (after, len(scorers), packages, persist) == ((1, 3, 6), 3, 1, True)
        return limit.Work("ms", 1.0, lambda layer, n: n / 50, lambda step, n: 0.0, lambda n: 0.0, after, 7, 36, 1, packages,
                          {2: limit.Pool(9, lambda n: 0.1), 5: limit.Pool(4, lambda n: 0.1)}, persist)

    monkeypatch.setattr(spvit, "clock", told)
    net = make(latency=2.9, persist=True)
    assert told(None, net.after, net.after, 1, True)(net.keep) == pytest.approx(2.9)


# training ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("knobs", ({}, {"persist": True}, {"merge": False}, {"score": "random", "persist": True}), ids=str)
def test_it_trains_is_taught_and_comes_back(make, knobs, tmp_path):
    net, teacher = make(**knobs).train(), make().vit
    teacher = vitlab.Dense(teacher).eval()
    net.check_teacher(teacher)
    for _ in range(8):
        for part in net.losses(pictures(4), torch.arange(4), teacher):
            assert set(part) == {"ce", "ratio", "kl", "distill"} and all(term.isfinite() for term in part.values())
            sum(part.values()).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    images = pictures(3)
    net = settled(net.eval(), images)
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert (again.made, again.factors.rows, again.persist) == (net.made, net.factors.rows, net.persist)
    if net.score == "selector":
        assert torch.equal(again(images), net(images))


def test_patches_of_the_last_stage_are_compared_with_the_teachers(make):
    """Also where the last selector stands in an earlier one."""
    net = make(after=(1,), keep=(0.5,), persist=True)
    said = net.masked(pictures(4))
    assert (said.kept[-1].shape, said.alive.shape, said.tokens.shape) == ((4, 36), (4, 4), (4, 4, 64))
    lesson = torch.randn_like(said.tokens)
    alive = torch.tensor([[1.0, 0, 0, 0]]).expand(4, -1)
    torch.testing.assert_close(objective.apart(said.tokens, lesson, alive), (said.tokens - lesson)[:, 0].square().mean())
    part, = net.losses(pictures(4), torch.arange(4), vitlab.Dense(make().vit).eval())
    assert part["distill"] > 0


def test_a_patch_learns_how_much_further_it_would_have_come():
    x, left, alive = torch.randn(2, 5, 8), torch.randn(2, 4, 8), torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 1]], requires_grad=True)
    seen = Veiled(x, alive, alive[:, :0], left).seen(1)
    assert torch.equal(seen, torch.where(alive[..., None] > 0, x[:, 1:], left))
    seen.sum().backward()
    torch.testing.assert_close(alive.grad, (x[:, 1:] - left).sum(-1))


def test_random_scores_keep_the_shares_asked_for_in_each_stage(make):
    for persist in (False, True):
        net = make(score="random", persist=persist, keep=(0.6, 0.5, 0.4)).train()
        kept = [stays.mean().item() for stays in net.masked(pictures(256)).kept]
        assert kept == pytest.approx(net.keep, abs=0.05)


# knobs ------------------------------------------------------------------------------------------------------------------

def test_shares_are_of_a_stages_own_patches_unless_they_persist(make):
    assert make().keep == (0.627,) * 3 and make(after=(1, 3, 4)).keep == pytest.approx((0.627, 0.627, 0.627 ** 2))
    assert make(persist=True).keep == pytest.approx((0.627, 0.627 ** 2, 0.627 ** 3))
    assert make(keep=(0.3, 0.5, 0.9)).keep == (0.3, 0.5, 0.9)
    with pytest.raises(ValueError, match="none above the one before it, not"):
        make(keep=(0.3, 0.5, 0.9), persist=True)
    with pytest.raises(ValueError, match="none above the one before it in its stage"):
        make(after=(1, 3, 4), keep=(0.3, 0.5, 0.9))


def test_every_selector_has_the_width_and_the_heads_of_its_stage(make):
    net = make()
    assert [selector.heads for selector in net.selectors] == [2, 4, 8]
    assert [selector.readers[0].read[0].normalized_shape for selector in net.selectors] == [(8,)] * 3
    assert net.work.packages == 1 and make(merge=False).work.packages == 3


def test_what_heads_say_is_mapped_on_the_grid_of_their_stage(make):
    images = pictures(2)
    net = settled(make(), images)
    for step, (heads, side) in enumerate(((2, 6), (4, 3), (8, 2))):
        said = by_head(net, images, net.factors.rows[0][1:1 + step])
        assert said.shape == (2, heads, side, side) and not np.isnan(said).any()        # all patches are back in each stage


@pytest.mark.parametrize("knobs, words", (
    ({"persist": "yes"}, "persist must be True or False"), ({"after": (0, 3)}, r"from 1 to 6, such as \(1, 3, 6\)"),
    ({"heads": 5}, "does not fit a width of 16"), ({"merge": 1}, "merge must be True or False"),
))
def test_a_knob_that_makes_no_sense_gets_one_sentence(make, knobs, words):
    with pytest.raises(ValueError, match=words):
        make(**knobs)


def test_nothing_persists_where_nothing_is_pooled():
    with pytest.raises(ValueError, match="persist must be False, or True where a PiT pools"):
        vitlab.create("spvit", "micro_patch8", persist=True)


def test_a_teacher_with_other_patches_is_refused(make):
    with pytest.raises(ValueError, match="the teacher has 7x7 patches of width 64, this net 2x2 of 64"):
        make().check_teacher(vitlab.create("dense", "micro_patch8", num_classes=10))


@torch.no_grad()
@pytest.mark.parametrize("persist", (False, True))
def test_the_same_number_for_all_needs_no_look_at_values(make, persist):
    """So that it can be exported: on this device there are none."""
    net = make(persist=persist).to("meta")
    assert net(torch.empty(3, 3, 56, 56, device="meta")).shape == (3, 10)
