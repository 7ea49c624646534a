"""Backbones: ordinary timm VisionTransformers by short names, and the two ends of their forward pass.

`deit_tiny`, `deit_small`, `deit_base` are timm's own, weights unchanged; any other timm VisionTransformer goes by its timm name.
`t2t_vit_7` to `t2t_vit_24` are T2T-ViT: its own stem before timm's blocks. `lvvit_tiny`, `lvvit_small` and `lvvit_medium` are
LV-ViT: a stem of convolutions, and a second head. `micro_patch8` and `micro_patch4` are the small default nets for 56-pixel
pictures, `micro_plain8` has linear patches instead of their stem. Each can be made for another patch grid
(`create(..., grid=10)`). With `_gap` behind their names (global average pooling) DeiT-T, DeiT-S and the micro nets have no
class token and answer from the mean of their patches; with `_distilled` DeiT has a register where its authors have a
distillation token (see `vitlab.official`). `pit_tiny`, `pit_xsmall` and `pit_small` are timm's PiT, whose grid shrinks from
stage to stage: for methods that run a net by its `stages`.
"""
from vitlab.backbones.check import check_backbone, check_stem
from vitlab.backbones.ends import (
    blocks,
    check_images,
    embed,
    grid,
    head,
    image_size,
    pooled,
    prefix_tokens,
    preprocessing,
    resample_positions,
    stages,
    tokens,
)
from vitlab.backbones.lvvit import LVViT
from vitlab.backbones.make import NAMES, TIMM_NAMES, create, sibling
from vitlab.backbones.narrow import importance, narrow
from vitlab.backbones.pit import Stage, pool, pool_apart, pool_macs
from vitlab.backbones.reading import by_the_book, counting, read_after
from vitlab.backbones.start import carry, regridded, start_from

__all__ = ["NAMES", "TIMM_NAMES", "LVViT", "Stage", "by_the_book", "blocks", "carry", "check_backbone", "check_images",
           "check_stem", "counting", "create", "embed", "grid", "head", "image_size", "importance", "narrow", "pool",
           "pool_apart", "pool_macs", "pooled", "prefix_tokens", "preprocessing", "read_after", "regridded", "resample_positions",
           "sibling", "stages", "start_from", "tokens"]
