"""Rows that a policy drew, and what its gradient makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from discrete_grad.objectives import (
    add_shaping,
    advantage_weighted_loss,
    conditional_kl,
    diversity_advantage,
    gae,
    group_relative,
    importance_weights,
    kl_k1,
    kl_k2,
    kl_k3,
    leave_one_out,
    policy_gradient_loss,
    ppo_loss,
    standardised,
    value_loss,
)
from discrete_grad.policies import Policy, chosen_log_probs, to_steps
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig

__all__ = [
    "Rollout",
    "check_costs",
    "check_rewards",
    "policy_loss",
    "step_costs",
    "with_advantages",
]

_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


@dataclass(frozen=True)
class Rollout:
    """G rows a context, T steps a row; without gradient."""

    codes: Tensor
    """`(G, *batch, F)`, those drawn first, then those remembered."""
    context: Tensor | None
    """`(*batch, C)`."""
    rewards: Tensor
    """`(G, *batch)`."""
    log_probs: Tensor
    """`(G, *batch, T)` under the policy that drew them."""
    reference: Tensor
    """Logits `(..., D)` of the reference."""
    weights: Tensor | None = None
    """`(G, *batch)` of the rows; None for 1 each."""
    potentials: Tensor | None = None
    """`(G, *batch, T)` before each step."""
    drawn: int = 0
    """Number of the G rows that were drawn."""
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    """`(G, *batch, T)`."""
    returns: Tensor | None = None
    """`(G, *batch, T)`, what the values should have been."""

    def part(self, index: Tensor) -> Rollout:
        """Some of the rows."""
        per_row = self.reference.dim() == self.codes.dim()
        return replace(
            self,
            codes=self.codes[index],
            drawn=len(index),
            potentials=None if self.potentials is None else self.potentials[index],
            rewards=self.rewards[index],
            log_probs=self.log_probs[index],
            reference=self.reference[index] if per_row else self.reference,
            weights=None if self.weights is None else self.weights[index],
            advantages=self.advantages[index],
            returns=None if self.returns is None else self.returns[index],
        )

    def reference_steps(self, policy: Policy) -> Tensor:
        """Log-probabilities `(G, *batch, T)` under the reference."""
        return to_steps(policy, chosen_log_probs(policy.space, self.reference, self.codes))


def step_costs(policy: Policy, rollout: Rollout, logits: Tensor, config: ReinforceConfig) -> Tensor:
    """Cost of each step `(G, *batch, T)`: its divergence, less its entropy.

    Both are of the policy with these logits, which need not be the one that drew the rows.
    """
    log_probs = to_steps(policy, chosen_log_probs(policy.space, logits, rollout.codes))
    costs = config.entropy * log_probs
    if config.kl == "conditional" and config.kl_in == "reward":
        kl = to_steps(policy, conditional_kl(policy.space, logits, rollout.reference))
        # what a step brings about is the divergence at the next one; its own is in the loss
        costs = costs + config.beta * torch.cat([kl[..., 1:], torch.zeros_like(kl[..., :1])], -1)
    elif config.kl_in == "reward":
        ratio = log_probs - rollout.reference_steps(policy)
        costs = costs + config.beta * _ESTIMATES[config.kl](ratio)
    return costs


def with_advantages(
    rollout: Rollout,
    costs: Tensor,
    config: ReinforceConfig,
    *,
    values: Tensor | None = None,
    baseline: Tensor | None = None,
) -> Rollout:
    """The rollout with its advantages and returns.

    Args:
        rollout: what was drawn.
        costs: `(G, *batch, T)`, from `step_costs`.
        config: the algorithm.
        values: `(..., T)`, for algorithms that learn values.
        baseline: a number, for REINFORCE.
    """
    costs = costs.expand_as(rollout.log_probs)
    earned = torch.cat([-costs[..., :-1], (rollout.rewards - costs[..., -1]).unsqueeze(-1)], -1)
    if rollout.potentials is not None:
        earned = add_shaping(earned, rollout.potentials, gamma=config.gamma)
    returns = None
    if values is not None:
        values = values.expand_as(earned)
        advantages = gae(earned, values, gamma=config.gamma, decay=config.gae_decay)
        returns = advantages + values
    else:
        advantages = _of_rows(earned.sum(-1), config, rollout.drawn, baseline)
        advantages = advantages.unsqueeze(-1).expand_as(earned)
    if config.advantage_scale == "batch":
        advantages = standardised(advantages)
    if config.diversity:
        bonus = diversity_advantage(rollout.codes).to(advantages.dtype)
        advantages = advantages + config.diversity * bonus.unsqueeze(-1)
    return replace(rollout, advantages=advantages, returns=returns)


def _of_rows(
    earned: Tensor, config: ReinforceConfig, drawn: int, baseline: Tensor | None
) -> Tensor:
    """Advantages `(G, *batch)`; only rows that were drawn tell what is to be expected."""
    fresh, known = earned[:drawn], earned[drawn:]
    if config.algorithm == "leave_one_out":
        return torch.cat([leave_one_out(fresh), known - fresh.mean(0)])
    if config.algorithm == "group_relative":
        scale = fresh.std(0) + 1e-4
        return torch.cat([group_relative(fresh), (known - fresh.mean(0)) / scale])
    return earned if baseline is None else earned - baseline


def policy_loss(
    policy: Policy,
    rollout: Rollout,
    logits: Tensor,
    config: ReinforceConfig,
    *,
    values: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Loss, and the weights `(G, *batch)` that the rows had in it.

    Args:
        policy: what is trained.
        rollout: with advantages.
        logits: of the policy at the rows, with gradient.
        config: the algorithm.
        values: `(..., T)` with gradient, for algorithms that learn values.
    """
    log_probs = to_steps(policy, chosen_log_probs(policy.space, logits, rollout.codes))
    row, advantages = log_probs.sum(-1), rollout.advantages
    log_ratio = (row - rollout.log_probs.sum(-1)).detach()
    reuse = importance_weights(log_ratio, bound=config.weight_bound, rule=config.weight_rule)
    weights = reuse if rollout.weights is None else reuse * rollout.weights
    if config.algorithm == "ppo":
        loss = ppo_loss(
            log_probs, rollout.log_probs, advantages, clip=config.clip, weights=rollout.weights
        )
    elif config.algorithm == "advantage_weighted":
        # the mean of the steps, which are all alike
        of_row = advantages.mean(-1)
        loss = advantage_weighted_loss(row, of_row, temperature=config.temperature, weights=weights)
        # of rows of the policy the equally weighted loss has no expected gradient, but its noise
        loss = loss - advantage_weighted_loss(row, torch.zeros_like(of_row), weights=weights)
        weights = weights * (of_row / config.temperature).softmax(0)
    else:
        loss = policy_gradient_loss(log_probs, advantages, weights=weights)
    if values is not None and rollout.returns is not None:
        values = values.expand_as(rollout.returns)
        loss = loss + config.value_weight * value_loss(
            values, rollout.returns, weights=rollout.weights
        )
    return loss + _kl_loss(policy, rollout, logits, row, weights, config), weights


