"""Scored rows: parts, batches and what is held out."""

import pytest
import torch

from discrete_grad.data import ScoredRows
from discrete_grad.sampling import permutation, seeded


def rows_of(count: int) -> ScoredRows:
    return ScoredRows(
        torch.arange(2 * count, dtype=torch.uint8).reshape(-1, 2),
        torch.arange(count).float(),
        context=torch.arange(count).float().unsqueeze(1),
        behaviour=torch.arange(2 * count).float().reshape(-1, 2),
        counts=torch.ones(count),
    )


@pytest.mark.parametrize(
    ("count", "most", "held_out"),
    [(100, None, 20), (13, None, 3), (12, None, 2), (5, None, 2), (100, 7, 7), (100, 40, 20)],
)
def test_a_fifth_is_held_out(count: int, most: int | None, held_out: int) -> None:
    rows, order = rows_of(count), permutation(count, generator=seeded(3))
    learned, out = rows.split_places(seed=3, most=most)
    assert torch.equal(out, order[:held_out])
    assert torch.equal(learned, order[held_out:])
    parts = rows.split(seed=3, most=most)
    assert [part.scores.tolist() for part in parts] == [learned.tolist(), out.tolist()]
    assert not torch.equal(rows.split_places(seed=4, most=most)[1], out)


def test_a_part_has_every_column_of_its_rows() -> None:
    rows, places = rows_of(6), torch.tensor([4, 0])
    part = rows.part(places)
    assert part.codes.tolist() == [[8, 9], [0, 1]]
    assert part.codes.dtype == torch.uint8
    assert part.context is not None
    assert part.behaviour is not None
    assert part.context.tolist() == [[4], [0]]
    assert part.behaviour.tolist() == [[8, 9], [0, 1]]
    assert part.spread is None
    batch = rows.take(places.view(1, 2))
    assert batch.codes.tolist() == [[[8, 9], [0, 1]]]
    assert (batch.codes.dtype, batch.scores.tolist()) == (torch.int64, [[4, 0]])
    moved = rows.to(torch.device("meta"))
    assert {moved.codes.device.type, moved.scores.device.type} == {"meta"}


def test_one_score_is_a_behaviour_of_one() -> None:
    rows = rows_of(3)
    assert rows.all_scores is rows.behaviour
    alone = ScoredRows(rows.codes, rows.scores)
    assert alone.all_scores.tolist() == [[0], [1], [2]]
    assert not alone.repeated
    assert not rows.repeated
    assert ScoredRows(rows.codes, rows.scores, counts=torch.tensor([1, 1, 2])).repeated
