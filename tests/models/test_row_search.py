"""The best rows of many contexts, against all rows in order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace
from discrete_grad.models import best_rows
from discrete_grad.models.row_pool import ByContext, row_keys
from discrete_grad.models.row_search import contexts_at_once
from discrete_grad.sampling import normal, seeded
from tests.strategies import random_logits, spaces

SPACE = CategoricalSpace.from_sizes((4, 3, 5, 4, 6, 2))
CONTEXTS = 5


def rugged(contexts: int = CONTEXTS) -> tuple[Tensor, ByContext, Tensor]:
    """Logits, a score that half agrees with them, and the same for all rows `(S, R)`."""
    noise = seeded(0)
    logits = normal((contexts, SPACE.width), generator=noise).float()
    every = SPACE.log_prob(logits.unsqueeze(1), SPACE.enumerate())
    every = every + normal(every.shape, generator=noise).float()

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return every[where, SPACE.row_number(codes)]

    return logits, score, every


@given(spaces(), st.integers(1, 40), st.booleans(), st.integers(0, 2**31))
def test_a_space_that_can_be_looked_at_as_a_whole(
    space: CategoricalSpace, count: int, masked: bool, seed: int
) -> None:
    logits = random_logits(space, scale=2.0, masked=masked, generator=seed).unsqueeze(0)
    every = normal((space.num_rows,), generator=seeded(seed)).float()

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return every[space.row_number(codes)]

    codes, values = best_rows(space, logits, score, count, evaluations=space.num_rows)
    allowed = space.log_prob(logits[0], space.enumerate()) > -torch.inf
    expected = every[allowed].sort(descending=True).values[:count]
    found = values[0] > -torch.inf
    assert torch.equal(values[0, found], expected)
    assert torch.equal(score(codes[0, found], torch.zeros(0)), expected)
    # and with few evaluations: different, allowed, in order
    codes, values = best_rows(space, logits, score, count, evaluations=6)
    there = codes[0, values[0] > -torch.inf]
    assert 1 <= len(there) <= count
    assert len(there.unique(dim=0)) == len(there)
    assert (space.log_prob(logits[0], there) > -torch.inf).all()
    assert (values[0, : len(there)].diff() <= 0).all()
    assert torch.equal(score(there, torch.zeros(0)), values[0, : len(there)])


@pytest.mark.parametrize("count", [1, 8, 60])
def test_swaps_find_the_best_of_all_rows(count: int) -> None:
    logits, score, every = rugged()
    _, values = best_rows(SPACE, logits, score, count, evaluations=1500)
    best = every.topk(count).values
    assert_close(values.mean(1), best.mean(1), atol=0.02, rtol=0)
    assert torch.equal(values[:, 0], best[:, 0])
    # what the starts alone would give
    _, few = best_rows(SPACE, logits, score, count, evaluations=count)
    assert few.mean() < best.mean() - 0.3


def test_evaluations_are_spent_not_exceeded_and_seldom_made_twice() -> None:
    logits, score, _ = rugged()
    for evaluations in (40, 100, 700):
        asked: list[Tensor] = []

        def counted(codes: Tensor, where: Tensor, asked: list[Tensor] = asked) -> Tensor:
            asked.append(SPACE.row_number(codes) + SPACE.num_rows * where)
            return score(codes, where)

        best_rows(SPACE, logits, counted, 8, evaluations=evaluations)
        rows = torch.cat(asked)
        counts = (rows // SPACE.num_rows).bincount()
        assert counts.max() <= evaluations
        assert counts.min() > evaluations / 2
    fresh = rows.unique()
    assert len(fresh) > 0.8 * len(rows)  # only what the pool has forgotten is met again


@pytest.mark.parametrize("distance", [2, 3, 4])
@pytest.mark.parametrize("evaluations", [300, 10**6])
def test_rows_are_as_far_apart_as_asked(distance: int, evaluations: int) -> None:
    logits, score, every = rugged()
    codes, values = best_rows(SPACE, logits, score, 6, evaluations=evaluations, distance=distance)
    for rows, found, mine in zip(codes, values > -torch.inf, every, strict=True):
        assert found.all()
        apart = (rows.unsqueeze(0) != rows.unsqueeze(1)).sum(-1)
        assert apart.fill_diagonal_(99).min() >= distance
        if evaluations > SPACE.num_rows:  # greedily the best
            left = mine.clone()
            for row in rows:
                assert torch.equal(SPACE.enumerate()[left.argmax()], row)
                left[(SPACE.enumerate() != row).sum(-1) < distance] = -torch.inf


def test_barred_rows_are_not_returned_but_lead_on() -> None:
    space = CategoricalSpace.from_sizes((9, 9, 9, 9))
    logits = 20 * space.one_hot(torch.tensor([[0, 0, 0, 0]]))

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return codes.sum(-1).float()

    def barred(codes: Tensor, where: Tensor) -> Tensor:
        return codes.sum(-1) < 20  # a wide field around all of the most likely rows

    _, values = best_rows(space, logits, score, 5, evaluations=3000, barred=barred, seed=3)
    assert values[0].tolist() == [32, 31, 31, 31, 31]
    everything = best_rows(
        space, logits, score, 5, evaluations=10**4, barred=lambda c, w: c[:, 0] > 2
    )
    assert everything[1][0].tolist() == [26, 25, 25, 25, 25]
    none = best_rows(space, logits, score, 5, evaluations=500, barred=lambda c, w: c[:, 0] >= 0)
    assert (none[1] == -torch.inf).all()


def test_a_better_barred_row_is_opened_before_the_rows_to_be_returned() -> None:
    space = CategoricalSpace.from_sizes((9, 9, 9, 9))
    logits = 20 * space.one_hot(torch.tensor([[4, 4, 4, 4]]))
    logits[0, :9] = 0.1 * logits[0, :9]  # the likely rows differ in the first feature
    best, beside = torch.tensor([4, 4, 4, 4]), torch.tensor([4, 4, 4, 8])

    def score(codes: Tensor, where: Tensor) -> Tensor:
        return 9.0 * (codes == best).all(-1) + 5.0 * (codes == beside).all(-1)

    def barred(codes: Tensor, where: Tensor) -> Tensor:
        return (codes == best).all(-1)

    codes, values = best_rows(space, logits, score, 1, evaluations=60, barred=barred)
    assert (codes[0, 0].tolist(), values[0, 0]) == (beside.tolist(), 5)


@pytest.mark.parametrize("distance", [1, 3])
@pytest.mark.parametrize("evaluations", [60, 700, 10**6])
def test_a_batch_is_its_contexts_one_by_one(evaluations: int, distance: int) -> None:
    logits, score, _ = rugged()
    options = {"evaluations": evaluations, "distance": distance, "seed": 5}
    codes, values = best_rows(SPACE, logits, score, 20, **options)
    for index in range(CONTEXTS):

        def mine(c: Tensor, where: Tensor, index: int = index) -> Tensor:
            return score(c, where + index)

        alone = best_rows(SPACE, logits[index : index + 1], mine, 20, **options)
        found = values[index] > -torch.inf
        assert torch.equal(alone[1][0], values[index])
        assert torch.equal(alone[0][0, found], codes[index, found])


def test_global_state_is_untouched_and_a_seed_decides() -> None:
    logits, score, _ = rugged()
    before = torch.get_rng_state()
    one, again, other = (
        best_rows(SPACE, logits, score, 30, evaluations=300, distance=2, seed=seed)[1]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_keys_tell_rows_apart() -> None:
    rows = SPACE.enumerate()
    assert len(row_keys(SPACE, rows).unique()) == len(rows)
    assert torch.equal(row_keys(SPACE, rows[5]), row_keys(SPACE, rows)[5])


def test_wide_rows_are_taken_few_at_a_time_and_their_likely_swaps_alone() -> None:
    wide = CategoricalSpace.from_sizes((10,) * 1000)
    assert contexts_at_once(wide, 1000, 8000, 1) == 1
    assert contexts_at_once(SPACE, 8, 64, 1) > 1000
    logits = torch.zeros(1, wide.width)
    logits[0, wide.columns(torch.full((1000,), 4))[::50]] = -0.5  # 20 of the categories 4
    asked: list[Tensor] = []

    def score(codes: Tensor, where: Tensor) -> Tensor:
        asked.append(codes)
        return (codes == 4).sum(-1).float()

    _, values = best_rows(wide, logits, score, 4, evaluations=4000)
    assert sum(map(len, asked)) <= 4000
    assert max(map(len, asked)) <= 131
    assert values[0, 0] > 105  # a draw has about 100, the swaps do the rest


def test_errors() -> None:
    logits, score, _ = rugged()
    for count, distance in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="count and distance must be at least 1"):
            best_rows(SPACE, logits, score, count, evaluations=9, distance=distance)
    with pytest.raises(ValueError, match=r"logits must be \(S, 24\), got \(24,\)"):
        best_rows(SPACE, logits[0], score, 1, evaluations=9)
