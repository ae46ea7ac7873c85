"""The test of goodness of fit against its definition, with cells that are pooled."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.testing import statistics
from discrete_grad.testing._goodness import g_test, joint_counts, joint_law


def of_two(counts: tuple[float, float], expected: tuple[float, float]) -> float:
    """p-value of two cells: the statistic is the square of a normal number."""
    pairs = zip(counts, expected, strict=True)
    statistic = 2 * sum(c * math.log(c / e) for c, e in pairs if c)
    return math.erfc(math.sqrt(statistic / 2))


@pytest.mark.parametrize(
    ("counts", "law", "pooled", "expected"),
    [
        ([60, 40], [0.5, 0.5], (60, 40), (50, 50)),
        ([90, 10], [0.9, 0.1], (90, 10), (90, 10)),  # a cell of 10 is not pooled
        ([88, 7, 5], [0.91, 0.04, 0.05], (88, 12), (91, 9)),
        ([76, 12, 12], [0.91, 0.04, 0.05], (76, 24), (91, 9)),  # by what is expected alone
        ([98, 2], [0.995, 0.005], (98, 2), (99.5, 0.5)),
        ([100, 0, 0], [0.9, 0.06, 0.04], (100, 0), (90, 10)),
        ([70, 30, 0], [0.6, 0.4, 0.0], (70, 30), (60, 40)),
    ],
)
def test_two_cells_by_hand(
    counts: list[int],
    law: list[float],
    pooled: tuple[float, float],
    expected: tuple[float, float],
) -> None:
    found = g_test(torch.tensor(counts), torch.tensor(law, dtype=torch.float64))
    assert found == pytest.approx(of_two(pooled, expected), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("counts", [(50, 30, 20), (92, 5, 3)])
def test_three_cells_by_hand(counts: tuple[int, int, int]) -> None:
    expected = (40, 40, 20)
    statistic = 2 * sum(c * math.log(c / e) for c, e in zip(counts, expected, strict=True))
    found = g_test(torch.tensor(counts), torch.tensor([0.4, 0.4, 0.2]))
    # of two degrees of freedom
    assert found == pytest.approx(math.exp(-statistic / 2), rel=1e-5, abs=0)


def test_what_is_certain() -> None:
    assert g_test(torch.tensor([99, 1]), torch.tensor([1.0, 0.0])) == 0
    assert g_test(torch.tensor([5, 3]), torch.tensor([0.5, 0.5])) == 1  # all in one pool


def test_laws_and_counts_of_rows() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    logits = torch.tensor([0.0, math.log(3), 0.0, math.log(2), -math.inf], requires_grad=True)
    law = joint_law(space, logits)
    by_hand = torch.tensor([1 / 12, 2 / 12, 0, 3 / 12, 6 / 12, 0], dtype=torch.float64)
    torch.testing.assert_close(law, by_hand, atol=1e-7, rtol=0)
    codes = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 1]])
    assert joint_counts(space, codes).tolist() == [0, 2, 0, 1, 1, 0]


def test_a_spread_beyond_rounding_is_skewed() -> None:
    for size, skewness in ((1.5e-7, 2.268), (0.5e-7, 0.0)):
        draws = torch.tensor([-1.0] * 7 + [7.0]).double() * size / 7**0.5

        def sampler(count: int, seed: int, draws: Tensor = draws) -> Tensor:
            return draws.repeat(count // 8).unsqueeze(1)

        moments = statistics._sample(sampler, torch.zeros(1).double(), 800, itertools.count())
        assert moments.deviation.item() == pytest.approx(size)
        assert moments.skewness.item() == pytest.approx(skewness, rel=1e-3)
