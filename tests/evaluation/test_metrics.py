"""The measures, against brute force."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.evaluation import (
    distinct_share,
    mean_interval,
    median_interval,
    metrics,
    percentile,
    spearman,
)
from discrete_grad.student import t_quantile

# few values, so that ties are common
VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)
FINITE = st.floats(-1e6, 1e6)


def tensor(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(VALUES, VALUES)
def test_percentile_counts_what_is_below_and_half_of_the_ties(
    values: list[int], reference: list[int]
) -> None:
    expected = [sum((r < v) + (r == v) / 2 for r in reference) / len(reference) for v in values]
    torch.testing.assert_close(percentile(tensor(values), tensor(reference)), tensor(expected))


def test_percentile_keeps_the_shape_and_takes_infinities() -> None:
    values = torch.tensor([[-math.inf, 0.5], [1.0, math.inf]])
    reference = torch.tensor([-math.inf, 0.0, 1.0, 2.0])
    assert percentile(values, reference).tolist() == [[0.125, 0.5], [0.625, 1.0]]


def test_percentile_does_not_lose_digits_between_dtypes() -> None:
    one = torch.tensor([1.0], dtype=torch.float32)
    around = torch.tensor([1.0 - 1e-12, 1.0 + 1e-12], dtype=torch.float64)
    assert percentile(one, around).item() == 0.5
    assert percentile(around, one).tolist() == [0, 1]
    # of a number without dimensions and a row torch takes the row's dtype
    assert [percentile(value, one).item() for value in around] == [0, 1]


def test_percentile_needs_a_reference() -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        percentile(torch.zeros(2), torch.zeros(0))


def mean_ranks(values: list[int]) -> list[float]:
    return [sum((w < v) + (w == v) / 2 for w in values) for v in values]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12))
def test_spearman_is_the_correlation_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    a, b = ([pair[i] for pair in pairs] for i in range(2))
    found = spearman(tensor(a), tensor(b))
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(found)
    else:
        ranks = torch.tensor([mean_ranks(a), mean_ranks(b)], dtype=torch.float64)
        assert found == pytest.approx(torch.corrcoef(ranks)[0, 1].item(), abs=1e-12)


def test_spearman_is_a_correlation_however_it_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(spearman(torch.arange(n), -torch.arange(n)) >= -1 for n in range(2, 80))
    # as the ranks of a million values, of which two are in the wrong order, come out above 1
    monkeypatch.setattr(metrics, "percentile", lambda values, _: values)
    values = torch.arange(4).double()
    assert all(spearman(values, n / 10 * values) <= 1 for n in range(1, 40))


def test_spearman_of_less_than_two_values_is_not_known() -> None:
    assert math.isnan(spearman(torch.zeros(1), torch.zeros(1)))
    assert math.isnan(spearman(torch.zeros(0), torch.zeros(0)))
    with pytest.raises(ValueError, match="both be"):
        spearman(torch.zeros(2), torch.zeros(3))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_the_share_of_different_rows(rows: list[tuple[int, int]]) -> None:
    assert distinct_share(torch.tensor(rows)) == len(set(rows)) / len(rows)


def test_the_share_of_no_rows_is_not_known() -> None:
    assert math.isnan(distinct_share(torch.zeros(0, 2).long()))


def test_intervals_use_students_t() -> None:
    # two values of which the mean is 0 and the standard error 1
    half = t_quantile(0.95, 1)
    assert mean_interval([-1.0, 1.0]) == (0, pytest.approx(-half), pytest.approx(half))


@given(st.lists(FINITE, min_size=2, max_size=9), st.sampled_from([0.5, 0.9, 0.99]))
def test_intervals_lie_around_the_mean(values: list[float], confidence: float) -> None:
    mean, low, high = mean_interval(values, confidence)
    assert low <= mean <= high
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert mean_interval(torch.tensor(values, dtype=torch.float64), confidence) == (mean, low, high)


def test_intervals_at_the_edges() -> None:
    assert mean_interval([2.0]) == (2.0, -math.inf, math.inf)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], 95)


def coverage(count: int, low: int, high: int) -> float:
    """Chance that a median lies between the `low`-th and the `high`-th of `count` values."""
    inside = sum(math.comb(count, below) for below in range(count + 1) if low <= below < high)
    return inside / 2**count


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 8, 11, 20, 41, 100, 1001])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(
    count: int, confidence: float
) -> None:
    # the values are their own ranks, shuffled
    values = (torch.randperm(count, generator=torch.Generator().manual_seed(0)) + 1).double()
    median, low, high = median_interval(values, confidence)
    assert median == (count + 1) / 2
    if low == -math.inf:
        assert high == math.inf
        assert coverage(count, 1, count) < confidence
        return
    assert coverage(count, int(low), int(high)) >= confidence
    # and no interval that is symmetric in rank is shorter
    assert low + 1 >= high - 1 or coverage(count, int(low) + 1, int(high) - 1) < confidence


@pytest.mark.parametrize(
    ("count", "rank"),
    [(5, None), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (25, 8), (50, 18), (100, 40)],
)
def test_the_ends_are_the_values_of_the_published_tables(count: int, rank: int | None) -> None:
    _, low, high = median_interval(range(1, count + 1))
    expected = (rank, count + 1 - rank) if rank else (-math.inf, math.inf)
    assert (low, high) == expected


@given(st.lists(FINITE, min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_interval_of_a_median_lies_around_it(values: list[float], confidence: float) -> None:
    median, low, high = median_interval(values, confidence)
    assert low <= median <= high
    assert median == pytest.approx(statistics.median(values), rel=1e-12)
    # no distribution is assumed, so an increasing map moves the ends along
    _, cubed_low, cubed_high = median_interval([v**3 for v in values], confidence)
    assert (cubed_low, cubed_high) == (low**3, high**3)


def test_a_median_needs_values_and_a_confidence() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        median_interval([1.0, 2.0], 95)
