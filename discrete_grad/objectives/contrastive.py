"""Contrastive losses that teach the aligner which rows behave alike."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.objectives.shapes import check_same_shape

__all__ = ["rank_n_contrast"]


def rank_n_contrast(projections: Tensor, scores: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Rank-N-Contrast: rows nearer in score are to lie nearer in projection.

    For every pair (i, j) a cross-entropy of j among all k whose score is at least as far from i's:
    `-mean log[e^(s_ij / t) / sum_k e^(s_ik / t)]`, s the negative distance. O(N^2 log N).

    Args:
        projections: `(N, P)`, N at least 2.
        scores: `(N,)`, any unit: only the order of differences counts.
        temperature: t, above 0.

    Returns:
        Mean over the pairs in nats.

    Reference:
        Zha, Cao, Son, Yang, Katabi (2023), arXiv 2210.01189, equation 2.

    Example:
        >>> rank_n_contrast(torch.eye(2), torch.tensor([0.0, 1.0]))
        tensor(0.)
    """
    count = len(projections)
    if count < 2 or not temperature > 0:
        raise ValueError(f"needs 2 rows and a temperature above 0, got {count}, {temperature}")
    check_same_shape(projections=projections[:, 0], scores=scores)
    others = ~torch.eye(count, dtype=torch.bool, device=scores.device)
    similarity = -_distances(projections)[others].view(count, count - 1) / temperature
    distance = (scores - scores.unsqueeze(-1)).abs()[others].view(count, count - 1)
    farthest_first, order = distance.sort(-1, descending=True)
    denominators = similarity.gather(-1, order).logcumsumexp(-1)
    # rows at equal distance belong to one another's denominators: take the last of them
    last = torch.searchsorted(-farthest_first, -distance, right=True) - 1
    return (denominators.gather(-1, last) - similarity).mean()


def _distances(projections: Tensor) -> Tensor:
    """Euclidean distances `(N, N)`; the gradient of the distance 0 is 0, not NaN."""
    square = (projections.unsqueeze(0) - projections.unsqueeze(1)).square().sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
