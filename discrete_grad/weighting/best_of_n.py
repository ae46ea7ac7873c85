"""Best of n draws, hard and soft, and the exact laws of both."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.policies.protocol import batch_of, drawn_rows
from discrete_grad.sampling import gumbel_like
from discrete_grad.weighting._intervals import log_z_with_interval
from discrete_grad.weighting.draws import WeightedSamples, normalised, take_samples
from discrete_grad.weighting.importance import equal_weights, pareto_k
from discrete_grad.weighting.reward_weighted import RewardWeighted
from discrete_grad.weighting.segments import segment_logsumexp
from discrete_grad.weighting.tilt import check_beta, check_reward, scaled_reward

__all__ = ["best_of_n", "best_of_n_law", "soft_best_of_n", "soft_best_of_n_law"]

_STEP = 1 / 8  # of the quadrature: an error of about exp(-pi^2 / step)
_LEFT, _RIGHT = 40, 5  # beyond them exp(s - exp(s)) is below 1e-17 of its integral
_NODES = 2**22  # rows times nodes at once


@torch.no_grad()
def best_of_n(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 1,
    *,
    n: int = 16,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """Rows, each with the highest reward among n draws of the reference; beta is not used.

    The first among equals is kept, and a forbidden row only where all n are.

    Args:
        target: its reference and its reward.
        context: `(*batch, C)`, or None.
        count: rows a context, each the best of its own n.
        n: draws for a row.
        generator: source of the noise.

    Returns:
        Samples of equal weight, distributed by `best_of_n_law`.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> best_of_n(target, count=5, n=100).codes.sum(-1)
        tensor([3, 3, 3, 3, 3])
    """
    codes, reward = _pools(target, context, count, n, generator)
    codes = _winners(codes, reward, count)
    return WeightedSamples(codes, equal_weights(codes), n * count)


@torch.no_grad()
def soft_best_of_n(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 1,
    *,
    n: int = 16,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """Rows, each chosen among n draws of the reference with probability `softmax(r / beta)`.

    The law is `soft_best_of_n_law`, and the target's for large n. Where all n are forbidden they
    count the same. Arguments as in `best_of_n`; `log_z`, its interval and `pareto_k` are those of
    importance sampling.

    Reference:
        Verdun et al. (2025), "Soft best-of-n sampling for model alignment", arXiv 2505.03156.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> soft_best_of_n(target, count=5, n=4).codes.shape
        torch.Size([5, 2])
    """
    codes, reward = _pools(target, context, count, n, generator)
    scaled = scaled_reward(reward, target.beta)
    codes = _winners(codes, scaled + gumbel_like(scaled, generator=generator), count)
    flat = scaled.flatten(0, 1)
    normalised(flat)  # an error where no row drawn is allowed
    shape = pareto_k(flat)
    log_z, interval = log_z_with_interval(flat, shape)
    return WeightedSamples(
        codes, equal_weights(codes), n * count, log_z, interval, {"pareto_k": shape}
    )


def best_of_n_law(log_reference: Tensor, reward: Tensor, n: int) -> Tensor:
    """Exact log-probabilities `(R, *batch)` of `best_of_n`.

    `ref(x) (F^n - F_^n) / (F - F_)`, where F and F_ are the reference's probabilities of a reward
    of at most, and of less than, that of x: equals share what their level has.

    Args:
        log_reference: `(R, *batch)`, in nats.
        reward: `(R, *batch)`.
        n: draws, at least 1.

    Reference:
        Beirami et al. (2024), arXiv 2401.01879, lemma 1, with ties.

    Example:
        >>> law = best_of_n_law(torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]), 2)
        >>> law.exp()
        tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    _check_n(n)
    check_reward(reward, log_reference > -math.inf)
    return _per_context(lambda log_p, r: _hard_law(log_p, r, n), log_reference, reward)


def soft_best_of_n_law(
    log_reference: Tensor, reward: Tensor, beta: float | Tensor, n: int
) -> Tensor:
    """Exact log-probabilities `(R, *batch)` of `soft_best_of_n`, to about 1e-14.

    With `a = exp(r / beta)` the law is `n ref(x) a(x) E[1 / (a(x) + sum of n - 1 others)]`. Since
    `1 / s` is the integral of `exp(-t s)`, the expectation is one integral, `exp(-t a(x)) M(t)^(n -
    1)` with `M(t) = E[exp(-t a)]`; over `log t` the trapezoidal rule converges exponentially.
    Arguments as in `best_of_n_law` and `log_partition`.

    Raises:
        ValueError: for rewards more than 1e6 betas apart, where `best_of_n_law` is the limit.

    Example:
        >>> log_p, reward = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0])
        >>> soft_best_of_n_law(log_p, reward, 1.0, 1).exp()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """
    _check_n(n)
    check_beta(beta)
    check_reward(reward, log_reference > -math.inf)
    scaled = scaled_reward(reward, beta)
    return _per_context(lambda log_p, r: _soft_law(log_p, r, n), log_reference, scaled)


