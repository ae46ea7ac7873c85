"""The name of a stage is in the log and in the seeds."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import (
    DistillConfig,
    ReinforceConfig,
    distill,
    distill_guidance,
    distill_rows,
    reinforce,
)
from discrete_grad.sampling import isolated_seed
from discrete_grad.weighting import RewardWeighted
from tests.lacking import SPACE
from tests.stages import check_name, check_noise


def reward(codes: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
    return codes.sum(-1) + 0.5 * codes[..., 0]


TARGET = RewardWeighted(Generator(SPACE), reward, 1.0)
SHORT = DistillConfig(steps=2)


def model() -> AutoregressiveGenerator:
    with isolated_seed(0):
        return AutoregressiveGenerator(SPACE, hidden=(4,))


# its usual name, and the fit
FITS: dict[str, Callable[..., Any]] = {
    "policy": lambda **given: reinforce(
        Generator(SPACE), reward, config=ReinforceConfig(steps=2, group=4), **given
    ),
    "distill forward": lambda **given: distill(
        Generator(SPACE), TARGET, method="forward", config=SHORT, **given
    ),
    "distill reverse": lambda **given: distill(
        Generator(SPACE), TARGET, method="reverse", config=SHORT, **given
    ),
    "distill rows": lambda **given: distill_rows(
        Generator(SPACE), Generator(SPACE), reward, pool=5, keep=1.0, config=SHORT, **given
    ),
    "distill guidance": lambda **given: distill_guidance(
        model(), Generator(SPACE), config=SHORT, **given
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_its_name(name: str) -> None:
    check_name(FITS[name], name)


@pytest.mark.parametrize("name", FITS)
def test_its_noise(name: str) -> None:
    check_noise(FITS[name], name)
