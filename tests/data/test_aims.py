"""Aims as they are written, and rows that failed."""

from dataclasses import replace

import numpy as np
import pytest

from discrete_grad.data import Aim, Schema, TableError, read_table
from discrete_grad.data.aims import parse_aims

COLUMNS = ["yield", "cost", "ph", "purity", "a>=b", "a:min"]
ROWS = {
    "cut": ["a", "b", "c", "a", "b", "c"],
    "yield": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "cost": [3.0, 1.0, 2.0, 5.0, 4.0, 6.0],
    "ph": [7.0, 7.2, 7.9, 6.0, 7.4, 8.0],
    "purity": [0.9, 0.95, 0.99, 0.5, 0.97, 0.2],
}


@pytest.mark.parametrize(
    ("text", "aim"),
    [
        ("yield", Aim("yield")),
        ("yield:max", Aim("yield", "max")),
        ("cost:min", Aim("cost", "min")),
        ("ph:=7.4", Aim("ph", "target", 7.4)),
        ("ph := -1e-3", Aim("ph", "target", -0.001)),
        ("purity>=.95", Aim("purity", "at_least", 0.95)),
        ("purity<=1", Aim("purity", "at_most", 1.0)),
        ("a>=b", Aim("a>=b")),
        ("a>=b:min", Aim("a>=b", "min")),
        ("a:min", Aim("a:min")),
    ],
)
def test_words_of_an_aim(text: str, aim: Aim) -> None:
    assert parse_aims([text], COLUMNS) == (aim,)
    assert parse_aims([aim.words], COLUMNS) == (aim,)


def test_traded_aims_come_first_and_behaviour_last() -> None:
    given = ["purity>=.9", "weight:behaviour", "cost:min", "yield"]
    names = [aim.name for aim in parse_aims(given, COLUMNS)]
    assert names == ["cost", "yield", "purity", "weight"]


def test_a_wrong_word_is_the_only_problem_of_a_column_that_has_gaps() -> None:
    gaps = {**ROWS, "yield": [None, 2.0, 3.0, 4.0, 5.0, 6.0], "ok": [False] + 5 * [True]}
    with pytest.raises(TableError) as told:
        read_table(gaps, score="yield:maxx", feasible="ok")
    assert "problems" not in str(told.value)
    assert "missing" not in str(told.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no score is given"),
        (["purity>="], "must end in a number"),
        (["purity>=nan"], "must end in a number"),
        (["ph:=x"], "must end in a number, got 'x'"),
        (["cost", "cost:min"], "given twice: 'cost'"),
        (["yield:maxx"], "'yield:maxx' says what is wanted of .* 'yield'.*mean 'max'"),
        (["cost:behaviour"], "every score is :behaviour"),
    ],
)
def test_wrong_aims_are_told(given: list[str], told: str) -> None:
    with pytest.raises(TableError, match=told):
        parse_aims(given, COLUMNS)


def test_columns_of_several_aims() -> None:
    aims = ["yield", "cost:min", "ph:=7.4", "purity>=.95"]
    table = read_table(ROWS, score=aims, features="cut")
    expected = np.stack(
        [ROWS["yield"], -np.array(ROWS["cost"]), -abs(np.array(ROWS["ph"]) - 7.4), ROWS["purity"]]
    )
    np.testing.assert_allclose(table.all_scores.T.numpy(), expected)
    assert table.schema.minimised == ("cost", "ph")
    assert [aim.words for aim in table.schema.all_aims] == [
        "yield:max",
        "cost:min",
        "ph:=7.4",
        "purity>=0.95",
    ]
    assert Schema.from_json(table.schema.to_json()) == table.schema
    again = read_table(ROWS, score=["yield", "cost", "ph", "purity"], schema=table.schema)
    assert again.schema is table.schema


def test_one_aim_and_behaviour_are_written_as_they_were() -> None:
    one = read_table(ROWS, score="yield:max", features="cut").schema
    assert one == read_table(ROWS, score="yield", features="cut").schema
    assert "aims" not in one.to_json()
    assert "feasible" not in one.to_json()
    several = read_table(ROWS, score=["yield", "cost:behaviour"], features="cut").schema
    assert (several.aims, several.more_scores) == ((), ("cost",))
    # a run of a version in which further scores were no aims
    again = read_table(ROWS, score=["yield", "cost"], schema=several)
    assert again.schema is several
    # or in which they were minimised: the sign stays as it was
    less = replace(several, minimised=("cost",))
    assert read_table(ROWS, score=["yield", "cost:behaviour"], schema=less).schema is less


