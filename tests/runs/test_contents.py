"""Content of a run's files: each check alone, at its bounds, with its message."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from discrete_grad.data import NumericColumn, Schema, Table, Vocabulary
from discrete_grad.data.scored_rows import ScoredRows
from discrete_grad.fitting.score_scale import KNOTS, ScoreScale
from discrete_grad.preferences.preferences import Preferences
from discrete_grad.runs._content_checks import check_rows, check_scale, check_table, check_told
from discrete_grad.runs._digests import (
    digest_of,
    pair_tensors,
    table_digest,
    table_tensors,
    text_digest,
)
from discrete_grad.runs.aim_words import read_tradeoff
from discrete_grad.training import RunError

CUT, SIZE = Vocabulary("cut", ("fair", "good", "ideal")), Vocabulary("size", (1, 2))
PLAIN = Schema((CUT, SIZE), (), "score")
WITH_CONTEXT = Schema((CUT, SIZE), (NumericColumn("price", 1.0, 2.0),), "score", ("cost",))
CODES = torch.tensor([[0, 0], [2, 1], [1, 0]])
CONTEXT = torch.tensor([[0.5], [1.0], [2.0]])
SCORES = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


def refused(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


# --- scales ---------------------------------------------------------------------------------------


def scale(**changes: Any) -> ScoreScale:
    parts = {"kind": "rank", "unit": 2.0, "keys": torch.tensor([3, 5]), "spec": None}
    parts["grid"] = torch.zeros(3, KNOTS, dtype=torch.float64)
    parts["ends"] = torch.zeros(3, 2, dtype=torch.float64)
    return ScoreScale(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "evil"}, "scale must be one of rank, standard, raw, got 'evil'"),
        (
            {"keys": torch.tensor([3, 5], dtype=torch.int32)},
            "scale/keys must be (2,) of torch.int64, got (2,) of torch.int32",
        ),
        ({"keys": torch.tensor([5, 5])}, "scale/keys must increase"),
        (
            {"grid": torch.zeros(2, KNOTS, dtype=torch.float64)},
            f"scale/grid must be (3, {KNOTS}) of torch.float64, got (2, {KNOTS}) of torch.float64",
        ),
        (
            {"ends": torch.zeros(3, 2)},
            "scale/ends must be (3, 2) of torch.float64, got (3, 2) of torch.float32",
        ),
        (
            {"ends": torch.full((3, 2), math.nan, dtype=torch.float64)},
            "scale/ends holds NaN or infinity",
        ),
        ({"unit": 0.0}, "the unit of scale must be above 0 and finite, got 0.0"),
        ({"unit": math.inf}, "the unit of scale must be above 0 and finite, got inf"),
    ],
)
def test_a_scale_of_a_wrong_form_is_refused(changes: dict[str, Any], message: str) -> None:
    with refused(message):
        check_scale("scale", scale(**changes))


@pytest.mark.parametrize("kind", ["rank", "standard", "raw"])
def test_a_scale_of_each_kind_is_taken(kind: str) -> None:
    check_scale("scale", scale(kind=kind, unit=1e-9))


# --- rows -----------------------------------------------------------------------------------------


def scored(**changes: Any) -> ScoredRows:
    rows = ScoredRows(
        CODES,
        SCORES.float(),
        CONTEXT,
        behaviour=torch.zeros(3, 2),
        counts=torch.ones(3),
        spread=torch.zeros(3),
    )
    return replace(rows, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"codes": CODES[:, :1]},
            "rows/codes must be (3, 2) of torch.int64, got (3, 1) of torch.int64",
        ),
        ({"codes": CODES.float()}, "rows/codes must be whole numbers, got torch.float32"),
        ({"codes": CODES.bool()}, "rows/codes must be whole numbers, got torch.bool"),
        ({"codes": CODES - 1}, "rows/codes are beyond the categories of the table"),
        (
            {"codes": CODES.flip(1)},
            "rows/codes are beyond the categories of the table",
        ),
        (
            {"scores": SCORES},
            "rows/scores must be (3,) of torch.float32, got (3,) of torch.float64",
        ),
        ({"scores": SCORES.float() / 0}, "rows/scores holds NaN or infinity"),
        ({"context": None}, "rows/context must be there if, and only if, the table has contexts"),
        (
            {"context": CONTEXT[:2]},
            "rows/context must be (3, 1) of torch.float32, got (2, 1) of torch.float32",
        ),
        (
            {"behaviour": torch.zeros(2, 2)},
            "rows/behaviour must be (3, 2) of torch.float32, got (2, 2) of torch.float32",
        ),
        ({"behaviour": torch.full((3, 2), math.inf)}, "rows/behaviour holds NaN or infinity"),
        ({"counts": torch.tensor([1, 2, 0])}, "rows/counts must be at least 1"),
        (
            {"counts": torch.ones(2)},
            "rows/counts must be (3,) of torch.float32, got (2,) of torch.float32",
        ),
        ({"spread": torch.tensor([0.0, 0.0, -1e-9])}, "rows/spread must be at least 0"),
        ({"spread": torch.tensor([0.0, 0.0, math.nan])}, "rows/spread holds NaN or infinity"),
    ],
)
def test_rows_that_no_table_of_the_schema_has_are_refused(
    changes: dict[str, Tensor | None], message: str
) -> None:
    with refused(message):
        check_rows("rows", scored(**changes), WITH_CONTEXT)


def test_rows_at_the_bounds_are_taken() -> None:
    check_rows("rows", scored(codes=CODES.to(torch.uint8)), WITH_CONTEXT)
    few = scored(context=None, behaviour=None, counts=None, spread=None)
    check_rows("rows", few, PLAIN)
    check_rows("rows", few.part(torch.tensor([], dtype=torch.long)), PLAIN)
    with refused("rows/context must be there if, and only if, the table has contexts"):
        check_rows("rows", scored(), PLAIN)


# --- tables, rows of a round ----------------------------------------------------------------------


def of_table(**changes: Tensor | None) -> dict[str, Tensor]:
    tensors = {
        "codes": CODES,
        "scores": SCORES,
        "context": CONTEXT,
        "more_scores": SCORES.unsqueeze(1),
        "failed_codes": CODES[:1],
        "failed_context": CONTEXT[:1],
    }
    return {name: t for name, t in (tensors | changes).items() if t is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": CODES[:0]}, "the table has no row"),
        ({"codes": CODES + 1}, "codes are beyond the categories of the table"),
        (
            {"scores": SCORES.float()},
            "scores must be (3,) of torch.float64, got (3,) of torch.float32",
        ),
        ({"scores": SCORES / 0}, "scores holds NaN or infinity"),
        ({"context": None}, "context must be there if, and only if, the table has contexts"),
        (
            {"more_scores": None},
            "more_scores must be there for further scores, and only for these",
        ),
        (
            {"more_scores": SCORES.repeat(2, 1).T},
            "more_scores must be (3, 1) of torch.float64, got (3, 2) of torch.float64",
        ),
        ({"failed_codes": CODES[:1] + 2}, "failed_codes are beyond the categories of the table"),
        (
            {"failed_context": CONTEXT},
            "failed_context must be (1, 1) of torch.float32, got (3, 1) of torch.float32",
        ),
        (
            {"failed_context": None},
            "failed_context must be there if, and only if, the table has contexts",
        ),
    ],
)
def test_tensors_that_the_schema_does_not_describe_are_refused(
    changes: dict[str, Tensor | None], message: str
) -> None:
    with refused(message):
        check_table(of_table(**changes), WITH_CONTEXT)


def test_tables_of_each_kind_are_taken() -> None:
    check_table(of_table(), WITH_CONTEXT)
    check_table(of_table(failed_codes=None), WITH_CONTEXT)
    check_table({"codes": CODES, "scores": SCORES}, PLAIN)
    unscored = {"codes": CODES, "scores": torch.full_like(SCORES, math.nan)}
    check_table(unscored, replace(PLAIN, score=""))
    with refused("scores holds NaN or infinity"):
        check_table(unscored, PLAIN)
    with refused("more_scores must be there for further scores, and only for these"):
        check_table({"codes": CODES, "scores": SCORES, "more_scores": SCORES[:, None]}, PLAIN)
    odd = replace(CUT, name=3)  # type: ignore[arg-type]
    with refused("the name of a column must be text, got 3"):
        check_table(of_table(), replace(WITH_CONTEXT, context=(odd,)))


def of_round(**changes: Tensor) -> dict[str, Tensor]:
    two = torch.stack([SCORES, torch.full_like(SCORES, math.nan)], 1)
    return {"codes": CODES, "context": CONTEXT, "scores": two} | changes


NAMES = "each row needs a name, and scores that are finite or NaN"


@pytest.mark.parametrize(
    ("changes", "names", "message"),
    [
        ({"codes": CODES + 1}, ["a"] * 3, "codes are beyond the categories of the table"),
        (
            {"context": CONTEXT[:, :0]},
            ["a"] * 3,
            "context must be (3, 1) of torch.float32, got (3, 0) of torch.float32",
        ),
        (
            {"scores": SCORES[:, None]},
            ["a"] * 3,
            "scores must be (3, 2) of torch.float64, got (3, 1) of torch.float64",
        ),
        ({}, ["a"] * 2, NAMES),
        ({}, ["a", "b", 3], NAMES),
        ({}, "abc", NAMES),
        ({}, None, NAMES),
        ({"scores": SCORES[:, None] / torch.tensor([1.0, 0.0])}, ["a"] * 3, NAMES),
    ],
)
def test_rows_of_a_round_that_do_not_fit_are_refused(
    changes: dict[str, Tensor], names: object, message: str
) -> None:
    with refused(message):
        check_told(of_round(**changes), names, WITH_CONTEXT)


def test_rows_of_a_round_are_taken_with_scores_and_without() -> None:
    check_told(of_round(), ["a", "b", ""], WITH_CONTEXT)
    proposed = {"codes": CODES, "context": CONTEXT}
    check_told(proposed, None, WITH_CONTEXT)
    check_told({"codes": CODES, "context": CONTEXT[:, :0]}, None, PLAIN)
    with refused("context must be (3, 0) of torch.float32, got (3, 1) of torch.float32"):
        check_told(proposed, None, PLAIN)


# --- digests --------------------------------------------------------------------------------------


def test_digests_are_those_of_earlier_versions() -> None:
    assert text_digest("ä").startswith("33e6d73fee82904c")
    numbers = {"codes": CODES.to(torch.uint8), "scores": SCORES}
    assert digest_of(numbers, "text").startswith("b79fcae38efb337e")
    assert digest_of({**numbers, "codes": CODES}, "text") == digest_of(numbers, "text")
    assert digest_of(numbers, 3) == digest_of(numbers, "3") != digest_of(numbers, "text")


def test_a_digest_is_of_all_rows_however_many() -> None:
    many = torch.arange(2**17 + 5)
    assert digest_of({"x": many}, "") == digest_of({"a": many[:70_000], "b": many[70_000:]}, "")
    assert digest_of({"x": many}, "") != digest_of({"x": many[:-1]}, "")


def test_tables_and_preferences_are_digested_whole() -> None:
    table = Table(WITH_CONTEXT, CODES, SCORES, CONTEXT, SCORES[:, None], CODES[:1], CONTEXT[:1])
    names = ["codes", "scores", "context", "more_scores", "failed_codes", "failed_context"]
    assert list(table_tensors(table)) == names
    assert list(table_tensors(Table(PLAIN, CODES, SCORES, None))) == ["codes", "scores"]
    assert table_digest(table).startswith("71166829a80ff2d6")
    assert table_digest(table) == digest_of(table_tensors(table), WITH_CONTEXT.to_json())
    pairs = Preferences(CODES, CODES.flip(0), torch.tensor([1.0, 0.0, 0.5]))
    assert list(pair_tensors(pairs)) == ["first", "second", "outcome"]


# --- trade-offs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yield", "a trade-off is written yield=.7,cost=.3: 'yield' is no part of one"),
        ("yield=.7,", "a trade-off is written yield=.7,cost=.3: '' is no part of one"),
        ("=.7", "a trade-off is written yield=.7,cost=.3: '=.7' is no part of one"),
        ("a=x", "a trade-off is written yield=.7,cost=.3: 'a=x' is no part of one"),
        ("a=1, a=2", "the trade-off names 'a' twice"),
    ],
)
def test_a_trade_off_that_is_none_is_told(text: str, message: str) -> None:
    with pytest.raises(RunError, match=f"^{re.escape(message)}$"):
        read_tradeoff(text)


def test_a_name_may_hold_an_equals_sign() -> None:
    assert read_tradeoff(" a=b = .5 ,c=1e-1") == {"a=b": 0.5, "c": 0.1}
