"""The pieces of `pareto` that its figures rest on."""

import pytest
import torch

from benchmarks import pareto_peers
from benchmarks.pareto import asked_and_got
from benchmarks.pareto_problems import Problem, hypervolume
from benchmarks.pareto_tables import KINDS
from discrete_grad import CategoricalSpace
from discrete_grad.models.pareto import tradeoff_grid
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
def test_a_search_stays_within_its_evaluations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "BoTorch" in name:  # in a new environment BoTorch compiles a kernel first, for a minute
        kernel = "botorch.acquisition.multi_objective.logei._load_attempted"
        monkeypatch.setattr(kernel, True, raising=False)
    values = uniform((SPACE.num_rows, 2), generator=seeded(0))
    problem = Problem(SPACE, ("a", "b"), values.double())
    known = torch.arange(20)
    asked = pareto_peers.SEARCHES[name](problem, values, values.expand(2, -1, -1), known, 120, 0)
    assert len(asked.unique()) == len(asked)
    assert 0 < len(asked) <= 120 + pareto_peers.BASELINE


def test_asked_and_got_is_held_against_the_best_row_at_each_trade_off() -> None:
    steps = torch.linspace(0, 1, 21)
    alike = torch.stack([steps, 1 - steps**2, 0.9 - steps**2], 1)
    for kind in KINDS:
        # of two aims that are almost one, the weights cannot be told from what is got
        found = asked_and_got(alike, torch.zeros(36).long(), kind)
        assert found["best_agreement"] < 0.8
        assert found["likely_rows"] == 1
        assert found["missed"] > 0.1
    apart, grid = alike[:, :2], tradeoff_grid(2, 32)
    best = torch.stack([(apart * weights).sum(1).argmax() for weights in grid])
    found = asked_and_got(apart, best, "linear")
    assert found["agreement"] == found["best_agreement"] > 0.97
    assert found["likely_rows"] == found["best_rows"] == len(best.unique())
    assert found["missed"] == pytest.approx(0, abs=1e-6)
