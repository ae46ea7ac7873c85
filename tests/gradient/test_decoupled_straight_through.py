"""Decoupled straight-through: what each temperature does."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, DecoupledStraightThrough, StraightThrough
from tests.gradient import contract
from tests.gradient.cases import decoupled_case
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.strategies import random_logits


def test_at_one_and_one_it_is_straight_through() -> None:
    logits, f = random_logits(RAGGED, (30,), masked=True), function(RAGGED, "cubic")
    mine, expected = (
        contract.value_and_gradient(cls(RAGGED), f, logits, generator=contract.seeded())
        for cls in (DecoupledStraightThrough, StraightThrough)
    )
    assert all(torch.equal(a, b) for a, b in zip(mine, expected, strict=True))


@pytest.mark.parametrize("tau", [0.5, 2.0])
@pytest.mark.parametrize(("space", "logits"), [(TINY, TINY_LOGITS), (RAGGED, RAGGED_LOGITS)])
def test_at_equal_temperatures_it_is_exact_under_the_tempered_law(
    tau: float, space: CategoricalSpace, logits: Tensor
) -> None:
    case, f = decoupled_case(tau, tau, exact_on="multilinear"), function(space, "multilinear")
    value, gradient = contract.expected(case, space, logits, f)
    true_value, true_gradient = contract.truth(space, logits / tau, f)
    assert_close(value, true_value, rtol=0, atol=1e-12)
    assert_close(gradient, true_gradient / tau, rtol=0, atol=1e-12)  # the chain rule's 1 / tau


def test_the_forward_temperature_changes_the_objective() -> None:
    f = function(TINY, "cubic")
    for tau_b in (0.5, 1.0):
        case = decoupled_case(2.0, tau_b, exact_on="nothing")
        value, _ = contract.expected(case, TINY, TINY_LOGITS, f)
        assert_close(value, contract.truth(TINY, TINY_LOGITS / 2, f)[0], rtol=0, atol=1e-12)
        assert (value - contract.truth(TINY, TINY_LOGITS, f)[0]).abs() > 1e-2


@pytest.mark.parametrize("temperatures", [(1.0, 0.5), (2.0, 1.0), (0.5, 2.0)])
def test_two_temperatures_belong_to_two_expectations(temperatures: tuple[float, float]) -> None:
    tau_f, tau_b = temperatures
    case, f = decoupled_case(tau_f, tau_b, exact_on="nothing"), function(TINY, "linear")
    value, gradient = contract.expected(case, TINY, TINY_LOGITS, f)
    drawn, differentiated = (contract.truth(TINY, TINY_LOGITS / tau, f) for tau in temperatures)
    assert_close(value, drawn[0], rtol=0, atol=1e-12)
    assert_close(gradient, differentiated[1] / tau_b, rtol=0, atol=1e-12)
    assert (gradient - drawn[1] / tau_f).abs().max() > 1e-2


class Schedule(nn.Module):
    def __init__(self, tau: float) -> None:
        super().__init__()
        self.register_buffer("tau", torch.tensor(tau))

    def forward(self) -> Tensor:
        return self.tau


def test_temperatures_from_schedules() -> None:
    logits, f = random_logits(RAGGED, (5,)), function(RAGGED, "cubic")
    scheduled = DecoupledStraightThrough(RAGGED, tau_f=Schedule(0.5), tau_b=Schedule(2.0))
    fixed = DecoupledStraightThrough(RAGGED, tau_f=0.5, tau_b=2.0)
    results = [
        contract.value_and_gradient(e, f, logits, generator=contract.seeded())
        for e in (scheduled, fixed)
    ]
    for mine, expected in zip(*results, strict=True):
        assert_close(mine, expected)
    assert sorted(scheduled.state_dict()) == ["tau_b.tau", "tau_f.tau"]


@pytest.mark.parametrize("name", ["tau_f", "tau_b"])
@pytest.mark.parametrize("tau", [0, -1.0, math.nan, math.inf, None])
def test_bad_temperature(name: str, tau: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number above 0"):
        DecoupledStraightThrough(**{name: tau})
