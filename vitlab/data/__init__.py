"""Pictures: the made-up `shapes`, any Hugging Face or local set by `load`, and the `ImageSet` both return."""

from vitlab.data.augment import Augment
from vitlab.data.hub import load
from vitlab.data.imageset import ImageSet
from vitlab.data.scenes import shapes

__all__ = ["Augment", "ImageSet", "load", "shapes"]
