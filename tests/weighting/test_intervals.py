"""Intervals of log Z: as often right as they say, skewed weights or not."""

import math

import pytest
import torch
from torch.testing import assert_close

from discrete_grad.sampling import normal, seeded
from discrete_grad.weighting.intervals import (
    _moments,
    _untransformed,
    log_z_with_interval,
    student_95,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (100, 1.9840)],
)
def test_students_quantile(freedom, quantile):
    assert abs(student_95(freedom) / quantile - 1) < 2e-3


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
    log_z, ends = log_z_with_interval(log_weights)
    for end, sign in zip(ends, (1, -1), strict=True):
        t = (1 - (end - log_z).exp()) / error
        transformed = t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6
        assert_close(transformed, torch.full_like(t, sign * student_95(29)))


@pytest.mark.parametrize(("spread", "least"), [(0.5, 0.935), (1.0, 0.91)])
def test_skewed_weights_are_covered(spread, least):
    """Log-normal weights, mean 1, where the delta method holds 88 % of the runs at spread 1."""
    noise = normal((40, 20_000), generator=seeded(1)).double()
    log_weights = spread * noise - spread**2 / 2
    log_z, (low, high) = log_z_with_interval(log_weights)
    held = ((low <= 0) & (high >= 0)).double().mean()
    assert least < held < 0.97
    w = log_weights.exp()
    margin = 1.96 * w.std(0) / math.sqrt(40) / w.mean(0)
    assert held > ((log_z - margin <= 0) & (log_z + margin >= 0)).double().mean() + 0.005
    assert (low < log_z).all()
    assert (log_z < high).all()


def test_it_is_finite_whatever_the_weights():
    one = torch.full((20,), -math.inf)
    one[3] = 700.0
    log_z, (low, high) = log_z_with_interval(one)
    assert low.isfinite()
    assert high.isfinite()
    assert low < log_z < high
    log_z, (low, high) = log_z_with_interval(torch.full((20, 3), -800.3))
    assert_close(low, log_z)
    assert_close(high, log_z)
    _, (low, high) = log_z_with_interval(torch.zeros(1, 3))
    assert (low == -math.inf).all()
    assert (high == math.inf).all()
