"""SViT's dense side: objects found and cut out by a net that leaves tokens out (`Detector`), trained and judged.

`pyramid` makes maps of four sizes and torchvision's heads, `fit` trains, `precision` scores as COCO does (with the extra
`dense`), `pace` measures seconds, of the backbone and of the whole.
"""
from vitlab.methods.svit.detection.detector import Detector, load
from vitlab.methods.svit.detection.fit import DENSE_RECIPE, RECIPE, train
from vitlab.methods.svit.detection.pace import pace
from vitlab.methods.svit.detection.precision import average_precision, detections, precision

__all__ = ["DENSE_RECIPE", "RECIPE", "Detector", "average_precision", "detections", "load", "pace", "precision", "train"]
