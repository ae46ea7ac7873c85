"""Steepest ascent by single swaps, against a search that looks at every row."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discrete_grad import CategoricalSpace
from discrete_grad.models import single_swap_ascent
from discrete_grad.rules import AtMost, Exactly, Fix, Forbid, OneOf, Rules

SPACE = CategoricalSpace.from_sizes((2, 3, 1, 4))


def table_score(seed):
    values = torch.randn(SPACE.num_rows, generator=torch.Generator().manual_seed(seed))
    strides = torch.tensor([12, 4, 4, 1])
    return lambda codes: values[(codes * strides).sum(-1)]


def slow_ascent(score, row):
    while True:
        swaps = SPACE.swaps(row)
        best = swaps[score(swaps).argmax()]
        if not score(best[None]) > score(row[None]):
            return row
        row = best


@settings(deadline=None)
@given(seed=st.integers(0, 2**31))
def test_it_makes_the_best_swap_each_time_and_ends_at_a_local_optimum(seed):
    score, rows = table_score(seed), SPACE.enumerate()
    reached = single_swap_ascent(SPACE, score, rows)
    assert torch.equal(reached, torch.stack([slow_ascent(score, row) for row in rows]))


def test_it_stays_where_it_is_allowed():
    start = torch.tensor([[0, 0, 0, 0]])
    reached = single_swap_ascent(
        SPACE, lambda codes: codes.sum(-1).float(), start, allowed=lambda c: (c != 0).sum(-1) <= 1
    )
    assert reached.tolist() == [[0, 0, 0, 3]]


def test_it_obeys_rules():
    """Every swap of a climb leads to an allowed row, and one that is cut off stays."""
    score, rows = table_score(1), SPACE.enumerate()
    yes = {name: 0 for name in SPACE.names}
    rules = Rules(SPACE, [AtMost(2, yes), Forbid({"x1": 1, "x3": [1, 2]})])
    rows = rules.enumerate()
    reached = single_swap_ascent(SPACE, score, rows, allowed=rules.allows)
    assert rules.allows(reached).all()
    assert (score(reached) > score(rows)).any()
    open_to = torch.where(rules.allows(SPACE.swaps(reached)), score(SPACE.swaps(reached)), -9)
    assert (open_to.amax(-1) <= score(reached)).all()
    alone = Rules(SPACE, [Exactly(1, {"x0": 0, "x1": 0}), OneOf("x1", [0, 1]), Fix("x3", 2)])
    rows = alone.enumerate()
    assert torch.equal(single_swap_ascent(SPACE, score, rows, allowed=alone.allows), rows)


def test_it_makes_no_more_swaps_than_told_and_leaves_its_input_alone():
    start = torch.zeros(1, 4, dtype=torch.long)
    reached = single_swap_ascent(SPACE, lambda c: c.sum(-1).float(), start, max_swaps=1)
    assert reached.tolist() == [[0, 0, 0, 3]]
    assert not start.any()


def test_it_takes_no_rows_and_spaces_without_a_choice():
    assert single_swap_ascent(SPACE, table_score(0), torch.zeros(0, 4).long()).shape == (0, 4)
    one = CategoricalSpace.from_sizes((1, 1))
    row = torch.zeros(1, 2, dtype=torch.long)
    assert torch.equal(single_swap_ascent(one, lambda c: c.sum(-1).float(), row), row)


def test_it_refuses_negative_swaps_and_foreign_codes():
    with pytest.raises(ValueError, match="max_swaps"):
        single_swap_ascent(SPACE, table_score(0), SPACE.enumerate(), max_swaps=-1)
    with pytest.raises(ValueError, match="x1"):
        single_swap_ascent(SPACE, table_score(0), torch.tensor([[0, 3, 0, 0]]))
