"""Guidance: steer an autoregressive model by attributes towards any reward, without training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from discrete_grad.policies import SequentialPolicy, log_prob_by_steps
from discrete_grad.policies.protocol import require
from discrete_grad.policies.sequential import STEP_PARTS
from discrete_grad.sampling import random_indices
from discrete_grad.weighting.guidance_rules import (
    guided_log_probs,
    jensen_weights,
    log_ratio,
    tilted_log_probs,
    z_scored_weights,
)

__all__ = ["AttributeSet", "Guidance", "Guided"]

Rule = Literal["z_scored", "jensen", "posterior", "exact"]


@dataclass(frozen=True, eq=False)
class AttributeSet:
    """The attribute vectors that guidance uses, and the frequency of each.

    Args:
        vectors: `(S, A)`.
        prior: probabilities `(S,)`.

    Raises:
        ValueError: for shapes that do not fit, or a prior that is no distribution.

    Example:
        >>> AttributeSet.from_rows(torch.tensor([[0.0], [1.0], [1.0], [1.0]])).prior
        tensor([0.2500, 0.7500])
    """

    vectors: Tensor
    prior: Tensor

    def __post_init__(self) -> None:
        if self.vectors.dim() != 2 or self.prior.shape != self.vectors.shape[:1]:
            got = f"{tuple(self.vectors.shape)} and {tuple(self.prior.shape)}"
            raise ValueError(f"vectors and prior must be (S, A) and (S,), got {got}")
        total = float(self.prior.sum())
        if not (self.prior >= 0).all() or not math.isclose(total, 1, rel_tol=1e-4):
            raise ValueError(f"the prior must be probabilities that sum to 1, got a sum of {total}")

    @classmethod
    def from_rows(
        cls,
        attributes: Tensor,
        *,
        size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> AttributeSet:
        """The different vectors among the training rows' attributes `(N, A)`.

        Args:
            attributes: `(N, A)`, N at least 1.
            size: if there are more different vectors, so many rows are drawn instead, so that a
                mean over the set estimates one over the training prior without bias.
            generator: source of that draw.
        """
        if attributes.dim() != 2 or not len(attributes):
            raise ValueError(f"attributes must be (N, A), N >= 1, got {tuple(attributes.shape)}")
        if size is not None and size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        vectors, counts = attributes.unique(dim=0, return_counts=True)
        if size is not None and len(vectors) > size:
            drawn = attributes[random_indices(len(attributes), (size,), generator=generator)]
            vectors, counts = drawn.unique(dim=0, return_counts=True)
        return cls(vectors, counts.to(vectors.dtype) / counts.sum())


@dataclass(frozen=True)
class Guidance:
    """Strength and weights of guidance.

    The rules, `l(y) = log p(x_t | x_<t, y) - log p(x_t | x_<t)`:

    - `z_scored`: `sum_y p(y) A(y) l(y)`, A the reward's z-score. A bad attribute pushes away.
    - `jensen`: `sum_y p(y) r(y) l(y) / E[r]`, for rewards from 0 on. It can fail to raise the
      expected reward.
    - `posterior`: the same with p(y | x_<t) for p(y), a bound of `exact` by Jensen's inequality.
    - `exact`: `log E[r | x_<=t]`, for rewards from 0 on; takes no smoothing.

    Args:
        gamma: strength, from 0 (no guidance) on.
        rule: what is added to `log p(x_t | x_<t)`, times gamma.
        smoothing: share in [0, 1) of the unconditional model in the conditional ones, which bounds
            l(y) from below, by log(smoothing): without it one attribute can forbid a category.
        keep: cuts the tail of the guided log-probabilities, such as
            `functools.partial(nucleus, mass=0.95)`.

    Raises:
        ValueError: for a value out of range.

    Example:
        >>> Guidance(gamma=4.0).rule
        'z_scored'
    """

    gamma: float = 2.0
    rule: Rule = "z_scored"
    smoothing: float = 0.02
    keep: Callable[[Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a finite number from 0 on, got {self.gamma}")
        if self.rule not in get_args(Rule):
            raise ValueError(f"rule must be one of {get_args(Rule)}, got {self.rule!r}")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing must be in [0, 1), got {self.smoothing}")


@dataclass(frozen=True)
class _State:
    inner: Any
    size: int  # of the batch
    evidence: Tensor | None = None  # log p(x_<t | y) (S, *batch)
    conditionals: Tensor | None = None  # log p(x_t | x_<t, y) (S, *batch, K)


class Guided(SequentialPolicy[_State]):
    """A policy that leans towards rows whose attributes are rewarded.

    Each feature takes one call of the model, on a batch of S + 1: with each attribute vector, and
    with none. A new reward needs no training.

    Args:
        policy: p(row | attributes) and, where attributes are not known, p(row).
        support: the attribute vectors asked about.
        reward: `(S,)`, the worth of each vector, any finite number; from 0 on, and not 0
            throughout, for rules other than `z_scored`.
        guidance: strength and weights.

    Raises:
        ValueError: for rewards that do not fit.
        TypeError: for a policy that does not write its rows step by step.

    Reference:
        Ho and Salimans (2022), arXiv 2207.12598; Peysakhovich and Berman (2026), arXiv 2604.15577.

    Example:
        >>> from discrete_grad import CategoricalSpace
        >>> from discrete_grad.weighting.guidance_exact import TablePolicy
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> sums = space.enumerate().sum(-1, keepdim=True).double()
        >>> policy = TablePolicy.from_rows(space, torch.zeros(6), sums)
        >>> guided = Guided(policy, policy.support, policy.support.vectors[:, 0])
        >>> bool((guided.log_prob(space.enumerate()).exp() * sums[:, 0]).sum() > sums.mean())
        True
    """

    def __init__(
        self,
        policy: SequentialPolicy[Any],
        support: AttributeSet,
        reward: Tensor,
        *,
        guidance: Guidance | None = None,
    ) -> None:
        require("Guided", policy, "space", *STEP_PARTS)
        self.space, self.order = policy.space, policy.order
        self.policy, self.support = policy, support
        self.guidance = guidance or Guidance()
        _check_reward(reward, support, signed=self.guidance.rule == "z_scored")
        self.reward = reward

    @classmethod
    def towards(
        cls, policy: SequentialPolicy[Any], attributes: Tensor, *, gamma: float = 1.0
    ) -> Guided:
        """Classifier-free guidance towards one vector `(A,)`; gamma 1 is p(row | attributes)."""
        one = AttributeSet(attributes.unsqueeze(0), torch.ones(1, device=attributes.device))
        plain = Guidance(gamma=gamma, rule="jensen", smoothing=0.0)
        return cls(policy, one, one.prior, guidance=plain)

    def begin(
        self,
        context: Tensor | None = None,
        *,
        attributes: Tensor | None = None,
        known: Tensor | None = None,
        batch: tuple[int, ...],
    ) -> _State:
        """See `SequentialPolicy.begin`; the attributes are the guide's own."""
        if attributes is not None or known is not None:
            raise ValueError("a guided policy asks about attributes itself; give it none")
        ones = (1,) * len(batch)
        # the first place asks without attributes: any vector, hidden by `known`
        vectors = torch.cat([self.support.vectors[:1], self.support.vectors])
        asked = torch.arange(len(vectors), device=vectors.device) > 0
        return _State(
            self.policy.begin(
                context,
                attributes=vectors.view(-1, *ones, vectors.shape[-1]),
                known=asked.view(-1, *ones),
                batch=(len(vectors), *batch),
            ),
            math.prod(batch),
        )

    def advance(self, state: _State, previous: Tensor | None) -> tuple[Tensor, _State]:
        """See `SequentialPolicy.advance`."""
        size = len(self.support.prior) + 1
        repeated = None if previous is None else previous.expand(size, *previous.shape)
        log_probs, inner = self.policy.advance(state.inner, repeated)
        base, conditionals = log_probs[0], log_probs[1:]
        evidence = _more_evidence(state, previous, conditionals)
        guided = self._guide(base, conditionals, evidence)
        return guided, _State(inner, state.size, evidence, conditionals)

    def select(self, state: _State, rows: Tensor) -> _State:
        """See `SequentialPolicy.select`."""
        vectors = torch.arange(len(self.support.prior) + 1, device=rows.device)
        asked = vectors.view(-1, *(1,) * rows.dim()) * state.size + rows
        inner = self.policy.select(state.inner, asked)
        if state.evidence is None or state.conditionals is None:
            return _State(inner, rows.numel())
        evidence = state.evidence.flatten(1)[:, rows]
        conditionals = state.conditionals.flatten(1, -2)[:, rows]
        return _State(inner, rows.numel(), evidence, conditionals)

    def log_prob(
        self, codes: Tensor, context: Tensor | None = None, attributes: Tensor | None = None
    ) -> Tensor:
        """Log-probability `(...)` in nats of codes `(..., F)`."""
        return log_prob_by_steps(self, codes, context, attributes)

    def _guide(self, base: Tensor, conditionals: Tensor, evidence: Tensor) -> Tensor:
        how = self.guidance
        if how.rule == "exact":
            wanted = self._wanted(evidence).unsqueeze(-1)
            direction = (wanted + log_ratio(base, conditionals)).logsumexp(0)
            return _kept(tilted_log_probs(base, direction, how.gamma), how.keep)
        weights = self._weights(evidence)
        options = {"gamma": how.gamma, "smoothing": how.smoothing}
        return _kept(guided_log_probs(base, conditionals, weights, **options), how.keep)

    def _weights(self, evidence: Tensor) -> Tensor:
        """`(S,)`, or `(S, *batch)` where they depend on the prefix."""
        prior, reward = self.support.prior.to(evidence), self.reward.to(evidence)
        if self.guidance.rule == "posterior":
            # where no rewarded vector is possible any more, there is none to turn to
            return self._wanted(evidence).softmax(0).nan_to_num(0.0)
        rule = z_scored_weights if self.guidance.rule == "z_scored" else jensen_weights
        return rule(reward, prior)

    def _wanted(self, evidence: Tensor) -> Tensor:
        """`log p(y) r(y) p(x_<t | y)` `(S, *batch)`."""
        log_worth = (self.support.prior.to(evidence) * self.reward.to(evidence)).log()
        return log_worth.view(-1, *(1,) * (evidence.dim() - 1)) + evidence


