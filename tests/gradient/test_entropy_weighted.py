"""Entropy-weighted rows: their two limits, and how much of the draw is in a row."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, EntropyWeighted, Softmax, StraightThrough
from discrete_grad.gradient import entropy_weighted
from tests.gradient import contract
from tests.gradient.contract import RAGGED, RAGGED_LOGITS, function, seeded


@pytest.mark.parametrize(
    ("weight", "limit"), [(0.0, Softmax(RAGGED)), (1.0, StraightThrough(RAGGED))], ids=["0", "1"]
)
def test_weights_of_0_give_softmax_and_of_1_straight_through(
    monkeypatch: pytest.MonkeyPatch, weight: float, limit: Softmax | StraightThrough
) -> None:
    def weights(logits: Tensor) -> Tensor:
        return torch.full_like(logits[..., :1], weight)

    monkeypatch.setattr(entropy_weighted, "_entropy_weights", weights)
    logits, f = RAGGED_LOGITS.expand(40, -1), function(RAGGED, "cubic")
    pairs = [
        contract.value_and_gradient(method, f, logits, generator=seeded())
        for method in (EntropyWeighted(RAGGED), limit)
    ]
    assert_close(pairs[0], pairs[1], rtol=0, atol=0)


def test_a_row_is_the_draw_where_logits_are_equal_and_the_mean_where_they_are_far_apart() -> None:
    space = CategoricalSpace.from_sizes((4, 1, 3))
    logits = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0, 60.0, 0.0, 0.0], dtype=torch.float64)
    rows = EntropyWeighted(space)(logits.expand(100, -1), generator=seeded())
    open_, single, decided = space.split(rows)
    assert_close(open_.amax(-1), torch.ones(100).double(), rtol=0, atol=1e-12)
    assert (open_.argmax(-1).bincount(minlength=4) > 0).all()
    assert (single == 1).all()
    assert_close(decided, logits[5:].softmax(-1).expand(100, -1), rtol=0, atol=1e-20)


def test_the_weight_is_the_entropy_over_its_largest() -> None:
    logits = torch.tensor([0.7, -math.inf, -0.4, 1.1], dtype=torch.float64)
    p = logits[[0, 2, 3]].softmax(-1)
    expected = -(p * p.log()).sum() / math.log(3)
    found = entropy_weighted._entropy_weights(logits.unsqueeze(0))
    assert_close(found, expected.view(1, 1))


def test_on_a_multilinear_f_its_gradient_varies_less_than_that_of_straight_through() -> None:
    f, logits = function(RAGGED, "multilinear"), RAGGED_LOGITS.expand(4000, -1)
    spread = [
        contract.value_and_gradient(cls(RAGGED), f, logits, generator=seeded())[1].var(0).sum()
        for cls in (EntropyWeighted, StraightThrough)
    ]
    assert 0 < spread[0] < 0.95 * spread[1]
