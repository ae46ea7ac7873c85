"""Rows that obey rules, and their law's gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from discrete_grad.gradient.base import draw, straight_through
from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["best_row", "drawn_obeying", "drawn_rows", "most_likely_obeying"]


def drawn_rows(
    space: CategoricalSpace,
    rules: Rules | None,
    logits: Tensor,
    samples: int,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """Hard rows `(samples, *batch, D)` for logits `(*batch, D)`, and their log-probabilities."""
    if rules is None:
        repeated = logits.expand(samples, *logits.shape)
        codes, hard = draw(space, repeated, generator)
        return hard, space.log_prob(repeated, codes)
    law = rules.condition(logits)
    codes = law.sample(samples, generator=generator)
    return space.one_hot(codes, dtype=logits.dtype), law.log_prob(codes)


def drawn_obeying(rules: Rules, logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Hard row `(..., D)` that obeys, drawn; its gradient is that of the marginals."""
    law = rules.condition(logits)
    hard = rules.space.one_hot(law.sample(1, generator=generator)[0], dtype=logits.dtype)
    return straight_through(hard, law.marginals())


def most_likely_obeying(rules: Rules, logits: Tensor) -> Tensor:
    """The most likely row `(..., D)` that obeys, with the gradient of the marginals."""
    law = rules.condition(logits)
    return straight_through(rules.space.one_hot(law.mode(), dtype=logits.dtype), law.marginals())


def best_row(space: CategoricalSpace, rules: Rules | None) -> Callable[[Tensor], Tensor]:
    """The codes `(..., F)` of the row of the largest sum of logits, for logits `(..., D)`."""
    if rules is None:
        return space.argmax

    def obeying(logits: Tensor) -> Tensor:
        # NaN and inf are the caller's to tell of: here they may have come from df/dx
        most = torch.finfo(logits.dtype).max
        return rules.condition(logits.nan_to_num(0, most, -torch.inf)).mode()

    return obeying
