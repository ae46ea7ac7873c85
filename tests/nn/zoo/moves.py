"""Codes that are moved before they are looked up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.nn.zoo.base import Tables, works


class Moved(Tables):
    """A table for each feature; subclasses bring the columns into order."""

    def forward(self, codes: Tensor) -> Tensor:
        pairs = zip(self.tables, self.columns(codes), strict=True)
        return self.score([table(column) for table, column in pairs])

    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError


@works()
class Chunked(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return [part.squeeze(-1) for part in codes.chunk(3, dim=-1)]


@works()
class TensorSplit(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return [part[:, 0] for part in codes.tensor_split(3, dim=1)]


@works()
class HorizontallySplit(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return [part.flatten() for part in torch.hsplit(codes, 3)]


@works()
class SplitInSections(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        first, rest = torch.split(codes, [1, 2], dim=1)
        return [first.squeeze(1), rest.select(1, 0), rest.select(1, 1)]


@works()
class Permuted(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return list(codes.permute(1, 0))


@works()
class AxesMoved(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return torch.movedim(codes, -1, 0).unbind()


@works()
class AxesSwapped(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return [part.squeeze(0) for part in codes.swapaxes(0, 1).contiguous().split(1)]


@works()
class Narrowed(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return [codes.narrow(1, i, 1).squeeze(1) for i in range(3)]


@works()
class Strides(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        cut, shape = codes[:, ::2].unbind(1)
        return [cut, codes[:, -2], shape]


@works()
class Reversed(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        return codes.flip(1).unbind(1)[::-1]


@works()
class Rolled(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        shape, cut, colour = codes.roll(1, dims=1).unbind(1)
        return [cut, colour, shape]


@works()
class Selected2(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        order = torch.tensor([1, 2, 0])
        colour, shape, cut = codes.index_select(1, order).T
        return [cut, colour, shape]


@works()
class SelectedByFlags(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        (colour,) = codes[:, torch.tensor([False, True, False])].T
        cut, shape = codes[:, [True, False, True]].T
        return [cut, colour, shape]


@works()
class GatheredColumns(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        order = torch.tensor([[2, 0, 1]]).expand(len(codes), -1)
        shape, cut, colour = codes.gather(1, order).unbind(1)
        assert shape.shape == cut.shape
        return [cut, colour, torch.take_along_dim(codes, order[:, :1], 1).view(-1)]


@works()
class ColumnsStacked(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        columns = torch.stack([codes[:, 2], codes[:, 0], codes[:, 1]])
        return [columns[1], columns[2], columns[0]]


@works()
class ColumnsJoined(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        line = torch.cat([codes[:, 1], codes[:, 0], codes[:, 2]])
        colour, cut, shape = line.view(3, -1)
        return [cut, colour, shape]


@works()
class RowsInAnotherOrder(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        order = torch.arange(len(codes) - 1, -1, -1)
        return codes[order].flip(0).T


@works()
class RowByRow(Moved):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [torch.cat([t(c) for t, c in zip(self.tables, row, strict=True)]) for row in codes]
        return self.score([torch.stack(parts)])


@works()
class ThereAndBack(Moved):
    def columns(self, codes: Tensor) -> Sequence[Tensor]:
        deep = codes.unsqueeze(1).unsqueeze(-1).transpose(1, 3)
        return deep.squeeze(-1).squeeze(1).unbind(1)
