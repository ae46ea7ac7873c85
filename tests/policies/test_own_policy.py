"""A policy as a user would write it, through all that takes one; by enumeration in float64."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.gradient import ReinMax
from discrete_grad.policies import (
    AutoregressiveGenerator,
    Generator,
    MixtureGenerator,
    Policy,
    conditional_logits,
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
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import (
    AttributeSet,
    Guided,
    RewardWeighted,
    best_of_n,
    importance_sampling,
    metropolis,
    twisted_smc,
)
from discrete_grad.weighting.guidance_exact import exact_grade
from tests.goodness import FALSE_ALARM

SPACE = CategoricalSpace.from_sizes((2, 3, 2))
ROWS = SPACE.enumerate()
CONTEXT = torch.tensor([[0.0], [1.0], [-0.5]]).double()
BETA = 1.0


class Joint(nn.Module):
    """A weight for every row, and a slope of it in the context."""

    def __init__(self, space: CategoricalSpace) -> None:
        super().__init__()
        self.space = space
        self.weights = nn.Parameter(torch.zeros(2, space.num_rows).double())

    def table(self, context: Tensor) -> Tensor:
        return (self.weights[0] + context * self.weights[1]).log_softmax(-1)

    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        number = self.space.row_number(codes).unsqueeze(-1)
        return self.table(context).expand(*number.shape[:-1], -1).gather(-1, number).squeeze(-1)

    def sample(self, context: Tensor, count: int = 1, *, generator=None) -> Tensor:
        probs = self.table(context).exp()
        drawn = torch.multinomial(probs, count, replacement=True, generator=generator)
        return self.space.enumerate()[drawn.T]


def own(seed: int | None = None) -> Joint:
    policy = Joint(SPACE)
    if seed is not None:
        policy.weights.data = normal((2, SPACE.num_rows), generator=seeded(seed)).double()
    return policy


def reward(codes: Tensor, context: Tensor | None) -> Tensor:
    """A number for each row that is no sum of its features', and moves with the context."""
    table = normal((2, SPACE.num_rows), generator=seeded(9)).double()[:, SPACE.row_number(codes)]
    return table[0] + context[..., 0] * table[1]


def every_row() -> Tensor:
    """`(R, 3, F)`, each row in each context."""
    return ROWS.unsqueeze(1).expand(-1, len(CONTEXT), -1)


def wanted(reference: Joint, beta: float = BETA) -> tuple[Tensor, Tensor]:
    """The tilt's probabilities `(R, 3)` and log Z `(3,)`, by hand."""
    density = reference.table(CONTEXT).T.exp() * (reward(every_row(), CONTEXT) / beta).exp()
    return (density / density.sum(0)).detach(), density.sum(0).log().detach()


def law(policy: Policy) -> Tensor:
    with torch.no_grad():
        return policy.log_prob(every_row(), CONTEXT).double().exp()


def apart(policy: Policy, truth: Tensor) -> float:
    """`KL(truth || policy)` in nats, the most of any context."""
    found = law(policy)
    return float((truth * (truth / found).log()).sum(0).max())


def test_it_is_a_policy():
    assert isinstance(own(), Policy)
    assert not isinstance(nn.Linear(2, 2), Policy)


def test_its_tilt_is_exact():
    reference = own(1)
    target = RewardWeighted(reference, reward, BETA)
    truth, log_z = wanted(reference)
    exact = target.exact(CONTEXT)
    assert_close(exact.probs, truth)
    assert_close(exact.log_z, log_z)
    assert_close(target.log_prob(every_row(), CONTEXT).exp(), truth)


@pytest.mark.parametrize("proposal", [None, own(3)])
def test_importance_sampling(proposal: Joint | None):
    reference = own(1)
    truth, log_z = wanted(reference)
    target = RewardWeighted(reference, reward, BETA)
    found = importance_sampling(target, CONTEXT, 200_000, proposal=proposal, generator=seeded(2))
    assert_close(found.log_z, log_z, atol=0.02, rtol=0)
    shares = found.expectation(nn.functional.one_hot(SPACE.row_number(found.codes), len(ROWS)))
    assert_close(shares.T, truth, atol=0.01, rtol=0)


