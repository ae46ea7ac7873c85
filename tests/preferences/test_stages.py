"""The name of a stage is in the log and in the seeds, which decide what is held out."""

import re
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
from tests.lacking import SPACE, lacking, message
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


@pytest.mark.parametrize("name", FITS)
def test_two_pairs_are_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PAIRS", PAIRS.take(torch.arange(2)))
    assert len(FITS[name]().losses) == 2
    monkeypatch.setitem(globals(), "PAIRS", PAIRS.take(torch.arange(1)))
    with pytest.raises(ValueError, match=r"^needs 2 pairs and "):
        FITS[name]()


class Bare(torch.nn.Module):
    """A policy that says nothing of contexts."""

    def __init__(self, policy: Generator) -> None:
        super().__init__()
        self.space, self.inner = policy.space, policy

    def log_prob(self, codes: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        return self.inner.log_prob(codes, context)


def test_dpo_takes_a_policy_that_says_nothing_of_contexts() -> None:
    config = DPOConfig(batch_size=4, **LOOP)
    whole, bare = Generator(SPACE), Bare(Generator(SPACE))
    losses = [
        fit_dpo(policy, PAIRS, Generator(SPACE), config=config, seed=0).losses
        for policy in (whole, bare)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("side", "parts"),
    [(0, ("log_prob", "parameters")), (1, ("space", "log_prob"))],
    ids=["policy", "reference"],
)
def test_a_part_that_a_policy_of_dpo_lacks_is_named(side: int, parts: tuple[str, ...]) -> None:
    for part in parts:
        policies: list[Any] = [Generator(SPACE), Generator(SPACE)]
        policies[side] = lacking(part, *parts)
        with pytest.raises(TypeError, match=f"^{re.escape(message('fit_dpo', part))}$"):
            fit_dpo(policies[0], PAIRS, policies[1], config=DPOConfig(steps=2), seed=0)


def test_a_row_that_a_policy_never_draws_is_told() -> None:
    never = Generator(SPACE)
    with torch.no_grad():
        never.free_logits[0] = -torch.inf
    first = int((PAIRS.first[:, 0] == 0).logical_or(PAIRS.second[:, 0] == 0).nonzero()[0]) + 1
    for name, pair in (
        ("policy", (never, Generator(SPACE))),
        ("reference", (Generator(SPACE), never)),
    ):
        told = f"pair {first} holds a row the {name} never draws"
        with pytest.raises(ValueError, match=f"^{told}$"):
            fit_dpo(pair[0], PAIRS, pair[1], config=DPOConfig(steps=2), seed=0)


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
    for told, call in refusals.items():
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(told)}$"):
            call()


@pytest.mark.parametrize("name", FITS)
def test_its_noise(name: str) -> None:
    check_noise(FITS[name], name)
