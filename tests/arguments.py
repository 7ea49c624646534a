"""Every public function with good arguments, and for each argument what is bad there: what tests/test_arguments.py tries.

The kind of an argument is found by its name (KINDS), unless the call says otherwise.
"""
import inspect
from dataclasses import fields
from functools import cached_property, partial
from math import inf, nan

import numpy as np
import pandas as pd
import torch
from torch import nn

import vitlab
from vitlab import attribution, budget, cascade, data, edge, lengths, measure, official, plots, schedules
from vitlab.methods.revit.table import LengthTable
from vitlab.recipe import Recipe

HUGE, THING = 10 ** 18, object()
NUMBERS = [1.5, "3", True, nan, [3], THING, b"3", {}]
WHOLE = [*NUMBERS, 0, -1, HUGE]
WORDS = ["nope", "", None, 3, [], {}, True, THING, nan]
OBJECTS = [3, "x", [], {}, THING]
SHARE = ["a", True, nan, inf, [0.5], THING, {}, -0.1, 1.1]
POSITIVE = ["a", None, True, nan, [1], -1]
PATHS = [3, None, 0.5, [], {}, THING, b"\xff", nan, True, ""]
KNOBS = [3.5, "nope", [], {}, THING, -1, (99,), ("a",), True, nan]
SPOTS = [3, "x", [], [99], [1.5], {}, [-99]]        # places in a trace


