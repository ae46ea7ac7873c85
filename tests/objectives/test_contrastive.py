"""Rank-N-Contrast and ACCon against their definitions."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import acc_con, rank_n_contrast


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


@st.composite
def projections_and_several(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """`(N, 3)` and `(N, S)` in float64, with ties; distances are exact multiples of 1/4 or not."""
    projections, _ = draw(projections_and_scores())
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([1, 2, 3, 1000]))
    shape = (len(projections), draw(st.integers(1, 3)))
    return projections, torch.randint(levels, shape, generator=random).double() / 4


@given(projections_and_several(), st.sampled_from([0.1, 2.0]))
def test_several_scores_by_loops(drawn: tuple[Tensor, Tensor], temperature: float) -> None:
    points, y = (side.tolist() for side in drawn)
    total = []
    for i, j in itertools.permutations(range(len(points)), 2):
        rivals = [
            math.exp(-math.dist(points[i], points[k]) / temperature)
            for k in range(len(points))
            if k != i and square(y[i], y[k]) >= square(y[i], y[j])
        ]
        total.append(math.dist(points[i], points[j]) / temperature + math.log(sum(rivals)))
    expected = sum(total) / len(total)
    value = rank_n_contrast(*drawn, temperature=temperature).item()
    assert value == pytest.approx(expected, abs=1e-10)


def square(a: list[float], b: list[float]) -> float:
    """Exact, so that ties are ties."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


@given(projections_and_scores())
def test_one_column_is_one_score(drawn: tuple[Tensor, Tensor]) -> None:
    projections, scores = drawn
    for loss in (rank_n_contrast, acc_con):
        assert_close(loss(projections, scores.unsqueeze(-1)), loss(projections, scores))


def test_another_score_tells_apart_what_the_first_does_not() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    scores = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    assert rank_n_contrast(line, scores) < rank_n_contrast(line[[1, 0, 2]], scores)


# --- ACCon --------------------------------------------------------------------------------------


def acc_con_by_loops(projections: Tensor, scores: Tensor, temperature: float, near: float) -> float:
    points, y, terms = projections.tolist(), scores.tolist(), []
    count = len(points)
    largest = max(abs(a - b) for a in y for b in y) or 1.0
    for i in range(count):
        others = [k for k in range(count) if k != i]
        share = {k: abs(y[i] - y[k]) / largest for k in others}
        weight = {}
        for k in others:
            angle = math.acos(max(-1.0, min(1.0, cosine(points[i], points[k]))))
            shift = 0.0 if share[k] <= near else math.pi * (1 - share[k])
            weight[k] = math.exp(math.cos(angle + shift) / temperature)
        own = [-math.log(weight[p] / sum(weight.values())) for p in others if share[p] <= near]
        terms += [sum(own) / len(own)] if own else []
    return sum(terms) / len(terms) if terms else 0.0


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


@given(projections_and_scores(), st.sampled_from([0.1, 0.5, 2.0]), st.sampled_from([0.0, 0.1, 0.9]))
def test_acc_con_by_loops(drawn: tuple[Tensor, Tensor], temperature: float, near: float) -> None:
    expected = acc_con_by_loops(*drawn, temperature, near)
    value = acc_con(*drawn, temperature=temperature, near=near).item()
    assert value == pytest.approx(expected, abs=1e-6)  # acos is not exact at its ends


def test_acc_con_is_least_where_the_angle_is_the_difference() -> None:
    """A negative half as far as the farthest is to stand at a right angle."""
    scores = torch.tensor([0.0, 0.0, 0.5, 1.0], dtype=torch.float64)

    def loss(angle: float) -> Tensor:
        angles = torch.tensor([0.0, 0.0, angle, math.pi], dtype=torch.float64)
        return acc_con(torch.stack([angles.cos(), angles.sin()], -1), scores, near=0.0)

    grid = torch.linspace(0, math.pi, 181, dtype=torch.float64).tolist()
    best = min(grid, key=lambda angle: loss(angle).item())
    assert best == pytest.approx(math.pi / 2, abs=1e-9)


@given(projections_and_scores(), st.sampled_from([1.0, 7.0]))
def test_acc_con_knows_no_unit_and_no_length(drawn: tuple[Tensor, Tensor], scale: float) -> None:
    projections, scores = drawn
    moved = acc_con(scale * projections, -scale * scores + 3, near=0.3)
    assert_close(moved, acc_con(projections, scores, near=0.3), atol=1e-7, rtol=1e-6)


def test_acc_con_gradient() -> None:
    torch.manual_seed(0)
    projections = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    scores = torch.tensor([0.0, 0.05, 1.0, 1.5, 2.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: acc_con(p, scores), projections)


@given(projections_and_scores())
def test_acc_con_gradient_is_finite_where_rows_coincide(drawn: tuple[Tensor, Tensor]) -> None:
    projections, scores = drawn
    opposite = torch.cat([projections, -projections])
    for points, y in (
        (projections[:1].expand(len(scores), -1), scores),
        (opposite, scores.repeat(2)),
        (projections * 0, scores),
    ):
        points = points.float().clone().requires_grad_()
        acc_con(points, y.float()).backward()
        assert points.grad.isfinite().all()


def test_acc_con_without_positives_is_nothing() -> None:
    projections = torch.eye(3, requires_grad=True)
    loss = acc_con(projections, torch.tensor([0.0, 1.0, 2.0]))
    loss.backward()
    assert loss.item() == 0
    assert not projections.grad.any()


@pytest.mark.parametrize("near", [-0.1, 1.0, math.nan])
def test_near_out_of_range(near: float) -> None:
    with pytest.raises(ValueError, match="near must lie in"):
        acc_con(torch.zeros(3, 2), torch.zeros(3), near=near)


@pytest.mark.parametrize("loss", [rank_n_contrast, acc_con])
@pytest.mark.parametrize("scores", [torch.zeros(4), torch.zeros(4, 2), torch.zeros(3, 0)])
def test_scores_of_another_shape(loss: Callable[..., Tensor], scores: Tensor) -> None:
    with pytest.raises(ValueError, match=r"scores"):
        loss(torch.zeros(3, 2), scores)
    with pytest.raises(ValueError, match="a temperature above 0"):
        loss(torch.zeros(3, 2), torch.zeros(3), temperature=0.0)


def test_projections_whose_squares_are_beyond_float16() -> None:
    rows, scores = torch.tensor([[900.0], [-100.0], [-1500.0], [600.0]]), torch.arange(4.0)
    loss = rank_n_contrast(rows.half().requires_grad_(), scores, temperature=2.0)
    wanted = rank_n_contrast(rows, scores, temperature=2.0)
    assert loss.dtype == torch.float16
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-3)
