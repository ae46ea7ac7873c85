"""Twisted sequential Monte Carlo: rows grown feature by feature, steered by what is to come."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from discrete_grad.policies.protocol import batch_of
from discrete_grad.student import t_quantile
from discrete_grad.weighting._intervals import markov_interval
from discrete_grad.weighting.draws import WeightedSamples, normalised
from discrete_grad.weighting.particles import ParticleRun, Proposal, Twist, no_twist
from discrete_grad.weighting.reward_weighted import RewardWeighted

__all__ = ["log_z_bounds", "smc_log_z", "twisted_smc"]


@torch.no_grad()
def twisted_smc(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 64,
    *,
    twist: Twist = no_twist,
    proposal: Proposal = "twisted",
    threshold: float = 0.5,
    generator: torch.Generator | None = None,
) -> WeightedSamples:
    """Rows from particles that are weighted after each feature and resampled when few remain.

    A twist estimates `psi(prefix) = E[exp(r / beta) | prefix]` under the reference; the last one is
    the reward itself. Whatever it is, `exp(log_z)` is unbiased, so `log_z` is a lower bound of log
    Z in expectation; `smc_log_z` gives the upper one. The exact twist, the `TablePotential` of `r /
    beta`, leaves no variance at all with the proposal `twisted`; `fit_prefix_value` learns one.

    Args:
        target: its reference must have the parts of a `SequentialPolicy`.
        context: `(*batch, C)`, or None.
        count: particles N a context.
        twist: a `Potential`, or prefix -> log psi; above `-inf` wherever an allowed row can
            follow, else `log_z` is low by more than chance.
        proposal: `reference` draws from the reference's conditional; `twisted` from the conditional
            times psi, which evaluates the twist (and at last the reward) for every category.
        threshold: resample where the effective size falls below this share of N, in [0, 1];
            resampling is systematic.
        generator: source of the noise.

    Returns:
        Samples with `log_z` and the diagnostic `resampled`, how often; their law tends to the
        target's as N grows. The interval of log Z has a lower end alone, Markov's, `log_z - log
        40`: the variance that the particles' genealogy tells is unbiased for multinomial resampling
        (Lee and Whiteley 2018), but too small for a systematic one. `log_z_bounds` gives both ends.

    Raises:
        ValueError: where no particle of a context ends on an allowed row.

    Reference:
        Zhao, Brekelmans, Makhzani, Grosse (2024), arXiv 2404.17546, sections 3 and 4; Lee and
        Whiteley (2018), arXiv 1509.00394, on variances.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> samples = twisted_smc(target, count=32)
        >>> samples.codes.shape, round(samples.weights.sum().item(), 6)
        (torch.Size([32, 2]), 1.0)
    """
    smc = ParticleRun(target, context, count, twist, proposal, threshold)
    end = smc.run(None, generator)
    batch = batch_of(context)
    weights = normalised(end.log_weights.view(count, *batch))
    codes = smc.in_space_order(end.codes).view(count, *batch, -1)
    return WeightedSamples(
        codes,
        weights,
        smc.evaluations,
        end.log_z.view(batch),
        markov_interval(end.log_z.view(batch)),
        diagnostics={"resampled": end.resampled.view(batch)},
    )


@torch.no_grad()
def smc_log_z(
    target: RewardWeighted,
    context: Tensor | None = None,
    count: int = 64,
    *,
    exact_rows: Tensor | None = None,
    twist: Twist = no_twist,
    proposal: Proposal = "twisted",
    threshold: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One SMC estimate `(*batch)` of log Z: a lower bound in expectation, or an upper one.

    With a row drawn exactly from the target, the run keeps that row as one of its particles
    (conditional SMC): the law of the run is then tilted by its own estimate of Z, and
    `E[exp(-log_z)] <= 1 / Z`, so by Jensen `E[log_z]` is at least log Z. Average several runs.

    Args:
        target: as in `twisted_smc`, whose other arguments these are.
        context: `(*batch, C)`, or None.
        count: particles a context.
        exact_rows: codes `(*batch, F)`, one exact draw of the target each, for the upper bound.
        twist: a `Potential`, or prefix -> log psi.
        proposal: what particles are drawn from.
        threshold: resample below this share.
        generator: source of the noise.

    Returns:
        `(*batch)` in nats; `-inf` without exact rows where no particle ends on an allowed row.

    Raises:
        ValueError: for an exact row that is forbidden, by the reward or the twist.

    Reference:
        Zhao et al. (2024), arXiv 2404.17546, section 5, proposition 5.1; Andrieu, Doucet and
        Holenstein (2010) for conditional SMC.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 1.0 * rows.sum(-1), 1.0)
        >>> (row,) = target.sample()
        >>> smc_log_z(target, exact_rows=row).shape
        torch.Size([])
    """
    smc = ParticleRun(target, context, count, twist, proposal, threshold)
    if exact_rows is not None:
        target.space.check_codes(exact_rows)
        expected = (*batch_of(context), target.space.num_features)
        if exact_rows.shape != expected:
            raise ValueError(f"exact rows must be {expected}, got {tuple(exact_rows.shape)}")
        exact_rows = exact_rows[..., list(smc.reference.order)].view(-1, expected[-1])
    return smc.run(exact_rows, generator).log_z.view(batch_of(context))


@torch.no_grad()
def log_z_bounds(
    target: RewardWeighted,
    exact_rows: Tensor,
    context: Tensor | None = None,
    count: int = 64,
    *,
    twist: Twist = no_twist,
    proposal: Proposal = "twisted",
    threshold: float = 0.5,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower and upper bound `(*batch)` of log Z, together an interval of at least 95 %.

    The mean of several runs of `smc_log_z` of either kind, less or plus as many standard errors as
    Student's t has it, so that each is missed with a probability of about 2.5 % or less.

    Args:
        target: as in `twisted_smc`, whose other arguments these are.
        exact_rows: codes `(runs, *batch, F)`, exact draws of the target, at least 2 runs.
        context: `(*batch, C)`, or None.
        count: particles a context.
        twist: a `Potential`, or prefix -> log psi.
        proposal: what particles are drawn from.
        threshold: resample below this share.
        generator: source of the noise.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.policies import Generator
        >>> reference = Generator(CategoricalSpace.from_sizes((2, 3)))
        >>> target = RewardWeighted(reference, lambda rows, context: 0.0 * rows.sum(-1), 1.0)
        >>> [abs(bound) < 1e-6 for bound in log_z_bounds(target, target.sample(count=2))]
        [tensor(True), tensor(True)]
    """
    if len(exact_rows) < 2:
        raise ValueError(f"bounds need at least 2 exact rows a context, got {len(exact_rows)}")

    def estimate(row: Tensor | None) -> Tensor:
        return smc_log_z(
            target,
            context,
            count,
            exact_rows=row,
            twist=twist,
            proposal=proposal,
            threshold=threshold,
            generator=generator,
        )

    lower = torch.stack([estimate(None) for _ in exact_rows])
    upper = torch.stack([estimate(row) for row in exact_rows])
    margin = t_quantile(0.95, len(exact_rows) - 1) / math.sqrt(len(exact_rows))
    # a run without any weight says nothing from below
    spread = lower.masked_fill(lower.isinf(), 0).std(0)
    return lower.mean(0) - margin * spread, upper.mean(0) + margin * upper.std(0)
