"""Measurements of several aims as one score for a round, under trade-offs drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.models.aimed import scalarised, simplex_like
from discrete_grad.runs._choosing import normal_scores
from discrete_grad.sampling import seeded

__all__ = ["round_score", "round_tradeoffs", "worth_at"]

_MOST = 4  # trade-offs of a batch, each of which is learnt anew


def round_tradeoffs(aims: int, rows: int, *, seed: int) -> list[tuple[Tensor | None, int]]:
    """Trade-offs `(K,)`, drawn evenly over the simplex, and how many of the rows each is for.

    One of one aim is None.

    Example:
        >>> [count for _, count in round_tradeoffs(2, 10, seed=0)], round_tradeoffs(1, 10, seed=0)
        ([3, 3, 2, 2], [(None, 10)])
    """
    if aims < 2:
        return [(None, rows)]
    parts = min(rows, _MOST)
    none = torch.zeros(parts, aims, dtype=torch.float64)
    tradeoffs = simplex_like(none, generator=seeded(seed)).float()
    shares = [rows // parts + (place < rows % parts) for place in range(parts)]
    return list(zip(tradeoffs, shares, strict=True))


def round_score(schema: Schema, scores: Tensor, tradeoff: Tensor | None) -> Tensor:
    """What rows of a table are worth in a round `(N,)`; see `worth_at`.

    NaN for one that failed or misses a threshold.

    Args:
        schema: of the table.
        scores: `(N, S)`, of all score columns, more is better; NaN for a row that failed.
        tradeoff: `(K,)`, or None for one aim that is better or worse.

    Example:
        >>> from discrete_grad.data import Vocabulary
        >>> schema = Schema((Vocabulary("cut", (1, 2)),), (), "yield", ("cost",), ("cost",))
        >>> round_score(schema, torch.tensor([[1.0, 0.0], [2.0, 0.0]]), None).tolist()
        [1.0, 2.0]
    """
    met = ~scores.isnan().any(1)
    for place, aim in enumerate(schema.aims):
        if aim.is_threshold and aim.value is not None:
            met &= scores[:, place] >= aim.sign * aim.value
    return worth_at(scores.masked_fill(~met.unsqueeze(1), torch.nan), tradeoff)


def worth_at(scores: Tensor, tradeoff: Tensor | None) -> Tensor:
    """One number `(N,)` of the first scores `(N, S)` of rows; NaN for one that failed.

    Of several aims it is the hypervolume scalarisation of their ranks: what is expected to raise
    it, in the mean over all trade-offs, is expected to raise the front's hypervolume.

    Args:
        scores: more is better; NaN in all of them for a row that failed.
        tradeoff: `(K,)` of the first K scores, or None for the first alone.

    Reference:
        Zhang, Golovin (2020), arXiv 2006.04655, section 4.

    Example:
        >>> worth_at(torch.tensor([[1.0, 4.0], [2.0, 3.0]]), torch.tensor([0.0, 1.0])).argmax()
        tensor(0)
    """
    if tradeoff is None:
        return scores[:, 0]
    met, worth = ~scores.isnan().any(1), scores.new_full((len(scores),), torch.nan)
    if met.any():
        ranks = torch.stack(
            [normal_scores(c) for c in scores[met, : len(tradeoff)].T.contiguous()], 1
        )
        low, high = ranks.amin(0), ranks.amax(0)
        scaled = (ranks - low) / (high - low).clamp_min(1e-9)
        worth[met] = scalarised(scaled, tradeoff, "hypervolume").to(worth)
    return worth
