"""The best of the observed rows by its shrunken mean."""

from __future__ import annotations

import math

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from discrete_grad.evaluation.best_row import best_row
from discrete_grad.sampling import normal, seeded


def by_definition(codes: list[int], scores: list[float]) -> tuple[float, dict[int, float]]:
    """The variance between rows, and each one's shrunken mean."""
    rows = {k: [x for c, x in zip(codes, scores, strict=True) if c == k] for k in set(codes)}
    number, groups = len(scores), len(rows)
    middle = sum(scores) / number
    means = {k: sum(x) / len(x) for k, x in rows.items()}
    within = sum((x - means[k]) ** 2 for k, xs in rows.items() for x in xs) / (number - groups)
    spread = sum(len(x) * (means[k] - middle) ** 2 for k, x in rows.items())
    size = number - sum(len(x) ** 2 for x in rows.values()) / number
    between = max(0.0, (spread - (groups - 1) * within) / size) if size else 0.0
    return between, {
        k: middle + (means[k] - middle) * len(x) * between / (len(x) * between + within)
        for k, x in rows.items()
    }


@given(st.integers(2, 6), st.integers(0, 999))
@example(3, 94)  # where the order depends on the degrees of freedom
def test_it_is_the_row_with_the_largest_shrunken_mean(different: int, seed: int) -> None:
    generator = seeded(seed)
    codes = torch.cat(
        [torch.arange(different), torch.randint(different, (12,), generator=generator)]
    )
    scores = codes % 3 + 2 * normal((len(codes),), generator=generator) + 1000
    place, mean, count = best_row(codes.unsqueeze(1), scores)
    between, shrunken = by_definition(codes.tolist(), scores.double().tolist())
    chosen = int(codes[place])
    assert count == different
    assert abs(mean - float(scores[codes == chosen].double().mean())) < 1e-3
    assert place == int((codes == chosen).nonzero()[0])
    if between > 1e-6:
        assert shrunken[chosen] > max(shrunken.values()) - 1e-6


def test_without_equal_rows_it_is_the_first_best_score() -> None:
    codes = torch.arange(5).unsqueeze(1)
    scores = torch.tensor([1.0, 1e17, 1e17 + 64, 1e17 + 64, -2.0], dtype=torch.float64)
    assert best_row(codes, scores) == (2, 1e17 + 64, 5)
    # beside a number so large the others are equal
    scores = torch.tensor([-1e17, 1.0, 1.5, 1.5, 1.25], dtype=torch.float64)
    assert best_row(codes, scores) == (2, 1.5, 5)


def test_scores_that_do_not_vary_within_rows_are_compared_as_they_are() -> None:
    codes = torch.tensor([[0], [1], [1], [2]])
    assert best_row(codes, torch.tensor([3.0, 5.0, 5.0, 4.0])) == (1, 5.0, 3)
    assert best_row(codes, torch.full((4,), 7.0)) == (0, 7.0, 3)


def test_one_lucky_score_is_not_the_best_row() -> None:
    codes = torch.tensor([0] * 100 + [1] * 100 + [2]).unsqueeze(1)
    noise = normal((201,), generator=seeded(0))
    scores = 5 * noise + torch.tensor([2.0] * 100 + [0.0] * 101)
    scores[200] = 9.0
    assert scores[0:100].max() > 9.0
    place, mean, _ = best_row(codes, scores)
    assert (place, abs(mean - 2) < 1.5) == (0, True)


def test_huge_scores_are_compared_as_others_are() -> None:
    codes = torch.tensor([0, 0, 1, 1, 2, 2]).unsqueeze(1)
    scores = torch.tensor([1.0, 1.2, 3.0, 3.1, -2.0, -2.1], dtype=torch.float64)
    place, mean, different = best_row(codes, scores)
    huge = best_row(codes, 1e300 * scores)
    assert (huge[0], huge[2]) == (place, different) == (2, 3)
    assert math.isclose(huge[1], 1e300 * mean)
