"""Rows that are not dominated, and the search for them."""

import pytest
import torch
from torch import Tensor

from discrete_grad.models.front_search import best_front
from discrete_grad.models.pareto import non_dominated, spread_front, tradeoff_grid
from discrete_grad.sampling import seeded, uniform
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((5,) * 5)
WEIGHTS = torch.randn(2, SPACE.width, generator=torch.Generator().manual_seed(0))


def scores(codes: Tensor) -> Tensor:
    """Two sums of effects, with a product that couples two features."""
    values = SPACE.one_hot(codes) @ WEIGHTS.T
    return values + 0.5 * (codes[:, :1] * codes[:, 1:2] % 3)


@pytest.mark.parametrize("aims", [1, 2, 3])
def test_dominance_is_that_of_all_pairs(aims: int) -> None:
    values = (6 * uniform((120, aims), generator=seeded(aims))).floor()
    better = (values.unsqueeze(1) >= values).all(-1) & (values.unsqueeze(1) > values).any(-1)
    assert torch.equal(non_dominated(values), ~better.any(0))


def test_a_spread_front_holds_its_ends_and_no_row_twice() -> None:
    angle = torch.linspace(0, torch.pi / 2, 101)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    values = torch.cat([circle, circle, 0.9 * circle])
    chosen = spread_front(values, 12)
    assert len(chosen) == 12
    assert (chosen < 101).all()
    gaps = angle[chosen].diff()
    assert (gaps > 0).all()
    assert gaps.max() < 0.3
    assert (chosen[0], chosen[-1]) == (0, 100)
    assert len(spread_front(values[:5], 12)) == 5


def test_a_grid_of_trade_offs() -> None:
    for aims, count in ((2, 1), (2, 32), (3, 32), (4, 20)):
        grid = tradeoff_grid(aims, count)
        assert len(grid) >= count
        torch.testing.assert_close(grid.sum(1), torch.ones(len(grid)))
        assert {tuple(row) for row in torch.eye(aims).tolist()} <= {
            tuple(row) for row in grid.tolist()
        }
        assert len(grid.unique(dim=0)) == len(grid)


def test_a_small_space_is_looked_at_as_a_whole() -> None:
    everything = SPACE.enumerate()
    exact = everything[non_dominated(scores(everything))]
    codes, values = best_front(SPACE, everything[:1], scores, evaluations=len(everything))
    assert sorted(codes.tolist()) == sorted(exact.tolist())
    torch.testing.assert_close(values, scores(codes))


def test_local_search_finds_the_front_with_a_part_of_the_evaluations() -> None:
    asked: list[Tensor] = []

    def counted(codes: Tensor) -> Tensor:
        asked.append(codes)
        return scores(codes)

    exact = SPACE.enumerate()[non_dominated(scores(SPACE.enumerate()))]
    codes, _ = best_front(SPACE, SPACE.enumerate()[:3], counted, evaluations=1500)
    rows = torch.cat(asked)
    assert len(rows) <= 1500
    assert len(rows.unique(dim=0)) == len(rows)
    # few rows are opened at a time, so that better ones come in between
    assert max(len(part) for part in asked[1:]) <= 4 * SPACE.width
    found = {tuple(row) for row in codes.tolist()} & {tuple(row) for row in exact.tolist()}
    assert len(found) >= 0.9 * len(exact)


def test_of_many_starts_no_more_are_asked_than_there_are_evaluations() -> None:
    asked: list[Tensor] = []

    def counted(codes: Tensor) -> Tensor:
        asked.append(codes)
        return scores(codes)

    best_front(SPACE, SPACE.enumerate()[:100], counted, evaluations=30)
    assert sum(map(len, asked)) == 30
    # of those that are allowed, which are the last here
    asked.clear()
    starts = SPACE.enumerate()[-100:]
    best_front(SPACE, starts, counted, evaluations=30, allowed=lambda codes: codes[:, 2] == 4)
    assert torch.equal(asked[0], starts[-25:])


def test_a_row_that_barred_rows_alone_dominate_is_one_of_the_best() -> None:
    every = SPACE.enumerate()
    first = every[non_dominated(scores(every))]

    def barred(codes: Tensor) -> Tensor:
        return (codes.unsqueeze(1) == first).all(-1).any(1)

    codes, _ = best_front(SPACE, every, scores, evaluations=len(every), barred=barred)
    left = every[~barred(every)]
    second = left[non_dominated(scores(left))]
    assert {*map(tuple, codes.tolist())} == {*map(tuple, second.tolist())}


def test_only_allowed_rows_are_asked_and_barred_ones_left_out() -> None:
    def allowed(codes: Tensor) -> Tensor:
        return codes[:, 2] != 4

    def barred(codes: Tensor) -> Tensor:
        return codes[:, 0] == codes[:, 1]

    def checked(codes: Tensor) -> Tensor:
        assert allowed(codes).all()
        return scores(codes)

    for evaluations in (500, 5000):
        codes, values = best_front(
            SPACE,
            SPACE.enumerate()[:200],
            checked,
            evaluations=evaluations,
            allowed=allowed,
            barred=barred,
        )
        assert len(codes)
        assert not barred(codes).any()
        assert non_dominated(values).all()
    nothing, _ = best_front(
        SPACE, SPACE.enumerate(), scores, evaluations=9, allowed=lambda codes: codes[:, 0] > 9
    )
    assert len(nothing) == 0
