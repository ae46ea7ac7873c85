"""Each context and each element of a batch has noise of its own."""

import pytest
import torch

from discrete_grad import CategoricalSpace, gradient
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.sampling import seeded
from discrete_grad.space import ContextSpec

SPACE = CategoricalSpace.from_sizes((5, 6, 7))
STOCHASTIC = (
    gradient.LeaveOneOut,
    gradient.Reinforce,
    gradient.StraightThrough,
    gradient.GumbelSoftmax,
    gradient.ReinMax,
    gradient.Rebar,
    gradient.DoubleControlVariate,
)


@pytest.mark.parametrize("kind", STOCHASTIC, ids=lambda kind: kind.__name__)
def test_equal_logits_of_a_batch_get_different_gradients(
    kind: type[gradient.GradientEstimator],
) -> None:
    logits = torch.zeros(8, SPACE.width, requires_grad=True)
    weights = torch.arange(SPACE.width) / 7.0
    value = kind(SPACE).expectation(
        lambda rows: (rows * weights).sum(-1).square(), logits, generator=seeded(0)
    )
    (found,) = torch.autograd.grad(value.sum(), logits)
    assert len(found.unique(dim=0)) > 4


@pytest.mark.parametrize("kind", [Generator, AutoregressiveGenerator])
def test_equal_contexts_get_different_rows(kind: type[Generator]) -> None:
    policy = kind(SPACE, ContextSpec({"shop": 2}), hidden=(8,))
    rows = policy.sample(torch.eye(2)[[0] * 40], 1, generator=seeded(0))
    assert rows.shape == (1, 40, 3)
    assert len(rows[0].unique(dim=0)) > 20
