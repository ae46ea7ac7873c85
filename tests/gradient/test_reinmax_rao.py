"""ReinMax-Rao: its limit at low temperature, its bias and its variance."""

import math

import pytest
import torch
from torch import Tensor

from discrete_grad import ReinMax, ReinMaxRao
from discrete_grad.gradient.reinmax_rao import _reinmax_rao_surrogate
from discrete_grad.sampling import gumbel_like
from tests.gradient import contract
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function

SIGMAS = 6.5  # a normal variable is that far out with a chance of 8e-11


def jacobian_product(p: Tensor, g: Tensor) -> Tensor:
    return RAGGED.softmax_jacobian(p, g)


def test_its_limit_at_low_temperature() -> None:
    # Gumbel-Rao at logits log q tends to 2 J_{(q + D) / 2} - J_q / 2, so this to twice that,
    # less J_pi / 2
    tau, inner = 0.02, 400_000
    hard = RAGGED.one_hot(torch.tensor([1, 0, 2, 0]), dtype=torch.float64)
    g = torch.randn(9, generator=contract.seeded(5), dtype=torch.float64)
    pi = RAGGED.softmax(RAGGED_LOGITS)
    q = (pi + hard) / 2
    limit = 2 * (2 * jacobian_product((q + hard) / 2, g) - jacobian_product(q, g) / 2)
    limit = limit - jacobian_product(pi, g) / 2
    gumbel = gumbel_like(RAGGED_LOGITS.expand(inner, -1), generator=contract.seeded(6))
    leaf = RAGGED_LOGITS.expand(inner, -1).clone().requires_grad_()
    surrogate = _reinmax_rao_surrogate(RAGGED, leaf, hard.expand(inner, -1), gumbel[None], tau)
    (each,) = torch.autograd.grad((surrogate @ g).sum(), leaf)
    error = each.std(0) / math.sqrt(inner)
    assert ((each.mean(0) - limit).abs() <= SIGMAS * error + tau).all()
    assert error.max() < 0.02


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_it_is_biased_on_linear_functions(tau: float) -> None:
    f, count = function(TINY, "linear"), 20_000
    _, gradient = contract.value_and_gradient(
        ReinMaxRao(TINY, tau=tau), f, TINY_LOGITS.expand(count, -1), generator=contract.seeded()
    )
    error = gradient.std(0) / math.sqrt(count)
    bias = (gradient.mean(0) - contract.truth(TINY, TINY_LOGITS, f)[1]).abs()
    assert (bias > SIGMAS * error).any()
    assert bias.max() > 1e-2


@pytest.mark.parametrize("kind", ["linear", "cubic"])
def test_its_variance_at_tau_one_is_below_that_of_reinmax_here(kind: str) -> None:
    f, count = function(RAGGED, kind), 20_000
    squares = []
    for estimator in (ReinMax(RAGGED), ReinMaxRao(RAGGED)):
        _, gradient = contract.value_and_gradient(
            estimator, f, RAGGED_LOGITS.expand(count, -1), generator=contract.seeded()
        )
        squares.append((gradient - gradient.mean(0)).square().sum(-1))
    error = (squares[0].var() + squares[1].var()).div(count).sqrt()
    assert squares[0].mean() - squares[1].mean() > SIGMAS * error


def test_it_says_that_it_is_experimental() -> None:
    assert ReinMaxRao.facts.experimental
    assert not ReinMax.facts.experimental
