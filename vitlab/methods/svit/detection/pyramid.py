"""From a map of tokens to torchvision's Mask R-CNN: a pyramid of maps, and heads small enough for a small net."""
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

LEVELS = ("0", "1", "2", "3")           # twice as many cells a side as there are patches, as many, a half, a quarter
DEEPEST = 4                             # patches a side of a cell of the last
ANCHORS = (1 / 8, 1 / 4, 1 / 2, 1)      # of the side of a picture, one for each level
RATIOS = (0.5, 1.0, 2.0)
CELLS = 7                               # a side, of what the box head sees of a box; the mask head sees twice as many
HIDDEN = 256                            # of the box head
LIMITS = {                              # torchvision's are for 800 pixels and crowds of small things
    "rpn_pre_nms_top_n_train": 256, "rpn_pre_nms_top_n_test": 128, "rpn_post_nms_top_n_train": 128, "rpn_post_nms_top_n_test": 64,
    "rpn_batch_size_per_image": 64, "box_batch_size_per_image": 32, "box_detections_per_img": 20,
}


class Pyramid(nn.Module):
    """Maps of four sizes from one [B, D, g, g], as ViTDet makes them: {"0": [B, C, 2g, 2g], ..., "3": [B, C, g/4, g/4]}."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.out_channels = channels                                       # torchvision asks
        self.up = nn.ConvTranspose2d(width, width // 2, 2, 2)
        self.levels = nn.ModuleList(level(width // 2 if n == 0 else width, channels) for n in range(len(LEVELS)))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        sizes = self.up(x), x, F.max_pool2d(x, 2), F.max_pool2d(x, DEEPEST)
        return {name: level(part) for name, level, part in zip(LEVELS, self.levels, sizes, strict=True)}


def level(width: int, channels: int) -> nn.Sequential:
    """To the pyramid's width by a 1x1 convolution, then a look around by a 3x3 one; each has a LayerNorm."""
    return nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), LayerNorm2d(channels),
                         nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels))


def mask_rcnn(width: int, side: int, classes: int, channels: int) -> MaskRCNN:
    """torchvision's Mask R-CNN on a pyramid over a map of `width`, for pictures of `side` pixels that are normalised already.

    classes: without the background.
    """
    sizes = tuple((round(side * part),) for part in ANCHORS)

    def look(cells: int) -> MultiScaleRoIAlign:
        return MultiScaleRoIAlign(LEVELS, cells, sampling_ratio=2 * CELLS // cells, canonical_scale=16 * CELLS)

    return MaskRCNN(
        Pyramid(width, channels), min_size=side, max_size=side, image_mean=[0.0] * 3, image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(sizes, (RATIOS,) * len(sizes)),
        box_roi_pool=look(CELLS), box_head=TwoMLPHead(channels * CELLS ** 2, HIDDEN),
        box_predictor=FastRCNNPredictor(HIDDEN, classes + 1),
        mask_roi_pool=look(2 * CELLS), mask_head=MaskRCNNHeads(channels, (channels,) * 2, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes + 1), **LIMITS)
