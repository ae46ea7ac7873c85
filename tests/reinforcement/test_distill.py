"""A policy learns a reward-weighted distribution: against every row, counted."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, LeaveOneOut, LocalExpectation, ReinMax
from discrete_grad.fitting.regression import clipped
from discrete_grad.gradient import GumbelSoftmax
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.reinforcement import DistillConfig, distill
from discrete_grad.reinforcement.distill import _drawer, _forward, _job, _reverse
from discrete_grad.sampling import isolated_seed
from discrete_grad.space import ContextSpec
from discrete_grad.training.loop import Step
from discrete_grad.weighting import RewardWeighted, twisted_smc
from discrete_grad.weighting.tilt import table_kl
from tests.weighting.worlds import ORDER, SPACE, TableReference, numbers, table_reward

SPEC = ContextSpec(numeric=["table"])
QUICK = DistillConfig(steps=150, samples=96, learning_rate=3e-2)


def world(seed: int, *, masked: bool = False, beta: float | Tensor = 1.0) -> RewardWeighted:
    """A reference that is not factorised, and a reward without structure, both of about a nat."""
    shape = (SPACE.num_rows, 2)
    reference = TableReference(SPACE, 0.3 * numbers(shape, seed), ORDER)
    reward = table_reward(SPACE, 0.5 * numbers(shape, seed + 1, masked=masked))
    return RewardWeighted(reference, reward, beta)


def autoregressive(seed: int = 0) -> AutoregressiveGenerator:
    with isolated_seed(seed):
        return AutoregressiveGenerator(SPACE, SPEC, hidden=(24,), order=ORDER)


def factorised(seed: int = 0) -> Generator:
    with isolated_seed(seed):
        return Generator(SPACE, SPEC, hidden=(24,))


def contexts(*tables: int) -> Tensor:
    return torch.tensor(tables).float().unsqueeze(-1)


def log_probs(policy, context: Tensor) -> Tensor:
    """`(R, N)`."""
    rows = SPACE.enumerate().unsqueeze(1).expand(-1, len(context), -1)
    if isinstance(policy, Generator):
        return SPACE.log_prob(policy(context), rows)
    return policy.log_prob(rows, context)


def divergence(policy, target: RewardWeighted, context: Tensor) -> float:
    """The largest `KL(target || policy)` of any context."""
    with torch.no_grad():
        return table_kl(target.exact(context).log_probs, log_probs(policy, context)).max().item()


def additive(scale: float = 1.0):
    """A reward of flat rows or codes, a sum over features that depends on the context."""
    weights = scale * numbers((2, SPACE.width), 5).float()

    def reward(rows: Tensor, context: Tensor) -> Tensor:
        flat = rows if rows.is_floating_point() else SPACE.one_hot(rows)
        own = weights[context[..., 0].long()].to(flat.dtype)
        return (flat * own).sum(-1)

    return reward


WAYS = {
    "forward": {},
    "forward, policy": {"proposal": "policy"},
    "forward, sampler": {"sampler": partial(twisted_smc, threshold=0.9)},
    "reverse": {},
    "exact": {},
    "exact, reverse": {"direction": "reverse"},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_autoregressive_policy_reaches_the_tilt(way: str):
    """Of a reference that is not factorised, by a reward without structure."""
    target, context, policy = world(0), contexts(0, 1), autoregressive()
    assert divergence(policy, target, context) > 0.3
    method = way.partition(",")[0]
    losses = distill(policy, target, context, method=method, config=QUICK, **WAYS[way])
    assert len(losses) == QUICK.steps
    assert divergence(policy, target, context) < 0.01


REVERSE = {
    "ReinMax": ReinMax(SPACE, samples=16),
    "LeaveOneOut": LeaveOneOut(SPACE, samples=32),
    "LocalExpectation": LocalExpectation(SPACE, samples=2),
    "default": None,
}


@pytest.mark.parametrize("way", ["forward", "exact", *REVERSE])
def test_a_factorised_policy_reaches_a_factorised_tilt(way: str):
    target = RewardWeighted(factorised(1), additive(), 1.5)
    context, policy = contexts(0, 1), factorised()
    options = {"method": "reverse", "gradient_estimator": REVERSE[way]} if way in REVERSE else {}
    distill(policy, target, context, config=QUICK, **({"method": way} | options))
    assert divergence(policy, target, context) < 0.01


@pytest.mark.parametrize("method", [ReinMax(samples=8), GumbelSoftmax(samples=8, tau=0.3)])
def test_an_autoregressive_policy_learns_through_relaxed_rows(method):
    target, context = RewardWeighted(factorised(1), additive(0.5), 1.0), contexts(0, 1)
    policy = autoregressive()
    before = divergence(policy, target, context)
    distill(policy, target, context, method="reverse", gradient_estimator=method, config=QUICK)
    assert divergence(policy, target, context) < min(0.05, before / 5)


def test_a_factorised_policy_under_a_reference_that_is_not():
    """The best factorised law in reverse KL, found by summing over all rows."""
    target, context = world(3), contexts(0, 1)
    found, best = factorised(), factorised()
    distill(found, target, context, method="reverse", config=QUICK)
    distill(best, target, context, method="exact", direction="reverse", config=QUICK)
    exact = target.exact(context).log_probs
    reached, least = (table_kl(log_probs(p, context), exact) for p in (found, best))
    assert (reached < least + 0.02).all()


def many(policy, target, count: int, config: DistillConfig):
    """A job of one context that is repeated: the mean over the batch is one over draws."""
    config = DistillConfig(batch_size=count, samples=config.samples)
    return _job(policy, target, contexts(1).expand(count, -1), config)


def gradients(loss: Tensor, policy) -> Tensor:
    grads = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in grads if g is not None])


@pytest.mark.parametrize("proposal", ["reference", "policy"])
def test_expected_gradient_of_forward_regression(proposal: str):
    """Two rows a context: every pair of rows, with its probability and its weights."""
    target, policy = world(0), factorised()
    job = many(policy, target, 100_000, DistillConfig(samples=2))
    estimate = gradients(_forward(job, _drawer(job, proposal, None), None)(Step(0, "", 0)), policy)
    log_pi = log_probs(policy, contexts(1))[:, 0].double()
    exact = target.exact(contexts(1))
    log_ref, log_tilt = exact.log_reference[:, 0], exact.log_probs[:, 0]
    log_q = log_ref if proposal == "reference" else log_pi.detach()
    ratio = log_tilt - log_q
    expected = torch.zeros(())
    for i, j in itertools.product(range(SPACE.num_rows), repeat=2):
        w = torch.stack([ratio[i], ratio[j]]).softmax(0)
        expected = expected - (log_q[i] + log_q[j]).exp() * (w[0] * log_pi[i] + w[1] * log_pi[j])
    expected = gradients(expected, policy)
    assert (estimate - expected).norm() < 0.1 * expected.norm()


def test_forward_regression_tends_to_the_gradient_of_the_divergence():
    target, policy = world(0), factorised()
    job = many(policy, target, 4, DistillConfig(samples=20_000))
    estimate = gradients(
        _forward(job, _drawer(job, "reference", None), None)(Step(0, "", 0)), policy
    )
    exact = table_kl(target.exact(contexts(1)).log_probs, log_probs(policy, contexts(1)))
    expected = gradients(exact.sum(), policy)
    assert (estimate - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("make", [autoregressive, factorised])
def test_expected_gradient_of_reverse(make):
    """The default has the divergence's gradient without bias, its value but for log Z."""
    target, policy = world(0), make()
    job = many(policy, target, 20_000, DistillConfig(samples=3))
    loss = _reverse(job, None)(Step(0, "", 0))
    exact = target.exact(contexts(1))
    kl = table_kl(log_probs(policy, contexts(1)), exact.log_probs).sum()
    torch.testing.assert_close(loss.double(), kl - exact.log_z[0], atol=0.03, rtol=0)
    estimate, expected = gradients(loss, policy), gradients(kl, policy)
    assert (estimate - expected).norm() < 0.05 * expected.norm()


