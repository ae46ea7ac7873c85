"""Declared lengths of biased gradients, against sums over all draws and closed forms.

The domain is that of `Facts.slope`: f is 1 on one category, logits at most 0.3 apart, two to four
categories. The kit's check `scale` looks at one point of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, gradient
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, CASES, Case

BIASED = [case for case in CASES if case.exact_on == "nothing"]
EXACT = [case for case in BIASED if case.function_of_codes]


def domain() -> Iterator[tuple[Tensor, int]]:
    """Logits `(K,)`, with each category's number."""
    for size in (2, 3, 4):
        for steps in itertools.combinations_with_replacement((0.0, 0.15, 0.3), size - 1):
            logits = torch.tensor((0.0, *steps), dtype=torch.float64)
            yield from ((logits, k) for k in range(size))


def slope(mean: Tensor, logits: Tensor, k: int) -> float:
    pi = logits.softmax(-1)
    truth = -pi[k] * pi
    truth[k] += pi[k]
    return (mean @ truth / truth.square().sum()).item()


def require_range(slopes: list[float], declared: tuple[float, float]) -> None:
    low, high = declared
    assert low <= min(slopes) + 1e-12
    assert max(slopes) - 1e-12 <= high
    # a range that holds everything would say nothing
    assert low >= 0.8 * min(slopes)
    assert high <= 1.25 * max(slopes)


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_length_by_enumeration(case: Case) -> None:
    slopes = []
    for logits, k in domain():
        space = CategoricalSpace({"x": len(logits)})
        _, mean = contract.expected(case, space, logits, lambda rows, k=k: rows[..., k])
        slopes.append(slope(mean, logits, k))
    require_range(slopes, case.slope)


@pytest.mark.parametrize("step", [3.0, 10.0])
def test_length_of_imle_in_closed_form(step: float) -> None:
    case, slopes = BY_NAME[f"IMLE(step={step})"], []
    step /= case.samples  # each sample has its share of df/dx
    for logits, k in domain():
        moved = logits - step * (torch.arange(len(logits)) == k)
        mean = (logits.softmax(-1) - moved.softmax(-1)) / step
        slopes.append(slope(mean, logits, k))
    require_range(slopes, case.slope)


@pytest.mark.parametrize(
    "name",
    [
        "GumbelSoftmax(tau=1.0, hard=True)",
        "GumbelSoftmax(tau=0.3, hard=True)",
        "GumbelSoftmax(tau=0.5, hard=False)",
        "GumbelRao(tau=0.5, inner_samples=10)",
        "GumbelRao(tau=1.0, inner_samples=1)",
    ],
)
def test_length_of_gumbel_softmax_for_two_categories(name: str) -> None:
    """The mean of softmax((theta + G) / tau) is a law of two logistic numbers, L + tau L'."""
    case = BY_NAME[name]
    tau = case.estimator().tau
    grid = torch.linspace(-60, 60, 200_001, dtype=torch.float64)
    density = grid.sigmoid() * (-grid).sigmoid()
    low, high = case.slope
    for apart in (0.0, 0.15, 0.3):
        at = torch.tensor(apart, dtype=torch.float64) - tau * grid
        mean = torch.trapezoid(at.sigmoid() * (-at).sigmoid() * density, grid)
        pi = torch.tensor(apart, dtype=torch.float64).sigmoid()
        found = (mean / (pi * (1 - pi))).item()
        assert low <= found <= high
        if tau == 1 and not apart:
            assert found == pytest.approx(2 / 3)


def test_exact_methods_declare_the_true_length() -> None:
    for cls in gradient.catalogue().values():
        assert cls.facts.bias == "biased" or cls.facts.slope == (1.0, 1.0)
