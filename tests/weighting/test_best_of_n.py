"""Best of n: the laws against every possible pool, the samplers against the laws."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad.sampling import seeded
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import best_of_n, soft_best_of_n, tilt
from discrete_grad.weighting._intervals import largest_k
from discrete_grad.weighting.best_of_n import best_of_n_law, soft_best_of_n_law
from discrete_grad.weighting.tilt import coldest, table_kl
from tests.goodness import FALSE_ALARM
from tests.kept_numbers import cut_small
from tests.weighting.worlds import SPACE, context, numbers, world


def by_hand(log_p, reward, n, choose):
    """Sum over all pools of n rows of their probability times `choose(rewards)` `(n,)`."""
    p, law = log_p.exp(), torch.zeros_like(log_p)
    for pool in itertools.product(range(len(p)), repeat=n):
        index = torch.tensor(pool)
        law = law.index_add(0, index, p[index].prod() * choose(reward[index]))
    return law


def hard(rewards):
    return torch.eye(len(rewards)).double()[rewards.argmax()]


def soft(rewards):
    return (
        rewards.softmax(0) if rewards.max() > -math.inf else torch.full_like(rewards, 1).softmax(0)
    )


@st.composite
def tables(draw):
    shape, seed = (4, 2), draw(st.integers(0, 2**31))
    log_p = numbers(shape, seed, masked=draw(st.booleans())).log_softmax(0)
    return log_p, numbers(shape, seed + 1, masked=draw(st.booleans()))


@given(case=tables(), n=st.integers(1, 4))
def test_the_hard_law_is_that_of_all_pools(case, n):
    log_p, reward = case
    law = best_of_n_law(log_p, reward, n).exp()
    for i in range(2):
        assert_close(law[:, i], by_hand(log_p[:, i], reward[:, i], n, hard))
    assert_close(law.sum(0), torch.ones(2).double())


@given(case=tables(), n=st.integers(1, 4), beta=st.sampled_from([0.02, 0.5, 3.0]))
def test_the_soft_law_is_that_of_all_pools(case, n, beta):
    log_p, reward = case
    law = soft_best_of_n_law(log_p, reward, beta, n).exp()
    for i in range(2):
        expected = by_hand(log_p[:, i], reward[:, i] / beta, n, soft)
        assert_close(law[:, i], expected, rtol=1e-10, atol=1e-14)
    assert_close(law.sum(0), torch.ones(2).double())


@given(case=tables(), n=st.sampled_from([1, 2, 16, 1000]))
def test_the_divergence_stays_below_its_bound(case, n):
    log_p, reward = case
    kl = table_kl(best_of_n_law(log_p, reward, n), log_p)
    assert (kl <= math.log(n) - (n - 1) / n + 1e-9).all()


def test_equal_rewards_leave_the_reference():
    log_p = torch.tensor([0.5, 0.3, 0.2]).double().log()
    for n in (1, 2, 100):
        assert_close(best_of_n_law(log_p, torch.ones(3), n), log_p)
        assert_close(soft_best_of_n_law(log_p, torch.ones(3), 1.0, n), log_p)


def test_the_law_is_the_same_with_few_nodes_of_the_integral_at_a_time(monkeypatch):
    log_p, reward = numbers((6, 2), 0).log_softmax(0), numbers((6, 2), 1)
    law = soft_best_of_n_law(log_p, reward, 0.5, 5)
    cut_small(monkeypatch, "weighting", {"best_of_n._NODES": 7 * len(log_p)})
    assert_close(soft_best_of_n_law(log_p, reward, 0.5, 5), law, rtol=1e-12, atol=0)


def test_the_limits_of_the_soft_law():
    log_p, reward = numbers((5, 1), 1).log_softmax(0), numbers((5, 1), 2)
    assert_close(
        soft_best_of_n_law(log_p, reward, 1e-5, 7).exp(), best_of_n_law(log_p, reward, 7).exp()
    )
    assert_close(
        soft_best_of_n_law(log_p, reward, 1.0, 10**7).exp(),
        tilt(log_p, reward, 1.0).exp(),
        atol=1e-4,
        rtol=0,
    )
    assert_close(best_of_n_law(log_p, reward, 10**9).exp(), coldest(log_p, reward).exp())
    with pytest.raises(ValueError, match="best_of_n_law"):
        soft_best_of_n_law(log_p, reward, 1e-9, 2)


def test_small_masses_keep_their_digits():
    log_p = torch.tensor([-1e-30, -700.0, -800.0]).double()
    law = best_of_n_law(log_p, torch.tensor([0.0, 1.0, 2.0]), 3)
    assert_close(law[1:], log_p[1:] + math.log(3))


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_the_samplers_follow_their_laws(soft):
    target, n = world(21, masked=not soft), 3
    exact = target.exact(context(0, 1))
    if soft:
        law = soft_best_of_n_law(exact.log_reference, exact.reward, target.beta, n)
        samples = soft_best_of_n(target, context(0, 1), 20_000, n=n, generator=seeded(0))
        low, high = samples.log_z_interval
        assert ((low < exact.log_z + 0.02) & (exact.log_z - 0.02 < high)).all()
    else:
        law = best_of_n_law(exact.log_reference, exact.reward, n)
        samples = best_of_n(target, context(0, 1), 20_000, n=n, generator=seeded(0))
        assert samples.log_z is None
    assert samples.evaluations == 60_000
    assert_close(samples.weights.sum(0), torch.ones(2).double())
    for i in range(2):
        counts = SPACE.row_number(samples.codes[:, i]).bincount(minlength=SPACE.num_rows)
        assert g_test(counts, law[:, i].exp()) > FALSE_ALARM


def test_the_interval_is_that_of_importance_sampling():
    target, drawn = world(21, beta=0.1), context(0, 1)
    samples = soft_best_of_n(target, drawn, 16, n=16, generator=seeded(0))
    assert samples.log_z is not None
    low, high = samples.log_z_interval
    unsure = samples.diagnostics["pareto_k"] > largest_k(256)
    assert unsure.any()
    assert torch.equal(high.isinf(), unsure)
    assert_close(low[unsure], samples.log_z[unsure] - math.log(40))


def test_a_pool_has_a_row():
    for call in (best_of_n, soft_best_of_n):
        with pytest.raises(ValueError, match="n must be"):
            call(world(0), context(0), n=0)
        with pytest.raises(ValueError, match="count must be"):
            call(world(0), context(0), 0)
    with pytest.raises(ValueError, match="n must be"):
        best_of_n_law(torch.zeros(2), torch.zeros(2), 0)
