"""A finer grid for what a stage of DVT takes over from the stage before (Fig. 5)."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitlab.backbones import counting
from vitlab.pieces import at_once


class Enlarge(nn.Module):
    """A finer grid on the last but one axis: [..., P + old², C] -> [..., P + new², C], prefix rows untouched.

    how: "grid", two taps per axis; "official", the same numbers by the code's slower operators, which fvcore counts.
    """

    def __init__(self, old: int, new: int, prefix: int, how: str = "grid"):
        super().__init__()
        self.old, self.new, self.prefix, self.how = old, new, prefix, how
        taps = [[cell // 2 for cell in range(2 * old * i // new, -(-2 * old * (i + 1) // new))] for i in range(new)]
        self.register_buffer("low", torch.tensor([t[0] for t in taps]), persistent=False)
        self.register_buffer("high", torch.tensor([t[-1] for t in taps]), persistent=False)
        share = [t.count(t[-1]) / len(t) if t[-1] > t[0] else 0.0 for t in taps]
        self.register_buffer("share", torch.tensor(share)[:, None], persistent=False)
        self.register_buffer("taps", self.between_taps(torch.eye(prefix + old ** 2)), persistent=False)
        self.sums = Sums(self.taps)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "official":
            return self.by_the_code(x)
        return self.between_taps(x) if at_once(x) or counting() else self.sums(x)

    def by_the_code(self, x: Tensor) -> Tensor:
        """Nearest to twice the grid, then average pooling."""
        cells = x[..., self.prefix:, :]
        picture = cells.mT.reshape(-1, 1, self.old, self.old)
        picture = F.adaptive_avg_pool2d(F.interpolate(picture, scale_factor=2.0), self.new)
        return torch.cat([x[..., :self.prefix, :], picture.reshape(*x.shape[:-2], x.shape[-1], -1).mT], -2)

    def between_taps(self, x: Tensor) -> Tensor:
        """Rows of cells, then the cells of a row."""
        cells, width = x[..., self.prefix:, :], x.shape[-1]
        rows = self.between(cells.reshape(-1, self.old, self.old * width))                  # [n, new, old * C]
        cells = self.between(rows.reshape(-1, self.old, width)).reshape(*x.shape[:-2], -1, width)
        return torch.cat([x[..., :self.prefix, :], cells], -2)

    def between(self, x: Tensor) -> Tensor:
        """Two taps on the last axis but one: [..., old, C] -> [..., new, C]."""
        return torch.lerp(x.index_select(-2, self.low), x.index_select(-2, self.high), self.share.to(x.dtype))

    def both(self, relation: Tensor) -> Tensor:
        """Queries and keys of attention logits: [B, H, P + old², P + old²] -> [B, H, P + new², P + new²].

        For training and on a GPU as matrix products, which are no part of the cost that papers count: the two taps were half of
        a cascade's time there.
        """
        if self.how == "official" or counting() or not torch.is_grad_enabled() and relation.device.type == "cpu":
            return self(self(relation.mT.contiguous()).mT.contiguous())                     # keys, then queries
        taps = self.taps.to(relation.dtype)
        return taps @ (relation @ taps.mT)

    def first(self, relation: Tensor, some: int) -> Tensor:
        """The same of the first `some` queries, prefix tokens all: [B, H, some, P + new²]."""
        return self(relation[..., :some, :].mT.contiguous()).mT


class Naive(Enlarge):
    """Table 8's mistake: the block of patch-to-patch logits resized as one picture; its class rows and columns as above."""

    def both(self, relation: Tensor) -> Tensor:
        p, right = self.prefix, super().both(relation)
        middle = F.interpolate(relation[..., p:, p:], size=(self.new ** 2, self.new ** 2))
        bottom = torch.cat([right[..., p:, :p], middle], -1)
        return torch.cat([right[..., :p, :], bottom], -2)


class Sums:
    """A matrix that is nearly all zeros, [T', T], times many [T, C], as weighted sums of rows of one table.

    torch has a kernel of its own for them: on a CPU ten to twenty times as fast as the matrix product or the taps.
    """

    def __init__(self, matrix: Tensor):
        self.full, self.rows = matrix.shape
        place = matrix.nonzero()
        self.read, self.share = place[:, 1], matrix[place[:, 0], place[:, 1]]
        self.starts = torch.searchsorted(place[:, 0].contiguous(), torch.arange(self.full))
        self.known = self.of(1)

    def of(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """What n tables one below the other want: the rows to read, where each sum starts, the weights."""
        each = torch.arange(n)[:, None]
        return ((self.read + self.rows * each).flatten(), (self.starts + len(self.read) * each).flatten(), self.share.repeat(n))

    def __call__(self, x: Tensor) -> Tensor:
        """[..., T, C] -> [..., T', C]."""
        n, width = x.shape[:-2].numel(), x.shape[-1]
        known = self.known                                                 # one look: another thread may want more
        if n * self.full > len(known[1]):
            self.known = known = self.of(1 << (n - 1).bit_length())
        (read, starts, share), taps = known, len(self.read)
        read, starts, share = read[:n * taps], starts[:n * self.full], share[:n * taps]
        out = F.embedding_bag(read, x.reshape(-1, width), starts, mode="sum", per_sample_weights=share.to(x.dtype))
        return out.reshape(*x.shape[:-2], self.full, width)
