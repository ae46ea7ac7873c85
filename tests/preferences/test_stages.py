"""The name of a stage is in the log and in the seeds, which decide what is held out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from discrete_grad import ContextSpec
from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    fit_dpo,
    fit_preference_model,
    new_preference_model,
)
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.logs import JsonLinesLog
from tests.lacking import SPACE
from tests.stages import check_name, check_noise

ROWS = SPACE.enumerate()
PAIRS = Preferences(
    ROWS.repeat(4, 1), ROWS.flip(0).repeat(4, 1), (torch.arange(24) % 3 == 0).long()
)
LOOP: dict[str, int] = {"steps": 2, "validate_every": 1, "checkpoint_every": 1}
SMALL = PreferenceConfig(members=2, dim=2, hidden=(4,), **LOOP)

FITS: dict[str, Callable[..., Any]] = {
    "dpo": lambda *, seed=0, **given: fit_dpo(
        Generator(SPACE),
        PAIRS,
        Generator(SPACE),
        config=DPOConfig(batch_size=4, **LOOP),
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
def test_a_fit_that_was_stopped_goes_on_where_it_was(name: str, tmp_path: Path) -> None:
    whole = FITS[name]()

    def stop(metrics: dict[str, float], step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    metrics = JsonLinesLog(tmp_path / "metrics.jsonl")
    checkpoint = Checkpoint(tmp_path / "state.safetensors", metrics)
    with pytest.raises(KeyboardInterrupt):
        FITS[name](checkpoint=checkpoint, log=stop)
    assert checkpoint.path.is_file()
    assert FITS[name](checkpoint=checkpoint).losses == whole.losses[1:]


def test_what_does_not_fit_is_told() -> None:
    policy, reference = Generator(SPACE, ContextSpec(numeric=["price"])), Generator(SPACE)
    config = DPOConfig(steps=2)
    wrong: Any = SMALL
    refusals = {
        "config of fit_dpo must be of class DPOConfig, got PreferenceConfig": lambda: fit_dpo(
            reference, PAIRS, reference, config=wrong, seed=0
        ),
        "preferences with contexts of width None, not 1": lambda: fit_dpo(
            policy, PAIRS, reference, config=config, seed=0
        ),
    }
    for message, call in refusals.items():
        with pytest.raises((TypeError, ValueError)) as told:
            call()
        assert str(told.value) == message


@pytest.mark.parametrize("name", FITS)
def test_its_noise(name: str) -> None:
    check_noise(FITS[name], name)
