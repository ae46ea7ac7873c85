"""The last swaps: climb from a row to one that no single swap improves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.space import CategoricalSpace

__all__ = ["single_swap_ascent"]

_CHUNK = 2**16
Score = Callable[[Tensor], Tensor]


@torch.no_grad()
def single_swap_ascent(
    space: CategoricalSpace,
    score: Score,
    codes: Tensor,
    *,
    allowed: Score | None = None,
    max_swaps: int = 100,
) -> Tensor:
    """Make the best of all single swaps, again and again, until none raises the score.

    Steepest ascent, exact: a swap costs `sum_i (K_i - 1)` evaluations of the score a row, and so
    does finding that there is none.

    Args:
        space: the space.
        score: codes `(n, F)` -> `(n,)`.
        codes: rows to start from, `(N, F)`; not changed.
        allowed: codes `(n, F)` -> boolean `(n,)`, rows that may be entered, such as `rules.allows`;
            by default all. Under "exactly 2 of 4" no single swap leads to another allowed row.
        max_swaps: swaps of a row at most, at least 0.

    Returns:
        Codes `(N, F)`, none scored lower than the row it started from.

    Example:
        >>> space = CategoricalSpace.from_sizes((3, 4))
        >>> single_swap_ascent(space, lambda codes: codes.sum(-1), torch.tensor([[0, 1]]))
        tensor([[2, 3]])
    """
    space.check_codes(codes)
    if max_swaps < 0:
        raise ValueError(f"max_swaps must be at least 0, got {max_swaps}")
    codes, values = codes.clone(), score(codes) if len(codes) else torch.empty(0)
    climbing = torch.arange(len(codes), device=codes.device)
    for _ in range(max_swaps if space.width > space.num_features else 0):
        if not len(climbing):
            break
        swaps = space.swaps(codes[climbing])
        best, index = _scored(score, allowed, swaps.flatten(0, 1)).view(len(climbing), -1).max(-1)
        # strictly, or rows of equal score would be swapped for one another for ever
        better = best > values[climbing]
        climbing, best = climbing[better], best[better]
        codes[climbing] = swaps[better, index[better]]
        values[climbing] = best
    return codes


def _scored(score: Score, allowed: Score | None, codes: Tensor) -> Tensor:
    parts = []
    for part in codes.split(_CHUNK):
        value = score(part)
        parts.append(value if allowed is None else value.masked_fill(~allowed(part), -torch.inf))
    return torch.cat(parts)
