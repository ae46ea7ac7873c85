"""Logits of NaN that nobody could refuse: NaN in, NaN out, and only there."""

import math

import pytest
import torch
from torch import Tensor

from discrete_grad import IMLE, AdaptiveIMLE, CategoricalSpace, Entmax
from discrete_grad.sampling import seeded
from tests.gradient.cases import BINARY_CASES, CASES, Case

SPACE = CategoricalSpace.from_sizes((3, 3, 4))


@pytest.mark.parametrize("case", [*CASES, *BINARY_CASES], ids=str)
def test_nan_under_vmap_stays_with_its_element(case: Case) -> None:
    space = CategoricalSpace.from_sizes((2, 2, 2)) if case in BINARY_CASES else SPACE
    method, weights = case.estimator(space), torch.arange(1.0, 1 + space.width)
    logits = torch.zeros(3, space.width)
    logits[1, 3] = math.nan

    def value(logits: Tensor) -> Tensor:
        return method.expectation(lambda rows: (rows * weights).sum(-1) ** 2, logits)

    gradients, values = torch.func.vmap(torch.func.grad_and_value(value), randomness="different")(
        logits
    )
    assert values.isnan().tolist() == [False, True, False]
    assert gradients.isnan().any(-1).tolist() == [False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_a_compiled_entmax_hands_nan_on(alpha: float) -> None:
    logits = torch.zeros(2, 10)
    logits[1, 4] = math.nan
    row = torch.compile(Entmax(SPACE, alpha=alpha), backend="aot_eager")(logits)
    assert row[1].isnan().tolist() == [3 <= k < 6 for k in range(10)]
    assert row[0].isfinite().all()


def test_a_derivative_of_nan_gives_imle_no_gradient() -> None:
    for method in (IMLE(SPACE), AdaptiveIMLE(SPACE)):
        logits = torch.zeros(10, requires_grad=True)
        method(logits, generator=seeded(0)).backward(torch.full((10,), math.nan))
        assert logits.grad is not None
        assert logits.grad.isnan().all()
