"""A part that a policy lacks is named, and who needs it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import Generator
from discrete_grad.reinforcement import distill, distill_guidance, distill_rows, reinforce
from discrete_grad.weighting import RewardWeighted
from tests.lacking import SPACE, lacking, message

WHOLE = Generator(SPACE)
POLICY = ("space", "log_prob", "sample")
STEPS = ("order", "begin", "advance", "select")


def reward(codes: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
    return 1.0 * codes.sum(-1)


TARGET = RewardWeighted(WHOLE, reward, 1.0)
# who needs it, which parts, how it is called
USERS: list[tuple[str, tuple[str, ...], Callable[[Any], Any]]] = [
    ("reinforce", (*POLICY, "parameters"), lambda policy: reinforce(policy, reward)),
    ("reinforce", POLICY[:2], lambda policy: reinforce(Generator(SPACE), reward, reference=policy)),
    ("distill", ("space", "log_prob", "parameters"), lambda policy: distill(policy, TARGET)),
    (
        "distill_rows",
        ("space", "log_prob", "parameters"),
        lambda policy: distill_rows(policy, WHOLE, reward),
    ),
    ("distill_rows", ("space", "sample"), lambda policy: distill_rows(WHOLE, policy, reward)),
    (
        "distill_guidance",
        ("space", "parameters"),
        lambda policy: distill_guidance(policy, WHOLE),
    ),
]
CASES = [(i, part) for i, (_, parts, _) in enumerate(USERS) for part in parts]


@pytest.mark.parametrize(("number", "part"), CASES)
def test_it_is_named(number: int, part: str) -> None:
    user, parts, use = USERS[number]
    with pytest.raises(TypeError, match=f"^{re.escape(message(user, part))}$"):
        use(lacking(part, *parts))


def test_what_is_needed_to_draw() -> None:
    needs = message("distill", "sample")
    drawn = lacking("sample", "space", "log_prob", "parameters")
    for options in ({"method": "reverse"}, {"proposal": "policy"}):
        with pytest.raises(TypeError, match=f"^{re.escape(needs)}$"):
            distill(drawn, TARGET, **options)
    needs = message("distill_guidance", "sample")
    for student, teacher, prefixes in (
        (WHOLE, lacking("sample", "space"), "teacher"),
        (drawn, WHOLE, "student"),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(needs)}$"):
            distill_guidance(student, teacher, prefixes=prefixes)


def test_the_law_of_each_feature_is_needed() -> None:
    steps = "`logits(context)`, or with order, begin, advance and select; Lacking has neither"
    hidden = lacking("", *POLICY, "parameters")
    for student, teacher in ((hidden, WHOLE), (WHOLE, hidden)):
        with pytest.raises(TypeError) as caught:
            distill_guidance(student, teacher)
        assert str(caught.value) == f"distill_guidance needs a policy with {steps}"


@pytest.mark.parametrize(
    ("use", "name", "kind"),
    [
        (lambda config: reinforce(WHOLE, reward, config=config), "reinforce", "ReinforceConfig"),
        (lambda config: distill(WHOLE, TARGET, config=config), "distill", "DistillConfig"),
        (
            lambda config: distill_rows(WHOLE, WHOLE, reward, config=config),
            "distill_rows",
            "DistillConfig",
        ),
        (
            lambda config: distill_guidance(WHOLE, WHOLE, config=config),
            "distill_guidance",
            "DistillConfig",
        ),
    ],
)
def test_a_config_of_another_class(use: Callable[[Any], Any], name: str, kind: str) -> None:
    with pytest.raises(TypeError) as caught:
        use({"steps": 3})
    told = f"config of {name} must be of class {kind}, got dict: {kind}(**it) makes one"
    assert str(caught.value) == told
