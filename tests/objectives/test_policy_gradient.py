"""Losses of policies: their expected gradients by enumeration, against exact ones, in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import (
    advantage_weighted_loss,
    gae,
    group_relative,
    leave_one_out,
    policy_gradient_loss,
    ppo_loss,
    value_loss,
)
from discrete_grad.objectives.policy_gradient import importance_weights
from discrete_grad.reinforcement import ContextValue, StepValue
from discrete_grad.sampling import normal, seeded
from tests.objectives.worlds import (
    CONTEXTS,
    KINDS,
    SPACE,
    exact_objective,
    expected_gradient,
    gradient,
    policy_of,
    reward_table,
    rows,
    steps_of,
)

every_kind = pytest.mark.parametrize("kind", KINDS)
REWARDS = reward_table()


def chosen(index: Tensor) -> tuple[Tensor, Tensor]:
    """Codes `(G, 2, F)` and rewards `(G, 2)` of row numbers `(G, 2)`."""
    return SPACE.enumerate()[index], REWARDS.gather(0, index)


def mean_gradient(kind: str, group: int, advantages_of) -> tuple[Tensor, Tensor]:
    """Of a policy gradient with these advantages, and the exact one of the expected reward."""
    policy = policy_of(kind)

    def loss(index: Tensor) -> Tensor:
        codes, rewards = chosen(index)
        log_probs = steps_of(policy, codes)
        return policy_gradient_loss(log_probs, advantages_of(codes, rewards).expand_as(log_probs))

    exact = gradient(-exact_objective(policy, REWARDS), policy)
    assert exact.norm() > 0.1
    return expected_gradient(policy, loss, group), exact


@every_kind
@pytest.mark.parametrize("baseline", [0.0, 2.5])
def test_reinforce_is_unbiased_with_any_baseline(kind: str, baseline: float) -> None:
    found, exact = mean_gradient(kind, 1, lambda codes, r: (r - baseline).unsqueeze(-1))
    assert_close(found, exact)


@every_kind
def test_leave_one_out_is_unbiased(kind: str) -> None:
    found, exact = mean_gradient(kind, 2, lambda codes, r: leave_one_out(r).unsqueeze(-1))
    assert_close(found, exact)


@every_kind
def test_the_mean_of_all_rows_as_a_baseline_would_be_biased(kind: str) -> None:
    found, exact = mean_gradient(kind, 2, lambda codes, r: (r - r.mean(0)).unsqueeze(-1))
    assert_close(found, exact / 2)


@every_kind
def test_group_relative_advantages_are_biased_by_their_division(kind: str) -> None:
    found, exact = mean_gradient(kind, 2, lambda codes, r: group_relative(r).unsqueeze(-1))
    scale = (found @ exact) / exact.square().sum()
    assert (found - scale * exact).norm() > 0.1 * found.norm()  # no step size would mend it
    assert scale > 0


@every_kind
@pytest.mark.parametrize(("gamma", "decay", "unbiased"), [(1, 1, True), (1, 0.5, False)])
def test_actor_critic_is_unbiased_at_decay_1_whatever_the_values(
    kind: str, gamma: float, decay: float, unbiased: bool
) -> None:
    policy = policy_of(kind)
    spec = policy.context_spec
    value = StepValue(SPACE, spec, order=(1, 0)) if kind == "autoregressive" else ContextValue(spec)
    value.double()

    def advantages(codes: Tensor, rewards: Tensor) -> Tensor:
        steps = 2 if kind == "autoregressive" else 1
        last = torch.zeros(*rewards.shape, steps, dtype=rewards.dtype)
        last[..., -1] = rewards
        return gae(last, value(codes, CONTEXTS).expand_as(last), gamma=gamma, decay=decay)

    found, exact = mean_gradient(kind, 1, advantages)
    if unbiased or kind == "factorised":  # one step: nothing follows it
        assert_close(found, exact)
    else:
        assert (found - exact).norm() > 0.05 * exact.norm()


@every_kind
def test_ppo_begins_as_a_policy_gradient_and_ends_where_it_clips(kind: str) -> None:
    policy, codes = policy_of(kind), rows()
    log_probs = steps_of(policy, codes)
    advantages = normal(tuple(log_probs.shape), generator=seeded(1))
    weights = normal((len(codes), 2), generator=seeded(2)).square()
    begun = gradient(ppo_loss(log_probs, log_probs, advantages, weights=weights), policy)
    log_probs = steps_of(policy, codes)
    assert_close(
        begun, gradient(policy_gradient_loss(log_probs, advantages, weights=weights), policy)
    )
    for sign in (1.0, -1.0):  # further than the clip, in the direction of the advantage
        log_probs = steps_of(policy, codes)
        far = ppo_loss(log_probs, log_probs - sign, sign * advantages.abs())
        assert not gradient(far, policy).any()
        log_probs = steps_of(policy, codes)
        back = ppo_loss(log_probs, log_probs + sign, sign * advantages.abs())
        assert gradient(back, policy).norm() > 0.01


def test_ppo_by_hand() -> None:
    ratio = torch.tensor([[1.5], [1.5], [0.5], [0.5], [1.1]], dtype=torch.float64)
    advantages = torch.tensor([[2.0], [-2.0], [2.0], [-2.0], [3.0]], dtype=torch.float64)
    by_hand = [1.2 * 2, 1.5 * -2, 0.5 * 2, 0.8 * -2, 1.1 * 3]
    loss = ppo_loss(ratio.log(), torch.zeros_like(ratio), advantages, clip=0.2)
    assert loss.item() == pytest.approx(-sum(by_hand) / 5)


@every_kind
def test_importance_weights_make_another_policys_rows_unbiased(kind: str) -> None:
    old, policy = policy_of(kind, 1), policy_of(kind, 0)
    codes = rows()
    with torch.no_grad():
        old_log_p = steps_of(old, codes).sum(-1)
    exact = gradient(-exact_objective(policy, REWARDS), policy)
    for rule, bound, unbiased in (("none", 0.1, True), ("clip", 1.0, False), ("drop", 1.0, False)):
        log_probs = steps_of(policy, codes)
        weights = importance_weights(log_probs.sum(-1) - old_log_p, bound=bound, rule=rule)
        assert not weights.requires_grad
        # each row as often as the old policy draws it
        weights = weights * old_log_p.exp() * len(codes)
        advantages = REWARDS.unsqueeze(-1).expand_as(log_probs)
        found = gradient(policy_gradient_loss(log_probs, advantages, weights=weights), policy)
        gap = ((found - exact).norm() / exact.norm()).item()
        assert (gap < 1e-9) == unbiased, (rule, gap)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0.1, 10))
def test_bounds_of_importance_weights(ratios: list[float], bound: float) -> None:
    log_ratio = torch.tensor(ratios, dtype=torch.float64)
    plain = [math.exp(r) for r in ratios]
    clipped = importance_weights(log_ratio, bound=bound).tolist()
    dropped = importance_weights(log_ratio, bound=bound, rule="drop").tolist()
    assert clipped == pytest.approx([min(w, bound) for w in plain])
    assert dropped == pytest.approx([w if w <= bound else 0 for w in plain])
    assert importance_weights(log_ratio, bound=bound, rule="none").tolist() == pytest.approx(plain)


@every_kind
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_advantage_weighted_regression_rests_at_the_tilt(kind: str, temperature: float) -> None:
    """Its expected gradient is that of the cross-entropy from `reference exp(r / temperature)`."""
    policy = policy_of(kind)
    with torch.no_grad():
        reference = steps_of(policy_of(kind, 1), rows()).sum(-1)
    tilt = (reference + REWARDS / temperature).softmax(0)
    row = steps_of(policy, rows()).sum(-1)
    found = advantage_weighted_loss(
        row, REWARDS + 7, temperature=temperature, weights=reference.exp()
    )
    assert_close(found, -(tilt * row).sum(0).mean())
    if kind == "autoregressive":
        return
    # free log-probabilities: they come to rest at the tilt and nowhere else
    for law, rests in ((tilt, True), (reference.exp(), False)):
        logits = law.log().requires_grad_()
        loss = advantage_weighted_loss(
            logits.log_softmax(0), REWARDS, temperature=temperature, weights=reference.exp()
        )
        (slope,) = torch.autograd.grad(loss, logits)
        assert (slope.norm() < 1e-12) == rests


def test_value_loss_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0], [0.0, 4.0]], requires_grad=True)
    returns = torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    assert value_loss(values, returns).item() == pytest.approx((1 + 0 + 9 + 1) / 8)
    weighted = value_loss(values, returns, weights=torch.tensor([2.0, 0.0]))
    assert weighted.item() == pytest.approx(2 * (1 + 0) / 8)
    (slope,) = torch.autograd.grad(weighted, values)
    assert_close(slope, torch.tensor([[0.5, 0.0], [0.0, 0.0]]))


def test_no_gradient_through_advantages_and_weights() -> None:
    log_probs = torch.zeros(2, 3, requires_grad=True)
    advantages, weights = torch.ones(2, 3, requires_grad=True), torch.ones(2, requires_grad=True)
    for loss in (
        policy_gradient_loss(log_probs, advantages, weights=weights),
        ppo_loss(log_probs, log_probs, advantages, weights=weights),
        value_loss(log_probs, advantages, weights=weights),
        advantage_weighted_loss(log_probs, advantages),
    ):
        found = torch.autograd.grad(loss, [advantages, weights], allow_unused=True)
        assert found == (None, None)


def test_errors() -> None:
    two, three = torch.zeros(2, 1), torch.zeros(3, 1)
    with pytest.raises(ValueError, match=r"log_probs is \(2, 1\), advantages is \(3, 1\)"):
        policy_gradient_loss(two, three)
    with pytest.raises(ValueError, match=r"rows is \(2,\), weights is \(2, 1\)"):
        policy_gradient_loss(two, two, weights=two)
    with pytest.raises(ValueError, match="old_log_probs is"):
        ppo_loss(two, three, two)
    for clip in (0.0, math.nan):
        with pytest.raises(ValueError, match="clip must be above 0, got"):
            ppo_loss(two, two, two, clip=clip)
    with pytest.raises(ValueError, match="values is"):
        value_loss(two, three)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        advantage_weighted_loss(two, two, temperature=0.0)
    with pytest.raises(ValueError, match="rule none, clip or drop, got"):
        importance_weights(two, bound=2.0, rule="cut")  # type: ignore[arg-type]


def test_rows_of_weight_0_are_left_out_whatever_their_probability() -> None:
    log_probs = torch.tensor([[-1.0, -1.0], [-torch.inf, -2.0]], requires_grad=True)
    advantages = torch.zeros(2, 2)
    loss = advantage_weighted_loss(
        log_probs, advantages, weights=torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    )
    loss.backward()
    assert loss.item() == pytest.approx(0.5)  # the mean over contexts; one has no row left
    assert log_probs.grad is not None
    assert log_probs.grad.isfinite().all()
