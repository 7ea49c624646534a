"""Exits at the edges: a score of one, two classes, answers in half precision, points and places that are only defaults."""
import pytest
import torch

import vitlab
from vitlab import cascade
from vitlab.trace import Trace


def stay_or_leave(logits, threshold, criterion="confidence"):
    """Where pictures with these answers leave a cascade of two exits."""
    trace = Trace()
    cascade.run([lambda images, carry, trace: (logits[:len(images)], None)] * 2, torch.zeros(len(logits), 3, 4, 4), (threshold,),
                trace, criterion)
    return trace.exit.tolist()


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_nobody_leaves_at_a_threshold_of_one_however_sure(criterion):
    certain = 200.0 * torch.eye(4)
    assert cascade.CRITERIA[criterion](certain, None, 0).eq(1).all()
    assert stay_or_leave(certain, 1.0, criterion) == [1] * 4
    assert stay_or_leave(certain, 0.999999, criterion) == [0] * 4


@pytest.mark.parametrize(("classes", "least"), [(1, 1.0), (2, 0.0), (3, 0.0), (1000, 0.0)])
def test_entropy_is_measured_against_as_many_classes_as_there_are(classes, least):
    assert cascade.entropy(torch.zeros(1, classes), None, 0).item() == pytest.approx(least, abs=1e-6)
    sure = torch.zeros(1, classes)
    sure[0, 0] = 100.0
    assert cascade.entropy(sure, None, 0).item() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_answers_in_half_precision_are_weighed_in_single(criterion, kind):
    logits = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).to(kind)
    score = cascade.CRITERIA[criterion](logits, None, 0)
    assert score.dtype == torch.float32
    assert torch.equal(score, cascade.CRITERIA[criterion](logits.float(), None, 0))


@pytest.mark.parametrize("name", vitlab.methods.METHODS)
def test_every_point_that_is_offered_can_be_run(name):
    net = vitlab.create(name, "micro_patch8", num_classes=10)
    for point in net.points:
        net.check(point)


@pytest.mark.parametrize(("backbone", "stops"), [("deit_tiny", (4, 8, 12)), ("micro_patch4", (2, 4, 6))])
def test_adaptive_depth_stands_at_the_thirds(backbone, stops):
    assert vitlab.create("adaptive_depth", backbone, num_classes=10).stops == stops
