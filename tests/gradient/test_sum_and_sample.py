"""Sum and sample: the most likely rows, the draw of another, and the sum of both."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, SumAndSample
from discrete_grad.gradient import sum_and_sample
from discrete_grad.gradient.sum_and_sample import _draw_another, _most_likely
from discrete_grad.sampling import categorical, uniform_like
from tests.goodness import FALSE_ALARM, g_test, joint_counts
from tests.gradient import contract
from tests.gradient.cases import BY_NAME, Case, rows_and_law
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, seeded
from tests.strategies import random_logits, spaces_and_logits

INF = torch.inf
PAIR, FOUR = (BY_NAME[f"SumAndSample(samples={k})"] for k in (2, 4))
DOUBLE = (torch.float64,)


# --- the most likely rows ---------------------------------------------------------------------


@given(spaces_and_logits(dtypes=DOUBLE, scales=(1.0, 30.0), max_features=4), st.integers(1, 40))
def test_the_most_likely_rows_are_those_of_the_whole_list(
    space_and_logits: tuple[CategoricalSpace, Tensor], count: int
) -> None:
    space, logits = space_and_logits
    codes, log_p = _most_likely(space, space.log_softmax(logits), count)
    count = min(count, space.num_rows)
    every = space.log_prob(logits.unsqueeze(-2), space.enumerate())
    assert_close(log_p, every.topk(count, -1).values)
    assert codes.shape == (*logits.shape[:-1], count, space.num_features)
    assert_close(space.log_prob(logits.unsqueeze(-2), codes), log_p)
    index = space.row_number(codes)
    assert (index.sort(-1).values.diff(dim=-1) > 0).all()  # all different


def best_first(parts: list[list[float]], count: int) -> list[float]:
    """Log-probabilities of the best rows, by a heap over ranks of the categories."""
    ranked = [sorted(part, reverse=True) for part in parts]
    start = (0,) * len(ranked)
    heap = [(-sum(part[0] for part in ranked), start)]
    known, found = {start}, []
    while heap and len(found) < count:
        score, ranks = heapq.heappop(heap)
        found.append(-score)
        for i, rank in enumerate(ranks):
            if rank + 1 < len(ranked[i]):
                following = (*ranks[:i], rank + 1, *ranks[i + 1 :])
                if following not in known:
                    known.add(following)
                    step = ranked[i][rank] - ranked[i][rank + 1]
                    heapq.heappush(heap, (score + step, following))
    return found


def test_the_most_likely_rows_of_a_space_that_nobody_can_list() -> None:
    space = CategoricalSpace.from_sizes((7,) * 30)
    log_p = space.log_softmax(random_logits(space, scale=2))
    expected = best_first([part.tolist() for part in space.split(log_p)], 50)
    _, found = _most_likely(space, log_p, 50)
    assert_close(found, torch.tensor(expected, dtype=torch.float64))


# --- the draw of another ----------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 9])
def test_another_row_follows_the_law_given_that_it_is_not_taken(count: int) -> None:
    p = RAGGED.softmax(RAGGED_LOGITS)
    taken, _ = _most_likely(RAGGED, p.log(), count)
    many = RAGGED_LOGITS.expand(20_000, -1)
    uniform = uniform_like(RAGGED, many, generator=seeded())
    codes = _draw_another(RAGGED, p.expand(20_000, -1), taken.expand(20_000, -1, -1), uniform)
    counts = joint_counts(RAGGED, codes)
    law = rows_and_law(RAGGED, RAGGED_LOGITS)[1]
    law[joint_counts(RAGGED, taken) > 0] = 0
    assert g_test(counts, law / law.sum()) > FALSE_ALARM
    # and the test can tell: a law flattened by a tenth in the first feature
    flat = RAGGED_LOGITS.clone()
    flat[0] -= 0.3
    other = rows_and_law(RAGGED, flat)[1].masked_fill(law == 0, 0)
    assert g_test(counts, other / other.sum()) < FALSE_ALARM


def test_the_last_row_is_found() -> None:
    p = TINY.softmax(TINY_LOGITS)
    rows, _ = _most_likely(TINY, p.log(), 6)
    uniform = uniform_like(TINY, TINY_LOGITS.expand(100, -1), generator=seeded())
    for last in range(6):
        taken = rows[[i for i in range(6) if i != last]].expand(100, -1, -1)
        codes = _draw_another(TINY, p.expand(100, -1), taken, uniform)
        assert (codes == rows[last]).all()


def test_a_draw_is_of_some_row_even_if_none_is_left() -> None:
    p = TINY.softmax(TINY_LOGITS).expand(100, -1)
    taken, _ = _most_likely(TINY, p.log(), 6)
    uniform = uniform_like(TINY, p, generator=seeded())
    TINY.check_codes(_draw_another(TINY, p, taken, uniform))


# --- the estimate -----------------------------------------------------------------------------


def test_formula() -> None:
    f = function(TINY, "cubic")
    rows, p = rows_and_law(TINY, TINY_LOGITS)
    hard = TINY.one_hot(rows, dtype=torch.float64)
    score, values = hard - TINY.softmax(TINY_LOGITS), f(hard)
    order = p.argsort(descending=True)
    best, others = order[:3], order[3:]
    baseline = p[best] @ values[best] / p[best].sum()
    outcomes = FOUR.outcomes(TINY, TINY_LOGITS, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes.target, lambda *arguments: outcomes.drawn)
        estimator = SumAndSample(TINY, samples=4)
        value, gradient = contract.value_and_gradient(estimator, f, TINY_LOGITS.expand(3, -1))
    for n, x in enumerate(others):
        left = p[others].sum()
        assert_close(value[n], p[best] @ values[best] + left * values[x])
        expected = (p[best] * (values[best] - baseline)) @ score[best]
        assert_close(gradient[n], expected + left * (values[x] - baseline) * score[x])


@pytest.mark.parametrize("samples", [7, 20])
def test_exact_once_every_row_is_summed(samples: int) -> None:
    f, logits = function(TINY, "cubic"), TINY_LOGITS.expand(50, -1)
    estimator = SumAndSample(TINY, samples=samples)
    value, gradient = contract.value_and_gradient(estimator, f, logits, generator=seeded())
    true_value, true_gradient = contract.truth(TINY, TINY_LOGITS, f)
    assert_close(value, true_value.expand(50), rtol=0, atol=1e-12)
    assert_close(gradient, true_gradient.expand(50, -1), rtol=0, atol=1e-12)
    assert estimator.cost(TINY).evaluations == 7


def test_exact_once_every_row_that_is_allowed_is_summed() -> None:
    f = function(RAGGED, "cubic")

    def guarded(rows: Tensor) -> Tensor:
        return torch.where(rows[..., 7] == 1, INF, f(rows))

    logits = RAGGED_LOGITS.expand(50, -1)
    for samples in (13, 16, 30):
        estimator = SumAndSample(RAGGED, samples=samples)
        result = contract.value_and_gradient(estimator, guarded, logits, generator=seeded())
        for mine, true in zip(result, contract.truth(RAGGED, RAGGED_LOGITS, f), strict=True):
            assert_close(mine, true.expand_as(mine), rtol=0, atol=1e-11)
        assert (result[1][:, 7] == 0).all()


def test_a_constant_changes_no_gradient() -> None:
    logits, f = random_logits(RAGGED, (30,), masked=True), function(RAGGED, "cubic")
    estimator = SumAndSample(RAGGED, samples=3)
    value, gradient = contract.value_and_gradient(estimator, f, logits, generator=seeded())
    shifted = contract.value_and_gradient(
        estimator, lambda rows: f(rows) + 1000, logits, generator=seeded()
    )
    assert_close(shifted[0], value + 1000)
    assert_close(shifted[1], gradient, rtol=0, atol=1e-10)


def test_a_space_whose_rows_are_too_rare_for_a_number() -> None:
    # each row has probability 50 ** -300
    space = CategoricalSpace.from_sizes((50,) * 300)
    weights = torch.randn(15_000, generator=seeded(), dtype=torch.float64)
    logits = torch.zeros(2, 15_000, dtype=torch.float64)
    estimator = SumAndSample(space, samples=3)
    value, gradient = contract.value_and_gradient(
        estimator, lambda rows: rows @ weights, logits, generator=seeded()
    )
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_elements_of_a_batch_and_vmap() -> None:
    logits, f = random_logits(RAGGED, (2, 3), masked=True), function(RAGGED, "cubic")
    uniform = torch.rand(2, 3, 4, generator=seeded(), dtype=torch.float64)
    estimator = SumAndSample(RAGGED, samples=3)

    def one(leaf: Tensor, noise: Tensor) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sum_and_sample, "uniform_like", lambda *a, generator: noise)
            return estimator.expectation(f, leaf)

    leaf = logits.clone().requires_grad_()
    value = one(leaf, uniform)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    for i, j in ((0, 0), (0, 2), (1, 1)):
        assert_close(one(logits[i, j], uniform[i, j]), value[i, j])
        alone = torch.func.grad(one)(logits[i, j], uniform[i, j])
        assert_close(alone, gradient[i, j])
    assert_close(torch.func.vmap(one)(logits[0], uniform[0]), value[0])
    assert_close(torch.func.vmap(torch.func.grad(one))(logits[0], uniform[0]), gradient[0])


# --- planted bugs -----------------------------------------------------------------------------

original = sum_and_sample._surrogate


def drawn_from_all(space: CategoricalSpace, p: Tensor, taken: Tensor, uniform: Tensor) -> Tensor:
    return categorical(space, p.log(), uniform)


def least_likely(space: CategoricalSpace, log_p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    codes, scores = _most_likely(space, log_p, space.num_rows)
    return codes[..., -count:, :], scores[..., -count:]


def greedy(space: CategoricalSpace, log_p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Swaps of the best row alone."""
    best, _ = sum_and_sample._most_likely(space, log_p, 1)
    near = torch.cat([best, space.swaps(best[..., 0, :])], -2)
    scores, index = space.log_prob(log_p.unsqueeze(-2), near).topk(count, -1)
    return near.gather(-2, index.unsqueeze(-1).expand(*index.shape, space.num_features)), scores


