"""A policy learns from another one: against every row, counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import DistillConfig, distill_guidance, distill_rows
from discrete_grad.reinforcement.distill_teacher import conditionals
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import ContextSpec
from discrete_grad.weighting import (
    Guidance,
    Guided,
    PrefixValue,
    RewardWeighted,
    TablePolicy,
    TablePotential,
    ValueGuided,
    exact_log_probs,
    tilt,
)
from discrete_grad.weighting.tilt import table_kl
from tests.weighting.worlds import ORDER, SPACE, TableReference, numbers

SPEC = ContextSpec(numeric=["table"])
REWARD = numbers((SPACE.num_rows,), 4)
PREFIXES = ("teacher", "student")
QUICK = DistillConfig(steps=120, samples=64, learning_rate=2e-2)


def autoregressive(seed: int = 0, spec: ContextSpec | None = None) -> AutoregressiveGenerator:
    with isolated_seed(seed):
        return AutoregressiveGenerator(SPACE, spec, hidden=(24,), order=ORDER)


def potential_of(policy) -> TablePotential:
    return TablePotential(SPACE, exact_log_probs(policy), REWARD / 2, order=ORDER)


def test_a_policy_takes_over_its_own_guidance():
    """At gamma 1 by the exact value, the guided law is the exact tilt of what the policy was."""
    policy = autoregressive()
    wanted = tilt(exact_log_probs(policy), REWARD, 2.0)
    teacher = ValueGuided(policy, potential_of(policy))
    before = table_kl(wanted, exact_log_probs(policy))
    losses = distill_guidance(policy, teacher, config=QUICK)
    assert len(losses) == QUICK.steps
    assert before > 0.2
    assert table_kl(wanted, exact_log_probs(policy)) < before / 50


def test_fifty_steps_by_default():
    policy = autoregressive()
    teacher = ValueGuided(autoregressive(), potential_of(policy))
    wanted, before = exact_log_probs(teacher), exact_log_probs(policy)
    assert len(distill_guidance(policy, teacher)) == 50
    assert table_kl(wanted, exact_log_probs(policy)) < table_kl(wanted, before) / 4


@pytest.mark.parametrize("prefixes", PREFIXES)
def test_reward_weighted_guidance_is_taken_over(prefixes: str):
    table = TablePolicy.from_rows(SPACE, REWARD / 3, SPACE.enumerate()[:, :1], order=ORDER)
    teacher = Guided(table, table.support, torch.tensor([0.0, 1.0]), guidance=Guidance(gamma=1.5))
    student, wanted = autoregressive(), exact_log_probs(teacher)
    before = table_kl(wanted, exact_log_probs(student))
    distill_guidance(student, teacher, config=QUICK, prefixes=prefixes)
    assert table_kl(wanted, exact_log_probs(student)) < min(0.02, before / 10)


@pytest.mark.parametrize("batch_size", [3, 2])
def test_guidance_in_each_context(batch_size: int):
    contexts = torch.tensor([[-1.0], [0.0], [1.0]])
    policy = autoregressive(spec=SPEC)
    with isolated_seed(5):
        value = PrefixValue(SPACE, SPEC, order=ORDER, hidden=(24,))
        value.network.head.weight.data *= 30
    teacher = ValueGuided(autoregressive(spec=SPEC), value)
    before = [table_kl(exact_log_probs(teacher, c), exact_log_probs(policy, c)) for c in contexts]
    config = DistillConfig(steps=150, samples=64, learning_rate=2e-2, batch_size=batch_size)
    distill_guidance(policy, teacher, contexts, config=config)
    after = [table_kl(exact_log_probs(teacher, c), exact_log_probs(policy, c)) for c in contexts]
    assert min(before) > 0.1
    assert max(after) < 0.01


def test_the_loss_is_that_of_the_prefixes_asked_for():
    """On the teacher's an estimate of the divergence of rows; else the same under other rows."""
    rows, student = SPACE.enumerate(), autoregressive()
    # much is settled after one category of the feature that is read first, nothing after the other
    log_joint = torch.where(rows[:, ORDER[0]] == 1, 2 * REWARD, 0.0)
    teacher = TablePolicy.from_rows(SPACE, log_joint, REWARD[:, None], order=ORDER)
    one = DistillConfig(steps=1, samples=20_000, learning_rate=1e-9)
    found = {p: distill_guidance(student, teacher, config=one, prefixes=p)[0] for p in PREFIXES}
    wanted, own = exact_log_probs(teacher), exact_log_probs(student)
    assert abs(found["teacher"] - float(table_kl(wanted, own))) < 0.02 * found["teacher"]
    steps = SPACE.kl_divergence(conditionals(teacher, rows, None), student(rows))
    expected = float((own.exp() * steps.detach()).sum())
    assert abs(found["student"] - expected) < 0.02 * expected
    assert abs(found["student"] - found["teacher"]) > 0.2 * expected


