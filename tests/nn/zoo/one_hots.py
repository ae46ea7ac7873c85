"""One-hot rows in place of look-ups."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, WIDTH, works


class OneHots(nn.Module):
    """The row's one-hots, which are as wide as the embedded row of the other models."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("offsets", torch.tensor(SPACE.offsets))

    def score(self, flat: Tensor) -> Tensor:
        return self.body(self.mix(flat)).squeeze(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(row)


@works()
class OneHotEach(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [F.one_hot(codes[:, i], k).to(self.mix.weight) for i, k in enumerate(SPACE.sizes)]
        return self.score(torch.cat(parts, -1))


@works()
class OneHotJoined(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [F.one_hot(codes[:, i], k) for i, k in enumerate(SPACE.sizes)]
        return self.score(torch.cat(parts, -1).to(self.mix.weight.dtype))


@works()
class OneHotFloat(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        cut, colour, shape = codes.unbind(1)
        parts = [F.one_hot(cut, 3), F.one_hot(colour, 4), F.one_hot(shape, num_classes=2)]
        flat = torch.hstack([part.float() for part in parts])
        return self.score(flat.to(self.mix.weight.dtype))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(row.float().to(row.dtype))


@works()
class OneHotOfOffsets(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(F.one_hot(codes + self.offsets, WIDTH).sum(1).to(self.mix.weight.dtype))


@works()
class OneHotOfOffsetsMaximum(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        flat = F.one_hot(codes + self.offsets, WIDTH).amax(1)
        return self.score(flat.type_as(self.mix.weight))


@works()
class OneHotTimesWeights(OneHots):
    """Integers beside floating numbers become floating."""

    def forward(self, codes: Tensor) -> Tensor:
        parts = [F.one_hot(codes[:, i], k) for i, k in enumerate(SPACE.sizes)]
        return self.score(torch.cat(parts, 1) * self.mix.bias)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(row * self.mix.bias)


@works()
class OneHotMatrix(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [F.one_hot(codes[:, i], k) for i, k in enumerate(SPACE.sizes)]
        flat = torch.cat(parts, 1).to(self.mix.weight.dtype)
        return self.score(flat @ self.mix.weight)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(row @ self.mix.weight)


@works()
class OneHotWithoutFirst(OneHots):
    """As statisticians code: the first category of each feature is the base."""

    def forward(self, codes: Tensor) -> Tensor:
        parts = [F.one_hot(codes[:, i], k)[:, 1:] for i, k in enumerate(SPACE.sizes)]
        flat = torch.cat(parts, 1).to(self.mix.weight.dtype)
        return self.score(F.pad(flat, (0, 3)))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        flat = torch.cat([block[:, 1:] for block in SPACE.split(row)], 1)
        return self.score(F.pad(flat, (0, 3)))


@works()
class OneHotConv(OneHots):
    """A sequence of one-hots of one width, convolved."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.conv = nn.Conv1d(4, 3, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        signals = F.one_hot(codes, 4).transpose(1, 2).to(self.mix.weight.dtype)
        return self.score(self.conv(signals).flatten(1))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        wide = [F.pad(block, (0, 4 - block.shape[-1])) for block in SPACE.split(row)]
        return self.score(self.conv(torch.stack(wide, 2)).flatten(1))


@works()
class OneHotPermuted(OneHotConv):
    def forward(self, codes: Tensor) -> Tensor:
        signals = F.one_hot(codes, 4).permute(0, 2, 1).contiguous().to(self.mix.weight)
        return self.score(self.conv(signals).reshape(len(codes), -1))


@works()
class OneHotEinsum(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        wide = F.one_hot(codes + self.offsets, WIDTH).to(self.mix.weight.dtype)
        return self.score(torch.einsum("nfk,ek->ne", wide, self.mix.weight))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(row @ self.mix.weight.T)


@works()
class IdentityIndexed(OneHots):
    def forward(self, codes: Tensor) -> Tensor:
        identity = torch.eye(WIDTH, dtype=self.mix.weight.dtype)
        return self.score(identity[codes + self.offsets].sum(1))


@works()
class OneHotLess(OneHots):
    """Arithmetic of integers before the cast."""

    def forward(self, codes: Tensor) -> Tensor:
        flat = 2 * F.one_hot(codes + self.offsets, WIDTH).sum(1) - 1
        return self.score(flat.to(self.mix.weight.dtype))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(2 * row - 1)
