"""A synthetic table of pair interactions, of any number of rows, whose truth is known.

Ten features of 20 categories; the score is the sum, over the ten pairs of neighbours on a ring, of
a normal number drawn for each pair of categories, plus noise of half the signal's standard
deviation. A table of fewer rows is the beginning of one of more rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

FEATURES, CATEGORIES = 10, 20
NOISE = 0.5  # of the signal's standard deviation
HELD_OUT = 20_000


@dataclass(frozen=True, eq=False)
class Ring:
    """The pairs' numbers.

    Args:
        pairs: `(10, 20, 20)`, float64: of feature i and the next one, the last one's being 0.
    """

    pairs: Tensor

    @classmethod
    def draw(cls, seed: int) -> Ring:
        """Independent standard normal numbers."""
        shape = (FEATURES, CATEGORIES, CATEGORIES)
        return cls(torch.from_numpy(np.random.default_rng([seed, 0]).normal(size=shape)))

    def truth(self, codes: Tensor) -> Tensor:
        """Scores without noise `(N,)`, float64, of rows `(N, 10)`."""
        neighbours = codes.roll(-1, dims=-1)
        parts = (self.pairs[i, codes[..., i], neighbours[..., i]] for i in range(FEATURES))
        return torch.stack(list(parts), -1).sum(-1)

    def maximum(self) -> float:
        """The highest score of any row, by dynamic programming around the ring."""
        best = self.pairs[0]  # first category by the last one reached
        for pair in self.pairs[1:-1]:
            best = (best.unsqueeze(-1) + pair).amax(-2)
        return (best + self.pairs[-1].T).max().item()

    def minimum(self) -> float:
        """The lowest score of any row."""
        return -Ring(-self.pairs).maximum()


def _codes(rng: np.random.Generator, rows: int) -> Tensor:
    drawn: NDArray[np.int64] = rng.integers(CATEGORIES, size=(rows, FEATURES))
    return torch.from_numpy(drawn)


def held_out(ring: Ring, seed: int) -> tuple[Tensor, Tensor]:
    """Rows `(20000, 10)` and their scores without noise, the same for every number of rows."""
    codes = _codes(np.random.default_rng([seed, 1]), HELD_OUT)
    return codes, ring.truth(codes)


def training_rows(ring: Ring, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows `(rows, 10)` and noisy scores `(rows,)`: the first of a stream that never ends."""
    codes = _codes(np.random.default_rng([seed, 2]), rows)
    scale = NOISE * held_out(ring, seed)[1].std().item()
    noise = np.random.default_rng([seed, 3]).normal(scale=scale, size=rows)
    return codes, ring.truth(codes) + torch.from_numpy(noise)
