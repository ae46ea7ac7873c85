"""What the judge gets: its share, of every category, and of every frequent row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from discrete_grad.data import ScoredRows
from discrete_grad.fitting.judge_split import judge_split
from discrete_grad.grouping import row_groups
from discrete_grad.sampling import permutation, seeded
from discrete_grad.space import ContextSpec
from discrete_grad.training import RunError

SPEC = ContextSpec({"shop": 3, "day": 4})


def drawn(count: int, sizes: tuple[int, ...], seed: int) -> ScoredRows:
    """Rows whose categories are the rarer the higher they are."""
    generator = seeded(seed)

    def column(size: int) -> Tensor:
        return (size * torch.rand(count, generator=generator).square()).long()

    codes = torch.stack([column(size) for size in sizes], 1)
    shop, day = (torch.eye(n)[column(n)] for n in (3, 4))
    return ScoredRows(codes, torch.zeros(count), torch.cat([shop, day], 1))


def columns_of(rows: ScoredRows) -> Tensor:
    return torch.cat([rows.codes, SPEC.codes(rows.context)], 1)


def last_on(columns: Tensor, side: Tensor, row: int) -> bool:
    """Whether a row of a side is the last of a category there that the other side has, too."""
    same = columns == columns[row]
    return bool(((same & side[:, None]).sum(0) == 1)[(same & ~side[:, None]).any(0)].any())


SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=4).map(tuple)


@given(st.integers(10, 80), SIZES, st.integers(0, 10**6), st.sampled_from([0.1, 0.2, 0.5]))
# where rows given back make room for others
@example(13, (2, 11, 12, 8), 198, 0.2)
@example(13, (6, 12, 12, 3), 327, 0.1)
@example(17, (10, 9, 5), 370, 0.5)
def test_every_category_reaches_both_sides(
    count: int, sizes: tuple[int, ...], seed: int, share: float
) -> None:
    rows = drawn(count, sizes, seed)
    mine, judged = judge_split(rows, share, seed=seed, spec=SPEC)
    assert torch.cat([mine, judged]).sort().values.tolist() == list(range(count))
    assert len(judged) >= 2
    here = torch.ones(count, dtype=torch.bool).index_fill(0, judged, False)
    columns, group = columns_of(rows), row_groups(rows.codes, rows.context)
    often = group.bincount() >= 4
    # a frequent row is as good as a category of its own
    columns = torch.cat([columns, torch.where(often[group], group, -1 - group)[:, None]], 1)
    for index, column in enumerate(columns.unbind(1)):
        for category in column.unique().tolist():
            if (column == category).sum() < 2 or (index == columns.shape[1] - 1 and category < 0):
                continue
            assert (here & (column == category)).any(), "the generator's side goes first"
            if not (~here & (column == category)).any():
                left = (column == category).nonzero()[:, 0].tolist()
                assert all(last_on(columns, here, row) for row in left)


@given(st.integers(1, 6), st.integers(4, 60), st.integers(0, 99), st.sampled_from([0.1, 0.3, 0.9]))
def test_frequent_rows_are_shared_by_their_observations(
    different: int, times: int, seed: int, share: float
) -> None:
    codes = torch.arange(different).repeat(times).unsqueeze(1)
    rows = ScoredRows(codes, torch.zeros(len(codes)))
    wanted = min(max(2 if different == 1 else 1, round(share * times)), times - 1)
    if different * (times - wanted) < 4:
        with pytest.raises(RunError, match="lower judge_share"):
            judge_split(rows, share, seed=seed)
        return
    _, judged = judge_split(rows, share, seed=seed)
    assert codes[judged].flatten().bincount().tolist() == [wanted] * different


def test_which_observations_of_a_frequent_row_the_judge_gets_is_random() -> None:
    rows = ScoredRows(torch.zeros(100, 1, dtype=torch.long), torch.zeros(100))
    got = torch.zeros(100)
    for seed in range(400):
        got[judge_split(rows, 0.2, seed=seed)[1]] += 1
    # 80 of 400 each, standard deviation 8
    assert (got - 80).abs().max() < 40


@pytest.mark.slow
@given(st.integers(10, 60), st.integers(0, 99))
def test_rare_equal_rows_stay_together_as_they_did(count: int, seed: int) -> None:
    """Rows of which none is frequent, in columns whose categories are all known on both sides."""
    generator = seeded(seed)
    codes = torch.randint(10**4, (count, 1), generator=generator)
    codes = torch.cat([codes, codes[: count // 3], codes[: count // 5]])
    rows, share = ScoredRows(codes, torch.zeros(len(codes))), 0.25
    mine, judged = judge_split(rows, share, seed=seed, mixed=False)
    group = row_groups(codes)
    turn = permutation(int(group.max()) + 1, generator=seeded(seed))[group]
    order = turn.argsort(stable=True)
    chosen = turn[order] <= turn[order[max(2, round(len(codes) * share)) - 1]]
    assert torch.equal(mine, order[~chosen])
    assert torch.equal(judged, order[chosen])
    # the column's categories are its rows: of those seen twice, each side gets one
    mine, judged = judge_split(rows, share, seed=seed)
    twice = codes[count : count + count // 3].flatten()
    assert torch.isin(twice, codes[mine]).all()
    assert torch.isin(twice, codes[judged]).all()


def test_a_split_that_misses_nothing_is_what_it_was() -> None:
    codes = torch.stack([torch.arange(400) % 2, torch.arange(400) // 2 % 2], 1)
    number = torch.arange(400.0).unsqueeze(1)
    rows = ScoredRows(codes, torch.zeros(400), number)
    spec = ContextSpec(numeric=["price"])
    for before, now in zip(
        judge_split(rows, 0.2, seed=0, spec=spec, mixed=False),
        judge_split(rows, 0.2, seed=0, spec=spec),
        strict=True,
    ):
        assert torch.equal(before, now)


def test_the_share_stays_where_rows_can_be_spared() -> None:
    generator = seeded(0)
    codes = torch.randint(20, (400, 3), generator=generator)
    _, judged = judge_split(ScoredRows(codes, torch.zeros(400)), 0.2, seed=0)
    assert len(judged) == 80
    for column in codes.unbind(1):
        assert len(column[judged].unique()) == len(column.unique())
