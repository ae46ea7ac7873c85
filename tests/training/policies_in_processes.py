"""Policies that every process of a group trains."""

from typing import TypeVar

import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.fitting import ReproductionConfig, fit_reproduction
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import DistillConfig, ReinforceConfig, distill, reinforce
from discrete_grad.sampling import isolated_seed
from discrete_grad.training.distributed import rank
from discrete_grad.weighting import RewardWeighted

P = TypeVar("P", Generator, AutoregressiveGenerator)

SPACE = CategoricalSpace.from_sizes((3, 2))


def policy() -> AutoregressiveGenerator:
    """With attributes that nobody gives."""
    with isolated_seed(0):
        return AutoregressiveGenerator(SPACE, attributes=ContextSpec(numeric=["a"]), hidden=(8,))


def fitted(learner: P) -> P:
    """By likelihood: whole batches, in however many parts."""
    codes = SPACE.enumerate()[:4].repeat(10, 1)
    config = ReproductionConfig(steps=20, batch_size=16, weight_decay=0.3)
    fit_reproduction(learner, ScoredRows(codes, torch.ones(40)), config=config, seed=0)
    return learner


def distilled() -> AutoregressiveGenerator:
    """Towards a reward-weighted law, whose reward has a parameter of its own."""
    learner, scale = policy(), torch.nn.Parameter(torch.ones(()))
    target = RewardWeighted(policy(), lambda codes, context: scale * codes.sum(-1), 1.0)
    config = DistillConfig(steps=60, samples=32, batch_size=2)
    distill(learner, target, method="reverse", config=config)
    assert scale.grad is None
    return learner


def reinforced(algorithm: str) -> AutoregressiveGenerator:
    """By a reward."""

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        return codes.sum(-1).float()

    learner = policy()
    config = ReinforceConfig(algorithm=algorithm, steps=60, group=32, batch_size=2)
    reinforce(learner, reward, config=config)
    return learner


def train_everything() -> None:
    """Write the weights that this process ends with, `RANK.pt`."""
    ends = {"fitted": fitted(policy()), "factorised": fitted(Generator(SPACE))}
    ends["distilled"] = distilled()
    ends |= {name: reinforced(name) for name in ("ppo", "leave_one_out")}
    torch.save({name: model.state_dict() for name, model in ends.items()}, f"{rank()}.pt")