class World:
    """What good calls are made of: small nets, a few pictures, what was measured of them."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "text.txt").write_text("hello")
        (folder / "inside").mkdir()
        made = partial(vitlab.create, num_classes=10, image_size=32)
        self.net, self.dense = made("supervit", "micro_patch8").eval(), made("dense", "micro_patch8").eval()
        self.revit = made("revit", "micro_patch8", lengths=(4, 3)).eval()
        self.dvt = made("dvt", "micro_patch8", grids=(3, 4)).eval()
        self.svit = made("svit", "micro_patch8").eval()
        self.spvit = made("spvit", "micro_patch8").eval()
        self.tome = made("tome", "micro_patch8").eval()
        self.exit = vitlab.EarlyExit(self.net, self.net.points[:2])
        self.forced = vitlab.Forced(self.net, [3], [4])
        self.tla = vitlab.TLA(2, 32).eval()
        self.set = data.shapes("val", size=32, n=12)
        self.images, self.picture = self.set.images(range(4)), self.set.picture(0)
        self.trace, self.gated = vitlab.Trace(), vitlab.Trace()
        self.net(self.images, trace=self.trace)
        self.packed, self.joined = vitlab.Trace(), vitlab.Trace()
        self.tome(self.images, trace=self.joined)
        self.spvit(self.images, self.spvit.points[0], self.packed)
        self.svit(self.images, trace=self.gated)
        self.figure = plots.gallery({"a": [(self.picture, "b")]})
        vitlab.save(self.net, folder / "net.safetensors")

    @cached_property
    def answers(self):
        return vitlab.answers(self.dense, self.set)

    @cached_property
    def exits(self):
        return measure.exits(self.dvt, self.set)

    @cached_property
    def dearest(self):
        return float(self.exits.cost[-1])

    @cached_property
    def table(self):
        return LengthTable((3, 4), torch.rand(12, 2) > 0.5, torch.rand(12, 2), torch.tensor([0.1, 0.2], dtype=torch.double))

    @cached_property
    def choice(self):
        return lengths.fixed(self.table, 3)

    @cached_property
    def frame(self):
        return pd.DataFrame({"method": "supervit", "length": [4, 2], "keep": [1.0, 0.5], "gmacs": [2.0, 1.0], "top1": [2.0, 1.0],
                             "images_per_s": [1.0, 2.0], "source": "ours", "point": ["a", "b"], "step": [1, 2],
                             "loss": [2.0, 1.0],
                             "stage": 0, "layer": [1, 2], "attended": 2, "fed": 2, "left_out": 0.5, "next": 0.5, "later": 0.25,
                             "never": 0.25, "name": "svit", "batch": [1, 2], "speed_up": 1.0, "gmacs_ratio": 1.0,
                             "exit1": 0.5, "exit2": 0.5, "label": "a", "tokens": [9, 5], "promised": [1.0, 2.0],
                             "who": "governor", "window": [0, 1], "load": "quiet", "first": [0.0, 3.0], "last": [2.0, 5.0],
                             "held": 1.0})


def nets(w):
    """What is no method."""
    return [None, "dense", 3, [], nn.Linear(2, 2), vitlab.Dense, {}, len, THING, torch.zeros(1)]


def frames(w):
    return [*OBJECTS, None, pd.DataFrame(), pd.DataFrame({"a": [1]}), w.frame.to_dict()]


KINDS = {       # of arguments by their names: w -> bad values
    **dict.fromkeys(("method", "methods", "net", "runner"), nets),
    "images": lambda w: [None, *OBJECTS, [[1.0]], np.zeros((2, 3, 32, 32), np.float32), torch.zeros(2, 1, 32, 32),
                         torch.zeros(2, 3, 24, 24), torch.zeros(2, 3, 32, 33), torch.zeros(0, 3, 32, 32), torch.zeros(()),
                         torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.full((2, 3, 32, 32), nan),
                         torch.zeros(1, 2, 3, 32, 32), w.set],
    "data": lambda w: [None, *OBJECTS, torch.zeros(2, 3, 32, 32), pd.DataFrame(), np.zeros(3), len, data.shapes],
    "point": lambda w: ["x", 3, 0.5, [], (7, 0.5), {}, THING, nan, cascade.Point, vitlab.EarlyExit.Point()],
    "trace": lambda w: [None, *OBJECTS, vitlab.Trace, vitlab.Trace()],
    "picture": lambda w: [None, *OBJECTS, np.zeros(3), np.zeros((4, 4, 4, 4)), np.zeros((0, 0, 3), np.uint8), torch.zeros(2),
                          np.full((8, 8, 3), nan)],
    "frame": frames,
    "path": lambda w: [*PATHS, w.folder / "inside", w.folder / "text.txt" / "x", "/proc/self/x"],
    "file": lambda w: [*PATHS, w.folder / "inside", w.folder / "text.txt", w.folder / "nope", "/proc/self/nope"],
    "table": lambda w: [None, *OBJECTS, w.frame],
    "exits": lambda w: [None, *OBJECTS],
    "stop": lambda w: [3, "x", [], {}, True],
    "target": lambda w: [*NUMBERS, -1, 10],
    "row": lambda w: [*NUMBERS, None, -99, 99],
    "layers": lambda w: SPOTS,
    "thresholds": lambda w: ["x", [], {}, THING, (2,), (nan,), True, ("a",), -1, (0.5,) * 9],
    "budget": lambda w: ["a", None, True, nan, [1], THING, -1, 0, 1e-12],
    "seed": lambda w: [*NUMBERS, None, -1, 10 ** 30],
    **dict.fromkeys(("batch", "runs", "rounds", "n", "size", "columns_", "steps_"), lambda w: [None, *WHOLE]),
    **dict.fromkeys(("precision", "device", "split", "criterion_", "how", "rule", "unsolved", "label_split", "x", "y", "color"),
                    lambda w: WORDS),
    **dict.fromkeys(("resume", "augment_"), lambda w: [1, 0, "no", None, [], nan, THING]),
    "pretrained": lambda w: [1, 0, "no", None, [], nan, THING],
}
CALLS = {}      # name -> (w -> function, good arguments; kinds of arguments that KINDS does not know, or knows otherwise)


def call(name, make, /, **kinds):
    """One public function."""
    CALLS[name] = make, kinds


def optional(kind):
    """The same but for None, which is allowed."""
    return lambda w: [value for value in KINDS[kind](w) if value is not None]


# Nets and measuring

for method in ("net", "dense", "revit", "dvt", "svit", "spvit", "tome", "exit", "forced"):
    call(f"{method}()", lambda w, method=method: (getattr(w, method), {"images": w.images, "point": None, "trace": None}),
         trace=lambda w: [*OBJECTS, vitlab.Trace, w.trace])
call("Forced", lambda w: (vitlab.Forced, {"method": w.net, "keep": [3], "drop": [4], "grid": None}),
     method=lambda w: [*nets(w), w.dense, w.tome], grid=lambda w: [*WHOLE, 2],
     **dict.fromkeys(("keep", "drop"), lambda w: [3, "x", {}, THING, None, [1.5], [-1], ["a"], [True] * 3, [[1]], [3, 4]]))
call("gmacs", lambda w: (vitlab.gmacs, {"method": w.net, "images": w.images, "point": None}))
call("parameters", lambda w: (measure.parameters, {"method": w.net}),
     method=lambda w: [net for net in nets(w) if not isinstance(net, nn.Module)])
call("audit", lambda w: (measure.audit, {"method": w.net, "image": w.images[:1], "point": None}), image=KINDS["images"])
call("throughput", lambda w: (vitlab.throughput, {"method": w.net, "images": w.images, "point": None, "precision": "fp32",
                                                  "seconds": 0.0, "runs": 1, "stop": None}), seconds=lambda w: POSITIVE)
call("latency", lambda w: (vitlab.latency, {"runner": w.net, "image": w.images[:1], "point": None, "precision": None, "runs": 100,
                                            "stop": None}),
     image=KINDS["images"], precision=optional("precision"))
call("race", lambda w: (measure.race, {"entries": {"a": (w.net, None)}, "images": w.images, "precision": "fp32", "rounds": 1,
                                       "stop": None}),
     entries=lambda w: [None, *OBJECTS, {"a": 3}, {"a": w.net}, {"a": ("x", None)}, {"a": (w.net, 3)}, [(w.net, None)]])
call("latency_race", lambda w: (measure.latency_race, {"entries": {"a": (w.net, None)}, "image": w.images[:1], "runs": 100,
                                                       "stop": None}), image=KINDS["images"],
     entries=lambda w: [None, *OBJECTS, {"a": 3}, {"a": ("x", None)}, {"a": (w.net, 3)}, {"a": (w.net, None, "x")},
                        {"a": (w.net, None, "fp32", 2)}])
call("Governor", lambda w: (vitlab.Governor, {"method": w.net, "table": pd.DataFrame(
    {"point": [str(w.net.points[0])], "top1": [50.0], "images_per_s": [10.0]}), "images_per_s": 5.0, "patience": 1.0}),
     table=lambda w: [None, *OBJECTS, pd.DataFrame({"a": [1]}),
                      pd.DataFrame({"point": ["x"], "top1": [1.0], "images_per_s": [1.0]})],
     images_per_s=lambda w: POSITIVE, patience=lambda w: POSITIVE)
call("Compiled", lambda w: (vitlab.Compiled, {"method": w.net, "kernels": True, "graphs": None, "backend": "eager"}),
     kernels=lambda w: [None, "x", 3, nan, []], graphs=lambda w: ["x", 3, nan, []], backend=lambda w: WORDS)
call("predict", lambda w: (vitlab.predict, {"method": w.net, "pictures": w.picture, "point": None, "top": 1, "batch": 4}),
     pictures=lambda w: [None, *OBJECTS, 3, [], [3], [None], {}, b"", ["x"], np.zeros(3)], top=lambda w: WHOLE)
call("answers", lambda w: (vitlab.answers, {"method": w.net, "data": w.set, "point": None, "batch": 50}))
call("sweep", lambda w: (vitlab.sweep, {"method": w.net, "data": w.set, "points": w.net.points[:1], "batch": 4,
                                        "precision": "fp32", "rounds": 1, "baseline": None,
                                        "resources": False}),
     points=lambda w: [*OBJECTS, [3], [None], w.net.points[0], [vitlab.DVT.Point()]],
     baseline=lambda w: [*OBJECTS, "dense", nn.Linear(2, 2)])
for function in (measure.peak_memory, measure.joules):
    call(function.__name__, lambda w, function=function: (function, {"method": w.net, "images": w.images, "point": None,
                                                                     "precision": "fp32"}))
call("exits", lambda w: (measure.exits, {"method": w.dvt, "data": w.set, "criterion": None, "batch": 50}),
     method=lambda w: [*nets(w), w.net], criterion=optional("criterion_"))
call("leaving", lambda w: (measure.leaving, {"method": w.dvt, "images": w.images, "point": None}),
     method=lambda w: [*nets(w), w.net])
call("depth", lambda w: (measure.depth, {"method": w.net, "image": w.images[0], "point": None, "stop": None}),
     image=KINDS["images"])
for look in (measure.lens, measure.attention_rows):
    call(look.__name__, lambda w, look=look: (look, {"method": w.net, "image": w.images[0], "patch": 3, "point": None,
                                                     "grid": 4}),
         image=KINDS["images"], patch=lambda w: [*NUMBERS, None, -1, 16], grid=lambda w: [*NUMBERS, 0, -1, HUGE, 1])
call("attention_rows(place)", lambda w: (partial(measure.attention_rows, w.net, w.images[0], 3), {"place": 0}),
     place=lambda w: [*NUMBERS, None, -99, 99])
call("focus", lambda w: (measure.focus, {"method": w.net, "data": w.set, "point": None, "batch": 50}))
call("by_region", lambda w: (measure.by_region, {"method": w.net, "data": w.set, "point": None, "batch": 50}))
call("agreement", lambda w: (measure.agreement, {"traces": {"a": w.trace, "b": w.trace}}),
     traces=lambda w: [None, *OBJECTS, {}, {"a": w.trace}, {"a": w.trace, "b": 3}, {"a": w.trace, "b": vitlab.Trace()}, w.trace])
call("pays", lambda w: (measure.pays, {"method": w.net, "tokens": (10, 5), "batches": (1,), "precision": "fp32", "rounds": 1,
                                       "stop": None}),
     tokens=lambda w: [*OBJECTS, 3, (), (0,), (1000,), (2.5,), ("a",), [None]],
     batches=lambda w: [None, *OBJECTS, 3, (), (0,), (2.5,), ("a",), [None], (1 << 40,)])
call("pick", lambda w: (measure.pick, {"table": w.answers, "how": "lost", "beside": w.answers, "label": 3}),
     table=frames, beside=frames, label=lambda w: [*NUMBERS, -1])
for name in ("layers", "fate", "overlap", "used"):
    call(name, lambda w, name=name: (getattr(measure, name), {"trace": w.trace}))
call("facts", lambda w: (measure.facts, {"device": "cpu"}))
call("paper", lambda w: (measure.paper, {"method": None}), method=lambda w: [word for word in WORDS if word is not None])
call("write", lambda w: (measure.write, {"frame": w.frame, "path": w.folder / "a.csv", "device": "cpu"}),
     frame=lambda w: [None, *OBJECTS])
call("attribution.patches", lambda w: (attribution.patches, {"method": w.net, "image": w.images[0], "point": None,
                                                             "target": None}), image=KINDS["images"])
call("attribution.integrated", lambda w: (attribution.integrated, {"method": w.net, "image": w.images[0], "point": None,
                                                                   "target": None, "steps": 2}),
     image=KINDS["images"], steps=KINDS["steps_"])

# Making, keeping, training

call("create", lambda w: (vitlab.create, {"method": "supervit", "backbone": "micro_patch8", "num_classes": 10, "classes": None,
                                          "image_size": 32, "pretrained": False, "drop_path": 0.0, "grid": None}),
     method=lambda w: WORDS, backbone=lambda w: [*WORDS, "resnet18"], num_classes=lambda w: WHOLE,
     classes=lambda w: [3, "abc", [], {}, THING, ["a"], [None] * 10, [1.5] * 10, True],
     image_size=lambda w: [*WHOLE, 57, (32, 32)], grid=lambda w: WHOLE, drop_path=lambda w: [None, *SHARE])
for cls in ("Dense", "SuperViT", "DVT", "AdaptiveDepth", "ReViT", "SPViT", "SViT", "ToMe"):
    short = "adaptive_depth" if cls == "AdaptiveDepth" else cls.lower()
    call(cls, lambda w, cls=cls: (getattr(vitlab, cls), {"vit": vitlab.backbones.create("micro_patch8", 10)}),
         vit=lambda w: [*nets(w), w.net, w.dvt.vit])
    for knob in list(inspect.signature(getattr(vitlab, cls)).parameters)[1:]:
        call(f"create({short}, {knob})", lambda w, short=short: (
            partial(vitlab.create, short, "micro_patch8", 10), {}),
            **{knob: lambda w, knob=knob: KNOBS[1:] if knob == "latency" else KNOBS})      # 3.5 ms would be measured first
    for knob in [field.name for field in fields(getattr(vitlab, cls).Point)]:
        call(f"{cls}.Point({knob})", lambda w, net=cls: (at_point(w, net), {}), **{knob: lambda w: KNOBS})


def at_point(w, cls):
    """A method at a point of these knobs."""
    found = [net for net in (w.net, w.dvt, w.revit, w.svit, w.spvit, w.tome) if type(net).__name__ == cls]
    net = found[0] if found else vitlab.create("adaptive_depth", "micro_patch8", 10, image_size=32).eval()
    return lambda **knobs: net(w.images[:1], net.Point(**knobs))


call("EarlyExit", lambda w: (vitlab.EarlyExit, {"method": w.net, "stages": w.net.points[:2], "thresholds": (0.5,)}),
     stages=lambda w: [None, *OBJECTS, [3], ["x"], w.net.points[:1]])
call("TLA", lambda w: (vitlab.TLA, {"lengths": 2, "image_size": 32, "architecture": None}),
     lengths=lambda w: [None, 1, *WHOLE], image_size=lambda w: [None, (32, 32), *WHOLE],
     architecture=lambda w: [*OBJECTS, ("nope", 1, 1, 32), (1, 2), ("efficientnet_b0", -1, 1, 32),
                             ("efficientnet_b0", 1, 1, "a")])
call("save", lambda w: (vitlab.save, {"method": w.net, "path": w.folder / "b.safetensors"}))
call("load", lambda w: (vitlab.load, {"path": w.folder / "net.safetensors"}), path=KINDS["file"])
call("push", lambda w: (vitlab.push, {"method": w.net, "to": w.folder / "pushed", "metrics": None, "licence": "mit",
                                       "private": True}),
     to=lambda w: [*PATHS, w.folder / "text.txt", w.folder / "text.txt" / "x", "hf://me/net", "/proc/self/x"],
     metrics=lambda w: [3, "x", [], THING, {"a": THING}], licence=lambda w: ["", None, 3, [], THING], private=KINDS["resume"])
call("pull", lambda w: (vitlab.pull, {"source": vitlab.push(w.net, w.folder / "pushed")}),
     source=lambda w: [*PATHS, w.folder / "inside", w.folder / "text.txt", w.folder / "nope", "hf://me/net", "hf://a b"])
call("official.load", lambda w: (official.load, {"method": "dense", "path": released(w), "backbone": "micro_plain8",
                                                 "classes": None, "image_size": 32, "ema": False, "qk_scale": None}),
     method=lambda w: [*WORDS, "revit"], path=KINDS["file"], backbone=lambda w: [*WORDS, "resnet18"],
     classes=lambda w: [3, "abc", [], {}, THING, ["a"], [None] * 10, True], image_size=lambda w: [*WHOLE, 57, 40],
     ema=KINDS["resume"], qk_scale=lambda w: [value for value in POSITIVE if value is not None])
call("fit", lambda w: (vitlab.fit, {"method": vitlab.create("dense", "micro_patch8", 10, image_size=32), "train": w.set,
                                    "recipe": Recipe(steps=1, batch=4, warmup=0), "val": None, "teacher": None, "out": None,
                                    "resume": True, "replicas": None}),
     train=KINDS["data"], recipe=lambda w: [None, *OBJECTS, {"steps": 1}, Recipe], val=optional("data"),
     teacher=lambda w: [*OBJECTS, nn.Linear(2, 2), w.dense], replicas=lambda w: [*OBJECTS, [3], [[0.5]], True, ((4,), (3,))],
     out=lambda w: [value for value in PATHS if value is not None] + [w.folder / "text.txt", w.folder / "text.txt" / "x"])
for field, bad in {"steps": WHOLE, "batch": [None, *WHOLE], "log_every": WHOLE[:-1], "workers": [*NUMBERS, None, -1, HUGE],
                   "seed": [*NUMBERS, None, -1, 10 ** 30], "lr": [0, *POSITIVE], "lr_backbone": [-1, "a", True, nan, [1]],
                   "weight_decay": POSITIVE, "min_lr": POSITIVE, "mixup": POSITIVE, "cutmix": POSITIVE, "warmup": [None, *SHARE],
                   "label_smoothing": [None, *SHARE], "ema": SHARE, "clip": [0, -1, "a", True, nan, [1]], "precision": WORDS,
                   "betas": [0.9, (0.9,), (1, 2), ("a", "b"), None, (nan, 0.9), THING], "same_draw": [1, "no", None, [], nan],
                   }.items():
    call(f"Recipe({field})", lambda w: (partial(Recipe, **{"steps": 1}), {}),
         **{field: lambda w, bad=bad: bad})
call("Recipe(epochs)", lambda w: (Recipe, {"epochs": 1}), epochs=lambda w: WHOLE)

# Schedules, pictures

call("schedules.Scheduled", lambda w: (schedules.Scheduled, {"vit": vitlab.backbones.create("micro_patch8", 10), "way": "drop",
                                                             "attended": [50] * 4, "fed": [50] * 4}),
     vit=nets, attended=lambda w: [None, *OBJECTS, [50], [50.5] * 4, ["a"] * 4, [True] * 4, [60] * 4],
     fed=lambda w: [None, *OBJECTS, [50], [50.5] * 4, ["a"] * 4, [True] * 4, [60] * 4, [2] * 4], way=lambda w: WORDS)
call("data.load", lambda w: (data.load, {"name": "shapes", "split": "val", "image_size": 32, "augment": None, "fraction": 1.0,
                                         "seed": 0, "image": None, "label": None, "config": None, "classes": None}),
     name=lambda w: [*PATHS, "./nope", w.folder / "inside", w.folder / "text.txt", ()], augment=lambda w: [*OBJECTS, True],
     image_size=lambda w: WHOLE, fraction=lambda w: [None, 0, *SHARE], classes=lambda w: [*OBJECTS, "abc", ["a"]],
     **dict.fromkeys(("image", "label", "config"), lambda w: [3, "nope", [], True]))
call("data.shapes", lambda w: (data.shapes, {"split": "val", "size": 32, "difficulty": 0.0, "n": 4, "seed": 0, "augment": False}),
     difficulty=lambda w: [None, *SHARE], n=lambda w: WHOLE, augment=KINDS["augment_"])
call("data.objects", lambda w: (data.objects, {"split": "val", "size": 32, "n": 4, "seed": 0, "classes": ("square", "ring")}),
     n=lambda w: WHOLE, classes=lambda w: [*OBJECTS, None, "abc", ["a"], ["square", "square"]])
call("data.ImageSet", lambda w: (data.ImageSet, {
    "name": "two", "classes": ["a", "b"], "labels": torch.tensor([0, 1]), "pictures": torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
    "image_size": 8, "augment": None, "columns": None, "masks": None}),
    classes=lambda w: [*OBJECTS, None, ["a"], "ab"], image_size=lambda w: [None, (8, 8), 16, *WHOLE],
    labels=lambda w: [None, *OBJECTS, [0], [0, 1, 0], [0.5, 1.0], [0, 7], [-1, 0], [[0], [1]]],
    pictures=lambda w: [None, *OBJECTS, torch.zeros(2, 8, 8, 3), torch.zeros(1, 8, 8, 3, dtype=torch.uint8),
                        torch.zeros(2, 3, 8, 8, dtype=torch.uint8), np.zeros((2, 8, 8, 3), np.uint8)],
    augment=lambda w: [*OBJECTS, True], columns=lambda w: [3, "x", THING, [1], {"a": [1]}, {"a": 3}],
    masks=lambda w: [*OBJECTS, torch.zeros(1, 8, dtype=torch.uint8), torch.zeros(2, 8, dtype=torch.bool)])
ROWS = [None, "x", 1.5, [1.5], [99], [-99], {}, THING, [[0]], ["a"], [True], nan, torch.tensor([0.5])]
for name, argument in (("take", "rows"), ("images", "indices"), ("picture", "index"), ("mask", "index")):
    call(f"ImageSet.{name}", lambda w, name=name, argument=argument: (getattr(w.set, name), {argument: 0}),
         **{argument: lambda w: ROWS})
call("ImageSet.first", lambda w: (w.set.first, {"n": 1}))
call("ImageSet.sample", lambda w: (w.set.sample, {"n": 1, "seed": 0}))
call("ImageSet.split", lambda w: (w.set.split, {"share": 0.5, "seed": 0}), share=lambda w: [None, 0, 1, *SHARE])
call("ImageSet.subset", lambda w: (w.set.subset, {"fraction": 0.5, "seed": 0}), fraction=lambda w: [None, 0, *SHARE])
call("ImageSet.prepare", lambda w: (w.set.prepare, {"picture": w.picture}))
call("ImageSet.for_net", lambda w: (w.set.for_net, {"net": w.net}))
call("ImageSet.relabelled", lambda w: (w.set.relabelled, {"labels": w.set.labels, "classes": w.set.classes}),
     labels=lambda w: [None, *OBJECTS, [0], [0.5] * 12, [99] * 12], classes=lambda w: [None, *OBJECTS, ["a"]])
call("data.PaddedCrop", lambda w: (data.PaddedCrop, {}), padding=lambda w: ["a", None, 1.5, -1, nan, [1], True],
     hflip=lambda w: SHARE)
call("data.Augment", lambda w: (data.Augment, {}), scale=lambda w: [3, None, (0,), (1, 0.5), ("a", "b"), (0, 2), (nan, 1)],
     hflip=lambda w: [None, *SHARE], re_prob=lambda w: [None, *SHARE], color_jitter=lambda w: [-1, "a", True, nan, [1]],
     auto_augment=lambda w: ["nope", 3, [], True], interpolation=lambda w: WORDS)

# Exits and lengths

call("cascade.check", lambda w: (cascade.check, {"thresholds": (0.5, 1), "exits": 3}),
     exits=lambda w: [None, *WHOLE])
call("cascade.stop_at", lambda w: (cascade.stop_at, {"stage": 0, "exits": 3}), exits=lambda w: [None, *WHOLE],
     stage=lambda w: [None, 3, -1, *NUMBERS])
call("budget.Exits", lambda w: (budget.Exits, {"score": w.exits.score, "correct": w.exits.correct, "cost": w.exits.cost}),
     score=lambda w: [None, *OBJECTS, np.zeros(3), np.full_like(w.exits.score, nan)],
     correct=lambda w: [None, *OBJECTS, np.zeros(3)], cost=lambda w: [None, *OBJECTS, np.zeros(3), np.array([2.0, 1.0])])
call("budget.simulate", lambda w: (budget.simulate, {"exits": w.exits, "thresholds": (0.5,)}),
     thresholds=lambda w: [None, *KINDS["thresholds"](w)])
call("budget.solve", lambda w: (budget.solve, {"exits": w.exits, "budget": w.dearest, "how": "geometric", "seed": 0}))
call("budget.curve", lambda w: (budget.curve, {"exits": w.exits, "budgets": [w.dearest], "how": "geometric", "seed": 0}),
     budgets=lambda w: ["a", None, 3, [nan], [-1], ["a"], THING])
for name in ("geometric", "exhaustive", "genetic"):
    call(f"budget.{name}", lambda w, name=name: (getattr(budget, name), {"exits": w.exits, "budget": w.dearest}))
call("budget.random_like", lambda w: (budget.random_like, {"exits": w.exits, "outcome": budget.simulate(w.exits, (0.5,)),
                                                           "seed": 0}), outcome=lambda w: [None, *OBJECTS])
call("lengths.length_table", lambda w: (lengths.length_table, {"method": w.revit, "data": w.set, "batch": 50}),
     method=lambda w: [*nets(w), w.net])
call("lengths.logits_of", lambda w: (lengths.logits_of, {"assigner": w.tla, "data": w.set, "batch": 50}), assigner=nets)
call("lengths.fixed", lambda w: (lengths.fixed, {"table": w.table, "length": 3}), length=lambda w: [None, 9, *WHOLE])
call("lengths.oracle", lambda w: (lengths.oracle, {"table": w.table, "unsolved": "smallest"}))
call("lengths.confidence", lambda w: (lengths.confidence, {"table": w.table, "thresholds": 0.5}))
call("lengths.learned", lambda w: (lengths.learned, {"table": w.table, "logits": torch.zeros(12, 2), "cost_weight": 0.0,
                                                     "gmacs": 0.0}),
     logits=lambda w: [None, *OBJECTS, torch.zeros(3), torch.full((12, 2), nan), np.zeros((12, 2))],
     cost_weight=lambda w: POSITIVE, gmacs=lambda w: POSITIVE)
call("lengths.random", lambda w: (lengths.random, {"table": w.table, "like": w.choice, "seed": 0}), like=KINDS["table"])
call("lengths.compare", lambda w: (lengths.compare, {"table": w.table, "choices": {"a": w.choice}}),
     choices=lambda w: [None, *OBJECTS, {"a": 3}, {"a": None}])
call("lengths.histogram", lambda w: (lengths.histogram, {"labels": torch.tensor([0, 1]), "lengths": (3, 4)}),
     labels=lambda w: [None, *OBJECTS, [0.5], torch.tensor([9]), torch.tensor([0.5])], lengths=lambda w: [None, *OBJECTS, [0.5]])
call("lengths.labels_of", lambda w: (lengths.labels_of, {"correct": w.table.correct, "rule": "suffix", "unsolved": "largest"}),
     correct=lambda w: [None, *OBJECTS, torch.zeros(3), torch.zeros(3, 2)])
call("lengths.splits", lambda w: (lengths.splits, {"n": 12, "label_split": "crossfit", "share": 0.2, "folds": 2, "seed": 0}),
     share=lambda w: [None, 0, 1, *SHARE], folds=lambda w: [None, 1, 99, *WHOLE])
call("lengths.make_labels", lambda w: (lengths.make_labels, {"data": w.set, "trained": lambda d: w.revit}),
     trained=lambda w: [None, *OBJECTS, lambda d: 3, w.revit])
call("lengths.train_assigner", lambda w: (lengths.train_assigner, {
    "labelled": w.set.relabelled(w.set.labels % 2, ["3x3", "4x4"]), "recipe": Recipe(steps=1, batch=4, warmup=0),
    "architecture": None, "val": None}),
    labelled=KINDS["data"], recipe=lambda w: [None, *OBJECTS, Recipe], val=optional("data"),
    architecture=lambda w: [*OBJECTS, ("nope", 1, 1, 32), (1, 2)])

# Figures, files for small devices, the panel

for name in ("kept", "attention_map", "package", "returns", "merged"):
    more = {} if name == "package" else {"layers": None}
    call(f"plots.{name}", lambda w, name=name, more=more: (getattr(plots, name), {
        "picture": w.picture, "row": 0, **more,
        "trace": {"returns": w.gated, "package": w.packed, "merged": w.joined}.get(name, w.trace)}))
call("plots.usage", lambda w: (plots.usage, {"pictures": [w.picture], "trace": w.gated, "rows": None}),
     pictures=lambda w: [None, *OBJECTS, [3], [None]], rows=lambda w: SPOTS)
call("plots.attribution", lambda w: (plots.attribution, {"picture": w.picture, "heat": np.ones((4, 4))}),
     heat=lambda w: [None, *OBJECTS, np.ones(3), np.ones((2, 2, 2)), np.full((4, 4), nan), np.ones((0, 0))])
call("plots.heat", lambda w: (plots.heat, {"picture": w.picture, "maps": {"a": np.ones((4, 4))}}),
     maps=lambda w: [None, *OBJECTS, {"a": 3}, {"a": None}, {"a": np.ones(3)}, {"a": np.full((4, 4), nan)}, {"a": "x"}])
call("plots.heads", lambda w: (plots.heads, {"picture": w.picture, "scores": np.ones((3, 4, 4))}),
     scores=lambda w: [None, *OBJECTS, np.ones(3), np.full((3, 4, 4), nan), np.ones((0, 16))])
call("plots.gallery", lambda w: (plots.gallery, {"rows": {"a": [(w.picture, "x")]}, "columns": 8}), columns=KINDS["columns_"],
     rows=lambda w: [None, *OBJECTS, {"a": 3}, {"a": [w.picture]}, {"a": [("x", "y")]}, {"a": [(w.picture,)]}, {"a": [None]}])
call("plots.boxes", lambda w: (plots.boxes, {"pictures": [w.picture], "classes": ["a"], "threshold": 0.5, "found": {
    "a": [{"boxes": np.array([[1.0, 1, 2, 2]]), "labels": np.array([1])}]}}),
    pictures=lambda w: [None, *OBJECTS, [3], [None]], classes=lambda w: [None, *OBJECTS],
    threshold=lambda w: ["a", None, nan, [1], True, -1, 2],
    found=lambda w: [None, *OBJECTS, {"a": 3}, {"a": [3]}, {"a": [{}]}, {"a": []},
                     {"a": [{"boxes": np.zeros(3), "labels": np.array([1])}]},
                     {"a": [{"boxes": np.array([[1.0, 1, 2, 2]]), "labels": np.array([7])}]}])
for name in ("by_batch", "by_group", "exits", "fates", "speed", "tokens_by_layer", "tradeoff"):
    call(f"plots.{name}", lambda w, name=name: (getattr(plots, name), {"data": w.frame}), data=frames)
call("plots.depth", lambda w: (plots.depth, {"data": measure.depth(w.net, w.images[0]), "classes": None, "most": 4}),
     data=frames, most=lambda w: WHOLE, classes=lambda w: [3, THING, [], {}, ["a"]])
call("plots.kept_by", lambda w: (plots.kept_by, {"picture": w.picture, "traces": {"a": w.trace}, "row": 0}),
     traces=lambda w: [None, *OBJECTS, {}, {"a": 3}, {"a": vitlab.Trace()}, w.trace])
call("plots.claims", lambda w: (plots.claims, {"data": pd.DataFrame({"paper": ["A"], "verdict": ["holds"]})}), data=frames)
call("plots.schedules", lambda w: (plots.schedules, {"data": w.frame}), data=frames)
call("plots.held", lambda w: (plots.held, {"data": w.frame}), data=frames)
call("plots.pays", lambda w: (plots.pays, {"data": w.frame}), data=frames)
call("plots.pays(marks)", lambda w: (partial(plots.pays, measure.pays(w.net, (10, 5), (1,), rounds=1)), {"marks": None}),
     marks=lambda w: [value for value in OBJECTS if value != {}] + [{"a": None}, {1: 3}, {"": 3}, [3]])
call("plots.training", lambda w: (plots.training, {"history": w.frame}), history=frames)
call("plots.tradeoff of columns", lambda w: (partial(plots.tradeoff, w.frame), {"x": "gmacs", "y": "top1", "color": "method"}),
     line=lambda w: [3, [], {}, THING], marker=lambda w: [3, [], {}, THING], here=lambda w: [*OBJECTS[:3], {"nope": 1}, THING])
call("plots.by_group of columns", lambda w: (partial(plots.by_group, w.frame), {"x": "point", "y": "top1", "color": "method"}))
call("plots.speed of columns", lambda w: (partial(plots.speed, w.frame), {"color": "method"}),
     marker=lambda w: [3, [], {}, THING])
call("plots.save", lambda w: (plots.save, {"figure": w.figure, "name": "one.html", "folder": w.folder}),
     figure=lambda w: [None, *OBJECTS], name=lambda w: [*OBJECTS[:1], None, "", [], {}, THING, ".", "..", "a.gif", True],
     folder=lambda w: [*PATHS, w.folder / "text.txt"])
call("report", lambda w: (vitlab.report, {"table": w.frame, "path": w.folder / "report.html", "title": "Points",
                                          "figures": None}),
     table=lambda w: [*frames(w), w.frame[:0], w.frame[["gmacs"]]], title=lambda w: [None, "", " ", 3, [], {}, THING, True],
     figures=lambda w: [value for value in OBJECTS if value != {}] + [[w.figure], w.figure, {"a": 3}, {"a": None}, {3: w.figure}])
call("edge.export", lambda w: (edge.export, {"method": w.net, "path": w.folder / "whole.onnx", "point": None}))
call("edge.export of a program", lambda w: (edge.export, {"method": w.dense, "path": w.folder / "whole.pt2", "point": None}))
call("edge.Session", lambda w: (edge.Session, {"path": exported(w), "threads": 1}), path=KINDS["file"],
     threads=lambda w: WHOLE)
call("edge.quantise", lambda w: (edge.quantise, {"source": exported(w), "path": w.folder / "int8.onnx"}), source=KINDS["file"])
call("explore", lambda w: (vitlab.explore, {"methods": w.net, "images": w.set, "sweep": None, "device": "cpu",
                                            "precision": "fp32", "compiled": False, "batch": 4, "name": None}),
     compiled=KINDS["resume"], images=KINDS["data"], name=lambda w: [3, [], {}, True],
     sweep=lambda w: [*OBJECTS, pd.DataFrame(), pd.DataFrame({"a": [1]})])
call("govern", lambda w: (vitlab.govern, {"method": w.net, "data": w.set, "batch": 4, "name": None, "table": pd.DataFrame(
    {"point": [str(w.net.points[0])], "top1": [50.0], "images_per_s": [10.0]})}),
     table=lambda w: [*OBJECTS, pd.DataFrame({"a": [1]}), pd.DataFrame({"point": ["x"], "top1": [1.0], "images_per_s": [1.0]})],
     name=lambda w: [3, [], {}, True])


def exported(w):
    """A file for ONNX Runtime, written once."""
    path = w.folder / "whole.onnx"
    return path if path.exists() else edge.export(w.net, path)


def released(w):
    """A state dict as others write it: of a plain net, whose names are timm's."""
    path = w.folder / "released.pth"
    if not path.exists():
        torch.save({"model": vitlab.backbones.create("micro_plain8", 10, 32).state_dict()}, path)
    return path


