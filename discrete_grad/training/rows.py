"""Scored rows, as the fits take them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Observed rows.

    Args:
        codes: `(N, F)`.
        scores: `(N,)`, scaled to about mean 0 and variance 1.
        context: `(N, C)`, or None.

    Example:
        >>> import torch
        >>> rows = Rows(torch.zeros(5, 2, dtype=torch.long), torch.zeros(5))
        >>> len(rows), len(rows.take(torch.tensor([0, 3])))
        (5, 2)
    """

    codes: Tensor
    scores: Tensor
    context: Tensor | None = None

    def __len__(self) -> int:
        """N, or the leading dimension."""
        return len(self.codes)

    def take(self, indices: Tensor) -> Rows:
        """The rows at indices of any shape, which becomes the leading one."""
        context = None if self.context is None else self.context[indices]
        return Rows(self.codes[indices], self.scores[indices], context)
