"""Rounds without a model: parents, moves, and sequences with pairs of letters that fail."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.models.sequence import letters_of
from discrete_grad.rules import Exactly, Forbid, Rules
from discrete_grad.runs import Rounds, _evolution
from discrete_grad.runs._choosing import Measured
from discrete_grad.runs._evolution import _children, _parents, _Sequence, evolved
from discrete_grad.runs._next_rows import Wanted, different_rows, first_rows
from discrete_grad.sampling import random_indices, seeded

SPACE = CategoricalSpace({"a": 4, "b": 3, "c": 5})
NAN = math.nan
LETTERS = "ABCDEF"
WORDS = CategoricalSpace({f"place {i}": list(LETTERS) for i in range(12)})
UNEQUAL = CategoricalSpace({f"place {i}": list(["BA", "ABC"][i % 2]) for i in range(8)})


def measured(codes: Tensor, scores: Tensor) -> Measured:
    return Measured(codes, scores.double(), torch.empty(len(codes), 0))


def total(codes: Tensor) -> Tensor:
    return codes.sum(-1).double()


def sequence(space: CategoricalSpace) -> _Sequence:
    letters = letters_of(space)
    assert letters is not None
    return _Sequence(space, letters)


# --- which rows are proposed ----------------------------------------------------------------------


def test_children_are_of_the_best_that_did_not_fail() -> None:
    rows = SPACE.enumerate()
    scores = total(rows)
    scores[rows[:, 0] == 3] = NAN
    done = measured(rows[::2], scores[::2])
    wanted = Wanted(SPACE, 5, rows[::2], seed=3)
    found = evolved(wanted, done)
    assert torch.equal(found, evolved(wanted, done))
    assert len(different_rows(torch.cat([found, rows[::2]]))) == 5 + len(rows[::2])
    nothing = measured(rows[:4], torch.full((4,), NAN))
    assert torch.equal(evolved(wanted, nothing), first_rows(wanted))
    rules = Rules(SPACE, [Exactly(1, {"a": 0, "b": 0, "c": 0})])
    obeying = evolved(Wanted(SPACE, 5, rows[::2], rules=rules, seed=3), done)
    assert rules.allows(obeying).all()
    assert len(obeying) == 5


def test_evolution_changes_few_features_of_the_best_rows_and_asks_no_model() -> None:
    space = CategoricalSpace.from_sizes((5,) * 6)
    rules = Rules(space, [Forbid({"x0": 4, "x1": 4})])
    rounds = Rounds(space, choose="evolution", rules=rules, seed=3)
    known = rounds.propose(150)  # nothing is known yet
    rounds.tell(known, total(known))
    best = known[total(known) >= total(known).sort(descending=True).values[99]]
    shown = [rounds.propose(40) for _ in range(2)]
    rows = torch.cat(shown)
    assert len(torch.cat([known, rows]).unique(dim=0)) == 150 + 80
    changed = (rows.unsqueeze(1) != best).sum(-1).min(1).values
    assert (changed == 1).float().mean() > 0.4
    assert changed.max() <= 4
    assert not ((rows[:, 0] == 4) & (rows[:, 1] == 4)).any()
    for _ in range(20):
        rounds.tell(rows, total(rows))
        rows = rounds.propose(40)
    assert rounds.best()[1] == 23  # 24 breaks the rule
    alone = Rounds(CategoricalSpace.from_sizes((2, 2)), choose="evolution")
    alone.tell(torch.tensor([[0, 0]]), torch.tensor([1.0]))
    assert len(alone.propose(9)) == 3


def test_every_try_has_noise_of_its_own_and_the_first_rows_fill_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = SPACE.enumerate()
    known, parents = rows[:30], measured(rows[:1], torch.ones(1))
    seeds = []

    def children(wanted: Wanted, parents: Tensor, moves: object, noise: torch.Generator) -> Tensor:
        seeds.append(noise.initial_seed())
        return torch.cat([parents, rows[30:32]]) if len(seeds) == 3 else parents

    monkeypatch.setattr(_evolution, "_children", children)
    found = evolved(Wanted(SPACE, 4, known, seed=7), parents)
    assert seeds == [7 + attempt for attempt in range(20)]
    assert found[:2].tolist() == rows[30:32].tolist()
    assert len(different_rows(torch.cat([found, known]))) == 4 + len(known)
    seeds.clear()
    assert evolved(Wanted(SPACE, 2, known, seed=7), parents).tolist() == rows[30:32].tolist()
    assert len(seeds) == 3


# --- parents --------------------------------------------------------------------------------------


def test_of_equal_rows_the_newest_are_looked_at_and_the_most_different_taken() -> None:
    rows = CategoricalSpace.from_sizes((10,) * 3).enumerate()
    few = measured(rows[:90], torch.arange(90))
    assert torch.equal(_parents(few), rows[:90].flip(0))
    many = measured(rows[:200], torch.arange(200))
    assert torch.equal(_parents(many), rows[100:200].flip(0))
    scores = torch.zeros(1000)
    scores[:98] = 1  # all of them, newest first, then two of the 302 newest of the others
    found = _parents(measured(rows, scores))
    assert torch.equal(found[:98], rows[:98].flip(0))
    # of rows 698 to 999 the newest, and the newest of those that differ in all three features
    assert found[98:].tolist() == [[9, 9, 9], [8, 8, 8]]
    # a third at this score differs in all features from the first, and as much as can be from both
    scores[97] = 0
    assert _parents(measured(rows, scores))[97:].tolist() == [[9, 9, 9], [8, 8, 8], [7, 7, 7]]


# --- moves ----------------------------------------------------------------------------------------


def test_features_that_the_parents_agree_on_are_seldom_drawn_anew() -> None:
    space = CategoricalSpace.from_sizes((50,) * 20)
    # the first ten features are settled, the others differ between all parents
    parents = torch.arange(40).unsqueeze(1) * (torch.arange(20) >= 10)
    children = _children(Wanted(space, 8000, parents[:0]), parents, None, seeded(0))
    settled = (children[:, :10] > 0).double().mean() / (49 / 50)
    differing = (children[:, 10:] >= 40).double().mean() / (10 / 50)
    assert (settled / differing).item() == pytest.approx(0.1 / (1.1 - 1 / 40), rel=0.15)


def test_a_child_makes_one_move_or_more_and_half_of_them_draw_anew() -> None:
    space = CategoricalSpace.from_sizes((1000,) * 60)
    alone = torch.zeros(1, 60).long()
    children = _children(Wanted(space, 8000, alone[:0]), alone, None, seeded(0))
    moves = [0.3 * 0.7**k for k in range(11)] + [0.7**11]
    # a move that is no draw takes over half of the features on average, and undoes draws in them
    drawn = sum(share * 2 * (1 - 0.75 ** (k + 1)) for k, share in enumerate(moves))
    new = (children > 0).sum(1)
    assert new.double().mean().item() == pytest.approx(drawn, abs=0.04)
    assert (new > 0).double().mean() > 0.5
    parents = torch.tensor([[0], [1]]).expand(2, 60)
    children = _children(Wanted(space, 4000, parents[:0]), parents, None, seeded(0))
    both = (children == 0).any(1) & (children == 1).any(1)
    assert 0.3 < both.double().mean() < 0.7  # only some of the features are taken over


def test_a_run_of_letters_is_put_at_any_place() -> None:
    words = sequence(WORDS)
    own, other = torch.zeros(3000, 12).long(), torch.arange(12).expand(3000, 12) % 5 + 1
    rows = words.with_run(own, words.of(other), seeded(1))
    taken = rows > 0
    starts = taken.double().argmax(1)
    lengths = taken.sum(1)
    assert torch.equal(taken, words_between(starts, lengths))  # in one piece
    source = rows.gather(1, starts.unsqueeze(1)).squeeze(1)[lengths > 0]
    assert set(source.tolist()) == {1, 2, 3, 4, 5}
    inner = taken[:, :-1] & taken[:, 1:]
    assert (rows[:, 1:] % 5 == (rows[:, :-1] % 5 + 1) % 5)[inner].all()  # in their order
    assert lengths.max() == 12
    assert 0 < (lengths == 0).double().mean() < 0.5  # shifted past the end
    shifted = (rows != other) & taken
    assert shifted.any()
    assert (taken.any(1) & ~shifted.any(1)).any()


def words_between(starts: Tensor, lengths: Tensor) -> Tensor:
    places = torch.arange(12)
    return (places >= starts.unsqueeze(1)) & (places < (starts + lengths).unsqueeze(1))


def test_a_run_may_be_shifted_by_any_number_of_places() -> None:
    space = CategoricalSpace({f"p{i}": list("ABCDE") for i in range(8)})
    words, features = sequence(space), 8
    own, other = torch.zeros(features).long(), torch.tensor([4, 1, 2, 2, 1, 2, 1, 3])
    found = words.with_run(own.expand(20_000, -1), words.of(other.expand(20_000, -1)), seeded(0))
    expected = set()
    for first in range(features):
        for last in range(first, features):
            for shift in range(1 - features, features):
                row = own.clone()
                for place in range(max(first, shift), min(last, shift + features - 1) + 1):
                    row[place] = other[place - shift]
                expected.add(tuple(row.tolist()))
    assert {tuple(row) for row in found.unique(dim=0).tolist()} == expected


def test_a_place_without_the_letter_keeps_its_own() -> None:
    words = sequence(UNEQUAL)
    # codes 0 and 1 of an even place are B and A, 0, 1 and 2 of an odd one A, B and C
    own, other = torch.zeros(500, 8).long(), torch.tensor([[0, 2] * 4]).expand(500, 8)
    rows = words.with_run(own, words.of(other), seeded(0))
    assert (rows[:, ::2] == 0).all()  # B, or C that is not to be had
    assert set(rows[:, 1::2].flatten().tolist()) == {0, 1, 2}  # A of its own, B and C
    own, other = torch.tensor([[0, 2] * 4]).expand(500, 8), torch.tensor([[1, 0] * 4])
    rows = words.with_run(own, words.of(other.expand(500, 8)), seeded(0))
    for part in (rows[:, ::2] == 1, rows[:, 1::2] == 0):  # an A, which is code 1 or 0
        assert 0.2 < part.double().mean() < 0.5
    assert words.of(torch.tensor([[0, 1, 1, 0, 0, 2, 0, 0]])).tolist() == [[0, 0, 1, 1, 0, 2, 0, 1]]


# --- pairs of letters that fail -------------------------------------------------------------------


def test_letters_that_never_stood_side_by_side_are_counted() -> None:
    words = sequence(WORDS)
    known = torch.tensor([[0] * 6 + [1] * 6, [2] * 12])
    beside = words.side_by_side(known)
    assert beside.nonzero().tolist() == [[0, 0], [0, 1], [1, 1], [2, 2]]
    asked = torch.tensor([[0, 1] * 6, [2] * 6 + [0, 1] * 3, [0] * 3 + [2] * 9, [0] * 11 + [1]])
    assert words.strange(asked, beside).tolist() == [5, 3, 1, 0]


def strange_share(scores: Tensor, space: CategoricalSpace = WORDS) -> float:
    rows = random_indices(6, (len(scores), 12), generator=seeded(0))
    rows[~scores.isnan()] %= 2  # letters A and B alone succeeded
    found = evolved(Wanted(space, 400, rows, seed=0), measured(rows, scores))
    assert len(found) == 400
    return (found > 1).any(1).double().mean().item()


def test_strange_pairs_are_few_where_rows_of_a_sequence_failed() -> None:
    fine, some_failed = torch.ones(60), torch.tensor([1.0, NAN]).repeat(30)
    assert strange_share(fine) > 0.3
    assert 0 < strange_share(some_failed) < 0.1
    plain = CategoricalSpace.from_sizes((6,) * 12)
    assert strange_share(some_failed, plain) > 0.3
