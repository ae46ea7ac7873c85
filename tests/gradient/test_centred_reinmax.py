"""CentredReinMax: the mean of ReinMax, with less variance."""

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CentredReinMax, ReinMax, StraightThrough
from tests.gradient import contract
from tests.gradient.cases import BY_NAME
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, seeded

CENTRED, REINMAX = BY_NAME["CentredReinMax(samples=3)"], BY_NAME["ReinMax(tau=1.0)"]


@pytest.mark.parametrize("kind", ["multilinear", "cubic"])
def test_its_mean_is_that_of_reinmax(kind: str) -> None:
    f = function(TINY, kind)
    mine, theirs = (contract.expected(case, TINY, TINY_LOGITS, f)[1] for case in (CENTRED, REINMAX))
    assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_where_slopes_are_equal_it_is_straight_through_without_variance() -> None:
    f, logits = function(RAGGED, "linear"), RAGGED_LOGITS.expand(50, -1)
    methods = (CentredReinMax(RAGGED, samples=2), StraightThrough(RAGGED))
    mine, theirs = (
        contract.value_and_gradient(method, f, logits, generator=seeded())[1] for method in methods
    )
    assert_close(mine, theirs, rtol=0, atol=1e-13)
    assert mine.abs().max() > 0.1


def test_on_a_smooth_function_its_error_is_less_than_that_of_reinmax_at_equal_cost() -> None:
    weights = torch.linspace(-0.5, 0.5, RAGGED.width, dtype=torch.float64)
    truth = contract.truth(RAGGED, RAGGED_LOGITS, lambda rows: (rows @ weights).tanh())[1]
    squares = []
    for cls in (CentredReinMax, ReinMax):
        gradient = contract.value_and_gradient(
            cls(RAGGED, samples=4),
            lambda rows: (rows @ weights).tanh(),
            RAGGED_LOGITS.expand(500, -1),
            generator=seeded(),
        )[1]
        squares.append((gradient - truth).square().sum())
    assert squares[0] < 0.25 * squares[1]
