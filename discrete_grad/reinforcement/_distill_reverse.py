"""Reverse KL to a reward-weighted distribution, `KL(policy || ref e^(r / beta) / Z)`, by sampling.

Every loss is the divergence less `log Z`, which does not depend on the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.gradient import GradientEstimator, LeaveOneOut, Relaxation, on_codes
from discrete_grad.gradient.base import Function, score_function
from discrete_grad.objectives import leave_one_out
from discrete_grad.policies import IndependentPolicy, Policy, SequentialPolicy
from discrete_grad.policies.independent import is_independent
from discrete_grad.policies.protocol import drawn_rows, require, row_log_probs
from discrete_grad.reinforcement._contexts import Batch, context_name
from discrete_grad.space import can_inspect
from discrete_grad.weighting import RewardWeighted
from discrete_grad.weighting.tilt import scaled_reward

__all__: list[str] = []


def reverse_loss(
    policy: Policy, batch: Batch, method: GradientEstimator, *, samples: int
) -> Tensor:
    """Mean over the batch of `KL(policy || target) - log Z`, differentiable by the method.

    Args:
        policy: what is trained.
        batch: contexts, target and noise.
        method: see `check_method`; it says how many rows a context are drawn.
        samples: rows a context for the divergence from the reference, where a relaxation
            differentiates the reward of a policy whose features depend on one another; at least 2.
    """
    if is_independent(policy):
        return _independent(policy, batch, method)
    if isinstance(method, Relaxation):
        relaxable = cast(SequentialPolicy[Any], policy)
        rows = relaxable.relaxed(batch.context, method.samples, method, generator=batch.noise)
        reward = _checked(_reward(batch), batch.index)(rows).mean()
        return _by_score(policy, batch.target.reference.log_prob, batch, samples) - reward
    return _by_score(policy, batch.target.log_density, batch, method.samples)


def check_method(policy: Policy, target: RewardWeighted, method: GradientEstimator) -> None:
    """Raise unless the gradient estimator can differentiate this divergence."""
    name = type(method).__name__
    if is_independent(policy):
        if method.space != policy.space:
            raise ValueError(f"{name} must be of the policy's {policy.space}, got {method.space}")
        if method.facts.needs_derivative and not is_independent(target.reference):
            raise ValueError(
                f"{name} needs a derivative in the row, and log ref of a "
                f"{type(target.reference).__name__} has none; use LeaveOneOut, LocalExpectation or "
                "another gradient estimator that needs none, or a reference with logits"
            )
    elif isinstance(method, Relaxation):
        require(name, policy, "relaxed")
        if method.space is not None:
            raise ValueError(f"features are drawn one at a time: {name} must have no space")
    elif not isinstance(method, LeaveOneOut):
        raise ValueError(
            f"{name} needs the logits of independent features; a {type(policy).__name__} takes "
            "LeaveOneOut, or a Relaxation made without a space"
        )


def _independent(policy: IndependentPolicy, batch: Batch, method: GradientEstimator) -> Tensor:
    """The entropy is exact, and so is the cross-entropy with a reference alike."""
    space, reference = policy.space, batch.target.reference
    logits = policy.logits(batch.context)
    space.check_logits(logits)
    if is_independent(reference):
        with torch.no_grad():
            prior_logits = reference.logits(batch.context).double()
        prior, worth = space.kl_divergence(logits, prior_logits), _reward(batch)
    else:
        prior, worth = -space.entropy(logits), _log_density(batch)
    f = worth if method.facts.needs_derivative else on_codes(space, worth)
    expected = method.expectation(_checked(f, batch.index), logits, generator=batch.noise)
    return (prior - expected).mean()


def _by_score(
    policy: Policy,
    log_density: Callable[[Tensor, Tensor | None], Tensor],
    batch: Batch,
    samples: int,
) -> Tensor:
    """Score function with a leave-one-out baseline; the cost's own derivative has mean 0.

    Reference:
        Richter et al. (2020), arXiv 2010.10436, equation 8.
    """
    with torch.no_grad():
        codes = drawn_rows(policy, batch.context, samples, generator=batch.noise)
        wanted = log_density(codes, batch.context).double()
    _check_possible(wanted, batch.index)
    log_p = row_log_probs(policy, codes, batch.context).double()
    cost = log_p.detach() - wanted
    return score_function(cost, leave_one_out(cost), log_p).mean()


def _reward(batch: Batch) -> Function:
    target = batch.target
    return lambda rows: scaled_reward(target.rewards(rows, batch.context), target.beta)


def _log_density(batch: Batch) -> Function:
    return lambda rows: batch.target.log_density(rows, batch.context)


def _checked(worth: Function, index: Tensor | None) -> Function:
    """The same in the rows' dtype; an error for what has no derivative, or is worth `-inf`."""

    def checked(rows: Tensor) -> Tensor:
        values = worth(rows)
        if rows.requires_grad and not values.requires_grad:
            raise ValueError(
                "the reward has no derivative in the row; use a gradient estimator that needs "
                "none, such as LeaveOneOut"
            )
        _check_possible(values.detach(), index)
        return values.to(rows.dtype)

    return checked


def _check_possible(values: Tensor, index: Tensor | None) -> None:
    """Raise for a row `(S, *batch)` that the policy draws and the target forbids."""
    if can_inspect(values) and (values == -torch.inf).any():
        place = tuple((values == -torch.inf).nonzero()[0].tolist())[1:]
        raise ValueError(
            f"{context_name(index, place)}: the policy draws a row that the target forbids, where "
            "the reverse KL is infinite; use method 'forward', or forbid it in the policy too"
        )
