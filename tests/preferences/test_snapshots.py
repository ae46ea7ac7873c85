"""Numbers of fits to preferences, as they were when they were last looked at.

Annotators, ties, contexts and settings that are no defaults: whatever changes a term of a loss,
an axis or a seed changes some number. `python -m tests.preferences.test_snapshots` writes them
anew, to be read before they are committed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.policies import Generator
from discrete_grad.preferences import (
    DPOConfig,
    PreferenceConfig,
    Preferences,
    answer_log_probs,
    choose_pairs,
    fit_dpo,
    fit_preference_model,
    held_out_accuracy,
    new_preference_model,
    random_pairs,
    reward_unit,
    synthetic_preferences,
)
from discrete_grad.sampling import isolated_seed, seeded
from tests.fitting.small_rows import CODES, CONTEXT, ROWS, SPACE, SPEC
from tests.kept_numbers import Case, check_numbers, keep_numbers

FILE = Path(__file__).parent / "snapshots.json"
SHORT: dict[str, Any] = {"steps": 6, "batch_size": 10, "validate_every": 2, "learning_rate": 0.05}
WHO = torch.arange(40) % 3
TRUST = torch.tensor([0.9, 0.6, 0.8])


def liked(codes: Tensor, context: Tensor | None) -> Tensor:
    likes = (codes * torch.tensor([1.0, -0.7, 0.4])).sum(-1)
    return likes if context is None else likes * (0.5 + context[..., 0])


def drawn(**options: Any) -> Preferences:
    noise = seeded(1)
    pairs = random_pairs(CODES, CONTEXT, 40, generator=noise)
    return synthetic_preferences(liked, *pairs, generator=noise, **options)


def pairs() -> Preferences:
    """Answers of three annotators in contexts, ties among them."""
    return drawn(temperature=0.7, tie_width=0.5, reliability=TRUST, annotator=WHO)


def config(**changes: Any) -> PreferenceConfig:
    settings = {"members": 3, "dim": 3, "hidden": (5,), "held_out": 0.2, "reliability": 0.8}
    return PreferenceConfig(**SHORT | settings | {"reliability_answers": 7.0} | changes)


def model(plain: bool = False, **changes: Any) -> list[Any]:
    """A fit; without anything that a pair may lack where it is `plain`."""
    data, settings = pairs(), config(**changes)
    if plain:
        data = Preferences(data.first, data.second, data.outcome.clamp_max(1))
    spec, count = (None, 1) if plain else (SPEC, 3)
    made = new_preference_model(SPACE, spec, settings, annotators=count, ties=data.has_ties, seed=2)
    history = fit_preference_model(made, data, config=settings, seed=3)
    rows = replace(ROWS, context=None) if plain else ROWS
    asked = (data.first[:5], data.second[:5], None if plain else data.context[:5])
    own = [None if part is None else part.expand(settings.members, *part.shape) for part in asked]
    who = None if plain else WHO[:5]
    own_who = None if plain else WHO[:5].expand(3, 5)
    return [
        [*history.losses, *history.held_out_losses, history.kept_step],
        made.differences(*asked),
        made.reliability,
        made.tie_width,
        answer_log_probs(made, *asked),
        answer_log_probs(made, *asked, annotator=who),
        answer_log_probs(made, *own, annotator=own_who, own_rows=True),
        choose_pairs(made, data.first, data.second, data.context, count=4),
        choose_pairs(made, *asked, annotator=who),
        [held_out_accuracy(made, data, config=settings, seed=3), reward_unit(made, rows)],
    ]


def dpo(*, ties: bool = True, **changes: Any) -> list[Any]:
    data = pairs() if ties else replace(pairs(), outcome=pairs().outcome.clamp_max(1))
    with isolated_seed(4):
        policy, reference = (Generator(SPACE, SPEC, hidden=(4,)) for _ in range(2))
    settings = {"beta": 0.6, "tie_width": 0.4, "held_out": 0.25}
    history = fit_dpo(
        policy, data, reference, config=DPOConfig(**SHORT | settings | changes), seed=5
    )
    return [history.losses, history.held_out_losses, policy.log_prob(CODES[:6], CONTEXT[:6])]


def synthetic(**options: Any) -> list[Any]:
    made = drawn(**options)
    return [made.first, made.second, made.outcome, made.context, made.who, [len(made.annotators)]]


CASES: dict[str, Case] = {
    "model": model,
    "model, mixed": lambda: model(architectures=("mlp", "shallow", "multilinear")),
    "model, plain": lambda: model(plain=True, members=2),
    "dpo": dpo,
    "dpo, mixture": lambda: dpo(flip=0.1),
    "dpo, robust": lambda: dpo(ties=False, flip=0.1, noise="robust"),
    "dpo, conservative": lambda: dpo(ties=False, flip=0.2, noise="conservative"),
    "synthetic": synthetic,
    "synthetic, who": lambda: synthetic(tie_width=1.0, reliability=TRUST, annotator=WHO),
    "synthetic, one of three": lambda: synthetic(reliability=TRUST),
    "synthetic, sure": lambda: synthetic(temperature=0.0, reliability=0.9),
    "synthetic, two": lambda: synthetic(temperature=3.0, annotator=WHO % 2),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_as_before(name: str) -> None:
    check_numbers(FILE, name, CASES[name])


if __name__ == "__main__":
    keep_numbers(FILE, CASES)
