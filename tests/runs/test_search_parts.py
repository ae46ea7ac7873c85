"""Parts of the search for rows, each alone."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import Aim, Schema, Vocabulary
from discrete_grad.hamming import nearest_hamming
from discrete_grad.policies import AutoregressiveGenerator, Generator
from discrete_grad.rules import Fix, Rules
from discrete_grad.runs import FewRowsWarning, Run, check_columns, generate
from discrete_grad.runs import _guides as guides
from discrete_grad.runs import _proposals as proposals
from discrete_grad.runs._estimates import expected_scores
from discrete_grad.runs._line_rows import rows_of_lines
from discrete_grad.runs._lines import read_lines
from discrete_grad.runs._row_score import row_score
from discrete_grad.runs._trust import trusted, trusted_starts
from discrete_grad.runs.edit_rows import _words
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table
from tests.runs.untrained import untrained

making = sys.modules["discrete_grad.runs.generate"]
SPACE = CategoricalSpace({"a": 3, "b": 2})
CODES = torch.tensor([[0, 0], [2, 1], [1, 0]])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = small_config()
    networks = replace(config.estimator, families=("networks",))
    config = replace(config, estimator=networks, judge=networks)
    return untrained(small_table(60), tmp_path_factory.mktemp("untrained") / "run", config)


def with_settings(run: Run, **settings: Any) -> Run:
    made = replace(run.config.generator, **settings)
    return replace(run, config=replace(run.config, generator=made))


@pytest.mark.parametrize("fixed", [False, True])
def test_a_process_makes_the_rows_of_its_share_of_the_lines(run: Run, fixed: bool) -> None:
    lines: dict[str, list[Any]] = {"shop": [*"ewewe"], "price": [0.1, 0.2, 0.3, 0.4, 0.5]}
    lines["shop"] = [{"e": "east", "w": "west"}[shop] for shop in lines["shop"]]
    if fixed:
        lines["cut"] = ["fair", "good", "good", None, "fair"]
    asked = read_lines(lines, run.table.schema)
    given: dict[str, Any] = {"rows": 2, "rules": [Fix("size", "True")]}
    whole = rows_of_lines(run, asked, **given)
    parts = [rows_of_lines(run, asked, share=(i, 2), **given) for i in range(2)]
    assert [len(part["cut"]) for part in parts] == [4, 6]
    for name, values in whole.items():
        both = [*parts[0][name], *parts[1][name]]
        assert both == (pytest.approx(values, rel=1e-6) if name.endswith("score") else values)
    assert set(whole["size"]) == {True}


def test_a_column_of_empty_cells_fixes_nothing(run: Run) -> None:
    lines = {"shop": ["east", "west"], "price": [0.1, 0.2], "cut": [None, None]}
    assert read_lines(lines, run.table.schema).fixed == [{}, {}]


def test_changes_are_told_with_what_each_gains_alone(run: Run) -> None:
    assert run.rows.context is not None
    start, here = torch.tensor([[0, 3, 1], [2, 0, 0]]), run.rows.context[:2]
    codes, needed = torch.tensor([[1, 3, 0], [2, 0, 0]]), torch.zeros(2, 3, dtype=torch.bool)
    needed[0, 2] = True
    made: Any = SimpleNamespace(
        codes=codes, start=start, needed=needed, space=run.table.schema.space
    )
    alone = torch.tensor([[1, 3, 1], [0, 3, 0], [0, 3, 1]])
    (worth,) = expected_scores(run, alone, here[:1].expand(3, -1))
    cut, size = (worth[:2] - worth[2]).tolist()
    told, nothing = _words(run, made, here)
    assert nothing == ""
    expected = f"cut: fair -> good ({cut:+.4g} alone, not needed); size: True -> False ({size:+.4g}"
    assert told == f"{expected} alone)"


def test_the_first_row_is_good_by_score_and_by_law() -> None:
    space = CategoricalSpace.from_sizes((20,))
    codes, values = torch.arange(20).view(1, 20, 1), torch.linspace(1, 0, 20).unsqueeze(0)
    place = torch.arange(20.0)
    laws = {
        0: -(place - 17).abs(),  # of the best 16 the last is the most likely: all sums are alike
        2: -(place - 3).abs(),  # places 2 and 1 against 3 and 0: of equal sums the better score
        5: torch.where(place < 5, -50.0, 0.0) - place,
    }
    for first, logits in laws.items():
        likely = space.log_prob(logits.view(1, 1, -1), codes[:, :16])
        order = proposals._agreed_first(likely, values)
        assert order.tolist() == [[first, *(i for i in range(20) if i != first)]]
    lacking = values.masked_fill(place > 0, -torch.inf)
    logits = torch.where(place > 0, 9.0, 0.0) - place  # the rows that are barred are likelier
    likely = space.log_prob(logits.view(1, 1, -1), codes[:, :16])
    order = proposals._agreed_first(likely, lacking)
    assert order[0, 0] == 0


@pytest.mark.parametrize(
    ("rows", "total", "evaluations"),
    [(1, 1, 2**17), (1, 100, 2**22 // 300), (1, 10**6, 64), (30, 10**6, 240)],
)
def test_all_contexts_share_what_is_evaluated(
    run: Run, monkeypatch: pytest.MonkeyPatch, rows: int, total: int, evaluations: int
) -> None:
    def asked(*arguments: object, **given: object) -> None:
        raise KeyboardInterrupt(given["evaluations"])

    monkeypatch.setattr(proposals, "best_rows", asked)
    given = {"diversity": 1, "new_only": True, "policy": run.policy, "total": total}
    with pytest.raises(KeyboardInterrupt, match=f"^{evaluations}$"):
        next(proposals.propose(run, run.table.context, rows=rows, seed=0, **given))  # type: ignore[arg-type]


def test_contexts_are_shared_out_among_processes() -> None:
    for total, share, part in (
        (5, (0, 2), range(2)),
        (5, (1, 2), range(2, 5)),
        (2, (1, 2), range(1, 2)),
        (1, (0, 1), range(1)),
        (0, (0, 1), range(0)),
    ):
        assert proposals.share_of(total, share) == part
    for total in (0, 1):
        with pytest.raises(RunError, match=f"^more processes than contexts: 2 for {total}$"):
            proposals.share_of(total, (0, 2))
    space = CategoricalSpace.from_sizes((3, 4, 2))
    found = [proposals.evaluations_of_each(space, total) for total in (0, 1, 2)]
    assert found == [2**22 // 3, 2**22 // 3, 2**22 // 6]


def test_wrong_use(run: Run) -> None:
    given = {"shop": ["east", "north", "west"], "price": [0.5] * 3}
    contexts = run.table.schema.encode_context(given)
    with pytest.raises(RunError, match="rows must be at least 1, got 0"):
        generate(run, given, contexts, rows=0)
    for diversity in (0, 4):
        with pytest.raises(RunError, match=f"number of features, 3, got {diversity}"):
            generate(run, given, contexts, rows=1, diversity=diversity)
    with pytest.raises(RunError, match="more processes than contexts: 4 for 3"):
        generate(run, given, contexts, rows=1, share=(0, 4))
    for name in ("estimated_score", "judge_score", "beyond_observed", "in_table"):
        with pytest.raises(RunError, match=f"has a column '{name}'"):
            check_columns(Schema((Vocabulary(name, (1, 2)),), (), "score"))


# --- which rows are written -----------------------------------------------------------------------


def test_rows_known_and_rows_far_from_observed_ones_are_barred() -> None:
    asked: list[Tensor] = []

    def seen(codes: Tensor, where: Tensor) -> Tensor:
        asked.append(where)
        return codes[:, 0] == 0

    def near(codes: Tensor) -> Tensor:
        return codes[:, 0] != 1

    where = torch.tensor([0, 1, 1])
    for known, close, barred in (
        (None, None, [False, False, False]),
        (seen, None, [True, False, False]),
        (None, near, [False, False, True]),
        (seen, near, [True, False, True]),
    ):
        assert proposals._barred(known, close, 7, CODES, where).tolist() == barred  # type: ignore[arg-type]
    assert [one.tolist() for one in asked] == [[7, 8, 8]] * 2


def test_a_search_begins_with_all_that_is_given() -> None:
    draws = CODES[:, None].flip(0).repeat(1, 2, 1)
    assert proposals._joined(None, None) is None
    assert proposals._joined(CODES, None) is CODES
    assert proposals._joined(None, draws) is draws
    both = proposals._joined(CODES, draws)
    assert both is not None
    assert both.tolist() == [[*CODES.tolist(), *some] for some in draws.tolist()]


def test_rows_are_counted_context_by_context() -> None:
    where = torch.tensor([4, 4, 6])
    found = proposals.Proposals(CODES, where, where > 4, range(4, 8))
    assert found.counts().tolist() == [2, 0, 1, 0]


def test_trusted_rows_lie_within_the_radius_of_an_observed_one(run: Run) -> None:
    assert trusted(run) is None
    assert trusted_starts(run) is None
    scores = torch.tensor([2.0, 5.0, 2.0, 9.0])
    few = replace(run.rows.part(torch.tensor([3, 1, 2, 0])), scores=scores)
    near = replace(with_settings(run, trust=0.1, trust_radius=1.0), rows=few)
    allowed, starts = trusted(near), trusted_starts(near)
    assert allowed is not None
    assert starts is not None
    rows = run.table.schema.space.enumerate()
    assert torch.equal(allowed(rows), nearest_hamming(rows, few.codes) <= 1)
    assert 0 < allowed(rows).sum() < len(rows)
    assert torch.equal(starts, few.codes[[3, 1, 0, 2]].long())


def test_the_data_policy_and_the_trust_region_count_in_the_score(run: Run) -> None:
    rows, contexts = run.table.schema.space.enumerate(), run.table.context
    assert contexts is not None
    where = torch.arange(len(rows)) % 2
    plain = row_score(run, contexts[:2])(rows, where)
    assert torch.equal(plain, run.objective(contexts[where])(rows))
    kept = with_settings(run, reference_kl=0.5, trust=0.3, trust_radius=0.5)
    law = run.table.schema.space.log_prob(run.reference(contexts[:2])[where], rows)
    far = (nearest_hamming(rows, run.rows.codes) - 0.5).clamp_min(0)
    expected = plain + 0.5 * law - 0.3 * far
    torch.testing.assert_close(row_score(kept, contexts[:2])(rows, where), expected)
    assert far.unique().tolist() == [0, 0.5]


def test_limits_to_the_rows_are_told(run: Run) -> None:
    rules = Rules(run.table.schema.space, [Fix("cut", "fair")])
    near = with_settings(run, trust=0.1, trust_radius=1.0)
    words = "lie within 1 of an observed row"
    assert making._limits(run, None) == ""
    assert making._limits(run, rules) == " that obey the rules"
    assert making._limits(near, None) == f" that {words}"
    assert making._limits(near, rules) == f" that obey the rules and {words}"


def test_three_contexts_with_too_few_rows_are_named() -> None:
    short = [(i, i % 2) for i in range(5)]
    for count, places, said in (
        (1, None, ["only 0 new rows"]),
        (2, range(5), ["context row 1: only 0 new rows", "context row 2: only 1 new rows"]),
        (3, [7, 8, 9], [f"context row {i}: only {i % 2} new rows" for i in (8, 9, 10)]),
        (5, range(5), [*(f"context row {i}: only {(i + 1) % 2} new rows" for i in (1, 2, 3)),
                       "2 further contexts: too few new rows"]),
    ):  # fmt: skip
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            making._warn(short[:count], "new rows", places)
        assert [str(one.message) for one in heard] == said
        assert {one.category for one in heard} == {FewRowsWarning}


def test_a_trade_off_is_told_as_it_was_asked() -> None:
    aims = SimpleNamespace(tradeoff=torch.tensor([0.7, 0.3]))
    both = (Aim("a"), Aim("b", "min"))
    schema = Schema((Vocabulary("cut", (1, 2)),), (), "a", ("b",), ("b",), aims=both)
    table: Any = SimpleNamespace(schema=schema)
    part = proposals.Proposals(CODES, CODES[:, 0], CODES[:, 0] > 0, range(3))
    several: Any = SimpleNamespace(aims=aims, table=table)
    own = {"tradeoff_a": [0.7] * 3, "tradeoff_b": [0.3] * 3}
    assert making._asked(several, part) == own
    each = part._replace(tradeoffs=torch.tensor([[1.0, 0.0], [0.1, 0.9], [0.6, 0.4]]))
    asked = {"tradeoff_a": [1.0, 0.1, 0.6], "tradeoff_b": [0.0, 0.9, 0.4]}
    assert making._asked(several, each) == asked
    assert making._asked(SimpleNamespace(aims=None, table=table), part) == {}  # type: ignore[arg-type]


# --- by what a search is guided -------------------------------------------------------------------


def test_independent_features_guide_by_their_logits(run: Run) -> None:
    contexts = run.table.context
    assert contexts is not None
    assert isinstance(run.generator, Generator)
    rules = Rules(run.table.schema.space, [Fix("cut", "fair")])
    for policy in (run.generator, guides.under(run.generator, rules)):
        assert guides.spelt_draws(policy, contexts[:3], 0) is None
        logits = guides.guiding_logits(policy, contexts[:3], None)
        assert torch.equal(logits, run.generator.logits(contexts[:3]))
        rows = run.table.codes[:6].long().view(3, 2, -1)
        expected = run.generator.log_prob(rows.transpose(0, 1), contexts[:3]).T
        found = guides.row_log_prob(policy, rows, contexts[:3], logits)
        torch.testing.assert_close(found, expected, check_dtype=False)
    assert guides.under(run.generator, None) is run.generator
    likely = guides.likely_row(run.generator, contexts[0])
    assert torch.equal(likely, run.table.schema.space.argmax(run.generator(contexts[:1]))[0])
    obeying = guides.likely_row(guides.under(run.generator, rules), contexts[0])
    assert (obeying[0], obeying[1:].tolist()) == (0, likely[1:].tolist())


def test_a_policy_of_steps_guides_by_its_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = AutoregressiveGenerator(SPACE, None, hidden=(4,))
    draws = guides.spelt_draws(policy, None, 3)
    assert draws is not None
    assert draws.shape == (1, 256, 2)
    assert torch.equal(draws, guides.spelt_draws(policy, None, 3))
    assert not torch.equal(draws, guides.spelt_draws(policy, None, 4))
    counts = SPACE.one_hot(draws[0]).sum(0) + 1 / 256
    torch.testing.assert_close(guides.guiding_logits(policy, None, draws), counts.log()[None])
    law = guides.row_log_prob(policy, CODES[None], None, counts)
    torch.testing.assert_close(law, policy.log_prob(CODES, None)[None])
    likely = guides.likely_row(policy, None, seed=3)
    assert policy.log_prob(likely, None).item() == pytest.approx(
        policy.log_prob(draws[0], None).max().item()
    )
    monkeypatch.setattr(guides, "_DRAWS", 5)
    few = guides.spelt_draws(policy, None, 3)
    assert few is not None
    assert few.shape == (1, 5, 2)
