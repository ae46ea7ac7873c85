"""Antithetic draws: each by itself is right, and the law of two is the one weighted by."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import Arms, Carms, CategoricalSpace, Disarm, LeaveOneOut
from discrete_grad.gradient import _antithetic as antithetic
from discrete_grad.gradient import arms, carms, disarm
from discrete_grad.gradient._antithetic import (
    _antithetic_codes,
    _antithetic_uniforms,
    draw_antithetic,
    pair_weights,
)
from tests.goodness import FALSE_ALARM, assert_law, g_test
from tests.gradient import contract
from tests.gradient.cases import BINARY_CASES, BY_NAME, Case, copula_law
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function, seeded
from tests.strategies import random_logits, spaces_and_logits

INF = torch.inf
DOUBLE = (torch.float64,)
THREE = CategoricalSpace({"x": 3})
THREE_LOGITS = torch.tensor([-0.4, 0.9, 0.1], dtype=torch.float64)
CARMS = BY_NAME["Carms(samples=3, independent=0.1)"]


def uniforms(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *shape, generator=seeded(), dtype=torch.float64)


# --- the copula -------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [2, 3, 4, 8])
def test_each_number_is_uniform_and_no_two_are_large(samples: int) -> None:
    numbers = _antithetic_uniforms(uniforms(samples, 20_000))
    assert ((numbers >= 0) & (numbers <= 1)).all()
    for each in numbers:
        cells = (each * 50).long().clamp_max(49).bincount(minlength=50)
        assert g_test(cells, torch.full((50,), 1 / 50)) > FALSE_ALARM
    # (1 - u)^(1 / m) + (1 - v)^(1 / m) >= 1, that is: both above 1 - 2^-m never happens
    high = (numbers > 1 - 0.5 ** (samples - 1)).sum(0)
    assert high.max() == 1


def test_two_numbers_are_opposites() -> None:
    numbers = _antithetic_uniforms(uniforms(2, 1000))
    assert_close(numbers.sum(0), torch.ones(1000, dtype=torch.float64))


def test_the_ends_of_the_noise_are_safe() -> None:
    ends = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    for numbers in torch.cartesian_prod(ends, ends, ends):
        result = _antithetic_uniforms(numbers)
        assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize("independent", [0.0, 0.3, 1.0])
def test_tuples_of_codes_follow_the_law(independent: float) -> None:
    logits = THREE_LOGITS.expand(20_000, -1)
    codes = draw_antithetic(THREE, logits, 3, seeded(), independent)[..., 0]
    counts = (codes[0] * 9 + codes[1] * 3 + codes[2]).bincount(minlength=27)
    law = copula_law(THREE_LOGITS.softmax(-1), 3, independent).flatten().clamp_min(0)
    assert_close(law.sum().item(), 1.0)
    assert g_test(counts, law) > FALSE_ALARM
    # and the test can tell
    other = copula_law(THREE_LOGITS.softmax(-1), 3, abs(independent - 0.2)).flatten().clamp_min(0)
    assert g_test(counts, other) < FALSE_ALARM


def test_every_sample_follows_softmax_jointly_over_the_features() -> None:
    for independent in (0.0, 0.5):
        logits = RAGGED_LOGITS.expand(20_000, -1)
        for codes in draw_antithetic(RAGGED, logits, 4, seeded(), independent):
            assert_law(RAGGED, RAGGED_LOGITS, codes)


# --- the law of two ---------------------------------------------------------------------------


def by_quadrature(s: Tensor, t: Tensor, power: int) -> Tensor:
    """P(u > 1 - s, v > 1 - t), by integrating over the first of N exponential shares.

    The second is a share of what the first one leaves, and Beta(1, N - 2).
    """
    a, b = 1 - s ** (1 / power), 1 - t ** (1 / power)
    points = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    first = a + (1 - b - a).clamp_min(0) * points  # beyond 1 - b nothing is left for the second
    density = power * (1 - first) ** (power - 1)
    second = (1 - b / (1 - first)).clamp_min(0) ** (power - 1)
    return (density * second).mean() * (1 - b - a).clamp_min(0)


@pytest.mark.parametrize("power", [2, 3, 7])
def test_two_numbers_exceed_as_the_formula_says(power: int) -> None:
    grid = torch.tensor([0.05, 0.3, 0.6, 0.9, 0.99], dtype=torch.float64)
    for s, t in torch.cartesian_prod(grid, grid):
        edge = torch.stack([s, t]) ** (1 / power)
        formula = antithetic._exceed(edge, edge, power)[0, 1]
        assert_close(formula, by_quadrature(s, t, power), rtol=1e-5, atol=1e-9)


@given(
    spaces_and_logits(dtypes=DOUBLE, scales=(1.0, 5.0), max_size=5, batches=((),)),
    st.integers(2, 4),
)
def test_weights_are_ratios_of_the_laws(
    space_and_logits: tuple[CategoricalSpace, Tensor], samples: int
) -> None:
    space, logits = space_and_logits
    parts = space.split(space.softmax(logits))
    codes = space.enumerate()[: 3 * samples]
    for start in range(len(codes) - samples + 1):
        chosen = codes[start : start + samples]
        weights = pair_weights(space, logits, chosen, 0.2)
        for i, p in enumerate(parts):
            law = copula_law(p, samples, 0.2).reshape(len(p), len(p), -1).sum(-1)
            for n, a in enumerate(chosen[:, i]):
                for m, b in enumerate(chosen[:, i]):
                    if a == b or p[a] * p[b] == 0:
                        assert weights[n, m, i] == 0
                    else:
                        expected = p[a] * p[b] / law[a, b]
                        assert_close(weights[n, m, i], expected, rtol=1e-4, atol=1e-7)


def test_the_copula_alone_never_draws_some_pairs() -> None:
    # two samples of three categories: the two rarest never meet, a bias without the mixture
    law = copula_law(torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64), 2, 0.0)
    assert law[1, 2].abs() < 1e-15
    mixed = copula_law(torch.tensor([0.4, 0.3, 0.3], dtype=torch.float64), 2, 0.25)
    assert_close(mixed[1, 2].item(), 0.25 * 0.09)


@pytest.mark.parametrize("samples", [2, 3, 4, 10])
def test_weights_of_binary_features_are_exact_for_rare_categories(samples: int) -> None:
    space = CategoricalSpace({"x": 2})
    for odds in (0.0, 1.0, 5.0, 30.0, 300.0, 600.0):
        logits = torch.tensor([odds, 0.0], dtype=torch.float64)
        codes = torch.tensor([0, 1]).repeat(samples)[:samples].unsqueeze(-1)
        weight = pair_weights(space, logits, codes)[0, 1, 0]
        p, q = logits.softmax(-1)
        power = samples - 1
        both = (2 * q ** (1 / power) - 1).clamp_min(0) ** power
        assert_close(weight, p * q / (q - both), rtol=1e-12, atol=0)


# --- identities -------------------------------------------------------------------------------


def test_disarm_is_arms_with_two_samples() -> None:
    space = CategoricalSpace({"a": 2, "one": 1, "b": 2})
    logits, f = random_logits(space, (50,), scale=3, masked=True), function(space, "cubic")
    case = BINARY_CASES[0]
    gumbel = contract.gumbel_noise(case, logits)
    one = contract.given_noise(case, space, f, logits, gumbel)
    two = contract.given_noise(BINARY_CASES[1], space, f, logits, gumbel)
    assert_close(one[0], two[0])
    assert_close(one[1], two[1])


def test_pairs_of_disarm_are_averaged() -> None:
    space = CategoricalSpace({"a": 2, "b": 2})
    logits, f = random_logits(space, (50,)), function(space, "cubic")
    codes = space.argmax(contract.gumbel_noise(BINARY_CASES[3], logits))  # (4, 50, 2)
    with contract.given_codes(codes):
        both = contract.value_and_gradient(Disarm(space, samples=2), f, logits)
    single = []
    for pair in (codes[[0, 2]], codes[[1, 3]]):
        with contract.given_codes(pair):
            single.append(contract.value_and_gradient(Disarm(space), f, logits))
    for mine, first, second in zip(both, *single, strict=True):
        assert_close(mine, (first + second) / 2)


def test_disarm_exactly_over_the_uniform_numbers() -> None:
    """The opposites change only at p and 1 - p: one number inside each piece, by its length."""
    space = CategoricalSpace({"a": 2, "b": 2, "c": 2})
    logits = torch.tensor([0.5, -0.3, 1.2, 0.2, -2.0, 0.6], dtype=torch.float64)
    f, pieces = function(space, "cubic"), []
    for part in space.split(space.softmax(logits)):
        cuts = torch.stack([part.new_zeros(()), *part.sort().values, part.new_ones(())])
        pieces.append(torch.stack([(cuts[1:] + cuts[:-1]) / 2, cuts.diff()], -1))
    grid = torch.cartesian_prod(*[torch.arange(3)] * 3)
    chosen = torch.stack([piece[grid[:, i]] for i, piece in enumerate(pieces)], 1)  # (27, 3, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disarm, "uniform_like", lambda *a, generator: chosen[None, ..., 0])
        value, gradient = contract.value_and_gradient(Disarm(space), f, logits.expand(27, -1))
    weights = chosen[..., 1].prod(-1)
    true_value, true_gradient = contract.truth(space, logits, f)
    assert_close(weights @ value, true_value, rtol=0, atol=1e-13)
    assert_close(weights @ gradient, true_gradient, rtol=0, atol=1e-13)


def test_carms_of_independent_draws_is_leave_one_out_on_one_feature() -> None:
    logits, f = random_logits(THREE, (50,)), function(THREE, "cubic")
    gumbel = contract.gumbel_noise(CARMS, logits)
    with contract.given_gumbel(THREE, logits, gumbel):
        mine = contract.value_and_gradient(Carms(THREE, samples=3, independent=1), f, logits)
        other = contract.value_and_gradient(LeaveOneOut(THREE, samples=3), f, logits)
    for a, b in zip(mine, other, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("cls", [Arms, Carms, Disarm], ids=lambda cls: cls.__name__)
def test_a_constant_changes_no_gradient(cls: type[Arms]) -> None:
    space = CategoricalSpace({"a": 2, "one": 1, "b": 2})
    logits, f = random_logits(space, (30,)), function(space, "cubic")
    value, gradient = contract.value_and_gradient(cls(space), f, logits, generator=seeded())
    shifted = contract.value_and_gradient(
        cls(space), lambda rows: f(rows) + 1000, logits, generator=seeded()
    )
    assert_close(shifted[0], value + 1000)
    assert_close(shifted[1], gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [CARMS, *BINARY_CASES], ids=str)
def test_less_variance_than_leave_one_out_on_one_feature(case: Case) -> None:
    """Exactly, over all tuples, with as many evaluations."""
    space = CategoricalSpace({"x": 3}) if case is CARMS else CategoricalSpace({"x": 2})
    logits, f = random_logits(space, generator=1), function(space, "cubic")
    true, count = contract.truth(space, logits, f)[1], case.draws(space, case.samples)
    outcomes = case.outcomes(space, logits, case.samples)
    law, p = outcomes.probabilities, space.softmax(logits)
    with contract.given_codes(outcomes.drawn):
        repeated = logits.expand(len(law), -1)
        _, mine = contract.value_and_gradient(case.estimator(space), f, repeated)
    tuples = torch.cartesian_prod(*[torch.arange(len(p))] * count)
    with contract.given_codes(tuples.t().unsqueeze(-1)):
        repeated = logits.expand(len(tuples), -1)
        _, other = contract.value_and_gradient(LeaveOneOut(space, samples=count), f, repeated)
    variance = [
        (w @ (gradient - true) ** 2).sum()
        for w, gradient in ((law, mine), (p[tuples].prod(-1), other))
    ]
    assert variance[0] < 0.95 * variance[1]


@pytest.mark.parametrize("independent", [0, -0.1, 1.5, None, "1", float("nan")])
def test_bad_independent(independent: float) -> None:
    with pytest.raises(ValueError, match=r"independent must lie in \(0, 1\], got"):
        Carms(independent=independent)


# --- planted bugs -----------------------------------------------------------------------------


def clipped(space: CategoricalSpace, logits: Tensor, codes: Tensor, *rest: float) -> Tensor:
    return pair_weights(space, logits, codes, *rest).clamp_max(1)


def no_weights(space: CategoricalSpace, logits: Tensor, codes: Tensor, *rest: float) -> Tensor:
    return (pair_weights(space, logits, codes, *rest) > 0).double()


def mixture_forgotten(
    space: CategoricalSpace, logits: Tensor, codes: Tensor, *rest: float
) -> Tensor:
    return pair_weights(space, logits, codes, 0.0)


def inverted(space: CategoricalSpace, logits: Tensor, codes: Tensor, *rest: float) -> Tensor:
    weights = pair_weights(space, logits, codes, *rest)
    return (1 / weights).masked_fill(weights == 0, 0)


def n_for_n_minus_one(values: Tensor, weights: Tensor) -> Tensor:
    return antithetic.paired_advantages(values, weights) * (len(values) - 1) / len(values)


def dead_value(
    space: CategoricalSpace, values: Tensor, logits: Tensor, codes: Tensor, advantages: Tensor
) -> Tensor:
    return antithetic.with_advantages(space, values.detach(), logits, codes, advantages)


def no_size(space: CategoricalSpace, logits: Tensor, codes: Tensor, values: Tensor) -> Tensor:
    return disarm_advantages(space, torch.zeros_like(logits), codes, values)


def pairs_that_agree(
    space: CategoricalSpace, logits: Tensor, codes: Tensor, values: Tensor
) -> Tensor:
    half = len(codes) // 2
    moved = torch.cat([codes[:half], 1 - codes[half:]])
    return disarm_advantages(space, logits, moved, values)


def other_sign(space: CategoricalSpace, logits: Tensor, codes: Tensor, values: Tensor) -> Tensor:
    return -disarm_advantages(space, logits, codes, values)


disarm_advantages = disarm._advantages
DISARM, _, ARMS, _ = BINARY_CASES
ON_TINY = {DISARM: CategoricalSpace({"a": 2, "b": 2}), ARMS: CategoricalSpace({"a": 2, "b": 2})}


def check_unbiased(case: Case) -> None:
    space = ON_TINY.get(case, TINY)
    logits, f = TINY_LOGITS[: space.width], function(space, "cubic")
    _, gradient = contract.expected(case, space, logits, f)
    assert_close(gradient, contract.truth(space, logits, f)[1], rtol=0, atol=1e-11)


MUTANTS = [
    (carms, "pair_weights", clipped, check_unbiased, CARMS),
    (carms, "pair_weights", no_weights, check_unbiased, CARMS),
    (carms, "pair_weights", mixture_forgotten, check_unbiased, CARMS),
    (carms, "paired_advantages", n_for_n_minus_one, check_unbiased, CARMS),
    (carms, "with_advantages", dead_value, contract.check_f_learns_too, CARMS),
    (arms, "pair_weights", no_weights, check_unbiased, ARMS),
    (arms, "pair_weights", inverted, check_unbiased, ARMS),
    (arms, "paired_advantages", n_for_n_minus_one, check_unbiased, ARMS),
    (disarm, "_advantages", no_size, check_unbiased, DISARM),
    (disarm, "_advantages", other_sign, check_unbiased, DISARM),
    (disarm, "_advantages", pairs_that_agree, check_unbiased, DISARM),
]


@pytest.mark.parametrize(("room", "name", "bug", "check", "case"), MUTANTS)
def test_a_planted_bug_is_caught(
    room: ModuleType,
    name: str,
    bug: Callable[..., Tensor],
    check: Callable[[Case], None],
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check(case)
    monkeypatch.setattr(room, name, bug)
    # RuntimeError: autograd finds no way to the parameters of f
    with pytest.raises((AssertionError, RuntimeError)):
        check(case)


def test_natural_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def natural(block: Tensor) -> Tensor:
        return torch.arange(block.shape[-1]).expand_as(block)

    monkeypatch.setattr(antithetic, "_by_probability", natural)
    with pytest.raises(AssertionError):
        contract.check_permuted_categories(CARMS)


def test_independent_draws_with_antithetic_weights_are_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(antithetic, "_antithetic_uniforms", lambda rows: rows)
    with pytest.raises(AssertionError):
        test_tuples_of_codes_follow_the_law(0.0)


def test_codes_need_no_more_than_the_numbers() -> None:
    logits = random_logits(RAGGED, (20,), masked=True)
    numbers = uniforms(5, 20, 4)
    codes = _antithetic_codes(RAGGED, logits, numbers, 0.5)
    assert torch.equal(codes, _antithetic_codes(RAGGED, logits + 3.0, numbers, 0.5))
    assert (RAGGED.log_prob(logits, codes) > -INF).all()