def test_reverse_has_no_noise_where_the_target_is_reached():
    """The cost of every row is the same there: its baseline leaves nothing of it."""
    policy = autoregressive()
    target = RewardWeighted(policy, lambda rows, context: torch.full(rows.shape[:-1], 3.0), 1.0)
    loss = _reverse(many(policy, target, 4, DistillConfig(samples=3)), None)(Step(0, "", 0))
    assert gradients(loss, policy).abs().max() < 1e-5
    assert loss.item() == pytest.approx(-3, abs=1e-5)


@pytest.mark.parametrize("method", ["forward", "reverse", "exact"])
def test_batches_of_contexts_with_a_beta_each(method: str):
    """A batch of 2 of 4: betas and contexts stay together."""
    numbered, space = contexts(0, 1, 2, 3), SPACE
    shape = (space.num_rows, 4)
    reference = TableReference(space, torch.zeros(shape))
    reward = table_reward(space, numbers(shape, 7)[:, :1].expand(shape))
    target = RewardWeighted(reference, reward, torch.tensor([0.7, 1.5, 4.0, 30.0]))
    policy = autoregressive()
    config = DistillConfig(steps=200, batch_size=2, samples=64, learning_rate=3e-2)
    distill(policy, target, numbered, method=method, config=config)
    assert divergence(policy, target, numbered) < 0.04


