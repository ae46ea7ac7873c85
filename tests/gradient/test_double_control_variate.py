"""The double control variate: no bias, no variance on linear f, alpha learned by the variance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import DoubleControlVariate, LeaveOneOut, Rebar, Relax, Rodeo
from discrete_grad.gradient import _control_variate as control_variate
from discrete_grad.gradient import double_control_variate
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Function
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.strategies import random_logits

PAIR = BY_NAME["DoubleControlVariate(alpha=1.0, learn=False, samples=2)"]
TRIPLE = BY_NAME["DoubleControlVariate(alpha=0.5, learn=True, samples=3)"]
MODULE = "discrete_grad.gradient.double_control_variate"


def all_pairs(samples: int = 2) -> tuple[Tensor, Tensor]:
    """Every tuple of rows of TINY `(N, n, F)` and its probability `(n,)`."""
    rows = TINY.enumerate()
    p = TINY.log_prob(TINY_LOGITS, rows).exp()
    index = torch.cartesian_prod(*[torch.arange(len(p))] * samples)
    return rows[index].transpose(0, 1), p[index].prod(-1)


def exact_variance(method: DoubleControlVariate | LeaveOneOut, f: Function) -> float:
    """Trace of the covariance of the gradient, by enumeration of all tuples."""
    codes, p = all_pairs(method.samples)
    with contract.given_codes(codes):
        _, gradient = contract.value_and_gradient(method, f, TINY_LOGITS.expand(len(p), -1))
    mean = p @ gradient
    return (p @ (gradient - mean).square().sum(-1)).item()


# --- bias and variance ----------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.5])
@pytest.mark.parametrize("samples", [2, 3])
def test_unbiased_at_every_alpha(alpha: float, samples: int) -> None:
    method, f = DoubleControlVariate(TINY, alpha=alpha, samples=samples), function(TINY, "cubic")
    codes, p = all_pairs(samples)
    with contract.given_codes(codes):
        _, gradient = contract.value_and_gradient(method, f, TINY_LOGITS.expand(len(p), -1))
    assert_close(p @ gradient, contract.truth(TINY, TINY_LOGITS, f)[1], rtol=0, atol=1e-12)


def test_alpha_zero_is_leave_one_out() -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,), masked=True)
    results = [
        contract.value_and_gradient(method, f, logits, generator=contract.seeded())
        for method in (
            DoubleControlVariate(RAGGED, alpha=0, samples=5),
            LeaveOneOut(RAGGED, samples=5),
        )
    ]
    for mine, expected in zip(*results, strict=True):
        assert_close(mine, expected, rtol=0, atol=1e-12)


def test_no_variance_on_a_linear_function() -> None:
    f = function(RAGGED, "linear")
    logits = RAGGED_LOGITS.expand(200, -1)
    _, gradient = contract.value_and_gradient(DoubleControlVariate(RAGGED), f, logits)
    true = contract.truth(RAGGED, RAGGED_LOGITS, f)[1]
    assert_close(gradient, true.expand_as(gradient), rtol=0, atol=1e-12)


def test_the_variance_against_leave_one_out() -> None:
    # lower on a smooth f; where df/dx misleads, an alpha of 1 is too much and a smaller one is not
    smooth, rough = function(TINY, "multilinear"), function(TINY, "cubic")
    for f, alpha in ((smooth, 1.0), (smooth, 0.5), (rough, 0.5)):
        double = exact_variance(DoubleControlVariate(TINY, alpha=alpha, samples=2), f)
        assert double < 0.9 * exact_variance(LeaveOneOut(TINY, samples=2), f)
    too_much = exact_variance(DoubleControlVariate(TINY, samples=2), rough)
    assert too_much > exact_variance(LeaveOneOut(TINY, samples=2), rough)


# --- alpha, learned -------------------------------------------------------------------------------


def learned(samples: int = 2, alpha: float = 0.25) -> DoubleControlVariate:
    return DoubleControlVariate(TINY, alpha=alpha, learn_alpha=True, samples=samples)


@pytest.mark.parametrize("slope", [1.0, -1.0, 3.0])
def test_the_gradient_of_alpha_is_that_of_the_variance(slope: float) -> None:
    # the loss is slope * value: its gradient in the logits has slope^2 times the variance
    f, step = function(TINY, "cubic"), 1e-3
    codes, p = all_pairs()
    expected = [
        exact_variance(DoubleControlVariate(TINY, alpha=a, samples=2), f)
        for a in (0.25 + step, 0.25 - step)
    ]
    # one element of the batch at a time: its weight p must not be squared with the slope
    mean = 0.0
    for code, weight in zip(codes.unbind(1), p, strict=True):
        one = learned()
        with contract.given_codes(code):
            (slope * one.expectation(f, TINY_LOGITS.clone().requires_grad_())).backward()
        mean += weight.item() * one.alpha.grad.item()
    numeric = slope**2 * (expected[0] - expected[1]) / (2 * step)
    assert abs(mean - numeric) < 1e-5 * abs(numeric)


def test_each_element_of_the_batch_has_its_own_slope() -> None:
    f, logits = function(TINY, "cubic"), random_logits(TINY, (3,))
    slopes = torch.tensor([2.0, -1.0, 0.0], dtype=torch.float64)
    codes = all_pairs()[0][:, 5:8]
    grads = []
    for chosen in ([0, 1, 2], [0], [1]):
        method = learned()
        with contract.given_codes(codes[:, chosen]):
            value = method.expectation(f, logits[chosen].requires_grad_())
        (slopes[chosen] * value).sum().backward()
        grads.append(method.alpha.grad)
    assert_close(grads[0], grads[1] + grads[2])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_finds_the_alpha_of_least_variance(sign: float) -> None:
    f, method = function(TINY, "cubic"), learned(alpha=0.0)
    # the variance is a parabola in alpha
    low, middle, high = (
        exact_variance(DoubleControlVariate(TINY, alpha=a, samples=2), f) for a in (0.0, 0.5, 1.0)
    )
    best = 0.5 + (low - high) / (4 * (low + high - 2 * middle))
    optimiser = torch.optim.Adam(method.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    generator = contract.seeded()
    for _ in range(200):
        logits = TINY_LOGITS.expand(256, -1).clone().requires_grad_()
        optimiser.zero_grad()
        (sign * method.expectation(f, logits, generator=generator).mean()).backward()
        optimiser.step()
        schedule.step()
    assert abs(method.alpha.item() - best) < 0.05
    least = exact_variance(DoubleControlVariate(TINY, alpha=best, samples=2), f)
    assert exact_variance(method, f) < 1.01 * least < min(low, high)


def test_a_fixed_alpha_is_no_parameter() -> None:
    assert not list(DoubleControlVariate().parameters())
    assert [name for name, _ in learned().named_parameters()] == ["alpha"]


@pytest.mark.parametrize("alpha", [float("nan"), float("inf"), None, "1"])
def test_bad_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        DoubleControlVariate(alpha=alpha)


# --- df/dx ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [
    lambda rows: rows.detach().sum(-1),
    lambda rows: torch.zeros(rows.shape[:-1], requires_grad=True) * 1,
    lambda rows: rows.argmax(-1).to(rows.dtype),
])  # fmt: skip
def test_an_f_without_derivative_is_refused(f: Function) -> None:
    with pytest.raises(ValueError, match=r"f has no derivative in the row.*LeaveOneOut"):
        DoubleControlVariate(TINY).expectation(f, torch.zeros(4, 5, requires_grad=True))


def test_a_frozen_f_is_passed_backwards_once() -> None:
    passes = []

    def f(rows: Tensor) -> Tensor:
        values = (rows**2).sum(-1)
        values.register_hook(lambda grad: passes.append(1))
        return values

    logits = torch.zeros(4, 5, requires_grad=True)
    DoubleControlVariate(TINY).expectation(f, logits).sum().backward()
    assert len(passes) == 1


def test_an_f_that_depends_on_the_logits_keeps_that_gradient() -> None:
    logits = random_logits(TINY, (4,)).requires_grad_()
    method, weights = DoubleControlVariate(TINY), torch.arange(5.0, dtype=torch.float64)
    value = method.expectation(lambda rows: rows.sum(-1) * 0 + logits @ weights, logits)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert_close(gradient, weights.expand(4, -1), rtol=0, atol=1e-12)


def test_without_gradients_the_value_is_the_same() -> None:
    f, logits = function(TINY, "cubic"), random_logits(TINY, (4,))
    for method in (learned(), DoubleControlVariate(TINY)):
        with torch.no_grad():
            value = method.expectation(f, logits, generator=contract.seeded())
        expected = method.expectation(f, logits.requires_grad_(), generator=contract.seeded())
        assert torch.equal(value, expected.detach())
        assert not value.requires_grad


@pytest.mark.parametrize("cls", [DoubleControlVariate, Rebar, Relax, Rodeo])
def test_under_inference_mode_the_value_is_the_same(cls: type[Rebar]) -> None:
    f, logits, method = function(TINY, "cubic"), random_logits(TINY, (4,)), cls(TINY)
    expected = method.expectation(f, logits, generator=contract.seeded()).detach()
    with torch.inference_mode():
        assert torch.equal(method.expectation(f, logits, generator=contract.seeded()), expected)


# --- planted bugs ---------------------------------------------------------------------------------


def no_mean_added_back(*args: Tensor) -> tuple[Tensor, Tensor]:
    space, logits, _, _, slopes = args
    base, correction = REAL(*args)
    return base, correction - space.softmax_jacobian(space.softmax(logits), slopes.mean(0))


def own_slope(
    space: object, logits: Tensor, hard: Tensor, values: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    scores, n = control_variate.score(space, logits, hard), len(hard)
    controls = (slopes * scores).sum(-1)
    centred = (controls - controls.mean(0)).unsqueeze(-1)
    jacobian = space.softmax_jacobian(space.softmax(logits), slopes.mean(0))
    base = REAL(space, logits, hard, values, slopes)[0]
    return base, jacobian - (centred * scores).sum(0) / (n - 1)


def values_for_baseline_only(*args: Tensor) -> tuple[Tensor, Tensor]:
    base, correction = REAL(*args)
    return base * (len(args[2]) - 1) / len(args[2]), correction


REAL = double_control_variate.double_control_variate


@pytest.mark.parametrize("bug", [no_mean_added_back, own_slope, values_for_baseline_only])
def test_a_planted_bug_is_caught(bug: object, monkeypatch: pytest.MonkeyPatch) -> None:
    contract.check_bias(PAIR)
    contract.check_formula(TRIPLE)
    monkeypatch.setattr(f"{MODULE}.double_control_variate", bug)
    with pytest.raises(AssertionError):
        contract.check_bias(PAIR)
    with pytest.raises(AssertionError):
        contract.check_formula(TRIPLE)


def weight_of_the_wrong_sign(
    base: Tensor, correction: Tensor, weight: float | Tensor
) -> tuple[Tensor, Tensor | None]:
    gradient, variance = control_variate.weighted(base, correction, weight)
    return gradient, None if variance is None else -variance


def own_square(weight: Tensor, correction: Tensor) -> Tensor:
    return weight.to(correction.dtype).reshape(()) ** 2 * correction.square().sum(-1)


def variance_of_the_correction_alone(
    base: Tensor, correction: Tensor, weight: float | Tensor
) -> tuple[Tensor, Tensor | None]:
    return base + weight * correction, None if isinstance(weight, float) else own_square(
        weight, correction
    )


@pytest.mark.parametrize("bug", [weight_of_the_wrong_sign, variance_of_the_correction_alone])
def test_a_bug_in_the_gradient_of_alpha_is_caught(
    bug: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract.check_formula(TRIPLE)
    monkeypatch.setattr(f"{MODULE}.weighted", bug)
    with pytest.raises(AssertionError):
        test_the_gradient_of_alpha_is_that_of_the_variance(1.0)


@pytest.mark.parametrize(
    "make", [lambda at: Rebar(eta=at), lambda at: DoubleControlVariate(alpha=at, learn_alpha=True)]
)
def test_learned_numbers_saved_without_dimensions_are_taken(
    make: Callable[[float], Rebar | DoubleControlVariate],
) -> None:
    state, other = make(0.5).state_dict(), make(0.25)
    other.load_state_dict({name: number.squeeze(0) for name, number in state.items()})
    assert state
    assert all(torch.equal(number, state[name]) for name, number in other.state_dict().items())
