"""Expected score, divergence from a reference and entropy against their definitions."""

import math

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Enumerate, LeaveOneOut, ReinMax, Softmax, on_codes
from discrete_grad.objectives import (
    diversity_bonus,
    entropy_bonus,
    expected_score_loss,
    hamming_excess,
    kl_to_reference,
)
from discrete_grad.sampling import seeded
from tests.strategies import random_logits, spaces_and_logits

INF = math.inf
SPACE = CategoricalSpace.from_sizes((2, 3, 2))
BATCHES = ((1,), (4,), (2, 3))
SCALES = (0.0, 1.0, 30.0)


def probabilities(space: CategoricalSpace, logits: Tensor) -> list[list[float]]:
    """Of each row of `(N, D)`, all features side by side, by loops."""
    result = []
    for row in logits.flatten(0, -2):
        result.append([])
        for part in space.split(row):
            best = max(part.tolist())
            weights = [math.exp(v - best) for v in part.tolist()]
            result[-1] += [w / sum(weights) for w in weights]
    return result


@given(spaces_and_logits(dtypes=(torch.float64,), scales=SCALES, batches=BATCHES))
def test_entropy_by_loops(drawn: tuple[CategoricalSpace, Tensor]) -> None:
    space, logits = drawn
    law = probabilities(space, logits)
    expected = sum(-p * math.log(p) for row in law for p in row if p) / len(law)
    assert entropy_bonus(space, logits).item() == pytest.approx(expected, abs=1e-9)


@given(spaces_and_logits(dtypes=(torch.float64,), scales=SCALES, batches=BATCHES, copies=2))
def test_divergence_by_loops(drawn: tuple[CategoricalSpace, Tensor, Tensor]) -> None:
    space, logits, reference = drawn
    pairs = [
        (p, q)
        for ps, qs in zip(
            probabilities(space, logits), probabilities(space, reference), strict=True
        )
        for p, q in zip(ps, qs, strict=True)
    ]
    count = logits[..., 0].numel()
    forbidden = any(p and not q for p, q in pairs)
    expected = INF if forbidden else sum(p * math.log(p / q) for p, q in pairs if p) / count
    value = kl_to_reference(space, logits, reference).item()
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert kl_to_reference(space, logits, logits).item() == pytest.approx(0, abs=1e-12)


def test_divergence_from_a_reference_that_forbids() -> None:
    masked = torch.zeros(SPACE.width, dtype=torch.float64)
    masked[3] = -INF
    free = random_logits(SPACE, (4,))
    assert kl_to_reference(SPACE, free, masked).item() == INF
    assert_close(
        kl_to_reference(SPACE, masked, torch.zeros_like(masked)).exp().item(), 3 / 2
    )  # one feature of three categories has two left


@pytest.mark.parametrize("masked", [False, True])
def test_gradients(masked: bool) -> None:
    logits = random_logits(SPACE, (3,))
    mask = random_logits(SPACE, (3,), masked=masked) == -INF

    def divergence(logits: Tensor) -> Tensor:
        return kl_to_reference(SPACE, logits.masked_fill(mask, -INF), torch.zeros(7).double())

    def entropy(logits: Tensor) -> Tensor:
        return entropy_bonus(SPACE, logits.masked_fill(mask, -INF))

    for loss in (divergence, entropy):
        assert torch.autograd.gradcheck(loss, logits.clone().requires_grad_())
    uniform = torch.zeros(3, 7, dtype=torch.float64)
    for difference in (
        divergence(logits) + entropy(logits),
        divergence(uniform) + entropy(uniform),
    ):  # a uniform reference: one is the other's mirror
        assert difference.item() == pytest.approx(math.log(SPACE.num_rows))


# --- expected score -------------------------------------------------------------------------------


def score(codes: Tensor) -> Tensor:
    return (codes[..., 0] * 3.0 - codes[..., 1] * codes[..., 2]).double()


def test_expected_score_by_enumeration() -> None:
    logits = random_logits(SPACE, (4,), masked=True)
    codes = SPACE.enumerate()
    expected = -(SPACE.log_prob(logits.unsqueeze(1), codes).exp() @ score(codes)).mean()
    value = expected_score_loss(Enumerate(SPACE), on_codes(SPACE, score), logits)
    assert_close(value, expected)

    def loss(logits: Tensor) -> Tensor:
        return expected_score_loss(Enumerate(SPACE), on_codes(SPACE, score), logits)

    assert torch.autograd.gradcheck(loss, random_logits(SPACE, (4,)).requires_grad_())


