"""Local expectation and IndeCateR: what is averaged, and what is never asked."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import IndeCateR, LocalExpectation, StraightThrough
from discrete_grad.gradient import indecater, local_expectation
from tests.goodness import assert_law
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Case
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, seeded
from tests.strategies import random_logits

INF = torch.inf
METHODS = (LocalExpectation, IndeCateR)
every_method = pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.__name__)
LOCAL, FRESH = BY_NAME["LocalExpectation(samples=1)"], BY_NAME["IndeCateR"]
# the functions as they are, before a test puts a bug in their place
by_category, with_each_category = local_expectation._by_category, indecater._with_each_category


def single_draw(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of each row that can be drawn, of local expectation, ST, and the truth."""
    rows = RAGGED.enumerate()
    rows = rows[RAGGED.log_prob(RAGGED_LOGITS, rows) > -INF]
    logits, f = RAGGED_LOGITS.expand(len(rows), -1), function(RAGGED, kind)
    with contract.given_codes(rows.unsqueeze(0)):
        _, local = contract.value_and_gradient(LocalExpectation(RAGGED), f, logits)
        _, straight = contract.value_and_gradient(StraightThrough(RAGGED), f, logits)
    return local, straight, contract.truth(RAGGED, RAGGED_LOGITS, f)[1]


def test_no_variance_on_a_sum_over_features() -> None:
    local, _, true = single_draw("linear")
    assert_close(local, true.expand_as(local), rtol=0, atol=1e-13)
    # the converse, so that the test can fail
    local, _, true = single_draw("multilinear")
    assert (local - true).abs().max() > 1e-2


def test_indecater_has_no_variance_on_a_sum_over_features() -> None:
    logits = RAGGED_LOGITS.expand(200, -1)
    estimator = IndeCateR(RAGGED, samples=1)
    for f, spread in ((function(RAGGED, "linear"), 0), (function(RAGGED, "multilinear"), 1)):
        _, gradient = contract.value_and_gradient(estimator, f, logits, generator=seeded())
        difference = gradient - contract.truth(RAGGED, RAGGED_LOGITS, f)[1]
        assert (difference.abs().max() > 1e-12) == bool(spread)


def test_on_multilinear_functions_a_row_gives_the_gradient_of_straight_through() -> None:
    local, straight, _ = single_draw("multilinear")
    assert_close(local, straight, rtol=0, atol=1e-13)
    local, straight, _ = single_draw("quadratic")
    assert (local - straight).abs().max() > 1e-2


@every_method
def test_one_feature_is_averaged_exactly(cls: type[LocalExpectation]) -> None:
    logits = torch.tensor([0.3, -1.0, -INF, 0.6], dtype=torch.float64)
    values = torch.tensor([1.0, -2.0, INF, 5.0], dtype=torch.float64)

    def f(rows: Tensor) -> Tensor:
        return values[rows.argmax(-1)]

    value, gradient = contract.value_and_gradient(cls(samples=1), f, logits)
    p = logits.softmax(-1)
    mean = p[[0, 1, 3]] @ values[[0, 1, 3]]
    assert_close(value, mean)
    assert_close(gradient[[0, 1, 3]], (p * (values - mean))[[0, 1, 3]])
    assert gradient[2] == 0


@every_method
def test_masked_categories_are_never_evaluated(cls: type[LocalExpectation]) -> None:
    logits = random_logits(RAGGED, (300,), masked=True)
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(rows)
        return rows.sum(-1)

    cls(RAGGED, samples=3).expectation(f, logits, generator=seeded())
    assert (RAGGED.log_prob(logits, RAGGED.argmax(seen[0])) > -INF).all()


def test_unbiased_with_more_samples() -> None:
    # every pair of rows of every feature: 6 ** 4 tuples
    f = function(TINY, "cubic")
    rows = TINY.enumerate()
    p = TINY.log_prob(TINY_LOGITS, rows).exp()
    tuples = torch.cartesian_prod(*[torch.arange(6)] * 4)
    logits = TINY_LOGITS.expand(len(tuples), -1)
    with contract.given_codes(rows[tuples].transpose(0, 1)):
        value, gradient = contract.value_and_gradient(IndeCateR(TINY, samples=2), f, logits)
    true_value, true_gradient = contract.truth(TINY, TINY_LOGITS, f)
    weights = p[tuples].prod(-1)
    assert_close(weights @ value, true_value, rtol=0, atol=1e-12)
    assert_close(weights @ gradient, true_gradient, rtol=0, atol=1e-12)


