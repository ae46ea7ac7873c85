"""Declarations of a gradient estimator, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from discrete_grad.rules import Rules
from discrete_grad.space import CategoricalSpace

__all__ = ["Bias", "BiasWithRules", "Cost", "Facts", "Forward", "Sampled", "a_sample"]

Forward = Literal["hard", "chosen", "mixed", "soft", "argmax", "all rows"]
"""Rows given to f: draws from softmax(logits), one-hot rows by another rule, rows between a draw
and the mean, soft rows, the most likely row, or every row."""

Bias = Literal["none", "exact on quadratic", "exact on multilinear", "exact on additive", "biased"]
"""The largest class of f, as a function of the flat row, for which the gradient is unbiased."""

BiasWithRules = Literal["none", "exact on additive", "biased"]
"""The largest class of f for which the gradient under rules is unbiased; additive: a sum of
functions of one feature each, linear in its block."""


class Sampled(Protocol):
    """The part of a gradient estimator that decides the work of a call."""

    samples: int
    rules: Rules | None


@dataclass(frozen=True)
class Cost:
    """Work of one call for one element of the batch.

    Args:
        evaluations: rows f is evaluated on.
        backward: rows f is differentiated at.

    Example:
        >>> Cost(evaluations=4, backward=4).total
        8
    """

    evaluations: int
    backward: int = 0

    @property
    def total(self) -> int:
        """Number of evaluations plus number of backward passes."""
        return self.evaluations + self.backward


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of a gradient estimator that are known without running it.

    Args:
        forward: what f is given.
        bias: of the gradient, at the class's defaults.
        slope: of a biased gradient, at the class's defaults: range of its expectation's length
            along the true gradient, 1 for the true length. For an f that is 1 on one category,
            logits at most 0.3 apart and two to four categories a feature.
        cost: work of one call of an instance in a space.
        cost_text: the same as a formula, in N = samples, F features and sizes K_i.
        needs_derivative: whether f must be differentiable in the row.
        reference: authors, year and arXiv id or journal.
        binary_only: every feature must have two categories.
        linear_in_f: the gradient of a sum of functions is the sum of their gradients.
        experimental: not yet trusted; may change.
        with_rules: bias under `rules=`, of the gradient for the law of rows that obey; None for a
            method that takes no rules.

    Example:
        >>> from discrete_grad import LeaveOneOut
        >>> LeaveOneOut.facts.bias, LeaveOneOut.facts.needs_derivative
        ('none', False)
    """

    forward: Forward
    bias: Bias
    cost: Callable[[Sampled, CategoricalSpace], Cost]
    cost_text: str
    needs_derivative: bool
    reference: str
    binary_only: bool = False
    linear_in_f: bool = True
    slope: tuple[float, float] = (1.0, 1.0)
    experimental: bool = False
    with_rules: BiasWithRules | None = None


def a_sample(method: Sampled, space: CategoricalSpace) -> Cost:
    """One evaluation and one backward pass a sample, as every relaxation costs."""
    return Cost(method.samples, method.samples)
