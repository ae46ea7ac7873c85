"""The pieces of `pareto` that its figures rest on."""

import pytest
import torch

from benchmarks import pareto_peers
from benchmarks.pareto import best_possible
from benchmarks.pareto_problems import Problem, hypervolume
from benchmarks.pareto_tables import KINDS
from discrete_grad import CategoricalSpace
from discrete_grad.sampling import seeded, uniform

SPACE = CategoricalSpace.from_sizes((4, 4, 4, 4))


@pytest.mark.parametrize("aims", [2, 3])
def test_the_hypervolume_is_the_share_of_points_that_are_dominated(aims: int) -> None:
    values = uniform((40, aims), generator=seeded(aims)) - 0.1
    points = uniform((100_000, aims), generator=seeded(9))
    share = (points.unsqueeze(1) <= values).all(-1).any(1).float().mean().item()
    assert hypervolume(values) == pytest.approx(share, abs=0.01)
    assert hypervolume(torch.cat([values, values, 0.5 * values])) == hypervolume(values)
    assert hypervolume(torch.eye(aims)) == 0
    assert hypervolume(torch.full((1, aims), 0.5)) == 0.5**aims


def test_columns_have_the_sign_of_their_aims() -> None:
    codes = SPACE.enumerate()
    values = torch.stack([codes.sum(1), -codes[:, 0]], 1).double()
    problem = Problem(SPACE, ("sum", "first:min"), values)
    columns = problem.columns(50, seed=0)
    rows = torch.stack([torch.from_numpy(columns[name]) for name in SPACE.names], 1)
    assert columns["sum"].tolist() == rows.sum(1).tolist()
    assert columns["first"].tolist() == rows[:, 0].tolist()
    assert torch.equal(problem.numbers(codes), torch.arange(len(codes)))
    assert problem.truth_of.amax() == 1
    assert problem.truth_of.amin() == 0


@pytest.mark.parametrize("name", list(pareto_peers.SEARCHES))
def test_a_search_stays_within_its_evaluations(name: str) -> None:
    values = uniform((SPACE.num_rows, 2), generator=seeded(0))
    problem = Problem(SPACE, ("a", "b"), values.double())
    known = torch.arange(20)
    asked = pareto_peers.SEARCHES[name](problem, values, values.expand(2, -1, -1), known, 120, 0)
    assert len(asked.unique()) == len(asked)
    assert 0 < len(asked) <= 120 + pareto_peers.BASELINE


def test_what_can_be_reached_is_less_where_two_aims_are_almost_one() -> None:
    steps = torch.linspace(0, 1, 21)
    places = torch.cartesian_prod(steps, steps)
    ball = torch.cat([places, (1 - places.square().sum(1)).clamp_min(0).sqrt().unsqueeze(1)], 1)
    ball = ball[places.square().sum(1) <= 1]
    round_front = best_possible(ball)["linear"]
    assert round_front["agreement"] > 0.9
    assert round_front["likely_rows"] > 30
    alike = torch.stack([steps, 1 - steps**2, 0.9 - steps**2], 1)
    for kind in KINDS:
        assert best_possible(alike)[kind]["agreement"] < 0.8
    apart = best_possible(alike[:, :2])["linear"]["agreement"]
    assert apart > 0.97
