"""Rows that a policy gives a search to begin with, whether its features are independent or not."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    ConditionedSteps,
    Generator,
    conditioned,
)
from discrete_grad.rules import Rules
from discrete_grad.sampling import seeded

__all__ = ["RunPolicy", "guiding_logits", "likely_row", "row_log_prob", "spelt_draws", "under"]

RunPolicy = Generator | AutoregressiveGenerator | Conditioned | ConditionedSteps
"""The generator of a run, conditioned where there are rules."""

_DRAWS = 256


def under(generator: Generator | AutoregressiveGenerator, rules: Rules | None) -> RunPolicy:
    """A generator, conditioned where there are rules."""
    return generator if rules is None else cast(RunPolicy, conditioned(generator, rules))


def spelt_draws(policy: RunPolicy, context: Tensor | None, seed: int) -> Tensor | None:
    """Draws `(S, n, F)` of a policy that writes step by step; None of independent features.

    Each context has the same noise, whatever the others are.

    Args:
        policy: of a run.
        context: `(S, C)`, or None for S = 1.
        seed: of the draws.
    """
    if isinstance(policy, Generator | Conditioned):
        return None
    contexts = [None] if context is None else list(context)
    drawn = [policy.sample(one, _DRAWS, generator=_noise(policy, seed)) for one in contexts]
    return torch.stack(drawn)


def guiding_logits(policy: RunPolicy, context: Tensor | None, draws: Tensor | None) -> Tensor:
    """Logits `(S, D)` of independent features: the policy's, or of the frequencies of its draws."""
    space = policy.space
    if draws is None:
        plain = policy.policy if isinstance(policy, Conditioned) else policy
        logits: Tensor = cast(Generator, plain).logits(context)
        return logits.reshape(-1, space.width)
    # a category that was not drawn is not impossible
    counts = space.one_hot(draws).sum(1) + 1 / draws.shape[1]
    return counts.log()


def row_log_prob(
    policy: RunPolicy, codes: Tensor, context: Tensor | None, logits: Tensor
) -> Tensor:
    """Log-probability `(S, n)` of rows `(S, n, F)`, up to a constant of each context."""
    if isinstance(policy, Generator | Conditioned):
        return policy.space.log_prob(logits.unsqueeze(1), codes)
    rows = codes.transpose(0, 1)
    if context is None:
        return policy.log_prob(rows.squeeze(1), None).unsqueeze(0)
    return policy.log_prob(rows, context).transpose(0, 1)


def likely_row(policy: RunPolicy, context: Tensor | None, *, seed: int = 0) -> Tensor:
    """The most likely row `(F,)` in a context `(C,)`; of its draws where it writes step by step."""
    if isinstance(policy, Conditioned):
        return policy.law(context).mode()
    if isinstance(policy, Generator):
        return policy.space.argmax(policy.logits(context))
    draws = policy.sample(context, _DRAWS, generator=_noise(policy, seed))
    return draws[policy.log_prob(draws, context).argmax()]


def _noise(policy: RunPolicy, seed: int) -> torch.Generator:
    return seeded(seed, next(policy.parameters()).device)
