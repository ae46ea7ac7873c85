"""Logits far from 0, temperatures far from 1, and logits of NaN that nobody could refuse."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    CategoricalSpace,
    DecoupledStraightThrough,
    GappedStraightThrough,
    GumbelRao,
    GumbelSoftmax,
    ReinMax,
    ReinMaxRao,
    Relaxation,
    Softmax,
)
from discrete_grad.gradient._tempered import centred, tempered
from discrete_grad.nn import SoftEmbedding
from discrete_grad.sampling import gumbel_like, seeded

SPACE = CategoricalSpace.from_sizes((3, 3, 4))
# the largest of each feature is 0, and every number has a float32 beside 1e6
NEAR = torch.tensor([-1.0, -0.5, 0.0, 0.0, -0.25, -0.5, -2.0, -0.75, 0.0, -0.5])
WEIGHTS = torch.linspace(-1.0, 2.0, 10)
TEMPERED = (GappedStraightThrough, GumbelRao, GumbelSoftmax, ReinMax, ReinMaxRao, Softmax)
NOISY = (
    GumbelSoftmax(SPACE),
    GumbelSoftmax(SPACE, tau=0.3, hard=False),
    IMLE(SPACE),
    AdaptiveIMLE(SPACE).eval(),
)
SHIFTED = (*NOISY, GumbelRao(SPACE), GappedStraightThrough(SPACE), Softmax(SPACE, tau=0.3))


def row_and_gradient(method: Relaxation, logits: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.expand(200, -1).clone().requires_grad_()
    row = method(logits, generator=seeded(0))
    (row @ WEIGHTS.to(row)).sum().backward()
    assert logits.grad is not None
    return row.detach(), logits.grad


# --- a large constant -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", SHIFTED, ids=str)
@pytest.mark.parametrize("offset", [1e6, -1e6])
def test_a_large_constant_changes_nothing(method: Relaxation, offset: float) -> None:
    pairs = zip(
        row_and_gradient(method, NEAR + offset), row_and_gradient(method, NEAR), strict=True
    )
    for found, expected in pairs:
        assert_close(found, expected)


@pytest.mark.parametrize("method", NOISY, ids=str)
def test_equal_logits_of_a_billion_are_drawn_equally_often(method: Relaxation) -> None:
    logits = torch.tensor([1e9, 0, 1e9, 0, 1e9, 0, 1e9, 0, 1e9, 0]).expand(6000, -1)
    share = method(logits, generator=seeded(0)).mean(0).split([3, 3, 4])
    for part, expected in zip(share, ([1, 0, 1], [0, 1, 0], [1, 0, 1, 0]), strict=True):
        law = torch.tensor(expected) / sum(expected)
        assert_close(part, law, atol=0.04, rtol=0)  # six deviations of a share of a half


def test_a_gap_is_no_less_beside_a_billion() -> None:
    method = GappedStraightThrough(SPACE, gap=1.5)
    pairs = zip(
        row_and_gradient(method, torch.full((10,), 1e9)),
        row_and_gradient(method, torch.zeros(10)),
        strict=True,
    )
    for found, expected in pairs:
        assert_close(found, expected)


def test_the_race_of_gumbel_softmax_has_a_gradient_beside_a_large_constant() -> None:
    layer = SoftEmbedding(SPACE, 2)

    def gradient(logits: Tensor) -> Tensor:
        logits = logits.expand(50, -1).clone().requires_grad_()
        layer.sample(logits, GumbelSoftmax(SPACE, tau=0.5), generator=seeded(0)).sum().backward()
        assert logits.grad is not None
        return logits.grad

    assert_close(gradient(NEAR + 1e6), gradient(NEAR))


def test_ordinary_logits_keep_the_rows_of_their_noise_bitwise() -> None:
    logits = 63.0 + torch.randn(500, 10, generator=seeded(1)).clamp_max(1.0)
    noisy = logits + gumbel_like(logits, generator=seeded(2))
    hard = SPACE.one_hot(SPACE.argmax(noisy))
    for method in (GumbelSoftmax(SPACE), IMLE(SPACE)):
        assert torch.equal(method(logits, generator=seeded(2)), hard)
    few = logits - 40  # over tau below 64
    for masked in (False, True):
        if masked:  # which is no number near 0
            logits[0, 4] = few[0, 4] = -math.inf
        assert torch.equal(centred(SPACE, logits), logits)
        assert torch.equal(tempered(SPACE, few, 0.5), few / 0.5)


# --- extreme temperatures -------------------------------------------------------------------------


@pytest.mark.parametrize("cls", TEMPERED)
@pytest.mark.parametrize("tau", [1e-300, 1e-40, 1e-30, 1e30, 1e300])
def test_rows_and_gradients_are_finite_at_any_temperature(
    cls: type[GumbelSoftmax], tau: float
) -> None:
    logits = NEAR.masked_fill(torch.arange(10) == 4, -math.inf) + 100
    row, gradient = row_and_gradient(cls(SPACE, tau=tau), logits)
    assert_close(row.sum(-1), torch.full((200,), 3.0))
    assert gradient.isfinite().all()
    assert not row[:, 4].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_two_extreme_temperatures(dtype: torch.dtype) -> None:
    logits = NEAR.masked_fill(torch.arange(10) == 4, -math.inf).to(dtype) + 100
    for tau in (1e-300, 1e-40):
        row, gradient = row_and_gradient(
            DecoupledStraightThrough(SPACE, tau_f=tau, tau_b=tau), logits
        )
        best = SPACE.one_hot(SPACE.argmax(logits), dtype=dtype)
        assert torch.equal(row, best.expand(200, -1))
        assert gradient.isfinite().all()
    row, _ = row_and_gradient(DecoupledStraightThrough(SPACE, tau_f=1e300, tau_b=1e300), logits)
    assert not row[:, 4].any()
    assert_close(row[:, :3].double().mean(0), torch.full((3,), 1 / 3).double(), atol=0.2, rtol=0)
