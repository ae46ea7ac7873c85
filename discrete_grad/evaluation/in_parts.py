"""Scores of many rows, a bounded part of them at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["in_parts", "rows_at_once"]

_NUMBERS = 2**18
_MOST = 8192


def rows_at_once(numbers: int, most: int = _MOST) -> int:
    """So many rows, each of some numbers, that a model's memory does not grow with their width.

    Args:
        numbers: of a row: one a feature for codes, one a category for flat rows.
        most: rows, at most.

    Example:
        >>> rows_at_once(10), rows_at_once(1024)
        (8192, 256)
    """
    return max(1, min(most, _NUMBERS // numbers))


def in_parts(
    score: Callable[[Tensor, Tensor | None], Tensor], codes: Tensor, context: Tensor | None
) -> Tensor:
    """Scores `(N,)` of codes `(N, F)` and contexts `(N, C)` or None, a part at a time.

    Example:
        >>> in_parts(lambda codes, context: codes.sum(-1), torch.tensor([[1, 2], [0, 4]]), None)
        tensor([3, 4])
    """
    places = torch.arange(len(codes)).split(rows_at_once(codes.shape[1]))
    parts = [score(codes[i], None if context is None else context[i]) for i in places]
    return torch.cat(parts) if len(parts) > 1 else parts[0]
