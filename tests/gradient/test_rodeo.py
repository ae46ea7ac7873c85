"""RODEO: the operator has mean 0 for any h, so no network biases the gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, LeaveOneOut, Rodeo
from discrete_grad.gradient import rodeo
from discrete_grad.sampling import isolated_seed
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Function
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.strategies import random_logits

PAIR, TRIPLE = BY_NAME["Rodeo(samples=2)"], BY_NAME["Rodeo(samples=3)"]
MODULE = "discrete_grad.gradient.rodeo"


class Net(nn.Module):
    """A correction that is far from 0 from the start."""

    def __init__(self) -> None:
        super().__init__()
        with isolated_seed(3):
            self.layers = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()

    def forward(self, inputs: Tensor) -> Tensor:
        return 3 * self.layers(inputs)


def tuples(samples: int) -> tuple[Tensor, Tensor]:
    """Every tuple of rows of TINY `(N, n, F)` and its probability `(n,)`."""
    rows = TINY.enumerate()
    p = TINY.log_prob(TINY_LOGITS, rows).exp()
    index = torch.cartesian_prod(*[torch.arange(len(p))] * samples)
    return rows[index].transpose(0, 1), p[index].prod(-1)


def exact_mean_and_variance(method: Rodeo | LeaveOneOut, f: Function) -> tuple[Tensor, float]:
    codes, p = tuples(method.samples)
    with contract.given_codes(codes):
        _, gradient = contract.value_and_gradient(method, f, TINY_LOGITS.expand(len(p), -1))
    mean = p @ gradient
    return mean, (p @ (gradient - mean).square().sum(-1)).item()


# --- the operator ---------------------------------------------------------------------------------


def swapped_table(space: CategoricalSpace, table: Tensor, rows: Tensor) -> Tensor:
    """`(n, D)`: the table at each row with each category put in its feature's place."""
    columns = []
    for i, size in enumerate(space.sizes):
        for k in range(size):
            changed = rows.clone()
            changed[:, i] = k
            index = torch.zeros(len(rows), dtype=torch.long)
            for column, radix in zip(changed.unbind(-1), space.sizes, strict=True):
                index = index * radix + column
            columns.append(table[index])
    return torch.stack(columns, -1)


def check_operator_has_mean_zero() -> None:
    """For any table h, with a feature of one category and a masked category."""
    rows = RAGGED.enumerate()
    p = RAGGED.log_prob(RAGGED_LOGITS, rows).exp()
    pi = RAGGED.softmax(RAGGED_LOGITS).expand(len(rows), -1)
    scores = RAGGED.one_hot(rows, dtype=torch.float64) - pi
    for seed in range(3):
        table = torch.randn(len(rows), generator=contract.seeded(seed), dtype=torch.float64)
        result = rodeo._stein(RAGGED, pi, scores, table, swapped_table(RAGGED, table, rows))
        assert result.abs().max() > 0.1
        assert_close(p @ result, torch.zeros(9, dtype=torch.float64), rtol=0, atol=1e-14)


def test_the_operator_has_mean_zero() -> None:
    check_operator_has_mean_zero()


# --- bias and variance ----------------------------------------------------------------------------


