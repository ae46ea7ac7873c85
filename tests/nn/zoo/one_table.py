"""One table for all features, and offsets."""

import torch
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, WIDTH, OneTable, works
from tests.nn.zoo.columns import Columns


@works()
class BufferOffsets(OneTable):
    rows = SPACE.width + 3

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.offsets))


@works()
class HiddenBufferOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.hidden_offsets))


@works()
class ConstantOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(self.constant + codes))


@works()
class UnsqueezedOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(torch.add(codes.long(), other=self.offsets.unsqueeze(0))))


@works()
class OffsetsOnDevice(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.constant.to(codes.device)[None]))


@works()
class OffsetsMadeInForward(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + torch.tensor([0, 3, 7], device=codes.device)))


@works()
class OffsetOfEach(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [self.table(codes[:, i] + self.offsets[i]) for i in range(3)]
        return self.score(torch.stack(parts, 1))


@works()
class NumberOfEach(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [self.table(SPACE.offsets[i] + codes[:, i]) for i in range(3)]
        return self.score(torch.stack(parts, 1))


@works()
class ChosenColumns(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        first = self.table(codes[:, [2, 0]] + torch.tensor([7, 0]))
        return self.score(torch.cat([first, self.table(codes[:, [1]] + 3)], 1))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, SPACE.offsets)[:, [2, 0, 1]])


@works()
class OrderedByBuffer(OneTable):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes[:, self.order] + torch.tensor([[7, 0, 3]])))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, SPACE.offsets)[:, [2, 0, 1]])


@works()
class SharedTable(OneTable):
    rows = max(SPACE.sizes)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, (0, 0, 0)))

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes))


@works()
class Viewed(SharedTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.table(codes).view(codes.shape[0], -1)).squeeze(-1)


@works()
class ViewedBySize(SharedTable):
    def forward(self, codes: Tensor) -> Tensor:
        rows, columns = codes.size()
        embedded = self.table(codes).reshape(rows, columns * 3)
        return self.body(embedded).view(codes.shape[:-1])


@works()
class Squares(OneTable):
    """Read by two tables: effects, and products of pairs."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.effects = nn.Embedding(self.rows, 1)

    def forward(self, codes: Tensor) -> Tensor:
        index = codes + self.offsets
        return self.of(self.effects(index), self.table(index))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.of(row @ self.effects.weight, self.embedded(row, SPACE.offsets))

    def of(self, effects: Tensor, embedded: Tensor) -> Tensor:
        pairs = embedded.sum(1).square() - embedded.square().sum(1)
        return effects.flatten(1).sum(1) + pairs.sum(-1) / 2 + self.score(embedded)


@works()
class Extras(Columns):
    """With state that the forward does not use, ties, constants and statistics."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.auxiliary = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.first = self.tables[0]
        self.unused = nn.Parameter(torch.randn(2))
        self.register_buffer("mean", torch.randn(WIDTH))
        self.register_buffer("std", torch.rand(WIDTH), persistent=False)
        self.register_buffer("steps", torch.tensor(3))
        self.power = torch.tensor(2.0)

    def score(self, parts: list[Tensor]) -> Tensor:
        self.last = torch.cat(parts, -1)
        standard = (self.last - self.mean) / self.std.clamp_min(0.1)
        return self.power * self.body(standard).squeeze(-1)
