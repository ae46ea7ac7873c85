"""A part that a policy lacks is named, and who needs it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import Generator
from discrete_grad.reinforcement import (
    DistillConfig,
    ReinforceConfig,
    distill,
    distill_guidance,
    distill_rows,
    reinforce,
)
from discrete_grad.reinforcement.replay import RowMemory
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


# --- the ends of ranges ---------------------------------------------------------------------------

SHORT = DistillConfig(steps=1, samples=2)
FINE: dict[str, Callable[[], Any]] = {
    "the best row of one": lambda: distill_rows(
        Generator(SPACE), WHOLE, reward, pool=1, keep=1.0, config=SHORT
    ),
    "weights of at most 1": lambda: distill(
        Generator(SPACE), TARGET, method="forward", clip=1.0, config=SHORT
    ),
    "two samples": lambda: distill(Generator(SPACE), TARGET, method="reverse", config=SHORT),
    "a memory of one row": lambda: RowMemory(SPACE, 1, 1),
    "no discount": lambda: ReinforceConfig(gae_decay=1.0, gamma=1.0).check_algorithm(),
    "whole discount": lambda: ReinforceConfig(gae_decay=0.0, gamma=0.0).check_algorithm(),
    "one row of a group": lambda: ReinforceConfig(algorithm="reinforce", group=1).check_algorithm(),
    "two rows of a group": lambda: ReinforceConfig(group=2).check_algorithm(),
    "three different rows": lambda: ReinforceConfig(group=3, diversity=0.1).check_algorithm(),
    "each row a batch": lambda: ReinforceConfig(
        algorithm="ppo", group=4, minibatches=4
    ).check_algorithm(),
    "a replay": lambda: ReinforceConfig(replay=2, epochs=2).check_algorithm(),
    "a checkpoint after each draw": lambda: ReinforceConfig(
        algorithm="ppo", epochs=2, minibatches=2, checkpoint_every=4
    ).check_checkpoints(),
}


@pytest.mark.parametrize("call", FINE.values(), ids=FINE.keys())
def test_the_end_of_a_range_is_in_it(call: Callable[[], Any]) -> None:
    call()


def checked(**settings: Any) -> Callable[[], None]:
    return lambda: ReinforceConfig(**settings).check_algorithm()


BEYOND: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: distill_rows(Generator(SPACE), WHOLE, reward, pool=0),
        "needs a row of pool and keep in (0, 1], got 0 and ",
    ),
    (
        lambda: distill_rows(Generator(SPACE), WHOLE, reward, pool=1, keep=1.5),
        "needs a row of pool and keep in (0, 1], got 1 and 1.5",
    ),
    (
        lambda: distill(Generator(SPACE), TARGET, method="forward", clip=0.9, config=SHORT),
        "clip must be at least 1, got 0.9",
    ),
    (
        lambda: distill(
            Generator(SPACE), TARGET, method="reverse", config=DistillConfig(steps=1, samples=1)
        ),
        "method 'reverse' needs at least 2 samples, got 1",
    ),
    (lambda: RowMemory(SPACE, 0, 1), "size and contexts must be at least 1, got 0 and 1"),
    (lambda: RowMemory(SPACE, 1, 0), "size and contexts must be at least 1, got 1 and 0"),
    (checked(gae_decay=1.1), "gae_decay and gamma must lie in [0, 1], got 1.1 and 1.0"),
    (checked(gamma=1.1), "gae_decay and gamma must lie in [0, 1], got 0.95 and 1.1"),
    (checked(group=1), "leave_one_out needs a group of 2 or more, got 1"),
    (checked(group=2, diversity=0.1), "leave_one_out needs a group of 3 or more, got 2"),
    (
        checked(algorithm="ppo", group=4, minibatches=3),
        "minibatches must divide group 4, got 3",
    ),
    (
        checked(algorithm="ppo", replay=2, epochs=2),
        "a replay needs epochs, and another algorithm than ppo",
    ),
    (
        checked(replay=2, epochs=1),
        "a replay needs epochs, and another algorithm than ppo",
    ),
    (checked(memory=1, diversity=0.1), "a memory goes with neither diversity nor minibatches"),
    (checked(memory=1, minibatches=2), "a memory goes with neither diversity nor minibatches"),
    (checked(kl="k4"), "kl must be one of ('k1', 'k2', 'k3', 'conditional'), got 'k4'"),
    (checked(kl_in="x"), "kl_in must be one of ('reward', 'loss'), got 'x'"),
    (checked(reward_scale="x"), "reward_scale must be one of ('raw', 'running'), got 'x'"),
    (checked(advantage_scale="x"), "advantage_scale must be one of ('raw', 'batch'), got 'x'"),
    (
        lambda: ReinforceConfig(algorithm="ppo", epochs=3, checkpoint_every=4).check_checkpoints(),
        "a checkpoint holds no rows: it needs replay 1, got 1, and checkpoint_every a multiple of "
        "epochs x minibatches, got 4 and 3",
    ),
    (
        lambda: ReinforceConfig(algorithm="ppo", replay=2).check_checkpoints(),
        "a checkpoint holds no rows: it needs replay 1, got 2, and checkpoint_every a multiple of "
        "epochs x minibatches, got 200 and 1",
    ),
]


@pytest.mark.parametrize(("call", "told"), BEYOND)
def test_beyond_it(call: Callable[[], Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}"):
        call()