def _kept(log_probs: Tensor, keep: Callable[[Tensor], Tensor] | None) -> Tensor:
    return log_probs if keep is None else keep(log_probs)


def _more_evidence(state: _State, previous: Tensor | None, conditionals: Tensor) -> Tensor:
    """`log p(x_<t | y)` `(S, *batch)` after one more feature, hard or soft."""
    if previous is None or state.evidence is None or state.conditionals is None:
        return torch.zeros_like(conditionals[..., 0])
    log_probs = state.conditionals
    if not previous.is_floating_point():
        index = previous.expand(log_probs.shape[:-1]).unsqueeze(-1)
        return state.evidence + log_probs.gather(-1, index).squeeze(-1)
    # masked before the product: 0 * -inf would be NaN
    return state.evidence + (previous * log_probs.masked_fill(previous == 0, 0)).sum(-1)


def _check_reward(reward: Tensor, support: AttributeSet, *, signed: bool) -> None:
    if reward.shape != support.prior.shape:
        expected = tuple(support.prior.shape)
        raise ValueError(f"reward must be {expected}, one a vector, got {tuple(reward.shape)}")
    if not (finite := reward.isfinite()).all():
        wrong = int((~finite).nonzero()[0])
        raise ValueError(f"rewards must be finite, got {float(reward[wrong])} at vector {wrong}")
    if not signed and not ((reward >= 0).all() and (reward * support.prior).sum() > 0):
        lowest = float(reward.min())
        raise ValueError(
            f"this rule needs rewards from 0 on, some above 0 where the prior is; the lowest is "
            f"{lowest}"
        )
