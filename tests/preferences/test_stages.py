"""The name of a stage is in the log and in the seeds, which decide what is held out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    fit_dpo,
    fit_preference_model,
    new_preference_model,
)
from tests.lacking import SPACE
from tests.stages import check_name, check_noise

ROWS = SPACE.enumerate()
PAIRS = Preferences(
    ROWS.repeat(4, 1), ROWS.flip(0).repeat(4, 1), (torch.arange(24) % 3 == 0).long()
)
SMALL = PreferenceConfig(members=2, dim=2, hidden=(4,), steps=2, validate_every=1)

FITS: dict[str, Callable[..., Any]] = {
    "dpo": lambda *, seed=0, **given: fit_dpo(
        Generator(SPACE),
        PAIRS,
        Generator(SPACE),
        config=DPOConfig(steps=2, batch_size=4, validate_every=1),
        seed=seed,
        **given,
    ),
    "preference": lambda *, seed=0, **given: fit_preference_model(
        new_preference_model(SPACE, None, SMALL, seed=0), PAIRS, config=SMALL, seed=seed, **given
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_its_name(name: str) -> None:
    check_name(FITS[name], name)


@pytest.mark.parametrize("name", FITS)
def test_its_noise(name: str) -> None:
    check_noise(FITS[name], name)
