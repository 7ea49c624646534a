"""SViT against its paper: counts, parameters, equalities between its ways of leaving tokens out, and bad input."""
import pytest
import torch
from samples import pictures, sharpen

import vitlab
from vitlab.block import attention, mlp, qkv
from vitlab.measure import cost
from vitlab.methods.svit import Point, calibrate
from vitlab.methods.svit.gates import Gate, drawn, most, off_target
from vitlab.methods.svit.select import some

KINDS = ({}, {"pruned": "inherit"}, {"pruned": "discard"}, {"gate": "linear"}, {"gate": "global"}, {"first": 1})


def made(backbone="micro_patch8", **knobs):
    torch.manual_seed(0)
    return sharpen(vitlab.create("svit", backbone, num_classes=10, **knobs).eval(), 3.0)


def wide(net):
    """Gates whose odds differ widely between tokens and images, as trained ones' do."""
    with torch.no_grad():
        for gate in net.gates:
            gate.fc2.weight.mul_(60)
    return net


def calibrated(backbone="micro_patch8", n=12, **knobs):
    """A net of which another number of tokens takes part in every image, and the images."""
    net, pics = wide(made(backbone, **knobs)), vitlab.data.shapes("test", n=100).take(slice(n))
    calibrate(net, pics)
    return net, pics.images(slice(None))


def odds_above(net, keep=None):
    """What decides at test time, for a pass that computes all tokens."""
    thresholds = net.thresholds.at(keep or net.keep, 1e-3)
    return lambda gate, odds, may: (odds > thresholds[gate]).float()


# what the paper and its code print --------------------------------------------------------------------------------------

@pytest.mark.parametrize("backbone, total, parameters", (("deit_small", 2.9530, 22_391_962), ("deit_tiny", 0.7967, 5_805_130)))
def test_costs_and_parameters_are_the_papers(backbone, total, parameters):
    """The paper counts by fvcore, norms included; vitlab leaves them out."""
    net, image = vitlab.create("svit", backbone).eval(), pictures(1, 224)
    counted = cost.audit(net, image)
    assert counted["total"] == pytest.approx(total, abs=6e-5)
    assert counted["core"] == pytest.approx(vitlab.gmacs(net, image)[0], rel=1e-6)
    assert vitlab.measure.parameters(net) == parameters


@pytest.mark.parametrize("keep, total", ((1.0, 4.677), (.9, 4.003), (.8, 3.431), (.6, 2.559), (.5, 2.220), (.4, 1.945),
                                         (1e-9, 1.279)))
def test_other_shares_cost_what_the_specification_counts(keep, total):
    """All gates ask all tokens, so nothing left out costs more than the dense net's 4.608, and all left out 1.279."""
    net = vitlab.create("svit", "deit_small").eval()
    tokens = [197] * 3 + [n + net.before(gate) for gate, n in enumerate(net.counts(keep))]
    norms = sum(2 * n for n in tokens) + 197 + 8 * 196 + 197               # of the blocks, the head and the gates
    assert vitlab.gmacs(net, pictures(1, 224), Point(keep))[0] + 5 * 384 * norms / 1e9 == pytest.approx(total, abs=3e-3)


def test_gates_are_two_percent_of_the_cost():
    net, plain, image = vitlab.create("svit", "deit_small").eval(), vitlab.create("dense", "deit_small").eval(), pictures(1, 224)
    whole, trace = vitlab.gmacs(net, image)[0], vitlab.Trace()
    with torch.no_grad():
        net(image, None, trace)
    ends = vitlab.gmacs(plain, image)[0] - 12 * vitlab.block.macs(net.vit.blocks[0], 197) / 1e9
    gates = whole - ends - net.token_macs(trace).item() / 1e9
    assert gates / whole == pytest.approx(0.0222, abs=2e-4)                 # .0688 of 2.953, norms included, is 2.3 %


@pytest.mark.parametrize("width, kind, count", ((384, "mlp", 37_922), (192, "mlp", 9_746), (384, "linear", 1_538),
                                                (384, "random", 0)))
def test_a_gate_has_as_many_parameters_as_the_release(width, kind, count):
    assert sum(p.numel() for p in Gate(width, kind).parameters()) == count


def test_gates_stand_from_the_fourth_block_on_and_shares_fall_by_thirds():
    net = vitlab.create("svit", "deit_tiny")
    assert list(net.at) == list(range(3, 12)) and list(vitlab.create("svit", "deit_tiny", pruned="inherit").at) == [3, 6, 9]
    assert net.shares(0.7) == pytest.approx([.7] * 3 + [.49] * 3 + [.343] * 3)
    assert [net.before(gate) for gate in range(9)] == [1] * 8 + [0]         # in the last block the class token is asked too
    assert vitlab.create("svit", "deit_tiny", keep=[.9, .8, .7, .7, .7, .7, .5, .5, .4]).shares(.9)[-1] == pytest.approx(.4)


