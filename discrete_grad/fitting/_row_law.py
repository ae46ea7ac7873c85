"""The law of a generator's rows in some contexts: what the terms of its loss ask of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from discrete_grad.fitting._step_law import StepLaw
from discrete_grad.gradient import GradientEstimator, LeaveOneOut, Relaxation
from discrete_grad.gradient.base import Function, evaluate, score_function
from discrete_grad.objectives import entropy_bonus, kl_to_reference, leave_one_out
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    ConditionedSteps,
    OwnGenerator,
)
from discrete_grad.policies.protocol import has, require
from discrete_grad.rules import Law
from discrete_grad.space import CategoricalSpace

__all__ = ["RowLaw", "as_generator", "check_generator", "check_method", "law_of"]

_STEPS = (AutoregressiveGenerator, ConditionedSteps)


@dataclass(frozen=True)
class RowLaw:
    """The law of rows `(*batch)`; means over the batch depend differentiably on the generator.

    Args:
        space: of the rows.
        logits: `(*batch, D)` of independent features.
        policy: what conditions them by rules; None for a generator without rules.
        context: codes `(*batch, C)` of the rules' context.
        noise: source of the draws.
    """

    space: CategoricalSpace
    logits: Tensor
    policy: Conditioned | None = None
    context: Tensor | None = None
    noise: torch.Generator | None = None

    @cached_property
    def law(self) -> Law | None:
        """The law given the rules; None without any."""
        return None if self.policy is None else self._given(self.policy, self.logits)

    def expectation(self, method: GradientEstimator, f: Function) -> Tensor:
        """`E[f(row)]` `(*batch)` by a gradient estimator for which `check_method` holds."""
        if (law := self.law) is None or method.rules is not None:
            return method.expectation(f, self.logits, generator=self.noise)
        codes = law.sample(method.samples, generator=self.noise)
        values = evaluate(f, self.space.one_hot(codes, dtype=self.logits.dtype))
        return score_function(values, leave_one_out(values), law.log_prob(codes))

    def entropy(self) -> Tensor:
        """Mean entropy in nats, `()`."""
        law = self.law
        return entropy_bonus(self.space, self.logits) if law is None else law.entropy().mean()

    def marginal_logits(self) -> Tensor:
        """Logits `(*batch, D)` of independent features with the same marginals."""
        if (law := self.law) is None:
            return self.logits
        marginals = law.marginals()
        possible = marginals > 0  # log(0) would give a derivative of infinity
        return marginals.where(possible, 1).log().masked_fill(~possible, -torch.inf)

    def kl(self, reference: Tensor) -> Tensor:
        """Mean divergence `()` in nats from logits `(..., D)` under the same rules."""
        if self.policy is None or (law := self.law) is None:
            return kl_to_reference(self.space, self.logits, reference)
        return law.kl(self._given(self.policy, reference.expand_as(self.logits))).mean()

    def likely(self) -> Tensor:
        """Codes `(*batch, F)` of the most likely rows."""
        logits = self.logits.detach()
        if self.policy is None:
            return self.space.argmax(logits)
        return self._given(self.policy, logits).mode()

    def _given(self, policy: Conditioned, logits: Tensor) -> Law:
        return policy.rules.condition(logits, context=self.context)


def law_of(
    generator: Any,
    context: Tensor | None,
    count: int,
    *,
    samples: int = 2,
    noise: torch.Generator | None = None,
) -> RowLaw | StepLaw:
    """The law of rows in contexts `(count, C)`; without contexts, `count` times the same.

    Args:
        generator: what is trained: written step by step, conditioned by rules, or anything with
            `space` and `logits(context)`.
        context: `(count, C)`, or None.
        count: size of the batch.
        samples: rows drawn for each of the batch, where there is no other way.
        noise: source of the draws.
    """
    if isinstance(generator, _STEPS):
        return StepLaw(generator, context, count, samples=max(2, samples), noise=noise)
    obeying = generator if isinstance(generator, Conditioned) else None
    plain = generator.policy if isinstance(generator, Conditioned) else generator
    logits = plain.logits(context)
    logits = logits if context is not None else logits.expand(count, -1)
    given = None if obeying is None else obeying.rule_context(context)
    return RowLaw(generator.space, logits, obeying, given, noise)


def as_generator(generator: nn.Module, space: object) -> nn.Module:
    """The generator as it is, or any network from contexts to logits as an `OwnGenerator`."""
    known = has(generator, "logits") or has(generator, "begin") or hasattr(generator, "space")
    if known or not isinstance(space, CategoricalSpace):
        return generator
    return OwnGenerator(generator, space)


def check_generator(generator: nn.Module, method: GradientEstimator) -> None:
    """Raise unless a generator can be trained, and a gradient estimator differentiates its rows."""
    if not isinstance(generator, _STEPS):
        plain = generator.policy if isinstance(generator, Conditioned) else generator
        require("fit_generator", plain, "space", "logits", "parameters")
    check_method(generator, method)


def check_method(generator: nn.Module, method: GradientEstimator) -> None:
    """Raise ValueError unless a gradient estimator differentiates what the generator draws."""
    name = type(method).__name__
    if isinstance(generator, _STEPS):
        free = isinstance(method, Relaxation) and method.space is None
        if not free and not isinstance(method, LeaveOneOut):
            raise ValueError(
                f"a {type(generator).__name__} takes LeaveOneOut, or a Relaxation made without a "
                f"space, for features are drawn one at a time; got {name}"
            )
        return
    rules = generator.rules if isinstance(generator, Conditioned) else None
    if method.rules == rules:
        return
    if rules is None or method.rules is not None:
        raise ValueError(
            f"{name} has rules that are not the generator's; one that obeys them is "
            "`conditioned(generator, rules)`"
        )
    if not isinstance(method, LeaveOneOut):
        raise ValueError(
            f"{name} must have the generator's rules, `{name}(rules=...)`; where they depend on a "
            "context, use LeaveOneOut(space) without rules"
        )
