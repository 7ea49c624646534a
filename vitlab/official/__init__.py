"""The nets that the papers' authors have released, as nets of ours: `official.load` reads their state dicts by name.

Read are the files of SuperViT (DeiT-S, LV-ViT-S), DVT (DeiT-S, T2T-ViT-12 and -14), SPViT (DeiT-T, DeiT-S, LV-ViT-S), SViT
(DeiT-S) and of the dense backbones DeiT, T2T-ViT and LV-ViT, on which other methods may start. `names` says what a tensor is
called there, `reading` opens a file without running anything in it.
Departures, or what a file cannot be made into:
  * a distilled DeiT answers from two tokens with a head each. Here its distillation token is a register and the class token
    answers alone (`deit_small_distilled`); the second head is left aside;
  * T2T-ViT with an ordinary transformer in its stem (`t2t_vit_t_14`) and LV-ViT-L, whose stem is wider, are no nets of ours;
  * SPViT's and SViT's code goes on drawing at test time. Here nothing is drawn, see their files, so answers at a point that drops
    tokens are not the authors'; SPViT's files do not say how much their net keeps either: say `keep` or `budget`, then calibrate;
  * the LayerNorms of SViT's blocks, and of DVT's context on DeiT, have another epsilon in the code (1e-5 for 1e-6, and the
    reverse): in the tests' small nets 2e-6 of the largest logit;
  * thresholds that DVT's files bring along are not read: `vitlab.budget` finds yours;
  * ReViT has no released code. Pictures are prepared as timm prepares them for these nets (the middle 0.9 of a picture; DeiT's
    code: 0.875).
"""
from vitlab.official.door import load

__all__ = ["load"]
