"""Measured ranking of gradient estimators for one function at one budget."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from discrete_grad.gradient._candidates import (
    Candidate,
    at_budget,
    gradients,
    made,
    unknown_facts,
    work,
)
from discrete_grad.gradient.base import Function, GradientEstimator
from discrete_grad.gradient.catalogue import catalogue
from discrete_grad.gradient.enumerate import Enumerate
from discrete_grad.gradient.leave_one_out import LeaveOneOut
from discrete_grad.sampling import isolated_seed, seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["Measured", "Recommendation", "at_budget", "recommend"]

_REFERENCE_SAMPLES = 4096
_SURE = 1.96


@dataclass(frozen=True)
class Measured:
    """One candidate's error at the budget, relative to the squared norm of the reference.

    Args:
        name: of the class.
        method: the instance that was measured, its samples chosen for the budget.
        cost: its evaluations plus backward passes.
        error: mean squared error over the repeats.
        half_width: of the error's 95% interval.
        bias: squared norm of the mean error, above what chance explains.

    Example:
        >>> Measured("ReinMax", GradientEstimator, 2, 0.5, 0.1, 0.0).error
        0.5
    """

    name: str
    method: GradientEstimator
    cost: int
    error: float
    half_width: float
    bias: float


@dataclass(frozen=True)
class Recommendation:
    """Candidates ranked by their error, and the certainty of the ranking.

    Args:
        ranked: the best first, each a `discrete_grad.gradient.recommend.Measured`.
        skipped: name -> why it was not measured.
        reference: what they were compared with.
        reference_error: mean squared error of the reference itself, relative; 0 if it is exact.
        tied: how many of the first cannot be told from the best at 95%.
        unknown: name -> what a candidate that was measured does not declare of itself.

    Example:
        >>> Recommendation([], {}, "enumeration", 0.0, 0).reference
        'enumeration'
    """

    ranked: list[Measured]
    skipped: Mapping[str, str]
    reference: str
    reference_error: float
    tied: int
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> GradientEstimator:
        """The first of the ranking, ready for use."""
        return self.ranked[0].method

    def __str__(self) -> str:
        lines = [f"{'gradient estimator':32s} {'cost':>5s} {'error':>9s} {'±':>8s} {'bias²':>8s}"]
        for m in self.ranked:
            lines.append(
                f"{m.name:32s} {m.cost:5d} {m.error:9.3g} {m.half_width:8.2g} {m.bias:8.2g}"
            )
        sure = "the first is the best" if self.tied < 2 else f"the first {self.tied} are as good"
        lines.append(f"against {self.reference} (its own error {self.reference_error:.2g}): {sure}")
        lines += [f"{name} was left out: {why}" for name, why in self.skipped.items()]
        lines += [f"{name}: {what}" for name, what in self.unknown.items()]
        return "\n".join(lines)


def recommend(
    space: CategoricalSpace,
    f: Function,
    budget: int,
    logits: Tensor,
    *,
    candidates: Mapping[str, Candidate] | None = None,
    repeats: int = 256,
    seed: int = 0,
    max_rows: int = 20_000,
) -> Recommendation:
    """Measure every candidate on the user's own f and rank them by mean squared error.

    Each candidate draws as many samples as the budget allows; an instance draws as many as it was
    made with. Methods with parameters (a control variate, a temperature) are measured untrained,
    and instances in their present state. Both are measured after one call if they have buffers (a
    baseline, weights).

    Args:
        space: the space.
        f: as in `GradientEstimator.expectation`; its parameters are not trained here.
        budget: largest number of evaluations plus backward passes of f in a call, at least 1.
        logits: `(*batch, D)`, at which the gradient is measured; the error is averaged over them.
        candidates: by name, classes, partials of classes (`partial(GumbelSoftmax, tau=0.5)`) and
            instances, which are copied; by default all classes except `Enumerate`. For your own
            class without `facts` the cost is counted, and `unknown` says what is not known.
        repeats: number of independent estimates of each candidate, at least 16.
        seed: seed of every random number.
        max_rows: largest number of rows for which the reference is exact enumeration; above it the
            reference is the mean of thousands of leave-one-out samples.

    Returns:
        The ranking, with what was left out and why.

    Raises:
        ValueError: for a budget or repeats too small, or if no candidate is left.
        TypeError: for a candidate that is none of these.

    Warns:
        UserWarning: for an f that is a module in training mode.

    Example:
        >>> space = CategoricalSpace.from_sizes((2, 3))
        >>> weights = torch.arange(5.0)
        >>> found = recommend(space, lambda rows: (rows * weights).sum(-1) ** 2, 8, torch.zeros(5))
        >>> found.reference, found.ranked[0].error <= found.ranked[-1].error
        ('enumeration', True)
    """
    if budget < 1 or repeats < 16:
        raise ValueError(f"budget must be >= 1 and repeats >= 16, got {budget} and {repeats}")
    if isinstance(f, nn.Module) and f.training:
        warnings.warn(
            f"f is {type(f).__name__} in training mode: dropout and batch statistics are taken for "
            "properties of f; call f.eval() first",
            stacklevel=2,
        )
    noise = seeded(seed, logits.device)
    reference, reference_error, how = _reference(space, f, logits, max_rows, noise)
    # a gradient of 0 has no relative error: it becomes large instead of NaN
    norm = reference.square().sum().clamp_min(torch.finfo(reference.dtype).tiny)
    ranked: list[Measured] = []
    skipped: dict[str, str] = {}
    unknown: dict[str, str] = {}
    cost = partial(work, space, f, logits)
    for name, candidate in (candidates or _sampling_methods()).items():
        try:
            with isolated_seed(seed):  # some begin with random networks
                method = made(name, candidate, space, budget, cost)
            errors = gradients(method, f, logits, repeats, noise) - reference
        except (ValueError, RuntimeError) as error:
            skipped[name] = str(error).splitlines()[0]
            continue
        ranked.append(_measured(name, method, cost(method), errors, norm))
        if missing := unknown_facts(method):
            unknown[name] = missing
    if not ranked:
        raise ValueError(f"no gradient estimator fits a budget of {budget}: {skipped}")
    ranked.sort(key=lambda m: m.error)
    first = ranked[0]
    tied = sum(m.error - m.half_width <= first.error + first.half_width for m in ranked)
    return Recommendation(ranked, skipped, how, float(reference_error / norm), tied, unknown)


def _sampling_methods() -> dict[str, Candidate]:
    return {name: cls for name, cls in catalogue().items() if cls is not Enumerate}


def _reference(
    space: CategoricalSpace, f: Function, logits: Tensor, max_rows: int, noise: torch.Generator
) -> tuple[Tensor, Tensor, str]:
    """Gradient `(*batch, D)`, its mean squared error, and what it is."""
    leaf = logits.detach().clone().requires_grad_()
    if space.num_rows <= max_rows:
        value = Enumerate(space, max_rows=max_rows).expectation(f, leaf).sum()
        return torch.autograd.grad(value, leaf)[0], torch.zeros(()), "enumeration"
    # a new method: the reference must not depend on the candidates
    method = LeaveOneOut(space, samples=16)
    rounds = max(32, _REFERENCE_SAMPLES // 16)
    found = gradients(method, f, logits, rounds, noise)
    error = found.var(0).sum() / rounds
    return found.mean(0), error, f"{16 * rounds:,} leave-one-out samples"


def _measured(
    name: str, method: GradientEstimator, cost: int, errors: Tensor, norm: Tensor
) -> Measured:
    squares = errors.flatten(1).square().sum(1) / norm
    variance = errors.flatten(1).var(0).sum() / norm
    # the squared mean of n errors is bias^2 + variance / n on average
    bias = errors.flatten(1).mean(0).square().sum() / norm - variance / len(errors)
    return Measured(
        name=name,
        method=method,
        cost=cost,
        error=squares.mean().item(),
        half_width=_SURE * squares.std().item() / math.sqrt(len(squares)),
        bias=max(0.0, bias.item()),
    )
