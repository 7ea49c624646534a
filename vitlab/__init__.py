"""vitlab: learn, train, measure and compare dynamic vision transformers.

Letters used throughout: B images · P prefix tokens (class, distillation) · N patches · T = P + N tokens · H heads ·
d head width · D model width · L blocks · K classes.

Importing vitlab is cheap: every name below is loaded when it is first used.
"""
from importlib import import_module

__version__ = "0.1.0"

HOME = {
    "create": "vitlab.methods", "load": "vitlab.methods", "METHODS": "vitlab.methods",
    "SuperViT": "vitlab.methods.supervit", "EarlyExit": "vitlab.methods.early_exit", "Dense": "vitlab.method",
    "DVT": "vitlab.methods.dvt", "AdaptiveDepth": "vitlab.methods.adaptive_depth", "ReViT": "vitlab.methods.revit",
    "TLA": "vitlab.methods.revit.assigner", "SPViT": "vitlab.methods.spvit", "SViT": "vitlab.methods.svit",
    "Trace": "vitlab.trace", "Recipe": "vitlab.recipe", "fit": "vitlab.train", "save": "vitlab.checkpoint",
    "gmacs": "vitlab.measure", "throughput": "vitlab.measure", "answers": "vitlab.measure", "sweep": "vitlab.measure",
    "latency": "vitlab.measure", "export": "vitlab.edge", "Governor": "vitlab.governor",
    "predict": "vitlab.serving", "push": "vitlab.sharing", "pull": "vitlab.sharing",
    "explore": "vitlab.widgets",
}
ROOMS = {name: f"vitlab.{name}" for name in ("attribution", "backbones", "block", "cascade", "data", "edge", "measure",
                                             "methods", "official", "plots", "schedules", "tokens")}
ROOMS |= {"budget": "vitlab.cascade.budget", "lengths": "vitlab.methods.revit.lengths"}
__all__ = sorted([*HOME, *ROOMS])


def __getattr__(name: str):
    if name in HOME:
        return getattr(import_module(HOME[name]), name)
    if name in ROOMS:
        return import_module(ROOMS[name])
    raise AttributeError(f"vitlab has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
