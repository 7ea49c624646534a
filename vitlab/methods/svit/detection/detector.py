"""Objects found and cut out by a backbone that leaves tokens out: torchvision's Mask R-CNN on the patches of an SViT or Dense.

What SViT is for: a token left out of a block keeps its place, so the feature map stays whole for the heads.
Departures from the paper's detector, so that directions alone compare with its numbers:
  * a pyramid of the last map (ViTDet, Li et al., 2022) stands in for ViT-Adapter, which reads a map after every third block;
  * the class token, which the official dense net does without, stays in the backbone, takes part in every block but where the
    last gate asks it too, and is no part of the map;
  * made pictures stand in for COCO, and whatever the backbone has learnt before for DeiT's weights of ImageNet.
"""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from vitlab import checkpoint
from vitlab.backbones import check_backbone, grid, image_size, prefix_tokens
from vitlab.evaluation import evaluating
from vitlab.method import Dense
from vitlab.methods import again
from vitlab.methods.svit.detection.pyramid import DEEPEST, mask_rcnn
from vitlab.methods.svit.svit import SViT
from vitlab.numbers import whole
from vitlab.trace import Trace


class Detector(nn.Module):
    """Mask R-CNN over an SViT, or over the Dense net it is compared with.

    net: made by `vitlab.create`; it is taken over, and loses its classifier.  classes: names of what is to be found.
    channels: of the pyramid and of the heads. Raises ValueError for a net whose patches make no pyramid.
    """

    def __init__(self, net: Dense | SViT, classes: Sequence[str], channels: int = 48):
        super().__init__()
        if not isinstance(net, Dense | SViT) or not hasattr(net, "made"):
            raise ValueError(f'a detector stands on a "dense" or "svit" made by vitlab.create, not on a {type(net).__name__}')
        check_backbone(net.vit)                                            # a PiT has no one grid
        if grid(net.vit) % DEEPEST:
            raise ValueError(f"a pyramid halves the patches of a side twice, but {grid(net.vit)} is no multiple of {DEEPEST}; "
                             "choose another image_size or grid")
        if isinstance(classes, str) or len(classes) == 0:
            raise ValueError(f"classes are the names of what is to be found, such as those of a DetectionSet, not {classes!r}")
        self.net, self.classes, self.channels = net, [str(name) for name in classes], whole(channels, "channels")
        self.started = False                                               # from another detector's weights
        net.vit.reset_classifier(0)
        self.rcnn = mask_rcnn(net.vit.embed_dim, image_size(net.vit), len(self.classes), self.channels)

    @property
    def made(self) -> dict:
        """How it was made, for checkpoints and for what prepares its pictures."""
        return self.net.made | {"classes": self.classes, "num_classes": len(self.classes)}

    @property
    def adaptive(self) -> bool | str:
        """As its backbone."""
        return self.net.adaptive

    def forward(self, images: Tensor, point: Any = None, trace: Trace | None = None) -> list[dict[str, Tensor]]:
        """What is found in each of normalised images [B, 3, S, S], the surest first; tokens left out are really not computed.

        boxes [n, 4] (left, top, right, bottom), labels [n] from 1, scores [n], masks [n, 1, S, S] from 0 to 1.
        """
        with evaluating(self):
            if isinstance(self.net, SViT):
                x, alive = self.net.features(images, point, trace)
                maps = self.maps(x, self.net.readable(alive))
            else:
                self.net.check(point)
                maps = self.maps(self.net.features(images, trace))
            listed = listed_images(images)
            proposals, _ = self.rcnn.rpn(listed, maps)
            found, _ = self.rcnn.roi_heads(maps, proposals, listed.image_sizes)
        return self.rcnn.transform.postprocess(found, listed.image_sizes, listed.image_sizes)

    def losses(self, images: Tensor, targets: Sequence[dict[str, Tensor]],
               teacher: nn.Module | None = None) -> Iterator[dict[str, Tensor]]:
        """torchvision's five, of region proposals, boxes and masks, and of an SViT how far its shares are from what was asked.

        Gates are drawn and all tokens computed, as in `SViT.masked`. ValueError in evaluation mode, where heads have no losses.
        """
        if not self.training:
            raise ValueError("a detector has losses in training mode alone; call train() on it first")
        if isinstance(self.net, SViT):
            said = self.net.masked(images)
            maps, terms = self.maps(said.tokens, said.there), self.net.ratio(said.drawn)
        else:
            maps, terms = self.maps(self.net.features(images)), {}
        listed = listed_images(images)
        proposals, first = self.rcnn.rpn(listed, maps, targets)
        _, second = self.rcnn.roi_heads(maps, proposals, listed.image_sizes, targets)
        yield {**first, **second, **terms}

    def maps(self, x: Tensor, there: Tensor | None = None) -> dict[str, Tensor]:
        """The pyramid over tokens [B, P + N, D]; where they are not `there`, [B, P + N], the map is zero."""
        vit, side = self.net.vit, grid(self.net.vit)
        x = vit.norm(x) if there is None else vit.norm(x) * there[..., None]
        return self.rcnn.backbone(x[:, prefix_tokens(vit):].mT.unflatten(2, (side, side)))

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that are not decayed."""
        return {"net.vit.pos_embed", "net.vit.cls_token"}

    def is_backbone(self, name: str) -> bool:
        """Does a parameter learn at a recipe's `lr_backbone`? Those of the ViT do and, after `init_from`, those of the heads."""
        return "vit" in name.split(".") or self.started and name.startswith("rcnn.")

    def init_from(self, other: "Detector") -> None:
        """Start from the weights of another detector, as the paper does from the dense one; gates stay as they are.

        ValueError where they do not fit.
        """
        if (other.classes, other.channels) != (self.classes, self.channels):
            raise ValueError(f"this detector finds {', '.join(self.classes)} with {self.channels} channels, the one given "
                             f"{', '.join(other.classes)} with {other.channels}; make both alike")
        if wrong := checkpoint.misfits(checkpoint.layout(self.net.vit), checkpoint.layout(other.net.vit)):
            raise ValueError(f"{len(wrong)} tensors of these two backbones differ, the first is {wrong[0]}; make both of one "
                             "name and image size")
        self.net.vit.load_state_dict(other.net.vit.state_dict())
        self.rcnn.load_state_dict(other.rcnn.state_dict())
        self.started = True

    def save(self, path: str | Path, **facts) -> None:
        """Weights, how it was made and further facts, as one safetensors file, whole or not at all; `load` reads it."""
        told = {"net": self.net.made, "classes": self.classes, "channels": self.channels}
        checkpoint.write(path, checkpoint.weights(self), {"detector": told, **checkpoint.origin(), **facts})


def load(path: str | Path) -> Detector:
    """The detector of a file that `Detector.save` wrote, in evaluation mode; its facts are in `.facts`.

    Raises FileNotFoundError or ValueError, in one sentence, for a file that is missing, damaged or of something else.
    """
    facts, tensors = checkpoint.contents(path)
    if "detector" not in facts:
        raise ValueError(f"{path} holds no detector; open a net with vitlab.load")
    told = facts["detector"]
    detector = Detector(again(told["net"]), told["classes"], told["channels"])
    checkpoint.fill(detector, tensors, path)
    detector.facts = facts
    return detector.eval()


def listed_images(images: Tensor) -> ImageList:
    """Images [B, 3, S, S] as torchvision's heads want to be told of them."""
    return ImageList(images, [tuple(images.shape[2:])] * len(images))
