"""SPViT's package token (Sec. 4.3): what a selector drops is folded into one token that stays with the others."""
from dataclasses import dataclass

from torch import Tensor

from vitlab.methods.spvit.selector import LEAST

KINDS = ("normalised", "mean", "sum", "none")           # Eq. 8 · what A.6 says · the released code · dropped for good


@dataclass(frozen=True)
class Package:
    """kind: how tokens are added up.  merge: a later package is added to the one before (Table 7), not set beside it."""

    kind: str = "normalised"
    merge: bool = False

    def check(self) -> None:
        """ValueError, in one sentence, for a package that makes no sense."""
        if self.kind not in KINDS:
            raise ValueError(f"package must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not isinstance(self.merge, bool):
            raise ValueError(f"merge must be True or False, not {self.merge!r}")

    @property
    def made(self) -> bool:
        """Is there a package at all?"""
        return self.kind != "none"

    def weights(self, score: Tensor, dropped: Tensor) -> Tensor:
        """What each token counts, 0 for those that stay: of keep scores and of what is dropped, 0 or 1, both [..., n].

        Gradients reach the score and, through `dropped`, the decision.
        """
        return dropped if self.kind == "mean" else dropped * score.clamp(LEAST)

    def folded(self, total: Tensor, weight: Tensor) -> Tensor:
        """The package [..., D], of its tokens' weighted sum [..., D] and the sum of the weights [...]; zero if it is empty."""
        return total if self.kind == "sum" else total / weight.clamp(LEAST)[..., None]
