"""vitlab: learn, train, measure and compare dynamic vision transformers.

  pictures   data.load, data.shapes
  nets       create, METHODS: Dense, SuperViT, DVT, AdaptiveDepth, ReViT and its TLA, SPViT, SViT, ToMe; EarlyExit; Forced
  training   Recipe, fit, save, load; push, pull
  running    net(images, net.Point(...), Trace()); predict, Compiled, Governor, export, edge.Session
  measuring  answers, sweep, gmacs, throughput, latency, measure; budget, lengths, schedules
  looking    explore, govern, plots, attribution; report
  inside     backbones, official, block, tokens, cascade, methods

help(vitlab.create) and the like say more. Letters: B images · P prefix tokens (class, distillation) · N patches · T = P + N
tokens · H heads · d head width · D model width · L blocks · K classes. A name is loaded when it is first used.
"""
from importlib import import_module

__version__ = "0.1.0"

HOME = {
    "create": "vitlab.methods", "load": "vitlab.methods", "METHODS": "vitlab.methods",
    "SuperViT": "vitlab.methods.supervit", "EarlyExit": "vitlab.methods.early_exit", "Dense": "vitlab.method",
    "DVT": "vitlab.methods.dvt", "AdaptiveDepth": "vitlab.methods.adaptive_depth", "ReViT": "vitlab.methods.revit",
    "TLA": "vitlab.methods.revit.assigner", "SPViT": "vitlab.methods.spvit", "SViT": "vitlab.methods.svit",
    "ToMe": "vitlab.methods.tome", "Forced": "vitlab.forced",
    "Trace": "vitlab.trace", "Recipe": "vitlab.recipe", "fit": "vitlab.train", "save": "vitlab.checkpoint",
    "gmacs": "vitlab.measure", "throughput": "vitlab.measure", "answers": "vitlab.measure", "sweep": "vitlab.measure",
    "latency": "vitlab.measure", "export": "vitlab.edge", "Governor": "vitlab.governor", "Compiled": "vitlab.compiled",
    "predict": "vitlab.serving", "report": "vitlab.reporting", "push": "vitlab.sharing", "pull": "vitlab.sharing",
    "explore": "vitlab.widgets", "govern": "vitlab.widgets",
}
ROOMS = {name: f"vitlab.{name}" for name in ("attribution", "backbones", "block", "cascade", "data", "edge", "measure",
                                             "methods", "official", "plots", "schedules", "tokens")}
ROOMS |= {"budget": "vitlab.cascade.budget", "lengths": "vitlab.methods.revit.lengths"}
PUBLIC = sorted([*HOME, *ROOMS])            # no __all__: with one, help(vitlab) prints the help of everything, 10,000 lines


def __getattr__(name: str):
    if name in HOME:
        return getattr(import_module(HOME[name]), name)
    if name in ROOMS:
        return import_module(ROOMS[name])
    raise AttributeError(f"vitlab has no {name!r}; it has {', '.join(PUBLIC)}")


def __dir__() -> list[str]:
    return PUBLIC
