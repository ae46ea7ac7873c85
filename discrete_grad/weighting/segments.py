"""Reductions over ragged groups: as many samples a context as each happens to have.

Values `(N, ...)` lie one after another, `groups` `(N,)` says which group each belongs to, in any
order. Sum and maximum are the only two operations of a backend; the rest is written once on them.
"""

from __future__ import annotations

import importlib
import math
from typing import Any, Literal

import torch
from torch import Tensor

from discrete_grad.space import can_inspect, is_codes

__all__ = [
    "Backend",
    "segment_logsumexp",
    "segment_max",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
]

Backend = Literal["torch", "torch_scatter"]
"""`torch` is the reference; `torch_scatter` needs the extra `scatter`, and no compile or vmap."""


def segment_sum(
    values: Tensor, groups: Tensor, num_groups: int, *, backend: Backend = "torch"
) -> Tensor:
    """Sum of each group, 0 for an empty one.

    Args:
        values: `(N, ...)`, floating.
        groups: integers `(N,)` in [0, num_groups), in any order.
        num_groups: G.
        backend: who adds.

    Returns:
        `(G, ...)`.

    Raises:
        TypeError: unless groups are integers.
        ValueError: for a shape that does not fit, or a group out of range.
        ImportError: for a backend that is not installed.

    Example:
        >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]), 3)
        tensor([2., 5., 0.])
    """
    _check(values, groups, num_groups)
    if backend == "torch_scatter":
        total: Tensor = _scatter().scatter_sum(values, groups, dim=0, dim_size=num_groups)
        return total
    _check_backend(backend)
    return values.new_zeros(num_groups, *values.shape[1:]).index_add(0, groups, values)


def segment_mean(
    values: Tensor, groups: Tensor, num_groups: int, *, backend: Backend = "torch"
) -> Tensor:
    """Mean `(G, ...)` of each group; arguments as in `segment_sum`.

    Raises:
        ValueError: for an empty group, by its number.

    Example:
        >>> segment_mean(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]), 2)
        tensor([2.0000, 2.5000])
    """
    total = segment_sum(values, groups, num_groups, backend=backend)
    count = _counts(groups, num_groups).view(-1, *[1] * (values.dim() - 1))
    return total / count.clamp_min(1)


def segment_max(
    values: Tensor, groups: Tensor, num_groups: int, *, backend: Backend = "torch"
) -> Tensor:
    """Largest entry `(G, ...)` of each group; arguments as in `segment_sum`.

    Among equals the backends send the gradient to different entries.

    Raises:
        ValueError: for an empty group, by its number.

    Example:
        >>> segment_max(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 0, 1]), 2)
        tensor([2., 4.])
    """
    _check(values, groups, num_groups)
    _counts(groups, num_groups)
    if backend == "torch_scatter":
        best: Tensor = _scatter().scatter_max(values, groups, dim=0, dim_size=num_groups)[0]
        return best
    _check_backend(backend)
    least = values.new_full((num_groups, *values.shape[1:]), -math.inf)
    index = groups.view(-1, *[1] * (values.dim() - 1)).expand_as(values)
    return least.scatter_reduce(0, index, values, "amax")


def segment_logsumexp(
    values: Tensor, groups: Tensor, num_groups: int, *, backend: Backend = "torch"
) -> Tensor:
    """`log sum exp` `(G, ...)` of each group, safe for values of any size; arguments as above.

    A group of `-inf` alone gives `-inf`.

    Raises:
        ValueError: for an empty group, by its number.

    Example:
        >>> segment_logsumexp(torch.tensor([0.0, 1e4, 0.0]), torch.tensor([0, 1, 0]), 2)
        tensor([6.9315e-01, 1.0000e+04])
    """
    shift, total = _shifted_sum(values, groups, num_groups, backend)
    # not log(0): its derivative is infinite, and infinity times 0 is NaN
    return total.where(total > 0, 1).log().where(total > 0, -math.inf) + shift


def segment_softmax(
    values: Tensor, groups: Tensor, num_groups: int, *, backend: Backend = "torch"
) -> Tensor:
    """Weights `(N, ...)` that sum to 1 over each group; arguments as above.

    Raises:
        ValueError: for an empty group, or one of `-inf` alone, by its number.

    Example:
        >>> segment_softmax(torch.tensor([0.0, 5.0, 0.0]), torch.tensor([0, 1, 0]), 2)
        tensor([0.5000, 1.0000, 0.5000])
    """
    shift, total = _shifted_sum(values, groups, num_groups, backend)
    if can_inspect(total) and not (total > 0).all():
        raise ValueError(f"every value of group {_first(total <= 0)} is -inf; it has no softmax")
    return (values - shift[groups]).exp() / total.where(total > 0, 1)[groups]


def _shifted_sum(
    values: Tensor, groups: Tensor, num_groups: int, backend: Backend
) -> tuple[Tensor, Tensor]:
    """The largest entry of each group, and the sum of `exp(values - it)`, both `(G, ...)`."""
    # the shift cancels in the result, and so does its derivative
    best = segment_max(values.detach(), groups, num_groups, backend=backend)
    shift = best.masked_fill(best == -math.inf, 0)
    terms = (values - shift[groups]).exp()
    return shift, segment_sum(terms, groups, num_groups, backend=backend)


def _check(values: Tensor, groups: Tensor, num_groups: int) -> None:
    if not is_codes(groups):
        raise TypeError(f"groups must be integers (N,), got {groups.dtype}")
    if groups.dim() != 1 or values.dim() == 0 or len(values) != len(groups):
        got = f"{tuple(values.shape)} and {tuple(groups.shape)}"
        raise ValueError(f"values must be (N, ...) and groups (N,), got {got}")
    if can_inspect(groups) and len(groups):
        wrong = (groups < 0) | (groups >= num_groups)
        if wrong.any():
            row = _first(wrong)
            fault = f"row {row} has group {int(groups[row])}"
            raise ValueError(f"{fault}; groups are 0 to {num_groups - 1}")


def _counts(groups: Tensor, num_groups: int) -> Tensor:
    """Number `(G,)` of rows of each group."""
    count = torch.zeros(num_groups, dtype=torch.long, device=groups.device)
    count = count.index_add(0, groups, torch.ones_like(groups, dtype=torch.long))
    if can_inspect(count) and not count.all():
        raise ValueError(f"group {_first(count == 0)} is empty; each group needs a row")
    return count


def _first(wrong: Tensor) -> int:
    return int(wrong.nonzero()[0, 0])


def _check_backend(backend: str) -> None:
    if backend != "torch":
        raise ValueError(f"backend must be 'torch' or 'torch_scatter', got {backend!r}")


def _scatter() -> Any:
    try:
        return importlib.import_module("torch_scatter")
    except ImportError as error:
        command = "pip install 'discrete_grad[scatter]'"
        raise ImportError(f"this backend needs torch-scatter: {command}") from error
