"""Codes that are moved, and given offsets, before they look up one table."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, OneTable, works


@works()
class Line(OneTable):
    """All codes in one line."""

    def forward(self, codes: Tensor) -> Tensor:
        line = (codes + self.offsets).view(-1)
        return self.score(self.table(line).view(codes.shape[0], codes.shape[1], -1))


@works()
class LineOfFirstTable(OneTable):
    """In one line before the offsets are added."""

    def forward(self, codes: Tensor) -> Tensor:
        line = codes.flatten() + self.offsets.repeat(len(codes))
        return self.score(self.table(line).unflatten(0, (-1, 3)))


@works()
class Reshaped(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        deep = (codes.long() + self.offsets).reshape(-1, 3, 1)
        return self.score(self.table(deep).squeeze(2))


@works()
class FeaturesFirst(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        embedded = self.table(codes.T + self.offsets[:, None])
        return self.score(embedded.transpose(0, 1))


@works()
class Expanded(OneTable):
    """Each row twice."""

    def forward(self, codes: Tensor) -> Tensor:
        twice = (codes + self.offsets).unsqueeze(1).expand(-1, 2, -1)
        return self.score(self.table(twice).mean(1))


@works()
class Repeated(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        twice = (codes + self.offsets).repeat(1, 2)
        return self.score(self.table(twice).unflatten(1, (2, 3)).mean(1))


@works()
class RowsRepeated(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        twice = (codes + self.offsets).repeat_interleave(2, dim=0)
        return self.score(self.table(twice)[::2])


@works()
class Broadcast(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        codes, offsets = torch.broadcast_tensors(codes, self.offsets)
        return self.score(self.table(codes + offsets))


@works()
class ExpandedOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.offsets.expand_as(codes)))


@works()
class Mixed(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [codes[:, 0], codes[:, 1] + 3, codes[:, 2] + 7]
        return self.score(self.table(torch.stack(parts, 1)))


@works()
class Piecewise(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        index = torch.cat([codes[:, :1], codes[:, 1:] + self.offsets[1:]], dim=1)
        return self.score(self.table(index))


@works()
class Subtracted(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes - (-self.offsets)))


@works()
class ScaledOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        half = torch.tensor([0, 1, 3])
        return self.score(self.table(torch.add(codes, half, alpha=2) + torch.tensor([0, 1, 1])))


@works()
class AddedInPlace(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.clone()
        codes += self.offsets
        return self.score(self.table(codes))


@works()
class ClampedWithoutEffect(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.clamp(min=0, max=3)
        return self.score(self.table((codes + self.offsets).clamp_max(WIDEST)))


WIDEST = 3 + SPACE.offsets[-1]  # of what clamp cannot tell apart


@works()
class CheckedRange(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        assert (codes >= 0).all()
        assert not (codes > 3).any()
        return self.score(self.table(codes + self.offsets))


@works()
class UnknownReplaced(OneTable):
    """A code of -1 would be unknown; none is."""

    def forward(self, codes: Tensor) -> Tensor:
        unknown = codes < 0
        codes = codes + self.offsets
        codes[unknown] = 0
        return self.score(self.table(codes))


class Special(OneTable):
    """With rows of the table that are no category of the row."""

    rows = SPACE.width + 2

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        cut, _, shape = self.embedded(row, SPACE.offsets).unbind(1)
        special = self.table.weight[9].expand(len(row), -1)
        return self.score(torch.stack([cut, special, shape], 1))


@works()
class Masked(Special):
    """Some features are hidden, whatever their code."""

    def forward(self, codes: Tensor) -> Tensor:
        hidden = torch.tensor([False, True, False])
        return self.score(self.table(torch.where(hidden, 9, codes + self.offsets)))


@works()
class MaskedFill(Special):
    def forward(self, codes: Tensor) -> Tensor:
        hidden = torch.tensor([False, True, False])
        return self.score(self.table((codes + self.offsets).masked_fill(hidden, 9)))


@works()
class MaskedByTensor(Special):
    def forward(self, codes: Tensor) -> Tensor:
        hidden = torch.tensor([[0, 1, 0]]).expand_as(codes).bool()
        special = torch.full_like(codes, 9)
        return self.score(self.table(torch.where(hidden, special, codes + self.offsets)))


@works()
class FirstToken(OneTable):
    """A token of its own in front of the row."""

    rows = SPACE.width + 1

    def forward(self, codes: Tensor) -> Tensor:
        start = codes.new_full((len(codes), 1), 9)
        tokens = self.table(torch.cat([start, codes + self.offsets], dim=1))
        return self.score(tokens[:, 1:] * tokens[:, :1])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, SPACE.offsets) * self.table.weight[9])


@works()
class Positions(OneTable):
    """Beside what the codes give, what their places do."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.places = nn.Embedding(3, 3)

    def forward(self, codes: Tensor) -> Tensor:
        places = torch.arange(codes.size(1), device=codes.device).unsqueeze(0).expand_as(codes)
        mask = torch.ones_like(codes).unsqueeze(-1)
        return self.score((self.table(codes + self.offsets) + self.places(places)) * mask)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, SPACE.offsets) + self.places.weight)


@works()
class CastAndBack(OneTable):
    """Codes that come as one table of floating numbers."""

    def forward(self, codes: Tensor) -> Tensor:
        numbers = codes.float()
        parts = [numbers[:, i : i + 1].long() for i in range(3)]
        return self.score(self.table(torch.cat(parts, 1).type(torch.int64) + self.offsets))


@works()
class LikeAnother(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.type_as(self.offsets).to(self.table.weight.device).detach()
        return self.score(self.table((codes + self.offsets).view_as(codes)))


@works()
class Window(OneTable):
    """Neighbouring features, embedded as pairs."""

    def forward(self, codes: Tensor) -> Tensor:
        pairs = self.table((codes + self.offsets).unfold(1, 2, 1))
        return self.score(torch.cat([pairs[:, :, 0], pairs[:, 1:, 1]], 1))


@works()
class Checked(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        assert isinstance(codes, Tensor)
        assert torch.is_tensor(codes)
        assert not codes.is_floating_point()
        assert codes.ndim == codes.dim() == 2
        assert codes.numel() == codes.size(0) * 3 == len(codes) * codes.shape[-1]
        assert not codes.requires_grad
        return self.score(self.table(codes + self.offsets))
