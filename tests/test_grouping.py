"""Groups of equal rows are those of `torch.unique`, to the number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discrete_grad.grouping import column_hash, first_rows, row_groups
from tests.pretended_card import CARD, pretended_card


def expected(*tables: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.cat([t.double() for t in tables], 1).unique(
        dim=0, return_inverse=True
    )[1]
    return inverse


@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 40),
    columns=st.integers(1, 70),
    high=st.sampled_from([1, 2, 5, 2**31 - 1, 2**40]),
)
def test_any_number_of_columns_of_any_size(seed: int, rows: int, columns: int, high: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    codes = torch.randint(high, (rows, columns), generator=noise)
    codes = codes[torch.randint(rows, (2 * rows,), generator=noise)]
    assert torch.equal(row_groups(codes), expected(codes))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_narrow_codes_beside_numbers_of_either_sign(dtype: torch.dtype) -> None:
    noise = torch.Generator().manual_seed(0)
    codes = torch.randint(100, (200, 3), generator=noise).to(dtype)
    numbers = torch.randn(200, 2, generator=noise)
    again = torch.arange(200) % 50
    one_hot = torch.eye(4)[torch.randint(4, (200,), generator=noise)]
    tables = [table[again] for table in (codes, one_hot, numbers, -0.0 * numbers)]
    assert torch.equal(row_groups(*tables), expected(*tables))


def test_the_first_row_of_each_group_and_no_row_at_all() -> None:
    codes = torch.tensor([[3, 1], [0, 9], [3, 1], [0, 9], [2, 2]])
    assert first_rows(row_groups(codes)).tolist() == [1, 4, 0]
    assert row_groups(codes[:0]).tolist() == first_rows(row_groups(codes[:0])).tolist() == []


def test_rows_of_small_codes_do_not_share_a_hash() -> None:
    codes = torch.cartesian_prod(*[torch.arange(10)] * 5)
    total = sum(column_hash(column, place) for place, column in enumerate(codes.unbind(1)))
    assert isinstance(total, torch.Tensor)
    assert len(total.unique()) == len(codes)


def test_whole_numbers_below_zero_are_groups_of_their_own() -> None:
    """Columns from -5 to 3 and from 7 to 9: none of their pairs is taken for another."""
    codes = torch.cartesian_prod(torch.arange(-5, 4), torch.arange(7, 10), torch.arange(-9, -7))
    assert torch.equal(row_groups(codes), torch.arange(len(codes)))
    assert torch.equal(row_groups(codes.flip(0)), torch.arange(len(codes)).flip(0))


def test_large_codes_that_differ_by_one() -> None:
    """The numbers of the rows are whole beyond the 2^24 that float32 can count."""
    codes = torch.tensor([[0, 0], [2**30, 0], [2**30, 1], [2**30 - 1, 1]])
    assert row_groups(codes).tolist() == [0, 2, 3, 1]


def test_codes_as_far_below_zero_as_above() -> None:
    """The numbers of rows would wrap, if the columns were not ranked first."""
    far = 2**61
    codes = torch.cartesian_prod(*[torch.tensor([-far, 0, far])] * 4)
    assert torch.equal(row_groups(codes), torch.arange(len(codes)))


@pytest.mark.parametrize("place", [0, 1, 5])
def test_the_hash_is_split_mix_of_the_published_constants(place: int) -> None:
    """By whole numbers of Python: Steele, Lea, Flood (2014), figure 16, of (place + 1) 2^40 + x."""
    values, found = [-3, 0, 1, 2, 255, 2**39], []
    for value in values:
        mixed = (value + (place + 1) * 2**40) * 0x9E3779B97F4A7C15 % 2**64
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
        found.append(mixed ^ mixed >> 31)
    assert [h % 2**64 for h in column_hash(torch.tensor(values), place).tolist()] == found


def test_numbers_that_differ_in_their_fraction_alone() -> None:
    numbers = torch.tensor([[0.5], [0.25], [0.75], [0.5]])
    assert row_groups(numbers).tolist() == [1, 0, 2, 1]
    assert row_groups(torch.zeros(4, 1), numbers.double()).tolist() == [1, 0, 2, 1]


def test_groups_stay_on_the_device_of_the_rows() -> None:
    with pretended_card():
        group = row_groups(torch.tensor([[3, 1], [0, 9], [3, 1]]).to(CARD))
        first = first_rows(group)
        assert group.device == first.device == CARD
        assert group.tolist() == [1, 0, 1]
        assert first.tolist() == [1, 0]