def test_without_contexts():
    space = CategoricalSpace.from_sizes((2, 3))
    target = RewardWeighted(Generator(space), lambda rows, context: rows.sum(-1).double(), 1.0)
    for method in ("forward", "reverse", "exact"):
        policy = Generator(space)
        distill(policy, target, method=method, config=QUICK)
        log_p = space.log_prob(policy(), space.enumerate())
        assert table_kl(target.exact().log_probs, log_p) < 0.01


def test_the_policy_may_be_the_reference():
    policy, context = autoregressive(), contexts(0, 1)
    target = RewardWeighted(policy, table_reward(SPACE, numbers((12, 2), 1)), 2.0)
    wanted = target.exact(context)
    distill(policy, target, context, config=QUICK)
    assert table_kl(wanted.log_probs, log_probs(policy, context)).max() < 0.01
    assert target.reference is policy  # the user's own target is left as it was


def test_weights_are_clipped_and_normalised():
    log_weights = torch.tensor([0.7, 0.2, 0.1]).double().log()
    expected = torch.tensor([0.5, 0.2, 0.1]).double() / 0.8
    torch.testing.assert_close(clipped(log_weights, 1.5).exp(), expected)
    assert torch.equal(clipped(log_weights, None), log_weights)


def test_a_clip_keeps_the_policy_nearer_to_the_reference():
    target, context = world(0, beta=0.5), contexts(0, 1)
    exact = target.exact(context)
    kept = {}
    for clip in (None, 1.0):
        policy = autoregressive()
        distill(policy, target, context, clip=clip, config=QUICK)
        kept[clip] = table_kl(log_probs(policy, context).detach(), exact.log_reference).sum()
    assert kept[1.0] < kept[None] / 2


def test_the_seed_decides_and_nothing_else_is_touched():
    target, context = world(0), contexts(0, 1, 0)
    config = DistillConfig(steps=3, batch_size=2, samples=4)
    state, runs = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        policy = autoregressive()
        runs.append((distill(policy, target, context, seed=seed, config=config), policy))
    assert torch.equal(torch.get_rng_state(), state)
    assert runs[0][0] == runs[1][0] != runs[2][0]
    pairs = zip(runs[0][1].parameters(), runs[1][1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_reward_that_draws_by_itself_is_decided_by_the_seed_too():
    def noisy(rows: Tensor, context: Tensor) -> Tensor:
        return torch.rand(rows.shape[:-1])

    target, losses = RewardWeighted(factorised(1), noisy, 1.0), []
    state = torch.get_rng_state()
    for skip in (1, 2):
        torch.rand(skip)
        before = torch.get_rng_state()
        losses.append(distill(factorised(), target, contexts(0), config=DistillConfig(steps=3)))
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    assert losses[0] == losses[1]


def test_only_the_policy_receives_gradients():
    judge, policy = torch.nn.Linear(SPACE.width, 1), factorised()

    def reward(rows: Tensor, context: Tensor) -> Tensor:
        return judge(rows).squeeze(-1)

    before = [p.clone() for p in policy.trunk.parameters()]
    policy.trunk.requires_grad_(False)
    target = RewardWeighted(factorised(1), reward, 1.0)
    config = DistillConfig(steps=2)
    method = ReinMax(SPACE)
    distill(policy, target, contexts(0), method="reverse", gradient_estimator=method, config=config)
    assert all(p.grad is None for p in judge.parameters())
    assert all(map(torch.equal, before, policy.trunk.parameters()))
    assert all(p.grad is None for p in policy.parameters())  # nor is any left behind


def test_forbidden_rows_are_never_learned():
    """Forward regression takes rewards of `-inf`, and a policy that forbids the same rows."""
    target, context = world(2, masked=True), contexts(0, 1)
    possible = target.exact(context).log_probs > -torch.inf
    assert not possible.all()
    policy = autoregressive()
    distill(policy, target, context, config=QUICK)
    share = log_probs(policy, context).exp().where(possible, torch.zeros(())).sum(0)
    assert (share > 0.97).all()