# What is taken although it stands in a list of bad values: (call, argument, how it reads) -> why

FLAG, NUMBER, ROWLESS = "a yes or no", "a weight or temperature of any size", "no rows are none, as None is"
ALLOWED = {
    **{(f"create({name}, {knob})", knob, "True"): FLAG for name, knobs in {
        "supervit": ("count_cls", "resample", "share_prefix"), "revit": ("head_per_length",),
        "spvit": ("merge", "branch", "shared"), "tome": ("decreasing", "proportional"),
        "dvt": ("features", "relations", "reuse_cls", "feature_norm", "detach", "zero_relations")}.items() for knob in knobs},
    **{(f"{cls}.Point(fixed)", "fixed", "True"): FLAG for cls in ("SPViT", "SViT")},
    **{(f"create({name}, {knob})", knob, "3.5"): NUMBER for name, knobs in {
        "revit": ("tau", "w_feat", "w_attn"), "spvit": ("lambda_kl", "lambda_distill", "lambda_ratio"),
        "svit": ("lambda_ratio",)}.items() for knob in knobs},
    **{(f"create({name}, {knob})", knob, "[]"): ROWLESS for name, knob in (
        ("dvt", "thresholds"), ("spvit", "factors"), ("svit", "thresholds"))},
    ("create(supervit, lengths)", "lengths", "(99,)"): "finer than the backbone's own patches: the picture is enlarged",
    ("exit()", "point", "Point(threshold=0.7)"): "its own",
    ("EarlyExit", "thresholds", repr((0.5,) * 9)): "each number is a point",
    ("ImageSet.first", "n", repr(HUGE)): "all there are",
    ("ImageSet.sample", "n", repr(HUGE)): "all there are",
    ("plots.gallery", "columns", repr(HUGE)): "as many as there are pictures",
    ("predict", "top", repr(HUGE)): "as many as there are classes",
}
