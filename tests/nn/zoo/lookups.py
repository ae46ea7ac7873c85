"""Look-ups other than by a plain `nn.Embedding`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, OneTable, Tables, works
from tests.nn.zoo.columns import Columns
from tests.nn.zoo.one_table import SharedTable


@works()
class FunctionalEmbedding(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([F.embedding(codes[:, i], t.weight) for i, t in enumerate(self.tables)])


@works()
class ParameterIndexed(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t.weight[codes[:, i]] for i, t in enumerate(self.tables)])


@works()
class ParameterIndexedRows(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t.weight[codes[:, i], :] for i, t in enumerate(self.tables)])


@works()
class ParameterIndexedAtOnce(OneTable):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.table.weight[codes + self.offsets])


@works()
class TransposedTables(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t.weight.T[:, codes[:, i]].T for i, t in enumerate(self.tables)])


@works()
class EllipsisIndexed(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        return self.score([t.weight.T[..., codes[:, i]].T for i, t in enumerate(self.tables)])


@works()
class IndexSelect(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        parts = [t.weight.index_select(0, codes[:, i]) for i, t in enumerate(self.tables)]
        return self.score(parts)


@works()
class TorchIndexSelect(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        first, second, third = (table.weight for table in self.tables)
        parts = [torch.index_select(first, 0, codes[:, 0])]
        parts += [torch.index_select(second, dim=0, index=codes[:, 1])]
        return self.score([*parts, torch.index_select(third.T, 1, codes[:, 2]).T])


@works()
class Gathered(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        parts = []
        for i, table in enumerate(self.tables):
            index = codes[:, i].view(-1, 1, 1).expand(-1, 1, table.weight.shape[1])
            weight = table.weight.expand(len(codes), -1, -1)
            parts.append(weight.gather(1, index).squeeze(1))
        return self.score(parts)


@works()
class GatheredColumns(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        parts = []
        for i, table in enumerate(self.tables):
            columns = [c.expand(len(codes), -1) for c in table.weight.unbind(1)]
            parts += [torch.gather(c, 1, codes[:, i : i + 1]) for c in columns]
        return self.score(parts)


@works()
class TakenAlong(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        pairs = [(table.weight, codes[:, i].unsqueeze(-1)) for i, table in enumerate(self.tables)]
        return self.score([torch.take_along_dim(w, index, dim=0) for w, index in pairs])


@works()
class Taken(Tables):
    def forward(self, codes: Tensor) -> Tensor:
        columns = [(c, i) for i, t in enumerate(self.tables) for c in t.weight.unbind(1)]
        return self.score([torch.take(c, codes[:, i]).unsqueeze(-1) for c, i in columns])


@works()
class ByFeatureAndCode(SharedTable):
    """Tables one behind the other: `tables[feature, code]`."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.weights = nn.Parameter(torch.randn(3, 4, 3))

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(self.weights[torch.arange(3), codes])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        pairs = zip(SPACE.split(row), self.weights, strict=True)
        return self.score(torch.stack([b @ w[: b.shape[-1]] for b, w in pairs], 1))


@works()
class PairTable(Columns):
    """An effect of each pair of categories."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.pairs = nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + self.pairs[codes[:, 0], codes[:, 1]].sum(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        cut, colour, _ = SPACE.split(row)
        pairs = torch.einsum("nk,nl,kle->n", cut, colour, self.pairs)
        return super().hand(row) + pairs


@works()
class Matrices(Columns):
    """A matrix for each category."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.matrices = nn.Parameter(torch.randn(4, 3, 3))

    def forward(self, codes: Tensor) -> Tensor:
        first, second, third = (t(codes[:, i]) for i, t in enumerate(self.tables))
        turned = torch.einsum("na,nab->nb", first, self.matrices[codes[:, 1]])
        return self.score([turned, second, third])

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        cut, colour, shape = SPACE.split(row)
        first, second, third = (table.weight for table in self.tables)
        turned = torch.einsum("nk,ka,nl,lab->nb", cut, first, colour, self.matrices)
        return self.score([turned, colour @ second, shape @ third])


@works()
class Projected(OneTable):
    """A table that is computed."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.project = nn.Linear(3, 3)

    def forward(self, codes: Tensor) -> Tensor:
        return self.score(F.embedding(codes + self.offsets, self.project(self.table.weight)))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        tables = self.project(self.table.weight).split(SPACE.sizes)
        parts = [b @ w for b, w in zip(SPACE.split(row), tables, strict=True)]
        return self.score(torch.stack(parts, 1))


@works()
class LowRank(Projected):
    """A table and what has been learnt beside it."""

    def forward(self, codes: Tensor) -> Tensor:
        weight = self.table.weight + self.table.weight @ self.project.weight
        return self.score(F.embedding(codes + self.offsets, weight))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        embedded = self.embedded(row, SPACE.offsets)
        return self.score(embedded + embedded @ self.project.weight)


@works()
class SpectralNorm(Tables):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        nn.utils.parametrizations.spectral_norm(self.tables[1])

    def forward(self, codes: Tensor) -> Tensor:
        return self.score([table(codes[:, i]) for i, table in enumerate(self.tables)])


@works()
class MaxNorm(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables[1].max_norm = 0.5

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        cut, colour, shape = SPACE.split(row)
        first, second, third = (table.weight for table in self.tables)
        norms = second.norm(dim=-1, keepdim=True)
        scaled = second * (0.5 / (norms + 1e-7)).clamp(max=1)
        second = second + (scaled - second).detach()  # torch renormalises without a derivative
        return self.score([cut @ first, colour @ second, shape @ third])


@works()
class FrozenSparse(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        for table in self.tables:
            table.sparse = table.scale_grad_by_freq = True
            table.requires_grad_(False)


class Doubled(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


@works()
class OwnForward(Columns):
    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.tables[1] = Doubled(4, 2)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        cut, colour, shape = SPACE.split(row)
        first, second, third = (table.weight for table in self.tables)
        return self.score([cut @ first, colour @ second * 2, shape @ third])


@works()
class RenumberedLast(Columns):
    """Another number for each category, from a list."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.register_buffer("numbers", torch.tensor([2, 0, 3, 1]))

    def forward(self, codes: Tensor) -> Tensor:
        cut, colour, shape = codes.unbind(1)
        return super().forward(torch.stack([cut, colour, shape], 1)) + self.tables[1](
            self.numbers[colour]
        ).sum(-1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        weight = self.tables[1].weight[self.numbers]
        return super().hand(row) + (SPACE.split(row)[1] @ weight).sum(-1)


@works()
class Later(OneTable):
    """Numbers that only start elsewhere, from a list."""

    rows = SPACE.width + 5

    def forward(self, codes: Tensor) -> Tensor:
        numbers = torch.arange(5, SPACE.width + 5)
        return self.score(self.table(numbers[codes + self.offsets]))

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return self.score(self.embedded(row, [start + 5 for start in SPACE.offsets]))