@pytest.mark.parametrize(
    ("aim", "fine"),
    [
        ("purity>=.99", True),
        ("purity>=.991", False),
        ("purity>=.2", False),
        ("purity<=.2", True),
        ("purity<=.99", False),
        ("ph:=6", True),
        ("ph:=5.9", False),
    ],
)
def test_a_threshold_out_of_the_observed_range_is_told(aim: str, fine: bool) -> None:
    if fine:
        assert len(read_table(ROWS, score=["yield", aim], features="cut")) == 6
        return
    with pytest.raises(TableError, match=r"is observed from .* nothing can be learned"):
        read_table(ROWS, score=["yield", aim], features="cut")


@pytest.mark.parametrize("ok", [["yes", "no"], [True, False], [1, 0], ["TRUE ", "false"], [1.0, 0]])
def test_rows_that_failed_need_no_score(ok: list[object]) -> None:
    rows = {
        **ROWS,
        "ok": ok * 3,
        "yield": [1.0, None, 3.0, None, 5.0, None],
        "shop": ["x", "y"] * 3,
    }
    table = read_table(rows, score=["yield", "cost:min"], context="shop", feasible="ok")
    assert table.scores.tolist() == [1, 3, 5]
    assert table.more_scores is not None
    assert table.more_scores.flatten().tolist() == [-3, -2, -4]
    assert table.failed_codes is not None
    assert table.schema.space.names == ("cut", "ph", "purity")
    assert table.failed_codes[:, 0].tolist() == [1, 0, 2]
    assert table.failed_context is not None
    assert table.failed_context.tolist() == [[0, 1]] * 3
    assert table.take([0]).failed_codes is table.failed_codes
    assert Schema.from_json(table.schema.to_json()) == table.schema


def test_a_category_of_failed_rows_alone_was_seen() -> None:
    rows = {"cut": ["a", "b", "c"], "yield": [1.0, 2.0, None], "ok": ["yes", "yes", "no"]}
    features = {"cut": ["a", "b", "c", "d"]}
    assert read_table(rows, score="yield", features=features, feasible="ok").unseen == {
        "cut": ["d"]
    }


@pytest.mark.parametrize(
    ("ok", "told"),
    [
        (["yes"] * 6, "every row succeeded"),
        ([0] * 6, "every row failed"),
        (["yes", "no", "maybe", "no", "no", "no"], "row 3: expected yes or no.*'maybe'"),
        (["yes", "no", None, "no", None, "no"], "column 'ok', row 3: the value is missing"),
    ],
)
def test_a_wrong_feasible_column_is_told(ok: list[object], told: str) -> None:
    with pytest.raises(TableError, match=told):
        read_table({**ROWS, "ok": ok}, score="yield", features="cut", feasible="ok")


def test_a_missing_score_of_a_row_that_succeeded_is_told() -> None:
    rows = {**ROWS, "ok": ["yes", "no"] * 3, "yield": [1.0, None, None, 2.0, 3.0, 4.0]}
    with pytest.raises(TableError, match="column 'yield', row 3"):
        read_table(rows, score="yield", features="cut", feasible="ok")
    with pytest.raises(TableError, match="cannot be both score and feasible"):
        read_table(rows, score="yield", features="cut", feasible="yield")
    with pytest.raises(TableError, match="cannot be both feasible and feature"):
        read_table(rows, score="cost", features=["cut", "ok"], feasible="ok")


def test_a_schema_knows_the_column_of_rows_that_failed() -> None:
    rows = {**ROWS, "ok": [True, True, False, True, True, False]}
    table = read_table(rows, score="yield", features="cut", feasible="ok")
    again = read_table(rows, score="yield", schema=table.schema)
    assert again.schema is table.schema
    assert again.failed_codes is not None
    assert again.failed_codes.tolist() == table.failed_codes.tolist() == [[2], [2]]
