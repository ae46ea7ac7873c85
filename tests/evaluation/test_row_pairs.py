"""Pairs of rows of a kind, against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.evaluation.row_pairs import PAIR_KINDS, pairs_of_kind
from discrete_grad.hamming import HammingIndex
from tests.test_hamming_index import by_loops, tables


@given(tables(), st.sampled_from(PAIR_KINDS), st.integers(1, 40), st.integers(0, 99))
def test_pairs_of_a_kind(
    table: tuple[Tensor, Tensor | None], kind: str, most: int, seed: int
) -> None:
    codes, context = table
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(codes), generator=random)[: len(codes) // 2 + 1]
    rows, others, known = pairs_of_kind(
        kind, HammingIndex(codes, context), chosen, most, generator=random
    )
    features = codes.shape[1]
    right = {
        "random": range(features + 1),
        "hamming 1": [1],
        "far": [d for d in range(features + 1) if 2 * d >= features],
    }[kind]
    every = {
        i: [j for d in right for _, j in by_loops(codes, context, [i], d) if j != i]
        for i in chosen.tolist()
    }
    assert rows.tolist() == [i for i in chosen.tolist() if every[i]]
    for i, other, exists in zip(rows.tolist(), others, known, strict=True):
        shown = other[exists].tolist()
        assert len(set(shown)) == len(shown) == min(most, len(every[i]))  # small tables: none lost
        assert set(shown) <= set(every[i])


def test_large_contexts_are_sampled_evenly() -> None:
    codes = torch.arange(1000).unsqueeze(1)
    random = torch.Generator().manual_seed(0)
    rows, others, known = pairs_of_kind(
        "random", HammingIndex(codes), torch.arange(200), 10, generator=random
    )
    assert len(rows) == 200
    assert known.all()
    assert (others != rows.unsqueeze(1)).all()
    counts = (others // 100).flatten().bincount(minlength=10)
    assert counts.sum() == 2000
    assert ((counts - 200).abs() < 60).all()  # 4.5 standard deviations


def test_unknown_kind() -> None:
    with pytest.raises(
        ValueError, match=r"^kind must be one of \('random', 'hamming 1', 'far'\), got 'near'$"
    ):
        pairs_of_kind("near", HammingIndex(torch.zeros(2, 1)), torch.arange(2), 1)
