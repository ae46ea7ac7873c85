"""The algorithms of reinforcement learning: the advantages and the loss of each.

A further one is an `Algorithm` in a file of its own and a line of `ALGORITHMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from discrete_grad.objectives import (
    advantage_weighted_loss,
    group_relative,
    leave_one_out,
    policy_gradient_loss,
    ppo_loss,
)
from discrete_grad.reinforcement._rollout import Rollout

__all__ = ["ALGORITHMS", "Algorithm", "Update"]


@dataclass(frozen=True)
class Update:
    """The ingredients of the loss of one optimiser step."""

    log_probs: Tensor
    """`(G, *batch, T)` under the policy that is trained, with gradient."""
    rollout: Rollout
    """With advantages."""
    weights: Tensor
    """`(G, *batch)` of the rows, with the correction for the policy that drew them."""
    clip: float
    """As in `ReinforceConfig`."""
    temperature: float
    """As in `ReinforceConfig`."""


Advantages = Callable[[Tensor, int, Tensor], Tensor]
"""`(earned (G, *batch), drawn, mean)` -> advantages `(G, *batch)`.

Only the first `drawn` rows were drawn from the policy, and baselines are taken from them alone; the
mean `()` is the running one of the rewards.
"""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of reinforcement learning.

    Args:
        loss: `discrete_grad.reinforcement.algorithms.Update` -> what is minimised `()`, and the
            weights `(G, *batch)` that the rows had.
        advantages: of whole rows; None for an algorithm that learns a value of each step.
        least_group: rows of a context it needs.
        judges_again: whether the advantages of rows that are used again are those of the policy as
            it is by then; else those it began with stay.

    Example:
        >>> ALGORITHMS["ppo"].judges_again
        False
    """

    loss: Callable[[Update], tuple[Tensor, Tensor]]
    advantages: Advantages | None = None
    least_group: int = 1
    judges_again: bool = True


def _policy_gradient(update: Update) -> tuple[Tensor, Tensor]:
    advantages, weights = update.rollout.advantages, update.weights
    return policy_gradient_loss(update.log_probs, advantages, weights=weights), weights


def _clipped(update: Update) -> tuple[Tensor, Tensor]:
    """PPO's; its ratios stand for the weights that correct for the policy that drew the rows."""
    rollout = update.rollout
    loss = ppo_loss(
        update.log_probs,
        rollout.log_probs,
        rollout.advantages,
        clip=update.clip,
        weights=rollout.weights,
    )
    return loss, update.weights


def _weighted_regression(update: Update) -> tuple[Tensor, Tensor]:
    row, weights, temperature = update.log_probs.sum(-1), update.weights, update.temperature
    # the mean of the steps, which are all alike
    of_row = update.rollout.advantages.mean(-1)
    loss = advantage_weighted_loss(row, of_row, temperature=temperature, weights=weights)
    # of rows of the policy the equally weighted loss has no expected gradient, but its noise
    loss = loss - advantage_weighted_loss(row, torch.zeros_like(of_row), weights=weights)
    return loss, weights * (of_row / temperature).softmax(0)


def _above_running_mean(earned: Tensor, drawn: int, mean: Tensor) -> Tensor:
    return earned - mean


def _above_the_others(earned: Tensor, drawn: int, mean: Tensor) -> Tensor:
    fresh, known = earned[:drawn], earned[drawn:]
    return torch.cat([leave_one_out(fresh), known - fresh.mean(0)])


def _standardised(earned: Tensor, drawn: int, mean: Tensor) -> Tensor:
    earned = earned - earned[:1]
    fresh, known = earned[:drawn], earned[drawn:]
    # as `group_relative` scales the fresh rows
    scale = fresh.std(0) + 1e-4
    return torch.cat([group_relative(fresh), (known - fresh.mean(0)) / scale])


def _as_earned(earned: Tensor, drawn: int, mean: Tensor) -> Tensor:
    return earned


ALGORITHMS: dict[str, Algorithm] = {
    "reinforce": Algorithm(_policy_gradient, _above_running_mean),
    "leave_one_out": Algorithm(_policy_gradient, _above_the_others, least_group=2),
    "group_relative": Algorithm(_policy_gradient, _standardised, least_group=2),
    "a2c": Algorithm(_policy_gradient),
    "ppo": Algorithm(_clipped, judges_again=False),
    "advantage_weighted": Algorithm(_weighted_regression, _as_earned, least_group=2),
}
"""By the name that a `ReinforceConfig` gives."""
