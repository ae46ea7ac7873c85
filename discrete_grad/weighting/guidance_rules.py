"""The formulas of guidance: from several models' log-probabilities to those of one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "guided_log_probs",
    "jensen_weights",
    "nucleus",
    "tilted_log_probs",
    "top_k",
    "z_scored_weights",
]

_FLOOR = 1e4  # nats; stands for minus infinity where a negative weight would turn it around


def guided_log_probs(
    base: Tensor, conditionals: Tensor, weights: Tensor, *, gamma: float, smoothing: float = 0.0
) -> Tensor:
    """Log-probabilities `(..., K)` of `log p + gamma sum_y w(y) [log p(. | y) - log p]`.

    A category that the unconditional model forbids stays forbidden; where every category would be,
    the unconditional model stands.

    Args:
        base: log-probabilities `(..., K)`.
        conditionals: `(S, ..., K)`, log-probabilities given each attribute vector.
        weights: `(S,)` or `(S, ...)`, of either sign.
        gamma: strength, from 0 on.
        smoothing: share in [0, 1) of the unconditional model in the conditional ones.

    Example:
        >>> base, given = torch.tensor([0.5, 0.5]).log(), torch.tensor([[0.2, 0.8]]).log()
        >>> guided_log_probs(base, given, torch.ones(1), gamma=1.0).exp()
        tensor([0.2000, 0.8000])
    """
    ratio = log_ratio(base, conditionals, smoothing)
    weights = weights.view(*weights.shape, *(1,) * (ratio.dim() - weights.dim()))
    bounded = torch.where(weights < 0, ratio.clamp_min(-_FLOOR), ratio)
    # a weight of 0 times -inf would be NaN
    direction = (weights * bounded).masked_fill(weights == 0, 0).sum(0)
    return tilted_log_probs(base, direction, gamma)


def tilted_log_probs(base: Tensor, direction: Tensor, gamma: float) -> Tensor:
    """Normalised `base + gamma * direction` `(..., K)`; the base where nothing is left.

    Example:
        >>> base, direction = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 3.0]).log()
        >>> tilted_log_probs(base, direction, 1.0).exp()
        tensor([0.2500, 0.7500])
    """
    # 0 * -inf would be NaN
    if gamma == 0:
        return base
    logits = base + gamma * direction
    dead = (logits == -math.inf).all(-1, keepdim=True)
    return torch.where(dead, base, logits).log_softmax(-1)


def z_scored_weights(reward: Tensor, prior: Tensor) -> Tensor:
    """`p(y) (r(y) - E[r]) / sd[r]` `(S,)`, moments under the prior; 0 for a constant reward.

    Example:
        >>> z_scored_weights(torch.tensor([0.0, 2.0]), torch.tensor([0.5, 0.5]))
        tensor([-0.5000,  0.5000])
    """
    centred = reward - (prior * reward).sum()
    deviation = (prior * centred.square()).sum().sqrt()
    negligible = deviation <= 1e-6 * reward.abs().max()  # differences are rounding errors
    return torch.where(negligible, 0.0, prior * centred / deviation)


def jensen_weights(reward: Tensor, prior: Tensor) -> Tensor:
    """`p(y) r(y) / E[r]` `(S,)` for rewards from 0 on.

    Example:
        >>> jensen_weights(torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5]))
        tensor([0.2500, 0.7500])
    """
    weights = prior * reward
    return weights / weights.sum()


def top_k(log_probs: Tensor, *, count: int) -> Tensor:
    """The `count` likeliest categories alone, normalised: `(..., K)`.

    Example:
        >>> top_k(torch.tensor([0.1, 0.3, 0.6]).log(), count=2).exp()
        tensor([0.0000, 0.3333, 0.6667])
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    kept = log_probs.topk(min(count, log_probs.shape[-1]), -1).indices
    masked = torch.full_like(log_probs, -math.inf).scatter(-1, kept, log_probs.gather(-1, kept))
    return masked.log_softmax(-1)


def nucleus(log_probs: Tensor, *, mass: float) -> Tensor:
    """The fewest likeliest categories that hold `mass` in (0, 1], normalised: `(..., K)`.

    Reference:
        Holtzman et al. (2020), arXiv 1904.09751.

    Example:
        >>> nucleus(torch.tensor([0.1, 0.3, 0.6]).log(), mass=0.8).exp()
        tensor([0.0000, 0.3333, 0.6667])
    """
    if not 0 < mass <= 1:
        raise ValueError(f"mass must be in (0, 1], got {mass}")
    ordered, place = log_probs.sort(-1, descending=True)
    probabilities = ordered.exp()
    before = probabilities.cumsum(-1) - probabilities
    # `before` is 0 for the likeliest, so that one is always kept
    ordered = ordered.masked_fill(before >= mass, -math.inf)
    return torch.empty_like(log_probs).scatter(-1, place, ordered).log_softmax(-1)


def log_ratio(base: Tensor, conditionals: Tensor, smoothing: float = 0.0) -> Tensor:
    """`log p(. | y) - log p` `(S, ..., K)`, 0 where p is 0."""
    impossible = base == -math.inf
    ratio = conditionals - base.masked_fill(impossible, 0)
    if smoothing:
        least = torch.full_like(ratio, math.log(smoothing))
        # log of ((1 - s) p(. | y) + s p) / p, finite where p(. | y) is 0
        ratio = torch.logaddexp(ratio + math.log1p(-smoothing), least)
    return ratio.masked_fill(impossible, 0)
