"""Whole losses, divergence and entropy included: expected gradients by enumeration in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives.advantages import diversity_advantage
from discrete_grad.reinforcement import memory_weights
from discrete_grad.reinforcement._rollout import Rollout, RowLaw, Steps
from discrete_grad.reinforcement._rollout_loss import policy_loss, step_costs, with_advantages
from discrete_grad.reinforcement.reinforce_config import ReinforceConfig
from tests.objectives.worlds import (
    CONTEXTS,
    KINDS,
    SPACE,
    RowsAlone,
    exact_objective,
    expected_gradient,
    gradient,
    policy_of,
    reward_table,
)

BETA, ENTROPY = 0.7, 0.4
REWARDS = reward_table()
UNBIASED: list[tuple[dict[str, Any], int]] = [
    ({"algorithm": "reinforce"}, 1),
    ({"algorithm": "leave_one_out"}, 2),
    ({"algorithm": "leave_one_out", "memory": 2}, 2),
    ({"algorithm": "a2c", "gae_decay": 1.0}, 1),
    ({"algorithm": "ppo", "gae_decay": 1.0}, 1),
    ({"algorithm": "ppo", "gae_decay": 1.0, "memory": 2}, 1),
    ({"algorithm": "reinforce", "kl": "k2", "kl_in": "loss"}, 1),
    ({"algorithm": "a2c", "gae_decay": 1.0, "kl": "conditional"}, 1),
    ({"algorithm": "reinforce", "kl": "conditional"}, 1),
]
WHOLE = [case for case in UNBIASED if case[0].get("kl") != "conditional"]
BIASED: list[tuple[dict[str, Any], int]] = [
    ({"algorithm": "reinforce", "kl": "k1", "kl_in": "loss"}, 1),
    ({"algorithm": "reinforce", "kl": "k2"}, 1),
    ({"algorithm": "reinforce", "kl": "k3"}, 1),
    ({"algorithm": "reinforce", "kl": "k3", "kl_in": "loss"}, 1),
]


def made(kind: str, seed: int = 0) -> Any:
    """A policy; one of which `rows alone` has only whole rows' probabilities."""
    if kind == "rows alone":
        return RowsAlone(policy_of("autoregressive", seed))
    return policy_of(kind, seed)


def both(kind: str, settings: dict[str, Any], group: int) -> tuple[Tensor, Tensor]:
    """Expected gradient of the loss, and minus that of the objective."""
    config = ReinforceConfig(beta=BETA, entropy=ENTROPY, group=group, **settings)
    policy, reference = made(kind), made(kind, 1)
    steps = Steps.of(policy, reference)

    known = torch.tensor([[4, 0], [1, 5]])[: config.memory]

    def loss(index: Tensor) -> Tensor:
        index = torch.cat([index, known])
        codes = SPACE.enumerate()[index]
        law = steps.read(policy, codes, CONTEXTS)
        with torch.no_grad():
            other = steps.read(reference, codes, CONTEXTS)
            rewards, old = REWARDS.gather(0, index), law.steps.detach()
        conditional = config.kl == "conditional"
        kl = steps.divergences(law, other) if conditional else None
        weights = memory_weights(
            codes[:group], codes[group:], old[group:].sum(-1), torch.ones_like(known).bool()
        )
        rollout = Rollout(codes, CONTEXTS, rewards, old, other, weights=weights, drawn=group)
        values = None
        if config.algorithm in ("a2c", "ppo"):
            values = torch.arange(old.shape[-1]).double() + 0.5
        costs = step_costs(rollout, law.detach(), config, kl=None if kl is None else kl.detach())
        baseline = torch.tensor(1.5) if config.algorithm == "reinforce" else None
        rollout = with_advantages(rollout, costs, config, values=values, baseline=baseline)
        return policy_loss(rollout, law, config, kl=kl)[0]

    exact = exact_objective(policy, REWARDS, beta=BETA, reference=reference)
    # entropy: minus the divergence from uniform rows, but for a constant
    exact = exact + exact_objective(policy, torch.zeros_like(REWARDS), beta=ENTROPY)
    return expected_gradient(policy, loss, group), -gradient(exact, policy)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("settings", "group"), UNBIASED, ids=str)
def test_unbiased(kind: str, settings: dict[str, Any], group: int) -> None:
    found, exact = both(kind, settings, group)
    assert exact.norm() > 0.1
    assert_close(found, exact)


@pytest.mark.parametrize(("settings", "group"), WHOLE, ids=str)
def test_unbiased_of_whole_rows(settings: dict[str, Any], group: int) -> None:
    """The same gradient as where the steps are known, or baselines and values have a say."""
    found, exact = both("rows alone", settings, group)
    assert exact.norm() > 0.1
    assert_close(found, exact)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("settings", "group"), BIASED, ids=str)
