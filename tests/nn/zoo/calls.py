"""Other arguments, and columns that come one by one."""

import torch
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, Tables, works

# --- more arguments -----------------------------------------------------------------------------


@works(call=lambda m, row, numbers: m(row, numbers), per_row=["x_num"])
class Numeric(Tables):
    def forward(self, x_cat: Tensor, x_num: Tensor) -> Tensor:
        parts = [table(x_cat[:, i]) for i, table in enumerate(self.tables)]
        return self.score([torch.cat(parts, -1) * x_num[:, :1] + x_num[:, 1:]])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        assert numbers is not None
        pairs = zip(SPACE.split(row), self.tables, strict=True)
        parts = [block @ table.weight for block, table in pairs]
        return self.score([torch.cat(parts, -1) * numbers[:, :1] + numbers[:, 1:]])


@works(call=lambda m, row, numbers: m(numbers, row), argument="x_cat", per_row=["x_num"])
@works(
    call=lambda m, row, numbers: m(x_cat=row, x_num=numbers), argument="x_cat", per_row=["x_num"]
)
class NumericFirst(Numeric):
    def forward(self, x_num: Tensor, x_cat: Tensor) -> Tensor:
        return super().forward(x_cat, x_num)


@works(call=lambda m, row, numbers: m(row, x_num=numbers), per_row=["x_num"])
class NumericRequired(Numeric):
    """The default cannot be done with."""

    def forward(self, x_cat: Tensor, x_num: Tensor | None = None) -> Tensor:
        return super().forward(x_cat, x_num)


@works(per_row=["x_num"])
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

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return 2.0 * Tables.hand(self, row)


@works(call=lambda m, row, numbers: m(row, numbers), per_row=["x_num"])
class AlwaysNumeric(nn.Module):
    """Around a model whose optional argument is wanted."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.model = NumericOptional(body)

    def forward(self, x_cat: Tensor, x_num: Tensor) -> Tensor:
        return self.model(x_cat, x_num, scale=0.5)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        assert numbers is not None
        pairs = zip(SPACE.split(row), self.model.tables, strict=True)
        return 0.5 * self.model.score([b @ table.weight + numbers[:, :1] for b, table in pairs])


# --- columns one by one -------------------------------------------------------------------------


def by_name(codes: Tensor) -> dict[str, Tensor]:
    return dict(zip(SPACE.names, codes.unbind(-1), strict=True))


@works(columns="dict", plain=lambda m, codes, _: m(by_name(codes)))
class DictOfColumns(Tables):
    def forward(self, row: dict[str, Tensor]) -> Tensor:
        return self.score([t(row[n]) for n, t in zip(SPACE.names, self.tables, strict=True)])


@works(
    columns="dict",
    argument="batch",
    per_row=["x_num"],
    call=lambda m, row, numbers: m(numbers, row),
    plain=lambda m, codes, numbers: m(numbers, by_name(codes)),
)
class DictAfterNumbers(Numeric):
    def forward(self, x_num: Tensor, batch: dict[str, Tensor]) -> Tensor:
        parts = [t(batch[n]) for n, t in zip(SPACE.names, self.tables, strict=True)]
        return self.score([torch.cat(parts, -1) * x_num[:, :1] + x_num[:, 1:]])


@works(columns="dict", plain=lambda m, codes, _: m(by_name(codes)))
class DictWalked(Tables):
    def forward(self, row: dict[str, Tensor]) -> Tensor:
        tables = dict(zip(SPACE.names, self.tables, strict=True))
        return self.score([tables[name](column) for name, column in row.items()])


@works(columns="tuple", plain=lambda m, codes, _: m(codes.unbind(-1)))
class TupleOfColumns(Tables):
    def forward(self, row: tuple[Tensor, ...]) -> Tensor:
        cut, colour, shape = row
        first, second, third = self.tables
        return self.score([first(cut), second(colour), third(shape)])


@works(columns="tuple", plain=lambda m, codes, _: m(codes.unbind(-1)))
class TupleStacked(Tables):
    def forward(self, row: tuple[Tensor, ...]) -> Tensor:
        codes = torch.stack(row, 1)
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


@works(columns="args", plain=lambda m, codes, _: m(*codes.unbind(-1)))
class ColumnArguments(Tables):
    def forward(self, cut: Tensor, colour: Tensor, shape: Tensor) -> Tensor:
        first, second, third = self.tables
        return self.score([first(cut), second(colour), third(shape)])


@works(
    columns="args",
    per_row=["x_num"],
    call=lambda m, row, numbers: m(row, numbers),
    plain=lambda m, codes, numbers: m(*codes.unbind(-1), numbers),
)
class ColumnArgumentsAndNumbers(Numeric):
    def forward(self, cut: Tensor, colour: Tensor, shape: Tensor, x_num: Tensor) -> Tensor:
        return super().forward(torch.stack([cut, colour, shape], -1), x_num)


@works(columns="args", plain=lambda m, codes, _: m(*codes.unbind(-1)))
class StarColumns(Tables):
    def forward(self, *columns: Tensor) -> Tensor:
        return self.score([t(column) for t, column in zip(self.tables, columns, strict=True)])


@works(columns="kwargs", plain=lambda m, codes, _: m(**by_name(codes)))
class KeywordColumns(Tables):
    def forward(self, *, shape: Tensor, cut: Tensor, colour: Tensor) -> Tensor:
        first, second, third = self.tables
        return self.score([first(cut), second(colour), third(shape)])


@works(columns="kwargs", plain=lambda m, codes, _: m(**by_name(codes)))
class DoubleStar(Tables):
    def forward(self, **row: Tensor) -> Tensor:
        return self.score([t(row[n]) for n, t in zip(SPACE.names, self.tables, strict=True)])


@works(
    columns="kwargs",
    per_row=["x_num"],
    call=lambda m, row, numbers: m(row, x_num=numbers),
    plain=lambda m, codes, numbers: m(x_num=numbers, **by_name(codes)),
)
class DoubleStarAndNumbers(Numeric):
    def forward(self, x_num: Tensor, **row: Tensor) -> Tensor:
        return super().forward(torch.stack([row[name] for name in SPACE.names], 1), x_num)
