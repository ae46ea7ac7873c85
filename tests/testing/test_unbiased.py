"""`assert_unbiased` does not cry wolf, finds what it says it finds, and says what it found."""

from __future__ import annotations

import itertools
import math
import re

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace, GumbelSoftmax, LeaveOneOut, Reinforce, StraightThrough
from discrete_grad.testing import assert_unbiased, exact_gradient, row_function, statistics
from discrete_grad.testing.statistics import Plan, Sampler, compare_mean
from discrete_grad.testing.unbiased import default_detects
from tests.testing.bugs import NForNMinusOne

SPACE = CategoricalSpace({"cut": ["fair", "good"], "colour": 3})
LOGITS = torch.tensor([0.3, -0.4, 0.9, -0.2, 0.1], dtype=torch.float64)
F = row_function(SPACE, "cubic")
ZERO = torch.zeros(2, dtype=torch.float64)


def normal(shift: float = 0.0) -> Sampler:
    def sampler(count: int, seed: int) -> Tensor:
        noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
        return noise.double() + torch.tensor([0.0, shift])

    return sampler


def skewed(count: int, seed: int) -> Tensor:
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return -u.log() - 1  # exponential, skewness 2


def rate(sampler: Sampler, *, false_alarm: float, power: float, runs: int = 300) -> float:
    failed = 0
    for seed in range(runs):
        plan = Plan(detects=0.1, false_alarm=false_alarm, power=power, seed=seed)
        failed += bool(compare_mean(sampler, ZERO, plan).failed.any())
    return failed / runs


# binomial with 300 runs: 5 standard deviations on either side
@pytest.mark.parametrize("sampler", [normal(), skewed], ids=["normal", "skewed"])
def test_false_alarms_are_as_rare_as_stated(sampler: Sampler) -> None:
    assert rate(sampler, false_alarm=0.05, power=0.9) <= 0.05 + 5 * (0.05 * 0.95 / 300) ** 0.5


def test_the_discrepancy_is_found_as_often_as_stated() -> None:
    assert rate(normal(0.1), false_alarm=1e-6, power=0.9) >= 0.9 - 5 * (0.9 * 0.1 / 300) ** 0.5


def test_a_discrepancy_half_as_large_is_not_always_found() -> None:
    # so that the power reported is about what is found, and not a lower bound without content
    assert rate(normal(0.05), false_alarm=1e-6, power=0.9) < 0.5


def test_the_plan_is_kept() -> None:
    plan = Plan(detects=0.05, false_alarm=1e-9, power=0.999)
    test = compare_mean(normal(), ZERO, plan)
    assert test.false_alarm <= 1e-9
    assert test.power >= 0.999
    assert test.detects == 0.05
    # (z(1e-9 / 4) + z(0.001))^2 / 0.05^2, and a margin of a tenth
    assert 34_000 < test.samples < 45_000


def normal_quantile(tail: float) -> float:
    return -torch.special.ndtri(torch.tensor(tail).double()).item()


@pytest.mark.parametrize("expected", [0.0, 5.0])
def test_each_figure_by_its_formula(expected: float) -> None:
    """Of skewed draws, whose spread differs from component to component."""
    calls: list[tuple[int, int]] = []
    scale = torch.tensor([1.0, 3.0]).double()

    def sampler(count: int, seed: int) -> Tensor:
        calls.append((count, seed))
        return scale * skewed(count, seed) + expected

    plan = Plan(detects=0.5, false_alarm=1e-4, power=0.99, seed=2)
    test = compare_mean(sampler, ZERO + expected, plan)
    away, near = normal_quantile(1e-4 / 4), normal_quantile(0.01)
    pilot = sampler(2000, 2_000_006).std(0, correction=0).max().item()
    assert calls.pop() == calls.pop(0) == (2000, 2_000_006)  # the pilot
    first = 1.1 * ((away + near) * pilot / 0.5) ** 2
    assert [seed for _, seed in calls] == list(range(2_000_007, 2_000_007 + len(calls)))
    assert calls[0][0] == max(2000, math.ceil(first))
    draws = sampler(*calls[-1]) - expected
    assert len(draws) == test.samples
    error = draws.std(0, correction=0) / len(draws) ** 0.5
    torch.testing.assert_close(test.estimated, draws.mean(0) + expected)
    torch.testing.assert_close(test.error, error)
    assert test.threshold == pytest.approx(0.5 * away / (away + near))
    z = test.threshold / error
    third = ((draws - draws.mean(0)) ** 3).mean(0) / draws.std(0, correction=0) ** 3
    capped = z.clamp_max(away + 2)
    correction = (third.abs() * capped**3 / (6 * len(draws) ** 0.5)).exp()
    alarm = (2 * torch.special.ndtr(-capped) * correction).sum().item()
    assert test.false_alarm == pytest.approx(alarm)
    power = torch.special.ndtr((0.5 - test.threshold) / error.max()).item()
    assert test.power == pytest.approx(power)
    assert test.false_alarm <= 1e-4
    assert test.power >= 0.99


