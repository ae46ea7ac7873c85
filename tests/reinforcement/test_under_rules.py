"""Reinforcement, distillation and preferences of policies under rules."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.gradient import StraightThrough
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Conditioned,
    Generator,
    MixtureGenerator,
    conditioned,
)
from discrete_grad.preferences import DPOConfig, Preferences, fit_dpo
from discrete_grad.reinforcement import (
    ALGORITHMS,
    DistillConfig,
    ReinforceConfig,
    distill,
    distill_guidance,
    distill_rows,
    reinforce,
)
from discrete_grad.reinforcement.policy_objective import PolicyObjective, Task
from discrete_grad.rules import AtMost, Exactly, Fix, Rules, When
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.training.loop import Step
from discrete_grad.weighting import RewardWeighted, metropolis, twisted_smc

SPACE = CategoricalSpace({"a": ["x", "y"], "b": ["x", "y", "z"], "c": ["x", "y"]})
ROWS = SPACE.enumerate()
SPEC = ContextSpec({"shop": ["east", "west"]})
CONTEXT = torch.eye(2).double()
RULES = Rules(
    SPACE,
    [
        When({"shop": "east"}, [Exactly(2, {"a": "y", "b": ["y", "z"], "c": "y"})]),
        When({"shop": "west"}, [Fix("c", "x"), AtMost(1, {"a": "y", "b": "z"})]),
    ],
    context=CategoricalSpace({"shop": ["east", "west"]}),
)
EVERY = ROWS.unsqueeze(1).expand(-1, 2, -1)
BETA = 0.7
TABLE = normal((12, 2), generator=seeded(9)).double()
KINDS = ("independent", "steps", "mixture")


def reward(codes: Tensor, context: Tensor) -> Tensor:
    """A number for each row and shop, that is no sum of the features'."""
    return (TABLE[SPACE.row_number(codes)] * context).sum(-1)


def plain(kind: str, seed: int = 0):
    with isolated_seed(seed):
        made = [Generator(SPACE, SPEC, hidden=(8,)).double() for _ in range(2)]
        gate = Generator(CategoricalSpace({"expert": 2}), SPEC, hidden=(8,)).double()
        writer = AutoregressiveGenerator(SPACE, SPEC, order=(2, 0, 1), hidden=(16,)).double()
    writer.network.head.weight.data *= 3
    return {"independent": made[0], "steps": writer, "mixture": MixtureGenerator(made, gate)}[kind]


def policy_of(kind: str, seed: int = 0):
    return conditioned(plain(kind, seed), RULES)


def law(policy) -> Tensor:
    return policy.log_prob(EVERY, CONTEXT)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """`KL(p || q)` of each context, of log-probabilities `(R, 2)`."""
    return (p.exp() * (p - q).masked_fill(p == -math.inf, 0)).sum(0)


def optimum() -> Tensor:
    """Log-probabilities of the tilt of a reference under rules, by hand."""
    with torch.no_grad():
        return (law(policy_of("independent", 5)) + reward(EVERY, CONTEXT) / BETA).log_softmax(0)


