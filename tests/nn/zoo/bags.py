"""Sums, means and maxima of the embeddings of a row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.nn.zoo.base import SPACE, works
from tests.nn.zoo.columns import Columns


class Bag(Columns):
    """Beside the tables, a bag of all categories of the row."""

    mode, padding = "sum", None

    def __init__(self, body: nn.Module) -> None:
        super().__init__(body)
        self.bag = nn.EmbeddingBag(10, 3, mode=self.mode, padding_idx=self.padding)
        self.register_buffer("offsets", torch.tensor(SPACE.offsets))
        self.weights = nn.Parameter(torch.rand(3))

    def forward(self, codes: Tensor) -> Tensor:
        return super().forward(codes) + self.bagged(codes).sum(-1)

    def bagged(self, codes: Tensor) -> Tensor:
        return self.bag(codes + self.offsets)

    def parts(self, row: Tensor) -> Tensor:
        tables = self.bag.weight[:9].split(SPACE.sizes)
        return torch.stack([b @ w for b, w in zip(SPACE.split(row), tables, strict=True)], 1)

    def hand(self, row: Tensor, numbers: Tensor | None = None) -> Tensor:
        return super().hand(row) + self.bagged_by_hand(row).sum(-1)

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return self.parts(row).sum(1)


@works()
class BagSum(Bag):
    pass


@works()
class BagMean(Bag):
    mode = "mean"

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return self.parts(row).mean(1)


@works()
class BagMax(Bag):
    mode = "max"

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return self.parts(row).amax(1)


@works()
class BagOfLine(Bag):
    """All rows in one line, with the place at which each starts."""

    def bagged(self, codes: Tensor) -> Tensor:
        line = (codes + self.offsets).reshape(-1)
        return self.bag(line, torch.arange(0, len(line), 3))


@works()
class BagWeighted(Bag):
    def bagged(self, codes: Tensor) -> Tensor:
        weights = self.weights.expand(codes.shape)
        return self.bag(codes + self.offsets, per_sample_weights=weights)

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return (self.parts(row) * self.weights.unsqueeze(-1)).sum(1)


@works()
class BagPadded(Bag):
    padding = 3

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        left = torch.arange(9) != 3
        return (row * left) @ self.bag.weight[:9]


@works()
class BagFunction(Bag):
    def bagged(self, codes: Tensor) -> Tensor:
        return F.embedding_bag(codes + self.offsets, self.bag.weight, mode="sum")


@works()
class BagOfSome(Bag):
    def bagged(self, codes: Tensor) -> Tensor:
        return self.bag(codes[:, 1:] + self.offsets[1:])

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return self.parts(row)[:, 1:].sum(1)


@works()
class BagsOfOne(Bag):
    def bagged(self, codes: Tensor) -> Tensor:
        return self.bag(codes[:, 1:2] + 3) + self.bag(codes[:, :1])

    def bagged_by_hand(self, row: Tensor) -> Tensor:
        return self.parts(row)[:, :2].sum(1)