def test_biased_as_documented(kind: str, settings: dict[str, Any], group: int) -> None:
    found, exact = both(kind, settings, group)
    assert (found - exact).norm() > 0.01


def test_the_conditional_divergence_in_the_loss_alone_leaves_out_the_prefixes() -> None:
    settings = {"algorithm": "reinforce", "kl": "conditional", "kl_in": "loss"}
    for kind, unbiased in zip(KINDS, (True, False), strict=True):
        found, exact = both(kind, settings, 1)
        assert ((found - exact).norm() < 1e-9) == unbiased


@pytest.mark.parametrize("scale", ["raw", "batch"])
@pytest.mark.parametrize("algorithm", ["leave_one_out", "ppo"])
def test_diversity_is_worth_as_much_whatever_the_advantages_are_scaled_to(
    algorithm: str, scale: str
) -> None:
    codes, rewards = SPACE.enumerate()[:4], torch.tensor([0.0, 0.0, 30.0, 90.0])
    zero = torch.zeros(4, 1)
    rollout = Rollout(codes, None, rewards, zero, RowLaw(zero), drawn=4)
    found = []
    for diversity in (0.0, 0.5):
        config = ReinforceConfig(
            algorithm=algorithm, advantage_scale=scale, diversity=diversity, group=4
        )
        found.append(with_advantages(rollout, zero, config).advantages)
    bonus = diversity_advantage(codes).unsqueeze(-1)
    assert bonus.unique().numel() > 1
    assert_close(found[1] - found[0], 0.5 * bonus, rtol=0, atol=1e-5)


def test_ppo_weighs_its_rows_by_its_ratio_once() -> None:
    """Rows of an older policy, at a ratio within the clip."""
    config = ReinforceConfig(algorithm="ppo", clip=0.5)
    codes, ratio = SPACE.enumerate()[:3], torch.tensor([[1.2], [0.9], [1.1]]).double()
    steps = torch.tensor([[-1.0], [-2.0], [-3.0]]).double()
    advantages = torch.tensor([[1.0], [2.0], [-3.0]]).double()
    old, law = steps - ratio.log(), RowLaw(steps)
    rollout = Rollout(codes, None, advantages[:, 0], old, law, drawn=3, advantages=advantages)
    loss, weights = policy_loss(rollout, law, config)
    assert loss.item() == pytest.approx(-(ratio * advantages).mean().item())
    assert_close(weights, ratio[:, 0])


@pytest.mark.parametrize("unit", [None, 4.0])
@pytest.mark.parametrize("remembered", [False, True])
def test_values_learn_from_rows_as_often_as_they_count(
    remembered: bool, unit: float | None
) -> None:
    """Remembered rows weigh by their probability; an older policy's ratio is not the values'."""
    config = ReinforceConfig(algorithm="a2c", beta=0.0, value_weight=0.3)
    zeros, law = torch.zeros(4, 3).double(), RowLaw(torch.full((4, 3), -0.1).double())
    returns = torch.arange(12.0).double().view(4, 3)
    weights = torch.tensor([2.0, 0.0, 1.5, 0.25]).double()
    rollout = Rollout(
        SPACE.enumerate()[:4],
        None,
        zeros[:, 0],
        law.steps - 0.2,
        law,
        weights=weights if remembered else None,
        drawn=2,
        advantages=zeros,
        returns=returns,
    )
    given = None if unit is None else torch.tensor(unit)
    loss, _ = policy_loss(rollout, law, config, values=torch.ones(1, 1).double(), unit=given)
    errors = (returns - 1).square() / 2 * (weights.unsqueeze(1) if remembered else 1)
    assert loss.item() == pytest.approx(0.3 * errors.mean().item() / (1 if unit is None else 16))


def test_a_part_of_a_law_is_of_some_of_its_rows() -> None:
    steps, own, shared = torch.randn(4, 2, 3), torch.randn(4, 2, 5), torch.randn(2, 5)
    index = torch.tensor([2, 0])
    for logits, expected in ((own, own[index]), (shared, shared), (None, None)):
        part = RowLaw(steps, logits).part(index)
        assert torch.equal(part.steps, steps[index])
        assert part.logits is expected or torch.equal(part.logits, expected)


def test_a_step_pays_for_the_divergences_after_it() -> None:
    """Its own is in the loss; of two steps, costs of entropy are 0 here."""
    config = ReinforceConfig(beta=2.0, kl="conditional")
    zeros = torch.zeros(1, 1, 3)
    rollout = Rollout(torch.zeros(1, 1, 3).long(), None, torch.zeros(1, 1), zeros, RowLaw(zeros))
    kl = torch.tensor([[[1.0, 10.0, 100.0]]])
    assert step_costs(rollout, RowLaw(zeros), config, kl=kl).tolist() == [[[20.0, 200.0, 0.0]]]