TARGET = RewardWeighted(policy_of("independent", 5).requires_grad_(False), reward, BETA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("algorithm", ["reinforce", "leave_one_out"])
def test_the_gradient_is_that_of_the_enumerated_objective(kind: str, algorithm: str):
    """In one context, from 40,000 rows."""
    policy, reference, west = policy_of(kind, 1), policy_of("steps", 2), CONTEXT[1:]
    config = ReinforceConfig(algorithm=algorithm, group=20_000, batch_size=2, beta=BETA)
    objective = PolicyObjective(Task(policy, reward, reference, west, None), config, seed=0)
    loss = objective(Step(index=0, seed=3, stage="policy", rank=0, world=1))
    log_p, rows = policy.log_prob(EVERY[:, 1:], west), EVERY[:, 1:]
    gain = (log_p.exp() * reward(rows, west)).sum(0)
    base = reference.log_prob(rows, west).detach()
    exact = (BETA * divergence(log_p, base) - gain).mean()
    parameters = list(policy.parameters())
    found, wanted = (
        torch.cat(
            [
                part.flatten()
                for part in torch.autograd.grad(
                    value, parameters, allow_unused=True, materialize_grads=True
                )
            ]
        )
        for value in (loss, exact)
    )
    assert (found - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_comes_nearer_to_the_tilt(algorithm: str):
    policy = policy_of("independent")
    config = ReinforceConfig(
        algorithm=algorithm,
        steps=25,
        group=64,
        batch_size=2,
        beta=BETA,
        learning_rate=0.05,
        temperature=BETA,
    )
    before = divergence(optimum(), law(policy).detach()).mean()
    history = reinforce(policy, reward, CONTEXT, config=config, reference=TARGET.reference, seed=1)
    after = law(policy).detach()
    assert divergence(optimum(), after).mean() < 0.7 * before
    assert math.isfinite(history.progress[-1].kl)
    assert policy.allows(policy.sample(CONTEXT, 100), CONTEXT).all()


def test_reinforced_steps_come_to_the_tilt():
    policy = policy_of("steps")
    config = ReinforceConfig(steps=100, group=64, batch_size=2, beta=BETA, learning_rate=0.03)
    history = reinforce(policy, reward, CONTEXT, config=config, reference=TARGET.reference, seed=1)
    after, base = law(policy).detach(), law(TARGET.reference)
    assert divergence(optimum(), after).max() < 0.1
    assert history.progress[-1].kl == pytest.approx(float(divergence(after, base).mean()), abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"kl": "conditional"}, {"memory": 3}], ids=str)
def test_policies_of_every_kind_are_reinforced(kind: str, settings: dict):
    if kind == "mixture" and settings.get("kl"):
        pytest.skip("a mixture does not tell its features apart")
    policy = policy_of(kind)
    before = (law(policy).exp() * TABLE).sum(0).mean()
    config = ReinforceConfig(steps=12, group=32, batch_size=2, learning_rate=0.1, **settings)
    reinforce(policy, reward, CONTEXT, config=config, seed=1)
    after = law(policy).exp()
    assert (after * TABLE).sum(0).mean() > before + 0.1
    assert (after[~policy.allows(EVERY, CONTEXT)] == 0).all()
    assert_close(after.sum(0), torch.ones(2).double())


METHODS = {
    "exact": {"method": "exact"},
    "exact, reverse": {"method": "exact", "direction": "reverse"},
    "forward": {},
    "own rows": {"proposal": "policy"},
    "particles": {"sampler": twisted_smc},
    "reverse": {"method": "reverse"},
}


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_a_policy_under_rules_learns_the_tilt(options: dict):
    policy = policy_of("steps")
    config = DistillConfig(steps=50, samples=64, learning_rate=0.1)
    distill(policy, TARGET, CONTEXT, config=config, **options)
    assert divergence(optimum(), law(policy).detach()).max() < 0.1
    assert (law(policy).exp()[~policy.allows(EVERY, CONTEXT)] == 0).all()


def test_chains_and_relaxations_distill_too():
    by_chains = policy_of("independent")
    config = DistillConfig(steps=3, samples=16)
    redraw = lambda *given, **noise: metropolis(  # noqa: E731
        *given, steps=5, proposal="redraw", **noise
    )
    distill(by_chains, TARGET, CONTEXT, config=config, sampler=redraw)
    flat = RewardWeighted(
        TARGET.reference,
        lambda rows, context: (rows if rows.is_floating_point() else SPACE.one_hot(rows))[..., 0],
        BETA,
    )
    relaxed = policy_of("steps")
    options = {"method": "reverse", "gradient_estimator": StraightThrough(samples=4)}
    losses = distill(relaxed, flat, CONTEXT, config=config, **options).losses
    assert len(losses) == 3