def test_metropolis():
    reference = own(1)
    truth, _ = wanted(reference)
    target = RewardWeighted(reference, reward, BETA)
    found = metropolis(target, CONTEXT, 4000, steps=400, generator=seeded(3))
    for numbers, probs in zip(SPACE.row_number(found.codes).T, truth.T, strict=True):
        assert g_test(numbers.bincount(minlength=len(ROWS)), probs) > FALSE_ALARM


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reinforce_comes_near_the_tilt_of_the_reference(algorithm: str):
    policy, reference = own(), own(1)
    policy.context_spec = ContextSpec(numeric=["a"])  # which value networks read
    config = ReinforceConfig(
        algorithm=algorithm,
        steps=200,
        group=256,
        beta=BETA,
        learning_rate=0.05,
        temperature=BETA,
    )
    progress = reinforce(
        policy, reward, config=config, reference=reference, context=CONTEXT.repeat(4, 1), seed=1
    )
    truth, log_z = wanted(reference)
    assert apart(policy, truth) < 0.02
    assert apart(reference, truth) > 0.2
    assert progress[-1].objective == pytest.approx(float(BETA * log_z.mean()), abs=0.05)


@pytest.mark.parametrize(
    ("method", "options", "near"),
    [
        ("exact", {}, 1e-3),
        ("exact", {"direction": "reverse"}, 1e-3),
        ("forward", {}, 0.03),
        ("forward", {"proposal": "policy"}, 0.03),
        ("forward", {"sampler": importance_sampling}, 0.03),
        ("reverse", {}, 0.03),
    ],
    ids=["exact", "exact, reverse", "forward", "own rows", "importance sampling", "reverse"],
)
def test_distill(method: Any, options: dict[str, Any], near: float):
    policy, reference = own(), own(1)
    config = DistillConfig(steps=300, samples=256, learning_rate=0.1)
    target = RewardWeighted(reference, reward, BETA)
    distill(policy, target, CONTEXT, method=method, config=config, **options)
    assert apart(policy, wanted(reference)[0]) < near


def test_distill_rows_of_and_into_it():
    teacher, config = own(1), DistillConfig(steps=200, samples=64, learning_rate=0.05)
    best = reward(every_row(), CONTEXT).argmax(0)
    with isolated_seed(0):
        independent = Generator(SPACE, ContextSpec(numeric=["a"])).double()
    for student in (own(), independent):
        distill_rows(student, teacher, reward, CONTEXT, pool=2000, keep=0.01, config=config)
        assert torch.equal(law(student).argmax(0), best)


def test_dpo_finds_the_reward_of_its_answers():
    """With many answers the policy is the reference reweighted by the reward over beta."""
    noise, policy, reference = seeded(4), own(), own(1)
    first, second = (torch.randint(len(ROWS), (40_000,), generator=noise) for _ in range(2))
    context = CONTEXT[torch.arange(40_000) % 3]
    gap = reward(ROWS[first], context) - reward(ROWS[second], context)
    outcome = (torch.rand(40_000, generator=noise) > torch.sigmoid(gap)).long()
    pairs = Preferences(ROWS[first], ROWS[second], outcome, context)
    settings = DPOConfig(beta=BETA, steps=500, batch_size=1024, learning_rate=0.05)
    policy = fit_dpo(policy, pairs, reference, config=settings, seed=0)
    assert apart(policy, wanted(reference)[0]) < 0.05


def test_the_grade_of_a_policy_without_contexts():
    class Bare(Joint):
        def log_prob(self, codes: Tensor, context: Tensor | None = None) -> Tensor:
            return super().log_prob(codes, torch.zeros(1).double())

    worth, divergence = exact_grade(Bare(SPACE), Bare(SPACE), torch.arange(12.0).double())
    assert_close(worth, torch.tensor(5.5).double())
    assert float(divergence) == 0


# --- every policy in the place of every other -----------------------------------------------------


def policies() -> dict[str, Policy]:
    spec = ContextSpec(numeric=["a"])
    with isolated_seed(0):
        experts = [Generator(SPACE, spec, hidden=(8,)) for _ in range(2)]
        made: dict[str, Any] = {
            "independent": Generator(SPACE, spec, hidden=(8,)),
            "autoregressive": AutoregressiveGenerator(SPACE, spec, order=(2, 0, 1), hidden=(8,)),
            "mixture": MixtureGenerator(
                experts, Generator(CategoricalSpace({"expert": 2}), spec, hidden=(8,))
            ),
        }
    return {name: policy.double() for name, policy in made.items()} | {"own": own()}