def check_unbiased(samples: int = 2) -> None:
    """With a network that is not 0, every tuple enumerated."""
    f = function(TINY, "cubic")
    mean, _ = exact_mean_and_variance(Rodeo(TINY, correction=Net(), samples=samples), f)
    assert_close(mean, contract.truth(TINY, TINY_LOGITS, f)[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [2, 3])
def test_unbiased_whatever_the_network(samples: int) -> None:
    check_unbiased(samples)


def test_the_variance_is_below_that_of_leave_one_out_on_smooth_functions() -> None:
    for kind in ("linear", "multilinear"):
        f = function(TINY, kind)
        plain = exact_mean_and_variance(LeaveOneOut(TINY, samples=2), f)[1]
        assert exact_mean_and_variance(Rodeo(TINY, samples=2), f)[1] < 0.6 * plain


def test_at_first_a_constant_changes_nothing() -> None:
    f, logits = function(RAGGED, "cubic"), random_logits(RAGGED, (20,))
    results = [
        contract.value_and_gradient(Rodeo(RAGGED), h, logits, generator=contract.seeded())
        for h in (f, lambda rows: f(rows) + 1000)
    ]
    assert_close(results[0][0] + 1000, results[1][0])
    assert_close(results[0][1], results[1][1], rtol=0, atol=1e-10)
    assert [tuple(p.shape) for p in Rodeo(RAGGED).parameters() if p.dim() == 2] == [(8, 2), (2, 8)]


# --- learning -------------------------------------------------------------------------------------


def check_learning_signal() -> None:
    """The gradient of each parameter is that of `sum slope^2 |gradient|^2`, numerically."""
    f, logits = function(RAGGED, "quadratic"), random_logits(RAGGED, (4,), masked=True)
    step = 1e-6
    for slopes in ([1.0, 1.0, 1.0, 1.0], [-0.25] * 4, [2.0, -1.0, 0.0, 0.5]):
        weights = torch.tensor(slopes, dtype=torch.float64)
        method = Rodeo(RAGGED, correction=Net(), samples=3)

        def total(method: Rodeo = method, weights: Tensor = weights) -> float:
            _, gradient = contract.value_and_gradient(
                method, f, logits, generator=contract.seeded()
            )
            return (weights**2 @ gradient.square().sum(-1)).item()

        leaf = logits.clone().requires_grad_()
        value = method.expectation(f, leaf, generator=contract.seeded())
        (weights * value).sum().backward()
        for parameter in method.parameters():
            entry, numbers = parameter.detach().view(-1), []
            at = entry[0].item()
            for moved in (at + step, at - step):
                entry[0] = moved
                numbers.append(total())
            entry[0] = at
            numeric = (numbers[0] - numbers[1]) / (2 * step)
            mine = parameter.grad.view(-1)[0].item()
            assert abs(mine - numeric) < 1e-5 * max(1, abs(numeric))


def test_the_network_gets_the_gradient_of_the_squared_norm() -> None:
    check_learning_signal()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_lowers_the_variance(sign: float) -> None:
    f, generator = function(TINY, "cubic"), contract.seeded()
    with isolated_seed(0):
        method = Rodeo(TINY, samples=2)
    _, before = exact_mean_and_variance(method, f)
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    for _ in range(200):
        leaf = TINY_LOGITS.expand(100, -1).clone().requires_grad_()
        optimiser.zero_grad()
        (sign * method.expectation(f, leaf, generator=generator).mean()).backward()
        optimiser.step()
    mean, after = exact_mean_and_variance(method, f)
    assert after < 0.8 * before
    # the network works in float32
    assert_close(mean, contract.truth(TINY, TINY_LOGITS, f)[1], rtol=0, atol=1e-5)


def test_a_frozen_network_gets_no_gradient() -> None:
    method, logits = Rodeo(TINY).requires_grad_(False), torch.zeros(4, 5, requires_grad=True)
    method.expectation(function(TINY, "cubic"), logits).sum().backward()
    assert all(weight.grad is None for weight in method.parameters())


def test_errors() -> None:
    with pytest.raises(TypeError, match="correction must be a module or None"):
        Rodeo(correction=lambda inputs: inputs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"f has no derivative in the row.*LeaveOneOut"):
        Rodeo(TINY).expectation(lambda rows: rows.detach().sum(-1), torch.zeros(4, 5))


# --- planted bugs ---------------------------------------------------------------------------------

STEIN, SURROGATES = rodeo._stein, rodeo._surrogates


def without_the_identity(
    space: CategoricalSpace, pi: Tensor, scores: Tensor, here: Tensor, swapped: Tensor
) -> Tensor:
    return STEIN(space, pi, scores, here * 0, swapped)


def sum_over_features_for_the_mean(
    space: CategoricalSpace, pi: Tensor, scores: Tensor, here: Tensor, swapped: Tensor
) -> Tensor:
    own = here.unsqueeze(-1) * scores
    return (STEIN(space, pi, scores, here, swapped) + own) * space.num_features - own


def uniform_for_softmax(
    space: CategoricalSpace, pi: Tensor, scores: Tensor, here: Tensor, swapped: Tensor
) -> Tensor:
    return STEIN(space, space.softmax(pi * 0), scores, here, swapped)


def score_not_swapped(
    space: CategoricalSpace, pi: Tensor, scores: Tensor, here: Tensor, swapped: Tensor
) -> Tensor:
    means = (pi * swapped).sum(-1) / space.num_features
    return (means - here).unsqueeze(-1) * scores


def own_row_included(
    space: CategoricalSpace, hard: Tensor, values: Tensor, slopes: Tensor, correction: nn.Module
) -> tuple[Tensor, Tensor]:
    parts = SURROGATES(space, hard, values, slopes, correction)
    return tuple(
        part + values.reshape(*values.shape, *[1] * (part.dim() - values.dim())) for part in parts
    )


@pytest.mark.parametrize(
    ("target", "bug", "check"),
    [
        ("_stein", without_the_identity, check_operator_has_mean_zero),
        ("_stein", sum_over_features_for_the_mean, check_operator_has_mean_zero),
        ("_stein", uniform_for_softmax, check_operator_has_mean_zero),
        ("_stein", score_not_swapped, check_operator_has_mean_zero),
        ("_stein", score_not_swapped, check_unbiased),
        ("_stein", without_the_identity, lambda: contract.check_bias(PAIR)),
        ("_surrogates", own_row_included, check_unbiased),
        ("_surrogates", own_row_included, lambda: contract.check_formula(TRIPLE)),
    ],
)
def test_a_planted_bug_is_caught(
    target: str, bug: Callable, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    check()
    monkeypatch.setattr(f"{MODULE}.{target}", bug)
    with pytest.raises(AssertionError):
        check()


def variance_upwards(
    value: Tensor, logits: Tensor, gradient: Tensor, variance: Tensor | None
) -> Tensor:
    return WITH_GRADIENT(value, logits, gradient, None if variance is None else -variance)


WITH_GRADIENT = rodeo.with_gradient


def test_a_wrong_learning_signal_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.with_gradient", variance_upwards)
    with pytest.raises(AssertionError):
        check_learning_signal()
