"""Gapped straight-through: what the gap does."""

import math

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, GappedStraightThrough
from discrete_grad.gradient.gapped_straight_through import _gapped_surrogate
from tests.gradient import contract
from tests.gradient.cases import gapped_case
from tests.gradient.contract import RAGGED, TINY, TINY_LOGITS, function
from tests.strategies import random_logits

SPACE = CategoricalSpace({"x": 4})
EYE = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0, 5.0])
def test_the_drawn_category_leads_the_others_by_the_gap(gap: float) -> None:
    logits = random_logits(SPACE, (50, 1), scale=2).expand(50, 4, 4)
    lead = _gapped_surrogate(SPACE, logits, EYE.expand(50, 4, 4), gap, 1.0).log()
    drawn = lead.diagonal(dim1=-2, dim2=-1)
    others = lead.clone()
    others[:, range(4), range(4)] = -math.inf
    assert (drawn - others.amax(-1) >= gap - 1e-9).all()


def test_a_draw_that_leads_already_leaves_the_softmax_as_it_is() -> None:
    logits = torch.tensor([3.0, 1.5, -0.4, 0.2], dtype=torch.float64)
    surrogate = _gapped_surrogate(SPACE, logits, EYE[0], 1.0, 0.7)
    assert_close(surrogate, (logits / 0.7).softmax(-1))
    assert not torch.allclose(_gapped_surrogate(SPACE, logits, EYE[1], 1.0, 0.7), surrogate)


@pytest.mark.parametrize(("gap", "tau"), [(1.0, 1.0), (0.0, 1.0), (1.0, 0.5)])
def test_it_is_biased_on_linear_functions(gap: float, tau: float) -> None:
    f = function(TINY, "linear")
    _, gradient = contract.expected(gapped_case(gap, tau), TINY, TINY_LOGITS, f)
    assert (gradient - contract.truth(TINY, TINY_LOGITS, f)[1]).abs().max() > 1e-2


def test_given_the_row_nothing_is_random() -> None:
    logits, f = random_logits(RAGGED, (5,), masked=True), function(RAGGED, "cubic")
    codes = RAGGED.argmax(logits).unsqueeze(0)
    results = []
    for seed in (0, 1):
        with contract.given_codes(codes):
            generator = contract.seeded(seed)
            estimator = GappedStraightThrough(RAGGED)
            results.append(contract.value_and_gradient(estimator, f, logits, generator=generator))
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("gap", [-0.1, math.inf, math.nan, None, "1"])
def test_bad_gap(gap: float) -> None:
    with pytest.raises(ValueError, match="gap must be a finite number of at least 0"):
        GappedStraightThrough(gap=gap)
