"""Distances to the most similar row, against plain loops."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad import hamming as module
from discrete_grad.hamming import KnownRows, nearest_hamming
from discrete_grad.sampling import permutation, seeded


@st.composite
def code_pairs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Codes `(N, F)` and observed codes `(M, F)`."""
    features = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 2), min_size=features, max_size=features)
    codes, observed = (draw(st.lists(row, min_size=1, max_size=8)) for _ in range(2))
    return torch.tensor(codes), torch.tensor(observed)


@given(code_pairs())
def test_distances_are_those_of_plain_loops(pair: tuple[Tensor, Tensor]) -> None:
    codes, observed = pair
    expected = [min(int((a != b).sum()) for b in observed) for a in codes]
    assert nearest_hamming(codes, observed).tolist() == expected


def test_chunks_do_not_change_the_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(4, (50, 6), generator=generator)
    observed = torch.randint(4, (70, 6), generator=generator)
    whole = nearest_hamming(codes, observed)
    monkeypatch.setattr(module, "_QUERIES", 3)
    monkeypatch.setattr(module, "_KNOWN", 4)
    assert torch.equal(nearest_hamming(codes, observed), whole)


def test_distances_take_a_hundred_thousand_observed_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    observed = torch.randint(5, (100_000, 9), generator=generator)
    codes = observed[:64].clone()
    codes[:, 0] = 7
    assert nearest_hamming(codes, observed).eq(1).all()


@pytest.mark.parametrize(
    ("codes", "observed"),
    [((2, 3), (0, 3)), ((2, 3), (2, 4)), ((3,), (2, 3)), ((2, 3), (3,)), ((3,), (3,))],
)
def test_distances_need_rows_of_one_space(
    codes: tuple[int, ...], observed: tuple[int, ...]
) -> None:
    told = f"codes and observed must be (N, F) and (M, F), got {codes} and {observed}"
    none = "there is no observed row to compare with"
    with pytest.raises(ValueError, match=f"^{re.escape(none if not observed[0] else told)}$"):
        nearest_hamming(torch.zeros(codes).long(), torch.zeros(observed).long())


def test_more_features_than_a_byte_counts_and_codes_beyond_16_bits() -> None:
    codes = torch.randint(100_000, (3, 600), generator=torch.Generator().manual_seed(0))
    assert nearest_hamming(codes, codes + 1).tolist() == [600, 600, 600]
    shifted = codes + 2**15 * (torch.arange(600) < 300)
    assert nearest_hamming(codes, shifted).tolist() == [300, 300, 300]
    assert nearest_hamming(codes[:0], codes).tolist() == []
    for features in (254, 255, 256, 257, 510, 511):
        some = codes[:, :features]
        assert nearest_hamming(some, some + 1).tolist() == [features] * 3
    assert nearest_hamming(codes, codes + 1).dtype == torch.int64


@pytest.mark.parametrize(("comparisons", "compared"), [(0, 1024), (5001, 1250)])
def test_a_row_of_the_table_is_recognised_whatever_the_sample(
    comparisons: int, compared: int
) -> None:
    noise = torch.Generator().manual_seed(0)
    table = torch.randint(10, (5000, 4), generator=noise).to(torch.uint8)
    known = KnownRows(table.repeat(2, 1), comparisons=comparisons)
    different = table.unique(dim=0)
    assert (known.count, known.compared) == (len(different), compared)
    assert known.distance(table[:500].long()).eq(0).all()
    others = torch.randint(10, (500, 4), generator=noise)
    exact, found = nearest_hamming(others, different), known.distance(others)
    assert torch.equal(found == 0, exact == 0)
    assert (found >= exact).all()
    assert (found > exact).any()
    # the sample is drawn from the different rows, in the order of the table
    _, first = np.unique(table.numpy(), axis=0, return_index=True)
    chosen = permutation(len(different), generator=seeded(0))[:compared].sort().values
    sample = table[torch.from_numpy(first)[chosen]]
    far = nearest_hamming(others, sample).clamp_min(1)
    assert torch.equal(found, far.where(exact > 0, 0))


def test_all_rows_are_compared_where_that_is_cheap() -> None:
    noise = torch.Generator().manual_seed(0)
    table = torch.randint(4, (3000, 6), generator=noise)
    known = KnownRows(table, comparisons=2**20)
    assert known.compared == known.count
    others = torch.randint(4, (100, 6), generator=noise)
    assert torch.equal(known.distance(others), nearest_hamming(others, table))


def test_whatever_the_hash_of_a_row_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discrete_grad.hamming._LEAST", 2)
    every = torch.cartesian_prod(torch.arange(8), torch.arange(8), torch.arange(8))
    table = every[::100]  # of most others the hash lies below or above all of these
    known = KnownRows(table, comparisons=1)
    assert known.compared < known.count
    found = known.distance(every) == 0
    assert found.nonzero().flatten().tolist() == [*range(0, 512, 100)]


@pytest.mark.parametrize("far", [2**15, 2**16, 2**17 + 2**16])
def test_codes_that_share_their_lowest_16_bits_differ(far: int) -> None:
    codes, others = torch.tensor([[0, far]]), torch.tensor([[far, 0], [0, 0], [0, far]])
    assert nearest_hamming(codes, others[:1]).tolist() == [2]
    assert nearest_hamming(codes, others[:2]).tolist() == [1]
    assert nearest_hamming(codes, others).tolist() == [0]
