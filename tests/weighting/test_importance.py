"""Importance sampling: unbiased, honest about itself, and the law of what it resamples."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad.sampling import seeded, uniform
from discrete_grad.testing._goodness import g_test
from discrete_grad.weighting import (
    RewardWeighted,
    WeightedSamples,
    effective_size,
    importance_sampling,
    pareto_k,
)
from discrete_grad.weighting.best_of_n import soft_best_of_n, soft_best_of_n_law
from discrete_grad.weighting.draws import inverse_draw, normalised, systematic_draw
from discrete_grad.weighting.importance import _pareto_shape, resampled_importance
from discrete_grad.weighting.metropolis import metropolis
from tests.goodness import FALSE_ALARM
from tests.weighting.worlds import SPACE, TableReference, context, numbers, world

BATCH = context(0, 1)


@given(seed=st.integers(0, 2**31))
def test_weights_sum_to_one_and_average_as_weights_do(seed):
    samples = importance_sampling(world(seed % 50), BATCH, 64, generator=seeded(seed))
    assert samples.codes.shape == (64, 2, 3)
    assert_close(samples.weights.sum(0), torch.ones(2).double())
    assert (samples.effective_size >= 1).all()
    assert (samples.effective_size <= 64 + 1e-9).all()
    values = samples.codes.double()
    assert_close(samples.expectation(values), (samples.weights.unsqueeze(-1) * values).sum(0))


@pytest.mark.parametrize("other", [False, True], ids=["reference", "proposal"])
def test_it_finds_log_z_and_expectations(other):
    target = world(11, masked=not other)
    proposal = TableReference(SPACE, numbers((12, 2), 99) / 3) if other else None
    samples = importance_sampling(target, BATCH, 40_000, proposal=proposal, generator=seeded(1))
    exact = target.exact(BATCH)
    # 5 standard errors: false alarm below 1e-6
    low, high = samples.log_z_interval
    margin = (high - low) / 2 * 5 / 1.96
    assert ((samples.log_z - exact.log_z).abs() < margin).all()
    assert (margin < 0.2).all()
    share = (samples.codes[..., 1] == 0).double()
    wanted = exact.expectation((exact.codes[:, 1] == 0).double().unsqueeze(-1).expand(-1, 2))
    assert_close(samples.expectation(share), wanted, atol=0.05, rtol=0)
    assert samples.evaluations == 40_000


def test_its_estimate_of_z_is_unbiased_and_its_interval_covers():
    target, runs = world(12), 4000
    batch = torch.zeros(runs, 1, dtype=torch.float64)
    samples = importance_sampling(target, batch, 50, generator=seeded(2))
    truth = target.exact(batch[:1]).log_z
    ratio = (samples.log_z - truth).exp()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(runs)
    low, high = samples.log_z_interval
    covered = ((low < truth) & (truth < high)).double().mean()
    assert 0.85 < covered < 0.99


def test_resampling_one_row_is_a_soft_best_of_n():
    target, runs = world(13, masked=True, tables=1), 20_000
    batch = torch.zeros(runs, 1, dtype=torch.float64)
    pool = 60  # a pool without any allowed row is an error
    samples = resampled_importance(target, batch, 1, pool=pool, generator=seeded(3))
    exact = target.exact(batch[:1])
    law = soft_best_of_n_law(exact.log_reference, exact.reward, target.beta, pool).exp()[:, 0]
    counts = SPACE.row_number(samples.codes[0]).bincount(minlength=SPACE.num_rows)
    assert g_test(counts, law) > FALSE_ALARM
    assert_close(samples.weights, torch.ones(1, runs).double())
    assert samples.evaluations == pool


def test_a_pool_is_drawn_from_the_proposal():
    table = torch.full((12, 2), -math.inf)
    table[5] = 0
    proposal = TableReference(SPACE, table)
    found = resampled_importance(world(13), BATCH, 8, pool=32, proposal=proposal)
    assert (SPACE.row_number(found.codes) == 5).all()


def test_a_context_without_an_allowed_row_is_named():
    table = torch.zeros(12, 2, dtype=torch.float64)

    def reward(codes, context):
        return torch.where(context[..., 0] == 1, -math.inf, codes[..., 0].double())

    target = RewardWeighted(TableReference(SPACE, table), reward, 1.0)
    for sampler in (importance_sampling, resampled_importance):
        with pytest.raises(ValueError, match=r"context \(1,\): all .* forbidden"):
            sampler(target, BATCH, 16)
    with pytest.raises(ValueError, match="count"):
        importance_sampling(target, BATCH, 0)


# --- the diagnostic -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.3, 0.7, 1.2])
def test_pareto_k_is_that_of_a_generalised_pareto_distribution(k):
    p = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tail = -torch.log1p(-p) if k == 0 else torch.expm1(-k * torch.log1p(-p)) / k
    # the tail of a generalised Pareto distribution has its own shape
    assert abs(pareto_k(tail.clamp_min(1e-300).log()) - k) < 0.1


def test_pareto_k_is_drawn_towards_a_half_by_ten_observations():
    ordered = uniform((200,), generator=seeded(3)).sort().values
    tail = ordered[-40:] - ordered[-41]
    expected = (40 * _pareto_shape(tail / ordered[-1]) + 10 * 0.5) / 50
    assert_close(pareto_k(ordered.log()), expected)


@pytest.mark.parametrize("count", [5, 6, 9, 40, 43])
def test_the_shape_is_that_of_the_paper_in_loops(count):
    """Zhang and Stephens (2009), whose order statistics x[1] <= ... <= x[n] count from 1."""
    drawn = uniform((count,), generator=seeded(count)).double()
    x = [0.0, *(drawn**-0.7 - 0.9).sort().values.tolist()]
    quartile, m = x[math.floor(count / 4 + 0.5)], 30 + math.floor(count**0.5)
    theta = [1 / x[-1] + (1 - math.sqrt(m / (j - 0.5))) / (3 * quartile) for j in range(1, m + 1)]

    def shape(b):
        return sum(math.log1p(-b * value) for value in x[1:]) / count

    logs = [count * (math.log(-b / shape(b)) - shape(b) - 1) for b in theta]
    likely = [1 / sum(math.exp(other - own) for other in logs) for own in logs]
    best = sum(b * weight for b, weight in zip(theta, likely, strict=True))
    found = _pareto_shape(torch.tensor(x[1:], dtype=torch.float64))
    assert float(found) == pytest.approx(shape(best), rel=1e-6)


def test_pareto_k_knows_no_unit_and_no_order():
    log_weights = 2 * torch.randn(500, 3, generator=seeded(4), dtype=torch.float64)
    k = pareto_k(log_weights)
    assert_close(pareto_k(log_weights + 1e3), k)
    assert_close(pareto_k(log_weights.flip(0)), k)
    assert_close(pareto_k(log_weights[:, 1]), k[1])


def test_pareto_k_says_when_there_is_nothing_to_fit():
    assert pareto_k(torch.zeros(100)) == -math.inf
    assert pareto_k(torch.zeros(3)) == math.inf
    one = torch.zeros(100)
    one[7] = 9.0
    assert pareto_k(one) == math.inf
    assert pareto_k(torch.full((100,), -math.inf)) == -math.inf
    assert pareto_k(torch.zeros(100, 2, 3)).shape == (2, 3)


def test_it_warns_of_a_small_beta():
    gentle, harsh = (
        importance_sampling(world(14, beta=beta), context(0), 1000, generator=seeded(5))
        for beta in (5.0, 0.15)
    )
    assert gentle.effective_size > 5 * harsh.effective_size


# --- draws ----------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**31))
def test_draws_are_proportional_to_the_weights(seed):
    weights = numbers((7, 3), seed, masked=True)
    steps = torch.linspace(0, 1, 4001, dtype=torch.float64)[:-1]
    index = inverse_draw(weights, steps.unsqueeze(-1).expand(-1, 3))
    for i in range(3):
        share = index[:, i].bincount(minlength=7) / 4000
        assert_close(share.double(), weights[:, i].softmax(0), atol=1e-3, rtol=0)
        assert not share[weights[:, i] == -math.inf].any()


def test_noise_at_its_ends_draws_no_weight_of_nothing():
    weights = torch.tensor([0.0, 0.3, 0.7, 0.0]).log()
    ends = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert inverse_draw(weights, ends).tolist() == [1, 2]


@given(seed=st.integers(0, 2**31))
def test_a_systematic_draw_gives_each_its_share_rounded(seed):
    weights = numbers((7, 3), seed, masked=True)
    offset = uniform((3,), generator=seeded(seed))
    index = systematic_draw(weights, offset)
    for i in range(3):
        children, wanted = index[:, i].bincount(minlength=7), 7 * weights[:, i].softmax(0)
        assert (children >= wanted.floor() - 1e-9).all() or (children - wanted).abs().max() < 1
        assert (children - wanted).abs().max() < 1 + 1e-9


def test_a_systematic_draw_is_unbiased():
    weights = torch.tensor([0.5, 0.0, 0.1, 0.4]).double().log()
    offsets = (torch.arange(1000).double() + 0.5) / 1000
    index = systematic_draw(weights.unsqueeze(-1).expand(-1, 1000), offsets)
    assert_close(index.flatten().bincount(minlength=4) / 4000, weights.exp().float())


def test_the_effective_size():
    assert effective_size(torch.tensor([0.0, -math.inf])) == 1
    assert effective_size(torch.full((3,), -math.inf)) == 0
    assert_close(effective_size(torch.full((9,), 1e5)), torch.tensor(9.0).double())
    samples = WeightedSamples(torch.zeros(2, 1).long(), torch.tensor([0.0, -math.inf]), 2)
    assert samples.expectation(torch.tensor([3.0, math.inf])) == 3


@pytest.mark.parametrize("size", [1.0, 1e6, 3e17, 1e30])
def test_weights_of_any_size_sum_to_one(size):
    log_weights = size * torch.tensor([[1.0, 2.0], [1.1, 2.0], [1.1, -torch.inf]])
    weights = normalised(log_weights).exp()
    assert_close(weights.sum(0), torch.ones(2, dtype=torch.float64))


class SamePool(TableReference):
    """Draws the rows in their order, in every context the same."""

    def sample(self, context=None, count=1, *, generator=None):
        rows = self.space.enumerate()[torch.arange(count) % self.space.num_rows]
        return rows.unsqueeze(1).expand(-1, len(context), -1)


@pytest.mark.parametrize("sampler", ["resampled importance", "soft best of n", "metropolis"])
def test_every_context_has_noise_of_its_own(sampler):
    """Contexts that are equal, down to the rows among which is chosen, get different rows."""
    batch, noise = context(*[0] * 8), seeded(0)
    target = RewardWeighted(SamePool(SPACE, numbers((12, 2), 3)), world(3).reward, 1.0)
    if sampler == "resampled importance":
        found = resampled_importance(target, batch, 16, pool=24, generator=noise)
    elif sampler == "soft best of n":
        found = soft_best_of_n(target, batch, 16, n=12, generator=noise)
    else:
        found = metropolis(target, batch, count=16, steps=20, generator=noise)
    assert len(found.codes.unique(dim=1)[0]) == 8
