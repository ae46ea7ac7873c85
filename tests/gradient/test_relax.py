"""RELAX: no bias whatever the control variate, which learns to lower the variance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import Rebar, Reinforce, Relax, on_codes
from discrete_grad.gradient import relax
from discrete_grad.sampling import isolated_seed
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Powers
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.gradient.relaxed import (
    BINARY,
    check_mean,
    given_pair,
    pair_noise,
    quadrature,
    squared_norm,
)
from tests.strategies import random_logits

CASE = BY_NAME["Relax(tau=1.0)"]
MODULE = "discrete_grad.gradient.relax"


class Net(nn.Module):
    """A control variate that is far from 0 from the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        with isolated_seed(3):
            self.layers = nn.Sequential(nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, 1)).double()

    def forward(self, rows: Tensor) -> Tensor:
        return 3 * self.layers(rows).squeeze(-1)


# --- no bias --------------------------------------------------------------------------------------


def check_quadrature(tau: float = 0.7) -> None:
    f, logits = function(BINARY, "cubic"), torch.tensor([0.7, -0.2], dtype=torch.float64)
    method = Relax(BINARY, control_variate=Net(2), tau=tau)
    gradient = quadrature(method, f, logits, 100_000)
    assert_close(gradient, contract.truth(BINARY, logits, f)[1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_unbiased_for_two_categories_by_quadrature(tau: float) -> None:
    check_quadrature(tau)


def test_unbiased_for_a_black_box_on_ragged_features_with_a_mask() -> None:
    table = torch.randn(RAGGED.num_rows, generator=contract.seeded(), dtype=torch.float64)
    f = on_codes(RAGGED, lambda codes: table[codes @ torch.tensor([9, 9, 3, 1])])
    method = Relax(RAGGED, control_variate=Net(RAGGED.width).requires_grad_(False))
    _, gradient = contract.value_and_gradient(
        method, f, RAGGED_LOGITS.expand(100_000, -1), generator=contract.seeded()
    )
    true = contract.truth(RAGGED, RAGGED_LOGITS, f)[1]
    check_mean(gradient, true, detects=0.1 * true.abs().max().item())


def test_the_default_is_at_first_reinforce_without_baseline() -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,), masked=True)
    with contract.given_gumbel(RAGGED, logits, contract.gumbel_noise(CASE, logits)):
        mine = contract.value_and_gradient(Relax(RAGGED, samples=2), f, logits)
        expected = contract.value_and_gradient(Reinforce(RAGGED, samples=2).eval(), f, logits)
    for ours, theirs in zip(mine, expected, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-12)
    sizes = [tuple(p.shape) for p in Relax(RAGGED).parameters() if p.dim() == 2]
    assert sizes == [(32, RAGGED.width), (1, 32)]


def test_f_as_its_own_control_variate_is_rebar() -> None:
    class Same(nn.Module):
        def forward(self, rows: Tensor) -> Tensor:
            return f(rows)

    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,), masked=True)
    noise = pair_noise(logits)
    results = []
    for method in (Relax(RAGGED, control_variate=Same()), Rebar(RAGGED)):
        with given_pair(noise):
            results.append(contract.value_and_gradient(method, f, logits))
    for mine, expected in zip(*results, strict=True):
        assert_close(mine, expected, rtol=0, atol=1e-12)


# --- learning -------------------------------------------------------------------------------------


def check_learning_signal() -> None:
    """The gradient of c's parameters is that of `sum slope^2 |gradient|^2`, numerically."""
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (4,), masked=True)
    noise, step = pair_noise(logits, samples=2), 1e-6
    for slopes in ([1.0, 1.0, 1.0, 1.0], [-0.25] * 4, [2.0, -1.0, 0.0, 0.5]):
        weights = torch.tensor(slopes, dtype=torch.float64)
        method = Relax(RAGGED, control_variate=Net(RAGGED.width), samples=2)
        with given_pair(noise):
            leaf = logits.clone().requires_grad_()
            (weights * method.expectation(f, leaf)).sum().backward()

        def total(method: Relax = method, weights: Tensor = weights) -> Tensor:
            return weights**2 @ squared_norm(lambda: method, f, logits, noise)

        for parameter in method.parameters():
            entry = parameter.detach().view(-1)
            at, numbers = entry[0].item(), []
            for moved in (at + step, at - step):
                entry[0] = moved
                numbers.append(total())
            entry[0] = at
            numeric = (numbers[0] - numbers[1]).item() / (2 * step)
            mine = parameter.grad.view(-1)[0].item()
            assert abs(mine - numeric) < 1e-6 * max(1, abs(numeric))


