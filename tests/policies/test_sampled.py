"""Scores of drawn rows: those of the row handed over, for every member and relaxation."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import (
    CategoricalSpace,
    ContextSpec,
    GradientEstimator,
    LeaveOneOut,
    ReinMax,
    Relaxation,
    Softmax,
    StraightThrough,
)
from discrete_grad.gradient import SelfSamplingFunction
from discrete_grad.models import Estimator, EstimatorEnsemble, MultilinearEstimator
from discrete_grad.sampling import seeded

SPACE = CategoricalSpace.from_sizes((6, 4, 4, 20, 2))
CONTEXT = ContextSpec(numeric=["a", "b"])


def ensemble(context: ContextSpec | None) -> EstimatorEnsemble:
    torch.manual_seed(0)
    members = [Estimator(SPACE, context=context, dim=3, hidden=(8, 5)) for _ in range(3)]
    return EstimatorEnsemble(members).double()


@pytest.mark.parametrize("batch", [(), (0,), (4,), (2, 4)])
@pytest.mark.parametrize("context", [None, CONTEXT])
@pytest.mark.parametrize("method", [ReinMax, StraightThrough, Softmax])
def test_scores_and_gradients_are_those_of_the_row(
    method: type[Relaxation], context: ContextSpec | None, batch: tuple[int, ...]
) -> None:
    model, relaxation = ensemble(context), method(SPACE)
    logits = torch.randn(*batch, SPACE.width, dtype=torch.float64, requires_grad=True)
    given = None if context is None else torch.randn(*batch[-1:], 2, dtype=torch.float64)
    mine = model.sample_predictions(logits, relaxation, given, generator=seeded(1))
    plain = model.predictions(relaxation(logits, generator=seeded(1)), given)
    assert_close(mine, plain, rtol=0, atol=1e-14)
    weights = torch.randn_like(mine)
    leaves = (logits, *model.parameters())
    for a, b in zip(
        torch.autograd.grad(mine, leaves, weights),
        torch.autograd.grad(plain, leaves, weights),
        strict=True,
    ):
        assert_close(a, b, rtol=0, atol=1e-13)


def test_members_of_another_kind_are_handed_the_row() -> None:
    model = EstimatorEnsemble([MultilinearEstimator(SPACE, rank=2) for _ in range(2)])
    logits, relaxation = torch.randn(4, SPACE.width), ReinMax(SPACE)
    mine = model.sample_predictions(logits, relaxation, generator=seeded(1))
    assert torch.equal(mine, model.predictions(relaxation(logits, generator=seeded(1))))


class Counted(SelfSamplingFunction):
    """A sum of numbers given to the categories, and which way it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, rows: Tensor) -> Tensor:
        self.asked.append("rows")
        return rows @ torch.arange(float(SPACE.width), dtype=rows.dtype)

    def sample(
        self, logits: Tensor, relaxation: Relaxation, *, generator: torch.Generator | None = None
    ) -> Tensor:
        self.asked.append("sample")
        row = relaxation(logits, generator=generator)
        return row @ torch.arange(float(SPACE.width), dtype=row.dtype)


@pytest.mark.parametrize(
    ("method", "asked"),
    [(ReinMax(SPACE, samples=3), "sample"), (LeaveOneOut(SPACE, samples=3), "rows")],
)
def test_only_a_relaxation_lets_f_draw(method: GradientEstimator, asked: str) -> None:
    f, logits = Counted(), torch.randn(5, SPACE.width, requires_grad=True)
    value = method.expectation(f, logits, generator=seeded(2))
    plain = method.expectation(lambda rows: Counted()(rows), logits, generator=seeded(2))
    assert f.asked == [asked]
    assert torch.equal(value, plain)
    assert torch.equal(*(torch.autograd.grad(x.sum(), logits)[0] for x in (value, plain)))
