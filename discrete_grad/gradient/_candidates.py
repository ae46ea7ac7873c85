"""Candidates of a recommendation: made for a budget, and what a call of theirs costs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function, GradientEstimator
from discrete_grad.sampling import seeded
from discrete_grad.space import CategoricalSpace

__all__ = ["Candidate", "at_budget"]

_ROUNDS = 8  # calls a candidate's repeats are spread over, so that a running baseline can settle

Candidate = GradientEstimator | Callable[..., GradientEstimator]
"""An instance; or a class, or a partial of one, called as `candidate(space, samples=n)`."""


def made(
    name: str,
    candidate: Candidate,
    space: CategoricalSpace,
    budget: int,
    work: Callable[[GradientEstimator], int],
) -> GradientEstimator:
    """A copy of an instance, or as many samples of a class as the budget allows.

    Raises:
        ValueError: for one that does not suit the space or the budget.
        TypeError: for anything else than a candidate.
    """
    if not isinstance(candidate, GradientEstimator):
        try:
            return at_budget(candidate, space, budget, work=work)
        except TypeError as error:
            raise TypeError(
                f"candidates[{name!r}] must be a gradient estimator, or be called as "
                f"candidate(space, samples=n) and give one: {error}"
            ) from error
    if candidate.space != space and (candidate.space is not None or space.num_features > 1):
        raise ValueError(f"was made for {candidate.space}, not {space}")
    if (cost := work(candidate)) > budget:
        raise ValueError(f"costs {cost}, more than the budget of {budget}")
    return copy.deepcopy(candidate)


def work(space: CategoricalSpace, f: Function, logits: Tensor, method: GradientEstimator) -> int:
    """Evaluations plus backward passes for one element of the batch: declared, or else counted."""
    if not isinstance(method, GradientEstimator):
        raise TypeError(f"{type(method).__name__} is no gradient estimator")
    if hasattr(method, "facts"):
        return method.cost(space).total
    rows = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal rows
        rows += x[..., 0].numel() * (1 + x.requires_grad)
        return f(x)

    gradients(copy.deepcopy(method), counted, logits, 1, seeded(0, logits.device))
    return -(-rows // max(1, logits[..., 0].numel()))


def unknown_facts(method: GradientEstimator) -> str:
    """What a method does not declare of itself, as a sentence; empty where it has facts."""
    if hasattr(method, "facts"):
        return ""
    return (
        f"{type(method).__name__} declares no `facts`: its cost was counted; its bias, what f is "
        "given and whether it needs df/dx are not known"
    )


def at_budget(
    cls: Callable[..., GradientEstimator],
    space: CategoricalSpace,
    budget: int,
    *,
    work: Callable[[GradientEstimator], int] | None = None,
) -> GradientEstimator:
    """An instance with as many samples as the budget allows.

    Args:
        cls: a gradient estimator that can be made from a space and `samples` alone, or a partial
            of one; its cost must be linear in them.
        space: the space.
        budget: evaluations plus backward passes of f a call may cost.
        work: of an instance; by default what it declares.

    Raises:
        ValueError: if even the fewest samples cost more, or if the space does not suit the method.

    Example:
        >>> from discrete_grad import ReinMax
        >>> at_budget(ReinMax, CategoricalSpace.from_sizes((2, 3)), 9).samples
        4
    """
    work = work or (lambda method: method.cost(space).total)
    origin: Any = cls.func if isinstance(cls, partial) else cls
    least = getattr(origin, "min_samples", 1)
    costs = [work(cls(space, samples=n)) for n in (least, least + 1)]
    if costs[0] > budget:
        raise ValueError(f"costs {costs[0]}, more than the budget of {budget}")
    more = (budget - costs[0]) // (costs[1] - costs[0]) if costs[1] > costs[0] else 0
    while True:
        try:
            return cls(space, samples=least + more)
        except ValueError:  # some take no more than so many
            if not more:
                raise
            more //= 2


def gradients(
    method: GradientEstimator, f: Function, logits: Tensor, repeats: int, noise: torch.Generator
) -> Tensor:
    """Independent estimates `(repeats, *batch, D)`, after one call more if it has buffers."""
    method.to(logits)
    counts = [len(part) for part in torch.arange(repeats).chunk(_ROUNDS)]
    if list(method.buffers()):
        counts = [counts[0], *counts]
    parts = []
    for count in counts:
        repeated = logits.detach().expand(count, *logits.shape).clone().requires_grad_()
        value = method.expectation(f, repeated, generator=noise).sum()
        parts.append(torch.autograd.grad(value, repeated)[0])
    return torch.cat(parts)[-repeats:]
