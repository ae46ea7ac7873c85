"""A test of the mean of a sample that knows its power before it runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MeanTest", "Plan", "Sampler", "compare_mean"]

Sampler = Callable[[int, int], Tensor]
"""(n, seed) -> n independent draws `(n, D)`."""

PILOT = 2_000
CHUNK = 10_000
ROUNDS = 6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Promise of a test of means.

    Args:
        detects: discrepancy in any one component that must be found.
        false_alarm: chance that a right mean fails, over the seed.
        power: chance that a discrepancy of `detects` fails.
        max_samples: draws that may be taken.
        seed: of the draws.
    """

    detects: float
    false_alarm: float = 1e-9
    power: float = 0.999
    max_samples: int = 1_000_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.detects > 0:
            raise ValueError(f"detects must be above 0, got {self.detects!r}")
        for name in ("false_alarm", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class MeanTest:
    """Result of a test of means, and the smallest fault that it could have found.

    Args:
        estimated: `(D,)`, the mean of the draws.
        expected: `(D,)`.
        error: `(D,)`, standard error of `estimated`.
        samples: draws behind `estimated`.
        threshold: difference above which a component fails.
        detects: as planned.
        power: computed from the spread of these draws.
        false_alarm: likewise.

    Example:
        >>> from discrete_grad import LeaveOneOut
        >>> from discrete_grad.testing.unbiased import assert_unbiased
        >>> test = assert_unbiased(LeaveOneOut(), lambda rows: rows[..., 0], torch.zeros(3))
        >>> test.power > 0.999, test.false_alarm < 1e-9, test.samples >= 2000
        (True, True, True)
    """

    estimated: Tensor
    expected: Tensor
    error: Tensor
    samples: int
    threshold: float
    detects: float
    power: float
    false_alarm: float

    @property
    def failed(self) -> Tensor:
        """`(D,)`, which components differ; a NaN does."""
        return ~((self.estimated - self.expected).abs() <= self.threshold)


@dataclass(frozen=True)
class _Moments:
    """Of the differences from what is expected, `(D,)` each."""

    count: int
    mean: Tensor
    deviation: Tensor
    skewness: Tensor


def compare_mean(sampler: Sampler, expected: Tensor, plan: Plan) -> MeanTest:
    """Test whether the mean of the draws is `expected` `(D,)`.

    In two stages: a pilot shows the spread, from it follows the number of fresh draws that gives
    the power asked for. If these turn out to spread more, they are thrown away and more are taken.
    The false-alarm rate is that of the normal law with Cramer's correction for skewness.

    Raises:
        ValueError: if more than `plan.max_samples` draws are needed.
    """
    # so far apart that the chunks of two plans share no seed
    seeds = itertools.count(1_000_003 * plan.seed)
    away, near = _quantiles(plan, expected.numel())
    # `away` standard errors from 0 and `near` from `detects`: one count serves both promises
    threshold = plan.detects * away / (away + near)
    moments = _sample(sampler, expected, PILOT, seeds)
    # a tenth more than the pilot says, for its spread is itself an estimate
    for growth in [1.1 * 1.2**round_ for round_ in range(ROUNDS)]:
        count = _needed(moments, plan, away + near, growth)
        moments = _sample(sampler, expected, count, seeds)
        alarm, power = _operating(moments, plan, threshold, away + 2)
        if (alarm <= plan.false_alarm and power >= plan.power) or not moments.mean.isfinite().all():
            break
    else:
        raise ValueError(_too_many(plan, "the spread of the gradient does not settle"))
    return MeanTest(
        estimated=expected + moments.mean,
        expected=expected,
        error=moments.deviation / math.sqrt(count),
        samples=count,
        threshold=threshold,
        detects=plan.detects,
        power=power,
        false_alarm=alarm,
    )


def _quantiles(plan: Plan, components: int) -> tuple[float, float]:
    # two tails of each component share the false alarms (Bonferroni)
    tails = torch.tensor([plan.false_alarm / (2 * components), 1 - plan.power]).double()
    away, near = (-torch.special.ndtri(tails)).tolist()
    return away, max(near, 0.0)


def _sample(sampler: Sampler, expected: Tensor, count: int, seeds: Iterator[int]) -> _Moments:
    sums = torch.zeros(3, *expected.shape, dtype=torch.float64)
    for start in range(0, count, CHUNK):
        # less what is expected: the powers of large numbers would cancel below
        draws = sampler(min(CHUNK, count - start), next(seeds)).double() - expected
        sums += torch.stack([draws.sum(0), (draws**2).sum(0), (draws**3).sum(0)])
    first, second, third = sums / count
    variance = (second - first**2).clamp_min(0)
    deviation = variance.sqrt()
    cubed = third - 3 * first * second + 2 * first**3
    # a spread that is only rounding has no shape
    rounding = deviation <= 1e-7 * (1 + expected.abs())
    skewness = torch.where(rounding, 0, cubed / deviation**3)
    return _Moments(count, first, deviation, skewness)


def _needed(moments: _Moments, plan: Plan, distance: float, growth: float) -> int:
    spread = moments.deviation.nan_to_num().max().item()
    needed = growth * (distance * spread / plan.detects) ** 2
    if needed > plan.max_samples:
        raise ValueError(_too_many(plan, f"{needed:,.0f} samples are needed"))
    return max(PILOT, math.ceil(needed))


def _too_many(plan: Plan, fact: str) -> str:
    return (
        f"{fact} to find a discrepancy of {plan.detects:.3g} with power {plan.power:g} at a "
        f"false-alarm rate of {plan.false_alarm:g}, more than max_samples={plan.max_samples:,}; "
        "raise detects or max_samples, or use a function f with less spread"
    )


def _operating(
    moments: _Moments, plan: Plan, threshold: float, furthest: float
) -> tuple[float, float]:
    """False-alarm rate over all components, and power in the component that spreads most."""
    error = moments.deviation / math.sqrt(moments.count)
    # the rate at fewer standard errors bounds the rate at more, where the correction fails
    z = (threshold / error).clamp_max(furthest)
    correction = moments.skewness.abs() * z**3 / (6 * math.sqrt(moments.count))
    alarm = (2 * torch.special.ndtr(-z) * correction.exp())[error > 0].sum().item()
    worst = error.nan_to_num().max().item()
    distance = (plan.detects - threshold) / worst if worst else math.inf
    return alarm, torch.special.ndtr(torch.tensor(distance, dtype=torch.float64)).item()