@pytest.mark.parametrize("reference", [None, *policies()])
@pytest.mark.parametrize("policy", list(policies()))
def test_any_policy_learns_from_any_reference(policy: str, reference: str | None):
    """At the first step the reward has no divergence where the reference is the policy."""
    learner, known = policies()[policy], None if reference is None else policies()[reference]
    start = law(learner) if known is None else law(known)
    config = ReinforceConfig(steps=60, group=64, beta=BETA, learning_rate=0.02)
    progress = reinforce(learner, reward, config=config, reference=known, context=CONTEXT, seed=2)
    found = law(learner)
    base = 1 / len(ROWS) if known is None else start
    exact = float((found * (found / base).log()).sum(0).mean())
    assert progress[-1].kl == pytest.approx(exact, abs=0.15)
    values = reward(every_row(), CONTEXT)
    before, after = ((p * values).sum(0).mean() for p in (law(policies()[policy]), found))
    assert after > before + 0.3


# --- what is missing is named ---------------------------------------------------------------------


def without(part: str) -> Any:
    """The policy of this file without one of its parts."""
    whole = {name: getattr(Joint, name) for name in ("__init__", "table", "log_prob", "sample")}
    kept = {name: value for name, value in whole.items() if name != part}
    kept["__init__"] = lambda self: nn.Module.__init__(self)
    made = type("Lacking", (nn.Module,), kept)()
    made.weights = own(1).weights
    if part != "space":
        made.space = SPACE
    return made


TARGET = RewardWeighted(own(1), reward, BETA)
CALLS: dict[str, Callable[[Any], Any]] = {
    "a reward-weighted distribution": lambda policy: RewardWeighted(policy, reward, BETA),
    "reinforce": lambda policy: reinforce(policy, reward, context=CONTEXT),
    "distill": lambda policy: distill(policy, TARGET, CONTEXT, method="reverse"),
}


@pytest.mark.parametrize("user", CALLS)
@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("space", r"`space`"),
        ("log_prob", r"`log_prob\(codes, context\)`"),
        ("sample", r"`sample\(context, count, \*, generator\)`"),
    ],
)
def test_a_part_that_is_missing_is_named(user: str, part: str, told: str):
    with pytest.raises(TypeError, match=f"^{user} needs a policy with {told}; Lacking has none$"):
        CALLS[user](without(part))


def test_parts_that_only_some_have_are_named():
    policy, module = own(1), r"`parameters\(\)` of an `nn.Module`; RewardWeighted has none"
    steps = r"`logits\(context\)`, or with order, begin, advance and select; Joint has neither"
    with pytest.raises(TypeError, match=f"distill needs a policy with {module}"):
        distill(TARGET, TARGET, CONTEXT)
    with pytest.raises(TypeError, match=r"sequential Monte Carlo .* `order`; Joint has none"):
        twisted_smc(TARGET, CONTEXT)
    with pytest.raises(TypeError, match=f"^conditional_logits needs a policy with {steps}"):
        conditional_logits(policy, ROWS, CONTEXT)
    with pytest.raises(TypeError, match=f"^distill_guidance needs a policy with {steps}"):
        distill_guidance(policy, policy, CONTEXT)
    with pytest.raises(TypeError, match=r"^ReinMax needs a policy with `relaxed\("):
        distill(policy, TARGET, CONTEXT, method="reverse", gradient_estimator=ReinMax())
    for settings, told in (
        ({"kl": "conditional"}, f"^reinforce with the conditional kl needs a policy with {steps}"),
        ({"algorithm": "ppo"}, r"^reinforce by ppo needs .* `context_spec`; Joint has none"),
    ):
        with pytest.raises(TypeError, match=told):
            reinforce(policy, reward, config=ReinforceConfig(**settings), context=CONTEXT)
    with pytest.raises(TypeError, match=r"^Guided needs a policy with `order`; Joint has none"):
        Guided(policy, AttributeSet(torch.zeros(1, 1), torch.ones(1)), torch.ones(1))