# leaving out is one thing, however it is computed ------------------------------------------------------------------------

@torch.no_grad()
@pytest.mark.parametrize("knobs", KINDS, ids=str)
@pytest.mark.parametrize("backbone", ("micro_patch8", "micro_patch4"))
def test_masked_is_gathered(backbone, knobs):
    net, images = calibrated(backbone, **knobs)
    trace = vitlab.Trace()
    logits, said = net(images, None, trace), net.masked(images, odds_above(net))
    torch.testing.assert_close(said.logits, logits, atol=2e-5, rtol=2e-5)
    for layer, gate in net.at.items():
        patches = said.drawn[gate][:, 1 - net.before(gate):] > 0
        assert torch.equal(trace.layers[layer].attended, patches)
        assert trace.layers[layer].extra.tolist() == (said.drawn[gate].sum(1) - patches.sum(1) + net.before(gate)).tolist()
    assert trace.layers[-1].attended.sum(1).unique().numel() > 1


@torch.no_grad()
def test_who_skips_a_block_is_unchanged_bit_for_bit_and_who_does_not_went_through_it():
    net, images = calibrated()
    t, rule = net.first(images), net.rule(net.check(None))
    for layer, block in enumerate(net.vit.blocks):
        t = net.gated(layer, t, rule)
        after, went = net.block(layer, t), t.takes_part()
        assert torch.equal(after.x[~went], t.x[~went])
        for image in range(len(images)):
            x = t.x[image][went[image]][None]
            if x.shape[1]:
                x = x + attention(block, *qkv(block, x))
                torch.testing.assert_close(after.x[image][went[image]][None], x + mlp(block, x), atol=1e-5, rtol=1e-5)
        t = after
    assert (~went).any()


