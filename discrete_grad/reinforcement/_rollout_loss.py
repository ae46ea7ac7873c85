"""Costs, advantages and the loss of rows that were drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from discrete_grad.objectives import add_shaping, gae, value_loss
from discrete_grad.objectives.advantages import diversity_advantage, standardised
from discrete_grad.objectives.policy_gradient import importance_weights
from discrete_grad.objectives.policy_kl import kl_k1, kl_k2, kl_k3
from discrete_grad.reinforcement._rollout import Rollout, RowLaw
from discrete_grad.reinforcement.algorithms import ALGORITHMS, Update
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig

__all__ = ["policy_loss", "step_costs", "with_advantages"]

_ESTIMATES: dict[str, Callable[[Tensor], Tensor]] = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}


def step_costs(
    rollout: Rollout, law: RowLaw, config: ReinforceConfig, *, kl: Tensor | None = None
) -> Tensor:
    """Cost `(G, *batch, T)` of each step: of its divergence, less a bonus for its entropy.

    Args:
        rollout: what was drawn.
        law: the rows' log-probabilities under a policy, which need not be the one that drew them.
        config: the algorithm.
        kl: `(..., T)` of each step, where the config's estimate is `conditional`.
    """
    costs = config.entropy * law.steps
    if config.kl_in != "reward":
        return costs
    if kl is not None:
        # what a step brings about is the divergence at the next one; its own is in the loss
        return costs + config.beta * torch.cat([kl[..., 1:], torch.zeros_like(kl[..., :1])], -1)
    ratio = law.steps - rollout.reference.steps
    return costs + config.beta * _ESTIMATES[config.kl](ratio)


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
        baseline: the running mean of the rewards `()`; None for 0.
    """
    costs = costs.expand_as(rollout.log_probs)
    earned = torch.cat([-costs[..., :-1], (rollout.rewards - costs[..., -1]).unsqueeze(-1)], -1)
    if rollout.potentials is not None:
        earned = add_shaping(earned, rollout.potentials, gamma=config.gamma)
    algorithm, returns = ALGORITHMS[config.algorithm], None
    if algorithm.advantages is not None:
        mean = earned.new_zeros(()) if baseline is None else baseline
        advantages = algorithm.advantages(earned.sum(-1), rollout.drawn, mean)
        advantages = advantages.unsqueeze(-1).expand_as(earned)
    else:
        values = torch.zeros_like(earned) if values is None else values.expand_as(earned)
        advantages = gae(earned, values, gamma=config.gamma, decay=config.gae_decay)
        returns = advantages + values
    if config.advantage_scale == "batch":
        advantages = standardised(advantages)
    if config.diversity:
        bonus = diversity_advantage(rollout.codes).to(advantages.dtype)
        advantages = advantages + config.diversity * bonus.unsqueeze(-1)
    return replace(rollout, advantages=advantages, returns=returns)


def policy_loss(
    rollout: Rollout,
    law: RowLaw,
    config: ReinforceConfig,
    *,
    kl: Tensor | None = None,
    values: Tensor | None = None,
    unit: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loss, and the weights `(G, *batch)` that the rows had in it.

    Args:
        rollout: with advantages.
        law: the rows' log-probabilities under the policy that is trained, with gradient.
        config: the algorithm.
        kl: `(..., T)` of each step with gradient, where the config's estimate is `conditional`.
        values: `(..., T)` with gradient, for algorithms that learn values.
        unit: `()` in which the values' errors count; None for 1.
    """
    row = law.steps.sum(-1)
    log_ratio = (row - rollout.log_probs.sum(-1)).detach()
    reuse = importance_weights(log_ratio, bound=config.weight_bound, rule=config.weight_rule)
    weights = reuse if rollout.weights is None else reuse * rollout.weights
    update = Update(law.steps, rollout, weights, config.clip, config.temperature)
    loss, weights = ALGORITHMS[config.algorithm].loss(update)
    if values is not None and rollout.returns is not None:
        values = values.expand_as(rollout.returns)
        errors = value_loss(values, rollout.returns, weights=rollout.weights)
        loss = loss + config.value_weight * (errors if unit is None else errors / unit**2)
    return loss + _kl_loss(rollout, row, weights, config, kl), weights


def _kl_loss(
    rollout: Rollout, row: Tensor, weights: Tensor, config: ReinforceConfig, kl: Tensor | None
) -> Tensor:
    """The divergence's part of the loss, `()`."""
    if not config.beta or (kl is None and config.kl_in == "reward"):
        return row.new_zeros(())
    if kl is None:
        of_rows = _ESTIMATES[config.kl](row - rollout.reference.steps.sum(-1))
    else:
        of_rows = kl.sum(-1)
    # without the group's dimension it is exact, and no row weighs anything
    weighed = of_rows * weights if of_rows.dim() == weights.dim() else of_rows
    return config.beta * weighed.mean()
