"""Gumbel-Rao: the law of the noise given the row, its mean, its limit and its variance."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GumbelRao, GumbelSoftmax, ReinMax
from discrete_grad.gradient.gumbel_rao import _conditional_perturbed, gumbel_rao_surrogate
from discrete_grad.sampling import categorical, gumbel_like, uniform_like
from tests.goodness import FALSE_ALARM, g_test
from tests.gradient import contract
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, function

SIGMAS = 6.5  # a normal variable is that far out with a chance of 8e-11
THREE = CategoricalSpace({"x": 3})
LOGITS = torch.tensor([0.8, -0.5, 0.1], dtype=torch.float64)


def drawn(
    count: int, *, conditional: Callable[..., Tensor] = _conditional_perturbed
) -> tuple[Tensor, Tensor]:
    """Hard rows and one perturbed draw for each, `(count, 3)`."""
    generator, logits = contract.seeded(), LOGITS.expand(count, -1)
    uniform = uniform_like(THREE, logits, generator=generator)
    hard = THREE.one_hot(categorical(THREE, logits, uniform), dtype=torch.float64)
    gumbel = gumbel_like(logits, generator=generator)
    return hard, conditional(THREE, logits, hard, gumbel.unsqueeze(0))[0]


def law_p_value(perturbed: Tensor) -> float:
    """Are the perturbed logits, without the row, the logits plus three independent Gumbels?"""
    uniform = torch.exp(-torch.exp(LOGITS - perturbed))  # the distribution function of a Gumbel
    cells = (uniform * 5).long().clamp(0, 4)
    index = cells @ torch.tensor([25, 5, 1])
    return g_test(index.bincount(minlength=125), torch.full((125,), 1 / 125))


def test_the_row_and_the_noise_given_the_row_have_the_joint_law_of_gumbel_max() -> None:
    hard, perturbed = drawn(300_000)
    assert (THREE.argmax(perturbed) == THREE.argmax(hard)).all()
    assert law_p_value(perturbed) > FALSE_ALARM


def test_that_test_can_fail() -> None:
    def unconditional(
        space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor
    ) -> Tensor:
        return logits + gumbel

    def top_too_low(
        space: CategoricalSpace, logits: Tensor, hard: Tensor, gumbel: Tensor
    ) -> Tensor:
        return _conditional_perturbed(space, logits, hard, gumbel) - 0.05 * hard

    hard, perturbed = drawn(300_000, conditional=unconditional)
    assert not (THREE.argmax(perturbed) == THREE.argmax(hard)).all()
    _, perturbed = drawn(300_000, conditional=top_too_low)
    assert law_p_value(perturbed) < FALSE_ALARM


def test_masked_and_large_logits() -> None:
    logits = torch.tensor([120.0, -math.inf, 90.0])  # exp(120) is no float32
    hard = torch.tensor([0.0, 0.0, 1.0])
    result = _conditional_perturbed(THREE, logits, hard, torch.zeros(2, 3))
    assert (result[:, 1] == -math.inf).all()
    assert result[:, [0, 2]].isfinite().all()
    assert (result.argmax(-1) == 2).all()


# --- two categories: everything by quadrature -----------------------------------------------------


def quantile_gumbels(count: int) -> Tensor:
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return -(-u.log()).log()


def averaged_gradient(logits: Tensor, row: Tensor, g: Tensor, tau: float, count: int) -> Tensor:
    """Expected gradient given the row, over a grid of quantiles of both Gumbels."""
    space, q = CategoricalSpace({"x": 2}), quantile_gumbels(count)
    gumbel = torch.stack(torch.meshgrid(q, q, indexing="ij"), -1).view(-1, 2)
    leaf = logits.clone().requires_grad_()
    surrogate = gumbel_rao_surrogate(space, leaf, row, gumbel, tau)
    return torch.autograd.grad(surrogate @ g, leaf)[0]


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_its_mean_is_that_of_straight_through_gumbel_softmax(tau: float) -> None:
    space, f = CategoricalSpace({"x": 2}), function(CategoricalSpace({"x": 2}), "cubic")
    logits = torch.tensor([0.7, 0.0], dtype=torch.float64)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    noise = torch.stack([u.logit(), torch.zeros_like(u)], -1).unsqueeze(0)
    with contract.given_gumbel(space, logits.expand(len(u), -1), noise):
        _, gradient = contract.value_and_gradient(
            GumbelSoftmax(space, tau=tau), f, logits.expand(len(u), -1)
        )
    rows = torch.eye(2, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(f(rows).sum(), rows)
    parts = [averaged_gradient(logits, rows[i].detach(), g[i], tau, 500) for i in range(2)]
    mine = logits.softmax(-1) @ torch.stack(parts)
    assert_close(mine, gradient.mean(0), rtol=0, atol=2e-4)
    assert mine.abs().max() > 1e-1


def test_for_two_categories_its_limit_at_low_temperature_is_reinmax() -> None:
    space, f = CategoricalSpace({"x": 2}), function(CategoricalSpace({"x": 2}), "cubic")
    logits = torch.tensor([0.7, 0.0], dtype=torch.float64)
    rows = torch.eye(2, dtype=torch.float64).requires_grad_()
    (g,) = torch.autograd.grad(f(rows).sum(), rows)
    with contract.given_codes(torch.tensor([[[0], [1]]])):
        _, reinmax = contract.value_and_gradient(ReinMax(space), f, logits.expand(2, -1))
    distance = []
    for tau in (0.4, 0.1, 0.03):
        mine = [averaged_gradient(logits, rows[i].detach(), g[i], tau, 700) for i in range(2)]
        distance.append((torch.stack(mine) - reinmax).abs().max().item())
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 1e-2 < distance[0]


# --- more categories: by sampling -----------------------------------------------------------------


def test_for_ragged_features_its_limit_at_low_temperature_is_reinmax() -> None:
    tau, inner = 0.02, 400_000
    codes = torch.tensor([1, 0, 2, 0])
    hard = RAGGED.one_hot(codes, dtype=torch.float64)
    g = torch.randn(9, generator=contract.seeded(5), dtype=torch.float64)
    with contract.given_codes(codes.view(1, 4)):
        _, reinmax = contract.value_and_gradient(ReinMax(RAGGED), lambda x: x @ g, RAGGED_LOGITS)
    gumbel = gumbel_like(RAGGED_LOGITS.expand(inner, -1), generator=contract.seeded(6))
    leaf = RAGGED_LOGITS.expand(inner, -1).clone().requires_grad_()
    surrogate = gumbel_rao_surrogate(RAGGED, leaf, hard.expand(inner, -1), gumbel[None], tau)
    (each,) = torch.autograd.grad((surrogate @ g).sum(), leaf)
    error = each.std(0) / math.sqrt(inner)
    # beside the noise, a bias of order tau
    assert ((each.mean(0) - reinmax).abs() <= SIGMAS * error + 0.5 * tau).all()
    assert error.max() < 0.01


def test_its_variance_is_below_that_of_straight_through_gumbel_softmax() -> None:
    f, count = function(RAGGED, "cubic"), 20_000
    logits = RAGGED_LOGITS.expand(count, -1)
    squares, means = [], []
    for estimator in (GumbelSoftmax(RAGGED, tau=0.3), GumbelRao(RAGGED, tau=0.3, inner_samples=10)):
        _, gradient = contract.value_and_gradient(estimator, f, logits, generator=contract.seeded())
        centred = gradient - gradient.mean(0)
        squares.append(centred.square().sum(-1))
        means.append((gradient.mean(0), gradient.var(0) / count))
    excess = squares[0].mean() - squares[1].mean()
    error = (squares[0].var() + squares[1].var()).div(count).sqrt()
    assert excess > SIGMAS * error
    difference = (means[0][0] - means[1][0]).abs()
    assert (difference <= SIGMAS * (means[0][1] + means[1][1]).sqrt()).all()


@pytest.mark.parametrize("inner", [0, -1, 1.5, None])
def test_bad_inner_samples(inner: int) -> None:
    with pytest.raises(ValueError, match="inner_samples must be a whole number >= 1"):
        GumbelRao(inner_samples=inner)
