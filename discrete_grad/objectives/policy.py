"""Losses on the generator's distribution: expected score, reference, entropy, diversity, data."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient import GradientEstimator
from discrete_grad.gradient.base import Function
from discrete_grad.space import CategoricalSpace, is_codes

__all__ = [
    "diversity_bonus",
    "entropy_bonus",
    "expected_score_loss",
    "hamming_excess",
    "kl_to_reference",
]


def expected_score_loss(
    gradient_estimator: GradientEstimator,
    f: Function,
    logits: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`-E[f(row)]`, averaged over the batch, through any gradient estimator.

    Args:
        gradient_estimator: the method.
        f: flat rows `(samples, *batch, D)` -> scores `(samples, *batch)`.
        logits: `(*batch, D)`.
        generator: source of the noise.

    Example:
        >>> from discrete_grad.gradient import Softmax
        >>> expected_score_loss(Softmax(), lambda rows: rows[..., 0], torch.zeros(3, 4))
        tensor(-0.2500)
    """
    return -gradient_estimator.expectation(f, logits, generator=generator).mean()


def kl_to_reference(space: CategoricalSpace, logits: Tensor, reference: Tensor) -> Tensor:
    """Mean `KL(generator || reference)` in nats over the batch; both are logits `(..., D)`.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> kl_to_reference(space, torch.zeros(4, 5), torch.zeros(4, 5))
        tensor(0.)
    """
    return space.kl_divergence(logits, reference).mean()


def entropy_bonus(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """Mean entropy in nats over the batch, to be subtracted from a loss.

    Example:
        >>> entropy_bonus(CategoricalSpace.from_sizes((2, 2)), torch.zeros(3, 4))
        tensor(1.3863)
    """
    return space.entropy(logits).mean()


def diversity_bonus(space: CategoricalSpace, logits: Tensor) -> Tensor:
    """Mean expected Hamming distance of two independent rows of one context, to be subtracted.

    `F - sum_i p_i . p_i`, in features, from 0 for a generator that always writes one row to
    `F - sum_i 1 / K_i` for a uniform one. Where the entropy also rewards the last bit of a category
    nearly never drawn, this one counts only what two draws show.

    Example:
        >>> diversity_bonus(CategoricalSpace.from_sizes((2, 4)), torch.zeros(3, 6))
        tensor(1.2500)
    """
    same = space.softmax(logits).square().sum(-1)
    return (space.num_features - same).mean()


def hamming_excess(
    space: CategoricalSpace, logits: Tensor, rows: Tensor, *, radius: float
) -> Tensor:
    """Expected distance by which drawn rows lie outside a Hamming ball around the nearest row.

    The expected Hamming distance to a row is exact: the sum over the features of the probability of
    any other category. O(N D) a context.

    Args:
        space: the space.
        logits: `(..., D)`.
        rows: codes `(N, F)` or flat `(N, D)` of rows to stay near, N at least 1.
        radius: features in which a row may differ without any loss, at least 0.

    Returns:
        Mean over the batch of `max(0, distance to the nearest row - radius)`, in features.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 2))
        >>> hamming_excess(space, torch.zeros(4), torch.tensor([[0, 1]]), radius=0.25)
        tensor(0.7500)
    """
    if not len(rows) or not radius >= 0:
        raise ValueError(f"needs a row and a radius of 0 or more, got {len(rows)} and {radius}")
    flat = space.one_hot(rows, dtype=logits.dtype) if is_codes(rows) else rows
    kept = space.softmax(logits) @ flat.T
    distance = space.num_features - kept.amax(-1)
    return (distance - radius).clamp_min(0).mean()
