"""DARN: what ties it to straight-through, ReinMax and REINFORCE."""

import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Darn, ReinMax, Relaxation, StraightThrough
from tests.gradient import contract
from tests.gradient.cases import Function
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function


def per_row(
    estimator: Relaxation, f: Function, space: CategoricalSpace, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradient `(num_rows, D)` given each row that can be drawn, and the rows' probabilities."""
    rows = space.enumerate()
    p = space.log_prob(logits, rows).exp()
    rows, p = rows[p > 0], p[p > 0]
    with contract.given_codes(rows.unsqueeze(0)):
        return contract.value_and_gradient(estimator, f, logits.expand(len(rows), -1))[1], p


def test_the_mean_of_straight_through_and_darn_is_reinmax() -> None:
    f = function(RAGGED, "cubic")
    darn, straight, reinmax = (
        per_row(cls(RAGGED), f, RAGGED, RAGGED_LOGITS)[0]
        for cls in (Darn, StraightThrough, ReinMax)
    )
    assert_close((straight + darn) / 2, reinmax, rtol=0, atol=1e-14)
    assert (straight - darn).abs().max() > 0.1


def test_on_quadratic_functions_its_bias_is_the_opposite_of_straight_throughs() -> None:
    f = function(RAGGED, "quadratic")
    _, true_gradient = contract.truth(RAGGED, RAGGED_LOGITS, f)
    bias = []
    for cls in (Darn, StraightThrough):
        gradient, p = per_row(cls(RAGGED), f, RAGGED, RAGGED_LOGITS)
        bias.append(p @ gradient - true_gradient)
    assert_close(bias[0], -bias[1], rtol=0, atol=1e-12)
    assert bias[0].abs().max() > 1e-2


def test_on_a_linear_function_of_one_feature_it_is_reinforce_with_the_best_constant() -> None:
    space = CategoricalSpace({"x": 4})
    logits = torch.tensor([0.3, -1.0, 0.9, 0.1], dtype=torch.float64)
    weights = torch.tensor([2.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    gradient, _ = per_row(Darn(space), lambda rows: rows @ weights, space, logits)
    pi = logits.softmax(-1)
    expected = (weights - pi @ weights).unsqueeze(-1) * (torch.eye(4, dtype=torch.float64) - pi)
    assert_close(gradient, expected, rtol=0, atol=1e-14)


def test_on_multilinear_functions_straight_through_has_less_variance() -> None:
    f = function(TINY, "multilinear")
    spread = []
    for cls in (Darn, StraightThrough):
        gradient, p = per_row(cls(TINY), f, TINY, TINY_LOGITS)
        spread.append(p @ gradient**2 - (p @ gradient) ** 2)
    assert (spread[0] >= spread[1] - 1e-14).all()
    assert (spread[0] > spread[1] + 1e-3).any()
