"""New rows of a finished run: which, in what order, and what is said of them."""

import copy
import warnings
from dataclasses import replace
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discrete_grad import CategoricalSpace
from discrete_grad.data import read_contexts, read_table
from discrete_grad.evaluation import distinct_contexts
from discrete_grad.fitting import FarContextWarning
from discrete_grad.fitting.context_range import trained_ranges
from discrete_grad.hamming import nearest_hamming
from discrete_grad.runs import (
    FewRowsWarning,
    Run,
    _rows_to_try,
    fit,
    generate,
    part_path,
    polished_row,
)
from discrete_grad.runs import _proposals as proposals
from discrete_grad.runs._seen_rows import SeenRows
from discrete_grad.training import RunError
from tests.runs.small import small_config, small_table

Written = dict[str, list[object]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit with contexts, to half the rows of the space in each shop."""
    return fit(small_table(60), tmp_path_factory.mktemp("generate") / "run", small_config())


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A fit without contexts, to some of the rows."""
    table = small_table(12, context=False)
    return fit(table, tmp_path_factory.mktemp("generate") / "bare", small_config())


def shops(run: Run, count: int = 3) -> tuple[dict[str, list[object]], Tensor]:
    names = ("east", "north", "west")
    columns = {
        "shop": [names[i % 3] for i in range(count)],
        "price": [i / count for i in range(count)],
    }
    given, contexts = read_contexts(columns, run.table.schema)
    assert contexts is not None
    return given, contexts


def codes_of(run: Run, written: Written) -> Tensor:
    return run.table.schema.encode_features(written)


def silent(*arguments: object, **options: object) -> Written:
    """Generated rows, whether there are enough or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewRowsWarning)
        return generate(*arguments, **options)  # type: ignore[arg-type]


def test_all_new_rows_by_the_score_but_for_the_first(bare: Run) -> None:
    space = bare.table.schema.space
    rows = space.enumerate()
    score = bare.objective(None)(rows)
    new = nearest_hamming(rows, bare.table.codes) > 0
    written = silent(bare, {}, None, rows=24)
    codes = codes_of(bare, written)
    expected = rows[new][score[new].argsort(descending=True)]
    assert len(codes) == len(expected) == int(new.sum()) > 10
    law = space.log_prob(bare.generator(), expected[:16]).argsort(descending=True).argsort()
    first = int((law + torch.arange(len(law))).argmin())
    order = [first, *(i for i in range(len(expected)) if i != first)]
    assert torch.equal(codes, expected[order])
    assert written["in_table"] == [False] * len(codes)
    # fewer rows are the first of more
    few = generate(bare, {}, None, rows=3)
    assert torch.equal(codes_of(bare, few), codes[:3])


def test_rows_of_the_table_are_marked_context_by_context(run: Run) -> None:
    given, contexts = shops(run)
    first = run.table.context[0]
    here = torch.cat([contexts, first.unsqueeze(0)])
    columns = {name: [*values, values[0]] for name, values in given.items()}
    written = generate(run, columns, here, rows=24, new_only=False)
    codes = codes_of(run, written)
    expected = [
        any(
            torch.equal(row, known) and torch.equal(here[i // 24], context)
            for known, context in zip(run.table.codes, run.table.context, strict=True)
        )
        for i, row in enumerate(codes)
    ]
    assert written["in_table"] == expected
    assert any(expected)
    new = silent(run, columns, here, rows=24)
    assert not any(new["in_table"])
    assert len(new["cut"]) == 4 * 24 - sum(expected)


def test_seen_rows_are_those_of_the_context_alone() -> None:
    columns = {"cut": [0, 1, 0, 2], "shop": ["a", "a", "b", "b"], "score": [1.0, 2.0, 3.0, 4.0]}
    table = read_table(columns, score="score", context=["shop"])
    contexts = table.context[[2, 0, 2]]
    seen = SeenRows(table, contexts)
    rows, where = torch.arange(3).repeat(3).unsqueeze(1), torch.arange(3).repeat_interleave(3)
    b, a = [True, False, True], [True, True, False]
    assert seen(rows, where).tolist() == [*b, *a, *b]
    bare = read_table({"cut": [0, 1, 2], "x": [0, 0, 1], "score": [1, 2, 3]}, score="score")
    there = SeenRows(bare, None)(bare.schema.space.enumerate(), torch.zeros(6, dtype=torch.long))
    assert there.tolist() == [True, False, True, False, False, True]
    # a row that failed is as little new as one that has a score
    failed = replace(bare, failed_codes=torch.tensor([[0, 1], [2, 0]]))
    there = SeenRows(failed, None)(bare.schema.space.enumerate(), torch.zeros(6, dtype=torch.long))
    assert there.tolist() == [True, True, True, False, True, True]


@pytest.mark.parametrize("rows", [5, 20])
def test_the_batching_of_contexts_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    contexts = run.table.context[:7]  # each with a row of the table
    given: dict[str, list[object]] = {"number": [*range(7)]}
    # for 5 rows too few evaluations for all rows of the space: most likely ones and swaps
    for name, value in {"_LEAST": 1, "_LEAST_A_ROW": 4, "_CODES": 1, "_AGREED": 4}.items():
        monkeypatch.setattr(proposals, name, value)
    whole = silent(run, given, contexts, rows=rows, seed=3)
    monkeypatch.setattr(proposals, "contexts_at_once", lambda *arguments: 2)
    assert_close(silent(run, given, contexts, rows=rows, seed=3), whole)
    parts = [silent(run, given, contexts, rows=rows, seed=3, share=(i, 3)) for i in range(3)]
    assert_close({n: [*chain.from_iterable(part[n] for part in parts)] for n in whole}, whole)
    assert not any(whole["in_table"])


def test_equal_contexts_are_searched_once_and_have_the_same_rows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, contexts = shops(run)
    pattern = [2, 0, 0, 2, 1, 0]
    columns = {name: [values[i] for i in pattern] for name, values in given.items()}
    monkeypatch.setattr(proposals, "_CODES", 1)  # the contexts share no evaluations
    alone = silent(run, given, contexts, rows=2, seed=1)
    asked: list[int] = []
    search = proposals.best_rows

    def noted(space: CategoricalSpace, logits: Tensor, *arguments: object, **options: object):
        asked.append(len(logits))
        return search(space, logits, *arguments, **options)

    monkeypatch.setattr(proposals, "best_rows", noted)
    together = silent(run, columns, contexts[pattern], rows=2, seed=1)
    assert asked == [3]
    expected = {n: [v for i in pattern for v in vs[2 * i : 2 * i + 2]] for n, vs in alone.items()}
    assert_close(together, expected)


def test_the_estimate_is_what_the_search_has_seen(run: Run, bare: Run) -> None:
    given, contexts = shops(run)
    for fitted, asked in ((run, (given, contexts)), (bare, ({}, None))):
        written = silent(fitted, *asked, rows=3)
        context = None if asked[1] is None else contexts.repeat_interleave(3, 0)
        expected = fitted.to_units(fitted.estimator(codes_of(fitted, written), context), context)
        torch.testing.assert_close(torch.tensor(written["estimated_score"]).double(), expected)


def assert_close(mine: Written, theirs: Written) -> None:
    for name, values in theirs.items():
        if name.endswith("_score"):
            torch.testing.assert_close(torch.tensor(mine[name]), torch.tensor(values))
        else:
            assert mine[name] == values, name


def test_the_most_frequent_contexts_are_those_of_the_rows_to_try(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(run: Run, columns: object, contexts: Tensor, **given: object) -> Written:
        shown.append(contexts)
        return {"in_table": [False]}

    shown: list[Tensor] = []
    monkeypatch.setattr(_rows_to_try, "generate", asked)
    part = _rows_to_try.rows_to_try(run)
    every, _ = distinct_contexts(run.table.context, len(run.table))
    assert every is not None
    assert (part["contexts"], part["of"]) == (6, len(every))
    assert torch.equal(shown[0], every[:6])


def test_rows_to_try_tell_neither_of_few_rows_nor_of_far_contexts_but_of_all_else(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(run: Run, columns: object, contexts: Tensor, **given: object) -> Written:
        for kind in (FewRowsWarning, FarContextWarning, DeprecationWarning):
            warnings.warn("heard", kind, stacklevel=1)
        return {"cut": ["good"], "in_table": [given["new_only"]], "beyond_observed": [True]}

    monkeypatch.setattr(_rows_to_try, "generate", asked)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        part = _rows_to_try.rows_to_try(run)
    assert {one.category for one in told} == {DeprecationWarning}
    assert (part["columns"], part["rows"]) == (["cut"], [["good"]])


def test_where_the_likeliest_row_is_not_allowed_the_likeliest_of_the_known_is_climbed_from(
    bare: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("discrete_grad.runs.generate")
    first = bare.table.schema.space.argmax(bare.generator())[0]
    monkeypatch.setattr(module, "trusted", lambda run: lambda codes: codes[:, 0] != first)
    monkeypatch.setattr(module, "climbed", lambda run, policy, codes, given: codes)
    known = bare.rows.codes[bare.rows.codes[:, 0] != first].long()
    assert len(known.unique(dim=0)) > 2
    best = known[bare.generator.log_prob(known).argmax()]
    assert torch.equal(polished_row(bare, None), best)


@pytest.mark.parametrize("diversity", [2, 3])
def test_rows_are_as_far_apart_as_asked(run: Run, diversity: int) -> None:
    given, contexts = shops(run)
    written = silent(run, given, contexts, rows=4, diversity=diversity)
    codes, shop = codes_of(run, written), written["shop"]
    for i, row in enumerate(codes):
        for j in range(i):
            assert shop[i] != shop[j] or (row != codes[j]).sum() >= diversity
    assert len(codes) >= 6


def test_too_few_rows_are_told_context_by_context_and_then_together(run: Run) -> None:
    given, contexts = shops(run, 9)
    with pytest.warns(FewRowsWarning) as told:
        generate(run, given, contexts, rows=25, new_only=False)
    texts = [str(warning.message) for warning in told]
    assert texts[0] == "context row 1: only 24 different rows of 25"
    assert texts[3:] == ["6 further contexts: too few different rows of 25"]
    # one of three processes numbers them as in the file
    with pytest.warns(FewRowsWarning) as told:
        generate(run, given, contexts, rows=25, new_only=False, share=(1, 3))
    numbered = [f"context row {place}: only 24 different rows of 25" for place in (4, 5, 6)]
    assert [str(warning.message) for warning in told] == numbered


def test_a_table_that_has_all_rows_leaves_none(tmp_path: Path) -> None:
    table = read_table({"cut": [0, 1] * 20, "score": [0.0, 1.0] * 20}, score="score")
    run = fit(table, tmp_path / "run", small_config())
    with pytest.warns(FewRowsWarning, match="only 0 new rows of 2"):
        written = generate(run, {}, None, rows=2)
    assert written == {
        "cut": [],
        "estimated_score": [],
        "judge_score": [],
        "beyond_observed": [],
        "in_table": [],
    }
    assert generate(run, {}, None, rows=2, new_only=False)["in_table"] == [True, True]


@pytest.mark.parametrize("place", [0, 1])
def test_estimates_beyond_the_observed_scores_are_marked(bare: Run, place: int) -> None:
    """Of a model that promises too much, the estimator (0) or the judge (1)."""
    name = ("estimator", "judge")[place]
    model = getattr(bare, name)
    proud = copy.deepcopy(model)
    best = bare.table.scores.max()
    proud.predictions = lambda r, c=None, own_rows=False: 40 + model.predictions(r, c)
    changed = replace(bare, **{name: proud})
    written = silent(changed, {}, None, rows=4)
    assert written["beyond_observed"] == [True] * 4
    column = ("estimated_score", "judge_score")[place]
    assert written[column] == pytest.approx([float(best)] * 4)
    modest = silent(bare, {}, None, rows=4)
    codes = codes_of(bare, modest)
    outside = [
        (to_units.outside(m(codes)) != 0).tolist()
        for m, to_units in ((bare.estimator, bare.to_units), (bare.judge, bare.judge_to_units))
    ]
    assert modest["beyond_observed"] == [a or b for a, b in zip(*outside, strict=True)]


@pytest.mark.parametrize(
    ("price", "far"), [(0.5, False), (1.02, False), (1.2, True), (50.0, True), (-9.0, True)]
)
def test_a_context_far_outside_the_trained_range_is_told(run: Run, price: float, far: bool) -> None:
    columns = {"shop": ["east", "west"], "price": [0.4, price]}
    given, contexts = read_contexts(columns, run.table.schema)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        generate(run, given, contexts, rows=1)
        # the first of several processes tells it
        generate(run, given, contexts, rows=1, share=(1, 2))
    texts = [str(w.message) for w in told if w.category is FarContextWarning]
    assert len(texts) == far
    if far:
        least, most = trained_ranges(run.table)["price"]
        assert f"'price': {price} in row 2 is far outside" in texts[0]
        assert f"{least:.5g} to {most:.5g}" in texts[0]
        assert 0 <= least < 0.1
        assert 0.9 < most <= 1


def test_files_of_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    assert part_path(path, 0, 1) == path
    assert part_path(path, 11, 12) == tmp_path / "a.part-00011-of-00012.parquet"
    assert part_path(tmp_path / "a.csv", 0, 1) == tmp_path / "a.csv"
    with pytest.raises(RunError, match=r"2 processes write parts in Parquet: .*a\.csv must end"):
        part_path(tmp_path / "a.csv", 0, 2)


def test_no_more_rows_are_sought_than_there_are(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sought, best_rows = [], proposals.best_rows

    def spy(space: object, logits: object, f: object, count: int, **options: object) -> object:
        sought.append(count)
        return best_rows(space, logits, f, count, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(proposals, "best_rows", spy)
    with pytest.warns(FewRowsWarning, match="only 24 different rows of 100000"):
        made = generate(bare, {}, None, rows=100_000, new_only=False)
    assert len(made["cut"]) == 24
    assert sought == [24]
    with pytest.raises(RunError, match="rows must be at most 1,048,576 for each context, got 10,0"):
        generate(bare, {}, None, rows=10_000_000)
