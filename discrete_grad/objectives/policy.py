"""Losses on the generator's distribution: expected score, reference, entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from discrete_grad.gradient import GradientEstimator
from discrete_grad.gradient.base import Function
from discrete_grad.space import CategoricalSpace

__all__ = ["entropy_bonus", "expected_score_loss", "kl_to_reference"]


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
