"""Published token schedules run on any ViT: how fast they are here, whatever they were trained with.

Speed depends on how many tokens are where, and on the operation that removes them, not on the weights. So the accuracy that a
paper prints can be set against the speed on this device without its weights, its data or its code.
"""
from vitlab.merging import merged
from vitlab.schedules.operations import best, fused, predicted
from vitlab.schedules.published import OPERATIONS, published, schedule
from vitlab.schedules.scheduled import Scheduled

__all__ = ["OPERATIONS", "Scheduled", "best", "fused", "merged", "predicted", "published", "schedule"]