def test_an_independent_student_takes_the_marginals():
    """The product of the teacher's marginals is the nearest law of independent features."""
    teacher = ValueGuided(autoregressive(), potential_of(autoregressive()))
    student, probs = Generator(SPACE), exact_log_probs(teacher).exp().float()
    distill_guidance(student, teacher, config=QUICK)
    marginals = probs @ SPACE.one_hot(SPACE.enumerate())
    torch.testing.assert_close(SPACE.softmax(student()), marginals, atol=0.03, rtol=0)


def test_guidance_faults_are_named():
    policy, table = autoregressive(), TablePolicy.from_rows(SPACE, REWARD, REWARD[:, None])
    with pytest.raises(ValueError, match="read in the same order"):
        distill_guidance(policy, table)
    with pytest.raises(ValueError, match="different spaces"):
        distill_guidance(Generator(CategoricalSpace.from_sizes((2, 2))), table)
    tilted = RewardWeighted(table, lambda codes, context: 1.0 * codes.sum(-1), 1.0)
    with pytest.raises(
        TypeError, match=r"`logits\(context\)`, or with .* RewardWeighted has neither"
    ):
        distill_guidance(policy, tilted)
    with pytest.raises(TypeError, match=r"distill_guidance needs .* TableReference has none"):
        distill_guidance(TableReference(SPACE, torch.zeros(SPACE.num_rows, 1)), table)
    with pytest.raises(
        TypeError, match=r"`parameters\(\)` of an `nn.Module`; TablePolicy has none"
    ):
        distill_guidance(table, table)
    with pytest.raises(ValueError, match="prefixes must be"):
        distill_guidance(policy, policy, prefixes="both")


def test_a_student_that_forbids_what_the_teacher_draws_is_named():
    student = Generator(SPACE)
    student.free_logits.data[0] = -torch.inf
    with pytest.raises(ValueError, match="loss of step 0 is inf"):
        distill_guidance(student, autoregressive())


def reward(codes: Tensor, context: Tensor | None) -> Tensor:
    """Of a row, turned round in the second context."""
    value = REWARD[_number(codes)]
    return value if context is None else value * torch.where(context[..., 0] > 0, -1, 1)


def _number(codes: Tensor) -> Tensor:
    return (codes * torch.tensor([6, 2, 1])).sum(-1)


def expected_reward(policy, context: Tensor | None) -> Tensor:
    """`(N,)`, or `()`."""
    batch = () if context is None else (len(context),)
    rows = SPACE.enumerate().view(-1, *[1] * len(batch), 3).expand(-1, *batch, -1)
    factorised = isinstance(policy, Generator)
    log_p = SPACE.log_prob(policy(context), rows) if factorised else policy.log_prob(rows, context)
    return (log_p.exp() * reward(rows, context)).sum(0).detach()


@pytest.mark.parametrize("batch_size", [2, 1])
@pytest.mark.parametrize("kind", ["smaller", "factorised", "itself"])
def test_good_rows_raise_the_reward_in_every_context(kind: str, batch_size: int):
    contexts, teacher = torch.tensor([[0.0], [1.0]]), autoregressive(1, SPEC)
    with isolated_seed(0):
        small = AutoregressiveGenerator(SPACE, SPEC, hidden=(8,))
        students = {
            "smaller": small,
            "factorised": Generator(SPACE, SPEC, hidden=(8,)),
            "itself": teacher,
        }
    student, before = students[kind], expected_reward(teacher, contexts)
    config = DistillConfig(steps=100, learning_rate=2e-2, batch_size=batch_size)
    distill_rows(student, teacher, reward, contexts, config=config)
    least = 0.3 if kind == "factorised" else 1.0  # the good rows differ in all features
    assert (expected_reward(student, contexts) > before + least).all()


def test_all_rows_kept_is_the_teacher_and_fewer_are_its_best():
    teacher, student = autoregressive(1), autoregressive()
    teacher.network.head.bias.data[:2] += torch.tensor([0.0, 1.0])
    distill_rows(student, teacher, reward, keep=1.0, pool=4000, config=QUICK)
    assert table_kl(exact_log_probs(teacher), exact_log_probs(student)) < 0.02
    best = Generator(SPACE)
    distill_rows(best, teacher, reward, keep=0.001, pool=1000, config=QUICK)
    (row,) = SPACE.argmax(best()).unsqueeze(0)
    assert reward(row, None) == REWARD.max()


