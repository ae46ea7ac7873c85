"""Scores of many rows, a bounded part of them at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["in_parts", "rows_at_once"]

_NUMBERS = 2**17
_MOST = 8192


def rows_at_once(numbers: int, most: int = _MOST) -> int:
    """So many rows, each of some numbers, that a model's memory does not grow with their width.

    Args:
        numbers: of a row: one a feature for codes, one a category for flat rows.
        most: rows, at most.

    Example:
        >>> rows_at_once(10), rows_at_once(1024)
        (8192, 128)
    """
    return max(1, min(most, _NUMBERS // numbers))


def in_parts(
    score: Callable[[Tensor, Tensor | None], Tensor],
    codes: Tensor,
    context: Tensor | None,
    *,
    rows: int | None = None,
) -> Tensor:
    """Scores `(N,)` of codes `(N, F)` and contexts `(N, C)` or None, a part at a time.

    Args:
        score: of codes and contexts.
        codes: `(N, F)`.
        context: `(N, C)`, or None.
        rows: at a time; by default as `rows_at_once` says for codes.

    Example:
        >>> in_parts(lambda codes, context: codes.sum(-1), torch.tensor([[1, 2], [0, 4]]), None)
        tensor([3, 4])
    """
    places = torch.arange(len(codes)).split(rows or rows_at_once(codes.shape[1]))
    scores = None
    for i in places:
        part = score(codes[i], None if context is None else context[i])
        # not a list of parts: small tensors kept between large ones leave holes in the heap
        scores = part.new_empty(len(codes)) if scores is None else scores
        scores[i] = part
    assert scores is not None  # of no rows there is one empty part
    return scores
