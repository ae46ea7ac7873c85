"""The running baseline of Reinforce."""

import pytest
import torch
from torch.testing import assert_close

from discrete_grad import Reinforce
from tests.gradient import contract
from tests.gradient.contract import RAGGED, TINY, TINY_LOGITS, function


def test_the_baseline_is_the_weighted_mean_of_earlier_values() -> None:
    estimator, values = Reinforce(decay=0.9), [2.0, -1.0, 5.0, 0.5]
    for value in values:
        estimator.expectation(lambda rows, v=value: rows.sum(-1) * v, torch.zeros(3, 4))
    weights = torch.tensor([0.9**age for age in (3, 2, 1, 0)], dtype=torch.float64)
    mean = (weights @ torch.tensor(values, dtype=torch.float64)) / weights.sum()
    assert_close(estimator.baseline / estimator.weight, mean)


def test_the_baseline_removes_a_constant_after_one_call() -> None:
    estimator, logits = Reinforce(RAGGED), torch.zeros(5, 9, dtype=torch.float64)
    _, first = contract.value_and_gradient(estimator, lambda rows: rows.sum(-1) * 0 + 5, logits)
    _, second = contract.value_and_gradient(estimator, lambda rows: rows.sum(-1) * 0 + 5, logits)
    assert first.abs().max() > 1
    assert_close(second, torch.zeros_like(second), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_baseline_never_depends_on_the_rows_it_corrects(decay: float) -> None:
    # each row as a training call of its own: the mean over all rows is the exact gradient
    f = function(TINY, "cubic")
    rows = TINY.enumerate()
    gradient = torch.zeros(5, dtype=torch.float64)
    for row, p in zip(rows, TINY.log_prob(TINY_LOGITS, rows).exp(), strict=True):
        estimator = Reinforce(TINY, decay=decay)
        earlier = TINY_LOGITS.expand(7, -1)
        estimator.expectation(f, earlier, generator=contract.seeded())
        before = estimator.baseline.clone()
        with contract.given_codes(row.unsqueeze(0)):
            gradient += p * contract.value_and_gradient(estimator, f, TINY_LOGITS)[1]
        assert estimator.baseline != before
    assert_close(gradient, contract.truth(TINY, TINY_LOGITS, f)[1], rtol=0, atol=1e-12)


def test_the_first_call_uses_no_baseline() -> None:
    f, logits = function(RAGGED, "cubic"), torch.zeros(5, 9, dtype=torch.float64)
    results = [
        contract.value_and_gradient(estimator, f, logits, generator=contract.seeded())
        for estimator in (Reinforce(RAGGED), Reinforce(RAGGED).eval())
    ]
    assert torch.equal(results[0][1], results[1][1])


def test_the_baseline_moves_in_training_mode_only_and_for_no_empty_batch() -> None:
    estimator = Reinforce(RAGGED)
    estimator.eval().expectation(lambda rows: rows.sum(-1), torch.zeros(3, 9))
    estimator.train().expectation(lambda rows: rows.sum(-1), torch.zeros(0, 9))
    assert estimator.baseline == 0
    assert estimator.weight == 0
    estimator.expectation(lambda rows: rows.sum(-1), torch.zeros(3, 9))
    assert_close(estimator.baseline.item(), 0.4)


def test_the_baseline_is_saved() -> None:
    estimator, other = Reinforce(), Reinforce()
    estimator.expectation(lambda rows: rows.sum(-1), torch.zeros(3, 4))
    other.load_state_dict(estimator.state_dict())
    assert sorted(estimator.state_dict()) == ["baseline", "weight"]
    assert other.baseline == estimator.baseline > 0


def test_the_baseline_keeps_no_graph() -> None:
    estimator, scale = Reinforce(), torch.tensor(2.0, requires_grad=True)
    estimator.expectation(lambda rows: rows.sum(-1) * scale, torch.zeros(3, 4))
    assert not estimator.baseline.requires_grad


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_bad_decay(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        Reinforce(decay=decay)
