"""REBAR: the law of the conditional noise, no bias, and what is learned by the variance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Rebar, Reinforce
from discrete_grad.gradient import rebar
from discrete_grad.sampling import gumbel_like
from tests.goodness import FALSE_ALARM, g_test
from tests.gradient import contract
from tests.gradient.cases import BY_NAME
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

CASE = BY_NAME["Rebar(eta=1.0, tau=0.5, learn=False)"]
LEARNED = BY_NAME["Rebar(eta=0.75, tau=0.25, learn=True)"]
MODULE = "discrete_grad.gradient.rebar"
INF = torch.inf

# --- the conditional noise ------------------------------------------------------------------------


def check_conditional_law(dtype: torch.dtype = torch.float64) -> None:
    """(D, z~) has the law of (argmax z, z): the argmax is D, and z~ - log p is Gumbel noise.

    exp(-exp(-G)) is uniform; 5 bins for each of 3 categories, jointly.
    """
    space = CategoricalSpace({"x": 4})
    logits = torch.tensor([1.2, 0.0, -INF, -0.9], dtype=dtype)
    log_p = space.log_softmax(logits).expand(200_000, -1)
    generator = contract.seeded()
    free = log_p + gumbel_like(log_p, generator=generator)
    hard = space.one_hot(space.argmax(free), dtype=dtype)
    own = gumbel_like(log_p, generator=generator)
    z, _ = rebar._conditional_gumbel(space, log_p, hard, own)
    assert torch.equal(space.argmax(z), space.argmax(hard))
    assert (z[:, 2] == -INF).all()
    allowed = torch.tensor([0, 1, 3])
    uniform = (-(-(z - log_p)[:, allowed]).exp()).exp().double()
    cells = (uniform * 5).long().clamp_max(4) @ torch.tensor([25, 5, 1])
    counts = cells.bincount(minlength=125)
    p_value = g_test(counts, torch.full((125,), 1 / 125))
    assert p_value > FALSE_ALARM, f"not the law of the noisy logits: p = {p_value:.1e}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_conditional_noise_has_the_law_of_the_noise_of_the_draw(dtype: torch.dtype) -> None:
    check_conditional_law(dtype)


def test_the_slope_of_the_conditional_noise() -> None:
    log_p = RAGGED.log_softmax(random_logits(RAGGED, (50,))).requires_grad_()
    hard = RAGGED.one_hot(RAGGED.enumerate()[:18].repeat(3, 1)[:50], dtype=torch.float64)
    own = pair_noise(log_p.detach())[0, 0]
    z, slope = rebar._conditional_gumbel(RAGGED, log_p, hard, own)
    assert_close(slope, torch.autograd.grad(z.sum(), log_p)[0])
    assert (slope[hard == 1] == 0).all()


# --- no bias --------------------------------------------------------------------------------------


def check_quadrature(**options: float) -> None:
    f, logits = function(BINARY, "cubic"), torch.tensor([0.7, -0.2], dtype=torch.float64)
    gradient = quadrature(Rebar(BINARY, **options), f, logits, 100_000)
    assert_close(gradient, contract.truth(BINARY, logits, f)[1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("eta", [0.0, 1.0, -2.0])
def test_unbiased_for_two_categories_by_quadrature(eta: float, tau: float) -> None:
    check_quadrature(eta=eta, tau=tau)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2])
def test_unbiased_on_ragged_features_with_a_mask(samples: int) -> None:
    f, count = function(RAGGED, "quadratic"), 50_000 // samples
    _, gradient = contract.value_and_gradient(
        Rebar(RAGGED, eta=0.8, samples=samples),
        f,
        RAGGED_LOGITS.expand(count, -1),
        generator=contract.seeded(),
    )
    true = contract.truth(RAGGED, RAGGED_LOGITS, f)[1]
    check_mean(gradient, true, detects=0.1 * true.abs().max().item())


def test_eta_zero_is_reinforce_without_baseline() -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,), masked=True)
    gumbel = contract.gumbel_noise(CASE, logits)
    with contract.given_gumbel(RAGGED, logits, gumbel):
        mine = contract.value_and_gradient(Rebar(RAGGED, eta=0), f, logits)
        expected = contract.value_and_gradient(Reinforce(RAGGED).eval(), f, logits)
    for ours, theirs in zip(mine, expected, strict=True):
        assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_the_variance_is_below_that_of_reinforce() -> None:
    f, logits = function(RAGGED, "multilinear"), RAGGED_LOGITS.expand(20_000, -1)
    noise = pair_noise(logits)
    plain = squared_norm(lambda: Rebar(RAGGED, eta=0), f, logits, noise)
    mine = squared_norm(lambda: Rebar(RAGGED, eta=1), f, logits, noise)
    # both have the same mean, so the squared norms compare the variances; paired, one-sided
    gain = plain - mine
    assert gain.mean() > 6.1 * gain.std() / len(gain) ** 0.5
    assert mine.mean() < 0.9 * plain.mean()


# --- what is learned ------------------------------------------------------------------------------


def slopes_of_the_parameters(slopes: Tensor) -> dict[str, tuple[float, float]]:
    """For each parameter: its gradient, and the numerical one of `sum slope^2 |gradient|^2`."""
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (4,), masked=True)
    noise, step = pair_noise(logits, samples=2), 1e-6

    at = {"eta": 0.6, "log_tau": -0.4}  # at a temperature of 1 its logarithm would have its slope

    def make(eta: float = at["eta"], log_tau: float = at["log_tau"]) -> Rebar:
        method = Rebar(RAGGED, learn_tau=True, samples=2).double()
        with torch.no_grad():
            method.eta.fill_(eta)
            method.log_tau.fill_(log_tau)
        return method

    def total(**values: float) -> float:
        return (slopes**2 @ squared_norm(lambda: make(**values), f, logits, noise)).item()

    method = make()
    with given_pair(noise):
        (slopes * method.expectation(f, logits.requires_grad_())).sum().backward()
    logits.requires_grad_(False)
    return {
        name: (
            getattr(method, name).grad.item(),
            (total(**{name: value + step}) - total(**{name: value - step})) / (2 * step),
        )
        for name, value in at.items()
    }


def check_learning_signal() -> None:
    for slopes in ([1.0, 1.0, 1.0, 1.0], [-0.25] * 4, [2.0, -1.0, 0.0, 0.5]):
        results = slopes_of_the_parameters(torch.tensor(slopes, dtype=torch.float64))
        for mine, numeric in results.values():
            assert abs(mine - numeric) < 1e-6 * max(1, abs(numeric))


def test_eta_and_tau_get_the_gradient_of_the_squared_norm() -> None:
    check_learning_signal()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_lowers_the_variance(sign: float) -> None:
    f, generator = function(TINY, "linear"), contract.seeded()
    method = Rebar(TINY, eta=0.0, tau=0.2, learn_tau=True)
    logits = TINY_LOGITS.expand(20_000, -1)
    noise = pair_noise(logits, seed=1)
    before = squared_norm(lambda: method, f, logits, noise).mean()
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    for _ in range(150):
        leaf = TINY_LOGITS.expand(200, -1).clone().requires_grad_()
        optimiser.zero_grad()
        (sign * method.expectation(f, leaf, generator=generator).mean()).backward()
        optimiser.step()
    after = squared_norm(lambda: method, f, logits, noise).mean()
    assert after < 0.4 * before
    assert method.eta > 0.5
    assert method.log_tau.exp() > 0.4


def test_what_is_learned_is_a_parameter() -> None:
    def names(**options: bool) -> list[str]:
        return [name for name, _ in Rebar(**options).named_parameters()]

    assert names() == ["eta"]
    assert names(learn_tau=True) == ["eta", "log_tau"]
    assert names(learn_eta=False) == []
    assert names(learn_eta=False, learn_tau=True) == ["log_tau"]


def test_relaxed_rows_leave_the_parameters_of_f_alone() -> None:
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    logits, weights = random_logits(TINY, (6,)), torch.arange(5.0, dtype=torch.float64)
    for method in (Rebar(TINY), Rebar(TINY, learn_tau=True)):
        rows = []

        def f(x: Tensor, rows: list[Tensor] = rows) -> Tensor:
            rows.append(x)
            return scale * (x**2 @ weights)

        (gradient,) = torch.autograd.grad(
            method.expectation(f, logits.requires_grad_()).sum(), scale
        )
        assert_close(gradient, (rows[0] ** 2 @ weights).sum())


class Schedule(nn.Module):
    def forward(self) -> float:
        return 0.25


def test_tau_from_a_schedule() -> None:
    f, logits = function(TINY, "cubic"), random_logits(TINY, (6,))
    results = [
        contract.value_and_gradient(Rebar(TINY, tau=tau), f, logits, generator=contract.seeded())
        for tau in (0.25, Schedule())
    ]
    for mine, expected in zip(*results, strict=True):
        assert torch.equal(mine, expected)
    with pytest.raises(ValueError, match="learn_tau needs a number tau to start from"):
        Rebar(tau=Schedule(), learn_tau=True)


@pytest.mark.parametrize("options", [{"eta": float("nan")}, {"eta": "1"}, {"tau": 0}, {"tau": -1}])
def test_bad_hyperparameters(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(eta|tau) must be a finite number"):
        Rebar(**options)


def test_an_f_without_derivative_is_refused() -> None:
    with pytest.raises(ValueError, match=r"f has no derivative in the row.*LeaveOneOut"):
        Rebar(TINY).expectation(lambda rows: rows.detach().sum(-1), torch.zeros(4, 5))


def test_without_gradients_the_value_is_the_same() -> None:
    f, logits = function(TINY, "cubic"), random_logits(TINY, (4,))
    for method in (Rebar(TINY), Rebar(TINY, learn_tau=True)):
        with torch.no_grad():
            value = method.expectation(f, logits, generator=contract.seeded())
        expected = method.expectation(f, logits, generator=contract.seeded())
        assert torch.equal(value, expected.detach())
        assert not value.requires_grad


# --- planted bugs ---------------------------------------------------------------------------------

CONDITIONAL, CORRECTION = rebar._conditional_gumbel, rebar.relaxed_correction
Bug = Callable[..., object]


def without_probabilities(
    space: CategoricalSpace, log_p: Tensor, hard: Tensor, gumbel: Tensor
) -> tuple[Tensor, Tensor]:
    return CONDITIONAL(space, log_p.masked_fill(log_p > -INF, 0), hard, gumbel)


def unconditional(
    space: CategoricalSpace, log_p: Tensor, hard: Tensor, gumbel: Tensor
) -> tuple[Tensor, Tensor]:
    return log_p + gumbel, torch.ones_like(hard)


def slope_of_one(*args: Tensor) -> tuple[Tensor, Tensor]:
    z, slope = CONDITIONAL(*args)
    return z, torch.ones_like(slope)


def one_noise_for_both(
    space: CategoricalSpace, logits: Tensor, drawn: rebar._Coupled, *rest: object, **options: bool
) -> Tensor:
    z = drawn.noisy[:1].expand_as(drawn.noisy)
    return CORRECTION(space, logits, drawn._replace(noisy=z), *rest, **options)


def noises_swapped(
    space: CategoricalSpace, logits: Tensor, drawn: rebar._Coupled, *rest: object, **options: bool
) -> Tensor:
    return CORRECTION(space, logits, drawn._replace(noisy=drawn.noisy.flip(0)), *rest, **options)


def tau_left_out_of_the_slope(
    space: CategoricalSpace,
    logits: Tensor,
    drawn: rebar._Coupled,
    c: Callable[[Tensor], Tensor],
    tau: float,
    **options: bool,
) -> Tensor:
    scaled = drawn._replace(noisy=drawn.noisy / tau)
    return CORRECTION(space, logits, scaled, c, 1.0, **options)


def sign_of_the_correction(*args: object, **options: bool) -> Tensor:
    return -CORRECTION(*args, **options) * 0.5


@pytest.mark.parametrize(
    ("target", "bug", "check"),
    [
        ("_conditional_gumbel", without_probabilities, check_conditional_law),
        ("_conditional_gumbel", without_probabilities, check_quadrature),
        ("_conditional_gumbel", unconditional, check_conditional_law),
        ("_conditional_gumbel", unconditional, lambda: contract.check_formula(CASE)),
        ("_conditional_gumbel", slope_of_one, check_quadrature),
        ("relaxed_correction", one_noise_for_both, check_quadrature),
        ("relaxed_correction", noises_swapped, check_quadrature),
        ("relaxed_correction", tau_left_out_of_the_slope, check_quadrature),
        ("relaxed_correction", sign_of_the_correction, lambda: contract.check_formula(CASE)),
        ("relaxed_correction", tau_left_out_of_the_slope, lambda: contract.check_formula(LEARNED)),
    ],
)
def test_a_planted_bug_is_caught(
    target: str, bug: Bug, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(f"{MODULE}.{target}", bug)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.slow
def test_the_statistical_test_catches_a_wrong_slope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._conditional_gumbel", slope_of_one)
    with pytest.raises(AssertionError, match="off by"):
        test_unbiased_on_ragged_features_with_a_mask(1)


def variance_upwards(value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor) -> Tensor:
    return WITH_GRADIENT(value, logits, gradient, -variance)


def slope_of_the_loss_once(
    value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor
) -> Tensor:
    return WITH_GRADIENT(value + variance - variance.detach(), logits, gradient)


WITH_GRADIENT = rebar.with_gradient


@pytest.mark.parametrize("bug", [variance_upwards, slope_of_the_loss_once])
def test_a_wrong_learning_signal_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.with_gradient", bug)
    with pytest.raises(AssertionError):
        check_learning_signal()
