"""The table of gradient estimators: what each one declares. It drives every contract test.

A new gradient estimator adds a line to CASES and its formula above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from discrete_grad import (
    CategoricalSpace,
    DeterministicStraightThrough,
    Enumerate,
    GradientEstimator,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
)

Function = Callable[[Tensor], Tensor]

# classes of functions of a flat row, each inside the next; what a bias is measured on
CLASSES = ("linear", "multilinear", "quadratic", "cubic")
Exact = Literal["nothing", "multilinear", "quadratic", "everything"]


class Formula(Protocol):
    """Gradient `(D,)` by explicit matrices, given the noise: an independent second derivation."""

    def __call__(
        self, space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
    ) -> Tensor:
        """Logits `(D,)`; Gumbel noise `(N, D)`, whose argmax with the logits is the draw."""


class Make(Protocol):
    """Constructor of a gradient estimator, ready for use."""

    def __call__(
        self, space: CategoricalSpace | None = None, *, samples: int
    ) -> GradientEstimator: ...


@dataclass(frozen=True, kw_only=True)
class Case:
    """One gradient estimator and the facts it declares.

    Args:
        forward: what f is given: a `hard` draw from softmax(logits), the `argmax` row, a `soft`
            row, or `all` rows.
        exact_on: largest class of f on which the expected gradient is the true one.
        value_exact_on: the same for the expected value.
        function_of_codes: the noise matters through the drawn codes alone, so that the expected
            gradient is a finite sum.
        smooth: given the noise, the value is a smooth function of the logits.
        samples: rows drawn per element of the batch in the tests.
    """

    name: str
    make: Make
    formula: Formula
    forward: Literal["hard", "argmax", "soft", "all"]
    exact_on: Exact
    value_exact_on: Exact
    needs_derivative: bool = True
    deterministic: bool = False
    function_of_codes: bool = True
    smooth: bool = False
    samples: int = 1

    def __str__(self) -> str:
        return self.name

    def estimator(self, space: CategoricalSpace | None = None) -> GradientEstimator:
        return self.make(space, samples=self.samples)

    @property
    def is_layer(self) -> bool:
        return isinstance(self.estimator(), Relaxation)


# --- formulas -----------------------------------------------------------------------------------


def jacobian(space: CategoricalSpace, p: Tensor) -> Tensor:
    """diag(p) - p p^T of every feature, on the diagonal of one `(D, D)` matrix."""
    return torch.block_diag(*[torch.diag(q) - torch.outer(q, q) for q in space.split(p)])


def softmax(space: CategoricalSpace, logits: Tensor) -> Tensor:
    return torch.cat([part.exp() / part.exp().sum() for part in space.split(logits)])


def hard_rows(space: CategoricalSpace, logits: Tensor, gumbel: Tensor) -> Tensor:
    rows = torch.zeros_like(gumbel)
    for row, noise in zip(rows, gumbel, strict=True):
        for start, part in zip(space.offsets, space.split(logits + noise), strict=True):
            row[start + int(part.argmax())] = 1
    return rows


def derivative(f: Function, rows: Tensor) -> Tensor:
    rows = rows.detach().requires_grad_()
    return torch.autograd.grad(f(rows).sum(), rows)[0]


def enumerate_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    pi = softmax(space, logits)
    rows = torch.stack([space.one_hot(codes, dtype=pi.dtype) for codes in space.enumerate()])
    p = torch.where(rows == 1, pi, 1).prod(-1)
    return (p * f(rows)) @ (rows - pi)


def softmax_formula(tau: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        p = softmax(space, logits / tau)
        return jacobian(space, p) @ derivative(f, p) / tau

    return formula


def straight_through_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    g = derivative(f, hard_rows(space, logits, gumbel)).mean(0)
    return jacobian(space, softmax(space, logits)) @ g


def deterministic_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    return straight_through_formula(space, logits, torch.zeros_like(gumbel), f)


def reinmax_formula(tau: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        pi, tempered = softmax(space, logits), softmax(space, logits / tau)
        rows = hard_rows(space, logits, gumbel)
        parts = [
            2 * jacobian(space, (tempered + row) / 2) @ g - jacobian(space, pi) @ g / 2
            for row, g in zip(rows, derivative(f, rows), strict=True)
        ]
        return torch.stack(parts).mean(0)

    return formula


def gumbel_formula(tau: float, *, hard: bool) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        soft = torch.stack([softmax(space, (logits + noise) / tau) for noise in gumbel])
        g = derivative(f, hard_rows(space, logits, gumbel) if hard else soft)
        parts = [jacobian(space, y) @ v / tau for y, v in zip(soft, g, strict=True)]
        return torch.stack(parts).mean(0)

    return formula


def reinforce_formula(baseline: float) -> Formula:
    def formula(space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function) -> Tensor:
        rows = hard_rows(space, logits, gumbel)
        advantages = (f(rows) - baseline) / len(rows)
        return advantages @ (rows - softmax(space, logits))

    return formula


def leave_one_out_formula(
    space: CategoricalSpace, logits: Tensor, gumbel: Tensor, f: Function
) -> Tensor:
    rows = hard_rows(space, logits, gumbel)
    values = f(rows)
    others = torch.stack([(values.sum() - value) / (len(rows) - 1) for value in values])
    return (values - others) @ (rows - softmax(space, logits)) / len(rows)


# --- the table ----------------------------------------------------------------------------------


def softmax_case(tau: float, *, exact_on: Exact) -> Case:
    return Case(
        name=f"Softmax(tau={tau})",
        make=lambda space=None, *, samples: Softmax(space, tau=tau, samples=samples),
        formula=softmax_formula(tau),
        forward="soft",
        exact_on=exact_on,
        value_exact_on=exact_on,
        deterministic=True,
        smooth=True,
    )


def gumbel_case(tau: float, *, hard: bool, samples: int = 1) -> Case:
    return Case(
        name=f"GumbelSoftmax(tau={tau}, hard={hard})",
        make=lambda space=None, *, samples: GumbelSoftmax(
            space, tau=tau, hard=hard, samples=samples
        ),
        formula=gumbel_formula(tau, hard=hard),
        forward="hard" if hard else "soft",
        exact_on="nothing",
        value_exact_on="everything" if hard else "nothing",
        function_of_codes=False,
        smooth=not hard,
        samples=samples,
    )


def reinmax_case(tau: float, *, exact_on: Exact, samples: int = 1) -> Case:
    return Case(
        name=f"ReinMax(tau={tau})",
        make=lambda space=None, *, samples: ReinMax(space, tau=tau, samples=samples),
        formula=reinmax_formula(tau),
        forward="hard",
        exact_on=exact_on,
        value_exact_on="everything",
        samples=samples,
    )


def reinforce_case(baseline: float, *, samples: int = 1) -> Case:
    def make(space: CategoricalSpace | None = None, *, samples: int) -> GradientEstimator:
        estimator = Reinforce(space, samples=samples)
        estimator.baseline.fill_(baseline)
        estimator.weight.fill_(1)
        return estimator.eval()  # the baseline stays where it is

    return Case(
        name=f"Reinforce(baseline={baseline})",
        make=make,
        formula=reinforce_formula(baseline),
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
    )


def leave_one_out_case(samples: int) -> Case:
    return Case(
        name=f"LeaveOneOut(samples={samples})",
        make=LeaveOneOut,
        formula=leave_one_out_formula,
        forward="hard",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        samples=samples,
    )


CASES = (
    Case(
        name="Enumerate",
        make=Enumerate,
        formula=enumerate_formula,
        forward="all",
        exact_on="everything",
        value_exact_on="everything",
        needs_derivative=False,
        deterministic=True,
        smooth=True,
    ),
    softmax_case(1.0, exact_on="multilinear"),
    softmax_case(0.5, exact_on="nothing"),
    gumbel_case(1.0, hard=True),
    gumbel_case(0.3, hard=True, samples=2),
    gumbel_case(0.5, hard=False),
    Case(
        name="StraightThrough",
        make=StraightThrough,
        formula=straight_through_formula,
        forward="hard",
        exact_on="multilinear",
        value_exact_on="everything",
    ),
    Case(
        name="DeterministicStraightThrough",
        make=DeterministicStraightThrough,
        formula=deterministic_formula,
        forward="argmax",
        exact_on="nothing",
        value_exact_on="nothing",
        deterministic=True,
    ),
    reinmax_case(1.0, exact_on="quadratic"),
    reinmax_case(1.3, exact_on="nothing", samples=2),
    reinforce_case(0.0),
    reinforce_case(0.7, samples=3),
    leave_one_out_case(2),
    leave_one_out_case(3),
)

# as sharp as the documentation allows; for the tests of numerics
SHARP = (
    softmax_case(1e-4, exact_on="nothing"),
    gumbel_case(1e-4, hard=True),
    gumbel_case(1e-4, hard=False),
    reinmax_case(1e-4, exact_on="nothing"),
)

BY_NAME = {case.name: case for case in CASES}
