"""The most likely rows, against all rows in order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import most_likely_rows
from tests.strategies import random_logits, spaces


@given(spaces(), st.integers(1, 60), st.booleans(), st.integers(0, 2**31))
def test_they_are_the_first_of_all_rows_in_order(
    space: CategoricalSpace, count: int, masked: bool, seed: int
) -> None:
    logits = random_logits(space, scale=2.0, masked=masked, generator=seed)
    codes, log_prob = most_likely_rows(space, logits, count)
    space.check_codes(codes)
    assert codes.shape == (min(count, space.num_rows), space.num_features)
    assert len(codes.unique(dim=0)) == len(codes)
    everything = space.log_prob(logits, space.enumerate()).double()
    expected = everything.sort(descending=True).values[: len(codes)]
    assert_close(log_prob, expected, atol=1e-4, rtol=1e-4)
    assert_close(space.log_prob(logits, codes).double(), log_prob, atol=1e-4, rtol=1e-4)


def test_the_first_is_the_argmax_and_a_batch_is_its_parts() -> None:
    space = CategoricalSpace.from_sizes((3, 1, 4, 5))
    logits = torch.randn(2, 7, space.width, generator=torch.Generator().manual_seed(0))
    codes, log_prob = most_likely_rows(space, logits, 9)
    assert codes.shape == (2, 7, 9, 4)
    assert torch.equal(codes[:, :, 0], space.argmax(logits))
    alone = most_likely_rows(space, logits[1, 3], 9)
    assert torch.equal(codes[1, 3], alone[0])
    assert torch.equal(log_prob[1, 3], alone[1])


def test_many_features_of_many_categories() -> None:
    space = CategoricalSpace.from_sizes((10,) * 300)
    logits = torch.randn(space.width, generator=torch.Generator().manual_seed(0))
    codes, log_prob = most_likely_rows(space, logits, 200)
    assert len(codes.unique(dim=0)) == 200
    assert (log_prob.diff() <= 0).all()
    # no single swap of the best is more likely than the last, unless it is among them
    swaps = space.swaps(codes[0])
    missing = ~(swaps.unsqueeze(1) == codes).all(-1).any(1)
    assert (space.log_prob(logits, swaps[missing]) <= log_prob[-1] + 1e-3).all()


def test_a_large_vocabulary_alone() -> None:
    space = CategoricalSpace.from_sizes((1000,))
    logits = torch.arange(1000.0)
    assert most_likely_rows(space, logits, 3)[0].tolist() == [[999], [998], [997]]


def test_errors() -> None:
    space = CategoricalSpace({"cut": 2, "shape": 2})
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        most_likely_rows(space, torch.zeros(4), 0)
    logits = torch.tensor([0.0, 0.0, -torch.inf, -torch.inf])
    with pytest.raises(ValueError, match="feature 'shape' has every category masked"):
        most_likely_rows(space, logits, 1)
