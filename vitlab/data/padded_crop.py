"""What training changes in small pictures: a whole batch at once, so that no worker is needed to keep a GPU busy."""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vitlab.data.picture import Preprocessing, normalised, squared
from vitlab.numbers import real, whole

WIDEST = 2 ** 12


@dataclass(frozen=True)
class PaddedCrop:
    """CIFAR's usual augmentation (He et al., 2016, Sec. 4.2): pad with black, crop as large as before at random, mirror."""
    padding: int = 4
    "pixels added at every side"
    hflip: float = .5
    "probability of a mirror image"

    on_squares = True       # it needs the pictures only as evaluation sees them: those of a set can stay in memory

    def __post_init__(self):
        """ValueError, in one sentence, for what makes no sense."""
        object.__setattr__(self, "padding", whole(self.padding, "padding, the pixels added at every side,", 0, WIDEST))
        object.__setattr__(self, "hflip", real(self.hflip, "hflip", 0, 1))

    def __call__(self, pictures: Tensor | Sequence[Image.Image], image_size: int, wanted: Preprocessing) -> Tensor:
        """Training's images, float [n, 3, S, S], of uint8 [n, S, S, 3] or Pillow images; torch's generator draws."""
        if not isinstance(pictures, Tensor):
            pictures = torch.stack([squared(picture, image_size, wanted) for picture in pictures])
        n, side, p = len(pictures), pictures.shape[1], self.padding
        wide = F.pad(pictures, (0, 0, p, p, p, p))                                     # [n, S + 2p, S + 2p, 3]
        top, left = torch.randint(2 * p + 1, (2, n, 1)) + torch.arange(side)           # [n, S] each
        mirrored = torch.rand(n, 1) < self.hflip
        left = left.flip(1).where(mirrored, left)
        return normalised(wide[torch.arange(n)[:, None, None], top[:, :, None], left[:, None]], wanted)
