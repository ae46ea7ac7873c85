"""Importance sampling, with what tells whether to believe it, and resampling by its weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.policies import Policy
from discrete_grad.policies.protocol import batch_of, drawn_rows, require, row_log_probs
from discrete_grad.sampling import uniform
from discrete_grad.weighting._intervals import log_z_with_interval
from discrete_grad.weighting.draws import (
    WeightedSamples,
    inverse_draw,
    normalised,
    take_samples,
)
from discrete_grad.weighting.reward_weighted import RewardWeighted
from discrete_grad.weighting.tilt import scaled_reward

__all__ = ["importance_sampling", "pareto_k", "resampled_importance"]


@torch.no_grad()
def importance_sampling(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 1024,
    *,
    proposal: Policy | None = None,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """Rows of a proposal, weighted to represent the target (self-normalised).

    `exp(log_z)` is unbiased, `log_z` low by about half its variance. The interval is 95 % by
    Hall's correction for skewness. Where `pareto_k` is above `min(1 - 1 / log10(count), 0.7)` that
    would miss far more often: there the upper end is infinite, and the lower one Markov's, `log_z -
    log 40`, which holds for weights of any law.

    Args:
        target: the distribution wanted.
        context: `(*batch, C)`, or None.
        count: rows a context.
        proposal: what rows are drawn from, positive wherever the target is; by default the
            target's reference.
        generator: source of the noise.

    Returns:
        Samples with `log_z`, its interval and the diagnostic `pareto_k`.

    Raises:
        ValueError: where every row drawn for a context is forbidden.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> samples = importance_sampling(target, count=100)
        >>> samples.codes.shape, round(samples.weights.sum().item(), 6)
        (torch.Size([100, 2]), 1.0)
    """
    _check_count(count)
    codes, log_weights = weighted_rows(target, context, count, proposal, generator)
    shape = pareto_k(log_weights)
    log_z, interval = log_z_with_interval(log_weights, shape)
    return WeightedSamples(
        codes, normalised(log_weights), count, log_z, interval, {"pareto_k": shape}
    )


@torch.no_grad()
def resampled_importance(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 16,
    *,
    pool: int = 1024,
    proposal: Policy | None = None,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """Sampling-importance-resampling: rows drawn from a weighted pool, of equal weight.

    Their law tends to the target's as the pool grows; given the pool they are independent, with
    replacement. Arguments, `log_z` and errors as in `importance_sampling`.

    Reference:
        Rubin (1988), "Using the SIR algorithm to simulate posterior distributions".

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> resampled_importance(target, count=5).codes.shape
        torch.Size([5, 2])
    """
    _check_count(count)
    drawn = importance_sampling(target, context, pool, proposal=proposal, generator=generator)
    noise = uniform((count, *batch_of(context)), device=drawn.codes.device, generator=generator)
    codes = take_samples(drawn.codes, inverse_draw(drawn.log_weights, noise))
    return WeightedSamples(
        codes, equal_weights(codes), pool, drawn.log_z, drawn.log_z_interval, drawn.diagnostics
    )


def pareto_k(log_weights: Tensor) -> Tensor:
    """Shape k `(*batch)` of a generalised Pareto distribution fitted to the largest weights.

    Below 0.5 the weights have a finite variance, above 0.7 nothing averaged by them is to be
    trusted. The tail are the `min(N / 5, 3 sqrt(N))` largest; with fewer than 5 weights above the
    rest there is nothing to fit: `inf`, or `-inf` where none is above (equal weights).

    Args:
        log_weights: `(N, *batch)`, not necessarily normalised.

    Reference:
        Vehtari, Simpson, Gelman, Yao, Gabry (2024), arXiv 1507.02646, section 3 and appendix on
        the weakly informative prior; Zhang and Stephens (2009) for the fit.

    Example:
        >>> pareto_k(torch.zeros(100))
        tensor(-inf, dtype=torch.float64)
    """
    flat = log_weights.double().reshape(len(log_weights), -1)
    shapes = [_tail_shape(column) for column in flat.unbind(-1)]
    return torch.stack(shapes).view(log_weights.shape[1:]) if shapes else log_weights.sum(0)


def equal_weights(codes: Tensor) -> Tensor:
    """Normalised log-weights `(N, *batch)` of codes `(N, *batch, F)` that all count the same."""
    shape = codes.shape[:-1]
    return torch.full(shape, -math.log(len(codes)), dtype=torch.float64, device=codes.device)


def weighted_rows(
    target: RewardWeighted,
    context: Tensor | None,
    count: int,
    proposal: Policy | None,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Codes `(count, *batch, F)` and log-weights `(count, *batch)`, not normalised."""
    if proposal is None:  # the reference cancels
        codes = drawn_rows(target.reference, context, count, generator=generator)
        return codes, scaled_reward(target.rewards(codes, context), target.beta)
    require("importance sampling", proposal, "sample", "log_prob")
    codes = drawn_rows(proposal, context, count, generator=generator)
    drawn_at = row_log_probs(proposal, codes, context).double()
    return codes, target.log_density(codes, context) - drawn_at


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")


def _tail_shape(log_weights: Tensor) -> Tensor:
    count = len(log_weights)
    length = math.ceil(min(count / 5, 3 * math.sqrt(count)))
    best = log_weights.max()
    ordered = (log_weights - best.masked_fill(best == -math.inf, 0)).exp().sort().values
    tail = ordered[-length:] - ordered[-length - 1 :][0] if count > length else ordered * 0
    tail = tail[tail > 0]
    if len(tail) < 5:
        # from 25 rows on the tail has 5 places: if none lies above the rest, weights are equal
        return log_weights.new_tensor(-math.inf if count >= 25 and not len(tail) else math.inf)
    shape = _pareto_shape(tail)
    # the prior: 10 observations of k = 0.5
    return (len(tail) * shape + 5) / (len(tail) + 10)


def _pareto_shape(exceedances: Tensor) -> Tensor:
    """Zhang and Stephens's estimate of k from positive exceedances `(n,)`, ascending."""
    n = len(exceedances)
    grid = 30 + math.isqrt(n)
    steps = torch.arange(1, grid + 1, dtype=torch.float64, device=exceedances.device)
    # the paper counts from 1
    quartile = exceedances[int(n / 4 + 0.5) - 1]
    # all below 1 / the largest exceedance, beyond which log1p would leave its domain
    theta = 1 / exceedances[-1] + (1 - (grid / (steps - 0.5)).sqrt()) / (3 * quartile)
    # at 0, the exponential law, -theta / shape would be 0 / 0
    theta = theta.where(theta != 0, torch.finfo(torch.float64).eps)
    shapes = torch.log1p(-theta.unsqueeze(-1) * exceedances).mean(-1)
    fit = n * ((-theta / shapes).log() - shapes - 1)
    # the mean of theta under its profile likelihood on the grid
    best = (fit.softmax(0) * theta).sum()
    return torch.log1p(-best * exceedances).mean()