def test_shapes_that_do_not_fit_are_told():
    class Turned(Joint):
        def sample(self, context: Tensor, count: int = 1, *, generator=None) -> Tensor:
            return super().sample(context, count, generator=generator).transpose(0, 1)

    class Summed(Joint):
        def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
            return super().log_prob(codes, context).sum(-1)

    config = ReinforceConfig(group=8, batch_size=3)
    with pytest.raises(ValueError, match=r"Turned must draw codes \(8, 3, 3\), got \(3, 8, 3\)"):
        reinforce(Turned(SPACE), reward, config=config, context=CONTEXT)
    with pytest.raises(ValueError, match=r"log_prob of Summed must be \(8, 3\), got \(8,\)"):
        reinforce(Summed(SPACE), reward, config=config, context=CONTEXT)


def test_a_layer_of_the_name_logits_makes_no_features_independent():
    class Headed(Joint):
        def __init__(self, space: CategoricalSpace) -> None:
            super().__init__(space)
            self.logits = nn.Linear(1, space.width)

    policy = Headed(SPACE)
    assert math.isclose(float(law(policy).sum(0)[0]), 1)
    with pytest.raises(TypeError, match="Headed has neither"):
        conditional_logits(policy, ROWS, CONTEXT)


class Column(Joint):
    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        return super().log_prob(codes, context).unsqueeze(-1)


class Total(Joint):
    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        return super().log_prob(codes, context).sum()


class NoNumber(Joint):
    def log_prob(self, codes: Tensor, context: Tensor) -> Tensor:
        return super().log_prob(codes, context) * math.nan


class OneRow(Joint):
    def sample(self, context: Tensor, count: int = 1, *, generator=None) -> Tensor:
        return super().sample(context, 1, generator=generator)


class Floats(Joint):
    def sample(self, context: Tensor, count: int = 1, *, generator=None) -> Tensor:
        return super().sample(context, count, generator=generator).double()


def _pairs() -> Preferences:
    codes = ROWS.repeat(3, 1)
    return Preferences(codes, codes.flip(0), torch.zeros(len(codes)).long(), CONTEXT.repeat(12, 1))


def _tilt(policy: Any) -> RewardWeighted:
    return RewardWeighted(policy, reward, BETA)


DENSITY: dict[str, Callable[[Any], object]] = {
    "exact": lambda policy: _tilt(policy).exact(CONTEXT),
    "log_density": lambda policy: _tilt(policy).log_density(every_row(), CONTEXT),
    "proposal": lambda policy: importance_sampling(_tilt(own()), CONTEXT, 8, proposal=policy),
    "metropolis": lambda policy: metropolis(_tilt(policy), CONTEXT, 8, steps=2),
    "reinforce": lambda policy: reinforce(
        policy, reward, CONTEXT, config=ReinforceConfig(steps=2, group=8)
    ),
    "forward": lambda policy: distill(policy, _tilt(own()), CONTEXT),
    "reverse": lambda policy: distill(policy, _tilt(own()), CONTEXT, method="reverse"),
    "distill exact": lambda policy: distill(policy, _tilt(own()), CONTEXT, method="exact"),
    "dpo": lambda policy: fit_dpo(policy, _pairs(), own(), config=DPOConfig(steps=2), seed=0),
    "dpo reference": lambda p: fit_dpo(own(), _pairs(), p, config=DPOConfig(steps=2), seed=0),
}
DRAWS: dict[str, Callable[[Any], object]] = {
    "importance": lambda policy: importance_sampling(_tilt(policy), CONTEXT, 8),
    "proposal": DENSITY["proposal"],
    "metropolis": DENSITY["metropolis"],
    "best of n": lambda policy: best_of_n(_tilt(policy), CONTEXT, 2, n=4),
    "reinforce": DENSITY["reinforce"],
    "reverse": DENSITY["reverse"],
}


@pytest.mark.parametrize("user", DENSITY)
@pytest.mark.parametrize("fault", [Column, Total, NoNumber])
def test_a_log_prob_of_another_shape_or_nan_is_refused(fault: type[Joint], user: str):
    with pytest.raises(ValueError, match=f"log_prob of {fault.__name__} must be"):
        DENSITY[user](fault(SPACE))


@pytest.mark.parametrize("user", DRAWS)
@pytest.mark.parametrize("fault", [OneRow, Floats])
def test_rows_of_another_shape_or_dtype_are_refused(fault: type[Joint], user: str):
    with pytest.raises(ValueError, match=f"{fault.__name__} must draw codes"):
        DRAWS[user](fault(SPACE))
