"""A part that a policy lacks is named, and who needs it; so is what lies beyond a range."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import (
    AttributeSet,
    Guidance,
    Guided,
    PrefixValue,
    RewardWeighted,
    SampleGate,
    TablePotential,
    ValueGuided,
    best_of_n,
    fit_prefix_value,
    importance_sampling,
    metropolis,
    soft_best_of_n,
    twisted_smc,
)
from discrete_grad.weighting.guidance_rules import nucleus, top_k
from discrete_grad.weighting.posthoc import bootstrap_interval, rank_decay
from discrete_grad.weighting.prefix_value import PrefixValueConfig
from tests.lacking import SPACE, lacking, message
from tests.stages import logged

ROWS = SPACE.enumerate()
STEPS = ("order", "begin", "advance", "select")
SUPPORT = AttributeSet(torch.zeros(1, 1), torch.ones(1))
TARGET = RewardWeighted(Generator(SPACE), lambda codes, context: 1.0 * codes.sum(-1), 1.0)
POTENTIAL = TablePotential(
    SPACE, AutoregressiveGenerator(SPACE).log_prob(ROWS).detach(), 1.0 * ROWS.sum(-1)
)
STEPPED = RewardWeighted(AutoregressiveGenerator(SPACE), TARGET.reward, 1.0)
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


# --- the ends of ranges ---------------------------------------------------------------------------

SCORES = torch.tensor([0.0, 1.0, 3.0])
ENDS: dict[str, Callable[[], Any]] = {
    "one row of one": lambda: best_of_n(TARGET, count=1, n=1),
    "one soft row of one": lambda: soft_best_of_n(TARGET, count=1, n=1),
    "one attribute": lambda: AttributeSet.from_rows(torch.ones(3, 2), size=1),
    "no strength": lambda: Guidance(gamma=0.0, smoothing=0.0),
    "rewards of 0 and more": lambda: Guided(
        AutoregressiveGenerator(SPACE, ContextSpec(numeric=["a"])),
        AttributeSet(torch.tensor([[0.0], [1.0]]), torch.tensor([0.5, 0.5])),
        torch.tensor([0.0, 1.0]),
        guidance=Guidance(rule="jensen"),
    ),
    "the best alone": lambda: top_k(SCORES.log_softmax(-1), count=1),
    "the whole mass": lambda: nucleus(SCORES.log_softmax(-1), mass=1.0),
    "one draw": lambda: importance_sampling(TARGET, count=1),
    "no step": lambda: metropolis(TARGET, count=1, steps=0),
    "one particle, never resampled": lambda: twisted_smc(STEPPED, count=1, threshold=0.0),
    "one particle, resampled": lambda: twisted_smc(STEPPED, count=1, threshold=1.0),
    "no decay": lambda: rank_decay(SCORES, rate=1.0),
    "one resample": lambda: bootstrap_interval(SCORES, SCORES, rank_decay, resamples=1),
    "one number": lambda: SampleGate(1)(torch.zeros(4, 1)),
    "no value": lambda: ValueGuided(AutoregressiveGenerator(SPACE), POTENTIAL, gamma=0.0),
}


@pytest.mark.parametrize("call", ENDS.values(), ids=ENDS.keys())
def test_the_end_of_a_range_is_in_it(call: Callable[[], Any]) -> None:
    call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: best_of_n(TARGET, count=0, n=1), "count must be at least 1, got 0"),
        (lambda: soft_best_of_n(TARGET, count=1, n=0), "n must be at least 1, got 0"),
        (
            lambda: AttributeSet.from_rows(torch.ones(3, 2), size=0),
            "size must be at least 1, got 0",
        ),
        (lambda: Guidance(gamma=torch.inf), "gamma must be a finite number from 0 on, got inf"),
        (lambda: Guidance(smoothing=-0.1), "smoothing must be in [0, 1), got -0.1"),
        (lambda: top_k(SCORES, count=0), "count must be at least 1, got 0"),
        (lambda: nucleus(SCORES, mass=1.01), "mass must be in (0, 1], got 1.01"),
        (
            lambda: twisted_smc(STEPPED, count=1, threshold=1.01),
            "needs a particle and a share in [0, 1], got 1 and 1.01",
        ),
        (lambda: rank_decay(SCORES, rate=1.01), "rate must be in (0, 1], got 1.01"),
    ],
)
def test_beyond_it(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call()


# --- what is handed on ----------------------------------------------------------------------------


def test_a_fit_logs_under_the_name_of_its_stage() -> None:
    def fit(**given: Any) -> Any:
        config = PrefixValueConfig(steps=2, batch_size=4)
        return fit_prefix_value(
            PrefixValue(SPACE), ROWS, 1.0 * ROWS.sum(-1), config=config, **given
        )

    assert logged(fit) == ({"prefix value"}, [0, 1, 2])
    assert logged(fit, stage="mine") == ({"mine"}, [0, 1, 2])


def test_attributes_reach_the_policy_that_is_guided() -> None:
    policy = AutoregressiveGenerator(SPACE, attributes=ContextSpec(numeric=["a"]))
    torch.nn.init.normal_(policy.network.of_attributes[-1].weight)
    guided, wanted = ValueGuided(policy, POTENTIAL, gamma=0.0), torch.tensor([[2.0]])
    rows = ROWS.unsqueeze(1)
    known = policy.log_prob(rows, attributes=wanted)
    assert not torch.allclose(known, policy.log_prob(rows))
    assert torch.allclose(guided.log_prob(rows, attributes=wanted), known, atol=1e-5)
    hidden = {"attributes": wanted, "known": torch.tensor([False]), "batch": (1,)}
    first = [one.advance(one.begin(**hidden), None)[0] for one in (guided, policy)]
    assert torch.allclose(*first, atol=1e-5)