def _pools(
    target: RewardWeighted,
    context: Tensor | None,
    count: int,
    n: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Draws `(n, count * batch as (count, *batch), F)` and their rewards."""
    _check_n(n)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    codes = drawn_rows(target.reference, context, n * count, generator=generator)
    reward = target.rewards(codes, context)
    shape = (n, count, *batch_of(context))
    return codes.view(*shape, -1), reward.view(shape)


def _winners(codes: Tensor, value: Tensor, count: int) -> Tensor:
    """The row of the highest value of each pool: `(count, *batch, F)`."""
    return take_samples(codes, value.argmax(0, keepdim=True)).squeeze(0)


def _check_n(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")


def _per_context(law: Callable[[Tensor, Tensor], Tensor], log_p: Tensor, reward: Tensor) -> Tensor:
    """The law of each context, `(R, *batch)`."""
    log_p, reward = log_p.double(), reward.double()
    # a reference in float32 sums to 1 but roughly, and the nth power would show it
    pair = torch.broadcast_tensors(log_p - log_p.logsumexp(0), reward)
    columns = [table.reshape(len(table), -1).unbind(-1) for table in pair]
    laws = [law(*column) for column in zip(*columns, strict=True)]
    return torch.stack(laws, -1).view(pair[0].shape)


def _hard_law(log_p: Tensor, reward: Tensor, n: int) -> Tensor:
    tiny = torch.finfo(log_p.dtype).tiny
    _, level = reward.masked_fill(log_p == -math.inf, -math.inf).unique(return_inverse=True)
    mass = log_p.new_zeros(int(level.max()) + 1).index_add(0, level, log_p.exp())
    at_most = mass.cumsum(0).clamp_min(tiny)
    # F^n - F_^n = F^n (1 - (1 - mass / F)^n), accurate for a small mass
    gained = -torch.expm1(n * torch.log1p(-(mass / at_most).clamp_max(1)))
    share = n * at_most.log() + gained.log() - mass.log()
    # the limit of a mass of 0
    return log_p + share.where(mass > tiny, math.log(n) + (n - 1) * at_most.log())[level]


def _soft_law(log_p: Tensor, scaled: Tensor, n: int) -> Tensor:
    possible = (log_p > -math.inf) & (scaled > -math.inf)
    forbidden = log_p.masked_fill(scaled > -math.inf, -math.inf)
    log_q = forbidden.logsumexp(0)
    # all n forbidden: any of them is as good
    law = forbidden + (n - 1) * log_q if n > 1 else forbidden
    if possible.any():
        log_a, level = (scaled[possible] - scaled[possible].max()).unique(return_inverse=True)
        mass = segment_logsumexp(log_p[possible], level, len(log_a))
        share = math.log(n) + log_a + _log_integral(mass, log_a, log_q, n)
        law = law.masked_scatter(possible, log_p[possible] + share[level])
    return law


def _log_integral(log_mass: Tensor, log_a: Tensor, log_q: Tensor, n: int) -> Tensor:
    """Log of the integral of `exp(-t a) M(t)^(n - 1)` over t > 0 for each level a `(L,)`."""
    parts = []
    for s in _nodes(log_a).split(max(1, _NODES // len(log_a))):
        decay = (s.unsqueeze(-1) + log_a).exp()
        # log_q is the mass of the forbidden rows, for which a = 0 and exp(-t a) = 1
        log_m = torch.logaddexp((log_mass - decay).logsumexp(-1), log_q)
        # s = log t: dt = e^s ds, hence the s
        parts.append(((s + (n - 1) * log_m).unsqueeze(-1) - decay).logsumexp(0))
    return torch.stack(parts).logsumexp(0) + math.log(_STEP)


def _nodes(log_a: Tensor) -> Tensor:
    """Values of `log t` to try: around `-log a` of each level, the only places that matter."""
    if log_a.min() < -1e6:
        fault = f"rewards up to {float(-log_a.min()):.3g} betas apart"
        raise ValueError(f"{fault}; above 1e6 use best_of_n_law, the limit")
    # all levels on the same grid, so that the nodes are evenly spaced wherever the integrand is
    centre = (-log_a / _STEP).round().unique().unsqueeze(-1)
    steps = torch.arange(-_LEFT / _STEP, _RIGHT / _STEP + 1, device=log_a.device)
    nodes: Tensor = (centre + steps.double()).unique()
    return nodes * _STEP
