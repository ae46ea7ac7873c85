"""The pieces of `rl` that its figures rest on."""

import pytest
import torch
from torch.testing import assert_close

from benchmarks.rl import Config as RLConfig
from benchmarks.rl import best_factorised, cells, law, methods, trained
from benchmarks.rl_peers import (
    TORCHRL,
    RowEnvironments,
    _advantages,
    _law,
    _moved,
    _NextCategory,
    _start,
    peer,
)
from benchmarks.rl_problems import Problem, looks
from benchmarks.rl_tables import first_steady, parting
from discrete_grad import CategoricalSpace
from discrete_grad.policies import AutoregressiveGenerator, Generator

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
REWARD = torch.linspace(-1, 1, 12).double()
PROBLEM = Problem(SPACE, REWARD, -REWARD, beta=0.5)


def test_the_tilt_alone_has_the_whole_optimum() -> None:
    tilted = (REWARD / 0.5).log_softmax(0)
    figures = PROBLEM.grade(tilted)
    assert figures["share"] == pytest.approx(1)
    assert figures["true"] == pytest.approx(-figures["proxy"])
    assert PROBLEM.grade(PROBLEM.uniform)["share"] == pytest.approx(0, abs=1e-12)


def test_independent_features_reach_an_additive_optimum() -> None:
    additive = SPACE.enumerate().double() @ torch.tensor([1.0, -0.5, 2.0]).double()
    path = best_factorised(Problem(SPACE, additive - additive.mean(), additive, 0.5), starts=2)
    assert path.points[0]["share"] == pytest.approx(1, abs=1e-4)


def test_a_law_sums_to_one() -> None:
    for policy in (AutoregressiveGenerator(SPACE), Generator(SPACE)):
        assert_close(law(policy).double().exp().sum(), torch.ones((), dtype=torch.float64))


def test_what_is_kept_to_the_end_counts() -> None:
    path = [{"share": share} for share in (0.5, 0.995, 0.98, 0.99, 1.0)]
    assert first_steady(path, 0.99) is path[3]
    assert first_steady(path[:3], 0.99) is None


def test_proxy_and_truth_part_where_the_gap_stays() -> None:
    def point(kl: float, proxy: float, true: float) -> dict[str, float]:
        return {"kl": kl, "proxy": proxy, "true": true}

    together, apart = point(1.0, 1.0, 0.95), point(4.0, 2.0, 1.0)
    assert parting([together, apart, point(9.0, 3.0, 0.0)]) == 2.0
    assert parting([apart, together]) is None


def test_looks_are_multiples_of_a_batch_and_end_with_the_last() -> None:
    at = looks(25_600, 512)
    assert max(at) == 25_600
    assert min(at) == 512
    assert all(rows % 512 == 0 for rows in at)


def test_an_action_earns_its_rows_reward() -> None:
    environments = RowEnvironments(PROBLEM, 12)
    environments.step_async(SPACE.enumerate().numpy())
    _, rewards, done, _ = environments.step_wait()
    assert_close(torch.from_numpy(rewards), REWARD.float())
    assert done.all()


def test_a_peers_law_is_of_legal_rows_alone() -> None:
    network = _NextCategory(PROBLEM, 8)
    assert_close(_law(PROBLEM, network).exp().sum(), torch.tensor(1.0))
    moved = _moved(PROBLEM, _start(PROBLEM, 2), 0, torch.tensor([0, 1]))
    assert moved[1].nonzero().squeeze(-1).tolist() == [1, SPACE.width + 1]


def test_advantages_are_those_of_a_double_loop() -> None:
    noise = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 4, 3, generator=noise)
    wanted = torch.zeros(4, 3)
    for t in range(3):
        for k in range(t, 3):
            following = values[:, k + 1] if k < 2 else torch.zeros(4)
            wanted[:, t] += 0.9 ** (k - t) * (rewards[:, k] + following - values[:, k])
    assert_close(_advantages(rewards, values, decay=0.9), wanted)


@pytest.mark.parametrize("name", ["leave_one_out", "ppo, factorised"])
def test_ours_gain_on_a_small_problem(name: str) -> None:
    path = trained(PROBLEM, name, 0, 2048, looks(2048, 512))
    assert path.points[-1]["rows"] == 2048
    assert path.points[-1]["share"] > 0.5


@pytest.mark.parametrize("name", [TORCHRL, "stable-baselines3 A2C, tuned"])
def test_peers_gain_on_a_small_problem(name: str) -> None:
    path = peer(name, PROBLEM, 0, 2048, looks(2048, 512))
    assert path.points[-1]["share"] > 0.5


def test_every_method_has_cells_with_the_true_reward() -> None:
    found = {cell.key.split("/")[2] for cell in cells(RLConfig()) if "/true/" in cell.key}
    assert set(methods()) < found