def test_the_control_variate_gets_the_gradient_of_the_squared_norm() -> None:
    check_learning_signal()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_lowers_the_variance(sign: float) -> None:
    # a black box whose values lie far from 0: c has to find a baseline and the rest
    table = torch.tensor([3.0, 1.0, 4.0, 1.5, 5.0, 2.0], dtype=torch.float64)
    f = on_codes(TINY, lambda codes: table[codes[..., 0] * 3 + codes[..., 1]])
    with isolated_seed(0):
        method = Relax(TINY)
    logits = TINY_LOGITS.expand(20_000, -1)
    noise = pair_noise(logits, seed=1)
    true = contract.truth(TINY, TINY_LOGITS, f)[1].square().sum()
    before = squared_norm(lambda: method, f, logits, noise).mean() - true
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    generator = contract.seeded()
    for _ in range(300):
        leaf = TINY_LOGITS.expand(100, -1).clone().requires_grad_()
        optimiser.zero_grad()
        (sign * method.expectation(f, leaf, generator=generator).mean()).backward()
        optimiser.step()
    after = squared_norm(lambda: method, f, logits, noise).mean() - true
    assert after < 0.35 * before
    _, gradient = contract.value_and_gradient(method, f, logits, generator=contract.seeded(5))
    true_gradient = contract.truth(TINY, TINY_LOGITS, f)[1]
    check_mean(gradient, true_gradient, detects=0.5 * true_gradient.abs().max().item())


def test_the_logits_get_the_same_gradient_whether_or_not_c_learns() -> None:
    f, logits = function(TINY, "cubic"), random_logits(TINY, (5,))
    noise = pair_noise(logits)
    results = []
    for learns in (True, False):
        control = Net(TINY.width).requires_grad_(learns)
        with given_pair(noise):
            method = Relax(TINY, control_variate=control)
            results.append(contract.value_and_gradient(method, f, logits))
    assert_close(results[0][1], results[1][1], rtol=1e-12, atol=1e-12)


def test_a_control_variate_without_learning_parameters_gets_no_gradient() -> None:
    control = Net(TINY.width).requires_grad_(False)
    method, logits = Relax(TINY, control_variate=control), torch.zeros(4, 5, requires_grad=True)
    method.expectation(function(TINY, "cubic"), logits).sum().backward()
    assert all(weight.grad is None for weight in control.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_control_variate_keeps_its_own_precision(dtype: torch.dtype) -> None:
    method = Relax(RAGGED)
    logits = random_logits(RAGGED, (6,), masked=True).to(dtype).requires_grad_()
    method.expectation(function(RAGGED, "quadratic"), logits).sum().backward()
    assert logits.grad.dtype == dtype
    for weight in method.parameters():
        assert weight.grad.dtype == torch.float32
        assert weight.grad.isfinite().all()


def test_errors() -> None:
    with pytest.raises(ValueError, match="Relax needs a space, or a control_variate"):
        Relax()
    with pytest.raises(TypeError, match="control_variate must be a module or None"):
        Relax(TINY, control_variate=lambda rows: rows.sum(-1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tau must be a finite number above 0"):
        Relax(TINY, tau=0)
    with pytest.raises(ValueError, match=r"f must map flat rows \(2, 4, 5\) to values \(2, 4\)"):
        Relax(TINY, control_variate=nn.Linear(5, 1)).expectation(
            lambda rows: rows.sum(-1), torch.zeros(4, 5)
        )


# --- planted bugs ---------------------------------------------------------------------------------

CORRECTION, WITH_GRADIENT = relax.relaxed_correction, relax.with_gradient


def no_derivative_of_c(*args: object, **options: bool) -> Tensor:
    space, logits, drawn, c, tau = args
    return CORRECTION(space, logits, drawn._replace(slope=drawn.slope * 0), c, tau, **options)


def value_alone(*args: object, **options: bool) -> Tensor:
    space, logits, drawn, c, tau = args
    rows = space.softmax(drawn.noisy / tau).to(logits.dtype)
    return (-c(rows)[1].unsqueeze(-1) * drawn.scores).mean(0)


def correction_of_the_wrong_sign(*args: object, **options: bool) -> Tensor:
    space, logits, drawn, c, tau = args
    flipped = CORRECTION(space, logits, drawn, lambda rows: -c(rows), tau, **options)
    rows = space.softmax(drawn.noisy / tau).to(logits.dtype)
    return flipped - 2 * (c(rows)[1].unsqueeze(-1) * drawn.scores).mean(0)


def variance_upwards(
    value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor | None
) -> Tensor:
    return WITH_GRADIENT(value, logits, gradient, None if variance is None else -variance)


def learning_without_the_values(
    value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor | None
) -> Tensor:
    own = gradient - gradient.detach()
    return WITH_GRADIENT(value, logits, gradient, (own * own).sum(-1))


@pytest.mark.parametrize(
    ("target", "bug", "check"),
    [
        ("relaxed_correction", no_derivative_of_c, check_quadrature),
        ("relaxed_correction", value_alone, check_quadrature),
        ("relaxed_correction", correction_of_the_wrong_sign, check_quadrature),
        ("relaxed_correction", value_alone, lambda: contract.check_formula(CASE)),
        ("with_gradient", variance_upwards, check_learning_signal),
        ("with_gradient", learning_without_the_values, check_learning_signal),
    ],
)
def test_a_planted_bug_is_caught(
    target: str, bug: Callable, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(f"{MODULE}.{target}", bug)
    with pytest.raises(AssertionError):
        check()


def test_the_case_of_the_table_learns() -> None:
    assert all(weight.requires_grad for weight in Powers().parameters())