def rest_counted_whole(values: Tensor, log_prob: Tensor, weights: Tensor, share: Tensor) -> Tensor:
    weights = torch.cat([weights[:-1], torch.ones_like(weights[-1:])])
    return original(values, log_prob, weights, share)


def baseline_of_the_draw(
    values: Tensor, log_prob: Tensor, weights: Tensor, share: Tensor
) -> Tensor:
    """All rows in the baseline, the draw among them."""
    fixed = values.detach()
    advantages = weights * (fixed - (weights * fixed).sum(0))
    return (weights * values + advantages * (log_prob - log_prob.detach())).sum(0)


def no_baseline_for_the_draw(
    values: Tensor, log_prob: Tensor, weights: Tensor, share: Tensor
) -> Tensor:
    fixed = values.detach()
    base = (share * fixed[:-1]).sum(0).expand_as(fixed).clone()
    base[-1] = 0
    advantages = weights * (fixed - base)
    return (weights * values + advantages * (log_prob - log_prob.detach())).sum(0)


MUTANTS = [
    ("_surrogate", rest_counted_whole, contract.check_bias, PAIR),
    ("_surrogate", baseline_of_the_draw, contract.check_bias, FOUR),
    ("_surrogate", no_baseline_for_the_draw, contract.check_bias, FOUR),
    ("_most_likely", least_likely, contract.check_bias, FOUR),
]


@pytest.mark.parametrize(("name", "bug", "check", "case"), MUTANTS)
def test_a_planted_bug_is_caught(
    name: str,
    bug: Callable[..., object],
    check: Callable[[Case], None],
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sum_and_sample, name, bug)
    with pytest.raises(AssertionError):
        check(case)


def test_a_draw_that_is_not_another_row_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "_draw_another", drawn_from_all)
    with pytest.raises(AssertionError):
        test_another_row_follows_the_law_given_that_it_is_not_taken(4)


def test_rows_near_the_best_one_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "_most_likely", greedy)
    with pytest.raises((AssertionError, RuntimeError)):
        test_the_most_likely_rows_of_a_space_that_nobody_can_list()
