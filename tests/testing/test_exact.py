"""Exact expectations, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import (
    CategoricalSpace,
    DeterministicStraightThrough,
    Enumerate,
    GumbelSoftmax,
    LeaveOneOut,
    Reinforce,
    ReinMax,
    Softmax,
    StraightThrough,
)
from discrete_grad.testing import (
    NotEnumerableError,
    categorical_spaces,
    enumerable_logits,
    exact_bias,
    exact_gradient,
    exact_variance,
    functions,
    logits,
    outcomes,
    row_function,
)
from discrete_grad.testing._calling import estimate
from tests.testing.bugs import Layer

SPACE = CategoricalSpace({"a": 2, "one": 1, "b": 3})
LOGITS = torch.tensor([0.3, -0.4, 2.0, 0.5, -torch.inf, 0.1], dtype=torch.float64)


@given(categorical_spaces(max_features=3, max_size=4), st.data())
def test_exact_gradient_is_the_derivative_of_the_expectation(space: CategoricalSpace, data) -> None:
    theta = data.draw(logits(space))
    f = data.draw(functions(space, family="quadratic"))
    leaf = theta.clone().requires_grad_()
    rows = space.one_hot(space.enumerate(), dtype=torch.float64)
    p = torch.where(rows == 1, space.softmax(leaf), 1).prod(-1)
    (expected,) = torch.autograd.grad((p * f(rows)).sum(), leaf)
    assert_close(exact_gradient(f, theta, space), expected, rtol=1e-9, atol=1e-9)


def test_a_forbidden_row_has_no_say() -> None:
    def f(rows: Tensor) -> Tensor:
        return torch.where(rows[..., 4] == 1, torch.inf, rows[..., 0])

    gradient = exact_gradient(f, LOGITS, SPACE)
    assert gradient.isfinite().all()
    assert_close(gradient, exact_gradient(lambda rows: rows[..., 0], LOGITS, SPACE))


@pytest.mark.parametrize("method", [Enumerate, StraightThrough, Softmax, ReinMax, Reinforce])
def test_no_bias_on_a_multilinear_function(method: type[nn.Module]) -> None:
    f = row_function(SPACE, "multilinear")
    assert exact_bias(method(SPACE), f, LOGITS).abs().max() < 1e-14


@pytest.mark.parametrize(
    "method", [StraightThrough, Softmax, ReinMax, DeterministicStraightThrough]
)
def test_bias_on_a_cubic_function_is_that_of_many_samples(method: type[nn.Module]) -> None:
    f = row_function(SPACE, "cubic")
    bias = exact_bias(method(SPACE), f, LOGITS)
    assert bias.abs().max() > 1e-2
    _, gradient = estimate(method(SPACE), f, LOGITS.expand(200_000, -1), seed=3)
    error = gradient.std(0) / 200_000**0.5
    off = gradient.mean(0) - exact_gradient(f, LOGITS, SPACE) - bias
    assert (off.abs() <= 7 * error + 1e-12).all()


@pytest.mark.parametrize("samples", [2, 3])
def test_variance_is_that_of_many_samples(samples: int) -> None:
    f, method = row_function(SPACE, "cubic"), LeaveOneOut(SPACE, samples=samples)
    variance = exact_variance(method, f, LOGITS)
    _, gradient = estimate(method, f, LOGITS.expand(100_000, -1), seed=4)
    assert_close(gradient.var(0), variance, rtol=0.04, atol=1e-12)
    assert variance[2] == variance[4] == 0


def test_variance_of_the_mean_of_two_is_half() -> None:
    f = row_function(SPACE, "cubic")
    one, two = (exact_variance(StraightThrough(SPACE, samples=n), f, LOGITS) for n in (1, 2))
    assert_close(one, 2 * two)
    assert (exact_variance(Softmax(SPACE), f, LOGITS) == 0).all()


def test_outcomes_are_every_tuple_with_its_probability() -> None:
    found = outcomes(LeaveOneOut(SPACE, samples=2), row_function(SPACE), LOGITS)
    assert found.gradients.shape == (16, 6)  # (2 * 2 rows) ** 2
    assert_close(found.probabilities.sum().item(), 1.0)
    p = SPACE.log_prob(LOGITS, SPACE.enumerate()).exp()
    p = p[p > 0]
    assert_close(found.probabilities, torch.outer(p, p).flatten())


def test_the_noise_of_a_running_baseline_is_none() -> None:
    method = Reinforce(SPACE)
    exact_bias(method, row_function(SPACE), LOGITS)  # first call: the baseline is 0 throughout


class Dependent(Layer):
    """The second row is always the first: not independent draws."""

    def expectation(self, f, logits, *, generator=None):
        rows = self(logits.unsqueeze(0), generator=generator)
        return f(torch.cat([rows, rows])).mean(0)


class NoisyGradient(Layer):
    def surrogate(self, logits, hard):
        return super().surrogate(logits, hard) * torch.rand(logits.shape[:-1]).unsqueeze(-1)


class WrongLaw(Layer):
    def codes(self, logits, generator):
        return super().codes(logits / 1.5, generator)


class Flat(Layer):
    def expectation(self, f, logits, *, generator=None):
        return f(self(logits, generator=generator))


class NanGradient(Layer):
    def surrogate(self, logits, hard):
        return super().surrogate(logits, hard) * torch.nan


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (Dependent(SPACE), "not independent draws"),
        (WrongLaw(SPACE), "not independent draws from softmax"),
        (NoisyGradient(SPACE), "equal rows gave different gradients"),
        (GumbelSoftmax(SPACE), "equal rows gave different gradients"),
        (GumbelSoftmax(SPACE, hard=False), "soft rows that differ"),
        (Flat(SPACE), r"must be given rows \(samples, 64, 6\).*got \(64, 6\)"),
        (StraightThrough(SPACE, samples=40), r"4\^40 tuples of rows are too many"),
        (
            StraightThrough(SPACE, samples=8),
            r"rarest of 65,536 tuples.*more than max_draws=100,000",
        ),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else "",
)
def test_what_is_no_finite_sum_is_refused(method: nn.Module, words: str) -> None:
    with pytest.raises(NotEnumerableError, match=words):
        exact_bias(method, row_function(SPACE), LOGITS)


def test_a_gradient_that_is_not_finite_is_no_outcome() -> None:
    with pytest.raises(AssertionError, match="not finite"):
        exact_bias(NanGradient(SPACE), row_function(SPACE), LOGITS)


def test_a_nearly_certain_row_is_not_taken_for_a_deterministic_method() -> None:
    # 64 draws of probability 0.999 each come out the same: that must not end the search
    logits = torch.tensor([7.0, 0.0], dtype=torch.float64)
    found = outcomes(StraightThrough(), lambda rows: (rows[..., 0] - 0.3) ** 3, logits)
    assert len(found.probabilities) == 2
    assert (
        len(outcomes(DeterministicStraightThrough(), lambda r: r[..., 0], logits * 0).values) == 1
    )


@pytest.mark.parametrize("samples", [1, 2, 4])
@settings(max_examples=8)
@given(data=st.data())
def test_what_the_strategy_draws_can_be_enumerated(samples: int, data) -> None:
    space, theta = data.draw(enumerable_logits(samples=samples))
    f = data.draw(functions(space, family="cubic"))
    method = StraightThrough if samples == 1 else LeaveOneOut
    bias = exact_bias(method(space, samples=samples), f, theta)
    assert samples == 1 or bias.abs().max() < 1e-9


def test_the_strategy_reaches_masks_many_rows_and_rare_ones() -> None:
    quick = settings(derandomize=True, database=None, max_examples=500, phases=[Phase.generate])
    for event in (
        lambda drawn: drawn[1].isinf().any(),
        lambda drawn: drawn[0].num_rows > 100,
        lambda drawn: drawn[0].softmax(drawn[1]).max() > 0.9,
    ):
        find(enumerable_logits(min_size=2), event, settings=quick)


def test_too_many_samples_for_the_strategy() -> None:
    with pytest.raises(ValueError, match="11 samples of a feature of 2 categories are too many"):
        find(enumerable_logits(samples=11), lambda drawn: True)


def test_without_a_space_it_is_one_feature() -> None:
    logits = torch.tensor([0.2, 0.0, -0.4], dtype=torch.float64)
    bias = exact_bias(ReinMax(), lambda rows: (rows**2).sum(-1) * rows[..., 1], logits)
    assert bias.shape == (3,)
    space = CategoricalSpace({"x": 3})
    same = exact_bias(ReinMax(), lambda r: (r**2).sum(-1) * r[..., 1], logits, space=space)
    assert torch.equal(bias, same)