def test_what_only_one_of_the_two_obeys_is_told():
    """KL is infinite where one draws what the other forbids, in the table of allowed rows too."""
    free, bound = plain("steps"), policy_of("steps")
    wide = RewardWeighted(plain("independent").requires_grad_(False), reward, BETA)
    config = DistillConfig(steps=1, samples=64)
    told = "policy forbids a row that the target draws"
    with pytest.raises(ValueError, match=told):
        distill(bound, wide, CONTEXT, method="exact", config=config)
    with pytest.raises(ValueError, match="which the policy forbids"):
        distill(bound, wide, CONTEXT, config=config)
    with pytest.raises(ValueError, match="target forbids a row that the policy draws"):
        distill(free, TARGET, CONTEXT, method="exact", direction="reverse", config=config)
    with pytest.raises(ValueError, match="the policy draws a row that the target forbids"):
        distill(free, TARGET, CONTEXT, method="reverse", config=config)
    with pytest.raises(ValueError, match="the reference never draws what the policy drew"):
        reinforce(free, reward, CONTEXT, reference=TARGET.reference)
    conditional = ReinforceConfig(steps=1, kl="conditional")
    with pytest.raises(ValueError, match="the conditional kl compares rows written in one order"):
        reinforce(bound, reward, CONTEXT, config=conditional, reference=TARGET.reference)
    distill(free, TARGET, CONTEXT, method="exact", config=config)  # it may learn to obey
    distill(bound, wide, CONTEXT, method="exact", direction="reverse", config=config)


def test_the_table_of_allowed_rows_does_not_hide_what_the_policy_draws_beside_them():
    everywhere = Rules(SPACE, [Fix("a", "y")])
    obeying = conditioned(Generator(SPACE), everywhere).requires_grad_(False)
    target = RewardWeighted(obeying, lambda rows, _: rows.sum(-1).double(), 1.0)
    config = DistillConfig(steps=1)
    options = {"method": "exact", "direction": "reverse", "config": config}
    with pytest.raises(ValueError, match="target forbids a row that the policy draws"):
        distill(Generator(SPACE), target, **options)
    distill(conditioned(Generator(SPACE), everywhere), target, **options)


def test_students_of_a_teacher_under_rules():
    teacher, student = policy_of("steps", 1), policy_of("steps", 2)
    config = DistillConfig(steps=50, samples=32, learning_rate=0.1)
    distill_guidance(student, teacher, CONTEXT, config=config)
    assert divergence(law(teacher), law(student).detach()).max() < 0.02
    pupil = policy_of("independent", 3)
    before = (law(pupil).exp() * TABLE).sum(0).mean()
    config = DistillConfig(steps=15, samples=32, learning_rate=0.1)
    distill_rows(pupil, teacher, reward, CONTEXT, config=config)
    assert (law(pupil).exp() * TABLE).sum(0).mean() > before + 0.1


def answers(policy, count: int = 4000) -> Preferences:
    """Pairs of rows that are allowed, answered by the reward."""
    rows = policy.sample(CONTEXT, count, generator=seeded(1))
    context = CONTEXT.expand(count, -1, -1)
    first, second = rows, rows.roll(1, 0)
    gap = reward(first, context) - reward(second, context)
    outcome = (torch.rand(gap.shape, generator=seeded(2)) > gap.sigmoid()).long()
    parts = (first.flatten(0, 1), second.flatten(0, 1), outcome.flatten(), context.flatten(0, 1))
    return Preferences(*parts)


def test_dpo_keeps_to_the_rules():
    policy, reference = policy_of("steps"), policy_of("independent", 5)
    pairs = answers(reference)
    config = DPOConfig(beta=BETA, steps=60, batch_size=256, learning_rate=0.1)
    fit_dpo(policy, pairs, reference, config=config, seed=0)
    assert divergence(optimum(), law(policy)).max() < 0.2
    assert (law(policy).exp()[~policy.allows(EVERY, CONTEXT)] == 0).all()
    wrong = Preferences(ROWS[:2], ROWS[1:3], torch.zeros(2).long(), CONTEXT[:1].expand(2, -1))
    with pytest.raises(ValueError, match="pair 1 holds a row the policy never draws"):
        fit_dpo(policy_of("steps"), wrong, plain("independent"), config=config, seed=0)


def test_the_step_of_a_value_network_is_one_a_feature():
    policy = policy_of("independent")
    assert isinstance(policy, Conditioned)
    config = ReinforceConfig(algorithm="ppo", steps=4, group=8, batch_size=2, epochs=2)
    assert reinforce(policy, reward, CONTEXT, config=config).progress[-1].rows == 2 * 8 * 2
