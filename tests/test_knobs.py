"""What every knob is unless it is said: the papers' headline models, and what a call without arguments does."""
import inspect

import pytest

import vitlab
from vitlab import budget, lengths
from vitlab.methods import METHODS, revit, supervit
from vitlab.methods.revit import assigner
from vitlab.methods.revit.distillation import SelfDistillation
from vitlab.trace import Trace

DISTILLED = {"tau": 0.9, "lambda_": 0.5, "teacher": "soft", "w_feat": 0.0, "w_attn": 0.0}
KNOBS = {
    "dense": {"width": None},
    "supervit": {"lengths": None, "rates": (0.5, 0.7, 1.0), "drop_blocks": None, "subnets": "four", "objective": "ce_kl",
                 "token_type": "low", "count_cls": True, "align": "image_ac", "mode": "bilinear", "embedding": "shared",
                 "resample": True, "share_prefix": True},
    "dvt": {"grids": None, "features": True, "relations": True, "feature_layers": "all", "feature_source": "final",
            "reuse_cls": False, "feature_norm": True, "relation_source": "all", "relation_layers": "all", "relation_net": "mlp",
            "upsample": "grid", "criterion": "confidence", "detach": False, "zero_relations": False, "reuse_hidden": None,
            "reuse_dim": None, "thresholds": None},
    "adaptive_depth": {"exits": None},
    "revit": {"lengths": None, "patch": "separate", "positions": "separate", "norm": "tal", "stem": "patch", "dist_token": "none",
              **DISTILLED, "head_per_length": False, "assigner": None},
    "spvit": {"budget": None, "keep": None, "latency": None, "after": None, "package": "normalised", "merge": None,
              "persist": False, "heads": None, "branch": True, "shared": True, "width": "code", "layer": "mlp",
              "activation": "gelu", "score": "selector", "ratio": "batch", "decisions": "drawn", "lambda_kl": 0.5,
              "lambda_distill": 0.5, "lambda_ratio": 2.0, "factors": None},
    "svit": {"keep": 0.7, "first": None, "pruned": "return", "rate": "batch", "gate": "mlp", "decisions": "drawn",
             "lambda_ratio": 4.0, "thresholds": None},
    "tome": {"r": None, "decreasing": False, "proportional": True},
}
LABELS = {"label_split": "train", "share": 0.2, "folds": 2, "seed": 0}
CALLS = [
    (vitlab.EarlyExit, {"thresholds": (0.3, 0.5, 0.7, 0.9, 0.97, 1.0)}),
    (vitlab.EarlyExit.Point, {"threshold": 0.7}), (supervit.Point, {"length": None, "keep": 1.0}),
    (vitlab.DVT.Point, {"thresholds": None}), (vitlab.SViT.Point, {"keep": None, "fixed": False}),
    (vitlab.ToMe.Point, {"r": None}),
    (revit.Point, {"length": None, "cost_weight": 0.0}),
    (SelfDistillation, DISTILLED), (vitlab.TLA, {"architecture": None}), (assigner.choose, {"cost_weight": 0.0}),
    (lengths.splits, LABELS), (lengths.make_labels, LABELS | {"rule": "min_correct", "unsolved": "largest"}),
    (lengths.labels_of, {"rule": "min_correct", "unsolved": "largest"}), (lengths.random, {"seed": 0}),
    (lengths.oracle, {"unsolved": "smallest"}), (lengths.learned, {"cost_weight": 0.0, "gmacs": 0.0}),
    (budget.solve, {"how": "exhaustive", "seed": 0}), (budget.curve, {"how": "exhaustive", "seed": 0}),
    (budget.genetic, {"seed": 0}), (budget.random_like, {"seed": 0}),
    (Trace.add, {"fed": None, "extra": 1, "mask": None, "folded": None, "source": None, "pooled": False, "order": None,
                 "judged": None}),
    (vitlab.fit, {"val": None, "teacher": None, "out": None, "resume": True, "replicas": None}),
]


def defaults(call):
    return {name: said.default for name, said in inspect.signature(call).parameters.items() if said.default is not said.empty}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_knobs_is_its_papers(name):
    assert defaults(METHODS[name]) == KNOBS[name]


@pytest.mark.parametrize(("call", "told"), CALLS, ids=lambda part: getattr(part, "__qualname__", ""))
def test_what_is_not_said_is_as_documented(call, told):
    assert defaults(call) == told


def test_the_assigners_have_the_sizes_that_their_costs_were_measured_at():
    assert assigner.SMALL == ("efficientnet_b0", 0.5, 0.5, 128)
    assert assigner.MICRO == ("efficientnet_b0", 0.25, 0.25, 28)
