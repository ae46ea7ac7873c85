"""The loop of reinforcement learning: its optima, its settings, its errors."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.policies import AutoregressiveGenerator, Generator, Policy
from discrete_grad.reinforcement import (
    Progress,
    ReinforceConfig,
    StepValue,
    reinforce,
    table_reward,
    weighted_reward,
)
from discrete_grad.reinforcement._rollout import Rollout, RowLaw
from discrete_grad.reinforcement.algorithms import ALGORITHMS
from discrete_grad.reinforcement.policy_objective import PolicyObjective, Task
from discrete_grad.reinforcement.reinforce import _frozen
from discrete_grad.sampling import isolated_seed, normal, seeded
from discrete_grad.training.checkpoint import Checkpoint
from discrete_grad.training.logs import JsonLinesLog
from discrete_grad.training.loop import Step
from discrete_grad.weighting import RewardWeighted
from discrete_grad.weighting.tilt import log_partition, table_expectation, table_kl

SPACE = CategoricalSpace.from_sizes((3, 2, 2))
CONTEXTS = torch.eye(2)
TABLE = normal((SPACE.num_rows, 2), generator=seeded(4)).float()
REWARD = table_reward(SPACE, TABLE)
BETA = 0.5
QUICK = ReinforceConfig(steps=100, group=32, batch_size=2, beta=BETA, learning_rate=0.03)


def policy_of(kind: str, seed: int = 0, *, spec: ContextSpec | None = None) -> Policy:
    spec = spec or ContextSpec(numeric=["a", "b"])
    with isolated_seed(seed):
        if kind == "factorised":
            return Generator(SPACE, spec, hidden=(16,))
        return AutoregressiveGenerator(SPACE, spec, order=(2, 0, 1), hidden=(16,))


def law(policy: Policy) -> Tensor:
    """Log-probabilities `(R, 2)`."""
    codes = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)
    with torch.no_grad():
        return policy.log_prob(codes, CONTEXTS).double()


def share(policy: Policy, reference: Tensor | None = None) -> float:
    """Of the optimum beta log Z that a policy reaches, above what the reference has."""
    log_p = law(policy)
    log_q = torch.full_like(log_p, -math.log(len(log_p))) if reference is None else reference
    optimum = BETA * log_partition(log_q, TABLE, BETA).mean()
    begun = table_expectation(log_q, TABLE).mean()
    reached = (table_expectation(log_p, TABLE) - BETA * table_kl(log_p, log_q)).mean()
    return float((reached - begun) / (optimum - begun))


SETTINGS = {
    "reinforce": {"algorithm": "reinforce"},
    "leave_one_out": {},
    "group_relative": {"algorithm": "group_relative"},
    "a2c": {"algorithm": "a2c"},
    "ppo": {"algorithm": "ppo", "epochs": 3, "minibatches": 2, "steps": 240, "group": 64},
    "advantage_weighted": {"algorithm": "advantage_weighted", "temperature": BETA},
    "reused": {"epochs": 3, "steps": 150},
    "reused a2c": {"algorithm": "a2c", "epochs": 2, "minibatches": 2, "steps": 150},
    "replayed": {"epochs": 6, "replay": 20, "steps": 180},
    "k2 in the loss": {"kl": "k2", "kl_in": "loss"},
    "conditional": {"kl": "conditional"},
    "conditional a2c": {"kl": "conditional", "algorithm": "a2c", "gae_decay": 1.0},
    "memory": {"memory": 4},
    "memory a2c": {"memory": 4, "algorithm": "a2c"},
    "memory advantage_weighted": {"memory": 4, "algorithm": "advantage_weighted"},
    "standardised": {"algorithm": "ppo", "epochs": 2, "steps": 150, "advantage_scale": "batch"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_algorithm_comes_near_the_optimum(name: str) -> None:
    policy = policy_of("autoregressive")
    assert share(policy) < 0.3
    progress = reinforce(
        policy, REWARD, config=replace(QUICK, **SETTINGS[name]), context=CONTEXTS
    ).progress
    assert share(policy) > 0.95, share(policy)
    assert progress[-1].rows <= 100 * 32 * 2


@pytest.mark.parametrize("name", ["leave_one_out", "a2c", "ppo", "conditional"])
def test_independent_features_come_to_the_best_that_they_can_do(name: str) -> None:
    """Which exact ascent finds."""
    policy, best = policy_of("factorised"), policy_of("factorised")
    optimiser = torch.optim.Adam(best.parameters(), 0.02)
    codes = SPACE.enumerate().unsqueeze(1)
    for _ in range(300):
        log_p = SPACE.log_prob(best(CONTEXTS), codes)
        loss = -(log_p.exp() * (TABLE - BETA * log_p)).sum(0).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reinforce(policy, REWARD, config=replace(QUICK, **SETTINGS[name]), context=CONTEXTS)
    assert share(policy) > share(best) - 0.02


@pytest.mark.parametrize("kind", ["factorised", "autoregressive"])
def test_a_reference_is_frozen_and_may_be_the_policy(kind: str) -> None:
    policy = policy_of(kind)
    with torch.no_grad():
        for p in policy.parameters():
            p.copy_(0.5 * normal(tuple(p.shape), generator=seeded(3)))
    before = law(policy)
    config = replace(QUICK, kl="conditional") if kind == "autoregressive" else QUICK
    progress = reinforce(policy, REWARD, config=config, reference=policy, context=CONTEXTS).progress
    if kind == "autoregressive":
        assert share(policy, before) > 0.95
    exact = float(table_kl(law(policy), before).mean())
    assert progress[-1].kl == pytest.approx(exact, abs=0.3)


def test_a_reference_is_a_copy_at_rest_and_the_policy_learns_on() -> None:
    policy = policy_of("factorised")
    assert isinstance(policy, torch.nn.Module)
    frozen: Any = _frozen(policy.train())
    assert not any(module.training for module in frozen.modules())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert all(module.training for module in policy.modules())
    assert all(parameter.requires_grad for parameter in policy.parameters())


def test_progress_tells_of_the_policy() -> None:
    seen = []
    policy = policy_of("autoregressive")
    config = replace(QUICK, validate_every=40)
    logged = []
    progress = reinforce(
        policy,
        REWARD,
        config=config,
        context=CONTEXTS,
        callback=lambda policy, step: seen.append((step, share(policy))),
        log=lambda metrics, step: logged.append((step, metrics)),
    ).progress
    assert [step for step, _ in seen] == list(range(101))
    assert [p.rows for p in progress] == [40 * 64, 80 * 64, 100 * 64]
    assert seen[0][1] < seen[40][1] < seen[-1][1]
    assert [step for step, _ in logged] == [40, 80, 100]
    assert logged[-1][1]["policy/kl"] == progress[-1].kl
    log_p, last = law(policy), progress[-1]
    truth = Progress(
        rows=last.rows,
        reward=float(table_expectation(log_p, TABLE).mean()),
        kl=float((log_p.exp() * log_p).sum(0).mean()) + math.log(SPACE.num_rows),
        entropy=-float((log_p.exp() * log_p).sum(0).mean()),
        objective=0.0,
        effective_size=32.0,
    )
    for name in ("reward", "kl", "entropy", "effective_size"):
        assert getattr(last, name) == pytest.approx(getattr(truth, name), abs=0.3), name
    assert last.objective == pytest.approx(last.reward - BETA * last.kl, abs=1e-6)


def test_progress_is_of_the_rows_drawn_and_not_of_those_remembered() -> None:
    policy, drawn = policy_of("autoregressive"), []

    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        drawn.append(codes)
        return REWARD(codes, context)

    config = ReinforceConfig(
        steps=3, group=8, batch_size=2, memory=5, learning_rate=1e-12, validate_every=1
    )
    progress = reinforce(policy, reward, config=config, context=CONTEXTS).progress
    number = drawn[-1] @ torch.tensor([4, 2, 1])  # as `enumerate` orders rows
    # the batch may have its contexts in either order
    entropies = [
        -law(policy).gather(0, number[:, order]).mean().item() for order in ([0, 1], [1, 0])
    ]
    assert min(abs(progress[-1].entropy - e) for e in entropies) < 1e-5
    # the reference is uniform
    assert progress[-1].kl == pytest.approx(math.log(SPACE.num_rows) - progress[-1].entropy)


def test_one_seed_one_policy_and_the_global_state_untouched() -> None:
    states = []
    for seed in (0, 0, 1):
        policy = policy_of("autoregressive")
        before = torch.get_rng_state()
        config = replace(QUICK, steps=8, algorithm="ppo", epochs=2, minibatches=2)
        reinforce(policy, REWARD, config=config, context=CONTEXTS, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(torch.cat([p.detach().flatten() for p in policy.parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_run_that_is_resumed_ends_as_one_that_is_not(tmp_path: Path) -> None:
    config = replace(
        QUICK,
        steps=12,
        checkpoint_every=4,
        algorithm="ppo",
        epochs=2,
        memory=3,
        reward_scale="running",
    )

    class Stop(Exception):
        pass

    def fail(codes: Tensor, context: Tensor | None) -> Tensor:
        fail.calls += 1
        if fail.calls > 4:
            raise Stop
        return REWARD(codes, context)

    fail.calls = 0
    whole, broken = policy_of("autoregressive"), policy_of("autoregressive")
    reinforce(whole, REWARD, config=config, context=CONTEXTS)
    metrics = JsonLinesLog(tmp_path / "metrics.jsonl")
    place = Checkpoint(tmp_path / "policy.safetensors", metrics)
    with pytest.raises(Stop):
        reinforce(broken, fail, config=config, context=CONTEXTS, checkpoint=place)
    resumed = policy_of("autoregressive", 9)
    reinforce(resumed, REWARD, config=config, context=CONTEXTS, checkpoint=place)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_shaping_leaves_the_optimum() -> None:
    """Even a potential that calls for the worst row."""
    steps = {"algorithm": "a2c", "gae_decay": 1.0}
    policy = policy_of("autoregressive")

    def potential(codes: Tensor, context: Tensor | None) -> Tensor:
        # before each step, in the order of drawing: what was drawn last counts
        last = torch.stack([codes[..., 2], codes[..., 0]], -1) * 3.0
        return torch.cat([torch.ones_like(last[..., :1]), last], -1)

    reinforce(policy, REWARD, config=replace(QUICK, **steps), context=CONTEXTS, potential=potential)
    assert share(policy) > 0.95


def test_entropy_is_a_divergence_from_uniform_rows() -> None:
    """`E[r] + c H` has the optimum of beta = c, whatever the rest."""
    policy = policy_of("autoregressive")
    config = replace(QUICK, beta=BETA / 2, entropy=BETA / 2)
    reinforce(policy, REWARD, config=config, context=CONTEXTS)
    assert share(policy) > 0.97


def test_diversity_spreads_the_rows() -> None:
    def distance(diversity: float) -> float:
        policy = policy_of("autoregressive")
        config = replace(QUICK, beta=0.0, diversity=diversity)
        reinforce(policy, REWARD, config=config, context=CONTEXTS)
        codes, p = SPACE.enumerate(), law(policy).exp()
        apart = SPACE.hamming(codes.unsqueeze(0), codes.unsqueeze(1)).double()
        return float(sum(q @ apart @ q for q in p.unbind(1)) / 2)

    # at most half the pairs differ in a feature of two, two thirds in one of three
    assert distance(0.0) < 0.3
    assert distance(5.0) > 1.5


def test_the_rewards_scale_does_not_matter_where_it_runs() -> None:
    policy = policy_of("autoregressive")
    scaled = table_reward(SPACE, 1000 * TABLE + 7)
    beta = BETA / float(TABLE.std(correction=0))
    config = replace(QUICK, reward_scale="running", beta=beta)
    progress = reinforce(policy, scaled, config=config, context=CONTEXTS).progress
    assert share(policy) > 0.5
    assert progress[-1].reward > 500  # in the reward's own unit
    assert abs(progress[-1].objective) < 5  # in the scaled one


def trained_law(name: str, *, offset: float = 0.0, unit: float = 1.0) -> Tensor:
    """Of a policy that was trained a little by `offset + unit * reward`, all in float64."""
    policy, settings = policy_of("autoregressive").double(), SETTINGS[name]
    temperature = unit * settings.get("temperature", 1.0)
    config = replace(QUICK, **settings, beta=BETA * unit, clip_norm=0.0 if unit != 1 else 1.0)
    config = replace(config, temperature=temperature, steps=6, learning_rate=0.1)
    reward = table_reward(SPACE, offset + unit * TABLE.double())
    reinforce(policy, reward, config=config, context=CONTEXTS.double())
    return law(policy)


@pytest.mark.parametrize("name", [*ALGORITHMS, "reused a2c", "memory a2c", "standardised"])
@pytest.mark.parametrize("offset", [-1e4])
def test_a_constant_in_the_reward_changes_nothing(name: str, offset: float) -> None:
    assert_close(trained_law(name, offset=offset), trained_law(name), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [*ALGORITHMS, "reused a2c", "memory a2c", "standardised"])
@pytest.mark.parametrize("unit", [1e3])
def test_the_unit_of_rewards_and_their_costs_changes_nothing(name: str, unit: float) -> None:
    # but for the small numbers that Adam and `group_relative` add to what they divide by
    alike = [trained_law(name, unit=u) for u in (unit, 1 + 1e-12)]
    assert_close(*alike, atol=0.03, rtol=0)


def test_noise_on_the_context_makes_contexts_alike() -> None:
    """The policy cannot tell them apart any more."""

    def gap(noise: float) -> float:
        policy = policy_of("autoregressive")
        reinforce(policy, REWARD, config=replace(QUICK, context_noise=noise), context=CONTEXTS)
        p = law(policy).exp()
        return float((p[:, 0] - p[:, 1]).abs().sum() / 2)

    assert gap(20.0) < 0.5 * gap(0.0)


def test_without_contexts() -> None:
    scores = TABLE[:, 0]
    for policy in (AutoregressiveGenerator(SPACE, hidden=(16,)), Generator(SPACE)):
        for algorithm in ("leave_one_out", "ppo"):
            config = replace(QUICK, steps=40, algorithm=algorithm, memory=2)
            progress = reinforce(policy, table_reward(SPACE, scores), config=config).progress
            assert progress[-1].rows == 40 * 32
            assert progress[-1].reward > scores.mean()


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": 1}, "leave_one_out needs a group of 2 or more, got 1"),
        ({"group": 1, "algorithm": "group_relative"}, "group_relative needs a group of 2"),
        ({"group": 2, "diversity": 0.1}, "needs a group of 3"),
        ({"minibatches": 5}, "minibatches must divide group 32, got 5"),
        ({"replay": 3}, "a replay needs epochs, and another algorithm than ppo"),
        ({"replay": 3, "epochs": 2, "algorithm": "ppo"}, "a replay needs epochs"),
        ({"algorithm": "sarsa"}, "algorithm must be one of .*'ppo'.*, got 'sarsa'"),
        ({"kl": "k4"}, "kl must be one of"),
        ({"gae_decay": 1.5}, r"must lie in \[0, 1\], got 1.5"),
        ({"memory": 3, "minibatches": 2}, "a memory goes with neither"),
        ({"beta": math.nan}, "beta must be finite"),
        ({"group": 0}, "group must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reinforce(
            policy_of("factorised"), REWARD, config=replace(QUICK, **settings), context=CONTEXTS
        )


def test_a_reward_that_is_no_number_is_told_with_its_row_and_context() -> None:
    def reward(codes: Tensor, context: Tensor | None) -> Tensor:
        bad = REWARD(codes, context).clone()
        bad[3, 1] = bad[4, 0] = math.nan
        return bad

    with pytest.raises(ValueError, match=r"got nan in row 3, context \(1,\), of codes \["):
        reinforce(policy_of("factorised"), reward, config=QUICK, context=CONTEXTS)
    with pytest.raises(ValueError, match=r"must be \(32, 2\) for rows \(32, 2, 3\), got \(32,\)"):
        reinforce(
            policy_of("factorised"), lambda x, c: x[:, 0, 0] * 1.0, config=QUICK, context=CONTEXTS
        )


@pytest.mark.parametrize("kind", ["bool", "integer", "numpy", "numpy float32"])
@pytest.mark.parametrize("settings", [{}, {"memory": 4, "reward_scale": "running"}])
def test_rewards_of_other_types_count_as_their_numbers(kind: str, settings: dict) -> None:
    def floating(codes: Tensor, context: Tensor | None) -> Tensor:
        hits = codes.sum(-1)
        return (hits > 2).double() if kind == "bool" else hits.double()

    def typed(codes: Tensor, context: Tensor | None) -> Tensor:
        found = floating(codes, context)
        if kind == "bool":
            return found.bool()
        if kind == "integer":
            return found.long()
        return found.numpy().astype("float64" if kind == "numpy" else "float32")

    config = replace(QUICK, steps=3, **settings)
    found = [
        reinforce(policy_of("factorised"), reward, config=config, context=CONTEXTS)
        for reward in (floating, typed)
    ]
    assert found[0] == found[1]
    target = RewardWeighted(policy_of("factorised"), typed, 1.0)
    expected = RewardWeighted(policy_of("factorised"), floating, 1.0)
    rows = SPACE.enumerate().unsqueeze(1).expand(-1, 2, -1)
    with torch.no_grad():
        assert_close(target.log_prob(rows, CONTEXTS), expected.log_prob(rows, CONTEXTS))
    mixed = weighted_reward([(2.0, typed), (1.0, floating)])(rows, None)
    assert_close(mixed.double(), 3 * floating(rows, None))


def test_known_rows_are_scaled_by_the_deviation_of_equal_fresh_ones() -> None:
    earned = torch.tensor([16777.77] * 6 + [16778.77]).unsqueeze(-1)
    judged = ALGORITHMS["group_relative"].advantages
    assert judged is not None
    found = judged(earned, 6, torch.zeros(()))
    assert not found[:6].any()
    assert_close(found[6], (earned[6] - earned[0]) / 1e-4)


def test_a_reference_that_forbids_a_row() -> None:
    class Forbidding(Generator):
        def forward(self, context: Tensor | None = None) -> Tensor:
            logits = super().forward(context).clone()
            logits[..., 0] = -math.inf
            return logits

    reference = Forbidding(SPACE, ContextSpec(numeric=["a", "b"]))
    with pytest.raises(ValueError, match="the reference never draws what the policy drew: row"):
        reinforce(
            policy_of("factorised"), REWARD, config=QUICK, context=CONTEXTS, reference=reference
        )


def test_models_and_contexts_that_do_not_fit() -> None:
    policy = policy_of("factorised")
    with pytest.raises(TypeError, match=r"reinforce needs a policy with `space`; Linear has none"):
        reinforce(torch.nn.Linear(2, 2), REWARD, config=QUICK, context=CONTEXTS)  # type: ignore[arg-type]
    other = Generator(CategoricalSpace.from_sizes((2, 2)), ContextSpec(numeric=["a", "b"]))
    with pytest.raises(ValueError, match="policy and reference differ"):
        reinforce(policy, REWARD, config=QUICK, context=CONTEXTS, reference=other)
    with pytest.raises(ValueError, match="takes a context"):
        reinforce(policy, REWARD, config=QUICK)
    with pytest.raises(ValueError, match=r"must be \(N, C\)"):
        reinforce(policy, REWARD, config=QUICK, context=CONTEXTS.unsqueeze(0))


def test_the_default_counts_its_rows() -> None:
    config = ReinforceConfig(epochs=2, minibatches=4, group=8)
    assert [config.rows_used(step, contexts=3) for step in (0, 1, 8, 9)] == [0, 24, 24, 48]
    assert config.updates == 8
    with pytest.raises(ValueError, match="a checkpoint holds no rows"):
        replace(config, checkpoint_every=12).check_checkpoints()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_values_of_prefixes_are_in_the_precision_of_their_network(dtype: torch.dtype) -> None:
    spec = ContextSpec(numeric=["a", "b"])
    values = StepValue(SPACE, spec, hidden=(4,)).to(dtype)(SPACE.enumerate()[:2], CONTEXTS)
    assert (values.dtype, values.shape) == (dtype, (2, 3))


def objective_of(**settings: Any) -> PolicyObjective:
    policy = AutoregressiveGenerator(SPACE, hidden=(4,))
    task = Task(policy, REWARD, None, None, None)
    return PolicyObjective(task, ReinforceConfig(group=8, **settings), seed=0)


def test_gradients_of_policy_and_values_are_clipped_apart() -> None:
    objective = objective_of(algorithm="a2c", clip_norm=1.0)
    for name, size in (("policy", 0.001), ("value", 1000.0)):
        for parameter in objective.model.get_submodule(name).parameters():
            parameter.grad = torch.full_like(parameter, size)
    objective.finish_gradients()
    policy, value = (
        [p.grad for p in objective.model.get_submodule(name).parameters() if p.grad is not None]
        for name in ("policy", "value")
    )
    assert all((grad == 0.001).all() for grad in policy)
    assert torch.cat([grad.flatten() for grad in value]).norm().item() == pytest.approx(1, abs=1e-4)


def test_each_process_draws_rows_of_its_own() -> None:
    task = replace(objective_of().task, reward=lambda codes, context: codes.sum(-1).float())
    drawn = []
    for rank in (0, 0, 1):
        objective = PolicyObjective(task, ReinforceConfig(group=16), seed=0)
        objective(Step(0, "policy", 0, rank, 2))
        drawn.append(objective.kept[-1].codes)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_rows_are_judged_by_the_mean_of_earlier_batches() -> None:
    rewards = iter([1.0, 3.0, 5.0])
    task = replace(
        objective_of().task,
        reward=lambda codes, context: torch.full(codes.shape[:-1], next(rewards)),
    )
    config = ReinforceConfig(algorithm="reinforce", group=4, beta=0.0)
    objective = PolicyObjective(task, config, seed=0)
    for step, advantage in enumerate((0.0, 2.0, 5 - (0.9 * 1 + 0.1 * 3))):
        objective(Step(0, "policy", step))
        found = objective.kept[-1].advantages
        assert_close(found, torch.full_like(found, advantage))


def test_rows_are_remembered_after_those_of_earlier_batches_are_recalled() -> None:
    task = replace(objective_of().task, reward=lambda codes, context: SPACE.row_number(codes))
    objective = PolicyObjective(task, ReinforceConfig(group=8, memory=3), seed=0)
    for step in range(2):
        objective(Step(0, "policy", step))
        rollout = objective.kept[-1]
        assert rollout.weights is not None
        numbers = SPACE.row_number(rollout.codes)
        if not step:
            assert rollout.weights.tolist() == pytest.approx([11 / 8] * 8 + [0] * 3)
            best = numbers[:8].unique()[-3:].tolist()
        else:
            assert sorted(numbers[8:].tolist()) == best
            known = torch.isin(numbers[:8], torch.tensor(best))
            assert torch.equal(rollout.weights[:8] == 0, known)


def test_the_minibatches_of_an_epoch_hold_every_row_once() -> None:
    objective = objective_of(algorithm="ppo", epochs=2, minibatches=4)
    zeros, codes = torch.zeros(8, 3), torch.arange(8).unsqueeze(1).expand(-1, 3)
    rollout = Rollout(codes, None, zeros[:, 0], zeros, RowLaw(zeros), drawn=8, advantages=zeros)
    objective.kept.append(rollout)
    parts = [objective._chosen(Step(0, "x", i), i % 8).codes[:, 0].tolist() for i in range(16)]
    epochs = [[row for part in parts[i : i + 4] for row in part] for i in range(0, 16, 4)]
    assert all(sorted(rows) == list(range(8)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 4
