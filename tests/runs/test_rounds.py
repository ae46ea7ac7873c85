"""Rounds in memory: what is proposed, from nothing, in contexts, under rules, after failures."""

import re
from typing import Any

import pytest
import torch

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import ScoredRows
from discrete_grad.rules import Forbid, Rules
from discrete_grad.runs import Rounds, _next_rows
from discrete_grad.runs._acquisition import batch_of
from discrete_grad.runs._belief import _some, fit_belief
from discrete_grad.runs._choosing import normal_scores
from discrete_grad.runs._next_rows import Wanted
from discrete_grad.sampling import seeded

SPACE = CategoricalSpace({"a": 4, "b": 3, "c": 5})
NAN = float("nan")


def total(codes: torch.Tensor) -> torch.Tensor:
    return codes.sum(-1).double()


def test_the_first_rows_hold_every_category_about_equally_often() -> None:
    rows = Rounds(SPACE).propose(12)
    for column, size in zip(rows.unbind(1), SPACE.sizes, strict=True):
        counts = torch.bincount(column, minlength=size)
        assert counts.max() - counts.min() <= 2
    assert len(rows.unique(dim=0)) == 12


def test_the_best_row_is_found_and_none_is_proposed_twice() -> None:
    rounds = Rounds(SPACE, seed=1)
    shown = []
    for _ in range(4):
        shown.append(rounds.propose(6))
        rounds.tell(shown[-1], total(shown[-1]))
    assert rounds.best()[1] == 9
    assert len(torch.cat(shown).unique(dim=0)) == 24


def test_rows_that_are_out_are_not_proposed_again_until_none_is_left() -> None:
    rounds = Rounds(CategoricalSpace.from_sizes((3, 3)))
    rounds.tell(torch.tensor([[0, 0], [1, 0]]), torch.tensor([0.0, 1.0]))
    first, second = rounds.propose(5), rounds.propose(5)
    assert (len(first), len(second)) == (5, 2)
    told = torch.tensor([[0, 0], [1, 0]])
    assert len(torch.cat([first, second, told]).unique(dim=0)) == 9
    assert len(rounds.propose(1)) == 0
    rounds.tell(first, total(first))
    assert len(rounds.out) == 2


def test_a_row_out_is_expected_and_moves_the_others_on() -> None:
    rows = ScoredRows(SPACE.enumerate()[::7], normal_scores(total(SPACE.enumerate()[::7])))
    belief = fit_belief(SPACE, None, rows, seed=0)
    one = SPACE.enumerate()[[3]]
    after = belief.expecting(one, None)
    assert after.std(one, None) < belief.std(one, None) / 2
    assert torch.equal(after.mean(SPACE.enumerate(), None), belief.mean(SPACE.enumerate(), None))


def test_draws_have_the_spread_that_is_told() -> None:
    rows = ScoredRows(SPACE.enumerate()[::7], normal_scores(total(SPACE.enumerate()[::7])))
    belief = fit_belief(SPACE, None, rows, seed=0)
    draws = belief.deviations(SPACE.enumerate(), None, 4000, seeded(0))
    told = belief.std(SPACE.enumerate(), None)
    assert torch.allclose(draws.std(0), told, rtol=0.1, atol=0.01)


def test_contexts_are_campaigns_that_learn_from_each_other() -> None:
    spec = ContextSpec({"shop": 2})
    east, west = torch.eye(2)
    rounds = Rounds(SPACE, spec)
    rounds.tell(SPACE.enumerate(), total(SPACE.enumerate()), east)
    first = rounds.propose(4, west)
    assert total(first).mean() > total(SPACE.enumerate()).mean() + 1
    rounds.tell(first, total(first), west)
    assert len(rounds.propose(60, west)) == 56
    assert len(rounds.propose(1, east)) == 0


