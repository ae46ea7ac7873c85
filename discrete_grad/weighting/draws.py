"""Draws from weights, as pure functions of uniform noise; samples lie along the first dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from discrete_grad.weighting.tilt import check_some, table_expectation

__all__ = ["WeightedSamples", "effective_size", "inverse_draw", "log_mean_exp", "systematic_draw"]

_JUST_BELOW = 1 - 2**-52  # a number below the total, so that a weight of its own holds it


@dataclass(frozen=True)
class WeightedSamples:
    """Weighted rows, the result of every sampler.

    Args:
        codes: `(N, *batch, F)`.
        log_weights: `(N, *batch)`, whose exponentials sum to 1 in each context.
        evaluations: evaluations of the reward a context.
        log_z: estimate `(*batch)` of log Z in nats, where the sampler has one.
        log_z_interval: its lower and upper end, each `(*batch)`, where it has one; infinite where
            nothing is known.
        diagnostics: further numbers by name, each `(*batch)`.

    Example:
        >>> codes = torch.tensor([[0], [1]])
        >>> samples = WeightedSamples(codes, torch.tensor([0.25, 0.75]).log(), evaluations=2)
        >>> samples.expectation(codes[:, 0]), samples.effective_size
        (tensor(0.7500, dtype=torch.float64), tensor(1.6000, dtype=torch.float64))
    """

    codes: Tensor
    log_weights: Tensor
    evaluations: int
    log_z: Tensor | None = None
    log_z_interval: tuple[Tensor, Tensor] | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)

    @property
    def weights(self) -> Tensor:
        """`(N, *batch)`, at least 0, summing to 1 in each context."""
        return self.log_weights.double().exp()

    @property
    def effective_size(self) -> Tensor:
        """`(*batch)`, from 1 to N; see `effective_size`."""
        return effective_size(self.log_weights)

    def expectation(self, values: Tensor) -> Tensor:
        """Weighted mean `(*batch, ...)` of values `(N, *batch, ...)`."""
        extra = values.dim() - self.log_weights.dim()
        log_weights = self.log_weights[(..., *[None] * extra)] if extra else self.log_weights
        return table_expectation(log_weights, values)


def effective_size(log_weights: Tensor) -> Tensor:
    """`(sum w)^2 / sum w^2` `(*batch)` of log-weights `(N, *batch)`, from 1 to N; 0 without weight.

    Reference:
        Kong (1992), "A note on importance sampling using standardized weights".

    Example:
        >>> effective_size(torch.zeros(5))
        tensor(5., dtype=torch.float64)
    """
    w = _scaled(log_weights)
    # without weight 0 / tiny instead of 0 / 0
    return w.sum(0).square() / w.square().sum(0).clamp_min(torch.finfo(torch.float64).tiny)


def log_mean_exp(log_values: Tensor) -> Tensor:
    """`log mean exp` `(*batch)` over the first dimension.

    Example:
        >>> log_mean_exp(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
        tensor(-0.6931, dtype=torch.float64)
    """
    return log_values.double().logsumexp(0) - math.log(len(log_values))


def inverse_draw(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Indices `(n, *batch)` into the first dimension of log-weights `(N, *batch)`, independent.

    Args:
        log_weights: need not be normalised; an entry of `-inf` is never drawn.
        uniform: `(n, *batch)` in [0, 1).

    Example:
        >>> inverse_draw(torch.tensor([0.5, 0.0, 0.5]).log(), torch.tensor([0.1, 0.6, 0.9]))
        tensor([0, 2, 2])
    """
    cumulative = _scaled(log_weights).movedim(0, -1).contiguous().cumsum(-1)
    target = uniform.double().movedim(0, -1).contiguous() * (cumulative[..., -1:] * _JUST_BELOW)
    # only a context without any weight reaches past the end
    index = torch.searchsorted(cumulative, target, right=True).clamp_max(len(log_weights) - 1)
    return index.movedim(-1, 0)


def systematic_draw(log_weights: Tensor, offset: Tensor) -> Tensor:
    """Indices `(N, *batch)`, as many as weights, evenly spaced: weight w gets `N w` rounded.

    Args:
        log_weights: `(N, *batch)`, not necessarily normalised.
        offset: `(*batch)` in [0, 1).

    Reference:
        Kitagawa (1996), "Monte Carlo filter and smoother for non-Gaussian nonlinear state space
        models", section on stratification.

    Example:
        >>> systematic_draw(torch.tensor([0.5, 0.25, 0.25, 0.0]).log(), torch.tensor(0.5))
        tensor([0, 0, 1, 2])
    """
    count = len(log_weights)
    steps = torch.arange(count, device=offset.device, dtype=torch.float64)
    # the last point may round to 1, which `inverse_draw` keeps below the total
    return inverse_draw(log_weights, (steps.view(-1, *[1] * offset.dim()) + offset) / count)


def normalised(log_weights: Tensor) -> Tensor:
    """Log-weights `(N, *batch)` whose exponentials sum to 1; an error where there is none."""
    wide = log_weights.double()
    best = wide.amax(0)
    check_some(best > -math.inf, f"all {len(log_weights)} rows drawn are forbidden; draw more")
    # a sum of huge ones, taken away at once, would round to the largest of them
    small = wide - best
    return small - small.logsumexp(0)


def take_samples(codes: Tensor, index: Tensor) -> Tensor:
    """Rows `(n, *batch, F)` of codes `(N, *batch, F)` at indices `(n, *batch)`."""
    return codes.gather(0, index.unsqueeze(-1).expand(*index.shape, codes.shape[-1]))


def _scaled(log_weights: Tensor) -> Tensor:
    """Weights of at most 1, all 0 in a context without any."""
    best = log_weights.double().amax(0)
    return (log_weights.double() - best.masked_fill(best == -math.inf, 0)).exp()
