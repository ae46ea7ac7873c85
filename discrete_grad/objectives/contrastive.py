"""Contrastive losses that teach the aligner which rows behave alike, from scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.objectives._shapes import check_same_shape, unit_rows

__all__ = ["acc_con", "rank_n_contrast"]


def rank_n_contrast(projections: Tensor, scores: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Rank-N-Contrast: rows nearer in score should lie nearer in projection.

    For every pair (i, j) a cross-entropy of j among all k whose score is at least as far from i's:
    `-mean log[e^(s_ij / t) / sum_k e^(s_ik / t)]`, s the negative distance. O(N^2 log N).

    Args:
        projections: `(N, P)`, N at least 2.
        scores: `(N,)`, any unit: only the order of differences counts; or `(N, S)`, all in one
            unit, whose difference is the Euclidean distance.
        temperature: t, above 0.

    Returns:
        Mean over the pairs in nats.

    Raises:
        ValueError: for fewer than 2 rows, another number of scores, or a temperature out of range.

    Reference:
        Zha, Cao, Son, Yang, Katabi (2023), arXiv 2210.01189, equation 2.

    Example:
        >>> rank_n_contrast(torch.eye(2), torch.tensor([0.0, 1.0]))
        tensor(0.)
    """
    check_rows(projections, temperature)
    count = len(projections)
    distance = _without_diagonal(_score_distances(projections, scores))
    # squares of 256 and more are beyond float16
    wide = projections.to(torch.promote_types(projections.dtype, torch.float32))
    similarity = -_without_diagonal(_distances(wide)) / temperature
    farthest_first, order = distance.sort(-1, descending=True)
    # farthest first, so that a running sum holds all rows at least as far as the last one added
    denominators = similarity.gather(-1, order).logcumsumexp(-1)
    # rows at equal distance belong to one another's denominators: take the last of them
    last = torch.searchsorted(-farthest_first, -distance, right=True) - 1
    loss = (denominators.gather(-1, last) - similarity).sum() / (count * (count - 1))
    return loss.to(projections.dtype)


def acc_con(
    projections: Tensor, scores: Tensor, *, temperature: float = 0.1, near: float = 0.1
) -> Tensor:
    """ACCon: the angle of two projections should grow in proportion to their difference in score.

    `-mean_i mean_p log[e^(cos a_ip / t) / (sum_p' e^(cos a_ip' / t) + sum_n e^(cos b_in / t))]`
    over the positives p of a row i (difference in score at most `near` of the largest) and its
    negatives n (all others), where the angle `a_in` of two projections is compensated to
    `b_in = a_in + pi (1 - d_in / d_max)`. The term of a negative is least where `b_in = pi`, that
    is `a_in = pi d_in / d_max`: the row that differs most is to lie opposite, not every negative.

    Args:
        projections: `(N, P)`, N at least 2; scaled to length 1 here.
        scores: `(N,)` or, all in one unit, `(N, S)`.
        temperature: t, above 0.
        near: greatest difference of positives, in [0, 1) of the largest difference of the rows. The
            paper divides the scores into bins instead.

    Returns:
        Mean in nats over the rows that have a positive, 0 if none has.

    Raises:
        ValueError: as `rank_n_contrast`, or for `near` out of range.

    Reference:
        Zhao, Qu, Kang, Peng, Xiao, Wang (2025), arXiv 2501.07045.

    Example:
        >>> scores = torch.tensor([0.0, 0.0, 1.0, 1.0])
        >>> opposite = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
        >>> bool(acc_con(opposite, scores) < acc_con(opposite.abs(), scores))
        True
    """
    check_rows(projections, temperature)
    if not 0 <= near < 1:
        raise ValueError(f"near must lie in [0, 1), got {near}")
    unit = unit_rows(projections)
    distance = _score_distances(projections, scores)
    share = distance / distance.amax().clamp_min(torch.finfo(distance.dtype).tiny)
    positive = share <= near
    shift = (math.pi * (1 - share)).to(unit.dtype)
    cosine = unit @ unit.T
    # |a - b| |a + b| / 2 rather than sqrt(1 - cos^2), whose slope has no bound at angle 0
    sine = _distances(unit) * _distances(unit, -unit) / 2
    compensated = cosine * shift.cos() - sine * shift.sin()
    return mean_over_positives(torch.where(positive, cosine, compensated) / temperature, positive)


def mean_over_positives(similarity: Tensor, positive: Tensor) -> Tensor:
    """`-mean_i mean_p log softmax_{a != i}(similarity_ia)_p` over the positives p of each row i.

    `(N, N)` and bool `(N, N)`; rows without a positive do not count; 0 if none has one.
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    positive = positive & ~own
    # filled, not multiplied: the own entry is -inf, and 0 * -inf would be NaN
    logp = similarity.masked_fill(own, -math.inf).log_softmax(-1).masked_fill(~positive, 0)
    counts = positive.sum(-1)
    return -(logp.sum(-1) / counts.clamp_min(1)).sum() / (counts > 0).sum().clamp_min(1)


def check_rows(projections: Tensor, temperature: float) -> None:
    """Raise ValueError unless there are 2 rows `(N, P)` and a temperature above 0."""
    count = len(projections)
    if count < 2 or projections.dim() != 2 or not temperature > 0:
        shape = tuple(projections.shape)
        got = count if projections.dim() == 2 else f"{shape}"
        raise ValueError(f"needs 2 rows and a temperature above 0, got {got}, {temperature}")


def _score_distances(projections: Tensor, scores: Tensor) -> Tensor:
    """`(N, N)` of scores `(N,)` or `(N, S)`, without gradient."""
    if scores.dim() != 2:
        check_same_shape(projections=projections[:, 0], scores=scores)
    elif len(scores) != len(projections) or not scores.shape[1]:
        shapes = f"{tuple(scores.shape)} for {len(projections)} rows"
        raise ValueError(f"scores must be (N,) or (N, S) with S at least 1, got {shapes}")
    scores = scores.detach()
    difference = scores.unsqueeze(0) - scores.unsqueeze(1)
    return difference.square().sum(-1).sqrt() if scores.dim() == 2 else difference.abs()


def _without_diagonal(matrix: Tensor) -> Tensor:
    """`(N, N)` -> `(N, N - 1)`."""
    count = len(matrix)
    return matrix[~torch.eye(count, dtype=torch.bool, device=matrix.device)].view(count, count - 1)


def _distances(a: Tensor, b: Tensor | None = None) -> Tensor:
    """Euclidean distances `(N, N)`; the gradient of the distance 0 is 0, not NaN."""
    square = (a.unsqueeze(0) - (a if b is None else b).unsqueeze(1)).square().sum(-1)
    zero = square == 0
    return square.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)
