"""The multilinear estimator: its value at a soft row is the expectation, exactly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, Enumerate, Softmax, StraightThrough
from discrete_grad.models import MultilinearEstimator
from discrete_grad.space import ContextSpec
from tests.strategies import random_logits, spaces

SPEC = ContextSpec({"shop": 2}, ["price"])


@st.composite
def estimators(draw: st.DrawFn) -> tuple[MultilinearEstimator, Tensor, Tensor | None]:
    """An estimator of a ragged space, logits `(2, D)` with masks, and contexts `(2, C)` or None."""
    space = draw(spaces(max_size=4).filter(lambda space: space.num_rows <= 200))
    seed = draw(st.integers(0, 2**31))
    context = SPEC if draw(st.booleans()) else None
    torch.manual_seed(seed)
    model = MultilinearEstimator(space, context=context, rank=draw(st.sampled_from([1, 3, 32])))
    with torch.no_grad():
        for parameter in model.parameters():  # away from the tame values at the start
            parameter.add_(torch.randn_like(parameter))
    logits = random_logits(space, (2,), scale=3.0, masked=draw(st.booleans()), generator=seed)
    values = None if context is None else torch.randn(2, SPEC.width, dtype=torch.float64)
    return model.double(), logits.requires_grad_(), values


@given(estimators())
def test_value_at_a_soft_row_is_the_expectation(
    drawn: tuple[MultilinearEstimator, Tensor, Tensor | None],
) -> None:
    model, logits, context = drawn
    space = model.space
    rows = space.enumerate().unsqueeze(1)  # (num_rows, 1, F)
    values = model(rows.expand(-1, 2, -1), context)
    expected = (space.log_prob(logits, rows).exp() * values).sum(0)
    scale = values.abs().max().item()
    assert_close(model(space.softmax(logits), context), expected, atol=1e-12 * scale, rtol=1e-9)
    single = model.float()(
        space.softmax(logits).float(), None if context is None else context.float()
    )
    assert_close(single.double(), expected, atol=1e-6 * max(scale, 1.0), rtol=1e-6)


@given(estimators())
def test_straight_through_is_unbiased(
    drawn: tuple[MultilinearEstimator, Tensor, Tensor | None],
) -> None:
    model, logits, context = drawn
    space = model.space

    def f(rows: Tensor) -> Tensor:
        return model(rows, context)

    (truth,) = torch.autograd.grad(Enumerate(space).expectation(f, logits).sum(), logits)
    codes = space.enumerate()
    p = space.log_prob(logits, codes.unsqueeze(1)).exp().detach()  # (num_rows, 2)
    hard = space.one_hot(codes, dtype=torch.float64).unsqueeze(1).expand(-1, 2, -1)
    soft = space.softmax(logits)
    values = f(hard + (soft - soft.detach()))  # (num_rows, 2)
    (mean,) = torch.autograd.grad((p * values).sum(), logits)
    scale = truth.abs().max().item()
    assert_close(mean, truth, atol=1e-9 * scale + 1e-12, rtol=1e-7)


def test_no_gradient_estimator_is_needed() -> None:
    torch.manual_seed(0)
    space = CategoricalSpace.from_sizes((2, 3, 2))
    model = MultilinearEstimator(space).double()
    logits = random_logits(space).requires_grad_()
    results = {}
    for estimator in (Enumerate(space), Softmax(space), StraightThrough(space, samples=20_000)):
        noise = torch.Generator().manual_seed(0)
        value = estimator.expectation(model, logits, generator=noise)
        (gradient,) = torch.autograd.grad(value, logits)
        results[type(estimator)] = (value.detach(), gradient)
    assert_close(results[Softmax], results[Enumerate])
    sampled = results[StraightThrough][1]
    assert_close(sampled, results[Enumerate][1], atol=5e-3, rtol=0)


def test_features_interact() -> None:
    torch.manual_seed(0)
    space = CategoricalSpace.from_sizes((2, 2))
    scores = MultilinearEstimator(space)(space.enumerate()).view(2, 2)
    assert (scores.diff(dim=0).diff(dim=1)).abs() > 1e-3  # more than a sum of effects


def test_context_changes_what_is_a_good_row() -> None:
    torch.manual_seed(0)
    space = CategoricalSpace.from_sizes((3, 4))
    model = MultilinearEstimator(space, context=SPEC)
    east, west = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    codes = space.enumerate()
    difference = model(codes, east) - model(codes, west)
    assert difference.std() > 0


def test_starts_at_tame_values_for_many_features() -> None:
    torch.manual_seed(0)
    space = CategoricalSpace.from_sizes((5,) * 40)
    codes = torch.randint(5, (500, 40))
    scores = MultilinearEstimator(space)(codes)
    assert scores.isfinite().all()
    assert 1e-3 < scores.std() < 1e3
    with pytest.raises(ValueError, match="takes no context"):
        MultilinearEstimator(space)(codes, torch.zeros(500, 1))