def _kl_loss(
    policy: Policy,
    rollout: Rollout,
    logits: Tensor,
    row: Tensor,
    weights: Tensor,
    config: ReinforceConfig,
) -> Tensor:
    """The divergence's part of the loss, `()`."""
    if not config.beta or (config.kl != "conditional" and config.kl_in == "reward"):
        return row.new_zeros(())
    if config.kl == "conditional":
        kl = conditional_kl(policy.space, logits, rollout.reference).sum(-1)
    else:
        kl = _ESTIMATES[config.kl](row - rollout.reference_steps(policy).sum(-1))
    # without the group's dimension it is exact, and no row weighs anything
    return config.beta * (kl * weights if kl.dim() == weights.dim() else kl).mean()


def check_rewards(rewards: Tensor, codes: Tensor) -> None:
    """Raise ValueError unless rewards `(G, *batch)` of codes `(G, *batch, F)` are finite."""
    if rewards.shape != codes.shape[:-1]:
        wanted, got = tuple(codes.shape[:-1]), tuple(rewards.shape)
        raise ValueError(f"a reward must be {wanted} for rows {tuple(codes.shape)}, got {got}")
    wrong = ~rewards.isfinite()
    if wrong.any():
        row, *context = wrong.nonzero()[0].tolist()
        place = (row, *context)
        where = f"row {row}, context {tuple(context)}, of codes {codes[place].tolist()}"
        raise ValueError(f"a reward must be finite, got {float(rewards[place])} in {where}")


def check_costs(log_ratio: Tensor, codes: Tensor) -> None:
    """Raise ValueError where the reference forbids a row that the policy drew.

    Args:
        log_ratio: `(G, *batch, T)`, log-probability under the policy less that of the reference.
        codes: `(G, *batch, F)`.
    """
    if not log_ratio.isfinite().all():
        row, *context = (~log_ratio.isfinite()).nonzero()[0, :-1].tolist()
        place = (row, *context)
        where = f"row {row}, context {tuple(context)}, of codes {codes[place].tolist()}"
        raise ValueError(f"the reference never draws what the policy drew: {where}")