def test_samples_are_averaged() -> None:
    logits, f = random_logits(RAGGED, (20,)), function(RAGGED, "cubic")
    case = BY_NAME["LocalExpectation(samples=2)"]
    gumbel = contract.gumbel_noise(case, logits)
    both = contract.given_noise(case, RAGGED, f, logits, gumbel)
    one, two = (contract.given_noise(LOCAL, RAGGED, f, logits, g.unsqueeze(0)) for g in gumbel)
    for mine, first, second in zip(both, one, two, strict=True):
        assert_close(mine, (first + second) / 2)


def test_rows_of_different_features_are_independent_draws() -> None:
    # the rows for feature a keep the drawn code of b, and the rows for b that of a: independent
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(TINY.argmax(rows))
        return rows.sum(-1)

    IndeCateR(TINY, samples=1).expectation(f, TINY_LOGITS.expand(20_000, -1), generator=seeded())
    (codes,) = seen
    for_a, for_b = codes[0], codes[2]
    assert_law(TINY, TINY_LOGITS, torch.stack([for_b[:, 0], for_a[:, 1]], -1))


def test_indecater_permutes_with_its_features() -> None:
    order = torch.tensor([3, 4, 5, 6, 7, 8, 2, 0, 1])  # b, c, one, a
    features = torch.tensor([2, 3, 1, 0])
    space = contract.CategoricalSpace({"b": 3, "c": 3, "one": 1, "a": 2})
    logits, f = RAGGED_LOGITS.expand(20, -1), function(RAGGED, "cubic")
    gumbel, back = contract.gumbel_noise(FRESH, logits), order.argsort()
    value, gradient = contract.given_noise(FRESH, RAGGED, f, logits, gumbel)
    new_value, new_gradient = contract.given_noise(
        FRESH, space, lambda x: f(x[..., back]), logits[..., order], gumbel[features][..., order]
    )
    assert_close(new_value, value)
    assert_close(new_gradient, gradient[..., order])


# --- planted bugs -----------------------------------------------------------------------------


def mean_over_features(space: contract.CategoricalSpace, logits: Tensor, values: Tensor) -> Tensor:
    pi = space.softmax(logits)
    return (pi * values).sum(-1).mean(0) / space.num_features


def live_values(space: contract.CategoricalSpace, logits: Tensor, values: Tensor) -> Tensor:
    pi = space.softmax(logits)
    product = (pi * values).sum(-1)
    value = (pi.detach() * values).sum(-1) / space.num_features
    return (value + (product - product.detach())).mean(0)


def shifted(space: contract.CategoricalSpace, codes: Tensor, values: Tensor) -> Tensor:
    """The drawn category is taken to be first: an off-by-one of the swaps."""
    return by_category(space, codes * 0, values)


def every_swap(space: contract.CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    return space.swaps(codes).movedim(-2, 0)


def one_row_for_all(space: contract.CategoricalSpace, logits: Tensor, codes: Tensor) -> Tensor:
    return with_each_category(space, logits, codes[:1].expand_as(codes))


MUTANTS = [
    (local_expectation, "conditional_mean", mean_over_features, contract.check_formula, LOCAL),
    (local_expectation, "conditional_mean", mean_over_features, contract.check_bias, LOCAL),
    (local_expectation, "conditional_mean", live_values, contract.check_f_learns_too, LOCAL),
    (local_expectation, "_by_category", shifted, contract.check_bias, LOCAL),
    (indecater, "conditional_mean", mean_over_features, contract.check_bias, FRESH),
    (indecater, "conditional_mean", live_values, contract.check_f_learns_too, FRESH),
    (indecater, "_with_each_category", one_row_for_all, contract.check_formula, FRESH),
]


@pytest.mark.parametrize(("room", "name", "bug", "check", "case"), MUTANTS)
def test_a_planted_bug_is_caught(
    room: ModuleType,
    name: str,
    bug: Callable[..., Tensor],
    check: Callable[[Case], None],
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, name, bug)
    with pytest.raises(AssertionError):
        check(case)


def test_a_forbidden_row_that_is_evaluated_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_expectation, "_allowed_swaps", every_swap)
    with pytest.raises(AssertionError):
        test_masked_categories_are_never_evaluated(LocalExpectation)
