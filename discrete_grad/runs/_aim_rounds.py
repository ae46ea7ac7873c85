"""Measurements of several aims as one score for a round, under trade-offs drawn at random."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.data import Schema
from discrete_grad.models.aimed import scalarised, simplex_like
from discrete_grad.runs._aim_stages import traded
from discrete_grad.runs._choosing import normal_scores
from discrete_grad.sampling import seeded

__all__ = ["round_score", "round_tradeoffs"]

_MOST = 4  # trade-offs of a batch, each of which is learnt anew


def round_tradeoffs(schema: Schema, rows: int, *, seed: int) -> list[tuple[Tensor | None, int]]:
    """Trade-offs `(K,)`, drawn evenly over the simplex, and how many of the rows each is for.

    One of one score is None.
    """
    count = traded(schema)
    if count < 2:
        return [(None, rows)]
    parts = min(rows, _MOST)
    none = torch.zeros(parts, count, dtype=torch.float64)
    tradeoffs = simplex_like(none, generator=seeded(seed)).float()
    shares = [rows // parts + (place < rows % parts) for place in range(parts)]
    return list(zip(tradeoffs, shares, strict=True))


def round_score(schema: Schema, scores: Tensor, tradeoff: Tensor | None) -> Tensor:
    """What rows are worth in a round `(N,)`; NaN for one that failed or misses a threshold.

    Of several aims it is the hypervolume scalarisation of their ranks: what is expected to raise
    it, in the mean over all trade-offs, is expected to raise the front's hypervolume.

    Args:
        schema: of the table.
        scores: `(N, S)`, of all score columns, more is better; NaN for a row that failed.
        tradeoff: `(K,)`, or None for one aim that is better or worse.

    Reference:
        Zhang, Golovin (2020), arXiv 2006.04655, section 4.

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
    if tradeoff is None:
        return scores[:, 0].masked_fill(~met, torch.nan)
    worth = scores.new_full((len(scores),), torch.nan)
    if met.any():
        ranks = torch.stack(
            [normal_scores(c) for c in scores[met, : len(tradeoff)].T.contiguous()], 1
        )
        low, high = ranks.amin(0), ranks.amax(0)
        scaled = (ranks - low) / (high - low).clamp_min(1e-9)
        worth[met] = scalarised(scaled, tradeoff, "hypervolume").to(worth)
    return worth
