"""Who leaves a cascade, to the last bit; what its trace shows; and what a teacher never learns."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from samples import pictures, sharpen

import vitlab
from vitlab import backbones, block, budget, cascade
from vitlab.losses import kl
from vitlab.methods.dvt.reuse import Context
from vitlab.methods.revit.distillation import SelfDistillation, attention_transfer, feature_transfer

LOGITS = torch.randn(64, 10, generator=torch.Generator().manual_seed(3))


def stages(*answers):
    """A cascade whose exits say what is given, [B, K] each; the carry is which pictures are still there."""
    def stage(said):
        def run(images, carry, trace):
            rows = torch.arange(len(said)) if carry is None else carry
            if trace is not None:
                trace.add(0, (1, 1), torch.zeros(len(rows), 1, dtype=torch.long), *torch.zeros(2, len(rows), 1, 2, 1).unbind(0))
            return said[rows], rows
        return run
    return [stage(said) for said in answers]


def exits_of(first, thresholds, criterion="confidence"):
    """Where each picture leaves."""
    trace = vitlab.Trace()
    answers = cascade.run(stages(first, torch.zeros_like(first)), pictures(len(first), 4), thresholds, trace, criterion)
    return trace.exit, answers


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_an_image_whose_score_equals_the_threshold_leaves(criterion):
    score = cascade.CRITERIA[criterion](LOGITS, None, 0)
    for at in (5, 20, 40):
        threshold = score[at].item()
        left, answers = exits_of(LOGITS, (threshold,), criterion)
        assert left[at] == 0
        assert torch.equal(answers[at], LOGITS[at])
        assert torch.equal(left == 0, score >= score[at])
        assert exits_of(LOGITS, (np.nextafter(threshold, 2),), criterion)[0][at] == 1


def test_leaving_and_simulating_agree_where_score_and_threshold_meet():
    """Thresholds at the scores themselves, and at doubles a little off them, which float32 would round onto them."""
    score = cascade.confidence(LOGITS, None, 0)
    table = budget.Exits(np.stack([score.double().numpy(), np.ones(64)]), np.ones((2, 64), bool), [1.0, 2.0])
    for exact in score[:8].double().tolist():
        for threshold in (exact, exact * (1 + 1e-12), exact * (1 - 1e-12), np.nextafter(exact, 1), np.nextafter(exact, 0)):
            left, _ = exits_of(LOGITS, (threshold,))
            assert left.tolist() == budget.simulate(table, (threshold,)).exit.tolist(), threshold


@pytest.mark.parametrize(("criterion", "bad"), [
    ("confidence", float("nan")), ("entropy", float("nan")), ("random", float("nan")),
    ("confidence", float("inf")), ("entropy", float("inf")),               # the softmax of inf is NaN
])
def test_an_answer_that_is_nan_stays_until_the_last_exit(criterion, bad):
    broken = LOGITS.clone()
    broken[7, 3] = bad
    for threshold in (1e-6, 0.05):
        left, answers = exits_of(broken, (threshold,), criterion)
        assert left[7] == 1
        assert answers[7].eq(0).all()
        assert (left == 0).sum() > 30


@torch.no_grad()
def test_a_net_with_nan_weights_is_not_left_at_its_first_exit():
    net = vitlab.create("dvt", "micro_patch8", num_classes=10).eval()
    net.stages[0].vit.head.bias[0] = float("nan")
    trace = vitlab.Trace()
    answers = net(pictures(4), net.Point((0.01, 0.01)), trace)
    assert trace.exit.tolist() == [1] * 4
    assert answers.isfinite().all()


# DVT

@torch.no_grad()
def test_the_trace_of_dvt_shows_attention_with_the_relations_it_adds():
    torch.manual_seed(1)
    net = sharpen(vitlab.create("dvt", "micro_patch8", num_classes=10, features=False), 3.0).eval()
    for stage in net.stages[1:]:
        stage.relations.net[-1].bias.normal_(std=3.0)                      # a head's own, the same for all pairs: no effect
        stage.relations.net[-1].weight.mul_(20.0)
    images, trace = pictures(2), vitlab.Trace()
    net(images, None, trace)
    _, first = net.stages[0](images, None)
    stage = net.stages[1]
    x, low = backbones.embed(stage.vit, images), stage.relations(first.relations)
    for layer, part in enumerate(stage.vit.blocks):
        q, k, v = block.qkv(part, x)
        logits = block.attention_logits(q, k)
        weights = (logits + stage.relations.bias(layer, low)()).softmax(-1)
        shown = next(seen for seen in trace.layers if (seen.stage, seen.layer) == (1, layer)).cls
        torch.testing.assert_close(shown, weights[:, :, 0, 1:].mean(1), atol=1e-5, rtol=1e-4)
        assert (shown - logits.softmax(-1)[:, :, 0, 1:].mean(1)).abs().max() > 1e-3     # without them it is another picture
        x = x + block.attend(part, weights, v)
        x = x + block.mlp(part, x)


def test_the_context_of_dvt_starts_as_the_codes():
    net = vitlab.create("dvt", "micro_patch8", num_classes=10)
    nets = [part for stage in net.stages[1:] for part in stage.context.nets.modules() if isinstance(part, torch.nn.Linear)]
    assert len(nets) == 2 * 2 * 4
    weights = torch.cat([part.weight.flatten() for part in nets])
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(part.bias.eq(0).all() for part in nets)
    assert isinstance(net.stages[1].context, Context)


# What is learned from

def test_no_gradient_reaches_the_teacher():
    said = {name: torch.rand(3, *shape, requires_grad=True)
            for name, shape in (("logits", (5,)), ("dist", (5,)), ("features", (8, 4, 4)), ("attention", (4, 4)))}
    lesson = {name: torch.rand(3, *shape, requires_grad=True)
              for name, shape in (("logits", (5,)), ("features", (8, 7, 7)), ("attention", (7, 7)))}
    how = SelfDistillation(w_feat=1.0, w_attn=1.0)
    for each in (how, replace(how, teacher="hard")):
        sum(each.terms(said, lesson, torch.tensor([0, 1, 2])).values()).backward()
    assert all(value.grad is None for value in lesson.values())
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in said.values())


@pytest.mark.parametrize(("loss", "student", "teacher"), [
    (feature_transfer, (2, 8, 4, 4), (2, 8, 7, 7)), (attention_transfer, (2, 4, 4), (2, 7, 7)), (kl, (2, 5), (2, 5)),
])
def test_no_gradient_reaches_the_teacher_in_any_term(loss, student, teacher):
    student, teacher = torch.rand(student, requires_grad=True), torch.rand(teacher, requires_grad=True)
    loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_heads_per_length_start_from_the_head_that_was_given():
    net = vitlab.create("revit", "micro_patch8", num_classes=10, lengths=(7, 5), head_per_length=True)
    plain = backbones.create("micro_patch8", num_classes=10)
    with torch.no_grad():
        plain.head.weight.normal_()
        plain.head.bias.normal_()
    net.init_from(plain)
    for own in (net.vit.head, net.heads["5"]):
        assert torch.equal(own.weight, plain.head.weight)
        assert torch.equal(own.bias, plain.head.bias)
    assert net.heads["5"].weight.data_ptr() != net.vit.head.weight.data_ptr()


@pytest.mark.parametrize(("method", "knobs"), [
    ("revit", {"stem": "conv", "lengths": (14, 7)}), ("supervit", {"embedding": "individual"}),
])
def test_pretrained_patches_that_give_way_are_told(method, knobs):
    vit = backbones.create("deit_tiny", num_classes=10)
    vit.made["pretrained"] = True
    with pytest.warns(UserWarning, match="the pretrained patch embedding .* start anew"):
        vitlab.methods.METHODS[method](vit, **knobs)


def test_a_lot_is_drawn_from_where_every_pixel_is():
    images = pictures(200, 8)
    lots, mirrored = (cascade.random(torch.zeros(200, 3), x, 0) for x in (images, images.flip(3)))
    assert lots.min() >= 0 and lots.max() < 1
    assert abs(lots.mean() - 0.5) < 0.1 and lots.unique().numel() > 190
    assert (lots != mirrored).sum() > 190                                  # the same pixels in other places


def test_an_answer_is_as_sure_as_its_softmax_says():
    wide = torch.randn(3, 50)                                              # more classes than pictures
    share = wide.softmax(1)
    torch.testing.assert_close(cascade.confidence(wide, None, 0), share.max(1).values)
    entropy = -(share * share.log()).sum(1)
    torch.testing.assert_close(cascade.entropy(wide, None, 0), 1 - entropy / torch.tensor(50.0).log())


@pytest.mark.parametrize("given", [(), (0.5,), (0.5, 0.6, 0.7)])
def test_thresholds_of_another_cascade_are_counted(given):
    with pytest.raises(ValueError, match=f"3 exits need 2 thresholds, one for each but the last, not {len(given)}"):
        cascade.check(given, 3)
    assert cascade.check((0.5, 0.6), 3) == (0.5, 0.6) and cascade.check(0.5, 3) == (0.5, 0.5)


def test_a_revit_distils_by_the_records_own_numbers():
    """One set of defaults, in two places that a reader meets."""
    assert vitlab.create("revit", "micro_patch8", 10).distillation == SelfDistillation()
