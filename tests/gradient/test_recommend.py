"""The recommendation: exact where the truth is known, within its budget, and honest about ties."""

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, Enumerate, LeaveOneOut, on_codes
from discrete_grad.gradient import catalogue, recommend, table

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
LOGITS = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def linear(rows: Tensor) -> Tensor:
    return rows @ WEIGHTS


def cubic(rows: Tensor) -> Tensor:
    return (rows @ WEIGHTS) ** 3


def test_a_linear_f_needs_no_more_than_the_mean_field() -> None:
    found = recommend(SPACE, linear, 2, LOGITS)
    errors = {m.name: m.error for m in found.ranked}
    assert found.reference == "enumeration"
    assert found.reference_error == 0
    assert errors["Softmax"] < 1e-20
    assert errors["LeaveOneOut"] > 0.1


def test_every_candidate_keeps_to_the_budget_and_uses_it() -> None:
    budget = 25
    found = recommend(SPACE, cubic, budget, LOGITS, repeats=16)
    assert {m.name for m in found.ranked} | set(found.skipped) == set(catalogue()) - {"Enumerate"}
    for m in found.ranked:
        assert m.cost <= budget
    costs = {m.name: m.cost for m in found.ranked}
    assert costs["LeaveOneOut"] == 25
    assert costs["ReinMax"] == 24
    assert costs["LocalExpectation"] == 25 // 5 * 5


def test_the_error_is_the_variance_where_there_is_no_bias() -> None:
    found = recommend(SPACE, cubic, 4, LOGITS, candidates={"LeaveOneOut": LeaveOneOut})
    leaf = LOGITS.clone().requires_grad_()
    exact = torch.autograd.grad(Enumerate(SPACE).expectation(cubic, leaf), leaf)[0]
    many = LOGITS.expand(20_000, -1).clone().requires_grad_()
    noise = torch.Generator().manual_seed(5)
    value = LeaveOneOut(SPACE, samples=4).expectation(cubic, many, generator=noise).sum()
    errors = (torch.autograd.grad(value, many)[0] - exact).square().sum(-1)
    expected = (errors.mean() / exact.square().sum()).item()
    assert abs(found.ranked[0].error - expected) < 3 * found.ranked[0].half_width


def test_a_black_box_leaves_out_what_needs_its_derivative() -> None:
    table = torch.randn(12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    f = on_codes(SPACE, lambda codes: table[(codes * torch.tensor([6, 2, 1])).sum(-1)])
    found = recommend(SPACE, f, 12, LOGITS, repeats=16)
    measured = {m.name for m in found.ranked}
    assert "LeaveOneOut" in measured
    assert not any(catalogue()[name].facts.needs_derivative for name in measured)
    assert "black box" in found.skipped["ReinMax"]


def test_a_large_space_is_compared_with_many_samples() -> None:
    space = CategoricalSpace.from_sizes((10,) * 6)
    weights = torch.randn(60, generator=torch.Generator().manual_seed(3))
    found = recommend(
        space,
        lambda rows: torch.tanh(rows @ weights),
        8,
        torch.zeros(60),
        candidates={name: catalogue()[name] for name in ("LeaveOneOut", "StraightThrough")},
        repeats=64,
    )
    assert "leave-one-out samples" in found.reference
    assert 0 < found.reference_error < 0.1
    assert "against" in str(found)


def test_the_same_seed_gives_the_same_ranking_and_leaves_the_global_state() -> None:
    state = torch.get_rng_state()
    a, b = (recommend(SPACE, cubic, 6, LOGITS, repeats=16, seed=3) for _ in range(2))
    assert [(m.name, m.error) for m in a.ranked] == [(m.name, m.error) for m in b.ranked]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("budget", "repeats"), [(0, 64), (4, 2)])
def test_wrong_numbers(budget: int, repeats: int) -> None:
    with pytest.raises(ValueError, match="budget must be >= 1 and repeats >= 16"):
        recommend(SPACE, linear, budget, LOGITS, repeats=repeats)


def test_the_table_has_a_line_for_each() -> None:
    lines = table().splitlines()
    assert len(lines) == 2 + len(catalogue())
    assert all(line.count("|") == 8 for line in lines)
