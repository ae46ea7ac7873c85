"""LowVarianceReinMax: the least variance among gradients exact on quadratic f, and its limits."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, LowVarianceReinMax, ReinMax
from discrete_grad.sampling import normal, seeded
from tests.gradient import contract


def matrices(method: type[LowVarianceReinMax | ReinMax], logits: Tensor) -> Tensor:
    """`A[x, i, j]`: the gradient given row x is `A[x] @ slopes`, of one feature."""
    size = len(logits)
    space = CategoricalSpace({"x": size})
    codes = torch.arange(size).repeat_interleave(size).view(1, -1, 1)
    directions = torch.eye(size, dtype=torch.float64).repeat(size, 1)
    with contract.given_codes(codes):
        _, found = contract.value_and_gradient(
            method(space), lambda rows: (rows * directions).sum(-1), logits.expand(size**2, -1)
        )
    return found.view(size, size, size).mT


def flow(p: Tensor, spread: Tensor) -> Tensor:
    """The matrices of least variance where slope j has the variance `spread[j]`, independently.

    Exactness fixes `p_x A[x, i, x] = J_ix / 2`; the rest, `C_xj = p_x A[x, i, j]`, is antisymmetric
    with column sums `J_ij / 2`: a current in a network with the resistances
    `spread_j / p_x + spread_x / p_j`, which the least energy decides.
    """
    size, j = len(p), torch.diag(p) - torch.outer(p, p)
    conductance = 1 / (spread / p.unsqueeze(-1) + (spread / p.unsqueeze(-1)).T)
    conductance.fill_diagonal_(0)
    laplacian = torch.diag(conductance.sum(0)) - conductance
    potential = -torch.linalg.pinv(laplacian, hermitian=True) @ j / 2
    currents = (potential.unsqueeze(1) - potential) * conductance.unsqueeze(-1)  # (x, j, i)
    found = (currents / p.view(-1, 1, 1)).mT
    place = torch.arange(size)
    found[place, :, place] = (torch.eye(size, dtype=p.dtype) - p) / 2
    return found


def variance(p: Tensor, matrices: Tensor, spread: Tensor) -> Tensor:
    """Mean squared length of the gradient where slope j has the variance `spread[j]`."""
    return (p.view(-1, 1, 1) * matrices.square() * spread).sum()


def check_exact(p: Tensor, matrices: Tensor) -> None:
    size, j = len(p), torch.diag(p) - torch.outer(p, p)
    half = normal((size, size), generator=seeded(1))
    curvature, slope = half + half.T, normal((size,), generator=seeded(2))
    found = torch.einsum("x,xij,xj->i", p, matrices, curvature + slope)
    assert_close(found, j @ (curvature.diag() / 2 + slope), rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_it_has_all_but_the_least_variance_of_equal_slopes(size: int) -> None:
    for seed in range(5):
        logits = 2 * normal((size,), generator=seeded(seed))
        p, equal = logits.softmax(-1), torch.ones(size, dtype=torch.float64)
        least, mine, reinmax = (
            flow(p, equal),
            *(matrices(cls, logits) for cls in (LowVarianceReinMax, ReinMax)),
        )
        energies = [float(variance(p, found, equal)) for found in (least, mine, reinmax)]
        for found in (least, mine):
            check_exact(p, found)
        if size <= 3:
            assert_close(mine, least, rtol=0, atol=1e-9)
        assert energies[0] <= energies[1] + 1e-12
        assert energies[1] <= 1.06 * energies[0]
        assert energies[1] <= energies[2] + 1e-12


def test_reinmax_has_the_least_variance_where_rare_categories_have_larger_slopes() -> None:
    logits = normal((6,), generator=seeded(0))
    p = logits.softmax(-1)
    assert_close(matrices(ReinMax, logits), flow(p, 1 / p), rtol=0, atol=1e-9)
    other = variance(p, matrices(LowVarianceReinMax, logits), 1 / p)
    assert other > 1.01 * variance(p, matrices(ReinMax, logits), 1 / p)


@pytest.mark.parametrize("logits", [[0.0, 0.0, 0.0, 0.0], [0.3, -1.2]], ids=["equal", "binary"])
def test_for_equal_logits_and_for_two_categories_it_is_reinmax(logits: list[float]) -> None:
    theta = torch.tensor(logits, dtype=torch.float64)
    mine, reinmax = (matrices(cls, theta) for cls in (LowVarianceReinMax, ReinMax))
    assert_close(mine, reinmax, rtol=0, atol=1e-14)


@pytest.mark.parametrize("top", [12.0, 60.0, 1000.0])
def test_a_category_that_is_all_but_certain_leaves_numbers_of_usual_size(top: float) -> None:
    found = matrices(LowVarianceReinMax, torch.tensor([top, 0.0, -1.0], dtype=torch.float64))
    assert found.isfinite().all()
    assert found.abs().max() <= 1
    if top == 12.0:
        check_exact(torch.tensor([top, 0.0, -1.0], dtype=torch.float64).softmax(-1), found)
