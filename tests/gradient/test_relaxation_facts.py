"""The later relaxations cost what their facts say."""

import pytest
import torch
from torch import Tensor

from discrete_grad import (
    IMLE,
    AdaptiveIMLE,
    Darn,
    DecoupledStraightThrough,
    Entmax,
    EntropyWeighted,
    GappedStraightThrough,
    GumbelRao,
    LowVarianceReinMax,
    ReinMaxRao,
    Relaxation,
)
from tests.gradient.contract import RAGGED, function
from tests.strategies import random_logits

LATER = (
    AdaptiveIMLE,
    Darn,
    DecoupledStraightThrough,
    Entmax,
    EntropyWeighted,
    GappedStraightThrough,
    GumbelRao,
    IMLE,
    LowVarianceReinMax,
    ReinMaxRao,
)


@pytest.mark.parametrize("cls", LATER, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("samples", [1, 3])
def test_the_cost_is_what_f_is_asked(cls: type[Relaxation], samples: int) -> None:
    estimator, f, asked = cls(RAGGED, samples=samples), function(RAGGED, "cubic"), [0, 0]

    def back(gradient: Tensor) -> None:
        asked[1] += len(gradient)

    def counted(rows: Tensor) -> Tensor:
        assert rows.dim() == 2  # one element of a batch: (samples, D)
        asked[0] += len(rows)
        rows.register_hook(back)
        return f(rows)

    logits = random_logits(RAGGED).requires_grad_()
    torch.autograd.grad(estimator.expectation(counted, logits), logits)
    cost = estimator.cost(RAGGED)
    assert asked == [cost.evaluations, cost.backward] == [samples, samples]