@pytest.mark.parametrize("settles", [True, False])
def test_where_fresh_draws_spread_more_a_fifth_more_are_taken_each_time(
    settles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round goes by the spread of the one before it."""
    monkeypatch.setattr(statistics, "CHUNK", 10**9)
    counts: list[int] = []
    scales = [1.0, 1.5, 1.5] if settles else [1.7**round_ for round_ in range(7)]

    def sampler(count: int, seed: int) -> Tensor:
        counts.append(count)
        signs = torch.arange(count).remainder(2).mul(2).sub(1).double()
        return (scales[len(counts) - 1] * signs).unsqueeze(1)

    plan = Plan(detects=0.14, false_alarm=1e-4, power=0.99, max_samples=10**7)
    if settles:
        assert compare_mean(sampler, ZERO[:1], plan).samples > 2000
    else:
        with pytest.raises(ValueError, match="the spread of the gradient does not settle"):
            compare_mean(sampler, ZERO[:1], plan)
    distance = normal_quantile(1e-4 / 2) + normal_quantile(0.01)
    wanted = [1.1 * 1.2**k * (distance * scale / 0.14) ** 2 for k, scale in enumerate(scales)]
    assert counts == [2000, *map(math.ceil, wanted[:-1])]


def test_a_true_gradient_of_0_has_a_tenth_of_1_to_be_found() -> None:
    assert default_detects(ZERO) == 0.1
    assert default_detects(torch.tensor([0.2, -3.0])) == pytest.approx(0.3)


def test_many_draws_come_in_parts_of_ten_thousand() -> None:
    calls: list[tuple[int, int]] = []

    def sampler(count: int, seed: int) -> Tensor:
        calls.append((count, seed))
        return 5 * normal()(count, seed)

    test = compare_mean(sampler, ZERO, Plan(detects=0.3, false_alarm=1e-6, power=0.9))
    assert calls[0] == (2000, 0)
    assert [count for count, _ in calls[1:-1]] == [10_000] * (len(calls) - 2)
    assert calls[-1][0] == test.samples - 10_000 * (len(calls) - 2)
    assert 10_000 < test.samples < 20_000


def test_a_rare_large_number_is_not_overlooked() -> None:
    # the pilot sees next to nothing of it, the second stage does, and asks for more
    def rare(count: int, seed: int) -> Tensor:
        u = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
        return torch.where(u < 1e-4, 100.0, 0.0).double() - 0.01

    with pytest.raises(ValueError, match="more than max_samples=100,000"):
        compare_mean(rare, ZERO, Plan(detects=0.01, max_samples=100_000))


def test_components_without_spread() -> None:
    def constant(count: int, seed: int) -> Tensor:
        return torch.tensor([0.0, 1e-17]).double().expand(count, -1)

    test = compare_mean(constant, ZERO, Plan(detects=0.1))
    assert not test.failed.any()
    assert test.power == 1
    assert compare_mean(constant, ZERO + 1, Plan(detects=0.1)).failed.all()


@pytest.mark.parametrize("expected", [0.0, 5.0])
def test_a_spread_that_is_only_rounding_has_no_shape(expected: float) -> None:
    mean = torch.full((2,), expected, dtype=torch.float64)
    for spread, skewness in ((0.8e-7, 0), (1.2e-7, 2)):
        unit = spread * (1 + expected)

        def sampler(count: int, seed: int, unit: float = unit) -> Tensor:
            return expected + unit * skewed(count, seed)

        moments = statistics._sample(sampler, mean, 10_000, itertools.count())
        torch.testing.assert_close(moments.deviation, ZERO + unit, rtol=0.1, atol=0)
        torch.testing.assert_close(moments.skewness, ZERO + skewness, rtol=0.2, atol=0)


def test_not_a_number_fails() -> None:
    def broken(count: int, seed: int) -> Tensor:
        return torch.full((count, 2), torch.nan, dtype=torch.float64)

    assert compare_mean(broken, ZERO, Plan(detects=0.1)).failed.all()


@pytest.mark.parametrize("method", [LeaveOneOut(SPACE), Reinforce(SPACE, samples=2)])
def test_unbiased_methods_pass(method: LeaveOneOut) -> None:
    test = assert_unbiased(method, F, LOGITS)
    assert test.power >= 0.999
    assert test.false_alarm <= 1e-9
    assert test.detects == pytest.approx(0.1 * exact_gradient(F, LOGITS, SPACE).abs().max().item())


@pytest.mark.parametrize(
    "method", [NForNMinusOne(SPACE), StraightThrough(SPACE), GumbelSoftmax(SPACE, tau=0.5)]
)
def test_biased_methods_fail_with_everything_one_wants_to_know(method: LeaveOneOut) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_unbiased(method, F, LOGITS, seed=5)
    message = str(caught.value)
    assert message.startswith(f"the gradient of {type(method).__name__} is biased:")
    number = r"-?\d+\.\d+"
    end = (
        r"\n  [\d,]+ samples, seed=5; a component fails if it is off by more than [\d.]+, which "
        r"happens to an unbiased method with probability \d+e-\d+ and to a bias of [\d.]+ with "
        r"(0\.99\d\d|1\.0000)$"
    )
    assert re.search(end, message), message
    line = rf"feature 'c\w+', category '\w+': expected gradient {number}, estimated {number} \+- "
    assert re.search(line, message)
    assert re.search(r"[\d,]+ samples, seed=5; .* with probability .* to a bias of", message)


def test_the_worst_components_come_first_and_the_others_are_counted() -> None:
    off = torch.tensor([1.0, -1.5, 2.0, 0.0, 0.5]).double()
    wrong = exact_gradient(F, LOGITS, SPACE) + off
    with pytest.raises(AssertionError) as caught:
        assert_unbiased(LeaveOneOut(SPACE), F, LOGITS, expected=wrong, detects=0.2)
    lines = str(caught.value).splitlines()
    named = [line.split(": ")[0] for line in lines[1:4]]
    assert named == [
        "  feature 'colour', category '0'",
        "  feature 'cut', category 'good'",
        "  feature 'cut', category 'fair'",
    ]
    assert lines[4] == "  and 1 more"
    assert len(lines) == 6
    three = exact_gradient(F, LOGITS, SPACE) + off.index_fill(0, torch.tensor([4]), 0)
    with pytest.raises(AssertionError) as caught:
        assert_unbiased(LeaveOneOut(SPACE), F, LOGITS, expected=three, detects=0.2)
    assert "more" not in str(caught.value).splitlines()[4].split("samples")[0]


def test_categories_have_their_names() -> None:
    wrong = exact_gradient(F, LOGITS, SPACE) + torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    with pytest.raises(AssertionError, match="feature 'cut', category 'good'"):
        assert_unbiased(LeaveOneOut(SPACE), F, LOGITS, expected=wrong)


def test_a_smaller_bias_needs_more_samples_and_says_so() -> None:
    method = LeaveOneOut(SPACE)
    rough, fine = (assert_unbiased(method, F, LOGITS, detects=d) for d in (0.3, 0.1))
    assert fine.samples > 5 * rough.samples
    with pytest.raises(ValueError, match=r"samples are needed to find a discrepancy of 0\.0001"):
        assert_unbiased(method, F, LOGITS, detects=1e-4)


def test_the_seed_decides_and_the_method_keeps_its_state() -> None:
    method = Reinforce(SPACE)
    before = torch.get_rng_state()
    first, again, other = (assert_unbiased(method, F, LOGITS, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.estimated, again.estimated)
    assert not torch.equal(first.estimated, other.estimated)
    assert torch.equal(before, torch.get_rng_state())
    assert method.weight == 0


@pytest.mark.parametrize(
    "options", [{"detects": 0.0}, {"detects": -1.0}, {"false_alarm": 0.0}, {"power": 1.0}]
)
def test_bad_plans(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must"):
        assert_unbiased(LeaveOneOut(SPACE), F, LOGITS, **options)
