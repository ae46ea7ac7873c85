"""Models as users write them: the ways in which they read codes, and what follows the tables."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discrete_grad import CategoricalSpace

SPACE = CategoricalSpace({"cut": 3, "colour": ["d", "e", "f", "g"], "shape": 2})
WIDTH = 9  # of the embedded row in every model here


# --- what follows the tables --------------------------------------------------------------------


def linear() -> nn.Module:
    return nn.Linear(WIDTH, 1)


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.layers, strict=True):
            update = F.dropout(F.gelu(layer(norm(hidden))), 0.3, training=self.training)
            hidden = hidden + update
        return self.head(hidden)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(3, 1, dim_feedforward=6, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.start = nn.Parameter(torch.randn(1, 1, 3))
        self.head = nn.Linear(3, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        tokens = hidden.unflatten(-1, (3, 3))
        tokens = torch.cat([self.start.expand(len(tokens), -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])


BODIES = {"batch_norm": batch_norm, "residual": Residual, "transformer": Transformer}


# --- a table for each feature -------------------------------------------------------------------


class Tables(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        pairs = zip(SPACE.sizes, (3, 2, 4), strict=True)
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size, dim in pairs)
        self.body = body

    def score(self, parts: list[Tensor]) -> Tensor:
        return self.body(torch.cat(parts, -1)).squeeze(-1)


class Columns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


class EllipsisColumns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[..., i]) for i, table in enumerate(self.tables)])


class NegativeColumns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i - 3]) for i, table in enumerate(self.tables)])


class Unpacked(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        cut, colour, shape = codes.unbind(-1)
        first, second, third = self.tables
        return self.score([first(cut), second(colour), third(shape)])


class Unbound(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        pairs = zip(self.tables, torch.unbind(codes, dim=1), strict=True)
        return self.score([table(column) for table, column in pairs])


class Transposed(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t(column) for t, column in zip(self.tables, codes.T, strict=True)])


class TransposedByMethod(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        columns = codes.transpose(0, 1)
        return self.score([table(columns[i]) for i, table in enumerate(self.tables)])


class Selected(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes.select(1, i)) for i, table in enumerate(self.tables)])


class SelectedByName(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        columns = [torch.select(index=i, input=codes, dim=-1) for i in range(3)]
        return self.score([table(c) for table, c in zip(self.tables, columns, strict=True)])


class Split(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        pairs = zip(self.tables, codes.split(1, dim=1), strict=True)
        return self.score([table(column).squeeze(1) for table, column in pairs])


class OneColumnSlices(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [table(codes[:, i : i + 1]).flatten(1) for i, table in enumerate(self.tables)]
        return self.score(parts)


class Long(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        codes = codes.long()
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


class CastEach(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t(codes[:, i].to(torch.int64)) for i, t in enumerate(self.tables)])


class ByKeyword(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(input=codes[:, i]) for i, table in enumerate(self.tables)])


class RangeOfShape(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([self.tables[i](codes[:, i]) for i in range(codes.shape[1])])


class AssertsForm(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        assert codes.dim() == 2
        assert codes.size(-1) == 3
        if codes.dtype != torch.int64:
            codes = codes.long()
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


class OnDevice(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        weights = torch.full((codes.size(0),), 2.0, device=codes.device)
        return weights * self.score([t(codes[:, i]) for i, t in enumerate(self.tables)])


class OwnInit(nn.Embedding):
    """Only initialised in another way."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__(num_embeddings, embedding_dim)
        nn.init.trunc_normal_(self.weight, std=0.5)


class NamedTables(Tables):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        pairs = zip(SPACE.names, self.tables, strict=True)
        self.tables = nn.ModuleDict({n: OwnInit(*t.weight.shape) for n, t in pairs})

    def forward(self, codes: Tensor) -> Tensor:
        tables = self.tables.items()
        return self.score([table(codes[:, i]) for i, (_, table) in enumerate(tables)])


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


class Nested(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.encoder, self.body = Encoder(), body

    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.encoder(codes)).squeeze(-1)


# --- one table ----------------------------------------------------------------------------------


class OneTable(nn.Module):
    rows = SPACE.width

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.table = nn.Embedding(self.rows, 3)
        self.body = body
        self.register_buffer("offsets", torch.tensor(SPACE.offsets))
        self.register_buffer("hidden_offsets", torch.tensor(SPACE.offsets), persistent=False)
        self.constant = torch.tensor(SPACE.offsets)

    def score(self, embedded: Tensor) -> Tensor:
        return self.body(embedded.flatten(1)).squeeze(-1)


class BufferOffsets(OneTable):
    rows = SPACE.width + 3

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.offsets))


class HiddenBufferOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.hidden_offsets))


class ConstantOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(self.constant + codes))


class UnsqueezedOffsets(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(torch.add(codes.long(), other=self.offsets.unsqueeze(0))))


