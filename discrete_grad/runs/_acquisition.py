"""The rows of a round, chosen among candidates by draws of what their scores may be."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Acquisition", "batch_of"]

Acquisition = Literal["thompson", "improvement", "optimism"]


def batch_of(
    draws: Tensor, best: float, count: int, how: Acquisition, chance: Tensor | None = None
) -> Tensor:
    """Places `(count,)` of different candidates.

    Args:
        draws: `(S, n)` of the candidates' scores together, n at least count.
        best: score that is to be exceeded.
        count: rows wanted.
        how: `improvement`: one after another, the candidate which raises most the expected maximum
            of those chosen and `best`. `thompson`: the best candidate of each draw. `optimism`: the
            highest 90% quantiles.
        chance: `(n,)`, probability in (0, 1] that the candidate has a score at all; by default 1.

    Example:
        >>> batch_of(torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 3.0]]), 0.5, 2, "improvement")
        tensor([2, 1])
    """
    likely = torch.ones(draws.shape[1]) if chance is None else chance
    if how == "improvement":
        return _improvement(draws, best, count, likely)
    draws = draws + likely.log()
    return _thompson(draws, count) if how == "thompson" else _optimism(draws, count)


def _optimism(draws: Tensor, count: int) -> Tensor:
    return draws.quantile(0.9, dim=0).topk(count).indices


def _thompson(draws: Tensor, count: int) -> Tensor:
    """In turn for each draw the best candidate that is left."""
    left, chosen = draws.clone(), []
    for i in range(count):
        place = left[i % len(draws)].argmax()
        left[:, place] = -torch.inf
        chosen.append(place)
    return torch.stack(chosen)


def _improvement(draws: Tensor, best: float, count: int, chance: Tensor) -> Tensor:
    reached = torch.full((len(draws), 1), best)
    left, chosen = torch.zeros(draws.shape[1]), []
    # where no draw is an improvement any more, the mean decides
    mean = 1e-6 * (draws.mean(0) + chance.log())
    for _ in range(count):
        gain = (draws - reached).clamp_min(0).mean(0) * chance
        place = (gain + mean + left).argmax()
        reached = torch.maximum(reached, draws[:, place].unsqueeze(1))
        left[place] = -torch.inf
        chosen.append(place)
    return torch.stack(chosen)
