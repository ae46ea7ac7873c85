"""Scored rows, as the fits take them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from discrete_grad.sampling import permutation, seeded

__all__ = ["ScoredRows"]


@dataclass(frozen=True)
class ScoredRows:
    """Observed rows with their scores and contexts.

    Args:
        codes: `(N, F)`, integers of any type; those of a table are of the narrowest.
        scores: `(N,)`, scaled to about mean 0 and variance 1.
        context: `(N, C)`, or None.
        behaviour: `(N, S)`, all scores of a table that has several, each scaled as `scores`, which
            is the first of them; None where there is one.
        counts: `(N,)` integers of at least 1, observations that a row is the mean of; None for 1.
        spread: `(N,)`, the standard deviation (divided by the count) of their scores; None for 0.

    Example:
        >>> rows = ScoredRows(torch.zeros(5, 2, dtype=torch.long), torch.zeros(5))
        >>> len(rows), len(rows.take(torch.tensor([0, 3])))
        (5, 2)
    """

    codes: Tensor
    scores: Tensor
    context: Tensor | None = None
    behaviour: Tensor | None = None
    counts: Tensor | None = None
    spread: Tensor | None = None

    def __len__(self) -> int:
        """N, or the leading dimension."""
        return len(self.codes)

    @property
    def all_scores(self) -> Tensor:
        """`(N, S)`: the behaviour, or the one score where there is one."""
        return self.scores.unsqueeze(-1) if self.behaviour is None else self.behaviour

    @property
    def repeated(self) -> bool:
        """Whether a row stands for several observations."""
        return self.counts is not None and bool((self.counts > 1).any())

    def split(self, *, seed: int, most: int | None = None) -> tuple[ScoredRows, ScoredRows]:
        """Rows to learn from and rows held out: a random fifth, at least 2 and at most `most`."""
        learned, held_out = self.split_places(seed=seed, most=most)
        return self.part(learned), self.part(held_out)

    def split_places(self, *, seed: int, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the rows in both parts of `split`."""
        order = permutation(len(self), generator=seeded(seed))
        size = min(max(2, round(len(self) / 5)), most or len(self))
        return order[size:], order[:size]

    def take(self, indices: Tensor) -> ScoredRows:
        """A batch of the rows at indices of any shape, its leading shape; codes as int64."""
        rows = self.part(indices)
        return replace(rows, codes=rows.codes.long())

    def part(self, indices: Tensor) -> ScoredRows:
        """The rows at indices `(M,)`, with codes of the same integer type."""
        return self._mapped(lambda column: column[indices])

    def to(self, device: torch.device) -> ScoredRows:
        """The same rows on a device."""
        return self._mapped(lambda column: column.to(device))

    def _mapped(self, f: Callable[[Tensor], Tensor]) -> ScoredRows:
        columns = {item.name: getattr(self, item.name) for item in fields(self)}
        mapped: dict[str, Any] = {n: None if c is None else f(c) for n, c in columns.items()}
        return ScoredRows(**mapped)
