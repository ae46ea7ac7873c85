"""Time of a softened model against the version of it for flat rows that one writes by hand.

Forward and backward to a one-hot row, of frozen models on one thread. Both run in every round, in
random order, and ratios are formed within a round.

    python -m benchmarks.softened
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from benchmarks.harness import Table
from discrete_grad import CategoricalSpace
from discrete_grad.nn import soften

__all__ = ["MODELS", "SHAPES", "compare", "main"]

SHAPES = {
    "8 x 32, batch 256": (256, (32,) * 8),
    "24 of 3-1,000, batch 256": (256, tuple(round(3 * (1000 / 3) ** (i / 23)) for i in range(24))),
    "90 of 2-10, batch 256": (256, tuple(2 + 7 * i % 9 for i in range(90))),
    "100 x 4, batch 1,024": (1024, (4,) * 100),
    "64 x 512, batch 16": (16, (512,) * 64),
}
DIM = 16


class Model(nn.Module):
    """Look-ups, and layers behind them."""

    offsets: Tensor

    def __init__(self, space: CategoricalSpace, width: int) -> None:
        super().__init__()
        self.sizes = list(space.sizes)
        self.body = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 1))
        self.register_buffer("offsets", torch.tensor(space.offsets))

    def score(self, hidden: Tensor) -> Tensor:
        """`(N, width)` -> `(N,)`."""
        score: Tensor = self.body(hidden).squeeze(-1)
        return score

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        raise NotImplementedError


class TableEach(Model):
    """A table for each feature."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, DIM * space.num_features)
        self.tables = nn.ModuleList(nn.Embedding(size, DIM) for size in space.sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """The model on codes."""
        return self.score(torch.cat([t(codes[:, i]) for i, t in enumerate(self.tables)], -1))

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        pairs = zip(row.split(self.sizes, -1), self.tables, strict=True)
        return self.score(torch.cat([block @ table.weight for block, table in pairs], -1))


class TableOffsets(Model):
    """One table, and offsets."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, DIM * space.num_features)
        self.table = nn.Embedding(space.width, DIM)

    def forward(self, codes: Tensor) -> Tensor:
        """The model on codes."""
        return self.score(self.table(codes + self.offsets).flatten(1))

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        tables = self.table.weight.split(self.sizes)
        pairs = zip(row.split(self.sizes, -1), tables, strict=True)
        return self.score(torch.cat([block @ table for block, table in pairs], -1))


class TableShared(Model):
    """The same rows of one table for all features, as tokens at positions."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, DIM * space.num_features)
        self.table = nn.Embedding(max(space.sizes), DIM)

    def forward(self, codes: Tensor) -> Tensor:
        """The model on codes."""
        return self.score(self.table(codes).flatten(1))

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        weight = self.table.weight
        if len(set(self.sizes)) == 1:
            embedded = row.unflatten(-1, (len(self.sizes), -1)) @ weight
        else:
            blocks = row.split(self.sizes, -1)
            embedded = torch.stack([b @ weight[: b.shape[-1]] for b in blocks], 1)
        return self.score(embedded.flatten(1))


class Bag(Model):
    """The sum of the embeddings."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, DIM)
        self.bag = nn.EmbeddingBag(space.width, DIM, mode="sum")

    def forward(self, codes: Tensor) -> Tensor:
        """The model on codes."""
        return self.score(self.bag(codes + self.offsets))

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        return self.score(row @ self.bag.weight)


class OneHots(Model):
    """One-hots of all features, which by hand are the row itself."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__(space, space.width)

    def forward(self, codes: Tensor) -> Tensor:
        """The model on codes."""
        parts = [F.one_hot(codes[:, i], size) for i, size in enumerate(self.sizes)]
        return self.score(torch.cat(parts, -1).float())

    def by_hand(self, row: Tensor) -> Tensor:
        """The model on flat rows."""
        return self.score(row)


MODELS: dict[str, Callable[[CategoricalSpace], Model]] = {
    "a table each": TableEach,
    "one table, offsets": TableOffsets,
    "a shared table": TableShared,
    "a bag": Bag,
    "one-hots": OneHots,
}


def compare(model: Model, space: CategoricalSpace, batch: int, rounds: int) -> tuple[float, ...]:
    """Seconds of the softened model, of the one by hand, and their ratio: medians.

    Raises:
        AssertionError: if they differ in the gradient.
    """
    model.eval().requires_grad_(False)
    codes = torch.stack([torch.randint(size, (batch,)) for size in space.sizes], 1)
    row = space.one_hot(codes)
    forms: tuple[Callable[[Tensor], Tensor], ...] = (soften(model, space), model.by_hand)

    def gradient(form: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = row.clone().requires_grad_()
        (found,) = torch.autograd.grad(form(leaf).sum(), leaf)
        return found

    assert torch.allclose(gradient(forms[0]), gradient(forms[1]), atol=1e-4)
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for i in random.sample((0, 1), 2):
            began = time.perf_counter()
            gradient(forms[i])
            seconds[i].append(time.perf_counter() - began)
    ratios = [ours / hand for ours, hand in zip(*seconds, strict=True)]
    return statistics.median(seconds[0]), statistics.median(seconds[1]), statistics.median(ratios)


@dataclass(frozen=True)
class Config:
    """Softened models against those written by hand."""

    rounds: int = 101
    """Each times both once."""


def main(config: Config) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rows = []
    for shape, (batch, sizes) in SHAPES.items():
        space, cells = CategoricalSpace.from_sizes(sizes), []
        for build in MODELS.values():
            ours, hand, ratio = compare(build(space), space, batch, config.rounds)
            cells.append(f"{ratio:.2f} ({1e3 * ours:.2f} / {1e3 * hand:.2f})")
        rows.append([shape, *cells])
    title = "Time of the softened model, relative to one by hand (ms of either)"
    table = Table(title, ["features", *MODELS], rows)
    print(f"{table.title}\n\n{table.markdown()}")


if __name__ == "__main__":
    main(tyro.cli(Config))