def test_contexts_have_the_width_of_the_columns() -> None:
    one, none = Rounds(SPACE, ContextSpec(numeric=["dose"])), Rounds(SPACE)
    rows = SPACE.enumerate()[:4]
    one.tell(rows, total(rows), torch.tensor([1.5]))
    assert one.measured.context.tolist() == [[1.5]] * 4
    for rounds, given, told in (
        (one, None, "(n, 1) are expected, got none"),
        (one, torch.ones(4, 2), "(n, 1) are expected, got (4, 2)"),
        (none, torch.ones(4, 1), "(n, 0) are expected, got (4, 1)"),
        (none, torch.ones(4, 0), "(n, 0) are expected, got (4, 0)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(f'contexts {told}')}$"):
            rounds.tell(rows, total(rows), given)


def test_rules_are_obeyed_from_the_first_row_on() -> None:
    rules = Rules(SPACE, [Forbid({"a": 3, "b": 2}), Forbid({"c": 4})])
    rounds = Rounds(SPACE, rules=rules)
    for _ in range(4):
        rows = rounds.propose(6)
        assert rules.allows(rows).all()
        rounds.tell(rows, total(rows))
    assert rounds.best()[1] == 7


def test_where_rows_fail_fewer_are_proposed() -> None:
    rounds = Rounds(SPACE)
    rows = SPACE.enumerate()[::2]
    rounds.tell(rows, torch.where(rows[:, 0] == 3, NAN, total(rows)))
    shown = rounds.propose(10)
    assert (shown[:, 0] == 3).sum() <= 1
    assert total(shown).mean() > total(rows).mean()


def test_no_score_or_one_alone_leaves_the_rows_to_chance() -> None:
    rounds = Rounds(SPACE)
    rows = rounds.propose(3)
    rounds.tell(rows, torch.tensor([NAN, 1.0, 1.0]))
    assert len(rounds.propose(3)) == 3


def test_without_exploring_the_expected_best_are_proposed() -> None:
    rows = SPACE.enumerate()
    known = rows[total(rows) < 7]
    plain = Rounds(SPACE, explore=0)
    plain.tell(known, total(known))
    assert total(plain.propose(3)).min() >= 8


@pytest.mark.parametrize("how", ["improvement", "thompson", "optimism"])
def test_a_batch_is_of_different_candidates(how: str) -> None:
    draws = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.5, 0.5]])
    places = batch_of(draws, 0.0, 3, how)  # type: ignore[arg-type]
    assert places[0] == 1
    assert sorted(places.tolist()) == [0, 1, 2]


def test_a_batch_counts_what_its_rows_have_reached_already() -> None:
    """The second row is nearly as good as the first in every draw: only the third adds to it."""
    draws = torch.tensor([[3.0, 2.9, 0.0], [0.0, 0.0, 1.0]])
    assert batch_of(draws, 0.0, 2, "improvement").tolist() == [0, 2]


