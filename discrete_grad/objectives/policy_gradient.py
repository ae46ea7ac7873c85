"""Losses on log-probabilities of rows drawn: policy gradients, values, weighted regression.

Log-probabilities and advantages are `(G, *batch, T)`: G rows a context, T steps a row. All losses
sum over the steps of a row and average over the rows.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from discrete_grad.objectives._shapes import check_same_shape

__all__ = [
    "WeightRule",
    "advantage_weighted_loss",
    "importance_weights",
    "policy_gradient_loss",
    "ppo_loss",
    "value_loss",
]

WeightRule = Literal["none", "clip", "drop"]
"""Treatment of importance weights above a bound: kept, lowered to it, or set to 0."""


def policy_gradient_loss(
    log_probs: Tensor, advantages: Tensor, *, weights: Tensor | None = None
) -> Tensor:
    """`-mean of sum_t A_t log pi(x_t)`: its gradient is minus the policy gradient.

    Args:
        log_probs: `(G, *batch, T)`, of the policy that is trained.
        advantages: `(G, *batch, T)`; no gradient flows through them.
        weights: `(G, *batch)` of the rows; None for 1 each.

    Reference:
        Williams (1992), "Simple statistical gradient-following algorithms", theorem 1.

    Example:
        >>> policy_gradient_loss(torch.tensor([[-1.0, -2.0]]), torch.tensor([[1.0, 0.5]]))
        tensor(2.)
    """
    check_same_shape(log_probs=log_probs, advantages=advantages)
    return -_mean_of_rows(advantages.detach() * log_probs, weights)


def ppo_loss(
    log_probs: Tensor,
    old_log_probs: Tensor,
    advantages: Tensor,
    *,
    clip: float = 0.2,
    weights: Tensor | None = None,
) -> Tensor:
    """`-mean of sum_t min(rho_t A_t, clamp(rho_t, 1 - clip, 1 + clip) A_t)`, rho = pi / pi_old.

    At the policy that drew the rows its gradient is that of `policy_gradient_loss`.

    Args:
        log_probs: `(G, *batch, T)`, of the policy that is trained.
        old_log_probs: of the policy that drew the rows.
        advantages: `(G, *batch, T)`.
        clip: above 0.
        weights: `(G, *batch)` of the rows; None for 1 each.

    Raises:
        ValueError: for a clip that is not above 0, or shapes that differ.

    Reference:
        Schulman et al. (2017), arXiv 1707.06347, equation 7.

    Example:
        >>> old = torch.zeros(1, 2)
        >>> ppo_loss(old + 1, old, torch.tensor([[1.0, -1.0]]))
        tensor(1.5183)
    """
    check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages)
    if not clip > 0:
        raise ValueError(f"clip must be above 0, got {clip}")
    ratio, advantages = (log_probs - old_log_probs.detach()).exp(), advantages.detach()
    within = ratio.clamp(1 - clip, 1 + clip)
    return -_mean_of_rows(torch.minimum(ratio * advantages, within * advantages), weights)


def value_loss(values: Tensor, returns: Tensor, *, weights: Tensor | None = None) -> Tensor:
    """Half the squared error, mean over rows and steps; both `(G, *batch, T)`.

    Example:
        >>> value_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor(1.)
    """
    check_same_shape(values=values, returns=returns)
    errors = (values - returns.detach()).square() / 2
    # `_mean_of_rows` sums over the steps
    return _mean_of_rows(errors, weights) / values.shape[-1]


def advantage_weighted_loss(
    log_probs: Tensor,
    advantages: Tensor,
    *,
    temperature: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Log-loss of the rows, weighted by `exp(A / temperature)`, normalised within a context.

    For rows of a reference, its minimiser is `reference exp(A / temperature) / Z`.

    Args:
        log_probs: `(G, *batch)` of whole rows.
        advantages: `(G, *batch)`; what they have in common within a context does not matter.
        temperature: above 0, in the advantages' unit.
        weights: `(G, *batch)` of the rows, at least 0; None for 1 each.

    Raises:
        ValueError: for a temperature that is not above 0, or shapes that differ.

    Reference:
        Peng et al. (2019), arXiv 1910.00177, algorithm 1.

    Example:
        >>> advantage_weighted_loss(torch.tensor([-1.0, -3.0]), torch.tensor([0.0, 0.0]))
        tensor(2.)
    """
    check_same_shape(log_probs=log_probs, advantages=advantages)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    exponents = advantages.detach() / temperature
    if weights is None:
        return -(exponents.softmax(0) * log_probs).sum(0).mean()
    # w exp(A / t) in logarithms, so that one softmax normalises both; a row of weight 0 is left out
    # altogether, whatever its log-probability, and so is a context without any other
    counted = weights > 0
    shares = (exponents + weights.log()).where(counted, -torch.inf).softmax(0)
    terms = torch.where(counted, shares * log_probs.where(counted, 0), 0)
    return -terms.sum(0).mean()


def importance_weights(
    log_ratio: Tensor, *, bound: float = math.inf, rule: WeightRule = "clip"
) -> Tensor:
    """`pi / pi_old` of whole rows, without gradient; their bias and variance set by a bound.

    Args:
        log_ratio: `log pi - log pi_old` `(...)` of rows that pi_old drew.
        bound: above 0.
        rule: "none" (unbiased), "clip" to the bound, or "drop" those above it.

    Returns:
        `(...)`, at least 0.

    Raises:
        ValueError: for a bound that is not above 0, or another rule.

    Reference:
        Ionides (2008), "Truncated importance sampling", equation 2 for "clip".

    Example:
        >>> importance_weights(torch.tensor([0.0, 1.0]), bound=2.0)
        tensor([1., 2.])
        >>> importance_weights(torch.tensor([0.0, 1.0]), bound=2.0, rule="drop")
        tensor([1., 0.])
    """
    if not bound > 0 or rule not in ("none", "clip", "drop"):
        raise ValueError(f"bound must be above 0 and rule none, clip or drop, got {bound}, {rule}")
    weights = log_ratio.detach().exp()
    if rule == "clip":
        return weights.clamp_max(bound)
    return weights if rule == "none" else weights.masked_fill(weights > bound, 0)


def _mean_of_rows(per_step: Tensor, weights: Tensor | None) -> Tensor:
    rows = per_step.sum(-1)
    if weights is not None:
        check_same_shape(rows=rows, weights=weights)
        rows = rows * weights.detach()
    return rows.mean()
