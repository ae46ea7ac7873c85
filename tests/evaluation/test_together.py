"""Pairs of categories that were never seen, and columns that combine sparsely."""

from itertools import combinations

import pytest
import torch
from torch import Tensor

from discrete_grad.evaluation import together
from discrete_grad.evaluation.together import sparse_pairs, unseen_pairs
from discrete_grad.sampling import random_codes, seeded, uniform
from discrete_grad.space import CategoricalSpace

SPACE = CategoricalSpace.from_sizes((3, 5, 2, 4))


def counted(known: Tensor, codes: Tensor, others: int) -> list[int]:
    """Pairs of each row that fewer than so many known rows have, by looking at them all."""
    pairs = list(combinations(range(codes.shape[1]), 2))
    return [
        sum(int((known[:, [i, j]] == row[[i, j]]).all(1).sum()) < others for i, j in pairs)
        for row in codes
    ]


@pytest.mark.parametrize(
    ("cells", "at_once"),
    [(2**22, 2**18), (2**22, 24), (12, 1), (3, 1)],
    ids=["all others at once", "some at once", "one by one, some sorted", "sorted"],
)
def test_unseen_pairs_are_counted(
    cells: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "_MOST_CELLS", cells)
    monkeypatch.setattr(together, "_AT_ONCE", at_once)
    noise = seeded(0)
    known, codes = (random_codes(SPACE, n, generator=noise) for n in (12, 30))
    found = unseen_pairs(SPACE, known.to(torch.uint8), codes)
    assert found.tolist() == counted(known, codes, 1)
    assert found.max() > 0
    own = unseen_pairs(SPACE, known, known, own=True)
    assert own.tolist() == counted(known, known, 2)
    assert not unseen_pairs(SPACE, known, known).any()


def test_a_column_that_decides_another_is_sparse() -> None:
    noise = seeded(1)
    space = CategoricalSpace.from_sizes((12, 6, 3))
    codes = random_codes(space, 200, generator=noise)
    codes[:, 1] = codes[:, 0] % 6
    (pair,) = sparse_pairs(codes, space.sizes)
    assert (pair.columns, pair.seen, pair.further) == ((0, 1), 12, 0)
    # 200 rows leave few of 72 cells empty
    assert 60 < pair.expected < 72
    # too few rows to tell, although half of the pairs that were to be expected are not there
    three = (torch.arange(12) % 3).unsqueeze(1).expand(-1, 2)
    assert not sparse_pairs(three, (3, 3))
    assert sparse_pairs(three.repeat(5, 1), (3, 3))
    # of many pairs some look sparse by chance
    many = torch.cat([three[:8].repeat(3, 1), torch.zeros(24, 40).long()], 1)
    assert sparse_pairs(many[:, :2], (3, 3))
    assert not sparse_pairs(many, (3, 3, *[1] * 40))


@pytest.mark.parametrize("at_once", [1, 700, 2**18])
def test_sparse_pairs_are_the_same_however_many_are_counted_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (12, 6, 3, 9, 4)
    codes = random_codes(CategoricalSpace.from_sizes(sizes), 200, generator=seeded(1))
    codes[:, 1], codes[:, 4] = codes[:, 0] % 6, codes[:, 3] % 4
    monkeypatch.setattr(together, "_AT_ONCE", at_once)
    pairs = sparse_pairs(codes, sizes)
    assert [pair.columns for pair in pairs] == [(0, 1), (3, 4)]
    for pair in pairs:  # as two columns alone
        i, j = pair.columns
        p = codes[:, i].bincount().double().outer(codes[:, j].bincount().double()) / 200**2
        assert pair.expected == pytest.approx(float((1 - (1 - p) ** 200).sum()))
        assert pair.seen == len(codes[:, [i, j]].unique(dim=0))


def test_pairs_of_too_many_cells_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_AT_ONCE", 1)
    codes = random_codes(CategoricalSpace.from_sizes((12, 6, 3)), 200, generator=seeded(1))
    codes[:, 1], codes[:, 2] = codes[:, 0] % 6, codes[:, 0] % 3
    every = [pair.columns for pair in sparse_pairs(codes, (12, 6, 3))]
    assert sorted(every) == [(0, 1), (0, 2), (1, 2)]
    monkeypatch.setattr(together, "_MOST_CELLS", 71)  # (0, 1) has 72
    assert [pair.columns for pair in sparse_pairs(codes, (12, 6, 3))] == every[1:]
    monkeypatch.setattr(together, "_MOST_CELLS", 72)
    assert [pair.columns for pair in sparse_pairs(codes, (12, 6, 3))] == every


def test_columns_that_only_lack_some_pairs_are_not_sparse() -> None:
    codes = random_codes(CategoricalSpace.from_sizes((10, 10)), 3000, generator=seeded(4))
    codes = codes[(codes[:, 0] + codes[:, 1]) % 10 > 1]
    assert len(codes.unique(dim=0)) == 80
    assert not sparse_pairs(codes, (10, 10))


def test_pairs_of_which_new_ones_keep_coming_are_not_proposed() -> None:
    # each of 1,000 pairs on a diagonal of 100 x 100 occurs about twice
    noise = seeded(2)
    first = random_codes(CategoricalSpace.from_sizes((100,)), 2000, generator=noise)[:, 0]
    step = random_codes(CategoricalSpace.from_sizes((10,)), 2000, generator=noise)[:, 0]
    codes = torch.stack([first, (first + step) % 100], 1)
    assert not sparse_pairs(codes, (100, 100))
    (pair,) = sparse_pairs(codes.repeat(3, 1), (100, 100))
    assert (pair.seen, pair.further) == (len(codes.unique(dim=0)), 0)


def test_without_rows_there_are_no_sparse_pairs() -> None:
    assert sparse_pairs(torch.zeros(0, 2).long(), (3, 3)) == []


def test_independent_columns_raise_no_alarm() -> None:
    noise, sizes = seeded(3), (2, 6, 15, 60, 8)
    alarms = 0
    for trial in range(100):
        rows = (40, 300, 2000)[trial % 3]
        weights = [uniform((size,), generator=noise) ** 5 for size in sizes]
        columns = [
            torch.searchsorted((w / w.sum()).cumsum(0), uniform((rows,), generator=noise)).clamp(
                max=len(w) - 1
            )
            for w in weights
        ]
        alarms += bool(sparse_pairs(torch.stack(columns, 1), sizes))
    assert not alarms


def test_of_many_rows_a_sample_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_WORK", 1)
    monkeypatch.setattr(together, "_FEWEST", 150)
    codes = torch.arange(6000).unsqueeze(1) % torch.tensor([10, 5])
    (pair,) = sparse_pairs(codes, (10, 5))
    assert pair == sparse_pairs(codes, (10, 5), seed=0)[0]
    assert pair.expected < 50 * (1 - 0.98**150) + 0.5
