"""Rows that a policy drew, and their log-probabilities, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from discrete_grad.objectives.policy_kl import conditional_kl
from discrete_grad.policies import Policy, chosen_log_probs, conditional_logits
from discrete_grad.policies.conditional import shows_features, writes_steps
from discrete_grad.policies.protocol import row_log_probs
from discrete_grad.space import CategoricalSpace

__all__ = ["Rollout", "RowLaw", "Steps", "check_costs", "check_rewards"]


@dataclass(frozen=True)
class RowLaw:
    """Log-probabilities of G rows a context under one policy, T steps a row."""

    steps: Tensor
    """Log-probabilities `(G, *batch, T)`."""
    logits: Tensor | None = None
    """`(..., D)` of every feature; None for a policy that gives rows alone a probability."""

    def detach(self) -> RowLaw:
        """The same without gradient."""
        return RowLaw(self.steps.detach(), None if self.logits is None else self.logits.detach())

    def part(self, index: Tensor) -> RowLaw:
        """Of some of the rows; logits without the group's dimension are those of every row."""
        logits = self.logits
        if logits is not None and logits.dim() == self.steps.dim():
            logits = logits[index]
        return RowLaw(self.steps[index], logits)


@dataclass(frozen=True)
class Steps:
    """The steps in which the rows of a task are counted: one a feature, or one a row.

    Args:
        space: the features of a row.
        order: the features in the order of the steps; None for one step a row.
    """

    space: CategoricalSpace
    order: tuple[int, ...] | None = None

    @classmethod
    def of(cls, policy: Policy, reference: Policy | None = None) -> Steps:
        """One a feature where the policy writes them so, and the reference tells them apart."""
        told_apart = writes_steps(policy) and (reference is None or shows_features(reference))
        return cls(policy.space, cast(Any, policy).order if told_apart else None)

    def read(self, policy: Policy, codes: Tensor, context: Tensor | None) -> RowLaw:
        """Log-probabilities of codes `(G, *batch, F)` in contexts `(*batch, C)`, in one evaluation.

        Raises:
            ValueError: for a `log_prob` of another shape, or NaN.
        """
        if shows_features(policy):
            return self.of_logits(conditional_logits(policy, codes, context), codes)
        return RowLaw(row_log_probs(policy, codes, context).unsqueeze(-1))

    def of_logits(self, logits: Tensor, codes: Tensor) -> RowLaw:
        """Log-probabilities of codes `(G, *batch, F)` under logits `(..., D)`."""
        return RowLaw(self._in_steps(chosen_log_probs(self.space, logits, codes)), logits)

    def divergences(self, law: RowLaw, reference: RowLaw) -> Tensor:
        """`KL(law || reference)` `(..., T)` of each step given those before; both have logits."""
        assert law.logits is not None
        assert reference.logits is not None
        return self._in_steps(conditional_kl(self.space, law.logits, reference.logits))

    def _in_steps(self, per_feature: Tensor) -> Tensor:
        if self.order is None:
            return per_feature.sum(-1, keepdim=True)
        return per_feature[..., list(self.order)]


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
    reference: RowLaw
    """Their log-probabilities under the reference."""
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
        return replace(
            self,
            codes=self.codes[index],
            drawn=len(index),
            potentials=None if self.potentials is None else self.potentials[index],
            rewards=self.rewards[index],
            log_probs=self.log_probs[index],
            reference=self.reference.part(index),
            weights=None if self.weights is None else self.weights[index],
            advantages=self.advantages[index],
            returns=None if self.returns is None else self.returns[index],
        )


def check_rewards(rewards: Tensor, codes: Tensor) -> None:
    """Raise ValueError unless rewards `(G, *batch)` of codes `(G, *batch, F)` are finite."""
    if rewards.shape != codes.shape[:-1]:
        wanted, got = tuple(codes.shape[:-1]), tuple(rewards.shape)
        raise ValueError(f"a reward must be {wanted} for rows {tuple(codes.shape)}, got {got}")
    wrong = ~rewards.isfinite()
    if wrong.any():
        row, *context = wrong.nonzero()[0].tolist()
        place = (row, *context)
        told = f"row {row}, context {tuple(context)}, of codes {codes[place].tolist()}"
        raise ValueError(f"a reward must be finite, got {float(rewards[place])} in {told}")


def check_costs(log_ratio: Tensor, codes: Tensor) -> None:
    """Raise ValueError where the reference forbids a row that the policy drew.

    Args:
        log_ratio: `(G, *batch, T)`, log-probability under the policy less that of the reference.
        codes: `(G, *batch, F)`.
    """
    if not log_ratio.isfinite().all():
        row, *context = (~log_ratio.isfinite()).nonzero()[0, :-1].tolist()
        place = (row, *context)
        told = f"row {row}, context {tuple(context)}, of codes {codes[place].tolist()}"
        raise ValueError(f"the reference never draws what the policy drew: {told}")
