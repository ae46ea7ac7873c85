"""A part that a policy lacks is named, and who needs it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.weighting import (
    AttributeSet,
    Guided,
    RewardWeighted,
    TablePotential,
    ValueGuided,
    importance_sampling,
    twisted_smc,
)
from tests.lacking import SPACE, lacking, message

ROWS = SPACE.enumerate()
STEPS = ("order", "begin", "advance", "select")
SUPPORT = AttributeSet(torch.zeros(1, 1), torch.ones(1))
TARGET = RewardWeighted(Generator(SPACE), lambda codes, context: 1.0 * codes.sum(-1), 1.0)
POTENTIAL = TablePotential(
    SPACE, AutoregressiveGenerator(SPACE).log_prob(ROWS).detach(), 1.0 * ROWS.sum(-1)
)
USERS: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "a reward-weighted distribution": (
        ("space", "log_prob", "sample"),
        lambda policy: RewardWeighted(policy, lambda codes, context: codes.sum(-1), 1.0),
    ),
    "importance sampling": (
        ("sample", "log_prob"),
        lambda policy: importance_sampling(TARGET, count=3, proposal=policy),
    ),
    "Guided": (("space", *STEPS), lambda policy: Guided(policy, SUPPORT, torch.ones(1))),
    "ValueGuided": (("space", *STEPS), lambda policy: ValueGuided(policy, POTENTIAL)),
    "sequential Monte Carlo": (
        STEPS,
        lambda policy: twisted_smc(
            RewardWeighted(policy, lambda codes, context: codes.sum(-1), 1.0)
        ),
    ),
}
CASES = [(user, part) for user, (parts, _) in USERS.items() for part in parts]


@pytest.mark.parametrize(("user", "part"), CASES)
def test_it_is_named(user: str, part: str) -> None:
    parts, use = USERS[user]
    more = ("space", "log_prob", "sample") if parts == STEPS else ()
    with pytest.raises(TypeError, match=f"^{re.escape(message(user, part))}$"):
        use(lacking(part, *parts, *more))
