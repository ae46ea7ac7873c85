"""The guidance benchmark's rewards, figures and tables."""

import torch

from benchmarks import guidance
from benchmarks.guidance_tables import tables
from discrete_grad.data import load_example
from discrete_grad.weighting import tilt
from discrete_grad.weighting.tilt import table_expectation, table_kl


def test_attributes_are_fifths_and_rewards_lie_between_0_and_1() -> None:
    attributes = guidance.fifths(load_example("nasbench201"))
    assert attributes.shape == (15_625, 3)
    for column in attributes.T:
        assert column.unique(return_counts=True)[1].tolist() == [3125] * 5
    rewards = guidance.reward_functions(attributes, 20)
    again = guidance.reward_functions(attributes, 20)
    assert len(rewards) == 20
    for reward, same in zip(rewards, again, strict=True):
        values = reward(attributes)
        assert values.shape == (15_625,)
        assert -1e-6 < values.min()
        assert values.max() < 1 + 1e-6
        assert values.std() > 0.01
        assert torch.equal(values, same(attributes))


def test_the_frontier_is_the_tilt_of_the_same_divergence() -> None:
    base = torch.tensor([0.5, 0.3, 0.2]).double().log()
    truth = torch.tensor([0.0, 0.5, 1.0]).double()
    log_p = tilt(base, truth, 0.3)
    reward, kl = float(table_expectation(log_p, truth)), float(table_kl(log_p, base))
    figures = guidance._figures(reward, kl, base, truth)
    assert abs(figures["frontier"] - reward) < 1e-6
    assert guidance._figures(1.0, 99.0, base, truth)["frontier"] == 1.0


def test_tables_of_few_results() -> None:
    cell = {
        "base": {"reward": 0.5, "kl": 0.0, "frontier": 0.5},
        "z_scored 2": {"reward": 0.7, "kl": 0.4, "frontier": 0.75},
    }
    learned = {"0": cell, "1": cell, "seconds": 1.0}
    cells = {f"learned/hpolib/{seed}": learned for seed in range(2)}
    exact = {"exact/mean": {k: dict(v) for k, v in cell.items()} | {"seconds": 1.0}}
    found = tables({"cells": cells | exact})  # type: ignore[arg-type]
    assert [len(table.rows) for table in found] == [2, 2, 1]
    assert found[0].rows[1][:2] == ("z-scored weights 2", "0.7 [0.7, 0.7]")
    assert found[0].rows[1][-1] == "0.8 [0.8, 0.8]"
    assert found[1].rows[1] == ("z-scored weights 2", "0.700", "0.40")
