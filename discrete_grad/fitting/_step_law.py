"""The law of a step-by-step generator's rows, known by draws and their log-probabilities."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from discrete_grad.gradient import GradientEstimator, Relaxation
from discrete_grad.gradient.base import Function, evaluate, score_function
from discrete_grad.objectives import leave_one_out
from discrete_grad.policies import AutoregressiveGenerator, ConditionedSteps, SequentialPolicy
from discrete_grad.space import CategoricalSpace

__all__ = ["StepLaw"]


class StepLaw:
    """The law of rows `(*batch)`; means over the batch depend differentiably on the generator.

    Args:
        policy: the generator.
        context: `(B, C)`, or None.
        count: B.
        samples: rows drawn for each of the batch, at least 2.
        noise: source of the draws.
    """

    def __init__(
        self,
        policy: AutoregressiveGenerator | ConditionedSteps,
        context: Tensor | None,
        count: int,
        *,
        samples: int,
        noise: torch.Generator | None,
    ) -> None:
        self.policy, self.context, self.count = policy, context, count
        self.samples, self.noise = samples, noise

    @property
    def space(self) -> CategoricalSpace:
        """Of the rows."""
        return self.policy.space

    @cached_property
    def codes(self) -> Tensor:
        """Rows `(samples, B, F)`."""
        times = 1 if self.context is not None else self.count
        drawn = self.policy.sample(self.context, self.samples * times, generator=self.noise)
        return drawn.view(self.samples, self.count, -1)

    @cached_property
    def log_prob(self) -> Tensor:
        """Log-probabilities `(samples, B)` of the rows."""
        return self.policy.log_prob(self.codes, self.context)

    def expectation(self, method: GradientEstimator, f: Function) -> Tensor:
        """`E[f(row)]` `(B)`; a relaxation draws one feature after another, others by score."""
        if isinstance(method, Relaxation):
            return evaluate(f, self._relaxed(method)).mean(0)
        flat = self.space.one_hot(self.codes, dtype=self.log_prob.dtype)
        return self._by_score(evaluate(f, flat))

    def entropy(self) -> Tensor:
        """Mean entropy in nats, `()`, unbiased, and so is its derivative."""
        return self._by_score(-self.log_prob.detach()).mean()

    def marginal_logits(self) -> Tensor:
        """Raise ValueError: a step-by-step policy does not know its marginals."""
        raise ValueError(
            "diversity and trust are of the probability of each category, which a "
            f"{type(self.policy).__name__} does not know; set both to 0"
        )

    def kl(self, reference: Tensor) -> Tensor:
        """Mean divergence `()` in nats from logits `(..., D)` under the same rules, unbiased."""
        reference = reference.expand(self.count, -1)
        if isinstance(self.policy, ConditionedSteps):
            given = self.policy.rule_context(self.context)
            theirs = self.policy.rules.condition(reference, context=given).log_prob(self.codes)
        else:
            theirs = self.space.log_prob(reference, self.codes)
        return self._by_score((self.log_prob - theirs).detach()).mean()

    def likely(self) -> Tensor:
        """Codes `(B, F)` of the likeliest category at each step."""
        policy: SequentialPolicy[Any] = self.policy
        found = dict[int, Tensor]()
        with torch.no_grad():
            state, previous = policy.begin(self.context, batch=(self.count,)), None
            for feature in policy.order:
                log_probs, state = policy.advance(state, previous)
                previous = found[feature] = log_probs.argmax(-1)
        return torch.stack([found[feature] for feature in sorted(found)], -1)

    def _relaxed(self, method: Relaxation) -> Tensor:
        times = 1 if self.context is not None else self.count
        count = method.samples * times
        rows = self.policy.relaxed(self.context, count, method, generator=self.noise)
        return rows.view(method.samples, self.count, -1)

    def _by_score(self, values: Tensor) -> Tensor:
        return score_function(values, leave_one_out(values), self.log_prob)
