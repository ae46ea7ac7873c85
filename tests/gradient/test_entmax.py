"""Entmax: the optimum it claims to be, its zeros, its limits and its derivatives."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Entmax, Softmax
from discrete_grad.gradient.entmax import entmax
from tests.gradient import contract
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, TINY, TINY_LOGITS, function
from tests.strategies import random_logits

ALPHAS = (1.05, 1.3, 1.5, 1.8, 2.0)
SIX = CategoricalSpace({"x": 6})


def objective(p: Tensor, scores: Tensor, alpha: float) -> Tensor:
    return (p * scores).sum(-1) + (p - p**alpha).sum(-1) / (alpha * (alpha - 1))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("size", [1, 2, 3, 40])
@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0, 100.0])
def test_it_meets_the_conditions_of_the_optimum(alpha: float, size: int, scale: float) -> None:
    # of a strictly concave maximum over the simplex they are necessary and sufficient: the slope
    # of the objective is the same over the support and nowhere larger outside it
    scores = random_logits(CategoricalSpace({"x": size}), (200,), scale=scale)
    p = entmax(CategoricalSpace({"x": size}), scores, alpha)
    assert (p >= 0).all()
    assert_close(p.sum(-1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-12)
    # p to the power alpha - 1 is steep near 0, where rounding of the threshold shows
    slope = scores * (alpha - 1) - p ** (alpha - 1)
    inside = p > 0
    level = slope.masked_fill(~inside, -math.inf).amax(-1, keepdim=True)
    assert_close(slope[inside], level.expand_as(slope)[inside], rtol=0, atol=1e-11 * (1 + scale))
    assert (slope <= level + 1e-11 * (1 + scale)).all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_point_of_the_simplex_is_better(alpha: float) -> None:
    scores = random_logits(SIX, (20,), scale=2)
    p = entmax(SIX, scores, alpha)
    best = objective(p, scores, alpha)
    generator = contract.seeded()
    for width in (1.0, 1e-1, 1e-2, 1e-3):  # anywhere, then ever nearer
        spread = -torch.rand(3_000, 20, 6, generator=generator, dtype=torch.float64).log()
        others = (1 - width) * p + width * spread / spread.sum(-1, keepdim=True)
        assert (objective(others, scores, alpha) <= best + 1e-14).all()


def test_by_hand() -> None:
    scores = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)
    space = CategoricalSpace({"x": 3})
    expected = torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64)
    assert_close(entmax(space, scores, 2.0), expected, rtol=0, atol=1e-15)
    # alpha 1.5, two categories 2 d apart: a^2 and b^2 with a - b = d
    d = 0.3
    pair = torch.tensor([2 * d, 0.0], dtype=torch.float64)
    p = entmax(CategoricalSpace({"x": 2}), pair, 1.5)
    assert_close(p[0].item(), ((math.sqrt(2 - d**2) + d) / 2) ** 2, rtol=0, atol=1e-15)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_far_categories_have_exactly_no_probability_and_no_gradient(alpha: float) -> None:
    logits = torch.tensor([0.0, 0.1, -1 / (alpha - 1) - 1e-3, -50.0], dtype=torch.float64)
    leaf = logits.requires_grad_()
    p = entmax(CategoricalSpace({"x": 4}), leaf, alpha)
    (gradient,) = torch.autograd.grad(p @ torch.arange(4.0, dtype=torch.float64), leaf)
    assert (p[2:] == 0).all()
    assert (gradient[2:] == 0).all()
    assert (gradient[:2] != 0).all()


def test_softmax_is_the_limit_at_alpha_one() -> None:
    f = function(RAGGED, "cubic")
    value, gradient = contract.value_and_gradient(Softmax(RAGGED), f, RAGGED_LOGITS)
    distance = []
    for alpha in (1.5, 1.2, 1.05):
        mine = contract.value_and_gradient(Entmax(RAGGED, alpha=alpha), f, RAGGED_LOGITS)
        distance.append(max((mine[0] - value).abs(), (mine[1] - gradient).abs().max()).item())
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 0.15 * distance[0]


@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_sorting_and_searching_agree(alpha: float) -> None:
    scores = random_logits(SIX, (500,), scale=3)
    leaves = [scores.clone().requires_grad_() for _ in range(2)]
    # next to it lies an alpha that is searched for
    rows = [entmax(SIX, leaf, a) for leaf, a in zip(leaves, (alpha, alpha - 1e-9), strict=True)]
    assert_close(*rows, rtol=0, atol=1e-7)
    weights = torch.randn(6, generator=contract.seeded(), dtype=torch.float64)
    pairs = zip(rows, leaves, strict=True)
    gradients = [torch.autograd.grad((row @ weights).sum(), leaf)[0] for row, leaf in pairs]
    assert_close(*gradients, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_first_and_second_derivatives(alpha: float) -> None:
    logits = random_logits(TINY, (4,), scale=0.4).requires_grad_()
    assert torch.autograd.gradcheck(lambda leaf: entmax(TINY, leaf, alpha), logits)
    assert torch.autograd.gradgradcheck(lambda leaf: entmax(TINY, leaf, alpha), logits)


def test_a_shift_changes_nothing_and_ties_share() -> None:
    logits = torch.tensor([3.0, 3.0, 3.0, -math.inf, 2.9])
    for alpha in ALPHAS:
        p = entmax(CategoricalSpace({"x": 5}), logits, alpha)
        assert_close(p, entmax(CategoricalSpace({"x": 5}), logits - 1000, alpha), rtol=0, atol=1e-4)
        assert p[0] == p[1] == p[2] > p[4] > 0
        assert p[3] == 0


def test_it_is_biased_on_linear_functions() -> None:
    f = function(TINY, "linear")
    for alpha in (1.5, 2.0):
        mine = contract.value_and_gradient(Entmax(TINY, alpha=alpha), f, TINY_LOGITS)
        true = contract.truth(TINY, TINY_LOGITS, f)
        assert all((a - b).abs().max() > 1e-2 for a, b in zip(mine, true, strict=True))


@pytest.mark.parametrize("alpha", [1, 1.0, 1.04, 2.1, 0, -1, math.nan, None])
def test_bad_alpha(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must lie in \[1.05, 2\]"):
        Entmax(alpha=alpha)
