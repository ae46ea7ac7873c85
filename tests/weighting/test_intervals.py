"""Intervals of log Z: as often right as they say, skewed weights or not."""

import math

import pytest
import torch
from torch.testing import assert_close

from discrete_grad.sampling import normal, seeded
from discrete_grad.student import t_quantile
from discrete_grad.weighting import pareto_k
from discrete_grad.weighting._intervals import (
    _moments,
    _untransformed,
    hall_interval,
    largest_k,
    log_z_with_interval,
)
from discrete_grad.weighting.draws import log_mean_exp


def test_the_transformation_is_inverted():
    t = torch.linspace(-3, 3, 25, dtype=torch.float64)
    for a in (-0.4, 0.3, 1.0):
        x = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
        assert_close(_untransformed(x, torch.full_like(x, a)), t)
    assert_close(_untransformed(t, torch.zeros_like(t)), t)


def test_moments_are_those_of_the_weights():
    log_weights = normal((30, 2), generator=seeded(0)).double()
    w = log_weights.exp()
    error, skewness = _moments(log_weights + 700)
    assert_close(error, w.std(0) / math.sqrt(30) / w.mean(0))
    cube = (w - w.mean(0)).pow(3).mean(0) / w.var(0, correction=0).pow(1.5)
    assert_close(skewness, cube / math.sqrt(30))


def test_the_ends_are_where_the_transformed_mean_is_a_quantile():
    log_weights = normal((30, 2), generator=seeded(2)).double()
    error, a = _moments(log_weights)
    log_z, ends = log_mean_exp(log_weights), hall_interval(log_weights)
    for end, sign in zip(ends, (1, -1), strict=True):
        t = (1 - (end - log_z).exp()) / error
        transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
        assert_close(transformed, torch.full_like(t, sign * t_quantile(0.95, 29)))


@pytest.mark.parametrize(("spread", "least"), [(0.5, 0.935), (1.0, 0.91)])
def test_skewed_weights_are_covered(spread, least):
    """Log-normal weights, mean 1, where the delta method holds 88 % of the runs at spread 1."""
    noise = normal((40, 20_000), generator=seeded(1)).double()
    log_weights = spread * noise - spread**2 / 2
    log_z, (low, high) = log_z_with_interval(log_weights, torch.zeros(20_000))
    held = ((low <= 0) & (high >= 0)).double().mean()
    assert least < held < 0.97
    w = log_weights.exp()
    margin = 1.96 * w.std(0) / math.sqrt(40) / w.mean(0)
    assert held > ((log_z - margin <= 0) & (log_z + margin >= 0)).double().mean() + 0.005
    assert (low < log_z).all()
    assert (log_z < high).all()


def test_without_a_variance_it_has_a_lower_end_alone():
    log_weights = normal((100, 4), generator=seeded(3))
    shape = torch.tensor([-math.inf, 0.5, 0.5001, math.inf]).double()
    log_z, (low, high) = log_z_with_interval(log_weights, shape)
    assert_close((low[:2], high[:2]), hall_interval(log_weights[:, :2]))
    assert_close(low[2:], log_z[2:] - math.log(40))
    assert (high[2:] == math.inf).all()
    assert_close(log_z, log_mean_exp(log_weights))


@pytest.mark.parametrize(
    ("count", "spread", "hall", "finite"),
    [(64, 0.3, 0.95, 0.9), (64, 4, 0.31, 0), (256, 3, 0.8, 0)],
)
def test_weights_of_any_spread_are_covered(count, spread, hall, finite):
    """Log-normal ones, of which Hall's interval alone holds the truth far too seldom."""
    log_weights = spread * normal((count, 1000), generator=seeded(4)) - spread**2 / 2
    _, ends = log_z_with_interval(log_weights, pareto_k(log_weights))
    assert held(ends) > 0.93
    assert held(hall_interval(log_weights)) == pytest.approx(hall, abs=0.03)
    assert ends[1].isfinite().double().mean() == pytest.approx(finite, abs=0.07)


def held(ends):
    return ((ends[0] <= 1e-9) & (ends[1] >= -1e-9)).double().mean()


@pytest.mark.parametrize(("count", "k"), [(1, -math.inf), (10, 0.0), (100, 0.5), (2200, 0.7)])
def test_few_weights_bear_a_smaller_k(count, k):
    assert largest_k(count) == pytest.approx(k, abs=1e-3)
    assert largest_k(10**6) == 0.7


def test_the_lower_end_is_as_sharp_as_no_law_can_break():
    """One weight in 40 is worth all, and the end is the truth; at 41 it is missed by that one."""
    for odds, missed in ((40, 0.0), (41, 1 / 41)):
        log_weights = torch.full((1, odds), -math.inf)
        log_weights[0, 0] = math.log(odds)  # every outcome once, as likely as any other
        _, (low, _) = log_z_with_interval(log_weights, pareto_k(log_weights))
        assert (low > 1e-6).double().mean() == pytest.approx(missed)
    assert missed < 0.025


def test_it_is_finite_whatever_the_weights():
    one = torch.full((20,), -math.inf)
    one[3] = 700.0
    log_z, (low, high) = log_mean_exp(one), hall_interval(one)
    assert low.isfinite()
    assert high.isfinite()
    assert low < log_z < high
    log_z, (low, high) = log_z_with_interval(torch.full((20, 3), -800.3), torch.zeros(3))
    assert_close(low, log_z)
    assert_close(high, log_z)
    low, high = hall_interval(torch.zeros(1, 3))
    assert (low == -math.inf).all()
    assert (high == math.inf).all()
