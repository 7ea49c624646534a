"""Pictures: the made-up `shapes`, any Hugging Face or local set by `load`, and the `ImageSet` both return; for detectors the
made-up `objects`, a `DetectionSet`.
"""

from vitlab.data.augment import Augment
from vitlab.data.crowds import objects
from vitlab.data.detection import DetectionSet
from vitlab.data.hub import load
from vitlab.data.imageset import ImageSet
from vitlab.data.padded_crop import PaddedCrop
from vitlab.data.scenes import shapes

__all__ = ["Augment", "DetectionSet", "ImageSet", "PaddedCrop", "load", "objects", "shapes"]
