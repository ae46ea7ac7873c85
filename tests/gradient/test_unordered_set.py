"""The unordered set estimator: its ratios, its law, and what it does with too few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, LeaveOneOut, UnorderedSet
from discrete_grad.gradient import unordered_set
from discrete_grad.gradient.unordered_set import _log_completions, weighted_rows
from tests.goodness import FALSE_ALARM, g_test
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Case, rows_and_law, set_probability
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, seeded
from tests.strategies import random_logits

INF = torch.inf
PAIR, TRIPLE = (BY_NAME[f"UnorderedSet(samples={k})"] for k in (2, 3))


@contextmanager
def given(noise: Tensor) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unordered_set, "gumbel_like", lambda log_p, *, generator: noise)
        yield


# --- the ratios -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("sharp", [1.0, 12.0])
def test_ratios_are_sums_over_all_orders(k: int, sharp: float) -> None:
    log_p = (sharp * torch.rand(7, 8, generator=seeded(), dtype=torch.float64)).log_softmax(-1)
    p, chosen = log_p.exp(), set(range(k))
    weights, shares = weighted_rows(log_p[:, :k], log_p[:, k:].logsumexp(-1))
    whole = set_probability(p, chosen, ())
    for s in chosen:
        one = set_probability(p, chosen - {s}, {s})
        assert_close(weights[:, s], p[:, s] * one / whole, rtol=1e-9, atol=0)
        for t in chosen - {s}:
            two = set_probability(p, chosen - {s, t}, {s, t})
            assert_close(shares[:, s, t], p[:, t] * two / one, rtol=1e-9, atol=0)
        assert_close(shares[:, s, s], p[:, s])


def test_ratios_where_hardly_anything_is_left() -> None:
    # the other rows have 1e-300 together: 1 - p(S) would be 0
    log_p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    weights, _ = weighted_rows(log_p, torch.tensor(1e-300, dtype=torch.float64).log())
    all_rows, shares = weighted_rows(log_p, torch.tensor(-INF, dtype=torch.float64))
    assert_close(weights, all_rows)
    # all rows drawn: each counts its probability, the baseline is the mean
    assert_close(all_rows, log_p.exp())
    assert_close(shares, log_p.exp().expand(3, 3))
    assert_close(_log_completions(log_p, torch.tensor(-INF)).exp(), torch.ones(8).double())


def test_far_apart_probabilities_stay_finite() -> None:
    for last, rest in ((-INF, -INF), (-6e4, -5e4), (-6e4, -1e4)):  # masked rows come last of all
        log_p = torch.tensor([0.0, -2e4, -4e4, last], dtype=torch.float64)
        weights, shares = weighted_rows(log_p, torch.tensor(rest, dtype=torch.float64))
        assert weights.isfinite().all()
        assert shares.isfinite().all()
        assert weights[3] == 0
        assert_close(weights[0].item(), 1.0)


# --- the estimate -----------------------------------------------------------------------------


def test_formula_with_baseline() -> None:
    """With the built-in baseline, written with sums over orders, for every set of three rows."""
    f = function(TINY, "cubic")
    outcomes = TRIPLE.outcomes(TINY, TINY_LOGITS, 3)
    rows, p = rows_and_law(TINY, TINY_LOGITS)
    hard = TINY.one_hot(rows, dtype=torch.float64)
    score, values = hard - TINY.softmax(TINY_LOGITS), f(hard)
    with given(outcomes.drawn):
        logits = TINY_LOGITS.expand(len(outcomes.drawn), -1)
        _, gradient = contract.value_and_gradient(UnorderedSet(TINY, samples=3), f, logits)
    for mine, noise in zip(gradient, outcomes.drawn, strict=True):
        chosen = set(noise.nonzero().squeeze(-1).tolist())
        expected = torch.zeros(5, dtype=torch.float64)
        for s in chosen:
            one = set_probability(p, chosen - {s}, {s})
            baseline = p[s] * values[s]
            for t in chosen - {s}:
                baseline += p[t] * values[t] * set_probability(p, chosen - {s, t}, {s, t}) / one
            ratio = one / set_probability(p, chosen, ())
            expected += p[s] * ratio * (values[s] - baseline) * score[s]
        assert_close(mine, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("samples", [6, 12])
def test_exact_once_every_row_is_drawn(samples: int) -> None:
    f, logits = function(TINY, "cubic"), TINY_LOGITS.expand(50, -1)
    estimator = UnorderedSet(TINY, samples=samples)
    value, gradient = contract.value_and_gradient(estimator, f, logits, generator=seeded())
    true_value, true_gradient = contract.truth(TINY, TINY_LOGITS, f)
    assert_close(value, true_value.expand(50), rtol=0, atol=1e-12)
    assert_close(gradient, true_gradient.expand(50, -1), rtol=0, atol=1e-12)
    assert estimator.cost(TINY).evaluations == 6


def test_exact_once_every_row_that_is_allowed_is_drawn() -> None:
    # 2 * 1 * 3 * 2 rows of RAGGED are allowed, of 18; f is infinite on the others
    f = function(RAGGED, "cubic")

    def guarded(rows: Tensor) -> Tensor:
        return torch.where(rows[..., 7] == 1, INF, f(rows))

    estimator, logits = UnorderedSet(RAGGED, samples=12), RAGGED_LOGITS.expand(20, -1).clone()
    logits[:, 3] = -INF  # eight are left
    value, gradient = contract.value_and_gradient(estimator, guarded, logits, generator=seeded())
    true_value, true_gradient = contract.truth(RAGGED, logits[0], f)
    assert_close(value, true_value.expand(20), rtol=0, atol=1e-11)
    assert_close(gradient, true_gradient.expand(20, -1), rtol=0, atol=1e-11)
    assert (gradient[:, [3, 7]] == 0).all()


def test_rows_follow_the_law_of_draws_without_replacement() -> None:
    seen = []

    def f(rows: Tensor) -> Tensor:
        seen.append(TINY.argmax(rows))
        return rows.sum(-1)

    logits = TINY_LOGITS.expand(20_000, -1)
    UnorderedSet(TINY, samples=2).expectation(f, logits, generator=seeded())
    (codes,) = seen
    first, second = codes[..., 0] * 3 + codes[..., 1]
    _, p = rows_and_law(TINY, TINY_LOGITS)
    law = torch.outer(p, p).fill_diagonal_(0) / (1 - p).unsqueeze(-1)
    counts = (first * 6 + second).bincount(minlength=36)
    assert g_test(counts, law.flatten()) > FALSE_ALARM
    # and the test can tell: drawn with replacement in proportion
    assert g_test(counts, (law.sum(0) * law.sum(1).unsqueeze(-1)).flatten()) < FALSE_ALARM


def test_less_variance_than_leave_one_out_with_as_many_rows() -> None:
    f, p = function(TINY, "cubic"), rows_and_law(TINY, TINY_LOGITS)[1]
    true = contract.truth(TINY, TINY_LOGITS, f)[1]
    variance = {}
    for samples in (2, 3):
        outcomes = PAIR.outcomes(TINY, TINY_LOGITS, samples)
        law, logits = outcomes.probabilities, TINY_LOGITS.expand(len(outcomes.drawn), -1)
        with given(outcomes.drawn):
            estimator = UnorderedSet(TINY, samples=samples)
            _, mine = contract.value_and_gradient(estimator, f, logits)
        tuples = torch.cartesian_prod(*[torch.arange(6)] * samples)
        with contract.given_codes(TINY.enumerate()[tuples].transpose(0, 1)):
            estimator = LeaveOneOut(TINY, samples=samples)
            _, other = contract.value_and_gradient(
                estimator, f, TINY_LOGITS.expand(len(tuples), -1)
            )
        variance[samples] = [
            (weights @ (gradient - true) ** 2).sum().item()
            for weights, gradient in ((law, mine), (p[tuples].prod(-1), other))
        ]
    assert all(mine < other for mine, other in variance.values())


def test_elements_of_a_batch_and_vmap() -> None:
    logits, f = random_logits(RAGGED, (2, 3), masked=True), function(RAGGED, "cubic")
    noise = torch.randn(2, 3, 18, generator=seeded(), dtype=torch.float64)
    estimator = UnorderedSet(RAGGED, samples=3)
    with given(noise):
        value, gradient = contract.value_and_gradient(estimator, f, logits)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        with given(noise[i, j]):
            alone = contract.value_and_gradient(estimator, f, logits[i, j])
        assert_close(alone[0], value[i, j])
        assert_close(alone[1], gradient[i, j])

    def one(leaf: Tensor, noise: Tensor) -> Tensor:
        with given(noise):
            return estimator.expectation(f, leaf)

    assert_close(torch.func.vmap(one)(logits[0], noise[0]), value[0])
    assert_close(torch.func.vmap(torch.func.grad(one))(logits[0], noise[0]), gradient[0])


def test_a_large_space_is_refused() -> None:
    space = CategoricalSpace.from_sizes((10,) * 6)
    with pytest.raises(ValueError, match="1,000,000 rows, more than max_rows=100,000"):
        UnorderedSet(space).expectation(lambda rows: rows.sum(-1), torch.zeros(60))
    with pytest.raises(ValueError, match="UnorderedSet needs samples <= 12, got 13"):
        UnorderedSet(samples=13)


# --- planted bugs -----------------------------------------------------------------------------


def plain_weights(log_p: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    return log_p.softmax(-1), weighted_rows(log_p, log_rest)[1]


def own_row_left_out(log_p: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    weights, shares = weighted_rows(log_p, log_rest)
    return weights, shares * (1 - torch.eye(log_p.shape[-1], dtype=shares.dtype))


def baseline_of_the_whole_set(log_p: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    weights, shares = weighted_rows(log_p, log_rest)
    return weights, weights.unsqueeze(-2).expand_as(shares)


def transposed_shares(log_p: Tensor, log_rest: Tensor) -> tuple[Tensor, Tensor]:
    weights, shares = weighted_rows(log_p, log_rest)
    return weights, shares.mT


def live_advantage(values: Tensor, log_prob: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    weights = weights.movedim(-1, 0)
    baseline = (shares @ values.movedim(0, -1).unsqueeze(-1)).squeeze(-1).movedim(-1, 0)
    product = weights * (values - baseline) * log_prob
    return (weights * values + product - product.detach()).sum(0)


def no_noise(log_p: Tensor, *, generator: torch.Generator | None) -> Tensor:
    return torch.zeros_like(log_p)


MUTANTS = [
    ("weighted_rows", plain_weights, contract.check_bias, PAIR),
    ("weighted_rows", own_row_left_out, contract.check_bias, TRIPLE),
    ("weighted_rows", baseline_of_the_whole_set, contract.check_bias, PAIR),
    ("weighted_rows", transposed_shares, contract.check_bias, TRIPLE),
    ("_surrogate", live_advantage, contract.check_f_learns_too, TRIPLE),
    ("gumbel_like", no_noise, lambda case: contract.check_law(case, torch.float64), PAIR),
]


@pytest.mark.parametrize(("name", "bug", "check", "case"), MUTANTS)
def test_a_planted_bug_is_caught(
    name: str,
    bug: Callable[..., object],
    check: Callable[[Case], None],
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unordered_set, name, bug)
    with pytest.raises(AssertionError):
        check(case)