@pytest.mark.parametrize("explore", [0.0, 0.5, 2.0])
def test_candidates_are_sought_as_daringly_as_asked(
    explore: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, found = SPACE.enumerate(), list[torch.Tensor]()

    def searched(wanted: Wanted, logits: Any, promise: Any, starts: Any) -> torch.Tensor:
        found.append(promise(rows, rows[:, 0]))
        return rows[:1]

    monkeypatch.setattr(_next_rows, "_searched", searched)
    belief = fit_belief(SPACE, None, ScoredRows(rows[::7], normal_scores(total(rows[::7]))), seed=0)
    wanted = Wanted(SPACE, 1, rows[:1], explore=explore)
    _next_rows.next_rows(wanted, belief, logits=torch.zeros(12), elite=rows[:2], best=0.0)
    high = belief.mean(rows, None) + 2 * explore * belief.std(rows, None)
    assert torch.allclose(found[0], high)


def test_an_improvement_that_may_fail_counts_less() -> None:
    draws = torch.tensor([[1.0, 2.0]])
    for how in ("improvement", "thompson", "optimism"):
        assert batch_of(draws, 0.0, 1, how, torch.tensor([1.0, 0.1])).tolist() == [0]  # type: ignore[arg-type]
        assert batch_of(draws, 0.0, 1, how, torch.tensor([1.0, 0.9])).tolist() == [1]  # type: ignore[arg-type]


def test_equal_scores_stay_equal_and_a_huge_one_counts_no_more() -> None:
    scores = normal_scores(torch.tensor([1.0, 1.0, 5.0, 1e30]))
    assert scores[0] == scores[1] < scores[2] < scores[3] < 2


def test_where_all_scores_are_equal_rows_that_do_not_fail_are_sought() -> None:
    rounds = Rounds(SPACE)
    rows = SPACE.enumerate()[::2]
    rounds.tell(rows, torch.where(rows[:, 2] == 1, 0.0, NAN))
    assert (rounds.propose(6)[:, 2] == 1).all()


def test_of_many_rows_the_best_and_the_last_are_learnt_from() -> None:
    scores = torch.cat([torch.ones(5), torch.zeros(1200), torch.ones(3)])
    rows = ScoredRows(torch.arange(1208).unsqueeze(1), scores)
    kept = _some(rows).codes[:, 0]
    assert len(kept) == 1000
    assert set(range(5)) | set(range(208 + 5, 1208)) == set(kept.tolist())


def test_what_does_not_fit_is_told() -> None:
    rounds = Rounds(SPACE)
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        rounds.propose(0)
    with pytest.raises(ValueError, match=r"contexts \(n, 0\) are expected, got \(2,\)"):
        rounds.propose(1, torch.zeros(2))
    with pytest.raises(ValueError, match=r"contexts \(n, 0\) are expected, got \(0,\)"):
        rounds.propose(1, torch.zeros(0))
    in_shops = Rounds(SPACE, ContextSpec({"shop": 2}))
    with pytest.raises(ValueError, match=r"^contexts \(n, 2\) are expected, got none$"):
        in_shops.propose(1)
    with pytest.raises(ValueError, match=r"^contexts \(n, 2\) are expected, got \(3,\)$"):
        in_shops.propose(1, torch.zeros(3))
    for codes, scores, shapes in (
        (torch.zeros(1, 3), torch.zeros(2), r"\(1, 3\) and \(2,\)"),
        (torch.zeros(3), torch.zeros(3), r"\(3,\) and \(3,\)"),
        (torch.zeros(2, 3), torch.zeros(2, 2, 2), r"\(2, 3\) and \(2, 2, 2\)"),
        (torch.zeros(1, 3), torch.tensor([[0.0, float("inf")]]), r"\(1, 3\) and \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=f"^rows .n, 3. and as many finite .* got {shapes}$"):
            rounds.tell(codes.long(), scores)
    with pytest.raises(ValueError, match="finite scores"):
        rounds.tell(torch.zeros(1, 3).long(), torch.tensor([float("inf")]))
    with pytest.raises(ValueError, match="'b'"):
        rounds.tell(torch.tensor([[0, 3, 0]]), torch.zeros(1))
    with pytest.raises(ValueError, match="no score was told yet"):
        rounds.best()
    with pytest.raises(ValueError, match="explore must be a number of at least 0, got -1"):
        Rounds(SPACE, explore=-1)


# --- several aims ---------------------------------------------------------------------------------


def two_aims(codes: torch.Tensor) -> torch.Tensor:
    """Both rise with c; the first rises and the second falls with a."""
    a, b, c = codes.double().unbind(-1)
    return torch.stack([c + 2 * a - b, c - 2 * a - b], 1)


@pytest.mark.parametrize("how", ["improvement", "evolution"])
def test_the_whole_front_of_two_aims_is_found(how: str) -> None:
    rounds = Rounds(SPACE, choose=how)  # type: ignore[arg-type]
    shown = []
    for _ in range(5 if how == "improvement" else 8):
        shown.append(rounds.propose(6))
        rounds.tell(shown[-1], two_aims(shown[-1]))
    codes, scores = rounds.front()
    assert torch.equal(scores, two_aims(codes))
    assert len(torch.cat(shown).unique(dim=0)) == len(torch.cat(shown))
    if how == "improvement":
        assert sorted(codes.tolist()) == [[a, 0, 4] for a in range(4)]
    with pytest.raises(ValueError, match="2 aims have no best row"):
        rounds.best()


def test_rows_that_fail_in_one_of_two_aims_are_avoided() -> None:
    rounds, rows = Rounds(SPACE), SPACE.enumerate()[::2]
    scores = two_aims(rows).masked_fill(rows[:, :1] == 3, NAN)
    rounds.tell(rows, scores)
    assert (rounds.propose(8)[:, 0] == 3).sum() <= 1
    assert 3 not in rounds.front()[0][:, 0]


def test_scores_of_another_number_of_aims_are_refused() -> None:
    rounds, rows = Rounds(SPACE), SPACE.enumerate()[:3]
    with pytest.raises(ValueError, match=r"\(n, K\) of several, .* and \(3, 1\)"):
        rounds.tell(rows, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="row 1: some scores are NaN"):
        rounds.tell(rows, torch.tensor([[0.0, 1.0], [0.0, NAN], [NAN, NAN]]))
    rounds.tell(rows, two_aims(rows))
    for other, told in ((total(rows), 1), (torch.zeros(3, 4), 4)):
        with pytest.raises(ValueError, match=f"^scores of 2 aims were told before, got {told}$"):
            rounds.tell(rows, other)
    one = Rounds(SPACE)
    one.tell(rows, total(rows))
    with pytest.raises(ValueError, match=r"^scores of 1 aims were told before, got 2$"):
        one.tell(rows, two_aims(rows))