class OffsetsOnDevice(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + self.constant.to(codes.device)[None]))


class OffsetsMadeInForward(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes + torch.tensor([0, 3, 7], device=codes.device)))


class OffsetOfEach(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [self.table(codes[:, i] + self.offsets[i]) for i in range(3)]
        return self.score(torch.stack(parts, 1))


class NumberOfEach(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [self.table(SPACE.offsets[i] + codes[:, i]) for i in range(3)]
        return self.score(torch.stack(parts, 1))


class ChosenColumns(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        first = self.table(codes[:, [2, 0]] + torch.tensor([7, 0]))
        return self.score(torch.cat([first, self.table(codes[:, [1]] + 3)], 1))


class OrderedByBuffer(OneTable):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes[:, self.order] + torch.tensor([[7, 0, 3]])))


class SharedTable(OneTable):
    rows = max(SPACE.sizes)

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table(codes))


class Viewed(SharedTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.table(codes).view(codes.shape[0], -1)).squeeze(-1)


class ViewedBySize(SharedTable):
    def forward(self, codes: Tensor) -> Tensor:
        rows, columns = codes.size()
        embedded = self.table(codes).reshape(rows, columns * 3)
        return self.body(embedded).view(codes.shape[:-1])


class Squares(OneTable):
    """Read by two tables: effects, and products of pairs."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.effects = nn.Embedding(self.rows, 1)

    def forward(self, codes: Tensor) -> Tensor:
        index = codes + self.offsets
        embedded = self.table(index)
        pairs = embedded.sum(1).square() - embedded.square().sum(1)
        return self.effects(index).sum((1, 2)) + pairs.sum(-1) / 2 + self.score(embedded)


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


# --- more arguments -----------------------------------------------------------------------------


class Numeric(Tables):
    def forward(self, x_cat: Tensor, x_num: Tensor) -> Tensor:
        parts = [table(x_cat[:, i]) for i, table in enumerate(self.tables)]
        return self.score([torch.cat(parts, -1) * x_num[:, :1] + x_num[:, 1:]])


class NumericFirst(Numeric):
    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return super().forward(x_cat, x_num)


class NumericRequired(Numeric):
    """The default cannot be done with."""

    def forward(self, x_cat: Tensor, x_num: Tensor | None = None) -> Tensor:
        return super().forward(x_cat, x_num)


class NumericOptional(Numeric):
    def forward(
        self,
        x_cat: Tensor,
        x_num: Tensor | None = None,
        *,
        scale: float = 2.0,
        latent: bool = False,
    ) -> Tensor:
        parts = [table(x_cat[:, i]) for i, table in enumerate(self.tables)]
        if latent:
            return torch.cat(parts, -1)
        if x_num is not None:
            parts = [part + x_num[:, :1] for part in parts]
        return scale * self.score(parts)


class AlwaysNumeric(nn.Module):
    """Around a model whose optional argument is wanted."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.model = NumericOptional(body)

    def forward(self, x_cat: Tensor, x_num: Tensor) -> Tensor:
        return self.model(x_cat, x_num, scale=0.5)


@dataclass(frozen=True)
class Case:
    """A model and how it is called with a row and numbers `(N, 10)`."""

    model: Callable[[nn.Module], nn.Module]
    call: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda model, row, _: model(row)
    argument: str | None = None

    def __str__(self) -> str:
        return getattr(self.model, "__name__", str(self.model))


CASES = [
    *map(
        Case,
        [
            Columns,
            EllipsisColumns,
            NegativeColumns,
            Unpacked,
            Unbound,
            Transposed,
            TransposedByMethod,
            Selected,
            SelectedByName,
            Split,
            OneColumnSlices,
            Long,
            CastEach,
            ByKeyword,
            RangeOfShape,
            AssertsForm,
            OnDevice,
            NamedTables,
            RareRow,
            BufferOffsets,
            HiddenBufferOffsets,
            ConstantOffsets,
            UnsqueezedOffsets,
            OffsetsOnDevice,
            OffsetsMadeInForward,
            OffsetOfEach,
            NumberOfEach,
            ChosenColumns,
            OrderedByBuffer,
            SharedTable,
            Viewed,
            ViewedBySize,
            Squares,
            Extras,
            NumericOptional,
        ],
    ),
    Case(Nested),
    Case(Numeric, lambda model, row, numbers: model(row, numbers)),
    Case(NumericRequired, lambda model, row, numbers: model(row, x_num=numbers)),
    Case(AlwaysNumeric, lambda model, row, numbers: model(row, numbers)),
    Case(NumericFirst, lambda model, row, numbers: model(numbers, row), argument="x_cat"),
    Case(NumericFirst, lambda m, row, numbers: m(x_cat=row, x_num=numbers), argument="x_cat"),
]