def test_expected_score_through_any_gradient_estimator() -> None:
    logits = random_logits(SPACE, (4,)).requires_grad_()
    weights = torch.arange(SPACE.width, dtype=torch.float64).cos()

    def f(rows: Tensor) -> Tensor:
        return rows @ weights

    (truth,) = torch.autograd.grad(expected_score_loss(Enumerate(SPACE), f, logits), logits)
    methods = (Softmax(SPACE), ReinMax(SPACE, samples=9), LeaveOneOut(SPACE, samples=9))
    for method in methods:
        first, second = (
            expected_score_loss(method, f, logits, generator=torch.Generator().manual_seed(1))
            for _ in range(2)
        )
        assert first.shape == ()
        assert torch.equal(first, second)
        (gradient,) = torch.autograd.grad(first, logits)
        assert torch.cosine_similarity(gradient.flatten(), truth.flatten(), dim=0) > 0.5
    (gradient,) = torch.autograd.grad(expected_score_loss(Softmax(SPACE), f, logits), logits)
    assert_close(gradient, truth)


def test_descent_finds_the_best_row() -> None:
    logits = torch.zeros(SPACE.width, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.2)
    f = on_codes(SPACE, score)
    for step in range(100):
        random = torch.Generator().manual_seed(step)
        loss = expected_score_loss(LeaveOneOut(SPACE, samples=16), f, logits, generator=random)
        loss = loss - 0.01 * entropy_bonus(SPACE, logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = SPACE.enumerate()[score(SPACE.enumerate()).argmax()]
    assert score(SPACE.argmax(logits)) == score(best)


def test_errors() -> None:
    logits = torch.zeros(4, SPACE.width)
    with pytest.raises(ValueError, match="f must map flat rows"):
        expected_score_loss(Softmax(SPACE), lambda rows: rows, logits)
    with pytest.raises(ValueError, match="feature 'x0' has every category masked"):
        expected_score_loss(Softmax(SPACE), lambda rows: rows[..., 0], logits - INF)
    for loss in (
        lambda: entropy_bonus(SPACE, logits[:, 1:]),
        lambda: kl_to_reference(SPACE, logits, logits[:, 1:]),
    ):
        with pytest.raises(ValueError, match=r"must be \(..., 7\), got \(4, 6\)"):
            loss()


@pytest.mark.parametrize("seed", range(5))
def test_diversity_is_the_expected_hamming_distance_of_two_draws(seed: int) -> None:
    logits = 3 * torch.randn(SPACE.width, generator=seeded(seed), dtype=torch.float64)
    rows = SPACE.enumerate()
    probability = SPACE.log_prob(logits, rows).exp()
    distance = SPACE.hamming(rows.unsqueeze(0), rows.unsqueeze(1)).double()
    expected = probability @ distance @ probability
    torch.testing.assert_close(diversity_bonus(SPACE, logits), expected)


@pytest.mark.parametrize(("seed", "radius"), [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.5)])
def test_the_excess_is_the_expected_distance_to_the_nearest_row_beyond_the_radius(
    seed: int, radius: float
) -> None:
    logits = 3 * torch.randn(SPACE.width, generator=seeded(seed), dtype=torch.float64)
    rows, known = SPACE.enumerate(), SPACE.enumerate()[[0, 3, 7]]
    probability = SPACE.log_prob(logits, rows).exp()
    distances = SPACE.hamming(rows.unsqueeze(0), known.unsqueeze(1)).double() @ probability
    expected = (distances.min() - radius).clamp_min(0)
    torch.testing.assert_close(hamming_excess(SPACE, logits, known, radius=radius), expected)


def test_the_excess_refuses_no_rows_and_a_negative_radius() -> None:
    for rows, radius in ((torch.zeros(0, 3).long(), 1.0), (SPACE.enumerate(), -1.0)):
        with pytest.raises(ValueError, match="radius"):
            hamming_excess(SPACE, torch.zeros(SPACE.width), rows, radius=radius)
