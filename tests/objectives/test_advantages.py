"""Advantages against loops written by hand, and against enumeration."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad.objectives import (
    add_shaping,
    gae,
    group_relative,
    leave_one_out,
    policy_gradient_loss,
)
from discrete_grad.objectives.advantages import diversity_advantage, standardised
from discrete_grad.sampling import normal, random_codes, seeded
from tests.objectives.worlds import KINDS, SPACE, gradient, policy_of, rows, steps_of


def numbers(seed: int, *shape: int) -> Tensor:
    return 3 * normal(shape, generator=seeded(seed))


seeds, groups = st.integers(0, 99), st.integers(2, 5)


@given(seeds, groups)
def test_leave_one_out_by_loops(seed: int, group: int) -> None:
    rewards = numbers(seed, group, 3)
    found = leave_one_out(rewards)
    for i, c in itertools.product(range(group), range(3)):
        others = [rewards[j, c].item() for j in range(group) if j != i]
        expected = rewards[i, c].item() - sum(others) / len(others)
        assert found[i, c].item() == pytest.approx(expected, abs=1e-9)


@given(seeds, groups)
def test_group_relative_by_loops(seed: int, group: int) -> None:
    rewards = numbers(seed, group, 3)
    found = group_relative(rewards, eps=0.25)
    for c in range(3):
        own = rewards[:, c].tolist()
        mean = sum(own) / group
        deviation = (sum((r - mean) ** 2 for r in own) / (group - 1)) ** 0.5
        expected = [(r - mean) / (deviation + 0.25) for r in own]
        assert found[:, c].tolist() == pytest.approx(expected)
    assert not group_relative(torch.ones(group, 2)).any()


def test_standardised() -> None:
    found = standardised(numbers(0, 5, 3, 2))
    assert found.mean().item() == pytest.approx(0, abs=1e-12)
    assert found.square().mean().item() == pytest.approx(1)
    assert not standardised(torch.ones(3)).any()


@pytest.mark.parametrize("value", [16777.77, 0.1, -3e7, 1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [3, 6, 7])
def test_equal_rewards_have_no_advantage_however_their_mean_rounds(
    value: float, dtype: torch.dtype, count: int
) -> None:
    rewards = torch.full((count, 2), value, dtype=dtype)
    assert not group_relative(rewards).any()
    assert not leave_one_out(rewards).any()
    assert not standardised(rewards).any()


@given(seeds, st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_generalised_advantages_by_a_double_loop(
    seed: int, steps: int, gamma: float, decay: float
) -> None:
    rewards, values = numbers(seed, 2, steps), numbers(seed + 100, 2, steps)
    found = gae(rewards, values, gamma=gamma, decay=decay)
    for row, t in itertools.product(range(2), range(steps)):
        expected = 0.0
        for later in range(t, steps):
            after = values[row, later + 1].item() if later + 1 < steps else 0.0
            surprise = rewards[row, later].item() + gamma * after - values[row, later].item()
            expected += (gamma * decay) ** (later - t) * surprise
        assert found[row, t].item() == pytest.approx(expected, abs=1e-9)


@given(seeds, st.integers(1, 5))
def test_ends_of_the_decay(seed: int, steps: int) -> None:
    rewards, values = numbers(seed, steps), numbers(seed + 100, steps)
    to_go = rewards.flip(0).cumsum(0).flip(0)
    assert_close(gae(rewards, values, decay=1.0) + values, to_go)
    following = torch.cat([values[1:], torch.zeros(1).double()])
    assert_close(gae(rewards, values, decay=0.0), rewards + following - values)


@given(seeds, st.integers(1, 5), st.floats(0, 1))
def test_shaping_changes_every_row_by_the_first_potential(
    seed: int, steps: int, gamma: float
) -> None:
    rewards, potentials = numbers(seed, 4, steps), numbers(seed + 100, 4, steps)
    found = add_shaping(rewards, potentials, gamma=gamma)
    discounts = gamma ** torch.arange(steps).double()
    before, after = (rewards * discounts).sum(-1), (found * discounts).sum(-1)
    assert_close(after, before - potentials[:, 0])


def test_the_true_value_as_a_potential_leaves_nothing_to_await() -> None:
    """With it each step is paid by its own advantage."""
    rewards, values = numbers(0, 4, 3), numbers(1, 4, 3)
    assert_close(add_shaping(rewards, values), gae(rewards, values, decay=0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_diversity_has_the_gradient_of_the_expected_distance_of_two_rows(kind: str) -> None:
    policy, every = policy_of(kind), rows()
    with torch.no_grad():
        law = steps_of(policy, every).sum(-1).exp()
    distance = SPACE.hamming(every[:, None, 0], every[None, :, 0]).double()
    probability = steps_of(policy, every).sum(-1).exp()
    expected = sum((p @ distance @ p) / 2 for p in probability.unbind(1))
    exact = gradient(expected, policy)
    # all groups of three in either context; the gradient of a row's log-probability by its weight
    weights = torch.zeros(len(every), 2, dtype=torch.float64)
    for trio in itertools.product(range(len(every)), repeat=3):
        advantages = diversity_advantage(every[list(trio)]).double()
        chance = law[list(trio)].prod(0)
        for row, number in enumerate(trio):
            weights[number] += chance * advantages[row] / 3
    log_probs = steps_of(policy, every)
    advantages = (weights * len(every)).unsqueeze(-1).expand_as(log_probs)
    assert_close(gradient(-policy_gradient_loss(log_probs, advantages), policy), exact)


@given(seeds, st.integers(3, 6))
def test_diversity_by_loops(seed: int, group: int) -> None:
    codes = random_codes(SPACE, group, generator=seeded(seed))
    found = diversity_advantage(codes)

    def apart(i: int, j: int) -> int:
        return sum(a != b for a, b in zip(codes[i].tolist(), codes[j].tolist(), strict=True))

    for i in range(group):
        own = [apart(i, j) for j in range(group) if j != i]
        rest = [apart(j, k) for j in range(group) for k in range(group) if len({i, j, k}) == 3]
        expected = 2 * (sum(own) / len(own) - sum(rest) / len(rest))
        assert found[i].item() == pytest.approx(expected, abs=1e-5)


def test_groups_too_small() -> None:
    for advantage, least in ((leave_one_out, 2), (group_relative, 2)):
        with pytest.raises(ValueError, match=f"at least {least} rows a context, got a group of 1"):
            advantage(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="at least 3 rows a context, got a group of 2"):
        diversity_advantage(torch.zeros(2, 4, 3).long())
    with pytest.raises(ValueError, match="got a group of 0"):
        leave_one_out(torch.tensor(1.0))