def test_forbidden_rows_are_not_kept():
    def strict(codes: Tensor, context: Tensor | None) -> Tensor:
        return reward(codes, None).masked_fill(codes[..., 0] == 0, -torch.inf)

    student = autoregressive()
    distill_rows(student, autoregressive(1), strict, keep=1.0, config=QUICK)
    forbidden = SPACE.enumerate()[:, 0] == 0
    assert exact_log_probs(student).exp()[forbidden].sum() < 0.02


def test_rows_forbidden_in_one_context_are_kept_in_another():
    contexts = torch.tensor([[0.0], [1.0]])
    forbidden = SPACE.enumerate()[:, 0] == 0

    def strict(codes: Tensor, context: Tensor) -> Tensor:
        return torch.where((context[..., 0] == 1) & (codes[..., 0] == 0), -torch.inf, 0.0)

    student = autoregressive(0, SPEC)
    config = DistillConfig(steps=200, samples=64, learning_rate=2e-2, batch_size=1)
    distill_rows(student, autoregressive(1, SPEC), strict, contexts, keep=1.0, config=config)
    rows = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)
    mass = student.log_prob(rows, contexts).exp()[forbidden].sum(0)
    assert mass[0] > 0.2
    assert mass[1] < 0.02


def test_pools_of_equal_contexts_are_drawn_apart():
    pools = list[Tensor]()

    def noted(codes: Tensor, context: Tensor) -> Tensor:
        pools.append(codes)
        return torch.zeros(codes.shape[:-1])

    student, teacher = autoregressive(0, SPEC), autoregressive(1, SPEC)
    config = DistillConfig(steps=1, batch_size=1)
    distill_rows(student, teacher, noted, torch.zeros(2, 1), config=config)
    first, second = pools
    assert not torch.equal(first, second)


class Lister:
    """Draws the rows of the space one after another."""

    space = SPACE

    def sample(self, context: None, count: int, *, generator: torch.Generator) -> Tensor:
        return SPACE.enumerate()[:count]

    def log_prob(self, codes: Tensor, context: None) -> Tensor:
        raise AssertionError("nobody asks")


def test_the_number_of_rows_kept_is_rounded_up():
    """Of 3 rows .4 is 2."""
    student = Generator(SPACE)
    config = DistillConfig(steps=300, learning_rate=5e-2)

    def earliest(codes: Tensor, context: None) -> Tensor:
        return -1.0 * _number(codes)

    distill_rows(student, Lister(), earliest, pool=3, keep=0.4, config=config)
    law = SPACE.log_prob(student(), SPACE.enumerate()[:3]).exp()
    assert law[1] > 0.2
    assert law[2] < 0.1


def test_the_seed_decides_and_nothing_else_is_touched():
    state, losses = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        config = DistillConfig(steps=3, samples=4)
        rows = distill_rows(autoregressive(), autoregressive(1), reward, seed=seed, config=config)
        guide = distill_guidance(autoregressive(), autoregressive(1), seed=seed, config=config)
        losses.append((rows, guide))
    assert torch.equal(torch.get_rng_state(), state)
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[2][0]
    assert losses[0][1] != losses[2][1]


def test_rows_faults_are_named():
    student, teacher = autoregressive(0, SPEC), autoregressive(1, SPEC)
    contexts = torch.arange(5.0).unsqueeze(-1)

    def never(codes: Tensor, context: Tensor) -> Tensor:
        return torch.zeros(codes.shape[:-1]).masked_fill(context[..., 0] == 3, -torch.inf)

    config = DistillConfig(batch_size=2)
    with pytest.raises(ValueError, match="context 3: all 16 rows drawn are forbidden"):
        distill_rows(student, teacher, never, contexts, pool=16, config=config)
    with pytest.raises(ValueError, match=r"keep in \(0, 1\]"):
        distill_rows(student, teacher, reward, contexts, keep=0.0)
    with pytest.raises(ValueError, match=r"a reward must be \(16, 5\), got \(16,\)"):
        distill_rows(student, teacher, lambda codes, _: torch.zeros(16), contexts, pool=16)
    with pytest.raises(ValueError, match="number or -inf, got nan"):
        distill_rows(student, teacher, lambda codes, _: codes[..., 0] * torch.nan, contexts)
    with pytest.raises(ValueError, match="different spaces"):
        distill_rows(Generator(CategoricalSpace.from_sizes((2, 2)), SPEC), teacher, never, contexts)
