"""Neighbours by Hamming distance, and the kinds of pairs, against brute force."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad import hamming as module
from discrete_grad.hamming import HammingIndex, context_groups


@st.composite
def tables(draw: st.DrawFn) -> tuple[Tensor, Tensor | None]:
    """Few categories, so that rows repeat; contexts that are floats."""
    count, features = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    codes = torch.randint(draw(st.integers(1, 4)), (count, features), generator=random)
    context = torch.randint(2, (count, 2), generator=random) / 4
    return codes, context if draw(st.booleans()) else None


def by_loops(
    codes: Tensor, context: Tensor | None, rows: list[int], distance: int
) -> list[list[int]]:
    found = []
    for i in rows:
        for j in range(len(codes)):
            same = context is None or torch.equal(context[i], context[j])
            if same and int((codes[i] != codes[j]).sum()) == distance:
                found.append([i, j])
    return found


@given(tables(), st.data())
def test_neighbours_by_loops(table: tuple[Tensor, Tensor | None], data: st.DataObject) -> None:
    codes, context = table
    distance = data.draw(st.integers(1, codes.shape[1]))
    rows = data.draw(st.lists(st.integers(0, len(codes) - 1), unique=True))
    found = HammingIndex(codes, context).neighbours(torch.tensor(rows, dtype=torch.long), distance)
    assert found.tolist() == by_loops(codes, context, rows, distance)


@pytest.mark.parametrize("chunk", [1, 7])
def test_parts_of_the_output_change_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(3, (40, 4), generator=random)
    whole = HammingIndex(codes).neighbours(torch.arange(40), 2)
    monkeypatch.setattr(module, "_CHUNK", chunk)
    assert torch.equal(HammingIndex(codes).neighbours(torch.arange(40), 2), whole)


def test_a_hash_that_collides_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(3, (40, 4), generator=random)
    context = torch.randint(2, (40, 1), generator=random)
    expected = by_loops(codes, context, list(range(40)), 2)
    monkeypatch.setattr(module, "column_hash", lambda column, place: column * 0)
    assert HammingIndex(codes, context).neighbours(torch.arange(40), 2).tolist() == expected


def test_many_categories() -> None:
    codes = torch.tensor([[2**40, 5], [2**40 + 1, 5], [-(2**40), 5]])
    assert HammingIndex(codes).neighbours(torch.tensor([1]), 1).tolist() == [[1, 0], [1, 2]]


@pytest.mark.parametrize("distance", [0, 3])
def test_distance_out_of_range(distance: int) -> None:
    index = HammingIndex(torch.zeros(3, 2))
    with pytest.raises(ValueError, match=rf"distance must lie in \[1, 2\], got {distance}"):
        index.neighbours(torch.arange(3), distance)
    with pytest.raises(ValueError, match=r"codes must be \(N, F\)"):
        HammingIndex(torch.zeros(3))


def test_groups() -> None:
    assert context_groups(None, 3).tolist() == [0, 0, 0]
