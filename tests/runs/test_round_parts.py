"""Parts of a round and of a fit's rows, each alone."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from discrete_grad import CategoricalSpace, ContextSpec
from discrete_grad.data import Aim, Schema, ScoredRows, Vocabulary, read_table
from discrete_grad.grouping import row_groups
from discrete_grad.policies import Conditioned, Generator
from discrete_grad.rules import Exactly, Fix, Imply, Observed, Rules
from discrete_grad.runs import _choosing, _own_rows, _plausible, report
from discrete_grad.runs._acquisition import batch_of
from discrete_grad.runs._aim_rounds import round_score, round_tradeoffs, worth_at
from discrete_grad.runs._belief import fit_belief
from discrete_grad.runs._choosing import Learned, Measured, check_explore, normal_scores
from discrete_grad.runs._estimates import estimate_columns, expected_scores
from discrete_grad.runs._labels import labelled_rows
from discrete_grad.runs._measured_table import _word
from discrete_grad.runs._next_rows import Wanted, different_rows, first_rows
from discrete_grad.runs._plausible import together_facts
from discrete_grad.runs._prepared import Observations
from discrete_grad.runs._row_score import scores_by_estimator
from discrete_grad.runs._table_rules import check_contexts, table_rules
from discrete_grad.sampling import normal, seeded
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table

SPACE = CategoricalSpace({"a": 4, "b": 3, "c": 5})
NAN = math.nan


# --- trade-offs, worth ----------------------------------------------------------------------------


def test_rows_are_shared_among_four_trade_offs_at_most() -> None:
    assert round_tradeoffs(1, 10, seed=0) == [(None, 10)]
    for rows, shares in ((10, [3, 3, 2, 2]), (4, [1] * 4), (3, [1] * 3), (1, [1])):
        drawn = round_tradeoffs(3, rows, seed=0)
        assert [count for _, count in drawn] == shares
        for tradeoff, _ in drawn:
            assert tradeoff is not None
            assert (tradeoff.shape, tradeoff.dtype) == ((3,), torch.float32)
            assert tradeoff.sum().item() == pytest.approx(1)
    first, again, other = (round_tradeoffs(2, 4, seed=seed)[0][0] for seed in (0, 0, 1))
    assert first is not None
    assert torch.equal(first, again)  # type: ignore[arg-type]
    assert not torch.equal(first, other)  # type: ignore[arg-type]


def test_a_row_that_misses_a_threshold_is_worth_nothing() -> None:
    aims = (Aim("yield"), Aim("purity", "at_least", 0.5), Aim("cost", "at_most", 3.0))
    schema = Schema(
        (Vocabulary("cut", (1, 2)),), (), "yield", ("purity", "cost"), ("cost",), aims=aims
    )
    scores = torch.tensor(
        [[1.0, 0.5, -3.0], [2.0, 0.4, -1.0], [3.0, 0.9, -3.5], [4.0, 0.9, NAN], [5.0, 1.0, 0.0]]
    )
    assert str(round_score(schema, scores, None).tolist()) == "[1.0, nan, nan, nan, 5.0]"


def test_worth_is_by_the_ranks_of_those_that_succeeded() -> None:
    scores = torch.tensor([[1.0, 40.0], [NAN, NAN], [2.0, 30.0], [900.0, 10.0]])
    assert str(worth_at(scores, None).tolist()) == "[1.0, nan, 2.0, 900.0]"
    by_first = worth_at(scores, torch.tensor([1.0, 0.0]))
    assert by_first.isnan().tolist() == [False, True, False, False]
    known = by_first[[0, 2, 3]]
    assert known.argsort().tolist() == [0, 1, 2]
    assert worth_at(scores, torch.tensor([0.0, 1.0]))[[0, 2, 3]].argsort().tolist() == [2, 1, 0]
    # by ranks alone, whatever the sizes
    tamer = worth_at(scores.clamp_max(5), torch.tensor([1.0, 0.0]))
    assert_close(tamer, by_first, equal_nan=True)
    nothing = worth_at(torch.full((2, 2), NAN), torch.tensor([0.5, 0.5]))
    assert nothing.isnan().all()


def test_normal_scores_are_quantiles_of_ranks() -> None:
    found = normal_scores(torch.tensor([3.0, 1.0, 3.0, 1e9]))
    shares = torch.tensor([0.5, 0.125, 0.5, 0.875], dtype=torch.float64)
    assert_close(found, torch.special.ndtri(shares).float())
    assert found.dtype == torch.float32


@pytest.mark.parametrize("explore", [-1e-9, math.inf, NAN])
def test_explore_is_a_number_from_0_on(explore: float) -> None:
    check_explore(0)
    with pytest.raises(
        ValueError, match=f"^explore must be a number of at least 0, got {explore}$"
    ):
        check_explore(explore)


# --- batches, beliefs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draws", "best", "chance", "first"),
    [
        # the gain decides, however low the mean is
        ([[0.0, -9.0], [0.0, 4.9]], 1.0, None, 1),
        # and where there is none, the mean, less what a failure costs
        ([[0.0, -9.0], [0.0, 4.9]], 10.0, None, 0),
        ([[0.0, -9.0], [0.0, 4.9]], 10.0, [0.01, 1.0], 1),
        # a draw that is worse costs nothing
        ([[0.4, 0.9], [0.4, -0.5]], 0.0, None, 1),
        ([[0.4, 0.9], [0.4, -0.5]], 0.0, [1.0, 0.8], 0),
    ],
)
def test_the_first_row_of_a_batch_raises_the_best_most(
    draws: list[list[float]], best: float, chance: list[float] | None, first: int
) -> None:
    likely = None if chance is None else torch.tensor(chance)
    found = batch_of(torch.tensor(draws), best, 1, "improvement", likely)
    assert found.tolist() == [first]


def test_rows_of_high_quantiles_and_of_each_draw_in_turn() -> None:
    draws = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.5]])
    # the quantile of 90% lies nine tenths of the way to the larger of two
    assert batch_of(draws, 0.0, 2, "optimism").tolist() == [1, 0]
    assert batch_of(draws, 0.0, 1, "optimism", torch.tensor([1.0, 0.4, 1.0])).tolist() == [0]
    assert batch_of(draws, 0.0, 3, "thompson").tolist() == [1, 0, 2]


def test_a_belief_is_the_law_given_what_was_measured() -> None:
    """By the definition of a Gaussian process: Rasmussen and Williams (2006), equations 2.23-24."""
    spec, noise = ContextSpec({"shop": 2}), seeded(3)
    rows, asked = SPACE.enumerate()[::4], SPACE.enumerate()[1::9]
    shop, where = (torch.eye(2)[torch.arange(len(part)) % 2] for part in (rows, asked))
    scores, counts = torch.linspace(-1, 1, len(rows)), torch.arange(len(rows)) % 3 + 1
    belief = fit_belief(SPACE, spec, ScoredRows(rows, scores, shop, counts=counts), seed=0)
    kernel, level = belief.kernel, belief.level

    def covariance(first: Tensor, second: Tensor) -> Tensor:
        same = first.unsqueeze(1) == second
        return belief.amplitude * torch.where(same, 1.0, kernel.alike[:, 0]).prod(-1) + level

    mine, theirs = kernel.joint(rows, shop), kernel.joint(asked, where)
    own = covariance(mine, mine) + torch.diag(belief.noise)
    across = covariance(theirs, mine)
    solved = torch.linalg.solve(own, across.T)
    among = covariance(theirs, theirs) - across @ solved
    assert_close(belief.mean(asked, where).double(), solved.T @ scores.double(), rtol=0, atol=1e-4)
    assert_close(belief.std(asked, where).double(), among.diagonal().sqrt(), rtol=0, atol=1e-3)
    among += 1e-6 * (belief.amplitude + level) * torch.eye(len(asked))
    drawn = normal((5, len(asked)), generator=seeded(3)).double() @ torch.linalg.cholesky(among).T
    assert_close(belief.deviations(asked, where, 5, noise), drawn.float(), rtol=0, atol=1e-4)


# --- measurements ---------------------------------------------------------------------------------


def measured(codes: Tensor, scores: Tensor, context: Tensor | None = None) -> Measured:
    return Measured(codes, scores, torch.empty(len(codes), 0) if context is None else context)


def test_measurements_are_joined_and_parted() -> None:
    codes = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    context = torch.tensor([[0.0], [0.0], [1.0]])
    all_three = measured(codes, torch.arange(3.0), context)
    assert len(all_three + all_three) == 6
    assert (all_three + all_three).scores.tolist() == [0, 1, 2, 0, 1, 2]
    # of equal rows only those in the same context are the same
    assert all_three.without(all_three.part(torch.tensor([2]))).scores.tolist() == [0, 1]
    assert all_three.within(torch.tensor([1.0])).scores.tolist() == [2]
    assert all_three.given is all_three.context
    assert measured(codes, torch.arange(3.0)).given is None


def test_what_fails_in_one_context_may_succeed_in_another() -> None:
    spec = ContextSpec({"shop": 2})
    rows = SPACE.enumerate()[::3].repeat(2, 1)
    shop = torch.eye(2).repeat_interleave(len(rows) // 2, 0)
    failed = (shop[:, 0] == 1) & (rows[:, 0] >= 2)
    scores = rows.sum(-1).double().masked_fill(failed, NAN)
    learned = Learned(SPACE, spec, measured(rows, scores, shop), seed=0)
    assert learned.chance is not None
    codes = torch.tensor([[3, 1, 2], [0, 1, 2]])
    there, here = (learned.chance.mean(codes, torch.eye(2)[[k, k]]) for k in (0, 1))
    assert there[0] < 0.4 < there[1]
    assert here.min() > 0.6
    assert learned.belief is not None


def test_equal_scores_teach_nothing_and_no_failures_no_chance() -> None:
    rows = SPACE.enumerate()[::7]
    same = Learned(SPACE, None, measured(rows, torch.ones(len(rows)).double()), seed=0)
    assert (same.belief, same.chance) == (None, None)
    varied = Learned(SPACE, None, measured(rows, rows.sum(-1).double()), seed=0)
    assert varied.belief is not None
    assert varied.chance is None
    assert_close(varied.expected, varied.belief.mean(rows, None))


def test_repeats_that_differ_make_a_belief_less_sure() -> None:
    rows, counts = SPACE.enumerate()[::2], torch.full((len(SPACE.enumerate()[::2]),), 4)
    scores = normal_scores(rows.sum(1).double())
    agreeing, differing = (
        fit_belief(SPACE, None, ScoredRows(rows, scores, counts=counts, spread=spread), seed=0)
        for spread in (None, torch.full_like(scores, 0.5))
    )
    assert bool((differing.noise > 3 * agreeing.noise).all())


# --- first rows, children -------------------------------------------------------------------------


def test_where_nothing_was_measured_any_row_is_an_improvement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(_choosing, "next_rows", lambda wanted, belief, **given: seen.append(given))
    rows, here = SPACE.enumerate()[:20], torch.tensor([[1.0], [2.0]]).repeat(10, 1)
    spec = ContextSpec(numeric=["dose"])
    learned = Learned(SPACE, spec, measured(rows, rows.sum(1).double(), here), seed=0)
    none = measured(rows[:0], torch.zeros(0).double(), here[:0])
    for dose in (1.0, 3.0):
        context = torch.tensor([dose])
        learned.rows(Wanted(SPACE, 1, rows, context=context), none)
    known, unknown = (given["best"] for given in seen)
    assert known == learned.expected[::2].max()
    assert unknown == learned.expected.min()


def test_a_row_that_is_out_counts_as_the_surest_of_those_measured() -> None:
    rows, counts = SPACE.enumerate()[:20], torch.arange(1, 21)
    belief = fit_belief(SPACE, None, ScoredRows(rows, rows.sum(1).float(), counts=counts), seed=0)
    assert belief.noise[-1] < belief.noise[0]
    more = belief.expecting(SPACE.enumerate()[-2:], None)
    assert more.noise.tolist() == [*belief.noise.tolist(), *[belief.noise[-1].item()] * 2]


def test_first_rows_are_new_different_and_decided_by_their_seed() -> None:
    known = SPACE.enumerate()[:50]
    first, again, other = (first_rows(Wanted(SPACE, 8, known, seed=s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first) == len(different_rows(torch.cat([first, known]))) - 50 == 8
    left = first_rows(Wanted(SPACE, 20, known))  # there are ten
    assert left.sort(0).values.tolist() == SPACE.enumerate()[50:].sort(0).values.tolist()
    near = first_rows(Wanted(SPACE, 8, known[:0], near=lambda codes: codes[:, 0] == 2))
    assert near[:, 0].tolist() == [2] * 8
    rules = Rules(SPACE, [Exactly(2, {"a": 0, "b": 0, "c": 0})])
    obeying = first_rows(Wanted(SPACE, 9, known[:0], rules=rules))
    assert len(obeying) == 9
    assert rules.allows(obeying).all()
    shop = CategoricalSpace({"shop": ["east", "west"]})
    rules = Rules(SPACE, [Imply({"shop": "west"}, {"c": "2"})], context=shop)
    for here, expected in ((0, SPACE.enumerate()[50:]), (1, torch.tensor([[3, 1, 2], [3, 2, 2]]))):
        where = torch.tensor([here])
        found = first_rows(Wanted(SPACE, 20, known, rules=rules, rule_context=where))
        assert found[row_groups(found).argsort()].tolist() == expected.tolist()


def test_rows_are_different_in_the_order_in_which_they_come() -> None:
    codes = torch.tensor([[2, 1], [0, 0], [2, 1], [1, 1], [0, 0]])
    assert different_rows(codes).tolist() == [[2, 1], [0, 0], [1, 1]]


# --- the sides of a fit's rows --------------------------------------------------------------------


def sides(config: Any, **options: Any) -> list[list[int]]:
    seen = Observations(small_table(100, context=False), config, **options)
    return [places.tolist() for places in (seen.mine, seen.judged, seen.aside)]


def test_rows_are_set_aside_for_calibration_where_there_is_a_coverage() -> None:
    config = small_config(merge_repeats=False)
    mine, judged, aside = sides(config)
    assert aside == []
    assert 20 <= len(judged) < 30  # more than a fifth, that each category is judged
    assert sorted([*mine, *judged]) == list(range(100))
    covering = replace(config, generator=replace(config.generator, coverage=0.5))
    fewer, same, aside = sides(covering)
    assert (same, len(aside), [*aside, *fewer]) == (judged, round(len(mine) / 10), mine)
    more = sides(replace(covering, calibration_share=0.25))
    assert len(more[2]) == round(len(mine) / 4)
    assert 40 <= len(sides(replace(config, judge_share=0.4))[1]) < 50
    assert sides(replace(config, seed=1))[1] != judged
    everything, _, _ = sides(config, judged=False)
    assert everything == list(range(100))


def test_a_failed_row_is_known_to_one_side_alone() -> None:
    rows = CategoricalSpace.from_sizes((4, 4, 4)).enumerate()
    columns = {name: codes.tolist() for name, codes in zip("abc", rows.T, strict=True)}
    columns |= {"score": list(range(64)), "ok": (rows[:, 0] < 2).tolist()}
    table = read_table(columns, score="score", features=[*"abc"], feasible="ok")
    config = small_config(judge_share=0.25)
    sides = [labelled_rows(table, config, judged=judged) for judged in (True, False)]
    failed = [side.codes[side.scores == 0].tolist() for side in sides]
    assert len(failed[0]) == 8  # a quarter of 32
    assert sorted(failed[0] + failed[1]) == table.failed_codes.tolist()
    fine = [side.codes[side.scores == 1].tolist() for side in sides]
    assert sorted(fine[0] + fine[1]) == table.codes.tolist()


def test_medians_are_learnt_from_each_observation() -> None:
    table = small_table(100, context=False)
    for maximise, merged in (("rank", True), ("mean", True), ("median", False)):
        seen = Observations(table, small_config(maximise=maximise))
        rows = seen.prepared().rows
        assert (len(rows) < len(seen.mine)) == (rows.counts is not None) == merged
        assert len(seen.truth(seen.mine)) == len(seen.aim_rows(0, seen.mine)) == len(rows)


def test_scores_are_told_as_shares_of_all() -> None:
    columns = {
        "cut": [*"abcdefghijka"],
        "score": [float(s) for s in (5, 1, 4, 2, 2, 7, 8, 9, 10, 11, 12, 3)],
        "more": [float(i) for i in range(12)],
    }
    table = read_table(columns, score=["score", "more"])
    seen = Observations(table, small_config(merge_repeats=False), judged=False)
    shares = seen.quantiles() * 12
    assert shares.tolist() == pytest.approx([6, 1, 5, 3, 3, 7, 8, 9, 10, 11, 12, 4])
    parted = Observations(table, small_config(merge_repeats=False))
    assert len(parted.mine) < 12
    assert torch.equal(parted.quantiles(), seen.quantiles()[parted.mine])
    places = torch.tensor([3, 1])
    assert seen.truth(places).tolist() == [2, 1]
    assert seen.truth(places, 1).tolist() == [3, 1]
    assert torch.equal(seen.aim_rows(1, places).scores, seen.scored.all_scores[places, 1])
    assert seen.prepared().standard.kind == "standard"
    assert len(seen.prepared().rows) == 12


# --- what is said of rows -------------------------------------------------------------------------


class _Units:
    """Ten times what is predicted; some rows lie outside what was observed."""

    def __init__(self, outside: list[int]) -> None:
        self.beyond = torch.tensor(outside)

    def __call__(self, predicted: Tensor, context: Tensor | None) -> Tensor:
        return 10 * predicted

    def outside(self, predicted: Tensor, context: Tensor | None) -> Tensor:
        return self.beyond


def test_pairs_that_no_other_row_has_are_what_is_usual() -> None:
    """Of six rows two are alike; each of the others has a pair of its own."""
    columns = {"a": [*"xxxyyz"], "b": [*"uuvvuw"], "score": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}
    table = read_table(columns, score="score")
    run: Any = SimpleNamespace(table=table, rules=None)
    facts = together_facts(run, table.codes[[0, 5]].long().flip(1))
    assert (facts["unseen"], facts["share"]) == (0.0, 0.0)
    assert (facts["usual"], facts["usual_share"]) == pytest.approx((4 / 6, 4 / 6))
    new = together_facts(run, torch.tensor([[2, 0], [0, 0], [1, 2], [0, 2]]))
    assert (new["unseen"], new["share"]) == (0.75, 0.75)


def test_pairs_are_counted_where_that_takes_no_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    table = small_table(20, context=False)  # of three pairs of features
    run: Any = SimpleNamespace(table=table, rules=None)
    monkeypatch.setattr(_plausible, "_WORK", 60)
    assert together_facts(run, table.codes)["pairs"] == 3
    assert together_facts(run, table.codes[:0]) == {}
    monkeypatch.setattr(_plausible, "_WORK", 59)
    assert together_facts(run, table.codes) == {}
    alone = read_table({"a": [*"xyz"], "score": [1.0, 2.0, 3.0]}, score="score")
    assert together_facts(SimpleNamespace(table=alone, rules=None), alone.codes) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "plain"),
    [
        ({}, True),
        ({"aims": 1}, False),
        ({"preference": 1}, False),
        ({"pessimism": 0.5}, False),
        ({"scorer_facts": {"name": "mine"}}, False),
        ({"combine": "min"}, False),
        ({"combine": "median"}, False),
        ({"reference_kl": 0.1}, False),
        ({"trust": 0.1}, False),
    ],
)
def test_a_search_asks_the_estimator_alone_where_nothing_is_added(
    changes: dict[str, Any], plain: bool
) -> None:
    usual: dict[str, Any] = {"aims": None, "preference": None, "pessimism": 0.0, "scorer_facts": {}}
    settings: dict[str, Any] = {"combine": "mean", "reference_kl": 0.0, "trust": 0.0}
    for name, value in changes.items():
        (settings if name in settings else usual)[name] = value
    generator = SimpleNamespace(**settings)
    run: Any = SimpleNamespace(config=SimpleNamespace(generator=generator), **usual)
    assert bool(scores_by_estimator(run)) is plain


@pytest.mark.parametrize(
    ("cell", "word"),
    [
        *((None, ""), (NAN, ""), ("", ""), (1.0, "1"), (0.0, "0"), (1.5, "1.5"), (1, "1")),
        *((True, "true"), (" Yes ", "yes"), ("NO", "no"), (-2.0, "-2"), (math.inf, "inf")),
    ],
)
def test_a_cell_in_a_word(cell: object, word: str) -> None:
    assert _word(cell) == word


def test_a_row_is_beyond_what_was_observed_by_either_model() -> None:
    run: Any = SimpleNamespace(
        aims=None,
        has_judge=True,
        device=torch.device("cpu"),
        estimator=lambda codes, context: codes.sum(-1).double(),
        judge=lambda codes, context: codes.prod(-1).double(),
        to_units=_Units([1, 0, 0, 0]),
        judge_to_units=_Units([0, -1, 0, 0]),
        table=SimpleNamespace(schema=Schema((Vocabulary("cut", (1, 2)),), (), "score")),
    )
    codes = torch.tensor([[1, 2], [0, 0], [2, 2], [1, 0]])
    assert estimate_columns(run, codes, None) == {
        "estimated_score": [30, 0, 40, 10],
        "judge_score": [20, 0, 40, 0],
        "beyond_observed": [True, True, False, False],
    }
    known = estimate_columns(run, codes, None, torch.arange(4.0))
    assert known["estimated_score"] == [0, 10, 20, 30]
    run.has_judge = False
    alone = estimate_columns(run, codes, None)
    assert list(alone) == ["estimated_score", "beyond_observed"]
    assert alone["beyond_observed"] == [True, False, False, False]
    assert [scores.tolist() for scores in expected_scores(run, codes, None)] == [[30, 0, 40, 10]]


def test_columns_that_combine_sparsely_are_told_where_no_rule_has_them() -> None:
    city, size = torch.arange(240) % 12, torch.arange(240) % 7 % 3
    columns = {"city": [f"c{i}" for i in city.tolist()], "size": size.tolist()}
    columns |= {"country": [f"n{i % 4}" for i in city.tolist()], "score": (city + size).tolist()}
    table = read_table(columns, score="score")
    pairs = [*zip(columns["city"], columns["country"], strict=True)]
    both = Observed(["city", "country"], sorted(set(pairs)))
    wider = Observed(["city", "country", "size"], [[*pairs[0], "0"]])
    other = Observed(["city", "size"], [["c0", "0"]])
    for rules, found in (
        (None, 1),
        ([Fix("city", "c0"), other], 1),
        ([other, both], 0),
        ([wider], 0),
    ):
        ruled = None if rules is None else SimpleNamespace(rules=rules)
        sparse = _plausible._sparse(SimpleNamespace(table=table, rules=ruled))  # type: ignore[arg-type]
        assert len(sparse) == found
        if found:
            assert (sparse[0]["columns"], sparse[0]["seen"]) == (["city", "country"], 12)
            assert [*sparse[0]] == ["columns", "seen", "expected", "further"]


def test_ranks_are_counted_within_a_context() -> None:
    values = torch.tensor([3.0, 1.0, 3.0, 2.0, 9.0])
    assert _own_rows._ranks(values, None).tolist() == [2, 5, 2, 4, 1]
    shops = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert _own_rows._ranks(values, shops).tolist() == [1, 3, 2, 2, 1]
    assert _own_rows._ranks(values[:0], None).tolist() == []


@pytest.mark.parametrize(
    ("facts", "graded"),
    [
        ({}, ["estimator", "judge"]),
        ({"judge": "trained"}, ["judge"]),
        ({"judge": "given"}, []),
        ({"judge": "none"}, []),
    ],
)
def test_who_is_graded_on_rows_not_seen(facts: dict[str, str], graded: list[str]) -> None:
    run: Any = SimpleNamespace(scorer_facts=facts, rows="mine", judge_rows="judged")
    sides = {"estimator": "judged", "judge": "mine"}
    assert report._held_out(run) == {name: sides[name] for name in graded}


def test_the_context_in_which_no_row_obeys_is_named_by_its_place() -> None:
    columns = {"cut": [0, 1], "shop": ["east", "west"], "score": [1.0, 2.0]}
    schema = read_table(columns, score="score", context=["shop"]).schema
    rules = table_rules(schema, [Fix("shop", "east")])
    assert rules is not None
    policy = Conditioned(Generator(schema.space, schema.context_spec, hidden=(1,)), rules)
    contexts = schema.encode_context({"shop": ["east", "east", "west", "west"]})
    assert contexts is not None
    check_contexts(policy, contexts[:2])
    check_contexts(policy, None)
    for places, row in ((None, 3), ([5, 7, 9, 11], 10)):
        told = rf"^context row {row}: no row obeys Fix\('shop', 'east'\)"
        with pytest.raises(RunError, match=told):
            check_contexts(policy, contexts, places)
