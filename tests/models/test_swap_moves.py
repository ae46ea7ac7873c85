"""Moves of a search by swaps: random ones, and those that mend a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from discrete_grad import CategoricalSpace
from discrete_grad.models._swap_moves import Terms, UnreachableError
from discrete_grad.rules import Forbid, Rules
from discrete_grad.sampling import seeded

TINY = CategoricalSpace.from_sizes((2, 3, 2))


def terms(price: torch.Tensor, counts: torch.Tensor, **more: Any) -> Terms:
    known: dict[str, Any] = {"edits": None, "rules": None, "rule_context": None, "allowed": None}
    return Terms(TINY, price, counts, **known | more)


def test_a_row_without_an_open_swap_stays_where_it_is() -> None:
    codes = torch.tensor([[1, 2, 1], [0, 1, 0]])
    price = torch.zeros(2, 7).masked_fill(torch.tensor([[True], [False]]), torch.inf)
    price[0, [1, 4, 6]] = 0.0
    kicked = terms(price, torch.ones(2, 7)).kicked(codes, torch.arange(2), seeded(0))
    assert kicked[0].tolist() == [1, 2, 1]
    assert int((kicked[1] != codes[1]).sum()) == 1


def test_a_row_is_mended_by_the_fewest_edits() -> None:
    """A feature whose start is unknown is no edit: it is changed before two others are."""
    rules = Rules(TINY, [Forbid({"x0": 0, "x2": 0}), Forbid({"x0": 1, "x1": 0})])
    codes = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0]])
    starts = torch.tensor([[0, 0, 0], [0, 0, -1], [-1, -1, 0]])
    counts = (TINY.one_hot(starts.clamp_min(0)) == 0) & (starts >= 0).repeat_interleave(
        torch.tensor(TINY.sizes), 1
    )
    made = terms(torch.zeros(3, 7), counts.double(), rules=rules, edits=1)
    mended = made.mended(codes)
    assert mended.tolist()[:2] == [[0, 0, 1], [0, 0, 1]]
    assert (mended[2, 0].item(), mended[2, 2].item(), bool(mended[2, 1] > 0)) == (1, 0, True)
    with pytest.raises(UnreachableError, match="1 edits away, more than edits=0") as told:
        terms(torch.zeros(3, 7), counts.double(), rules=rules, edits=0).mended(codes)
    assert told.value.row == 0
