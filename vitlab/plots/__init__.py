"""Figures: a tidy frame or a trace goes in, a plotly figure comes out. Nothing here runs a model or measures anything.

Backgrounds are transparent and text is mid-grey, so that one figure reads on a white and on a dark page.
"""
from vitlab.plots.curves import exits, speed, tokens_by_layer, tradeoff, training
from vitlab.plots.depth import depth
from vitlab.plots.device import held, pays, schedules
from vitlab.plots.files import save
from vitlab.plots.groups import by_group, gallery, kept_by
from vitlab.plots.objects import boxes, usage
from vitlab.plots.pictures import attention_map, attribution, heads, heat, kept, merged, package, returns
from vitlab.plots.studies import by_batch, claims, fates
from vitlab.plots.theme import color_of

__all__ = ["attention_map", "attribution", "boxes", "by_batch", "by_group", "claims", "color_of", "depth", "exits", "fates",
           "gallery", "heads", "heat", "held", "kept", "kept_by", "merged", "package", "pays", "returns", "save", "schedules",
           "speed", "tokens_by_layer", "tradeoff", "training", "usage"]