@torch.no_grad()
def test_all_taking_part_is_the_dense_net_block_for_block():
    net, images = calibrated()
    x, _ = net.features(images, Point(1.0))
    torch.testing.assert_close(x, vitlab.Dense(net.vit).features(images), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_a_batch_of_unlike_images_is_its_images_one_by_one(knobs):
    net, images = calibrated(**knobs)
    for keep in (0.5, 0.7, 0.65):
        alone = torch.cat([net(image[None], Point(keep)) for image in images])
        torch.testing.assert_close(net(images, Point(keep)), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pruned, again", (("return", True), ("inherit", False), ("discard", False)))
def test_tokens_come_back_where_they_may_and_nowhere_else(pruned, again):
    net, images = calibrated("micro_patch4", pruned=pruned)
    trace = vitlab.Trace()
    net(images, None, trace)
    came_back = [(late.attended & ~early.attended).any() for early, late in zip(trace.layers, trace.layers[1:])]
    assert any(came_back) == again
    said = net.masked(images)                                              # drawn, as in training
    back = [(late[:, -196:] > early[:, -196:]).any() for early, late in zip(said.drawn, said.drawn[1:])]
    assert any(back) == again


@torch.no_grad()
def test_what_is_discarded_is_zero_in_the_map_and_what_is_not_is_there():
    for pruned in ("return", "inherit", "discard"):
        net, images = calibrated(pruned=pruned)
        x, alive = net.features(images)
        empty = x.eq(0).all(2)
        assert torch.equal(empty, ~alive if pruned == "discard" else torch.zeros_like(alive))
        assert empty.any() == (pruned == "discard")
        assert alive.all() == (pruned != "inherit" and pruned != "discard")


@torch.no_grad()
@pytest.mark.parametrize("who", ("one image", "all"))
@pytest.mark.parametrize("where", ("a middle block", "the last block", "every block"))
def test_an_image_of_which_nobody_takes_part_skips_the_block(where, who):
    """In every mode, alone and in a batch: in the last block not even the class token."""
    net, images = calibrated()
    last = len(net.at) - 1
    gates = {"a middle block": [1], "the last block": [last], "every block": range(last + 1)}[where]

    def nobody(gate, odds, may):
        took = odds_above(net)(gate, odds, may)
        took[slice(0, 1) if who == "one image" else slice(None)] *= 0.0 if gate in gates else 1.0
        return took

    said = net.masked(images, nobody)
    assert said.logits.isfinite().all()

    def rule(gate, odds, may, before):
        return some(torch.nn.functional.pad(nobody(gate, odds, may) > 0, (before, 0), value=True))

    def through(pics):
        t, trace = net.first(pics), vitlab.Trace()
        for layer in range(len(net.vit.blocks)):
            t = net.block(layer, net.gated(layer, t, rule), trace)
        assert all(part.cls.isfinite().all() for part in trace.layers)
        return vitlab.backbones.head(net.vit, t.x), trace

    logits, trace = through(images)
    torch.testing.assert_close(logits, said.logits, atol=2e-5, rtol=2e-5)
    if who == "one image":
        torch.testing.assert_close(through(images[:1])[0], logits[:1], atol=1e-5, rtol=1e-5)
    if where != "a middle block":
        assert trace.layers[-1].attended[0].sum() == trace.layers[-1].extra[0] == trace.layers[-1].cls[0].sum() == 0


def test_of_every_image_the_same_number_takes_part_where_that_is_asked():
    net, images = calibrated()
    trace = vitlab.Trace()
    with torch.no_grad():
        net(images, Point(fixed=True), trace)
    for layer, gate in net.at.items():
        part = trace.layers[layer]
        assert set((part.attended.sum(1) + part.extra).tolist()) == {net.counts(net.keep)[gate] + net.before(gate)}


@torch.no_grad()
def test_an_lv_vit_reads_also_who_was_left_out():
    torch.manual_seed(0)
    net = wide(vitlab.create("svit", "lvvit_tiny", num_classes=10, image_size=56, grid=4).eval())
    pics = vitlab.data.shapes("test", n=100).take(slice(12))
    calibrate(net, pics)
    images = pics.images(slice(None))
    torch.testing.assert_close(net.masked(images, odds_above(net)).logits, net(images), atol=1e-5, rtol=1e-5)


def test_an_images_cost_follows_from_its_trace():
    net, images = calibrated("micro_patch4")
    counted = [vitlab.measure.cost.count(net, image[None], None) / 1e9 for image in images]
    assert vitlab.gmacs(net, images) == pytest.approx(counted, rel=1e-6) and len(set(counted)) > 1


# training ---------------------------------------------------------------------------------------------------------------

def test_gates_learn_from_tokens_that_took_part_and_from_tokens_that_did_not():
    """d out / d s is what the block would have changed, for both."""
    net, images = made(), pictures(4)
    soft = {}

    def decide(gate, odds, may):
        soft[gate] = (odds > odds.median()).float().requires_grad_()
        return soft[gate]

    net.masked(images, decide).logits.square().sum().backward()
    for gate in range(len(net.at) - 1):
        took = soft[gate] > 0
        assert soft[gate].grad[took].abs().sum() > 0 and soft[gate].grad[~took].abs().sum() > 0


def test_drawing_keeps_each_token_with_its_probability():
    odds = torch.tensor([[-2.0, 0.0, 1.0]]).expand(4000, 3)
    said = drawn(odds)
    assert set(said.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(said.mean(0), odds[0].sigmoid(), atol=0.03, rtol=0)


def test_who_wants_most_takes_part_with_the_gradient_of_wanting_it():
    odds, may = torch.randn(3, 8).requires_grad_(), torch.ones(3, 8)
    may[:, 0] = 0
    said = most(odds, may, 0.5, "batch")
    falling = odds.where(may > 0, odds.new_tensor(float("-inf"))).flatten().sort(descending=True).values
    assert torch.equal(said > 0, (odds >= falling[11]) & (may > 0)) and said.sum() == 12
    assert most(odds, may, 0.5, "image").sum(1).tolist() == [4, 4, 4]
    assert most(odds, may, 1.0, "batch").sum() == may.sum()                # who may not does not, whatever is asked
    said.sum().backward()
    torch.testing.assert_close(odds.grad, odds.detach().sigmoid() * (1 - odds.detach().sigmoid()))


def test_settled_decisions_meet_their_shares_without_noise():
    net, images = made(), pictures(6)
    net.settle()
    assert net.made["knobs"]["decisions"] == "most"
    one, other = net.masked(images), net.masked(images)
    assert torch.equal(one.logits, other.logits)
    for took, share in zip(one.drawn, net.shares(net.keep), strict=True):
        assert took.mean().item() == pytest.approx(share, abs=1 / took.numel())
    assert next(net.losses(images, torch.arange(6)))["ratio"].item() < 1e-4


def test_the_loss_lets_images_of_a_batch_lend_each_other_tokens_and_the_fixed_one_does_not():
    lent = torch.zeros(2, 10)
    lent[0] = 1
    assert off_target([lent], (0.5,), "batch") == 0 and off_target([lent], (0.5,), "image") == 0.25
    assert off_target([lent, 1 - lent], (0.6, 0.5), "batch") == pytest.approx(0.005)


def test_the_loss_weighs_four_and_a_net_of_random_gates_has_none():
    net, images, labels = made(), pictures(4), torch.arange(4)
    torch.manual_seed(1)
    terms = next(net.losses(images, labels))
    torch.manual_seed(1)
    assert terms["ratio"].item() == pytest.approx(4 * off_target(net.masked(images).drawn, net.shares(net.keep), "batch").item())
    random = made(gate="random")
    assert list(next(random.losses(images, labels))) == ["ce"]
    kept = [each.mean().item() for each in random.masked(pictures(64)).drawn]
    assert kept == pytest.approx(random.shares(random.keep), abs=0.05)


# calibration ------------------------------------------------------------------------------------------------------------

def test_shares_are_met_at_every_gate_and_even_odds_do_not_meet_them():
    net, images = calibrated(n=40)
    for keep in (0.5, 0.7, 0.9):
        trace = vitlab.Trace()
        with torch.no_grad():
            net(images, Point(keep), trace)
        for layer, gate in net.at.items():
            part = trace.layers[layer]
            met = (part.attended.sum(1) + part.extra - net.before(gate)).double().mean() / (50 - net.before(gate))
            assert met == pytest.approx(net.shares(keep)[gate], rel=0.03)
    quiet = made()                                                         # odds of an untrained net, all on one side of even
    with torch.no_grad():
        for gate in quiet.gates:
            gate.fc2.weight.mul_(0.1)
            gate.fc2.bias.copy_(torch.tensor([-0.6, 0.0]))
        probability = quiet.gates[0](quiet.first(images).x[:, 1:]).sigmoid().mean().item()
        assert 0.3 < probability < 0.4
        quiet.set_thresholds([(0.7, *[0.0] * len(quiet.at))])              # "argmax"
        trace = vitlab.Trace()
        quiet(images, None, trace)
        assert trace.layers[-1].attended.sum() == 0
    calibrate(quiet, vitlab.data.shapes("test", n=100).take(slice(40)), [0.343])
    assert quiet.shares(0.343)[0] == pytest.approx(0.343)


def test_calibration_is_written_into_a_checkpoint_and_needs_no_other_training(tmp_path):
    net, images = calibrated()
    vitlab.save(net, tmp_path / "net.safetensors")
    again = vitlab.load(tmp_path / "net.safetensors")
    assert again.points == net.points and torch.equal(again(images), net(images))
    assert [point.keep for point in net.points] == [.5, .6, .7, .8, .9, 1.0]
    net.set_thresholds(None)
    assert not net.adaptive and "thresholds" in type(net).FREE_KNOBS


@pytest.mark.parametrize("knobs, sentence", (
    ({"keep": 0}, "keep must be above 0"), ({"keep": 1.2}, "keep must be a number in"), ({"keep": (.7, .5)}, "or 5 of them"),
    ({"keep": [1, .5, .5, .5, .5]}, "the first below 1"),
    ({"pruned": "forget"}, "pruned must be one of return, inherit, discard"),
    ({"rate": "pixel"}, "rate must be one of batch, image"), ({"gate": "cnn"}, "gate must be one of mlp, linear, global, random"),
    ({"decisions": "best"}, "decisions must be one of drawn, most"),
    ({"first": 7}, "first must be a whole number from 1 to 6"), ({"first": 0}, "first must be a whole number"),
    ({"lambda_ratio": -1}, "lambda_ratio must be a number"), ({"thresholds": [(0.7, 1.0)]}, "5 thresholds"),
    ({"pruned": "inherit", "keep": (.5, .6, .4)}, "none above the one before it"),
))
def test_a_knob_that_makes_no_sense_gets_one_sentence(knobs, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        made("micro_patch4", **knobs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("point, sentence", (
    (Point(0), "keep must be above 0"), (Point(1.5), "keep must be a number in"), (Point(fixed=1), "fixed must be True or False"),
    (Point(0.3), "this net is calibrated from 0.5 to 0.9 of the tokens, not for 0.3; choose another keep"),
    (vitlab.Dense.Point(), "is no operating point of SViT"),
))
def test_a_point_that_makes_no_sense_gets_one_sentence(point, sentence):
    net, images = calibrated()
    with pytest.raises(ValueError, match=sentence):
        net(images, point)


def test_calibration_refuses_what_it_cannot_do():
    pics = vitlab.data.shapes("test", n=100).take(slice(8))
    for net, keeps, sentence in ((made(gate="random"), None, "random gates want nothing"), (made(), [], "keeps must be shares"),
                                 (made(), [0], "keeps must be shares"), (made(), [1.5], "keep must be a number")):
        with pytest.raises(ValueError, match=sentence):
            calibrate(net, pics, keeps)
        assert not net.adaptive


def test_it_starts_from_a_dense_net():
    dense, net = vitlab.create("dense", "micro_patch8", num_classes=10), made()
    net.init_from(dense.vit)
    assert all(torch.equal(a, b) for a, b in zip(net.vit.state_dict().values(), dense.vit.state_dict().values()))
