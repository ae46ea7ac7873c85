"""Weighted cross-entropies and the alignment loss against their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.objectives import (
    alignment_loss,
    inverse_score_cross_entropy,
    score_weighted_cross_entropy,
)
from tests.strategies import random_logits, spaces_and_logits

FLOAT64 = (torch.float64,)


@st.composite
def tables(draw: st.DrawFn) -> tuple[CategoricalSpace, Tensor, Tensor, Tensor]:
    """A space, logits `(N, D)`, codes `(N, F)` of allowed categories, and scores `(N,)`."""
    space, logits = draw(
        spaces_and_logits(dtypes=FLOAT64, scales=(1.0, 30.0), batches=((1,), (4,), (7,)))
    )
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    noisy = logits + torch.randn(logits.shape, generator=random)
    scores = torch.randn(len(logits), generator=random, dtype=torch.float64)
    return space, logits, space.argmax(noisy), scores


def surprisal(space: CategoricalSpace, logits: Tensor, codes: Tensor) -> list[float]:
    """`-log p(row)` of each row, by loops."""
    result = []
    for row_logits, row in zip(logits, codes.tolist(), strict=True):
        total = 0.0
        for part, code in zip(space.split(row_logits), row, strict=True):
            values = part.tolist()
            best = max(values)
            log_sum = best + math.log(sum(math.exp(v - best) for v in values))
            total -= values[code] - log_sum
        result.append(total)
    return result


# --- the naive baseline ---------------------------------------------------------------------------


@given(tables())
def test_inverse_score_by_loops(drawn: tuple[CategoricalSpace, Tensor, Tensor, Tensor]) -> None:
    space, logits, codes, scores = drawn
    scores = scores.exp()
    nats = surprisal(space, logits, codes)
    expected = sum(n / s for n, s in zip(nats, scores.tolist(), strict=True)) / len(nats)
    flat = space.one_hot(codes, dtype=torch.float64)
    for rows in (codes, flat):
        value = inverse_score_cross_entropy(space, logits, rows, scores)
        assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("bad", [0.0, -2.0, math.nan])
def test_inverse_score_needs_scores_above_zero(bad: float) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    codes, scores = torch.zeros(2, 2, dtype=torch.long), torch.tensor([1.0, bad])
    with pytest.raises(ValueError, match=r"needs scores above 0, got (0|-2|nan)"):
        inverse_score_cross_entropy(space, torch.zeros(2, 5), codes, scores)


# --- the sound one --------------------------------------------------------------------------------


@given(tables(), st.sampled_from([0.1, 1.0, 5.0]))
def test_score_weighted_by_loops(
    drawn: tuple[CategoricalSpace, Tensor, Tensor, Tensor], temperature: float
) -> None:
    space, logits, codes, scores = drawn
    y = scores.tolist()
    mean = math.fsum(y) / len(y)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in y) / len(y)) or 1.0
    weights = [math.exp((v - mean) / spread / temperature) for v in y]
    nats = surprisal(space, logits, codes)
    expected = math.fsum(w * n for w, n in zip(weights, nats, strict=True)) / math.fsum(weights)
    flat = space.one_hot(codes, dtype=torch.float64)
    for rows in (codes, flat):
        value = score_weighted_cross_entropy(space, logits, rows, scores, temperature=temperature)
        assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(
    tables(),
    st.sampled_from([torch.float64, torch.float32]),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
    st.sampled_from([-100.0, 0.0, 7.0]),
)
def test_score_weighted_ignores_shift_and_scale(
    drawn: tuple[CategoricalSpace, Tensor, Tensor, Tensor],
    dtype: torch.dtype,
    scale: float,
    shift: float,
) -> None:
    space, logits, codes, scores = drawn
    expected = score_weighted_cross_entropy(space, logits, codes, scores)
    moved = (scale * (scores + shift)).to(dtype)  # shifted first: what a unit does
    value = score_weighted_cross_entropy(space, logits, codes, moved)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-3
    assert_close(value, expected, rtol=tolerance, atol=tolerance, check_dtype=False)


def test_temperature_goes_from_the_best_row_to_the_plain_mean() -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    logits, codes = random_logits(space, (6,)).float(), space.enumerate()
    scores = torch.tensor([0.1, -3.0, 8.0, 2.0, 0.0, 1.0])
    nats = -space.log_prob(logits, codes)

    def loss(temperature: float) -> Tensor:
        return score_weighted_cross_entropy(space, logits, codes, scores, temperature=temperature)

    assert_close(loss(1e-3), nats[2])
    assert_close(loss(1e6), nats.mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("score", [0.0, 0.1, -1e30, 3e-39])
def test_equal_scores_give_equal_weights(score: float) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    logits, codes = random_logits(space, (6,)).float(), space.enumerate()
    value = score_weighted_cross_entropy(space, logits, codes, torch.full((6,), score))
    assert_close(value, -space.log_prob(logits, codes).mean())


def test_better_rows_pull_more() -> None:
    space = CategoricalSpace.from_sizes((2,))
    logits = torch.zeros(2, requires_grad=True)
    codes, scores = torch.tensor([[0], [1]]), torch.tensor([-40.0, -10.0])
    score_weighted_cross_entropy(space, logits.expand(2, -1), codes, scores).backward()
    assert logits.grad[1] < 0 < logits.grad[0]
    naive = torch.zeros(2, requires_grad=True)  # the baseline pulls to the worse one
    inverse_score_cross_entropy(space, naive.expand(2, -1), codes, scores + 50).backward()
    assert naive.grad[0] < 0 < naive.grad[1]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_above_zero(temperature: float) -> None:
    space, codes = CategoricalSpace.from_sizes((2,)), torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        score_weighted_cross_entropy(
            space, torch.zeros(2, 2), codes, torch.zeros(2), temperature=temperature
        )


@pytest.mark.parametrize("loss", [inverse_score_cross_entropy, score_weighted_cross_entropy])
def test_gradients_and_shapes(loss: object) -> None:
    space = CategoricalSpace.from_sizes((2, 3))
    codes, scores = space.enumerate(), torch.linspace(2.0, 0.5, 6, dtype=torch.float64)
    logits = random_logits(space, (6,))
    logits[:3, 1] = -torch.inf  # not a category of these rows
    finite = random_logits(space, (6,)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(space, x, codes, scores), finite)
    logits.requires_grad_()
    loss(space, logits, codes, scores).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:3, 1] == 0).all()
    with pytest.raises(ValueError, match=r"codes must be \(..., 2\)"):
        loss(space, logits, codes[:, :1], scores)
    with pytest.raises(ValueError, match=r"must be \(..., 5\)"):
        loss(space, logits[:, :4], codes, scores)


# --- alignment ------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(0, 2**31), st.sampled_from([1e-6, 1.0, 1e6]))
def test_alignment_by_loops(count: int, seed: int, scale: float) -> None:
    random = torch.Generator().manual_seed(seed)
    cosine = 2 * torch.rand(count, generator=random, dtype=torch.float64) - 1
    advantage = torch.randn(count, generator=random, dtype=torch.float64)
    weights = [max(a, 0.0) for a in advantage.tolist()]
    pairs = zip(weights, cosine.tolist(), strict=True)
    expected = sum(w * (1 - c) for w, c in pairs) / sum(weights) if sum(weights) else 0.0
    value = alignment_loss(cosine, scale * advantage).item()  # in any unit
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0 <= value <= 2


def test_alignment_gradient() -> None:
    cosine = torch.tensor([0.3, -0.9, 0.5], dtype=torch.float64, requires_grad=True)
    advantage = torch.tensor([2.0, -1.0, 6.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: alignment_loss(c, advantage.detach()), cosine)
    alignment_loss(cosine, advantage).backward()
    assert cosine.grad.tolist() == [-0.25, 0.0, -0.75]
    assert advantage.grad is None  # a weight, not something to be made smaller


def test_alignment_without_a_better_row() -> None:
    cosine = torch.tensor([0.3, -0.9], requires_grad=True)
    loss = alignment_loss(cosine, torch.tensor([-1.0, 0.0]))
    loss.backward()
    assert loss.item() == 0
    assert cosine.grad.tolist() == [0.0, 0.0]


def test_a_forbidden_row_of_no_weight_has_no_say() -> None:
    space = CategoricalSpace.from_sizes((2,))
    logits = torch.tensor([[-torch.inf, 0.0], [0.0, 0.0]])
    loss = score_weighted_cross_entropy(
        space, logits, torch.tensor([[0], [1]]), torch.tensor([0.0, 1.0]), temperature=1e-3
    )
    assert loss.item() == pytest.approx(math.log(2))
