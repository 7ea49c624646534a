"""How much of the final answer a block's tokens hold already (Fig. 4): linear CKA with the final class token.

Centred kernel alignment is Kornblith et al.'s (ICML 2019): for features X [n, D] and Y [n, D'] of the same n pictures, centred,
CKA = |Yᵀ X|² / (|Xᵀ X| |Yᵀ Y|) with Frobenius norms. It is 1 where the two are alike up to rotation and scale.
The paper does not say how the tokens of a block are put together; here each patch is compared by itself, over the pictures, and
the mean is told. With few pictures CKA is too high for any features, so compare blocks on the same ones, several times D.
"""
from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from vitlab.backbones import check_backbone, check_images, embed, grid, image_size, pool, stages
from vitlab.data.imageset import image_set
from vitlab.evaluation import beside, in_evaluation
from vitlab.method import Dense

ROUNDING = 1e-12                                        # of the squares of float32 features


@in_evaluation
@torch.inference_mode()
def by_layer(dense: Dense, data, *, batch: int = 100) -> pd.DataFrame:
    """A row per block of a dense net: layer (from 1) and cka, of its patches with the class token behind the last norm.

    data: an ImageSet of some hundred pictures; their tokens of all blocks are held in memory, n·N·D floats a block.
    ValueError for fewer than three pictures, or for features that are the same of all.
    """
    check_backbone(dense.vit, staged=True)                                 # a class token to compare with
    data = image_set(data).for_net(dense)
    if len(data) < 3:
        raise ValueError(f"CKA compares how pictures differ, and {data.name} holds {len(data)}; give some hundreds")
    parts = []
    for start in range(0, len(data), batch):
        images = beside(dense, data.images(slice(start, start + batch)))
        parts.append([x.cpu() for x in tokens(dense, images)])
    *blocks, last = (torch.cat(part).transpose(0, 1) for part in zip(*parts, strict=True))     # [N, n, D] each
    return pd.DataFrame([{"layer": layer, "cka": cka(x, last).mean().item()} for layer, x in enumerate(blocks, 1)])


def tokens(dense: Dense, images: Tensor) -> Iterator[Tensor]:
    """The patches after each block [B, N, D], as timm runs it, and at last the normed class token [B, 1, D]."""
    vit = dense.vit
    check_images(images, image_size(vit), vit.cls_token)
    x, side = embed(vit, images), grid(vit)
    extra = x.shape[1] - side ** 2
    for stage in stages(vit):
        x, side = pool(stage, x, side, extra), stage.side
        for block in stage.blocks.values():
            x = block(x)
            yield x[:, extra:]
    yield vit.norm(x)[:, :1]


def cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA of features [..., n, D] and [..., n, D'] of n pictures: [...], float64, in [0, 1].

    ValueError where features are the same of all pictures.
    """
    x, y = centred(x.double()), centred(y.double())
    between, own, other = ((a.mT @ b).square().sum((-2, -1)) for a, b in ((y, x), (x, x), (y, y)))
    return between / (own * other).sqrt()


def centred(x: Tensor) -> Tensor:
    """Features [..., n, D] without their mean over the pictures; ValueError where nothing but rounding is left."""
    rest = x - x.mean(-2, keepdim=True)
    if (rest.square().sum((-2, -1)) <= ROUNDING * x.square().sum((-2, -1))).any():
        raise ValueError("CKA compares how features differ between pictures, and some are the same of all; give other pictures")
    return rest
