"""A table for each feature, read column by column."""

import torch
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, Tables, works


@works()
class Columns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


@works()
class EllipsisColumns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[..., i]) for i, table in enumerate(self.tables)])


@works()
class NegativeColumns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i - 3]) for i, table in enumerate(self.tables)])


@works()
class Unpacked(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        cut, colour, shape = codes.unbind(-1)
        first, second, third = self.tables
        return self.score([first(cut), second(colour), third(shape)])


@works()
class Unbound(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        pairs = zip(self.tables, torch.unbind(codes, dim=1), strict=True)
        return self.score([table(column) for table, column in pairs])


@works()
class Transposed(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t(column) for t, column in zip(self.tables, codes.T, strict=True)])


@works()
class TransposedByMethod(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        columns = codes.transpose(0, 1)
        return self.score([table(columns[i]) for i, table in enumerate(self.tables)])


@works()
class Selected(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes.select(1, i)) for i, table in enumerate(self.tables)])


@works()
class SelectedByName(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        columns = [torch.select(index=i, input=codes, dim=-1) for i in range(3)]
        return self.score([table(c) for table, c in zip(self.tables, columns, strict=True)])


@works()
class Split(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        pairs = zip(self.tables, codes.split(1, dim=1), strict=True)
        return self.score([table(column).squeeze(1) for table, column in pairs])


@works()
class OneColumnSlices(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [table(codes[:, i : i + 1]).flatten(1) for i, table in enumerate(self.tables)]
        return self.score(parts)


@works()
class Long(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.long()
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


@works()
class CastEach(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t(codes[:, i].to(torch.int64)) for i, t in enumerate(self.tables)])


@works()
class ByKeyword(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(input=codes[:, i]) for i, table in enumerate(self.tables)])


@works()
class RangeOfShape(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([self.tables[i](codes[:, i]) for i in range(codes.shape[1])])


@works()
class AssertsForm(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        assert codes.dim() == 2
        assert codes.size(-1) == 3
        if codes.dtype != torch.int64:
            codes = codes.long()
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


@works()
class OnDevice(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        weights = torch.full((codes.size(0),), 2.0, device=codes.device)
        return weights * self.score([t(codes[:, i]) for i, t in enumerate(self.tables)])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return 2.0 * super().hand(row)


class OwnInit(nn.Embedding):
    """Only initialised in another way."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        nn.init.trunc_normal_(self.weight, std=0.5)


@works()
class NamedTables(Tables):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        pairs = zip(SPACE.names, self.tables, strict=True)
        self.tables = nn.ModuleDict({n: OwnInit(*t.weight.shape) for n, t in pairs})

    def forward(self, codes: Tensor) -> Tensor:
        tables = self.tables.items()
        return self.score([table(codes[:, i]) for i, (_, table) in enumerate(tables)])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        pairs = zip(SPACE.split(row), self.tables.values(), strict=True)
        return self.score([block @ table.weight for block, table in pairs])


@works()
class RareRow(Tables):
    """Tables with rows that no category has, and a padding row."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables = nn.ModuleList(
            nn.Embedding(size + 2, dim, padding_idx=0)
            for size, dim in zip(SPACE.sizes, (3, 2, 4), strict=True)
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i] + 1) for i, table in enumerate(self.tables)])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        pairs = zip(SPACE.split(row), self.tables, strict=True)
        return self.score([block @ table.weight[1:-1] for block, table in pairs])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cut, self.rest = nn.Embedding(3, 3), nn.Embedding(6, 3)
        self.shift = torch.tensor([0, 4])
        self.scale = torch.rand(3) + 0.5
        self.norm = nn.LayerNorm(9)

    def forward(self, codes: Tensor) -> Tensor:
        rest = self.rest(codes[:, 1:] + self.shift) * self.scale
        return self.norm(torch.cat([self.cut(codes[:, :1]), rest], 1).flatten(1))


@works()
class Nested(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder, self.body = Encoder(), body

    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.encoder(codes)).squeeze(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        (first, *others), encoder = SPACE.split(row), self.encoder
        tables = encoder.rest.weight.split((4, 2))
        rest = [b @ table * encoder.scale for b, table in zip(others, tables, strict=True)]
        parts = [first @ encoder.cut.weight, *rest]
        return self.body(encoder.norm(torch.cat(parts, -1))).squeeze(-1)
