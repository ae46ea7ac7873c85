"""Agreement of a metric of rows with their distance, over weighted anchors."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["anchor_spearman", "precision_share", "triplet_share", "weighted_mean"]

_AT_ONCE = 2**21


def anchor_spearman(similarity: Tensor, distance: Tensor, known: Tensor, times: Tensor) -> Tensor:
    """Rank correlation of similarity and minus distance over the pairs of all anchors.

    Args:
        similarity: `(A, P)`.
        distance: `(A, P)`.
        known: bool `(A, P)`, which pairs exist.
        times: `(R, A)`, how often each anchor is there.

    Returns:
        `(R,)` in [-1, 1]; NaN where one side is constant.

    Example:
        >>> values = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
        >>> anchor_spearman(values, -values.exp(), values > 0, torch.ones(1, 2).double())
        tensor([1.], dtype=torch.float64)
    """
    anchor = known.nonzero()[:, 0]
    a, b = (side[known].unique(return_inverse=True)[1] for side in (similarity, -distance))
    size = max(1, _AT_ONCE // max(1, len(anchor)))
    return torch.cat([_correlation(a, b, part[:, anchor]) for part in times.split(size)])


def _correlation(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Of the ranks of `(P,)` and `(P,)`, each pair there `weight` `(R, P)` times."""
    x, y = (_centred_ranks(side, weight) for side in (a, b))
    scale = ((weight * x.square()).sum(1) * (weight * y.square()).sum(1)).sqrt()
    return ((weight * x * y).sum(1) / scale).clamp(-1, 1)


def _centred_ranks(level: Tensor, weight: Tensor) -> Tensor:
    """Mid-ranks of levels `(P,)` under weights `(R, P)`, of weighted mean 0."""
    levels = int(level.max()) + 1 if len(level) else 0
    mass = weight.new_zeros(len(weight), levels).index_add_(1, level, weight)
    # the middle of a level's stretch of ranks; half of the whole is their weighted mean
    return (mass.cumsum(1) - mass / 2)[:, level] - weight.sum(1, keepdim=True) / 2


def triplet_share(similarity: Tensor, distance: Tensor, known: Tensor) -> Tensor:
    """Share `(A,)` of an anchor's pairs of others in which the nearer one is the more similar.

    Equal similarities count half, equal distances not at all; NaN for an anchor without a triplet.

    Example:
        >>> similarity, distance = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0]])
        >>> triplet_share(similarity, distance, similarity > 0)
        tensor([0.6667], dtype=torch.float64)
    """
    nearer = distance.unsqueeze(2) < distance.unsqueeze(1)
    counted = nearer & known.unsqueeze(2) & known.unsqueeze(1)
    more = similarity.unsqueeze(2) > similarity.unsqueeze(1)
    equal = similarity.unsqueeze(2) == similarity.unsqueeze(1)
    right = ((more + equal / 2) * counted).sum((1, 2), dtype=torch.float64)
    return right / counted.sum((1, 2))


def precision_share(similarity: Tensor, distance: Tensor, known: Tensor, nearest: int) -> Tensor:
    """Share `(A,)` of the k most similar others that are no farther than the k-th nearest.

    Of others equally similar at the k-th place each is chosen in part. NaN for an anchor with k
    others or fewer.

    Example:
        >>> similarity, distance = torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[1.0, 2.0, 3.0]])
        >>> precision_share(similarity, distance, similarity > 0, 2)
        tensor([0.5000], dtype=torch.float64)
    """
    if nearest >= known.shape[1]:
        return torch.full((len(known),), torch.nan, dtype=torch.float64)
    similarity, nearness = (s.masked_fill(~known, -torch.inf) for s in (similarity, -distance))
    near = nearness >= _highest(nearness, nearest)
    last = _highest(similarity, nearest)
    above, tied = similarity > last, (similarity == last) & known
    part = (nearest - above.sum(1)).double() / tied.sum(1).clamp_min(1)
    right = (above & near).sum(1) + part * (tied & near).sum(1)
    return (right / nearest).masked_fill(known.sum(1) <= nearest, torch.nan)


def _highest(values: Tensor, count: int) -> Tensor:
    """The `count`-th highest of each row of `(A, P)`, `(A, 1)`."""
    return values.topk(count).values[:, -1:]


def weighted_mean(values: Tensor, times: Tensor) -> Tensor:
    """Mean `(R,)` of values `(A,)` that are there `times` `(R, A)`; NaN ones do not count.

    Example:
        >>> weighted_mean(torch.tensor([1.0, 4.0, torch.nan]), torch.tensor([[2.0, 1.0, 5.0]]))
        tensor([2.])
    """
    defined = ~values.isnan()
    counted = times[:, defined]
    return (counted * values[defined].to(times.dtype)).sum(1) / counted.sum(1)
