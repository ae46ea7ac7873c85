"""`assert_unbiased`, for any gradient estimator, whatever its noise."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from discrete_grad.gradient.base import Function
from discrete_grad.space import CategoricalSpace
from discrete_grad.testing._calling import Method, estimate, space_of
from discrete_grad.testing._figures import told_apart
from discrete_grad.testing.exact import exact_gradient
from discrete_grad.testing.statistics import MeanTest, Plan, Sampler, compare_mean

__all__ = ["assert_unbiased", "category_name", "gradient_sampler"]

SHOWN = 3


def assert_unbiased(
    method: Method,
    f: Function,
    logits: Tensor,
    *,
    detects: float | None = None,
    false_alarm: float = 1e-9,
    power: float = 0.999,
    expected: Tensor | None = None,
    space: CategoricalSpace | None = None,
    max_samples: int = 1_000_000,
    seed: int = 0,
) -> MeanTest:
    """Fail unless the method's mean gradient is the exact one, by a test of known power.

    A pilot decides how many samples find a bias of `detects`; then that many fresh ones are drawn.
    Elements of a batch must be independent, as the contract demands.

    Args:
        method: the gradient estimator; a copy is run, the original keeps its state.
        f: maps flat rows `(samples, *batch, D)` to values `(samples, *batch)`.
        logits: `(D,)`, best in float64.
        detects: bias in any one component of the gradient that must be found; None means a tenth of
            the largest component of the true gradient.
        false_alarm: chance that an unbiased method fails, over the seed.
        power: chance that a bias of `detects` fails.
        expected: true gradient `(D,)`; None means by enumeration.
        space: None means the method's own, or one feature.
        max_samples: gradients that may be drawn.
        seed: of the draws: the same seed gives the same result.

    Returns:
        The figures of the test, its power among them.

    Raises:
        AssertionError: names feature, category, expected and estimated gradient, and the samples.
        ValueError: if more than `max_samples` are needed.

    Example:
        >>> from discrete_grad import LeaveOneOut
        >>> logits = torch.tensor([0.5, 0.0, -0.5], dtype=torch.float64)
        >>> test = assert_unbiased(LeaveOneOut(), lambda rows: rows[..., 0], logits, detects=0.05)
        >>> test.detects, round(test.power, 3) >= 0.999
        (0.05, True)
    """
    space = space_of(method, logits, space)
    truth = exact_gradient(f, logits, space) if expected is None else expected
    plan = Plan(
        detects=detects if detects is not None else default_detects(truth),
        false_alarm=false_alarm,
        power=power,
        max_samples=max_samples,
        seed=seed,
    )
    test = compare_mean(gradient_sampler(method, f, logits), truth.double(), plan)
    if test.failed.any():
        raise AssertionError(describe(type(method).__name__, space, test, seed))
    return test


def default_detects(truth: Tensor) -> float:
    """A tenth of the largest component."""
    # a true gradient of 0 has no scale of its own
    return 0.1 * truth.abs().max().item() or 0.1


def gradient_sampler(method: Method, f: Function, logits: Tensor) -> Sampler:
    """Draws of the gradient at logits `(D,)`; none learns from those before it."""

    def draws(count: int, seed: int) -> Tensor:
        return estimate(copy.deepcopy(method), f, logits.expand(count, -1), seed=seed)[1]

    return draws


def category_name(space: CategoricalSpace, column: int) -> str:
    """Feature and category of a column of a flat row."""
    feature = max(i for i, start in enumerate(space.offsets) if start <= column)
    category = space.categories[feature][column - space.offsets[feature]]
    return f"feature {space.names[feature]!r}, category {category!r}"


def describe(name: str, space: CategoricalSpace, test: MeanTest, seed: int) -> str:
    """The components that are furthest off, and what the test is worth."""
    off = (test.estimated - test.expected).abs().nan_to_num(torch.inf)
    columns = [int(k) for k in off.argsort(descending=True) if test.failed[k]]
    lines = [f"the gradient of {name} is biased:"]
    lines += [f"  {category_name(space, k)}: {_off(test, k)}" for k in columns[:SHOWN]]
    if len(columns) > SHOWN:
        lines.append(f"  and {len(columns) - SHOWN} more")
    lines.append(
        f"  {test.samples:,} samples, seed={seed}; a component fails if it is off by more than "
        f"{test.threshold:.3g}, which happens to an unbiased method with probability "
        f"{test.false_alarm:.1g} and to a bias of {test.detects:.3g} with {test.power:.4f}"
    )
    return "\n".join(lines)


def _off(test: MeanTest, column: int) -> str:
    expected, estimated = told_apart(test.expected[column].item(), test.estimated[column].item())
    error = test.error[column].item()
    return f"expected gradient {expected}, estimated {estimated} +- {error:.2g} (standard error)"
