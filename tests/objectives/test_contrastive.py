"""Rank-N-Contrast against its definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import rank_n_contrast


@st.composite
def projections_and_scores(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """`(N, 3)` and `(N,)` in float64, with ties among the scores and repeated projections."""
    count = draw(st.integers(2, 9))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    projections = torch.randn(count, 3, generator=random, dtype=torch.float64)
    if draw(st.booleans()):
        projections[-1] = projections[0]
    levels = draw(st.sampled_from([1, 2, 3, 1000]))  # exact in floating point, so ties are ties
    scores = torch.randint(levels, (count,), generator=random).double() / 4
    return projections, scores


def by_loops(projections: Tensor, scores: Tensor, temperature: float) -> float:
    points, y, total = projections.tolist(), scores.tolist(), []
    for i in range(len(points)):
        for j in range(len(points)):
            if i == j:
                continue
            rivals = [
                math.exp(-math.dist(points[i], points[k]) / temperature)
                for k in range(len(points))
                if k != i and abs(y[i] - y[k]) >= abs(y[i] - y[j])
            ]
            own = math.exp(-math.dist(points[i], points[j]) / temperature)
            total.append(-math.log(own / sum(rivals)))
    return sum(total) / len(total)


@given(projections_and_scores(), st.sampled_from([0.1, 1.0, 2.0, 10.0]))
def test_value_by_loops(drawn: tuple[Tensor, Tensor], temperature: float) -> None:
    expected = by_loops(*drawn, temperature)
    value = rank_n_contrast(*drawn, temperature=temperature).item()
    assert value == pytest.approx(expected, abs=1e-10)
    assert value >= -1e-12


@given(projections_and_scores(), st.sampled_from([-0.5, -3.0, 0.25, 8.0]), st.integers(-5, 5))
def test_only_the_order_of_differences_counts(
    drawn: tuple[Tensor, Tensor], scale: float, shift: int
) -> None:
    projections, scores = drawn
    moved = rank_n_contrast(projections, scale * scores + shift)
    assert_close(moved, rank_n_contrast(projections, scores))


@given(projections_and_scores())
def test_order_of_the_rows_does_not_matter(drawn: tuple[Tensor, Tensor]) -> None:
    projections, scores = drawn
    order = torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))
    assert_close(
        rank_n_contrast(projections[order], scores[order]), rank_n_contrast(projections, scores)
    )


@pytest.mark.parametrize("scores", [[0.0, 1.0, 3.0, 4.5], [0.0, 1.0, 1.0, 2.0], [1.0] * 4])
def test_gradient(scores: list[float]) -> None:
    torch.manual_seed(0)
    projections = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.tensor(scores, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: rank_n_contrast(p, y), projections)


@given(projections_and_scores())
def test_gradient_is_finite_where_rows_coincide(drawn: tuple[Tensor, Tensor]) -> None:
    projections, scores = drawn
    for points in (projections, projections[:1].expand(len(scores), -1), projections * 0):
        points = points.clone().requires_grad_()
        rank_n_contrast(points, scores).backward()
        assert points.grad.isfinite().all()


def test_lower_where_near_scores_lie_near() -> None:
    scores = torch.arange(6.0)
    line = torch.stack([scores, torch.zeros(6)], -1)
    shuffled = line[[3, 0, 5, 1, 4, 2]]
    assert rank_n_contrast(line, scores) < rank_n_contrast(shuffled, scores)


def test_far_projections_do_not_overflow() -> None:
    projections = 1e4 * torch.eye(5)
    projections[0] += 1e4
    projections.requires_grad_()
    loss = rank_n_contrast(projections, torch.arange(5.0), temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert projections.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="a temperature above 0, got 3"):
        rank_n_contrast(torch.zeros(3, 2), torch.zeros(3), temperature=temperature)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows(count: int) -> None:
    with pytest.raises(ValueError, match=f"needs 2 rows .* got {count}"):
        rank_n_contrast(torch.zeros(count, 2), torch.zeros(count))
